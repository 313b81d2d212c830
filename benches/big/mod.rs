//! The clusters that the benchmarks run on, and how times are told.
#![allow(dead_code, reason = "each benchmark uses its own part")]

use std::rc::Rc;
use std::time::Duration;

use fastnode::controller::{Ports, Settings, observe};
use fastnode::observe::Snapshot;
use fastnode::policy::Policy;
use fastnode::sim::{self, Scenario, World};
use jiff::Timestamp;
use tokio::task::LocalSet;

/// The demo's cluster, ten times over: 5,000 nodes and 150,000 pods of workloads.
const TIMES: u32 = 10;

pub fn scenario() -> Scenario {
    let mut scenario = Scenario::load("demo").unwrap();
    for group in &mut scenario.groups {
        (group.nodes, group.min, group.max) =
            (group.nodes * TIMES, group.min * TIMES, group.max.map(|max| max * TIMES));
    }
    for workload in &mut scenario.workloads {
        workload.copies *= TIMES;
    }
    scenario
}

/// The cluster of a scenario, observed.
pub fn observed(scenario: &Scenario) -> (Snapshot, Timestamp) {
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
        let world = World::start(scenario, 0);
        let ports =
            Ports { cloud: Rc::new(world.cloud.clone()), cluster: Rc::new(world.cluster.clone()), clock: world.clock };
        let snapshot = observe(&ports, &settings).await.unwrap();
        (snapshot, world.clock.now())
    })
}

/// How long something takes.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the wall clock")]
pub fn timed(act: impl FnOnce()) -> Duration {
    let began = std::time::Instant::now();
    act();
    began.elapsed()
}

/// Median and extremes.
pub fn tell(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let (least, most) = (times[0], times[times.len() - 1]);
    println!("{what:<44} median {:>10.3?}  min {least:>10.3?}  max {most:>10.3?}", times[times.len() / 2]);
}
