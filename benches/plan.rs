//! How long the first plan of a big cluster takes: nothing derived yet, 5,000 nodes and 150,000 pods.
//!
//! `cargo bench --bench plan` prints the median and the extremes of ten, each from a snapshot whose derived
//! state was thrown away, and then of a pass in which one pod has changed.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;

use fastnode::cluster::Fact;
use fastnode::controller::{Ports, Settings, observe};
use fastnode::observe::Snapshot;
use fastnode::plan::plan;
use fastnode::policy::Policy;
use fastnode::sim::{self, Scenario, World};
use jiff::Timestamp;
use tokio::task::LocalSet;

/// The demo's cluster, ten times over.
const TIMES: u32 = 10;
const RUNS: usize = 10;

fn big() -> (Snapshot, Timestamp) {
    let mut scenario = Scenario::load("demo").unwrap();
    for group in &mut scenario.groups {
        (group.nodes, group.min, group.max) =
            (group.nodes * TIMES, group.min * TIMES, group.max.map(|max| max * TIMES));
    }
    for workload in &mut scenario.workloads {
        workload.copies *= TIMES;
    }
    let settings = Settings {
        cluster: scenario.cluster.as_str().into(),
        policy: Policy::default(),
        namespace: "kube-system".into(),
        identity: "bench".into(),
        own_node: None,
        own_pod: None,
        seed: 0,
    };
    LocalSet::new().block_on(&sim::runtime().unwrap(), async {
        let world = World::start(&scenario, 0);
        let ports =
            Ports { cloud: Rc::new(world.cloud.clone()), cluster: Rc::new(world.cluster.clone()), clock: world.clock };
        let snapshot = observe(&ports, &settings).await.unwrap();
        (snapshot, world.clock.now())
    })
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the wall clock")]
fn timed(act: impl FnOnce()) -> Duration {
    let began = std::time::Instant::now();
    act();
    began.elapsed()
}

fn tell(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let (least, most) = (times[0], times[times.len() - 1]);
    println!("{what:<44} median {:>10.3?}  min {least:>10.3?}  max {most:>10.3?}", times[times.len() / 2]);
}

fn main() {
    let (mut snapshot, now) = big();
    let policy = Policy::default();
    println!("{} nodes, {} pods", snapshot.nodes.len(), snapshot.pods.len());
    let cold = (0..RUNS).map(|_| {
        snapshot.reindex();
        timed(|| {
            snapshot.refresh(&policy);
            _ = black_box(plan(&policy, &snapshot, now));
        })
    });
    tell("plan from cold", cold.collect());

    let pods: Vec<_> = snapshot.pods.values().take(1000).cloned().collect();
    let warm = pods.into_iter().map(|mut pod| {
        pod.flags.ready = !pod.flags.ready;
        timed(|| {
            snapshot.apply(Fact::Pod(pod));
            snapshot.refresh(&policy);
            _ = black_box(plan(&policy, &snapshot, now));
        })
    });
    tell("a changed pod, taken in and planned again", warm.collect());
}
