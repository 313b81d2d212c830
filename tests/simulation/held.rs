//! What is held from the start, and what its group has not put into service yet.

use fastnode::plan::Verdict;
use fastnode::sim::Scenario;

use crate::rotations::{Run, rotate_by};

/// A rotation of three nodes of group g, with these lines about it.
fn rotate(lines: &str, seed: u64) -> Run {
    let text = format!(
        "name = \"held\"\nabout = \"held\"\ncluster = \"x\"\n[[groups]]\nname = \"g\"\nnodes = 3\n\
         zones = [\"us-west-2a\", \"us-west-2b\"]\n{lines}"
    );
    let scenario = Scenario::parse(&text, "held.toml").unwrap();
    rotate_by(&scenario, &scenario.policy(), seed, &[])
}

fn refused(lines: &str, why: &str) {
    let run = rotate(lines, 1);
    let refusal = run.result.map(|report| report.outcome).unwrap_err();
    assert!(refusal.starts_with("refused before anything") && refusal.contains(why), "{refusal}");
}

#[test]
fn a_managed_node_group_that_nobody_looks_into_is_refused_with_its_command() {
    let current = "[[groups]]\nname = \"own\"\nnodes = 2\noutdated = 0\nzones = [\"us-west-2a\"]\n";
    refused(&format!("managed_by = \"ng\"\n{current}"), "aws eks update-nodegroup-version");
}

#[test]
fn groups_with_a_suspended_process_are_refused_with_its_name() {
    refused("suspended = [\"Launch\"]\n", "Launch");
    refused("suspended = [\"Terminate\"]\n", "Terminate");
    let pods = "[[workloads]]\nname = \"w\"\nreplicas = 3\nempty_dir = true\n";
    refused(&format!("suspended = [\"Terminate\"]\n{pods}"), "Terminate");
}

#[test]
fn held_nodes_of_a_held_group_are_named_beside_one_that_is_rotated() {
    let pods = "[[workloads]]\nname = \"w\"\nreplicas = 3\nempty_dir = true\ngroups = [\"g\"]\n";
    let other = "[[groups]]\nname = \"own\"\nnodes = 2\nzones = [\"us-west-2a\"]\n";
    let run = rotate(&format!("suspended = [\"Terminate\"]\n{other}{pods}"), 1);
    let report = run.result.unwrap();
    assert_eq!((report.outcome, report.nodes_rotated, report.nodes_skipped.len()), (Verdict::Incomplete, 2, 3));
}

#[test]
fn a_failed_replacement_goes_only_once_its_group_has_it_in_service() {
    let faults = "[[faults.restarts]]\ndaemonset = \"aws-node\"\nnode = 1\ntimes = 1\n[faults]\nstale_reads = ";
    for (share, seed) in [("0.4", 9), ("0.2", 18)] {
        let run = rotate(&format!("{faults}{share}\n"), seed);
        assert_eq!(run.result.map(|report| report.outcome), Ok(Verdict::CanaryFailed), "seed {seed}");
        assert_eq!((run.verdict, run.outdated.len()), (vec![], 3), "seed {seed}");
    }
}

#[test]
fn a_failed_replacement_that_no_surge_takes_back_is_left_behind_by_name() {
    let policy = "[policy]\nsurge = \"0\"\nunavailable = \"2\"\n[[faults.never_joins]]\nlaunches = [2]\n";
    let run = rotate(policy, 1);
    let report = run.result.unwrap();
    assert_eq!((report.outcome, run.verdict), (Verdict::Incomplete, vec![]));
    let left: Vec<_> = report.left_behind.iter().map(|l| &**l).collect();
    assert!(left.len() == 1 && left[0].contains("a failed replacement that stays in its group"), "{left:?}");
}

#[test]
fn what_others_detach_is_left_alone_and_skipped_by_nobody() {
    let run = rotate("detaching = 1\n", 1);
    let report = run.result.unwrap();
    assert_eq!((report.outcome, report.nodes_skipped.len()), (Verdict::Done, 0), "{:?}", report.nodes_skipped);
    assert!(!run.events.iter().any(|line| line.contains("node.skipped")));
}

#[test]
fn lost_answers_and_refusals_on_the_records_first_write_are_outlasted_and_every_run_is_told_to_its_end() {
    for seed in 0..40 {
        let run = rotate("[faults]\nthrottle = 0.3\nlost_answers = 0.3\nlost_replies = 0.2\n", seed);
        let begun = run.events.iter().any(|line| line.contains("rotation.started"));
        let told = run.events.last().is_some_and(|line| line.contains("rotation.finished"));
        assert!(told || !begun, "seed {seed}: {:?}", run.result.map(|r| r.outcome));
        if let Err(why) = &run.result {
            assert!(!why.contains("configmaps"), "seed {seed}: {why}");
        }
    }
}

#[test]
fn after_a_scale_in_that_leaves_no_bound_none_is_named() {
    let run = rotate("[policy]\nsurge = \"1\"\n[[faults.scale]]\nat_s = 150.0\ngroup = \"g\"\nby = -1\n", 1);
    let report = run.result.unwrap();
    assert!(report.nodes_rotated > 0, "{report:?}");
    assert_eq!((report.lower_bound_s, &*report.bottleneck), (0.0, "not known"));
}
