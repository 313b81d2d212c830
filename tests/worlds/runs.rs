//! The production controller on a simulated world: what a run of it is given, and what it tells.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses its own part; a runtime that cannot be has failed"
)]

use std::rc::Rc;

use fastnode::controller::{Ports, Settings};
use fastnode::event::Event;
use fastnode::policy::Policy;
use fastnode::sim::{self, SimCloud, SimCluster, Simulation};
use tokio::sync::mpsc;

pub fn ports(sim: &Simulation) -> Ports<SimCloud, SimCluster> {
    Ports { cloud: Rc::new(sim.cloud.clone()), cluster: Rc::new(sim.cluster.clone()), clock: sim.clock }
}

/// Of a run by `me`, outside the cluster, with the first seed.
pub fn settings(cluster: &str, policy: Policy) -> Settings {
    Settings {
        cluster: cluster.into(),
        policy,
        namespace: "kube-system".into(),
        identity: "me".into(),
        own_node: None,
        own_pod: None,
        seed: 1,
    }
}

/// All that is told until nobody tells anything more.
pub async fn all(mut events: mpsc::Receiver<Event>) -> Vec<Event> {
    let mut told = Vec::new();
    while let Some(event) = events.recv().await {
        told.push(event);
    }
    told
}

pub fn on_virtual_time<F: Future>(test: F) -> F::Output {
    tokio::task::LocalSet::new().block_on(&sim::runtime().unwrap(), test)
}
