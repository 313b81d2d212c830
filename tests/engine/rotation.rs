//! Whole rotations on the simulator, by the production controller.

use std::rc::Rc;

use fastnode::controller::{Error, Interrupt, Ports, Settings, rotate};
use fastnode::event::{Event, EventKind, Report};
use fastnode::plan::Verdict;
use fastnode::sim::{self, Scenario, SimCloud, SimCluster, Simulation, World};
use tokio::sync::{mpsc, watch};

pub struct Played {
    pub result: Result<Report, Error>,
    pub events: Vec<Event>,
}

pub fn ports(sim: &Simulation) -> Ports<SimCloud, SimCluster> {
    Ports { cloud: Rc::new(sim.cloud.clone()), cluster: Rc::new(sim.cluster.clone()), clock: sim.clock }
}

pub async fn play(sim: &Simulation, scenario: &Scenario, interrupt: watch::Receiver<Option<Interrupt>>) -> Played {
    let settings = Settings {
        cluster: scenario.cluster.as_str().into(),
        policy: Default::default(),
        namespace: "kube-system".into(),
        identity: "me".into(),
        own_node: None,
        seed: 1,
    };
    let (sink, mut events) = mpsc::channel::<Event>(256);
    let told = async {
        let mut told = Vec::new();
        while let Some(event) = events.recv().await {
            if std::env::var_os("FASTNODE_TEST_EVENTS").is_some() && !matches!(event.kind, EventKind::Tick | EventKind::Progress{..}) {
                eprintln!("{}", serde_json::to_string(&event).unwrap());
            }
            told.push(event);
        }
        told
    };
    let rotated = rotate(ports(sim), settings, async |_: &_, _: &_, _: &_| true, sink, interrupt);
    let (result, events) = tokio::join!(rotated, told);
    Played { result, events }
}

pub fn on_virtual_time<F: Future>(test: F) -> F::Output {
    tokio::task::LocalSet::new().block_on(&sim::runtime().unwrap(), test)
}

#[test]
fn the_small_cluster_is_rotated_end_to_end_and_a_second_time_nothing_is_done() {
    on_virtual_time(async {
        let scenario = Scenario::load("small").unwrap();
        let sim = World::start(&scenario, 7);
        let (_keep, interrupt) = watch::channel(None);
        let played = play(&sim, &scenario, interrupt.clone()).await;
        let report = played.result.unwrap();
        assert_eq!(report.outcome, Verdict::Done);
        assert_eq!(sim.verdict(), [""; 0]);
        assert_eq!(sim.left_behind(), [""; 0]);
        assert_eq!(sim.outdated(), []);
    });
}

#[test]
#[ignore = "a measurement, not a claim"]
fn demo() {
    on_virtual_time(async {
        let name = std::env::var("SCENARIO").unwrap_or("demo".into());
        let scenario = Scenario::load(&name).unwrap();
        let sim = World::start(&scenario, 7);
        let (_keep, interrupt) = watch::channel(None);
        let played = play(&sim, &scenario, interrupt.clone()).await;
        eprintln!("{} events, {:?}", played.events.len(), sim.elapsed());
        match played.result {
            Ok(report) => eprintln!("{}", serde_json::to_string_pretty(&report).unwrap()),
            Err(e) => eprintln!("{e}"),
        }
        eprintln!("{:#?} {:#?} {:?} {:?}", sim.verdict(), sim.left_behind(), sim.outdated().len(), sim.counts());
    });
}
