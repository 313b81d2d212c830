//! A failed replacement ends the rotation as the policy says, however looking into it and writing it down go.

use fastnode::plan::Verdict;
use fastnode::policy::{Amount, Policy, Restarts, Surge};
use fastnode::sim::Scenario;

use super::{Fixes, Played, play_seed, real_by};

/// One group, where aws-node restarts on the new nodes up to the one of that number.
fn restarting(nodes: u32, to: u32, faults: &str) -> Scenario {
    let text = format!(
        "name = 'test'\nabout = 'test'\ncluster = 'test'\n\
         [[groups]]\nname = 'g'\nnodes = {nodes}\nzones = ['us-west-2a', 'us-west-2b', 'us-west-2c']\n\
         [[faults.restarts]]\ndaemonset = 'aws-node'\nnode = {to}\ntimes = 1\n\
         [faults]\n{faults}"
    );
    Scenario::parse(&text, "test.toml").unwrap()
}

fn suggesting(scenario: &Scenario, seed: u64, policy: &Policy) -> Played {
    play_seed(scenario, seed, policy.clone(), real_by(policy.clone(), Fixes::Suggest))
}

fn strict() -> Policy {
    Policy { restarts: Restarts::Zero, ..Policy::default() }
}

#[test]
fn a_canary_whose_failure_is_written_down_late_ends_the_rotation_all_the_same() {
    for faults in ["throttle = 0.2", "lost_answers = 0.2"] {
        for seed in [7, 17, 19, 32].into_iter().chain(0..5) {
            let played = suggesting(&restarting(4, 1, faults), seed, &strict());
            assert_eq!(played.report.outcome, Verdict::CanaryFailed, "{faults}, seed {seed}: {:?}", played.report);
            assert_eq!(played.report.nodes_rotated, 0, "{faults}, seed {seed}");
        }
    }
}

#[test]
fn a_kept_canary_whose_failure_is_written_down_late_is_not_waited_for_for_ever() {
    let policy = Policy { keep_failed: true, ..strict() };
    for seed in 0..5 {
        let played = suggesting(&restarting(4, 1, "lost_answers = 0.2"), seed, &policy);
        assert_eq!(played.report.outcome, Verdict::CanaryFailed, "seed {seed}: {:?}", played.report);
    }
}

#[test]
fn without_a_surge_a_failed_canary_is_looked_into_before_its_group_is_given_up() {
    let policy = Policy { surge: Surge::Fixed(Amount::Count(0)), unavailable: Amount::Count(1), ..strict() };
    let played = suggesting(&restarting(3, 1, ""), 0, &policy);
    assert_eq!(played.report.outcome, Verdict::CanaryFailed, "{:?}", played.report);
}
