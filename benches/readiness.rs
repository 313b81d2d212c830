//! How long it takes to judge one node among 5,000, and to diagnose 500 nodes with 15,000 pods.
//!
//! `cargo bench --bench readiness` prints, each as the median and the extremes of ten:
//!
//! - *judging*: one new node, which lacks nothing; which lacks a label that all 4,999 others have; whose containers
//!   were restarted, under `--restarts baseline`, where no other's were; where all others' were, none at its start.
//! - *suspects* and *diagnosing*: aws-node was restarted early on every node, and the logs of 20 pods have 400 lines
//!   of each of two runs.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod big;

use std::hint::black_box;
use std::sync::Arc;

use fastnode::cluster::Fact;
use fastnode::cluster::evidence::{LogLine, LogRun};
use fastnode::model::{ContainerState, GroupName, LastRun, Node, Pod};
use fastnode::observe::Snapshot;
use fastnode::policy::{Policy, Restarts};
use fastnode::readiness::diagnosis::{Case, Catalogue, Evidence, LogOf, Scope, diagnose, suspects};
use fastnode::readiness::judge;
use fastnode::sim::Scenario;
use jiff::{SignedDuration, Timestamp};

use big::{observed, tell, timed};

const RUNS: usize = 10;

/// A node of the largest group, made just now.
fn newcomer(snapshot: &mut Snapshot, now: Timestamp) -> Node {
    let size = |group: &GroupName| snapshot.instances_of(group).count();
    let largest = snapshot.groups.keys().max_by_key(|group| size(group)).unwrap();
    let mut node = snapshot.instances_of(largest).find_map(|i| snapshot.node_of(&i.id)).unwrap().clone();
    node.created = now;
    snapshot.apply(Fact::Node(node.clone()));
    node
}

fn judging(policy: &Policy, snapshot: &Snapshot, node: &Node, what: &str) {
    let times = (0..RUNS).map(|_| timed(|| drop(black_box(judge(policy, snapshot, node)))));
    tell(what, times.collect());
}

fn restart(pod: &mut Pod) {
    let at = |seconds| Some(pod.created + SignedDuration::from_secs(seconds));
    let run = LastRun { exit_code: 1, reason: "Error".into(), started: at(3), finished: at(15) };
    for container in pod.containers.iter_mut().filter(|c| !c.init) {
        container.restarts = 1;
        container.last = Some(run.clone());
    }
}

fn main() {
    let (mut snapshot, now) = observed(&big::scenario());
    let policy = Policy::default();
    let node = newcomer(&mut snapshot, now);
    println!("{} nodes, {} pods", snapshot.nodes.len(), snapshot.pods.len());
    judging(&policy, &snapshot, &node, "judging a node that lacks nothing");
    let mut bare = node.clone();
    bare.labels.remove("topology.kubernetes.io/zone");
    judging(&policy, &snapshot, &bare, "one that lacks a label all others have");
    let own: Vec<Pod> = snapshot.pods_on(&node.name).filter(|p| p.is_daemon()).cloned().collect();
    for mut pod in own {
        restart(&mut pod);
        snapshot.apply(Fact::Pod(pod));
    }
    let baseline = Policy { restarts: Restarts::Baseline, ..Policy::default() };
    judging(&baseline, &snapshot, &node, "one that restarted, others never");
    for pod in snapshot.pods.values_mut().filter(|pod| pod.is_daemon()) {
        let pod = Arc::make_mut(pod);
        restart(pod);
        for container in &mut pod.containers {
            container.state = ContainerState::Running(Some(pod.created + SignedDuration::from_hours(24)));
        }
    }
    snapshot.reindex();
    judging(&baseline, &snapshot, &node, "one that restarted, all others long after their start");

    let (mut snapshot, now) = observed(&Scenario::load("demo").unwrap());
    for pod in snapshot.pods.values_mut().filter(|pod| pod.key.name.starts_with("aws-node")) {
        restart(Arc::make_mut(pod));
    }
    snapshot.reindex();
    let mut evidence = Evidence::default();
    let found = suspects(&policy, &snapshot, &Scope::Policy, &evidence, now);
    let line = r#"{"level":"info","ts":"2026-11-23T12:02:37.118Z","caller":"ipamd/ipamd.go:600","msg":"DataStore has 12 addresses in use, 3 free, warm target 1"}"#;
    for pod in found.pods.iter().take(20) {
        for run in [LogRun::Previous, LogRun::Current] {
            let lines = vec![LogLine { time: now, text: line.into() }; 400];
            evidence.logs.insert(LogOf { pod: pod.pod.clone(), container: "main".into(), run }, lines);
        }
    }
    println!("{} nodes, {} pods, {} suspected", snapshot.nodes.len(), snapshot.pods.len(), found.pods.len());
    let times =
        (0..RUNS).map(|_| timed(|| drop(black_box(suspects(&policy, &snapshot, &Scope::Policy, &evidence, now)))));
    tell("suspects", times.collect());
    let times = (0..RUNS).map(|_| {
        timed(|| {
            let catalogue = Catalogue::built_in(None).unwrap();
            let case = Case { snapshot: &snapshot, suspects: &found, evidence: &evidence, now };
            assert!(!black_box(diagnose(&catalogue, case)).is_empty());
        })
    });
    tell("diagnosing, the signatures read", times.collect());
}
