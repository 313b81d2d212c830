//! Why an instance is outdated.
//!
//! The target is the one recorded when the rotation began, never what the group says now. A reason is given
//! only where both sides are known: what cannot be told is not called outdated.
//!
//! A kubelet behind the control plane is no reason by itself: whether the target would cure it shows only in
//! its image, and then the image or the version is the reason already.

use jiff::Timestamp;

use super::Outdated;
use crate::model::{Instance, LaunchSource, NodeName, Target, TemplateRef, Text};
use crate::policy::Policy;

/// Why `instance` is to be rotated; empty where it is on the target. `started` is when the rotation began (when
/// the groups were read, where none has): age and force do not reach instances launched after it. `node` is its
/// Node's name and when that was created.
pub(crate) fn reasons(
    policy: &Policy,
    target: &Target,
    instance: &Instance,
    node: Option<(&NodeName, Timestamp)>,
    started: Timestamp,
) -> Vec<Outdated> {
    let mut reasons = against(target, instance);
    let launched = instance.launched_at.or(node.map(|(_, created)| created));
    if let Some(launched) = launched
        && launched < started
    {
        let limit = policy.older_than.and_then(|age| started.checked_sub(age).ok());
        if limit.is_some_and(|limit| launched < limit) {
            reasons.push(Outdated::Age { launched });
        }
        if node.is_some_and(|(name, _)| policy.scope.nodes.contains(name)) {
            reasons.push(Outdated::Named);
        }
        if policy.force {
            reasons.push(Outdated::Forced);
        }
    }
    reasons
}

/// How `instance` differs from `target`.
pub(crate) fn against(target: &Target, instance: &Instance) -> Vec<Outdated> {
    match target {
        Target::None => Vec::new(),
        Target::Configuration(want) => match &instance.source {
            LaunchSource::Configuration(have) if have == want => Vec::new(),
            LaunchSource::Configuration(have) => {
                vec![Outdated::Configuration { have: Some(have.clone()), want: want.clone() }]
            }
            _ => vec![Outdated::Configuration { have: None, want: want.clone() }],
        },
        Target::Template(template) => differs(template, instance).into_iter().collect(),
        Target::Mixed { base, overrides } => {
            let own = overrides.iter().find(|o| o.instance_type.as_ref() == Some(&instance.instance_type));
            // Overrides by attributes name no type: they may launch any.
            let any = || overrides.iter().find(|o| o.instance_type.is_none());
            match own.or_else(any) {
                Some(found) => differs(found.template.as_ref().unwrap_or(base), instance).into_iter().collect(),
                None if overrides.is_empty() => differs(base, instance).into_iter().collect(),
                None => vec![Outdated::InstanceType { have: instance.instance_type.clone() }],
            }
        }
    }
}

/// Whether `instance` was launched from a newer version of the template that `target` names: its group launches
/// something else by now, whatever was resolved last.
pub(crate) fn is_newer(target: &Target, instance: &Instance) -> bool {
    let number = |version: &Text| version.parse::<u64>().ok();
    against(target, instance).iter().any(|reason| match reason {
        Outdated::TemplateVersion { have, want } => number(have) > number(want) && number(want).is_some(),
        _ => false,
    })
}

fn differs(want: &TemplateRef, instance: &Instance) -> Option<Outdated> {
    let LaunchSource::Template { id, version } = &instance.source else { return Some(Outdated::Source) };
    if *id != want.id {
        return Some(Outdated::TemplateId { have: id.clone(), want: want.id.clone() });
    }
    if let Some(number) = number(want)
        && number != version
    {
        return Some(Outdated::TemplateVersion { have: version.clone(), want: number.clone() });
    }
    // `resolve:ssm:` keeps one version while the image moves.
    match (&instance.image, &want.image) {
        (Some(have), Some(image)) if have != image => Some(Outdated::Image { have: have.clone(), want: image.clone() }),
        _ => None,
    }
}

/// The version's number; `None` for `$Latest` and `$Default` that were not resolved yet.
fn number(template: &TemplateRef) -> Option<&Text> {
    template.resolved.as_ref().or_else(|| (!template.version.starts_with('$')).then_some(&template.version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{InstanceId, Lifecycle, Override};

    fn template(id: &str, version: &str, resolved: Option<&str>, image: Option<&str>) -> TemplateRef {
        TemplateRef {
            id: id.into(),
            version: version.into(),
            resolved: resolved.map(Into::into),
            image: image.map(Into::into),
        }
    }

    fn instance(version: &str) -> Instance {
        Instance {
            id: InstanceId::from("i-1"),
            group: "g".into(),
            zone: "a".into(),
            instance_type: "m5.large".into(),
            lifecycle: Lifecycle::InService,
            healthy: true,
            protected: false,
            source: LaunchSource::Template { id: "lt-1".into(), version: version.into() },
            launched_at: Some(Timestamp::UNIX_EPOCH),
            image: Some("ami-1".into()),
        }
    }

    #[test]
    fn an_unresolved_latest_condemns_nobody() {
        let target = Target::Template(template("lt-1", "$Latest", None, None));
        assert_eq!(against(&target, &instance("3")), []);
        let target = Target::Template(template("lt-1", "$Latest", Some("4"), None));
        assert_eq!(
            against(&target, &instance("3")),
            [Outdated::TemplateVersion { have: "3".into(), want: "4".into() }]
        );
    }

    #[test]
    fn an_image_counts_only_where_the_version_does_not_explain_it() {
        let moved = Target::Template(template("lt-1", "3", None, Some("ami-2")));
        assert_eq!(against(&moved, &instance("3")), [Outdated::Image { have: "ami-1".into(), want: "ami-2".into() }]);
        assert_eq!(against(&moved, &instance("2")).len(), 1);
        let unknown = Target::Template(template("lt-1", "3", None, None));
        assert_eq!(against(&unknown, &instance("3")), []);
    }

    #[test]
    fn an_override_is_judged_by_the_instances_own_type() {
        let of = |kind: &str, own: Option<TemplateRef>| Override { instance_type: Some(kind.into()), template: own };
        let target = Target::Mixed {
            base: template("lt-1", "3", None, None),
            overrides: vec![of("m5.large", None), of("c6g.large", Some(template("lt-arm", "7", None, None)))],
        };
        assert_eq!(against(&target, &instance("3")), []);
        let mut arm = instance("7");
        arm.instance_type = "c6g.large".into();
        assert!(matches!(against(&target, &arm).as_slice(), [Outdated::TemplateId { .. }]));
        arm.source = LaunchSource::Template { id: "lt-arm".into(), version: "6".into() };
        assert!(matches!(against(&target, &arm).as_slice(), [Outdated::TemplateVersion { .. }]));
        arm.instance_type = "t3.large".into();
        assert_eq!(against(&target, &arm), [Outdated::InstanceType { have: "t3.large".into() }]);
    }

    #[test]
    fn age_and_force_stop_at_the_start_of_the_rotation() {
        let started = Timestamp::from_second(1000).unwrap();
        let target = Target::Template(template("lt-1", "3", None, None));
        let policy = Policy { force: true, ..Policy::default() };
        assert_eq!(reasons(&policy, &target, &instance("3"), None, started), [Outdated::Forced]);
        let mut new = instance("3");
        new.launched_at = Some(started);
        assert_eq!(reasons(&policy, &target, &new, None, started), []);
        new.launched_at = None;
        assert_eq!(reasons(&policy, &target, &new, None, started), []);
    }
}
