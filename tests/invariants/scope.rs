//! Whom an action is about: scope and identity.

use fastnode::invariants::rule;
use fastnode::model::*;
use fastnode::observe::Snapshot;
use fastnode::plan::{Action, NodePurpose};
use fastnode::policy::Policy;

use crate::worlds::*;
use crate::*;

#[test]
fn scope_groups_of_others_are_never_touched() {
    let actions = || [cordon("old-0"), resize(1, 7, 8), change_node("old-0", NodePurpose::SoftTaint, ours("x"))];
    let changes: [fn(&mut NodeGroup); 5] = [
        |g| g.managed_by = Some("apps".into()),
        |g| g.operator = Some("eks.amazonaws.com".into()),
        |g| g.refreshing = true,
        |g| g.weighted = true,
        |g| g.reuses = true,
    ];
    for change in changes {
        let world = changed(world(), |s| change(group_mut(s)));
        actions().into_iter().for_each(|action| assert_eq!(judged(&world, action), rule::SCOPE));
    }
    let terminating = changed(ready_to_terminate(), |s| group_mut(s).managed_by = Some("apps".into()));
    assert_eq!(judged(&terminating, terminate(0)), rule::SCOPE);
    let evicting = changed(draining(), |s| group_mut(s).refreshing = true);
    assert_eq!(judged(&evicting, evict(0)), rule::SCOPE);
    assert_eq!(judged(&evicting, uncordon("old-0")), NOTHING, "what is ours may be taken back");

    let mut policy = Policy::default();
    policy.scope.groups = ["batch".into()].into();
    assert_eq!(verdict(&policy, &world(), vec![cordon("old-0")]), rule::SCOPE);
    let mut policy = Policy::default();
    policy.scope.nodes = ["old-3".into()].into();
    assert_eq!(verdict(&policy, &world(), vec![cordon("old-0")]), rule::SCOPE);
    assert_eq!(verdict(&policy, &world(), vec![cordon("old-3")]), NOTHING);
    let unrecorded = changed(world(), |s| record_mut(s).targets.clear());
    assert_eq!(judged(&unrecorded, cordon("old-0")), rule::SCOPE);
    let standby = changed(world(), |s| instance_mut(s, "i-old-0").lifecycle = Lifecycle::Standby);
    assert_eq!(judged(&standby, cordon("old-0")), rule::SCOPE);
}

#[test]
fn identity_an_action_names_what_there_is() {
    let reborn = |s: &mut Snapshot| node_mut(s, "old-0").uid = "uid-reborn".into();
    assert_eq!(judged(&changed(world(), reborn), cordon("old-0")), rule::IDENTITY);
    assert_eq!(judged(&changed(ready_to_terminate(), reborn), terminate(0)), rule::IDENTITY);
    assert_eq!(judged(&world(), cordon("old-9")), rule::IDENTITY);
    let moved = changed(draining(), |s| pod_mut(s, "pod-web-0").node = Some("old-1".into()));
    assert_eq!(judged(&moved, evict(0)), rule::IDENTITY);
    let renamed = changed(draining(), |s| pod_mut(s, "pod-web-0").key = ObjectKey::new("shop", "other"));
    assert_eq!(judged(&renamed, evict(0)), rule::IDENTITY);
    let elsewhere = changed(ready_to_terminate(), |s| instance_mut(s, "i-old-0").group = "batch".into());
    assert_eq!(judged(&elsewhere, terminate(0)), rule::IDENTITY);
    let mut swapped = terminate(0);
    if let Action::Terminate { instance, .. } = &mut swapped {
        *instance = "i-old-1".into();
    }
    assert_eq!(judged(&ready_to_terminate(), swapped), rule::IDENTITY);
}
