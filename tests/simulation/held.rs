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
