//! `pause`, `resume` and `abort`, asked of a rotation by another process on the same cluster.

use std::time::Duration;

use fastnode::cluster::Cluster;
use fastnode::controller::{Aborted, Answer, Error, Interrupt, Settings, abort, ask, errand, rotate, status};
use fastnode::event::{Event, EventKind, Report};
use fastnode::lock::Lock;
use fastnode::model::ObjectKey;
use fastnode::plan::Verdict;
use fastnode::policy::{Amount, Policy, Surge};
use fastnode::sim::{Scenario, Simulation, World};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::voice::settings;
use crate::runs::{all, on_virtual_time, ports};

/// Seconds.
async fn after(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

fn other(scenario: &Scenario) -> Settings {
    Settings { identity: "another".into(), ..settings(scenario) }
}

/// Rotates until it ends or `signal` says so.
async fn run(
    sim: &Simulation,
    settings: Settings,
    signal: watch::Receiver<Option<Interrupt>>,
) -> (Result<Report, Error>, Vec<Event>) {
    let (sink, events) = mpsc::channel(256);
    let rotated = rotate(ports(sim), settings, async |_: &_, _: &_, _: &_| true, sink, signal);
    tokio::join!(rotated, all(events))
}

async fn abort_from_elsewhere(sim: &Simulation, scenario: &Scenario) -> (Aborted, Vec<Event>) {
    let (_keep, interrupt) = watch::channel(None);
    let (sink, events) = mpsc::channel(256);
    let (aborted, events) = tokio::join!(abort(ports(sim), other(scenario), |_| {}, sink, interrupt), all(events));
    (aborted.unwrap(), events)
}

/// Cuts a rotation short in the middle of its surge.
async fn interrupted(sim: &Simulation, scenario: &Scenario) {
    let (send, signal) = watch::channel(None);
    let cut = async {
        after(150).await;
        send.send(Some(Interrupt::Int)).unwrap();
    };
    let ((result, _), ()) = tokio::join!(run(sim, settings(scenario), signal), cut);
    assert!(matches!(result, Err(Error::Interrupted(_))), "{result:?}");
    assert_ne!(sim.left_behind(), [""; 0], "the surge stays");
}

fn world() -> (Scenario, Simulation) {
    let scenario = Scenario::load("small").unwrap();
    let sim = World::start(&scenario, 3);
    (scenario, sim)
}

fn put_back(sim: &Simulation) {
    assert_eq!(sim.verdict(), [""; 0]);
    assert_eq!(sim.left_behind(), [""; 0]);
}

#[test]
fn a_paused_rotation_takes_no_other_node_in_hand_and_goes_on_when_asked() {
    on_virtual_time(async {
        let (scenario, sim) = world();
        let (_keep, signal) = watch::channel(None);
        let asking = async {
            after(60).await;
            let (ports, settings) = (ports(&sim), other(&scenario));
            assert_eq!(ask(&ports, &settings, false).await.unwrap(), Answer::Already { holder: Some("me".into()) });
            assert_eq!(ask(&ports, &settings, true).await.unwrap(), Answer::Heard { holder: "me".into() });
            assert_eq!(ask(&ports, &settings, true).await.unwrap(), Answer::Already { holder: Some("me".into()) });
            after(600).await;
            let told = status(&ports, &settings).await.unwrap().unwrap();
            assert_eq!((told.request.as_deref(), told.holder.as_deref()), (Some("pause"), Some("me")));
            assert_eq!(ask(&ports, &settings, false).await.unwrap(), Answer::Heard { holder: "me".into() });
        };
        let ((result, events), ()) = tokio::join!(run(&sim, settings(&scenario), signal), asking);
        let at = |wanted: fn(&EventKind) -> bool| events.iter().position(|e| wanted(&e.kind)).unwrap();
        let paused = at(|e| matches!(e, EventKind::RotationPaused));
        let resumed = at(|e| matches!(e, EventKind::RotationResumed));
        assert!(events[paused..resumed].iter().all(|e| !matches!(e.kind, EventKind::NodeDraining { .. })));
        assert!(events[resumed].time.duration_since(events[paused].time).as_secs() >= 600);
        assert_eq!(result.unwrap().outcome, Verdict::Done);
        put_back(&sim);
    });
}

#[test]
fn an_abort_is_done_by_whoever_runs_and_waited_for() {
    on_virtual_time(async {
        let (scenario, sim) = world();
        let (_keep, signal) = watch::channel(None);
        let asking = async {
            after(70).await;
            abort_from_elsewhere(&sim, &scenario).await
        };
        let ((result, events), (aborted, _)) = tokio::join!(run(&sim, settings(&scenario), signal), asking);
        assert_eq!(result.unwrap().outcome, Verdict::Aborted);
        let Aborted::There(Some(report)) = aborted else { panic!("{aborted:?}") };
        assert_eq!(report.outcome, Verdict::Aborted);
        let why = events.iter().find_map(|e| match e.kind {
            EventKind::RotationEnding { why } => Some(why),
            _ => None,
        });
        assert_eq!(why, Some(Verdict::Aborted));
        put_back(&sim);
        assert_ne!(sim.outdated(), [], "it was cut short");
    });
}

#[test]
fn an_abort_shrinks_away_no_launch_that_it_has_not_seen() {
    on_virtual_time(async {
        let mut scenario = Scenario::load("small").unwrap();
        // Groups that launch a moment after a termination, which comes a moment after the last reading.
        scenario.times.reaction_s = (0.5, 0.0).into();
        scenario.times.grace_s = (0.5, 0.0).into();
        let policy =
            Policy { surge: Surge::Fixed(Amount::Count(1)), drains: Amount::Count(1), ..settings(&scenario).policy };
        let one_by_one = || Settings { policy: policy.clone(), ..settings(&scenario) };
        let sim = World::start(&scenario, 3);
        let (_keep, signal) = watch::channel(None);
        let (_, events) = run(&sim, one_by_one(), signal).await;
        let terminates = |e: &&Event| matches!(e.kind, EventKind::NodeTerminating { .. });
        let terminated = events.iter().find(terminates).unwrap().time.duration_since(events[0].time);
        for quarter in 0..24 {
            let sim = World::start(&scenario, 3);
            let (_keep, signal) = watch::channel(None);
            let asking = async {
                sleep(terminated.unsigned_abs() + Duration::from_millis(250) * quarter - Duration::from_secs(2)).await;
                abort_from_elsewhere(&sim, &scenario).await
            };
            let ((result, _), _) = tokio::join!(run(&sim, one_by_one(), signal), asking);
            assert_eq!(result.unwrap().outcome, Verdict::Aborted, "{quarter}");
            put_back(&sim);
        }
    });
}

#[test]
fn a_paused_rotation_is_aborted_all_the_same() {
    on_virtual_time(async {
        let (scenario, sim) = world();
        let (_keep, signal) = watch::channel(None);
        let asking = async {
            after(150).await;
            ask(&ports(&sim), &other(&scenario), true).await.unwrap();
            after(60).await;
            abort_from_elsewhere(&sim, &scenario).await
        };
        let ((result, _), (aborted, _)) = tokio::join!(run(&sim, settings(&scenario), signal), asking);
        assert_eq!(result.unwrap().outcome, Verdict::Aborted);
        assert!(matches!(aborted, Aborted::There(Some(_))), "{aborted:?}");
        put_back(&sim);
    });
}

#[test]
fn an_abort_that_nobody_can_be_asked_for_is_done_here() {
    on_virtual_time(async {
        let (scenario, sim) = world();
        interrupted(&sim, &scenario).await;
        let (aborted, events) = abort_from_elsewhere(&sim, &scenario).await;
        let Aborted::Here(report) = aborted else { panic!("{aborted:?}") };
        assert_eq!((report.outcome, report.left_behind.len()), (Verdict::Aborted, 0));
        assert!(matches!(events.last().unwrap().kind, EventKind::RotationFinished(_)));
        put_back(&sim);
        let lease = sim.cluster.lease(&ObjectKey::new("kube-system", "fastnode")).await.unwrap();
        assert_eq!(lease, None);
        assert_eq!(abort_from_elsewhere(&sim, &scenario).await.0, Aborted::Nothing, "a second time");
    });
}

#[test]
fn where_nothing_runs_and_nothing_is_left_nothing_is_written() {
    on_virtual_time(async {
        let (scenario, sim) = world();
        let before = sim.actions();
        assert_eq!(abort_from_elsewhere(&sim, &scenario).await.0, Aborted::Nothing);
        for pause in [true, false] {
            assert_eq!(ask(&ports(&sim), &other(&scenario), pause).await.unwrap(), Answer::NoRotation);
        }
        assert_eq!(sim.actions(), before);
    });
}

#[test]
fn a_rotation_that_is_started_while_paused_waits() {
    on_virtual_time(async {
        let (scenario, sim) = world();
        interrupted(&sim, &scenario).await;
        assert_eq!(ask(&ports(&sim), &other(&scenario), true).await.unwrap(), Answer::Noted);
        let told = status(&ports(&sim), &other(&scenario)).await.unwrap().unwrap();
        assert_eq!((told.request.as_deref(), told.holder), (Some("pause"), None));
        let (_keep, signal) = watch::channel(None);
        let asking = async {
            after(900).await;
            assert_eq!(
                ask(&ports(&sim), &other(&scenario), false).await.unwrap(),
                Answer::Heard { holder: "me".into() }
            );
        };
        let ((result, events), ()) = tokio::join!(run(&sim, settings(&scenario), signal), asking);
        let resumed = events.iter().position(|e| matches!(e.kind, EventKind::RotationResumed)).unwrap();
        assert!(events[..resumed].iter().all(|e| !matches!(e.kind, EventKind::NodeDraining { .. })), "it waited");
        assert_eq!(result.unwrap().outcome, Verdict::Done);
        put_back(&sim);
    });
}

#[test]
fn a_fix_that_holds_the_lock_is_told_as_one_and_is_no_rotation() {
    on_virtual_time(async {
        let scenario = Scenario::load("small").unwrap();
        let sim = World::start(&scenario, 1);
        let (ports, settings) = (ports(&sim), settings(&scenario));
        let doing = "fastnode fix aws-node-wait";
        let take = async |who: &str| {
            let (cluster, namespace) = (ports.cluster.clone(), &settings.namespace);
            Lock::acquire_to(cluster, ports.clock, namespace, who, ("fix-1", Some(doing))).await
        };
        let lock = take("me@here/1").await.unwrap();
        let told = errand(&ports, &settings).await.unwrap().unwrap();
        assert_eq!((&*told.doing, &*told.holder), (doing, "me@here/1"));
        assert_eq!(status(&ports, &settings).await.unwrap(), None);
        assert_eq!(ask(&ports, &settings, true).await.unwrap(), Answer::NoRotation);
        let refused = take("me@there/2").await.map(drop).unwrap_err().to_string();
        assert_eq!(refused, "failed to lock the cluster: me@here/1 holds it for fastnode fix aws-node-wait");
        lock.release(false).await.unwrap();
        assert_eq!(errand(&ports, &settings).await.unwrap(), None);
    });
}
