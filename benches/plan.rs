//! How long the first plan of a big cluster takes: 5,000 nodes and 150,000 pods.
//!
//! `cargo bench --bench plan` prints, each as the median and the extremes of ten:
//!
//! - *taking in*: every fact of the cluster applied to an empty snapshot, which keeps its indices up (which pods are
//!   on which node, which budgets cover them, which of them may hold their node). Told for one fact.
//! - *from cold*: then nothing is derived yet. Everything a plan reads is derived from the records, planned on, and
//!   the plan is checked by the invariants: before a rotation, and as its first pass.
//! - *one pod*: a pod has changed; it is taken in, what it changes is derived, planned on and checked.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod big;

use std::collections::BTreeMap;
use std::hint::black_box;

use fastnode::cluster::Fact;
use fastnode::invariants;
use fastnode::model::Pod;
use fastnode::observe::{RotationRecord, Snapshot};
use fastnode::plan::plan;
use fastnode::policy::Policy;
use jiff::Timestamp;

use big::{observed, tell, timed};

const RUNS: usize = 10;

/// What the watches would tell of a cluster like this one.
fn facts(snapshot: &Snapshot) -> Vec<Fact> {
    let mut facts = Vec::new();
    facts.extend(snapshot.nodes.values().cloned().map(Fact::Node));
    facts.extend(snapshot.pods.values().map(|pod| Fact::Pod((**pod).clone())));
    facts.extend(snapshot.daemonsets.values().cloned().map(Fact::DaemonSet));
    facts.extend(snapshot.revisions.values().cloned().map(Fact::Revision));
    facts.extend(snapshot.budgets.values().cloned().map(Fact::Budget));
    facts.extend(snapshot.csi_nodes.values().cloned().map(Fact::CsiNode));
    facts.extend(snapshot.attachments.values().cloned().map(Fact::VolumeAttachment));
    facts
}

/// A rotation of everything, just begun.
fn record(snapshot: &Snapshot, now: Timestamp) -> RotationRecord {
    RotationRecord {
        id: "bench".into(),
        started: now,
        targets: snapshot.groups.iter().map(|(name, group)| (name.clone(), group.target.clone())).collect(),
        protection: BTreeMap::new(),
        skipped: BTreeMap::new(),
        failed: BTreeMap::new(),
        ending: None,
        mended: Default::default(),
    }
}

/// Refreshes, plans and checks.
fn pass(policy: &Policy, snapshot: &mut Snapshot, now: Timestamp) {
    snapshot.refresh(policy);
    let plan = black_box(plan(policy, snapshot, now));
    invariants::check(policy, snapshot, &plan, now).unwrap();
}

fn main() {
    let (mut snapshot, now) = observed(&big::scenario());
    let policy = Policy::default();
    println!("{} nodes, {} pods, {} budgets", snapshot.nodes.len(), snapshot.pods.len(), snapshot.budgets.len());

    let taken = (0..RUNS).map(|_| {
        let facts = facts(&snapshot);
        let (count, mut empty) = (facts.len() as u32, Snapshot::default());
        timed(|| facts.into_iter().for_each(|fact| empty.apply(fact))) / count
    });
    tell("taking in, for each fact", taken.collect());

    let cold = |snapshot: &mut Snapshot| {
        snapshot.reindex();
        timed(|| pass(&policy, snapshot, now))
    };
    tell("from cold, before a rotation", (0..RUNS).map(|_| cold(&mut snapshot)).collect());
    snapshot.rotation = Some(record(&snapshot, now).into());
    tell("from cold, a rotation's first pass", (0..RUNS).map(|_| cold(&mut snapshot)).collect());

    let pods: Vec<Pod> = snapshot.pods.values().step_by(150).map(|pod| (**pod).clone()).collect();
    let warm = pods.into_iter().map(|mut pod| {
        pod.flags.ready = !pod.flags.ready;
        timed(|| {
            snapshot.apply(Fact::Pod(pod));
            pass(&policy, &mut snapshot, now);
        })
    });
    tell("one pod has changed", warm.collect());
}
