//! What the tests of the simulator share.

use std::future::Future;
use std::time::Duration;

use fastnode::cloud::{Cloud, GroupState};
use fastnode::cluster::{Cluster, Fact};
use fastnode::model::{GroupName, Instance, Lifecycle};
use fastnode::observe::Snapshot;
use fastnode::sim::{self, Scenario, SimCloud, Simulation, World};
use tokio::sync::mpsc;

/// Runs a test on virtual time.
pub fn on_virtual_time<F: Future>(test: impl FnOnce() -> F) -> F::Output {
    let runtime = sim::runtime().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async { test().await })
}

/// The world of a scenario's text; `name`, `about` and `cluster` are added.
pub fn world(text: &str, seed: u64) -> Simulation {
    let text = format!("name='test'\nabout='test'\ncluster='test'\n{text}");
    World::start(&Scenario::parse(&text, "test.toml").unwrap(), seed)
}

/// The one group of a world.
pub async fn group(cloud: &SimCloud) -> GroupState {
    cloud.groups("test").await.unwrap().into_iter().next().unwrap()
}

/// Instances of the one group in a state.
pub async fn instances(cloud: &SimCloud, lifecycle: Lifecycle) -> Vec<Instance> {
    group(cloud).await.instances.into_iter().filter(|i| i.lifecycle == lifecycle).collect()
}

pub fn name() -> GroupName {
    GroupName::from("g")
}

pub async fn seconds(n: u64) {
    tokio::time::sleep(Duration::from_secs(n)).await;
}

/// A snapshot that follows the world's watch, and every fact it saw as a line.
pub struct Watch {
    pub snapshot: Snapshot,
    pub lines: Vec<String>,
    facts: mpsc::Receiver<Fact>,
}

impl Watch {
    pub async fn begin(sim: &Simulation) -> Self {
        let (sink, facts) = mpsc::channel(64);
        sim.cluster.watch(sink).await.unwrap();
        let mut watch = Self { snapshot: Snapshot::default(), lines: Vec::new(), facts };
        watch.follow(0).await;
        watch
    }

    /// Takes in what comes for so many seconds.
    pub async fn follow(&mut self, n: u64) {
        let end = tokio::time::Instant::now() + Duration::from_secs(n) + Duration::from_millis(50);
        while let Ok(Some(fact)) = tokio::time::timeout_at(end, self.facts.recv()).await {
            self.lines.push(serde_json::to_string(&fact).unwrap());
            self.snapshot.apply(fact);
        }
    }
}
