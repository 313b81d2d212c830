//! Each rule of the checker: a plan that keeps it passes, the same plan with one thing wrong is caught by it.

mod worlds;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fastnode::cluster::NodeChange;
use fastnode::invariants::{check, rule};
use fastnode::model::*;
use fastnode::observe::{InFlight, Snapshot};
use fastnode::plan::{Action, ActionKey, ActionReason, NodePurpose, Plan, Planned};
use fastnode::policy::{Amount, Gate, OnStuck, OnTargetChange, Policy, Surge, Timeout};
use jiff::SignedDuration;
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

#[test]
fn canary_nothing_old_goes_before_the_target_has_proved_itself() {
    let launching = changed(world(), |s| node_mut(s, "new-0").conditions.clear());
    assert_eq!(judged(&launching, cordon("old-0")), rule::CANARY);
    // Six nodes serve without it and six are its own: only the canary speaks against the drain here.
    let one_below = Policy { unavailable: Amount::Count(1), ..Policy::default() };
    assert_eq!(verdict(&one_below, &launching, vec![cordon("old-0")]), rule::CANARY);
    assert_eq!(verdict(&Policy { canary: 0, ..one_below.clone() }, &launching, vec![cordon("old-0")]), NOTHING);
    let failed = changed(world(), |s| {
        record_mut(s).failed.insert("i-new-0".into(), "aws-node restarted".into());
    });
    assert_eq!(judged(&failed, cordon("old-0")), rule::CANARY);

    // Without a surge the canary is drained first, and nothing beside it.
    let no_surge = changed(launching, |s| {
        group_mut(s).desired = 6;
        surge_is(s, &Ledger::settled(0));
    });
    let two_below = Policy { unavailable: Amount::Count(2), drains: Amount::Count(2), ..Policy::default() };
    assert_eq!(verdict(&two_below, &no_surge, vec![cordon("old-0")]), NOTHING);
    assert_eq!(verdict(&two_below, &no_surge, vec![cordon("old-0"), cordon("old-1")]), rule::CANARY);

    // A surge that launches nothing, since others scaled the group in as it was raised, is as none.
    let cut_short = changed(world(), |s| {
        drop(s.instances.remove(&InstanceId::from("i-new-0")));
        drop(s.nodes.remove(&NodeName::from("new-0")));
        s.reindex();
        group_mut(s).desired = 6;
    });
    assert_eq!(verdict(&two_below, &cut_short, vec![cordon("old-0")]), NOTHING);
    assert_eq!(verdict(&two_below, &cut_short, vec![cordon("old-0"), cordon("old-1")]), rule::CANARY);
    let due = changed(cut_short, |s| group_mut(s).desired = 7);
    assert_eq!(verdict(&two_below, &due, vec![cordon("old-0")]), rule::CANARY, "a replacement is still to come");
}

#[test]
fn drained_only_what_we_drained_to_the_end_is_terminated() {
    let good = ready_to_terminate;
    let mutations: [fn(&mut Snapshot); 8] = [
        |s| node_mut(s, "old-0").unschedulable = false,
        |s| drop(node_mut(s, "old-0").labels.remove(marks::ROTATION)),
        |s| drop(node_mut(s, "old-0").labels.insert(marks::ROTATION.into(), "another".into())),
        |s| drop(node_mut(s, "old-0").annotations.remove(marks::STATE)),
        |s| drop(node_mut(s, "old-0").annotations.insert(marks::STATE.into(), "skipped".into())),
        |s| {
            let back = pod("pod-back", ObjectKey::new("shop", "back"), &s.nodes[&NodeName::from("old-0")]);
            s.pods.insert(back.uid.clone(), back.into());
        },
        |s| {
            let name: Text = "csi-1".into();
            let attachment =
                VolumeAttachment { name: name.clone(), node: "old-0".into(), volume: None, attached: true };
            s.attachments.insert(name, attachment);
        },
        |s| instance_mut(s, "i-old-0").lifecycle = Lifecycle::Standby,
    ];
    for (n, mutation) in mutations.into_iter().enumerate() {
        assert_eq!(judged(&changed(good(), mutation), terminate(0)), rule::DRAINED, "mutation {n}");
    }
    // What stays with its node, or has ended, does not hold it.
    let harmless = changed(good(), |s| {
        let node = s.nodes[&NodeName::from("old-0")].clone();
        let mut done = pod("pod-done", ObjectKey::new("shop", "done"), &node);
        done.phase = Phase::Succeeded;
        let mut mirror = pod("pod-mirror", ObjectKey::new("kube-system", "static"), &node);
        mirror.flags.mirror = true;
        [done, mirror].into_iter().for_each(|p| drop(s.pods.insert(p.uid.clone(), p.into())));
    });
    assert_eq!(judged(&harmless, terminate(0)), NOTHING);
    // A pod that is going is not gone.
    let going = changed(draining(), |s| pod_mut(s, "pod-web-0").deleting = Some(now()));
    assert_eq!(judged(&going, terminate(0)), rule::DRAINED);
    let said = change_node("old-0", NodePurpose::MarkDrained, ours("drained"));
    assert_eq!(judged(&draining(), said.clone()), rule::DRAINED, "nor is it to be called drained");
    assert_eq!(judged(&good(), said), NOTHING);
}

#[test]
fn deregistration_what_serves_behind_load_balancers_stays_until_they_let_go() {
    let attached = |delay: Option<u32>, label: bool, since: Option<i64>| {
        changed(ready_to_terminate(), |s| {
            let web = Attachment("arn:aws:elasticloadbalancing:r:1:targetgroup/web/1".into());
            group_mut(s).attachments.insert(web.clone());
            s.delays.extend(delay.map(|delay| (web, delay)));
            let node = node_mut(s, "old-0");
            if label {
                node.labels.insert(marks::EXCLUDE_FROM_LB.into(), "true".into());
            }
            let began = since.map(|seconds| (now() - SignedDuration::from_secs(seconds)).to_string());
            node.annotations.extend(began.map(|at| (marks::EXCLUDED_SINCE.into(), at.into())));
        })
    };
    assert_eq!(judged(&attached(Some(60), true, Some(60)), terminate(0)), NOTHING);
    assert_eq!(judged(&attached(Some(60), true, Some(59)), terminate(0)), rule::DEREGISTRATION);
    assert_eq!(judged(&attached(Some(60), false, None), terminate(0)), rule::DEREGISTRATION);
    assert_eq!(judged(&attached(None, true, Some(299)), terminate(0)), rule::DEREGISTRATION, "300 s by default");
    assert_eq!(judged(&attached(None, true, Some(300)), terminate(0)), NOTHING);
    assert_eq!(judged(&attached(Some(0), true, Some(0)), terminate(0)), NOTHING);
}

#[test]
fn drained_a_replacement_that_never_registered_is_the_one_exception() {
    let terminate = |id: &str| Action::Terminate {
        instance: id.into(),
        group: GROUP.into(),
        node: None,
        decrement: Some(Box::new((announced(1, step(7, 6, Some(id))), Ledger::settled(0)))),
    };
    let lost = |launched: i64| {
        changed(world(), |s| {
            s.instances.values_mut().for_each(|i| i.protected = true);
            s.nodes.remove(&NodeName::from("new-0"));
            s.pods.retain(|_, p| p.node != Some("new-0".into()));
            instance_mut(s, "i-new-0").launched_at = Some(minute(launched));
        })
    };
    assert_eq!(judged(&lost(0), terminate("i-new-0")), NOTHING, "its ten minutes are over");
    assert_eq!(judged(&lost(5), terminate("i-new-0")), rule::DRAINED, "it may still join");
    assert_eq!(judged(&lost(-5), terminate("i-new-0")), rule::DRAINED, "it is older than the rotation");
    assert_eq!(judged(&world(), terminate("i-new-0")), rule::DRAINED, "it has a Node");
    let recorded = changed(lost(5), |s| {
        record_mut(s).failed.insert("i-new-0".into(), "never joined".into());
    });
    assert_eq!(judged(&recorded, terminate("i-new-0")), NOTHING);
    let old = changed(world(), |s| drop(s.nodes.remove(&NodeName::from("old-0"))));
    assert_eq!(judged(&old, terminate("i-old-0")), rule::DRAINED);
}

#[test]
fn evictable_only_pods_that_may_move_from_nodes_that_we_drain() {
    assert_eq!(judged(&world(), evict(0)), rule::EVICTABLE, "we do not drain it");
    let open = changed(draining(), |s| node_mut(s, "old-0").unschedulable = false);
    assert_eq!(judged(&open, evict(0)), rule::EVICTABLE);
    let given_up = changed(draining(), |s| mark(s, "old-0", NodeMark::Skipped));
    assert_eq!(judged(&given_up, evict(0)), rule::EVICTABLE);

    type Case = (fn(&mut Pod), fn(&mut Policy));
    let cases: [Case; 4] = [
        (|p| p.owner = None, |p| p.force_unmanaged = true),
        (|p| p.flags.empty_dir = true, |p| p.delete_emptydir_data = true),
        (|p| p.flags.not_safe_to_evict = true, |p| p.ignore_opt_outs = true),
        (|p| p.flags.do_not_disrupt = true, |p| p.ignore_opt_outs = true),
    ];
    for (n, (held, allowed)) in cases.into_iter().enumerate() {
        let world = changed(draining(), |s| held(pod_mut(s, "pod-web-0")));
        assert_eq!(judged(&world, evict(0)), rule::EVICTABLE, "case {n}");
        let mut policy = Policy::default();
        allowed(&mut policy);
        assert_eq!(verdict(&policy, &world, vec![evict(0)]), NOTHING, "case {n} where it is allowed");
    }
    let stays: [fn(&mut Pod); 2] =
        [|p| p.flags.mirror = true, |p| Arc::make_mut(p.owner.as_mut().unwrap()).kind = "DaemonSet".into()];
    for change in stays {
        let world = changed(draining(), |s| change(pod_mut(s, "pod-web-0")));
        assert_eq!(judged(&world, evict(0)), rule::EVICTABLE);
    }
}

#[test]
fn past_budgets_only_when_asked_for_and_after_the_time_out() {
    let delete = |grace_seconds| Action::DeletePod {
        node: "old-0".into(),
        pod: ObjectKey::new("shop", "web-0"),
        uid: "pod-web-0".into(),
        grace_seconds,
    };
    // Draining since minute 5, now minute 10.
    let asked = |minutes| Policy {
        past_budgets: true,
        drain_timeout: Timeout::After(SignedDuration::from_mins(minutes)),
        on_stuck: OnStuck::Wait,
        ..Policy::default()
    };
    assert_eq!(verdict(&asked(5), &draining(), vec![delete(1)]), NOTHING);
    assert_eq!(verdict(&asked(5), &draining(), vec![delete(0)]), rule::PAST_BUDGETS);
    assert_eq!(verdict(&asked(6), &draining(), vec![delete(1)]), rule::PAST_BUDGETS);
    let never = Policy { drain_timeout: Timeout::Never, ..asked(5) };
    assert_eq!(verdict(&never, &draining(), vec![delete(1)]), rule::PAST_BUDGETS);
    let unasked = Policy { past_budgets: false, ..asked(5) };
    assert_eq!(verdict(&unasked, &draining(), vec![delete(1)]), rule::PAST_BUDGETS);
    assert_eq!(verdict(&asked(5), &world(), vec![delete(1)]), rule::EVICTABLE);
}

#[test]
fn ledger_a_decrement_takes_our_surge_by_an_announced_step() {
    let good = ready_to_shrink;
    let mutated = |change: fn(&mut (Ledger, Ledger))| {
        let mut action = shrink(0);
        if let Action::Terminate { decrement: Some(ledgers), .. } = &mut action {
            change(ledgers);
        }
        judged(&good(), action)
    };
    assert_eq!(mutated(|_| {}), NOTHING);
    assert_eq!(mutated(|l| l.0.step = None), rule::LEDGER);
    assert_eq!(mutated(|l| l.0.step.as_mut().unwrap().from = 8), rule::LEDGER);
    assert_eq!(mutated(|l| l.0.step.as_mut().unwrap().to = 5), rule::LEDGER);
    assert_eq!(mutated(|l| l.0.step.as_mut().unwrap().instance = Some("i-old-1".into())), rule::LEDGER);
    assert_eq!(mutated(|l| l.0.step.as_mut().unwrap().instance = None), rule::LEDGER);
    assert_eq!(mutated(|l| l.0.confirmed = 2), rule::LEDGER);
    assert_eq!(mutated(|l| l.1.confirmed = 1), rule::LEDGER);
    assert_eq!(mutated(|l| l.1.step = l.0.step.clone()), rule::LEDGER);

    let with = |ledger: &str| {
        let world = changed(good(), |s| drop(group_mut(s).tags.insert(marks::TAG_SURGE.into(), ledger.into())));
        judged(&world, shrink(0))
    };
    assert_eq!(with(&Ledger::settled(0).to_tag()), rule::LEDGER, "no surge is left");
    assert_eq!(with("{\"v\":1,\"conf"), rule::LEDGER, "a torn ledger moves nothing");
    assert_eq!(with(&announced(1, step(7, 6, Some("i-old-3"))).to_tag()), rule::LEDGER, "a step is in hand");
    let none = changed(good(), |s| drop(group_mut(s).tags.remove(marks::TAG_SURGE)));
    assert_eq!(judged(&none, shrink(0)), rule::LEDGER, "no ledger, no surge");
}

#[test]
fn ledger_desired_is_raised_by_an_announced_step_too() {
    let two = Policy { surge: Surge::Fixed(Amount::Count(2)), ..Policy::default() };
    let mutated = |change: fn(&mut u32, &mut Ledger, &mut Ledger)| {
        let mut action = resize(1, 7, 8);
        if let Action::Resize { from, before, after, .. } = &mut action {
            change(from, before, after);
        }
        verdict(&two, &world(), vec![action])
    };
    assert_eq!(mutated(|_, _, _| {}), NOTHING);
    assert_eq!(mutated(|from, _, _| *from = 6), rule::LEDGER, "somebody else changed desired");
    assert_eq!(mutated(|_, before, _| before.step = None), rule::LEDGER);
    assert_eq!(mutated(|_, before, _| before.step.as_mut().unwrap().to = 9), rule::LEDGER);
    assert_eq!(mutated(|_, before, _| before.confirmed = 0), rule::LEDGER);
    assert_eq!(mutated(|_, _, after| after.confirmed = 1), rule::LEDGER);
    let untagged = changed(world(), |s| drop(group_mut(s).tags.remove(marks::TAG_ROTATION)));
    assert_eq!(verdict(&two, &untagged, vec![resize(1, 7, 8)]), rule::LEDGER);

    let settle = |confirmed| Action::SettleLedger { group: GROUP.into(), ledger: Ledger::settled(confirmed) };
    let in_hand = changed(world(), |s| surge_is(s, &announced(1, step(7, 6, Some("i-old-0")))));
    assert_eq!(judged(&in_hand, settle(0)), NOTHING, "it was applied");
    assert_eq!(judged(&in_hand, settle(1)), NOTHING, "it was not");
    assert_eq!(judged(&in_hand, settle(2)), rule::LEDGER);
    assert_eq!(judged(&world(), settle(1)), rule::LEDGER, "nothing is in hand");
    let tag = |ledger: &Ledger| Action::TagGroup {
        group: GROUP.into(),
        tags: BTreeMap::from([(marks::TAG_SURGE.into(), ledger.to_tag().into())]),
    };
    assert_eq!(judged(&world(), tag(&Ledger::settled(1))), NOTHING);
    assert_eq!(judged(&world(), tag(&Ledger::settled(3))), rule::LEDGER, "a tag makes no surge");
}

#[test]
fn limits_desired_stays_between_minimum_and_maximum() {
    let at_minimum = changed(ready_to_shrink(), |s| group_mut(s).min = 7);
    assert_eq!(judged(&at_minimum, shrink(0)), rule::LIMITS);
    let four = Policy { surge: Surge::Fixed(Amount::Count(9)), ..Policy::default() };
    assert_eq!(verdict(&four, &world(), vec![resize(1, 7, 10)]), NOTHING);
    assert_eq!(verdict(&four, &world(), vec![resize(1, 7, 11)]), rule::LIMITS);

    let max = |from, to| Action::SetMax { group: GROUP.into(), from, to };
    let tagged = changed(world(), |s| drop(group_mut(s).tags.insert(marks::TAG_MAX.into(), "10".into())));
    let raise = Policy { raise_max: true, ..Policy::default() };
    assert_eq!(verdict(&raise, &tagged, vec![max(10, 12)]), NOTHING);
    assert_eq!(verdict(&raise, &world(), vec![max(10, 12)]), rule::LIMITS, "the former one is not kept");
    assert_eq!(verdict(&Policy::default(), &tagged, vec![max(10, 12)]), rule::LIMITS, "nobody allowed it");
    assert_eq!(verdict(&raise, &tagged, vec![max(11, 12)]), rule::LIMITS, "somebody else changed it");
    assert_eq!(verdict(&raise, &tagged, vec![max(10, 9)]), rule::LIMITS, "it was 10 before us");
    let low = changed(tagged, |s| group_mut(s).desired = 12);
    assert_eq!(verdict(&raise, &low, vec![max(10, 11)]), rule::LIMITS, "below desired");
}

#[test]
fn surge_stays_within_the_policy() {
    let fixed = |amount| Policy { surge: Surge::Fixed(amount), ..Policy::default() };
    assert_eq!(verdict(&fixed(Amount::Count(3)), &world(), vec![resize(1, 7, 9)]), NOTHING);
    assert_eq!(verdict(&fixed(Amount::Count(3)), &world(), vec![resize(1, 7, 10)]), rule::SURGE);
    assert_eq!(verdict(&fixed(Amount::Percent(50)), &world(), vec![resize(1, 7, 9)]), NOTHING, "50% of its own 6");
    assert_eq!(verdict(&fixed(Amount::Percent(50)), &world(), vec![resize(1, 7, 10)]), rule::SURGE);
    let wide = changed(world(), |s| group_mut(s).max = 100);
    assert_eq!(judged(&wide, resize(1, 7, 12)), NOTHING);
    assert_eq!(judged(&wide, resize(1, 7, 13)), rule::SURGE, "auto never doubles a group");
}

#[test]
fn shrink_one_goes_and_nothing_else_can() {
    let mutations: [fn(&mut Snapshot); 3] = [
        |s| instance_mut(s, "i-old-3").lifecycle = Lifecycle::Pending,
        |s| instance_mut(s, "i-old-3").protected = false,
        |s| instance_mut(s, "i-old-3").lifecycle = Lifecycle::Terminating,
    ];
    for mutation in mutations {
        assert_eq!(judged(&changed(ready_to_shrink(), mutation), shrink(0)), rule::SHRINK);
    }
    let lower = |s: &Snapshot| {
        let before = announced(1, step(7, 6, None));
        let action = Action::Resize { group: GROUP.into(), from: 7, to: 6, before, after: Ledger::settled(0) };
        judged(s, action)
    };
    let missing = |s: &mut Snapshot| {
        s.instances.remove(&InstanceId::from("i-new-0"));
        group_mut(s).suspended.insert(Process(Process::LAUNCH.into()));
    };
    assert_eq!(lower(&changed(world(), missing)), NOTHING, "the surge never launched");
    assert_eq!(lower(&world()), rule::SHRINK, "AWS would choose one of seven");
    let may_launch = changed(changed(world(), missing), |s| group_mut(s).suspended.clear());
    assert_eq!(lower(&may_launch), rule::SHRINK);
}

#[test]
fn replacement_what_goes_without_decrement_is_replaced_by_the_target() {
    let good = ready_to_terminate;
    let suspended = changed(good(), |s| _ = group_mut(s).suspended.insert(Process(Process::LAUNCH.into())));
    assert_eq!(judged(&suspended, terminate(0)), rule::REPLACEMENT);
    let moved = changed(good(), |s| group_mut(s).target = Target::Template(template("3")));
    assert_eq!(judged(&moved, terminate(0)), rule::REPLACEMENT);
    let unread = changed(good(), |s| {
        group_mut(s).target = Target::Template(TemplateRef { resolved: None, ..template("2") });
    });
    assert_eq!(judged(&unread, terminate(0)), NOTHING, "what was not asked again has not moved");
    let in_shrinking = changed(ready_to_shrink(), |s| group_mut(s).target = Target::Template(template("3")));
    assert_eq!(judged(&in_shrinking, shrink(0)), NOTHING, "with decrement nothing is launched");

    let failed = changed(world(), |s| mark(s, "new-0", NodeMark::Failed));
    let terminate = Action::Terminate {
        instance: "i-new-0".into(),
        group: GROUP.into(),
        node: Some(("new-0".into(), "uid-new-0".into())),
        decrement: None,
    };
    assert_eq!(judged(&failed, terminate.clone()), rule::REPLACEMENT, "the same would be launched again");
    let mended = changed(failed, |s| {
        record_mut(s).failed.insert("i-new-0".into(), "aws-node restarted".into());
        record_mut(s).mended.excused.insert("i-new-0".into());
    });
    assert_eq!(judged(&mended, terminate.clone()), NOTHING, "its fault was mended since");
    let moved = changed(mended, |s| group_mut(s).target = Target::Template(template("3")));
    assert_eq!(judged(&moved, terminate), rule::REPLACEMENT, "what is launched in its place is proved by nothing");
}

#[test]
fn capacity_a_group_keeps_what_is_promised() {
    assert_eq!(judged(&world(), cordon("old-0")), NOTHING);
    let one_ill = changed(world(), |s| node_mut(s, "old-5").conditions.clear());
    assert_eq!(judged(&one_ill, cordon("old-0")), rule::CAPACITY);
    assert_eq!(judged(&one_ill, cordon("old-5")), NOTHING, "what does not serve takes nothing away");
    let one_below = Policy { unavailable: Amount::Count(1), ..Policy::default() };
    assert_eq!(verdict(&one_below, &one_ill, vec![cordon("old-0")]), NOTHING);
    let tenth = Policy { unavailable: Amount::Percent(10), ..Policy::default() };
    assert_eq!(verdict(&tenth, &one_ill, vec![cordon("old-0")]), rule::CAPACITY, "10% of 6, rounded down, is none");

    let two_at_once = Policy { drains: Amount::Count(2), ..Policy::default() };
    let both = || vec![cordon("old-0"), cordon("old-1")];
    assert_eq!(verdict(&two_at_once, &world(), both()), rule::CAPACITY, "one alone would be right");
    let in_hand = changed(ready_to_terminate(), |_| {});
    assert_eq!(judged(&in_hand, cordon("old-1")), rule::CAPACITY, "the drained one serves no more");
    let handed_over = changed(world(), |s| {
        s.in_flight.insert(ActionKey::Node("old-1".into()), InFlight { since: now() });
        node_mut(s, "old-1").taints.push(taint(marks::OUTDATED_TAINT, TaintEffect::PreferNoSchedule));
    });
    assert_eq!(verdict(&two_at_once, &handed_over, vec![cordon("old-0")]), rule::CAPACITY, "a cordon in flight counts");

    let starting = |s: &mut Snapshot| {
        node_mut(s, "new-0").taints.push(taint("ebs.csi.aws.com/agent-not-ready", TaintEffect::NoExecute));
    };
    let no_canary = Policy { canary: 0, ..Policy::default() };
    assert_eq!(verdict(&no_canary, &changed(world(), starting), vec![cordon("old-0")]), rule::CAPACITY);
    let agent_down = changed(world(), |s| pod_mut(s, "pod-kube-proxy-new-0").flags.ready = false);
    assert_eq!(verdict(&no_canary, &agent_down, vec![cordon("old-0")]), rule::CAPACITY, "Ready is not usable");
    let ungated = Policy { gate: Gate::None, ..no_canary };
    assert_eq!(verdict(&ungated, &agent_down, vec![cordon("old-0")]), NOTHING);
}

#[test]
fn capacity_nothing_is_cordoned_while_desired_is_being_changed() {
    let changing = changed(world(), |s| {
        s.in_flight.insert(ActionKey::Group(GROUP.into()), InFlight { since: now() });
    });
    assert_eq!(judged(&changing, cordon("old-0")), rule::CAPACITY);
}

#[test]
fn zone_each_keeps_its_share_but_one_or_a_replacement_for_what_is_in_hand() {
    // Zone b would be left with one of its two while the next replacement is on its way …
    assert_eq!(judged(&world(), cordon("old-1")), NOTHING);
    // … but not with none, though two replacements elsewhere keep up the group.
    let one_ill = |zone: &'static str| {
        changed(world(), |s| {
            add_node(s, "new-1", zone, "2", minute(2));
            group_mut(s).desired = 8;
            surge_is(s, &Ledger::settled(2));
            node_mut(s, "old-4").conditions.clear();
        })
    };
    assert_eq!(judged(&one_ill("c"), cordon("old-1")), rule::ZONE);
    assert_eq!(judged(&one_ill("c"), cordon("old-3")), NOTHING, "zone a has three");
    assert_eq!(judged(&one_ill("b"), cordon("old-1")), NOTHING, "its replacement is there");

    // A lopsided group: zone b has one of six. Its replacement there stands in for it.
    let lopsided = changed(world(), |s| {
        instance_mut(s, "i-old-4").zone = "a".into();
        instance_mut(s, "i-old-5").zone = "a".into();
        instance_mut(s, "i-old-2").zone = "a".into();
        instance_mut(s, "i-new-0").zone = "b".into();
    });
    assert_eq!(judged(&lopsided, cordon("old-1")), NOTHING);
    assert_eq!(judged(&lopsided, cordon("old-0")), NOTHING);
    let elsewhere = changed(lopsided, |s| instance_mut(s, "i-new-0").zone = "c".into());
    assert_eq!(judged(&elsewhere, cordon("old-1")), rule::ZONE);
}

#[test]
fn drains_stay_within_the_policy() {
    let roomy = |s: &mut Snapshot| {
        for n in 1..4 {
            add_node(s, &format!("new-{n}"), zone_of(n), "2", minute(2));
        }
        group_mut(s).desired = 10;
        surge_is(s, &Ledger::settled(4));
    };
    let two = || vec![cordon("old-0"), cordon("old-1")];
    let drains = |amount| Policy { drains: amount, ..Policy::default() };
    assert_eq!(verdict(&drains(Amount::Count(1)), &changed(world(), roomy), two()), rule::DRAINS);
    assert_eq!(verdict(&drains(Amount::Count(2)), &changed(world(), roomy), two()), NOTHING);
    let cluster = Policy { max_drains: Some(1), ..drains(Amount::Count(2)) };
    assert_eq!(verdict(&cluster, &changed(world(), roomy), two()), rule::DRAINS);

    let one_going = changed(changed(world(), roomy), |s| mark(s, "old-0", NodeMark::Draining));
    assert_eq!(judged(&one_going, cordon("old-1")), rule::DRAINS);
    let nothing_left = changed(one_going, |s| drop(s.pods.remove(&Uid::from("pod-web-0"))));
    assert_eq!(judged(&nothing_left, cordon("old-1")), NOTHING, "what has nothing left holds no slot");
    let taken = changed(changed(world(), roomy), |s| {
        mark(s, "old-0", NodeMark::Draining);
        instance_mut(s, "i-old-0").lifecycle = Lifecycle::Terminating;
    });
    assert_eq!(judged(&taken, cordon("old-1")), NOTHING, "what others have taken is no drain of ours");
}

#[test]
fn tags_only_ours_and_only_when_what_they_say_is_put_back() {
    let tag = |key: &str, value: &str| Action::TagGroup {
        group: GROUP.into(),
        tags: BTreeMap::from([(key.into(), value.into())]),
    };
    let untag = |key: &str| Action::UntagGroup { group: GROUP.into(), keys: BTreeSet::from([key.into()]) };
    assert_eq!(judged(&world(), tag(marks::TAG_ROTATION, ROTATION)), NOTHING);
    assert_eq!(judged(&world(), tag(marks::TAG_ROTATION, "another")), rule::TAGS);
    assert_eq!(judged(&world(), tag("team", "a")), rule::TAGS);
    assert_eq!(judged(&world(), untag("kubernetes.io/cluster/blue")), rule::TAGS);
    assert_eq!(judged(&world(), untag(marks::TAG_ROTATION)), NOTHING);

    assert_eq!(judged(&world(), untag(marks::TAG_SURGE)), rule::TAGS, "one of desired is still ours");
    let settled = changed(world(), |s| surge_is(s, &Ledger::settled(0)));
    assert_eq!(judged(&settled, untag(marks::TAG_SURGE)), NOTHING);
    assert_eq!(judged(&world(), untag(marks::TAG_SUSPENDED)), rule::TAGS, "AZRebalance is still suspended");
    let resumed = changed(world(), |s| group_mut(s).suspended.clear());
    assert_eq!(judged(&resumed, untag(marks::TAG_SUSPENDED)), NOTHING);
    let with_max = |max| changed(world(), |s| drop(group_mut(s).tags.insert(marks::TAG_MAX.into(), max)));
    assert_eq!(judged(&with_max("10".into()), untag(marks::TAG_MAX)), NOTHING);
    assert_eq!(judged(&with_max("8".into()), untag(marks::TAG_MAX)), rule::TAGS);
    let protected = |now| {
        changed(world(), |s| {
            group_mut(s).tags.insert(marks::TAG_PROTECTED.into(), "true".into());
            record_mut(s).protection.insert("i-old-0".into(), false);
            instance_mut(s, "i-old-0").protected = now;
        })
    };
    assert_eq!(judged(&protected(false), untag(marks::TAG_PROTECTED)), NOTHING);
    assert_eq!(judged(&protected(true), untag(marks::TAG_PROTECTED)), rule::TAGS);
}

#[test]
fn processes_only_what_we_suspended_is_resumed_and_never_onto_an_unbalanced_group() {
    let processes = |name: &str| BTreeSet::from([Process(name.into())]);
    let resume = |name| Action::Resume { group: GROUP.into(), processes: processes(name) };
    let suspend = |name| Action::Suspend { group: GROUP.into(), processes: processes(name) };
    assert_eq!(judged(&world(), resume(Process::AZ_REBALANCE)), NOTHING, "three, two and two");
    let lopsided = changed(world(), |s| instance_mut(s, "i-old-1").zone = "a".into());
    assert_eq!(judged(&lopsided, resume(Process::AZ_REBALANCE)), rule::PROCESSES);
    let emptied = changed(world(), |s| {
        s.instances.retain(|id, _| ["i-old-0", "i-old-3"].contains(&id.as_str()));
    });
    assert_eq!(judged(&emptied, resume(Process::AZ_REBALANCE)), rule::PROCESSES, "empty zones count");
    assert_eq!(judged(&world(), resume(Process::LAUNCH)), rule::PROCESSES, "somebody else suspended it");
    assert_eq!(judged(&world(), suspend(Process::AZ_REBALANCE)), NOTHING);
    assert_eq!(judged(&world(), suspend(Process::LAUNCH)), rule::PROCESSES, "no tag says so");

    let theirs = changed(world(), |s| drop(group_mut(s).tags.remove(marks::TAG_SUSPENDED)));
    let claim = Action::TagGroup {
        group: GROUP.into(),
        tags: BTreeMap::from([(marks::TAG_SUSPENDED.into(), Process::AZ_REBALANCE.into())]),
    };
    assert_eq!(judged(&theirs, claim.clone()), rule::PROCESSES, "it was suspended before us");
    assert_eq!(judged(&changed(theirs, |s| group_mut(s).suspended.clear()), claim), NOTHING);
}

#[test]
fn protection_is_recorded_before_it_changes_and_put_back_to_that() {
    let protect = |protected| Action::Protect { group: GROUP.into(), instances: vec!["i-old-0".into()], protected };
    let recorded = |former| changed(world(), |s| _ = record_mut(s).protection.insert("i-old-0".into(), former));
    assert_eq!(judged(&recorded(false), protect(true)), NOTHING);
    assert_eq!(judged(&recorded(false), protect(false)), NOTHING);
    assert_eq!(judged(&recorded(true), protect(false)), rule::PROTECTION, "it was protected before us");
    assert_eq!(judged(&world(), protect(true)), rule::PROTECTION);
    assert_eq!(judged(&world(), protect(false)), rule::PROTECTION);
    let elsewhere = changed(recorded(false), |s| instance_mut(s, "i-old-0").group = "batch".into());
    assert_eq!(judged(&elsewhere, protect(true)), rule::IDENTITY);
}

#[test]
fn target_another_is_recorded_only_as_the_policy_says_and_with_nothing_in_hand() {
    let policy = Policy { on_target_change: OnTargetChange::Recanary, ..Policy::default() };
    let moved = || changed(world(), |w| group_mut(w).target = Target::Template(template("3")));
    let record = |version: &str| Action::Record {
        skipped: BTreeMap::new(),
        failed: BTreeMap::new(),
        protection: BTreeMap::new(),
        targets: BTreeMap::from([(GROUP.into(), Target::Template(template(version)))]),
        ending: None,
    };
    assert_eq!(verdict(&policy, &moved(), vec![record("3")]), NOTHING);
    assert_eq!(judged(&moved(), record("3")), rule::TARGET, "the policy does not say so");
    assert_eq!(verdict(&policy, &moved(), vec![record("4")]), rule::TARGET, "the group launches another");
    let in_hand = changed(moved(), |w| mark(w, "old-1", NodeMark::Draining));
    assert_eq!(verdict(&policy, &in_hand, vec![record("3")]), rule::TARGET, "old-1 is in hand");
}

#[test]
fn every_rule_is_documented() {
    let safety = include_str!("../docs/safety.md");
    for rule in rule::ALL {
        assert!(safety.contains(&format!("| `{rule}` |")), "docs/safety.md does not tell of {rule}");
    }
}
