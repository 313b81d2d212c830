//! What a rotation takes of the controller: 5,000 nodes and 150,000 pods in the simulator.
//!
//! `cargo bench --bench rotation` lets the production controller rotate the demo's cluster, ten times over, on the
//! simulator, for so many facts of the watches (the first argument, 100,000 unless told), and prints what it took
//! for each: observing, planning, checking, executing and telling together. The first list, which is there before
//! a rotation begins, is left out, and so is what the simulator itself takes; what carries facts and calls between
//! the two is counted as ours. Time is the processor's where the system tells it, so that others' load does not
//! count.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod big;

use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use fastnode::controller::{Interrupt, Ports, Settings, rotate};
use fastnode::policy::{Amount, Policy};
use fastnode::sim::{self, Simulation, World};
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

/// Nodes of a group drained at once, so that there is much to follow.
const DRAINS: u32 = 10;

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the wall clock")]
fn wall() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// This thread's time on a processor; the wall clock's where the system does not tell it.
fn processor() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|told| told.split_whitespace().next()?.parse().ok());
    nanos.map_or_else(wall, Duration::from_nanos)
}

/// Where a measurement stands.
struct Mark {
    facts: u64,
    wall: Duration,
    processor: Duration,
    simulator: Duration,
}

impl Mark {
    fn set(simulation: &Simulation) -> Self {
        let (facts, simulator) = (simulation.facts(), simulation.spent());
        Self { facts, wall: wall(), processor: processor(), simulator }
    }
}

async fn run(facts: u64) {
    let scenario = big::scenario();
    let nodes: u32 = scenario.groups.iter().map(|g| g.nodes).sum();
    let simulation = World::start(&scenario, 0);
    let settings = Settings {
        cluster: scenario.cluster.as_str().into(),
        policy: Policy { drains: Amount::Count(DRAINS), ..Policy::default() },
        namespace: "kube-system".into(),
        identity: "bench".into(),
        own_node: None,
        own_pod: None,
        seed: 0,
    };
    let ports = Ports {
        cloud: Rc::new(simulation.cloud.clone()),
        cluster: Rc::new(simulation.cluster.clone()),
        clock: simulation.clock,
    };
    let (sink, mut events) = mpsc::channel(1024);
    let (stop, interrupt) = watch::channel(None);
    let mut begun = None;
    let begin = async |_: &_, _: &_, _: &_| {
        simulation.measure(wall);
        begun = Some(Mark::set(&simulation));
        true
    };
    let rotation = rotate(ports, settings, begin, sink, interrupt);
    let enough = async {
        while simulation.facts() < facts {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        _ = stop.send(Some(Interrupt::Int));
        std::future::pending::<()>().await;
    };
    let listen = async { while events.recv().await.is_some() {} };
    tokio::select! {
        ended = rotation => drop(ended),
        () = enough => {}
        () = listen => {}
    }
    let (begun, ended) = (begun.unwrap(), Mark::set(&simulation));
    let counted = ended.facts - begun.facts;
    let simulator = (ended.simulator - begun.simulator).as_secs_f64() / (ended.wall - begun.wall).as_secs_f64();
    let all = (ended.processor - begun.processor).as_secs_f64();
    let each = |seconds: f64| seconds * 1e6 / counted as f64;
    println!("{nodes} nodes, {:.0?} of the cluster's time, {counted} facts", simulation.elapsed());
    println!("controller  {:>7.1} us a fact", each(all * (1.0 - simulator)));
    println!("simulator   {:>7.1} us a fact", each(all * simulator));
}

fn main() {
    let facts = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(100_000);
    LocalSet::new().block_on(&sim::runtime().unwrap(), run(facts));
}
