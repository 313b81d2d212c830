//! Each rule of the checker: a plan that keeps it passes, the same plan with one thing wrong is caught by it.

mod capacity;
mod groups;
mod nodes;
mod pods;
mod scope;
mod terminate;
#[path = "../worlds/mod.rs"]
mod worlds;

use std::collections::BTreeMap;

use fastnode::cluster::NodeChange;
use fastnode::invariants::{check, rule};
use fastnode::model::*;
use fastnode::observe::{InFlight, Snapshot};
use fastnode::plan::{Action, ActionKey, ActionReason, NodePurpose, Plan, Planned};
use fastnode::policy::Policy;
use worlds::*;

fn plan(actions: Vec<Action>) -> Plan {
    let reason = ActionReason::GroupBegins;
    let actions = actions.into_iter().map(|action| Planned { action, reason: reason.clone() }).collect();
    Plan { actions, ..Plan::default() }
}

/// The rule that speaks against these actions; `""` where none does.
fn verdict(policy: &Policy, snapshot: &Snapshot, actions: Vec<Action>) -> &'static str {
    check(policy, snapshot, &plan(actions), now()).map_or_else(|violation| violation.rule, |()| "")
}

/// As [`verdict`], by the default policy.
fn judged(snapshot: &Snapshot, action: Action) -> &'static str {
    verdict(&Policy::default(), snapshot, vec![action])
}

/// A world changed, its indices made anew.
fn changed(mut snapshot: Snapshot, change: impl FnOnce(&mut Snapshot)) -> Snapshot {
    change(&mut snapshot);
    snapshot.reindex();
    snapshot
}

const NOTHING: &str = "";

fn change_node(name: &str, purpose: NodePurpose, change: NodeChange) -> Action {
    Action::ChangeNode { node: name.into(), uid: format!("uid-{name}").into(), purpose, change }
}

fn ours(state: &str) -> NodeChange {
    NodeChange {
        labels: BTreeMap::from([(marks::ROTATION.into(), Some(ROTATION.into()))]),
        annotations: BTreeMap::from([(marks::STATE.into(), Some(state.into()))]),
        ..NodeChange::default()
    }
}

fn cordon(name: &str) -> Action {
    change_node(name, NodePurpose::Cordon, NodeChange { unschedulable: Some(true), ..ours("draining") })
}

fn uncordon(name: &str) -> Action {
    let change = NodeChange { unschedulable: Some(false), ..NodeChange::default() };
    change_node(name, NodePurpose::Uncordon, change)
}

fn terminate(n: usize) -> Action {
    let name = old_name(n);
    Action::Terminate {
        instance: format!("i-{name}").into(),
        group: GROUP.into(),
        node: Some((name.as_str().into(), format!("uid-{name}").into())),
        decrement: None,
    }
}

fn step(from: u32, to: u32, instance: Option<&str>) -> Step {
    Step { from, to, instance: instance.map(InstanceId::from), at: now() }
}

fn announced(confirmed: u32, step: Step) -> Ledger {
    Ledger { step: Some(step), ..Ledger::settled(confirmed) }
}

/// Terminates an old node and takes the one surge along.
fn shrink(n: usize) -> Action {
    let mut action = terminate(n);
    if let Action::Terminate { instance, decrement, .. } = &mut action {
        let before = announced(1, step(7, 6, Some(instance.as_str())));
        *decrement = Some(Box::new((before, Ledger::settled(0))));
    }
    action
}

fn resize(confirmed: u32, from: u32, to: u32) -> Action {
    let after = Ledger::settled(confirmed + to - from);
    Action::Resize { group: GROUP.into(), from, to, before: announced(confirmed, step(from, to, None)), after }
}

fn evict(n: usize) -> Action {
    Action::Evict {
        node: old_name(n).into(),
        pod: ObjectKey::new("shop", &format!("web-{n}")),
        uid: format!("pod-web-{n}").into(),
    }
}

fn draining() -> Snapshot {
    changed(world(), |s| mark(s, "old-0", NodeMark::Draining))
}

/// `old-0` is drained to the end.
fn ready_to_terminate() -> Snapshot {
    changed(world(), |s| drained(s, 0))
}

/// The same, all others protected: the group may shrink.
fn ready_to_shrink() -> Snapshot {
    changed(ready_to_terminate(), |s| {
        s.instances.values_mut().filter(|i| i.id.as_str() != "i-old-0").for_each(|i| i.protected = true);
    })
}

fn surge_is(snapshot: &mut Snapshot, ledger: &Ledger) {
    group_mut(snapshot).tags.insert(marks::TAG_SURGE.into(), ledger.to_tag().into());
}

#[test]
fn good_plans_pass() {
    assert_eq!(judged(&world(), cordon("old-0")), NOTHING);
    assert_eq!(judged(&draining(), evict(0)), NOTHING);
    assert_eq!(judged(&ready_to_terminate(), terminate(0)), NOTHING);
    assert_eq!(judged(&ready_to_shrink(), shrink(0)), NOTHING);
    assert_eq!(judged(&draining(), uncordon("old-0")), NOTHING);
    let together = vec![evict(0), change_node("new-0", NodePurpose::Adopt, ours("replacement"))];
    assert_eq!(verdict(&Policy::default(), &draining(), together), NOTHING);
    assert_eq!(verdict(&Policy::default(), &Snapshot::default(), vec![]), NOTHING, "doing nothing is always safe");
}

#[test]
fn a_violation_says_what_would_be_done_and_what_speaks_against_it() {
    let plan = plan(vec![terminate(0)]);
    let violation = check(&Policy::default(), &draining(), &plan, now()).unwrap_err();
    assert_eq!(
        violation.to_string(),
        "old-0: i-old-0 would be terminated with pod shop/web-0 on it (invariant drained)"
    );
}

#[test]
fn synced_nothing_is_done_before_the_world_is_known_and_recorded() {
    let unsynced = changed(world(), |s| s.synced.groups = false);
    assert_eq!(judged(&unsynced, cordon("old-0")), rule::SYNCED);
    assert_eq!(judged(&changed(world(), |s| s.rotation = None), cordon("old-0")), rule::SYNCED);
}

#[test]
fn one_at_a_time_two_actions_never_meet_on_one_thing() {
    let twice = vec![cordon("old-0"), cordon("old-0")];
    assert_eq!(verdict(&Policy::default(), &world(), twice), rule::ONE_AT_A_TIME);
    let busy = changed(world(), |s| {
        s.in_flight.insert(ActionKey::Node("old-0".into()), InFlight { since: now() });
    });
    assert_eq!(judged(&busy, cordon("old-0")), rule::ONE_AT_A_TIME);
    assert_eq!(judged(&changed(busy, |s| s.in_flight.clear()), cordon("old-0")), NOTHING);
}

#[test]
fn every_rule_is_documented() {
    let safety = include_str!("../../docs/safety.md");
    for rule in rule::ALL {
        assert!(safety.contains(&format!("| `{rule}` |")), "docs/safety.md does not tell of {rule}");
    }
}
