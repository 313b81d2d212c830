//! Stories of what others have set or do at the same time: kept, respected, put back.

use fastnode::model::*;
use fastnode::plan::Verdict;
use fastnode::policy::{OnStuck, Policy};

use crate::world::World;
use crate::{golden, policy};

#[test]
fn others_scale_the_group_at_the_same_time() {
    let mut world = World::new(policy(1)).with_group("workers", &[("a", 2), ("b", 2)], 1);
    world.at(60, |world| {
        world.change_group("workers", |g| g.desired += 2);
        world.tell("somebody raises desired by 2");
    });
    world.promise = false;
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    assert_eq!(world.snapshot.groups[&GroupName::from("workers")].desired, 6);
    golden(
        "somebody-scales",
        "Somebody raises desired from 5 to 7 in the middle. The group's own desired is the current one less our surge: \
         6 from there on, and 6 at the end.",
        world,
    );
}

#[test]
fn former_protection_is_restored() {
    let mut world = World::new(policy(1)).with_group("workers", &[("a", 2), ("b", 1)], 1);
    world.change_group("workers", |g| g.target = template_of_group());
    world.change_instance("i-workers-a2", |i| {
        i.protected = true;
        i.source = LaunchSource::Template { id: "lt-1".into(), version: "4".into() };
    });
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    assert!(world.snapshot.instances[&InstanceId::from("i-workers-a2")].protected);
    golden(
        "protection-restored",
        "Somebody protects a2, which is on the target. For the decrement at the end every other instance is protected, \
         what was before is written down first, and put back: a2 stays protected, the others are not.",
        world,
    );
}

fn template_of_group() -> Target {
    crate::world::template("4")
}

#[test]
fn a_budget_that_never_frees_is_waited_for_if_asked() {
    let policy = Policy { on_stuck: OnStuck::Wait, ..policy(1) };
    let mut world = World::new(policy).with_group("workers", &[("a", 2), ("b", 2)], 1);
    world.add_pod("single", Some(&"workers-a1".into()), |_| {});
    world.budget("single", 1);
    world.at(3600, |world| {
        world.tell("somebody adds a replica");
        world.add_pod("single", Some(&"workers-a1".into()), |_| {});
    });
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    golden(
        "budget-never-frees-wait",
        "One replica under a budget that wants one, and --on-stuck wait: the others are rotated, then its node is waited \
         for, named, with no surge standing by. Once the budget frees, it is rotated as well.",
        world,
    );
}

#[test]
fn a_budget_that_never_frees_stops_the_rotation_if_asked() {
    let policy = Policy { on_stuck: OnStuck::Stop, ..policy(1) };
    let mut world = World::new(policy).with_group("workers", &[("a", 2), ("b", 2)], 1);
    world.at(80, |world| {
        world.tell("somebody deploys one replica with a budget that wants one, onto b2");
        world.add_pod("single", Some(&"workers-b2".into()), |_| {});
        world.budget("single", 1);
    });
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Stuck));
    golden(
        "budget-never-frees-stop",
        "One replica under a budget that wants one appears in the middle, under --on-stuck stop: nothing new is begun, the surge is given back, exit 4. \
         (Known before the first act, it is refused, exit 3.)",
        world,
    );
}

#[test]
fn a_warm_pool_that_takes_instances_back_keeps_its_group_as_it_is() {
    let mut world = World::new(policy(1)).with_group("pooled", &[("a", 2)], 1).with_group("workers", &[("a", 1)], 1);
    world.change_group("pooled", |g| (g.warm_pool, g.reuses) = (true, true));
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Incomplete));
    assert!(!world.touched.contains(&NodeName::from("pooled-a1")));
    golden(
        "warm-pool-reuses",
        "A warm pool with ReuseOnScaleIn would take a drained node back and hand it out again. The group is left alone \
         and named, with what to switch off; the other one is rotated.",
        world,
    );
}

#[test]
fn a_group_whose_launches_somebody_has_suspended_is_left_alone() {
    let mut world = World::new(policy(1)).with_group("frozen", &[("a", 2)], 1).with_group("workers", &[("a", 1)], 1);
    world.change_group("frozen", |g| {
        g.suspended.insert(Process(Process::LAUNCH.into()));
    });
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Incomplete));
    assert!(!world.touched.contains(&NodeName::from("frozen-a1")));
    golden(
        "launches-suspended",
        "Somebody has suspended Launch in a group: what is terminated there would not come back. The group is left \
         alone and named, with what to do; the other one is rotated.",
        world,
    );
}

#[test]
fn somebody_lowers_desired_below_the_minimum_and_our_surge() {
    let mut world = World::new(policy(2)).with_group("workers", &[("a", 2), ("b", 2)], 1);
    world.change_group("workers", |g| g.min = 4);
    world.at(60, |world| {
        world.change_group("workers", |g| g.desired -= 1);
        world.tell("somebody lowers desired by 1");
    });
    world.promise = false;
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Incomplete));
    golden(
        "desired-sinks-to-the-minimum",
        "Four nodes, minimum 4, surge 2. Somebody lowers desired in the middle: whose instance that was cannot be \
         told, for less our surge the group would be below its minimum. What is above the minimum is given back, the \
         tag keeps the rest, and the group is named.",
        world,
    );
}

#[test]
fn a_functional_replacement_whose_node_goes_before_its_instance_has_not_failed_to_join() {
    let join_timeout = fastnode::policy::Timeout::After(jiff::SignedDuration::from_secs(100));
    let policy = Policy { join_timeout, ..policy(1) };
    let mut world = World::new(policy).with_group("workers", &[("a", 2), ("b", 2)], 1);
    world.at(150, |world| {
        world.tell("somebody takes i-new-a1: its Node goes first, long after its launch");
        let node = world.snapshot.node_of(&"i-new-a1".into()).unwrap().name.clone();
        let pods: Vec<Uid> = world.snapshot.pods_on(&node).map(|p| p.uid.clone()).collect();
        pods.into_iter().for_each(|uid| world.snapshot.apply(fastnode::cluster::Fact::PodGone(uid)));
        world.snapshot.apply(fastnode::cluster::Fact::NodeGone(node));
    });
    world.at(170, |world| world.gone(&"i-new-a1".into()));
    world.promise = false;
    world.begin();
    let verdict = world.play();
    assert!(world.snapshot.rotation.as_ref().unwrap().failed.is_empty(), "{}", world.story());
    assert_eq!(verdict, Some(Verdict::Done));
}
