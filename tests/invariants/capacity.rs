//! What has to serve while nodes drain: the canary, groups, zones, and how many drain at once.

use fastnode::invariants::rule;
use fastnode::model::*;
use fastnode::observe::{InFlight, Snapshot};
use fastnode::plan::ActionKey;
use fastnode::policy::{Amount, Gate, Policy};

use crate::worlds::*;
use crate::*;

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
