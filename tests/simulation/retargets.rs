//! Templates that change while a rotation runs, named by number or found changed by what was launched.

use fastnode::plan::Verdict;
use fastnode::policy::{Amount, OnTargetChange, Policy, Surge};
use fastnode::sim::Scenario;

use crate::rotations::{Run, rotate_by};

/// The group's template is given another version while its nodes drain; the group names its version by number.
const NUMBERED: &str = r#"
name = "retarget"
about = "the group's template version is changed while nodes drain"
cluster = "x"
[[groups]]
name = "g"
nodes = 6
zones = ["us-west-2a", "us-west-2b", "us-west-2c"]
version = "number"
[[workloads]]
name = "web"
replicas = 12
[[faults.retarget]]
at_s = 100.0
group = "g"
"#;

fn numbered() -> Scenario {
    Scenario::parse(NUMBERED, "retargets.toml").unwrap()
}

/// A smaller group that names no number, whose template changes between the start and the first launch.
fn early(at_s: f64) -> Scenario {
    let mut scenario = numbered();
    let group = &mut scenario.groups[0];
    (group.nodes, group.version) = (3, "$Latest".to_owned());
    group.zones.truncate(2);
    scenario.workloads[0].replicas = 3;
    scenario.faults.retarget[0].at_s = at_s;
    scenario
}

fn run(scenario: &Scenario, policy: &Policy, seed: u64) -> Run {
    let mut run = rotate_by(scenario, policy, seed, &[]);
    // What was moved to replacements of the former target moves once more, by nature.
    run.verdict.retain(|v| !v.contains("twice"));
    run
}

#[test]
fn another_number_is_another_target() {
    let scenario = numbered();
    let usual = scenario.policy();
    let one = Policy { surge: Surge::Fixed(Amount::Count(1)), ..usual.clone() };
    let unavailable = Policy { surge: Surge::Fixed(Amount::Count(0)), unavailable: Amount::Count(1), ..usual.clone() };
    for policy in [usual, one, unavailable] {
        for seed in 1..=3 {
            let stopped = run(&scenario, &policy, seed);
            assert_eq!(stopped.result.as_ref().map(|r| r.outcome), Ok(Verdict::TargetChanged), "seed {seed}");
            assert_eq!((&stopped.verdict, &stopped.left_behind), (&vec![], &vec![]), "seed {seed}");
            let on = Policy { on_target_change: OnTargetChange::Recanary, ..policy.clone() };
            let done = run(&scenario, &on, seed);
            assert_eq!(done.result.as_ref().map(|r| r.outcome), Ok(Verdict::Done), "seed {seed}");
            assert!(done.verdict.is_empty() && done.outdated.is_empty(), "seed {seed}: {:?}", done.verdict);
        }
    }
}

#[test]
fn a_canary_that_another_target_launched_costs_no_old_node() {
    for (seed, at_s) in [(1, 0.5), (2, 1.9), (3, 4.0)] {
        let scenario = early(at_s);
        let policy = scenario.policy();
        let stopped = run(&scenario, &policy, seed);
        let report = stopped.result.as_ref().unwrap();
        assert_eq!((report.outcome, report.nodes_rotated, report.evictions), (Verdict::TargetChanged, 0, 0));
        assert_eq!(stopped.verdict, Vec::<String>::new());
        // Nothing has proved itself: its surge stays, which the next run takes for its own.
        let why = "1 of the surge cannot be given back: nothing that its recorded target launches works";
        assert!(report.left_behind.iter().any(|left| left.contains(why)), "{:?}", report.left_behind);
        let policy = Policy { on_target_change: OnTargetChange::Recanary, ..policy };
        let done = run(&scenario, &policy, seed);
        assert_eq!(done.result.as_ref().map(|r| r.outcome), Ok(Verdict::Done), "seed {seed}");
        assert!(done.verdict.is_empty() && done.outdated.is_empty(), "seed {seed}: {:?}", done.verdict);
        assert_eq!(done.left_behind, Vec::<String>::new());
    }
}
