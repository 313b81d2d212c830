//! Stories of replacements that do not come, and of standstill: each ends, and says why.

use fastnode::model::*;
use fastnode::plan::Verdict;
use fastnode::policy::{Amount, OnStuck, Policy, Timeout};
use jiff::SignedDuration;

use crate::world::{Fate, World};
use crate::{ZONES, golden, policy};

#[test]
fn a_kept_failure_takes_the_room_of_its_surge_and_the_rest_is_named() {
    let policy = Policy { keep_failed: true, ..policy(1) };
    let mut world = World::new(policy).with_group("workers", &[("a", 2), ("b", 2)], 1);
    world.fates.insert(2, Fate::NeverJoins);
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Incomplete));
    golden(
        "kept-failure",
        "--keep-failed, and the second replacement never joins: it stays for a look, and with it the whole surge of 1. \
         Nothing else could make room, so the run does not wait for what will not come: the old nodes that are left \
         are named, and it ends with exit 5.",
        world,
    );
}

#[test]
fn without_a_surge_a_failed_replacement_stays_and_counts_as_unavailable() {
    let policy = Policy { unavailable: Amount::Count(1), failure_budget: 5, ..policy(0) };
    let mut world = World::new(policy).with_group("workers", &[("a", 2), ("b", 2)], 1);
    world.fates.insert(2, Fate::Restarts);
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Incomplete));
    golden(
        "no-surge-failed-replacement",
        "No surge, one node below desired, and aws-node restarts on the second replacement. A termination with \
         decrement would take the group's own desired, one without would launch the same again: it stays, cordoned and \
         named, and is the one that is unavailable. The others cannot go and are named.",
        world,
    );
}

#[test]
fn a_surge_that_is_never_launched_is_taken_back_without_touching_anything_in_service() {
    let mut world = World::new(policy(2)).with_group("workers", &ZONES, 1);
    world.no_capacity = true;
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Incomplete));
    assert!(world.touched.is_empty());
    golden(
        "no-capacity",
        "No instance is launched for ten minutes: the old nodes are given up, named, Launch is suspended so that nothing \
         comes after all, every instance is protected, and desired is lowered by what is missing. Nothing in service was \
         touched.",
        world,
    );
}

#[test]
fn capacity_that_comes_in_time_is_waited_for() {
    let mut world = World::new(policy(1)).with_group("workers", &[("a", 1), ("b", 1)], 1);
    world.no_capacity = true;
    world.at(300, |world| {
        world.tell("there is capacity again");
        world.no_capacity = false;
    });
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    golden("capacity-comes-late", "Nothing is launched for five minutes, then it is: the rotation goes on.", world);
}

#[test]
fn capacity_that_is_waited_for_for_ever_is_waited_for_by_name() {
    let policy = Policy { on_stuck: OnStuck::Wait, ..policy(1) };
    let mut world = World::new(policy).with_group("workers", &[("a", 1), ("b", 1)], 1);
    world.no_capacity = true;
    world.at(3600, |world| {
        world.tell("there is capacity again");
        world.no_capacity = false;
    });
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    golden(
        "capacity-waited-for",
        "Nothing is launched for an hour, under --on-stuck wait: named from the join time-out on, and not given up.",
        world,
    );
}

#[test]
fn a_replacement_that_registers_after_its_time_is_failed_all_the_same() {
    let join_timeout = Timeout::After(SignedDuration::from_mins(1));
    let policy = Policy { join_timeout, keep_failed: true, ..policy(2) };
    let mut world = World::new(policy).with_group("workers", &[("a", 2), ("b", 2)], 1);
    world.fates.insert(2, Fate::NeverJoins);
    world.at(150, |world| {
        let id = InstanceId::from("i-new-b2");
        world.join(&id, "new-b2", world.now);
        world.ready(&id, Fate::Joins);
        world.tell("new-b2 registers, long after its time");
    });
    world.begin();
    world.play();
    golden(
        "joins-late",
        "The second replacement registers long after the join time-out. It was called failed: it is cordoned and marked \
         as such, no pod is put on it, and it stays for a look (--keep-failed). One of the surge of two stays with it: \
         the old nodes take only the other one with them.",
        world,
    );
}

#[test]
fn a_replacement_is_known_by_its_provider_id_whatever_its_name() {
    let mut world = World::new(policy(1)).with_group("workers", &[("a", 1), ("b", 1)], 1);
    world.fates.insert(1, Fate::NeverJoins);
    world.at(45, |world| {
        let id = InstanceId::from("i-new-a1");
        world.join(&id, "ip-10-0-7-7.eu-central-1.compute.internal", world.now);
        world.ready(&id, Fate::Joins);
        world.tell("i-new-a1 registers as ip-10-0-7-7.eu-central-1.compute.internal");
    });
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    golden(
        "joins-under-another-name",
        "A replacement's Node has a name that nothing of its instance tells: it is joined by its providerID.",
        world,
    );
}

#[test]
fn a_replacement_that_goes_away_is_launched_again_by_its_group() {
    let mut world = World::new(policy(1)).with_group("workers", &[("a", 2), ("b", 1)], 1);
    world.at(100, |world| {
        world.tell("i-new-b1 fails its health check: the group takes it");
        world.change_instance("i-new-b1", |i| i.lifecycle = Lifecycle::Terminating);
        world.gone(&"i-new-b1".into());
    });
    world.promise = false;
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    golden(
        "replacement-goes-away",
        "The first replacement is taken by its group's health check, pods and all. No failure of the target's: the group \
         launches another, and nothing is drained until that one is functional.",
        world,
    );
}

#[test]
fn an_instance_that_does_not_go_is_not_waited_for_for_ever() {
    let terminate_timeout = Timeout::After(SignedDuration::from_mins(2));
    let mut world = World::new(Policy { terminate_timeout, ..policy(1) }).with_group("workers", &[("a", 2)], 1);
    world.linger = Some("i-workers-a2".into());
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Incomplete));
    golden(
        "termination-hangs",
        "The last instance hangs in Terminating:Wait, behind a lifecycle hook that nobody answers: after two minutes it \
         is named and no longer waited for.",
        world,
    );
}

#[test]
fn nodes_that_are_not_ready_go_first_and_their_wait_is_bounded() {
    let drain_timeout = Timeout::After(SignedDuration::from_mins(5));
    let mut world = World::new(Policy { drain_timeout, ..policy(2) }).with_group("workers", &[("a", 3)], 1);
    world.promise = false;
    world.not_ready("workers-a3");
    world.hanging = Some("workers-a3".into());
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Incomplete));
    golden(
        "not-ready-first",
        "An old node whose kubelet is gone serves nobody: it is drained first, with nothing to wait for but the canary. \
         Its pods never end, since no kubelet says so: after the drain time-out it is given up and named, and the others \
         are rotated. One of the surge of two stays in its place, since three nodes that serve are promised.",
        world,
    );
}

#[test]
fn a_rotation_that_ends_does_not_wait_for_a_budget_that_never_frees() {
    let mut world = World::new(Policy { on_stuck: OnStuck::Wait, ..policy(1) });
    world = world.with_group("workers", &[("a", 2), ("b", 2)], 1);
    world.add_pod("single", Some(&"workers-a1".into()), |_| {});
    world.budget("single", 1);
    world.fates.insert(1, Fate::NeverJoins);
    world.begin();
    assert_eq!(world.play(), Some(Verdict::CanaryFailed));
    assert!(world.touched.is_empty());
}

#[test]
fn a_server_that_sheds_load_is_told_apart_from_a_budget() {
    let mut world = World::new(policy(1)).with_group("workers", &[("a", 1), ("b", 1)], 1);
    let at = world.now;
    let refusal = fastnode::observe::Refusal {
        kind: fastnode::cluster::ErrorKind::Throttled,
        message: "the server has received too many requests".to_owned(),
        at,
        attempts: 1,
        retry_at: at + SignedDuration::from_secs(200),
    };
    let pods: Vec<Uid> = world.snapshot.pods.keys().cloned().collect();
    world.snapshot.refusals.extend(pods.into_iter().map(|uid| (uid, refusal.clone())));
    world.at(100, |world| {
        let policy = policy(1);
        let mut snapshot = world.snapshot.clone();
        snapshot.refresh(&policy);
        let plan = fastnode::plan::plan(&policy, &snapshot, world.now);
        let told: Vec<String> = plan.waits.iter().map(|wait| wait.reason.to_string()).collect();
        let named = |why: &String| why.starts_with("the API server to take the eviction of pod default/");
        assert!(told.iter().any(named) && !told.iter().any(|why| why.contains("budget")), "{told:?}");
    });
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
}
