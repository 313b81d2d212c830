//! The signatures' file.

use fastnode::cluster::evidence::LogRun::Previous;
use fastnode::fixes;
use fastnode::model::Text;
use fastnode::readiness::diagnosis::{Catalogue, DIAGNOSTICS};

use super::logs::DIAL;
use super::scene::Scene;

const ONE: &str = "[[signature]]\nname = \"a\"\nwhat = \"w\"\ncause = \"c\"\nhelp = \"h\"\nconfidence = \"likely\"\n";

fn refused(text: &str) -> String {
    Catalogue::parse(text, None).unwrap_err().to_string()
}

#[test]
fn the_built_in_signatures_are_sound() {
    let catalogue = Catalogue::built_in(None).unwrap();
    assert!(catalogue.signatures.len() >= 20);
    assert!(Catalogue::parse(DIAGNOSTICS, Some("fd30:1c53:5f8a::1")).is_ok());
}

#[test]
fn what_is_wrong_with_a_file_is_named() {
    let rule = "[signature.restart]\nwithin-s = 90\n";
    assert!(Catalogue::parse(&format!("{ONE}{rule}"), None).is_ok());
    assert!(refused(&format!("{ONE}colour = \"red\"\n{rule}")).contains("unknown field `colour`"));
    assert!(
        refused(&format!("{ONE}[signature.restart]\nwithin = 90\n"))
            .contains("unknown field `within`, expected `within-s`")
    );
    assert_eq!(
        refused(ONE),
        "failed to read signature a: it has no rule; expected logs, events, restart, taint or another"
    );
    assert_eq!(
        refused(&format!("{ONE}{rule}{ONE}{rule}")),
        "failed to read the signatures: a is there twice; each needs a name of its own"
    );
    assert_eq!(
        refused(&format!("{ONE}symptom-of = [\"b\"]\n{rule}")),
        "failed to read signature a: symptom-of names b, which there is not"
    );
    let pattern = refused(&format!("{ONE}[[signature.logs]]\nlines = ['(']\n"));
    assert!(pattern.starts_with("failed to read signature a: \"(\" is no regular expression: "), "{pattern}");
}

#[test]
fn every_fix_that_a_signature_names_can_be_asked_for() {
    let fixes = fixes::Catalogue::shipped().unwrap();
    let scene = Scene::new().restarted("aws-node").log("aws-node", Previous, &[(37.0, DIAL)]);
    let some = scene.finding();
    let mut seen = 0;
    for signature in Catalogue::built_in(None).unwrap().signatures {
        let own = signature.fixes.iter().map(|(set, fix)| (set.clone(), fix.clone()));
        let other = signature.fix.map(|fix| {
            let set: Text = if fix.starts_with("kube-proxy") { "kube-proxy" } else { "aws-node" }.into();
            (set, fix)
        });
        for (set, fix) in own.chain(other) {
            let mut finding = some.clone();
            (finding.fix, finding.daemonset.as_mut().unwrap().name) = (Some(fix), set.clone());
            fixes.aim(&mut finding);
            let found = fixes.find(&finding.fix.unwrap()).unwrap();
            assert_eq!(found.daemonset.name, set, "{}", signature.name);
            seen += 1;
        }
    }
    assert!(seen > 8, "{seen}");
}
