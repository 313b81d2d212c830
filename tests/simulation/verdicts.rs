//! What a failed canary and an instance refresh keep from being touched, in groups of any size.

use fastnode::controller::surgeon::Fixes;
use fastnode::plan::Verdict;
use fastnode::sim::Scenario;
use serde_json::Value;

use crate::rotations::{Run, rotate_with};

/// Runs groups that are written down in TOML, with nobody looking into failures and with somebody.
fn runs(groups: &str) -> [Run; 2] {
    let text = format!("name = \"x\"\nabout = \"x\"\ncluster = \"x\"\n{groups}");
    let scenario = Scenario::parse(&text, "x").unwrap();
    [None, Some(Fixes::Suggest)].map(|fixes| rotate_with(fixes, (&scenario, &scenario.policy()), 1, &[]))
}

fn events<'a>(run: &'a Run, kind: &'a str) -> impl Iterator<Item = Value> + use<'a> {
    let all = run.events.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].take());
    all.filter(move |event| event["kind"] == kind)
}

#[test]
fn a_canary_fails_in_a_group_that_has_no_other_node_to_rotate() {
    let one = "[policy]\nsurge = \"1\"\n[[groups]]\nname = \"g\"\nnodes = 1\nzones = [\"us-west-2a\"]";
    let all = "[policy]\nsurge = \"2\"\ncanary = 2\n[[groups]]\nname = \"g\"\nnodes = 2\nzones = [\"us-west-2a\"]";
    for groups in [one, all] {
        let fault = "[[faults.restarts]]\ndaemonset = \"aws-node\"\nnode = 1\ntimes = 1";
        for run in runs(&format!("{groups}\n{fault}")) {
            let report = run.result.as_ref().unwrap();
            assert_eq!((report.outcome, report.nodes_rotated), (Verdict::CanaryFailed, 0), "{groups}");
            let rotated = events(&run, "node.selected").filter(|event| event["reason"] == "outdated").count();
            assert_eq!(rotated, 0, "{groups}");
        }
    }
}

#[test]
fn no_node_is_drained_once_the_canary_has_failed() {
    let groups = "[policy]\nsurge = \"0\"\nunavailable = \"2\"\ncanary = 1\n[[groups]]\nname = \"g\"\nnodes = 3\n\
                  zones = [\"us-west-2a\"]\n[[faults.never_joins]]\nlaunches = [1]";
    for run in runs(groups) {
        let report = run.result.as_ref().unwrap();
        assert_eq!((report.outcome, report.nodes_rotated), (Verdict::CanaryFailed, 1));
        assert_eq!(events(&run, "node.selected").count(), 1);
    }
}

#[test]
fn a_group_in_an_instance_refresh_is_left_alone_to_the_end() {
    let groups = "[[groups]]\nname = \"ours\"\nnodes = 2\nzones = [\"us-west-2a\"]\n[[groups]]\nname = \"theirs\"\n\
                  nodes = 2\nzones = [\"us-west-2a\"]\nrefreshing = true";
    for run in runs(groups) {
        let report = run.result.as_ref().unwrap();
        assert_eq!(report.nodes_rotated, 2);
        let touched = |kind| events(&run, kind).filter(|event| event["group"] == "theirs").count();
        let kinds = ["node.selected", "replacement.launching", "node.terminating"];
        assert_eq!(kinds.map(touched), [0, 0, 0]);
        assert_eq!(run.outdated.len(), 2, "{:?}", run.outdated);
    }
}
