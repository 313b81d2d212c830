//! What helps against a finding, by the name and the command that `fastnode fix` takes.

use super::catalogue::Catalogue;
use crate::model::Text;
use crate::readiness::diagnosis::Finding;

/// The fix against a finding, as the catalogue names it: one of any DaemonSet is named with the finding's. `None`
/// where there is none, or the catalogue has none of that name.
pub fn aimed(catalogue: &Catalogue, finding: &Finding) -> Option<Text> {
    let fix = finding.fix.as_ref()?;
    let at_set = finding.daemonset.as_ref().map(|set| format!("{fix}:{set}"));
    let all = [Some(fix.to_string()), at_set];
    all.into_iter().flatten().find(|name| catalogue.find(name).is_ok()).map(Into::into)
}

/// The command that shows what an [`aimed`] fix would change; with ` --apply` behind it, it applies it.
pub fn command(cluster: &str, fix: &str) -> String {
    format!("fastnode fix --cluster {cluster} {fix}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ObjectKey;
    use crate::readiness::diagnosis::{Catalogue as Signatures, Confidence};

    fn finding(fix: &str, set: &str) -> Finding {
        Finding {
            signature: "s".into(),
            what: "w".into(),
            confidence: Confidence::Likely,
            cause: "c".into(),
            help: "h".into(),
            fix: Some(fix.into()),
            daemonset: Some(ObjectKey::new("kube-system", set)),
            nodes: [].into(),
            alike: [].into(),
            instances: [].into(),
            groups: [].into(),
            evidence: Vec::new(),
            cost_s: None,
        }
    }

    #[test]
    fn every_fix_that_a_signature_names_can_be_asked_for() {
        let (fixes, signatures) = (Catalogue::shipped().unwrap(), Signatures::built_in(None).unwrap());
        let mut seen = 0;
        for signature in signatures.signatures {
            let own = signature.fixes.iter().map(|(set, fix)| (fix.clone(), set.clone()));
            let any = signature.fix.map(|fix| {
                let set = if fix.starts_with("kube-proxy") { "kube-proxy" } else { "aws-node" };
                (fix, set.into())
            });
            for (fix, set) in own.chain(any) {
                let name = aimed(&fixes, &finding(&fix, &set)).unwrap();
                let found = fixes.find(&name).unwrap();
                assert_eq!((&*found.name, &*found.daemonset.name), (&*name, &*set), "{}", signature.name);
                seen += 1;
            }
        }
        assert!(seen > 8, "{seen}");
    }

    #[test]
    fn a_fix_of_any_daemonset_is_named_with_the_findings_and_an_unknown_one_is_none() {
        let fixes = Catalogue::shipped().unwrap();
        let name = aimed(&fixes, &finding("wait-for", "kiam-agent")).unwrap();
        assert_eq!(command("prod", &name), "fastnode fix --cluster prod wait-for:kube-system/kiam-agent");
        assert_eq!(aimed(&fixes, &finding("aws-node-wait", "aws-node")).as_deref(), Some("aws-node-wait"));
        assert_eq!(aimed(&fixes, &finding("no-such-fix", "aws-node")), None);
    }
}
