//! What is written on nodes, and which of them are rotated.

use fastnode::cluster::NodeChange;
use fastnode::invariants::rule;
use fastnode::model::*;
use fastnode::observe::Snapshot;
use fastnode::plan::NodePurpose;
use fastnode::policy::Policy;
use jiff::SignedDuration;

use crate::worlds::*;
use crate::*;

#[test]
fn own_marks_nobody_elses_cordon_or_key_is_touched() {
    assert_eq!(judged(&world(), uncordon("old-0")), rule::OWN_MARKS, "no mark of ours is on it");
    let theirs = changed(world(), |s| node_mut(s, "old-0").unschedulable = true);
    assert_eq!(judged(&theirs, uncordon("old-0")), rule::OWN_MARKS);
    let another = changed(draining(), |s| {
        node_mut(s, "old-0").labels.insert(marks::ROTATION.into(), "20250101-000000-ffff".into());
    });
    assert_eq!(judged(&another, uncordon("old-0")), rule::OWN_MARKS);
    assert_eq!(judged(&another, cordon("old-0")), rule::OWN_MARKS);
    let before_us = changed(draining(), |s| {
        node_mut(s, "old-0").annotations.insert(marks::CORDONED_BEFORE.into(), "true".into());
    });
    assert_eq!(judged(&before_us, uncordon("old-0")), rule::OWN_MARKS);

    let with = |change: fn(&mut NodeChange)| {
        let mut wanted = ours("replacement");
        change(&mut wanted);
        judged(&world(), change_node("new-0", NodePurpose::Adopt, wanted))
    };
    assert_eq!(with(|_| {}), NOTHING);
    assert_eq!(with(|c| drop(c.annotations.insert(marks::SCALE_DOWN_DISABLED.into(), Some("true".into())))), NOTHING);
    assert_eq!(with(|c| drop(c.labels.insert("team".into(), Some("a".into())))), rule::OWN_MARKS);
    assert_eq!(with(|c| drop(c.annotations.insert("team".into(), None))), rule::OWN_MARKS);
    assert_eq!(with(|c| c.unschedulable = Some(true)), rule::OWN_MARKS);
    assert_eq!(with(|c| c.unschedulable = Some(false)), rule::OWN_MARKS);
    assert_eq!(with(|c| c.remove_taint = Some("dedicated".into())), rule::OWN_MARKS);
    let soft = |c: &mut NodeChange, effect| c.add_taint = Some(taint(marks::OUTDATED_TAINT, effect));
    let mut wanted = ours("replacement");
    soft(&mut wanted, TaintEffect::PreferNoSchedule);
    assert_eq!(judged(&world(), change_node("old-0", NodePurpose::SoftTaint, wanted.clone())), NOTHING);
    soft(&mut wanted, TaintEffect::NoExecute);
    assert_eq!(judged(&world(), change_node("old-0", NodePurpose::SoftTaint, wanted)), rule::OWN_MARKS);

    let exclude = || {
        let mut change = NodeChange::default();
        change.labels.insert(marks::EXCLUDE_FROM_LB.into(), Some("true".into()));
        change_node("old-0", NodePurpose::ExcludeFromLoadBalancers, change)
    };
    assert_eq!(judged(&draining(), exclude()), NOTHING);
    assert_eq!(judged(&world(), exclude()), rule::OWN_MARKS);
    let alone = changed(draining(), |s| s.nodes.values_mut().for_each(|n| n.conditions.clear()));
    assert_eq!(judged(&alone, exclude()), rule::CAPACITY);
}

#[test]
fn outdated_what_the_group_launches_is_not_rotated() {
    let on_target = |s: &mut Snapshot| {
        instance_mut(s, "i-old-0").source = LaunchSource::Template { id: "lt-1".into(), version: "2".into() };
    };
    assert_eq!(judged(&changed(world(), on_target), cordon("old-0")), rule::OUTDATED);
    assert_eq!(judged(&changed(ready_to_terminate(), on_target), terminate(0)), rule::OUTDATED);
    let forced = Policy { force: true, ..Policy::default() };
    assert_eq!(verdict(&forced, &changed(world(), on_target), vec![cordon("old-0")]), NOTHING);
    let aged = |hours| Policy { older_than: Some(SignedDuration::from_hours(hours)), ..Policy::default() };
    assert_eq!(verdict(&aged(24), &changed(world(), on_target), vec![cordon("old-0")]), NOTHING);
    assert_eq!(verdict(&aged(24 * 60), &changed(world(), on_target), vec![cordon("old-0")]), rule::OUTDATED);
    // A replacement is forced by nothing; it goes only to give the surge back.
    let no_surge = changed(world(), |s| {
        group_mut(s).desired = 6;
        surge_is(s, &Ledger::settled(0));
    });
    assert_eq!(verdict(&forced, &no_surge, vec![cordon("new-0")]), rule::OUTDATED);
    assert_eq!(judged(&world(), cordon("new-0")), NOTHING);
    let fail = |name| {
        let change = NodeChange { unschedulable: Some(true), ..ours("failed") };
        change_node(name, NodePurpose::MarkFailed, change)
    };
    assert_eq!(judged(&world(), fail("new-0")), NOTHING);
    assert_eq!(judged(&world(), fail("old-0")), rule::OUTDATED);
}
