//! The planner's stories: each is played in an ideal world and compared with its telling in `tests/goldens/`.
//! `UPDATE_GOLDENS=1` writes them anew, for a person to read before they are committed.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails in a helper fails the test")]

mod failures;
#[path = "../worlds/group.rs"]
mod group;
mod load_balancers;
mod others;
mod targets;
mod world;

use std::fs;
use std::path::Path;

use fastnode::model::*;
use fastnode::plan::{Verdict, plan};
use fastnode::policy::{Amount, OnStuck, Policy, Surge, Timeout};
use jiff::SignedDuration;
use world::{Fate, World, template};

fn policy(surge: u32) -> Policy {
    Policy { surge: Surge::Fixed(Amount::Count(surge)), ..Policy::default() }
}

fn golden(name: &str, what: &str, world: World) {
    assert_eq!(world.avoidable, 0, "{name}: pods were moved twice that could have been moved once");
    let told = format!("# {}\n\n{what}\n\n```text\n{}```\n", name.replace('-', " "), world.story());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(format!("{name}.md"));
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        fs::write(&path, &told).unwrap();
    }
    let known = fs::read_to_string(&path).unwrap_or_default();
    if known != told {
        let at = known.lines().zip(told.lines()).position(|(a, b)| a != b).unwrap_or(0);
        let (a, b) = (known.lines().nth(at).unwrap_or(""), told.lines().nth(at).unwrap_or(""));
        panic!("{name} is told otherwise from line {} on:\n- {a}\n+ {b}\n\n{told}", at + 1);
    }
}

const ZONES: [(&str, u32); 3] = [("a", 2), ("b", 2), ("c", 2)];

#[test]
fn plain_rotation_with_a_surge_of_one() {
    let mut world = World::new(policy(1)).with_group("workers", &ZONES, 2);
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    golden(
        "plain-rotation",
        "Six nodes in three zones, surge 1, one by one: each drain follows a functional replacement in its zone, \
         and the last termination takes the surge with it.",
        world,
    );
}

#[test]
fn a_surge_of_three_ends_balanced() {
    let drains = Amount::Count(3);
    let zones = [("a", 3), ("b", 3), ("c", 3)];
    let mut world = World::new(Policy { drains, ..policy(3) }).with_group("workers", &zones, 1);
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    golden(
        "surge-of-three",
        "Nine nodes, surge 3, three drains at once: one canary, then all three, no batch barrier, and three \
         decrements one at a time at the end.",
        world,
    );
}

#[test]
fn unavailable_one_without_surge_launches_nothing_extra() {
    let policy = Policy { unavailable: Amount::Count(1), ..policy(0) };
    let mut world = World::new(policy).with_group("workers", &ZONES, 2);
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    golden(
        "unavailable-one",
        "No surge, one node below desired: drain first, terminate without decrement, wait for the replacement. \
         The first replacement is the canary.",
        world,
    );
}

#[test]
fn percentages_are_of_the_groups_own_desired() {
    let policy = Policy {
        surge: Surge::Fixed(Amount::Percent(25)),
        drains: Amount::Percent(50),
        unavailable: Amount::Percent(15),
        ..Policy::default()
    };
    let mut world = World::new(policy).with_group("workers", &[("a", 4), ("b", 4)], 1);
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    golden(
        "percentages",
        "Eight nodes: a surge of 25% is 2, drains of 50% are 4, and 15% unavailable, rounded down, is 1.",
        world,
    );
}

#[test]
fn a_canary_that_never_joins_ends_the_rotation_with_no_old_node_touched() {
    let mut world = World::new(policy(2)).with_group("workers", &ZONES, 2);
    world.fates.insert(1, Fate::NeverJoins);
    world.begin();
    assert_eq!(world.play(), Some(Verdict::CanaryFailed));
    assert!(world.touched.is_empty());
    golden(
        "canary-never-joins",
        "The canary's Node never registers: it is terminated with its surge, everything is put back, and no \
         old node was cordoned.",
        world,
    );
}

#[test]
fn a_canary_whose_daemonset_restarts_ends_the_rotation() {
    let mut world = World::new(policy(1)).with_group("workers", &ZONES, 2);
    world.fates.insert(1, Fate::Restarts);
    world.begin();
    assert_eq!(world.play(), Some(Verdict::CanaryFailed));
    assert!(world.touched.is_empty());
    golden(
        "canary-restarts",
        "aws-node restarts on the canary: Ready is not functional. No wait cures it: at once it is cordoned, \
         drained and given back, and no old node was cordoned.",
        world,
    );
}

#[test]
fn a_failed_replacement_within_the_failure_budget_is_replaced() {
    let mut world = World::new(policy(1)).with_group("workers", &[("a", 2), ("b", 2)], 1);
    world.fates.insert(3, Fate::NeverJoins);
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    golden(
        "third-replacement-fails",
        "The third replacement never joins. It goes with its surge, the surge is raised again, and the \
         rotation goes on: one failure is within the failure budget of two.",
        world,
    );
}

#[test]
fn the_second_failure_after_the_canary_stops_the_rotation() {
    let mut world = World::new(policy(1)).with_group("workers", &[("a", 3), ("b", 3)], 1);
    world.fates.extend([(2, Fate::NeverJoins), (4, Fate::NeverJoins)]);
    world.begin();
    assert_eq!(world.play(), Some(Verdict::FailureBudget));
    golden(
        "failure-budget",
        "Two replacements fail after the canary: nothing new is begun and what was changed is put back.",
        world,
    );
}

#[test]
fn a_node_whose_budget_never_frees_is_skipped_and_never_cordoned() {
    let mut world = World::new(policy(1)).with_group("workers", &[("a", 2), ("b", 2)], 1);
    world.add_pod("single", Some(&"workers-a1".into()), |_| {});
    world.budget("single", 1);
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Incomplete));
    assert!(!world.touched.contains(&NodeName::from("workers-a1")));
    golden(
        "budget-never-frees",
        "One replica, and a budget that wants one healthy: its node is named and left alone, the others are \
         rotated, exit 5.",
        world,
    );
}

#[test]
fn a_pod_under_two_budgets_holds_its_node() {
    let mut world = World::new(policy(1)).with_group("workers", &[("a", 1), ("b", 1)], 1);
    world.add_pod("db", Some(&"workers-b1".into()), |_| {});
    world.add_pod("db", Some(&"workers-b1".into()), |_| {});
    world.budget_named("one", "db", 1);
    world.budget_named("two", "db", 0);
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Incomplete));
    golden(
        "two-budgets",
        "Two budgets cover one pod: its eviction would be answered 500 for ever, so its node is left alone.",
        world,
    );
}

#[test]
fn nodes_that_share_a_tight_budget_do_not_wait_for_each_other_while_free_ones_could_go() {
    let policy = Policy { drains: Amount::Count(2), ..policy(4) };
    let mut world = World::new(policy).with_group("workers", &[("a", 4)], 1);
    for node in ["workers-a1", "workers-a2"] {
        for _ in 0..2 {
            world.add_pod("queue", Some(&node.into()), |_| {});
        }
    }
    world.budget("queue", 3);
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    golden(
        "tight-budget",
        "a1 and a2 share a budget that lets one pod go at a time. While a1 drains, a node that does not need that \
         budget takes the other slot.",
        world,
    );
}

#[test]
fn a_drain_that_runs_out_of_time_skips_its_node() {
    let drain_timeout = Timeout::After(SignedDuration::from_mins(3));
    let mut world = World::new(Policy { drain_timeout, ..policy(1) }).with_group("workers", &[("a", 2), ("b", 2)], 1);
    world.budget("web", 3);
    world.sick(50, 400);
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Incomplete));
    golden(
        "drain-time-out",
        "A pod of the same budget falls sick, so nothing may be evicted: after three minutes the node is given up, uncordoned \
         and named, and the rotation goes on with the others.",
        world,
    );
}

#[test]
fn a_drain_that_runs_out_of_time_may_stop_the_rotation() {
    let drain_timeout = Timeout::After(SignedDuration::from_mins(3));
    let policy = Policy { drain_timeout, on_stuck: OnStuck::Stop, ..policy(1) };
    let mut world = World::new(policy).with_group("workers", &[("a", 2), ("b", 2)], 1);
    world.budget("web", 3);
    world.sick(50, 400);
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Stuck));
    golden(
        "drain-time-out-stops",
        "The same under --on-stuck stop: nothing new is begun, the node in hand is let go, and one more old node goes \
         with the surge once the budget frees.",
        world,
    );
}

#[test]
fn pods_that_opt_out_hold_their_nodes() {
    let mut world = World::new(policy(1)).with_group("workers", &[("a", 3), ("b", 3)], 1);
    world.add_pod("batch", Some(&"workers-a1".into()), |p| p.flags.not_safe_to_evict = true);
    world.add_pod("cache", Some(&"workers-a2".into()), |p| p.flags.empty_dir = true);
    world.add_pod("bare", Some(&"workers-b1".into()), |p| p.owner = None);
    world.add_pod("agent", Some(&"workers-b2".into()), |p| p.tolerates_cordon = true);
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Incomplete));
    golden(
        "opt-outs",
        "An opt-out, emptyDir data, a bare pod and a blanket toleration: four nodes are held and named with the flag \
         that overrides it; the others are rotated.",
        world,
    );
}

#[test]
fn groups_of_other_services_are_never_touched() {
    let named = ["managed", "operated", "refreshing", "weighted"];
    let mut world = World::new(policy(1)).with_group("workers", &[("a", 1)], 1);
    for name in named {
        world = world.with_group(name, &[("a", 1)], 1);
    }
    world.change_group("managed", |g| g.managed_by = Some("ng-1".into()));
    world.change_group("operated", |g| g.operator = Some("batch.amazonaws.com".into()));
    // As the call that asks for it tells: readings of the groups do not.
    world.snapshot.change_group(&"refreshing".into(), |g| g.refreshing = true);
    world.change_group("weighted", |g| g.weighted = true);
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Incomplete));
    for name in named {
        assert!(!world.touched.contains(&NodeName::from(format!("{name}-a1"))), "{name}");
    }
    golden(
        "not-ours",
        "Groups that a managed node group, another service or an instance refresh renews, and one that counts in \
         weights: each is named with its reason and left as it is, the fifth is rotated.",
        world,
    );
}

#[test]
fn a_managed_node_group_is_never_touched() {
    let mut world = World::new(policy(1)).with_group("managed", &[("a", 2)], 1).with_group("workers", &[("a", 1)], 1);
    world.change_group("managed", |g| g.managed_by = Some("managed".into()));
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    golden(
        "managed-node-group",
        "A group that an EKS managed node group owns is skipped with the command that updates it.",
        world,
    );
}

#[test]
fn a_maximum_in_the_way_is_raised_only_if_asked() {
    let mut world = World::new(policy(1)).with_group("workers", &[("a", 2)], 1);
    world.change_group("workers", |g| g.max = 2);
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Incomplete));
    world.tell("the same with --raise-max");
    world.policy.raise_max = true;
    assert_eq!(world.play(), Some(Verdict::Done));
    golden(
        "maximum",
        "Desired is the maximum: without --raise-max nothing can be done; with it, it is raised and put back.",
        world,
    );
}

#[test]
fn an_override_is_judged_by_its_own_template() {
    let mut world = World::new(policy(1)).with_group("workers", &[("a", 3)], 1);
    world.change_group("workers", |g| {
        let of = |id: &str, version: &str| TemplateRef {
            id: id.into(),
            version: version.into(),
            resolved: Some(version.into()),
            image: None,
        };
        let arm = Override { instance_type: Some("m6g.large".into()), template: Some(of("lt-arm", "9")) };
        let intel = Override { instance_type: Some("m5.large".into()), template: None };
        g.target = Target::Mixed { base: of("lt-1", "4"), overrides: vec![intel, arm] };
    });
    world.change_instance("i-workers-a2", |i| {
        i.instance_type = "m6g.large".into();
        i.source = LaunchSource::Template { id: "lt-arm".into(), version: "9".into() };
    });
    world.change_instance("i-workers-a3", |i| i.instance_type = "t3.large".into());
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    assert!(!world.touched.contains(&NodeName::from("workers-a2")));
    golden(
        "mixed-instances",
        "Three types under a mixed-instances policy: one behind its template, one on its override's own template, \
         one of a type that is not launched any more.",
        world,
    );
}

#[test]
fn a_target_that_moves_ends_the_rotation() {
    let mut world = World::new(policy(2)).with_group("workers", &[("a", 3), ("b", 3)], 1);
    targets::moves_at(&mut world, 130);
    world.begin();
    assert_eq!(world.play(), Some(Verdict::TargetChanged));
    golden(
        "target-moves",
        "$Latest moves in the middle: nothing is terminated without decrement any more, since the group would launch \
         the new version uncanaried. The surge is given back and the run ends, resumable.",
        world,
    );
}

#[test]
fn instances_in_other_hands_are_left_alone_and_named() {
    let mut world = World::new(policy(1)).with_group("workers", &[("a", 3), ("b", 2)], 1);
    world.promise = false;
    world.change_instance("i-workers-a1", |i| i.protected = true);
    world.change_instance("i-workers-a2", |i| i.lifecycle = Lifecycle::Standby);
    world.change_instance("i-workers-b1", |i| i.lifecycle = Lifecycle::Warmed);
    world.change_group("workers", |g| g.desired = 3);
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Incomplete));
    for untouched in ["workers-a1", "workers-a2", "workers-b1"] {
        assert!(!world.touched.contains(&NodeName::from(untouched)), "{untouched}");
    }
    golden(
        "other-hands",
        "A protected instance, one in Standby, one in the warm pool: named, in no count, and left alone.",
        world,
    );
}

#[test]
fn only_an_outdated_instance_in_standby_is_unfinished_business() {
    for (version, verdict) in [("4", Verdict::Done), ("3", Verdict::Incomplete)] {
        let mut world = World::new(policy(1)).with_group("workers", &[("a", 3)], 1);
        world.promise = false;
        world.change_instance("i-workers-a2", |i| {
            i.lifecycle = Lifecycle::Standby;
            i.source = LaunchSource::Template { id: "lt-1".into(), version: version.into() };
        });
        world.change_group("workers", |g| g.desired -= 1);
        world.begin();
        assert_eq!(world.play(), Some(verdict), "version {version}");
    }
}

#[test]
fn a_crash_between_step_and_fold_is_settled_by_what_the_world_shows() {
    let mut world = World::new(policy(1)).with_group("workers", &[("a", 2), ("b", 2)], 1);
    world.begin();
    world.crash_at = Some("set desired");
    assert_eq!(world.play(), None);
    world.crash_at = Some("with decrement");
    assert_eq!(world.play(), None);
    assert_eq!(world.play(), Some(Verdict::Done));
    golden(
        "crash-between-step-and-fold",
        "fastnode dies after desired was raised and again after the decrement, each time before its \
         ledger was folded. The next run finds both applied, raises nothing twice and lowers nothing twice.",
        world,
    );
}

#[test]
fn nothing_to_do_writes_nothing() {
    let mut world = World::new(policy(1)).with_group("workers", &ZONES, 1);
    world.change_group("workers", |g| g.target = template("3"));
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    golden("nothing-to-do", "Every node is on the target: no action at all.", world);
}

#[test]
fn a_group_that_cannot_end_balanced_keeps_azrebalance_suspended() {
    let mut world = World::new(policy(1)).with_group("workers", &[("a", 5), ("b", 1)], 1);
    // The pods of a hold their nodes: nothing there can be drained.
    for n in 1..=5 {
        let node = format!("workers-a{n}");
        world.add_pod("bare", Some(&node.as_str().into()), |p| p.owner = None);
    }
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Incomplete));
    golden(
        "unbalanced-end",
        "Five nodes of one zone are held, one of the other is rotated: resumed, AZRebalance would terminate \
         undrained nodes, so it stays suspended, tagged and named.",
        world,
    );
}

#[test]
fn without_a_rotation_the_plan_only_shows() {
    let mut world = World::new(policy(1)).with_group("workers", &ZONES, 1);
    world.snapshot.refresh(&world.policy);
    let plan = plan(&world.policy, &world.snapshot, world.now);
    assert!(plan.actions.is_empty() && plan.verdict.is_none());
    assert_eq!(plan.progress[&GroupName::from("workers")].outdated, 6);
}

#[test]
fn pods_bound_to_a_full_zone_hold_their_node() {
    let mut world = World::new(policy(1)).with_group("workers", &[("a", 2), ("b", 2)], 1);
    for node in ["workers-b1", "workers-b2"] {
        world.add_pod("db", Some(&node.into()), |p| {
            p.flags.claims = true;
            p.cpu = 3_000;
        });
    }
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Incomplete));
    golden(
        "bound-to-a-full-zone",
        "Two pods with volumes of zone b fill both its nodes. Replacements come to zone a, so neither can go: \
         both are given up before they are touched, and the others are rotated.",
        world,
    );
}
