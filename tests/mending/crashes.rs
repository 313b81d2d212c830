//! A rotation that mends and dies: wherever that was, the next one goes on from what it finds.

use std::collections::BTreeSet;

use fastnode::cluster::manifests::Manifests;
use fastnode::controller::surgeon::Fixes;
use fastnode::controller::{Settings, rotate_and_mend};
use fastnode::event::{Event, EventKind, Report};
use fastnode::model::ObjectKey;
use fastnode::plan::Verdict;
use fastnode::policy::{Policy, Restarts};
use fastnode::sim::{Scenario, Simulation, World};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::runs::{on_virtual_time, ports, settings};
use super::{article_of, one_by_one, real_by};

/// Of every world here.
const SEED: u64 = 5;

const FIXES: [(&str, &str); 2] = [("kube-proxy-hostname-override", "kube-proxy"), ("aws-node-wait", "aws-node")];

/// One life of fastnode: to its end, or to its death.
async fn live(
    sim: &Simulation,
    scenario: &Scenario,
    policy: &Policy,
    fixes: Fixes,
    told: &mut Vec<Event>,
) -> Option<Report> {
    let ports = ports(sim);
    let surgeon = real_by(policy.clone(), fixes)(&ports, scenario);
    let settings = Settings { seed: SEED, ..settings(&scenario.cluster, policy.clone()) };
    let (sink, mut events) = mpsc::channel::<Event>(4096);
    let (_keep, interrupt) = watch::channel(None);
    let act = async {
        let yes = async |_: &_, _: &_, _: &_| true;
        tokio::select! {
            biased;
            report = rotate_and_mend(ports, settings, Some(surgeon), yes, sink, interrupt) => {
                Some(report.expect("it ends with a report"))
            }
            () = sim.crashed() => None,
        }
    };
    let listen = async {
        while let Some(event) = events.recv().await {
            told.push(event);
        }
    };
    let limit = std::time::Duration::from_secs(4 * 3600);
    tokio::time::timeout(limit, async { tokio::join!(act, listen).0 }).await.expect("it stands still")
}

/// How a fix stands on its DaemonSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stand {
    Absent,
    RollingOut,
    Unproved,
    Proved,
}

async fn manifest(sim: &Simulation, set: &str) -> Value {
    sim.cluster.daemonset(&ObjectKey::new("kube-system", set)).await.unwrap().unwrap()
}

async fn stand(sim: &Simulation, (fix, set): (&str, &str)) -> Stand {
    let object = manifest(sim, set).await;
    let Some(record) = object["metadata"]["annotations"][format!("fastnode.dev/fix-{fix}")].as_str() else {
        return Stand::Absent;
    };
    let record: Value = serde_json::from_str(record).unwrap();
    let status = &object["status"];
    match record["effect"]["helped"] == json!(true) {
        true => Stand::Proved,
        false if status["updatedNumberScheduled"] == status["desiredNumberScheduled"] => Stand::Unproved,
        false => Stand::RollingOut,
    }
}

struct Lived {
    report: Report,
    events: Vec<Event>,
    stands: [Stand; 2],
    generations: [Value; 2],
    verdict: Vec<String>,
    left_behind: Vec<String>,
    /// How the fixes stood when it died.
    died: Option<[Stand; 2]>,
    actions: u64,
}

impl Lived {
    fn times(&self, what: fn(&EventKind) -> Option<&str>, fix: &str) -> usize {
        self.events.iter().filter(|event| what(&event.kind) == Some(fix)).count()
    }
}

/// Rotates, dying at the so-manieth action, and again, with a mind of its own about fixes.
fn lives(scenario: &Scenario, policy: &Policy, (crash, then): (Option<u64>, Fixes)) -> Lived {
    on_virtual_time(async {
        let mut sim = World::start(scenario, SEED);
        let mut events = Vec::new();
        let mut died = None;
        if let Some(crash) = crash {
            sim.crash_at(crash);
        }
        let mut report = live(&sim, scenario, policy, Fixes::Apply, &mut events).await;
        if report.is_none() {
            sim.revive();
            died = Some([stand(&sim, FIXES[0]).await, stand(&sim, FIXES[1]).await]);
            report = live(&sim, scenario, policy, then, &mut events).await;
        }
        sim.crash_no_more();
        let actions = sim.actions();
        tokio::time::sleep(std::time::Duration::from_secs(600)).await;
        Lived {
            report: report.unwrap(),
            events,
            stands: [stand(&sim, FIXES[0]).await, stand(&sim, FIXES[1]).await],
            generations: [
                manifest(&sim, FIXES[0].1).await["metadata"]["generation"].clone(),
                manifest(&sim, FIXES[1].1).await["metadata"]["generation"].clone(),
            ],
            verdict: sim.verdict(),
            left_behind: sim.left_behind(),
            died,
            actions,
        }
    })
}

fn verified(kind: &EventKind) -> Option<&str> {
    match kind {
        EventKind::FixVerified { fix, effect, .. } if effect.helped => Some(fix),
        _ => None,
    }
}

fn proposed(kind: &EventKind) -> Option<&str> {
    match kind {
        EventKind::FixProposed { fix, .. } => Some(fix),
        _ => None,
    }
}

/// What is wrong with a run that died.
fn faults(lived: &Lived) -> Vec<String> {
    let mut faults = Vec::new();
    let mut wrong = |is: bool, what: String| faults.extend(is.then_some(what));
    wrong(lived.report.outcome != Verdict::Done, format!("it ended {:?}", lived.report.outcome));
    for (at, (fix, _)) in FIXES.iter().enumerate() {
        wrong(lived.stands[at] != Stand::Proved, format!("{fix} stands {:?}", lived.stands[at]));
        // Once by the fix; never taken out and in again.
        wrong(lived.generations[at] != json!(2), format!("{fix}: generation {}", lived.generations[at]));
        let verified = lived.times(verified, fix);
        wrong(verified == 0 || verified > 2, format!("{fix} is verified {verified} times"));
        let reported = lived.report.fixes.iter().any(|report| &*report.fix == *fix);
        let told = lived.times(proposed, fix) > 0;
        wrong(!told && !reported, format!("{fix} is not told of"));
    }
    wrong(!lived.verdict.is_empty(), format!("{:?}", lived.verdict));
    wrong(!lived.left_behind.is_empty(), format!("{:?}", lived.left_behind));
    faults
}

/// Dies at every ninth action of a rotation; what is wrong with each, and how the fixes stood when it died.
fn sweep(restarts: Restarts, then: Fixes, wrong: fn(&Lived) -> Vec<String>) -> [BTreeSet<Stand>; 2] {
    let (scenario, policy) = (article_of(4), one_by_one(restarts));
    let whole = lives(&scenario, &policy, (None, Fixes::Apply));
    assert_eq!(faults(&whole), [""; 0]);
    let mut deaths: [BTreeSet<Stand>; 2] = Default::default();
    let mut all = Vec::new();
    for crash in (1..whole.actions).step_by(9) {
        let lived = lives(&scenario, &policy, (Some(crash), then));
        let died = lived.died.expect("it died");
        deaths.iter_mut().zip(died).for_each(|(seen, stand)| _ = seen.insert(stand));
        let faults = wrong(&lived);
        if !faults.is_empty() {
            all.push(format!("died at action {crash}, fixes {died:?}: {faults:?}"));
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
    deaths
}

const EVERY: [Stand; 4] = [Stand::Absent, Stand::RollingOut, Stand::Unproved, Stand::Proved];

#[test]
fn whatever_moment_it_dies_at_both_faults_are_mended_once_and_proved() {
    let deaths = sweep(Restarts::Warn, Fixes::Apply, faults);
    assert_eq!(deaths, [EVERY.into(), EVERY.into()]);
}

#[test]
fn the_same_where_a_restart_fails_the_canary() {
    let deaths = sweep(Restarts::Zero, Fixes::Apply, faults);
    assert_eq!(deaths, [EVERY.into(), EVERY.into()]);
}

/// A run that only suggests changes nothing more; it waits for the pods to be renewed, and tells what came of it.
fn faults_then_suggesting(lived: &Lived) -> Vec<String> {
    let mut faults = [&lived.verdict[..], &lived.left_behind[..]].concat();
    let died = lived.died.expect("it died");
    for ((before, after), (fix, _)) in died.into_iter().zip(lived.stands).zip(FIXES) {
        let expected = if before == Stand::Absent { Stand::Absent } else { Stand::Proved };
        if after != expected {
            faults.push(format!("{fix} stood {before:?}, and stands {after:?}"));
        }
    }
    faults
}

#[test]
fn a_run_that_only_suggests_sees_through_what_one_that_died_has_applied() {
    let deaths = sweep(Restarts::Warn, Fixes::Suggest, faults_then_suggesting);
    assert!(deaths[0].len() == 4, "{deaths:?}");
}
