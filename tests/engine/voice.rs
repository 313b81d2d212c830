//! How a run ends, as whoever reads its events sees it.

use std::future::pending;
use std::time::Duration;

use fastnode::cluster::Cluster;
use fastnode::controller::{Error, Interrupt, Settings, rotate};
use fastnode::event::EventKind;
use fastnode::model::ObjectKey;
use fastnode::plan::Verdict;
use fastnode::policy::Policy;
use fastnode::sim::{Scenario, World};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use crate::runs::{self, all, on_virtual_time, ports};

pub fn settings(scenario: &Scenario) -> Settings {
    runs::settings(&scenario.cluster, Policy::default())
}

#[test]
fn a_signal_at_the_question_ends_the_run_with_nothing_changed() {
    on_virtual_time(async {
        let scenario = Scenario::load("small").unwrap();
        let sim = World::start(&scenario, 1);
        let (send, interrupt) = watch::channel(None);
        let (sink, events) = mpsc::channel(256);
        let before = sim.actions();
        let asked = async |_: &_, _: &_, _: &_| {
            send.send(Some(Interrupt::Int)).unwrap();
            pending().await
        };
        let (result, events) =
            tokio::join!(rotate(ports(&sim), settings(&scenario), asked, sink, interrupt), all(events));
        assert!(matches!(result, Err(Error::Interrupted(Interrupt::Int))), "{result:?}");
        assert_eq!(sim.actions(), before);
        // What never began does not finish.
        assert!(events.iter().all(|e| matches!(e.kind, EventKind::RotationPlanned { .. })), "{events:?}");
    });
}

#[test]
fn a_run_that_loses_its_lock_says_so_and_finishes_as_failed() {
    on_virtual_time(async {
        let scenario = Scenario::load("small").unwrap();
        let sim = World::start(&scenario, 1);
        let (_keep, interrupt) = watch::channel(None);
        let (sink, events) = mpsc::channel(256);
        let thief = async {
            sleep(Duration::from_secs(60)).await;
            let key = ObjectKey::new("kube-system", "fastnode");
            let mut lease = sim.cluster.lease(&key).await.unwrap().unwrap();
            lease.holder = Some("somebody".to_owned());
            sim.cluster.put_lease(&key, &lease).await.unwrap();
        };
        let run = rotate(ports(&sim), settings(&scenario), async |_: &_, _: &_, _: &_| true, sink, interrupt);
        let (result, events, ()) = tokio::join!(run, all(events), thief);
        assert!(matches!(result, Err(Error::Locked { .. })), "{result:?}");
        let [.., error, finished] = events.as_slice() else { panic!("{events:?}") };
        assert!(matches!(error.kind, EventKind::Error { fatal: true, .. }), "{error:?}");
        assert!(
            matches!(&finished.kind, EventKind::RotationFinished(r) if r.outcome == Verdict::Failed),
            "{finished:?}"
        );
    });
}
