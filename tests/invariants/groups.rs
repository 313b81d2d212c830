//! What is changed of a group: desired by the ledger, limits, tags, processes, protection, the target.

use std::collections::{BTreeMap, BTreeSet};

use fastnode::invariants::rule;
use fastnode::model::*;
use fastnode::plan::Action;
use fastnode::policy::{Amount, OnTargetChange, Policy, Surge};

use crate::worlds::*;
use crate::*;

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
