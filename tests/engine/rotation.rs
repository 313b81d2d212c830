//! Whole rotations on the simulator, by the production controller.

use std::collections::BTreeMap;
use std::time::Duration;

use fastnode::cloud::Cloud;
use fastnode::cluster::Cluster;
use fastnode::controller::{Error, Interrupt, Settings, observe, rotate, status};
use fastnode::event::{Event, EventKind, Report};
use fastnode::model::{InstanceId, LaunchSource, NodeMark, NodeName, ObjectKey, Text};
use fastnode::plan::Verdict;
use fastnode::policy::{Amount, Policy, Surge};
use fastnode::readiness::stages::Stage;
use fastnode::sim::{Scenario, Simulation, World};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::runs::{self, all, on_virtual_time, ports};

struct Played {
    result: Result<Report, Error>,
    events: Vec<Event>,
}

impl Played {
    fn count(&self, wanted: impl Fn(&EventKind) -> bool) -> usize {
        self.events.iter().filter(|e| wanted(&e.kind)).count()
    }
}

fn settings(scenario: &Scenario, policy: Policy) -> Settings {
    runs::settings(&scenario.cluster, policy)
}

async fn play(sim: &Simulation, settings: Settings, interrupt: watch::Receiver<Option<Interrupt>>) -> Played {
    let (sink, events) = mpsc::channel::<Event>(256);
    let rotated = rotate(ports(sim), settings, async |_: &_, _: &_, _: &_| true, sink, interrupt);
    let (result, events) = tokio::join!(rotated, all(events));
    Played { result, events }
}

/// Requests that change something, by the simulated API server's own count.
fn writes(sim: &Simulation) -> u64 {
    let requests = sim.cluster.requests();
    let writes = requests.iter().filter(|(verb, _)| ["create", "update", "patch", "delete"].contains(&first(verb)));
    writes.map(|(_, n)| n).sum()
}

fn first(verb: &str) -> &str {
    verb.split(' ').next().unwrap_or(verb)
}

#[test]
fn the_small_cluster_is_rotated_end_to_end_and_a_second_time_nothing_is_written() {
    on_virtual_time(async {
        let scenario = Scenario::load("small").unwrap();
        let sim = World::start(&scenario, 7);
        let (_keep, interrupt) = watch::channel(None);
        let played = play(&sim, settings(&scenario, Policy::default()), interrupt.clone()).await;
        assert_eq!(played.count(|e| matches!(e, EventKind::NodeSelected { .. })), 6);
        assert_eq!(played.count(|e| matches!(e, EventKind::NodeGone { .. })), 6);
        let shown = |e: &EventKind| matches!(e, EventKind::ReplacementFunctional { start: Some(_), .. });
        assert_eq!(played.count(shown), 6, "each with how it started");
        // The gate is passed ten seconds later: the soak is no part of a start.
        let whole = |e: &EventKind| match e {
            EventKind::ReplacementFunctional { seconds, start: Some(start), .. } => {
                start.moments.seconds(Stage::Start).is_some_and(|start| (start - seconds).abs() < 1e-6)
            }
            _ => false,
        };
        assert_eq!(played.count(whole), 6);
        let report = played.result.unwrap();
        for stage in ["joined", "ready", "functional", "start", "total"] {
            assert!(report.stages.contains_key(stage), "{stage}: {:?}", report.stages);
        }
        assert_eq!((report.outcome, report.nodes_rotated), (Verdict::Done, 6));
        assert_eq!(sim.verdict(), [""; 0]);
        assert_eq!(sim.left_behind(), [""; 0]);
        assert_eq!(sim.outdated(), []);

        let before = writes(&sim);
        let again = play(&sim, settings(&scenario, Policy::default()), interrupt).await;
        assert_eq!(again.result.unwrap().outcome, Verdict::Done);
        assert_eq!(writes(&sim), before);
        let status = status(&ports(&sim), &settings(&scenario, Policy::default())).await.unwrap().unwrap();
        assert_eq!((status.holder, status.record), (None, None));
        assert_eq!(status.report.map(|r| r.nodes_rotated), Some(6));
    });
}

/// Two pods a node that end within a few milliseconds of each other, six seconds after their evictions; AWS takes a
/// second to answer.
const SLOW_CLOUD: &str = r#"
name = "slow-cloud"
about = "AWS answers slowly"
cluster = "slow"
[times]
aws_ms = [1000.0, 1001.0]
[[groups]]
name = "g"
nodes = 3
zones = ["a", "b", "c"]
[[workloads]]
name = "web"
replicas = 6
grace_s = [6.0, 0.0]
"#;

#[test]
fn what_a_termination_stands_on_is_read_while_the_last_pods_are_on_their_way_out() {
    on_virtual_time(async {
        let scenario = Scenario::parse(SLOW_CLOUD, "slow-cloud.toml").unwrap();
        let sim = World::start(&scenario, 1);
        let one_by_one = Policy { surge: Surge::Fixed(Amount::Count(1)), ..Policy::default() };
        let (_keep, interrupt) = watch::channel(None);
        let played = play(&sim, settings(&scenario, one_by_one), interrupt).await;
        assert_eq!(played.result.unwrap().outcome, Verdict::Done);
        let mut drained = BTreeMap::new();
        let mut waits = Vec::new();
        for event in &played.events {
            match &event.kind {
                EventKind::NodeDrained { about, .. } => drop(drained.insert(about.instance.clone(), event.time)),
                EventKind::NodeTerminating { about, decrement: false, .. } => {
                    waits.push(event.time.duration_since(drained[&about.instance]).as_secs_f64());
                }
                _ => {}
            }
        }
        // The termination's own call, and no reading before it.
        assert!(!waits.is_empty() && waits.iter().all(|wait| *wait < 1.5), "{waits:?}");
    });
}

#[test]
fn the_same_seed_tells_the_same_events() {
    let run = || {
        on_virtual_time(async {
            let scenario = Scenario::load("small").unwrap();
            let sim = World::start(&scenario, 3);
            let (_keep, interrupt) = watch::channel(None);
            play(&sim, settings(&scenario, Policy::default()), interrupt).await.events
        })
    };
    let (a, b) = (run(), run());
    assert!(!a.is_empty());
    assert_eq!(serde_json::to_string(&a).unwrap(), serde_json::to_string(&b).unwrap());
}

/// Nodes that carry the mark of a drain in progress.
async fn draining(sim: &Simulation, scenario: &Scenario) -> usize {
    let status = status(&ports(sim), &settings(scenario, Policy::default())).await.unwrap();
    let nodes = status.map(|s| s.nodes).unwrap_or_default();
    nodes.iter().filter(|n| n.mark == fastnode::model::NodeMark::Draining).count()
}

#[test]
fn a_signal_in_the_middle_of_a_drain_uncordons_unlocks_and_the_next_run_goes_on() {
    on_virtual_time(async {
        let scenario = Scenario::load("small").unwrap();
        let sim = World::start(&scenario, 7);
        let (send, interrupt) = watch::channel(None);
        let interrupted = play(&sim, settings(&scenario, Policy::default()), interrupt);
        let signal = async {
            while draining(&sim, &scenario).await == 0 {
                sleep(Duration::from_secs(1)).await;
            }
            send.send(Some(Interrupt::Term)).unwrap();
            Instant::now()
        };
        let (played, at) = tokio::join!(interrupted, signal);
        assert!(at.elapsed() <= Duration::from_secs(10), "{:?}", at.elapsed());
        assert!(matches!(played.result, Err(Error::Interrupted(Interrupt::Term))));
        assert!(played.count(|e| matches!(e, EventKind::NodeDraining { .. })) > 0, "a drain was under way");
        assert_eq!(played.count(|e| matches!(e, EventKind::NodeDrained { .. })), 0);
        let lease = sim.cluster.lease(&ObjectKey::new("kube-system", "fastnode")).await.unwrap().unwrap();
        assert_eq!(lease.holder, None);
        let between = status(&ports(&sim), &settings(&scenario, Policy::default())).await.unwrap().unwrap();
        assert!(between.record.is_some() && between.holder.is_none());
        assert_eq!(draining(&sim, &scenario).await, 0, "{:?}", between.nodes);

        let (_keep, interrupt) = watch::channel(None);
        let resumed = play(&sim, settings(&scenario, Policy::default()), interrupt).await;
        let resumes = |e: &EventKind| matches!(e, EventKind::RotationStarted { resumed: true, rotation, .. } if *rotation == between.rotation);
        assert_eq!(resumed.count(resumes), 1);
        assert_eq!(resumed.result.unwrap().outcome, Verdict::Done);
        assert_eq!(sim.verdict(), [""; 0]);
        assert_eq!(sim.left_behind(), [""; 0]);
        assert_eq!(sim.outdated(), []);
    });
}

#[test]
fn one_by_one_a_node_costs_at_most_five_aws_calls() {
    on_virtual_time(async {
        let mut scenario = Scenario::load("small").unwrap();
        scenario.groups.truncate(1);
        scenario.groups[0].nodes = 30;
        let sim = World::start(&scenario, 5);
        let (_keep, interrupt) = watch::channel(None);
        let policy = Policy { surge: Surge::Fixed(Amount::Count(1)), ..Policy::default() };
        let report = play(&sim, settings(&scenario, policy), interrupt).await.result.unwrap();
        assert_eq!(report.nodes_rotated, 30);
        let calls: u64 = report.aws_calls.values().sum();
        assert!(calls <= 30 * 5, "{:?}", report.aws_calls);
    });
}

/// `SCENARIO=demo cargo test --release --test engine played -- --ignored --nocapture` shows what a run costs.
#[test]
#[ignore = "a measurement, not a claim"]
fn played() {
    on_virtual_time(async {
        let scenario = Scenario::load(&std::env::var("SCENARIO").unwrap_or("demo".into())).unwrap();
        let sim = World::start(&scenario, 7);
        let (_keep, interrupt) = watch::channel(None);
        let played = play(&sim, settings(&scenario, Policy::default()), interrupt).await;
        println!("{} events, {:?} virtual, {:?}", played.events.len(), sim.elapsed(), played.result);
        println!("{:?} {:?} {} outdated, {:?}", sim.verdict(), sim.left_behind(), sim.outdated().len(), sim.counts());
    });
}

/// Which version each instance that is there was launched from.
async fn launched_versions(sim: &Simulation, scenario: &Scenario) -> BTreeMap<InstanceId, Text> {
    let groups = sim.cloud.groups(&scenario.cluster).await.unwrap();
    let all = groups.into_iter().flat_map(|s| s.instances);
    let versions = all.filter_map(|i| match i.source {
        LaunchSource::Template { version, .. } => Some((i.id, version)),
        _ => None,
    });
    versions.collect()
}

/// While no launch is under way: what has been asked for by then cannot be taken back.
#[test]
fn nothing_is_launched_from_a_version_that_came_in_the_middle() {
    for at_s in [60.0, 80.0, 130.0, 150.0, 170.0] {
        on_virtual_time(async {
            let mut scenario = Scenario::load("target-changes").unwrap();
            scenario.groups.truncate(1);
            scenario.workloads.truncate(1);
            scenario.faults.retarget[0].at_s = at_s;
            let sim = World::start(&scenario, 7);
            let (_keep, interrupt) = watch::channel(None);
            let policy = Policy { surge: Surge::Fixed(Amount::Count(1)), ..Policy::default() };
            let mut seen = BTreeMap::new();
            let look = async {
                loop {
                    seen.extend(launched_versions(&sim, &scenario).await);
                    sleep(Duration::from_secs(1)).await;
                }
            };
            let played = play(&sim, settings(&scenario, policy), interrupt);
            let played = tokio::select! { played = played => played, () = look => unreachable!("it looks for ever") };
            let outcome = played.result.as_ref().unwrap().outcome;
            assert_eq!(outcome, Verdict::TargetChanged, "template moved after {at_s} s");
            let counts = seen.values().fold(BTreeMap::new(), |mut counts: BTreeMap<&str, u32>, version| {
                *counts.entry(version).or_default() += 1;
                counts
            });
            assert_eq!(counts.get("3"), None, "template moved after {at_s} s: {counts:?}");
        });
    }
}

/// A pod of a workload that stands on an old node, and that node.
async fn own_pod(sim: &Simulation, settings: &Settings) -> (ObjectKey, NodeName) {
    let snapshot = observe(&ports(sim), settings).await.unwrap();
    let pod = snapshot.pods.values().find(|p| !p.is_daemon() && p.node.is_some()).unwrap();
    (pod.key.clone(), pod.node.clone().unwrap())
}

#[test]
fn fastnodes_own_node_goes_last_and_is_left_cordoned_to_the_next_run() {
    on_virtual_time(async {
        let scenario = Scenario::load("small").unwrap();
        let sim = World::start(&scenario, 7);
        let anywhere = settings(&scenario, Policy::default());
        let (pod, node) = own_pod(&sim, &anywhere).await;
        let (_keep, interrupt) = watch::channel(None);
        let in_pod = Settings { own_pod: Some(pod.clone()), ..anywhere.clone() };
        let first = play(&sim, in_pod, interrupt.clone()).await;
        assert!(matches!(&first.result, Err(Error::OwnNode { node: left }) if *left == node), "{:?}", first.result);
        assert_eq!(sim.outdated(), std::slice::from_ref(&node), "all others were rotated before");
        let between = status(&ports(&sim), &anywhere).await.unwrap().unwrap();
        assert_eq!(between.holder, None, "the lock is given back");
        let marks: Vec<_> = between.nodes.iter().filter(|n| n.node == node).map(|n| n.mark).collect();
        assert_eq!(marks, [NodeMark::Draining]);
        let snapshot = observe(&ports(&sim), &anywhere).await.unwrap();
        assert!(snapshot.nodes[&node].unschedulable, "nothing can be put there again");
        assert!(snapshot.pods.values().all(|p| p.key != pod || p.node.as_ref() != Some(&node)), "it evicted itself");

        let before = writes(&sim);
        let there = Settings { own_node: Some(node.clone()), ..anywhere.clone() };
        let stopped = play(&sim, there, interrupt.clone()).await;
        assert!(matches!(&stopped.result, Err(Error::OnOwnNode { node: on }) if *on == node), "{:?}", stopped.result);
        assert_eq!(writes(&sim), before, "nothing was changed");

        let next = play(&sim, anywhere, interrupt).await;
        assert_eq!(next.result.unwrap().outcome, Verdict::Done);
        assert_eq!(sim.verdict(), [""; 0]);
        assert_eq!(sim.left_behind(), [""; 0]);
        assert_eq!(sim.outdated(), []);
    });
}

#[test]
fn a_signal_after_the_own_pod_was_evicted_changes_nothing_more() {
    on_virtual_time(async {
        let scenario = Scenario::load("small").unwrap();
        let sim = World::start(&scenario, 7);
        let anywhere = settings(&scenario, Policy::default());
        let (pod, node) = own_pod(&sim, &anywhere).await;
        let (send, interrupt) = watch::channel(None);
        let run = play(&sim, Settings { own_pod: Some(pod.clone()), ..anywhere.clone() }, interrupt);
        let kubelet = async {
            loop {
                sleep(Duration::from_secs(1)).await;
                let snapshot = observe(&ports(&sim), &anywhere).await.unwrap();
                let there = snapshot.pods.values().find(|p| p.key == pod && p.node.as_ref() == Some(&node));
                if there.is_none_or(|p| p.deleting.is_some()) {
                    send.send(Some(Interrupt::Term)).unwrap();
                    return writes(&sim);
                }
            }
        };
        let (played, before) = tokio::join!(run, kubelet);
        assert!(matches!(played.result, Err(Error::Interrupted(Interrupt::Term))), "{:?}", played.result);
        assert_eq!(writes(&sim), before, "after its eviction it writes nothing");
        let snapshot = observe(&ports(&sim), &anywhere).await.unwrap();
        assert!(snapshot.nodes[&node].unschedulable, "the node stays cordoned");
    });
}

#[test]
fn after_a_crash_between_a_step_and_its_fold_nothing_is_cordoned_before_the_step_is_settled() {
    for action in 1..=8 {
        on_virtual_time(async {
            let mut scenario = Scenario::load("small").unwrap();
            scenario.groups.truncate(1);
            let mut sim = World::start(&scenario, 7);
            let (_keep, interrupt) = watch::channel(None);
            let policy = Policy { surge: Surge::Fixed(Amount::Count(1)), ..Policy::default() };
            let settings = settings(&scenario, policy);
            sim.crash_at(action);
            tokio::select! {
                biased;
                played = play(&sim, settings.clone(), interrupt.clone()) => panic!("{:?}", played.result),
                () = sim.crashed() => {}
            }
            sim.revive();
            sim.crash_no_more();
            // Meanwhile what was launched becomes functional: there is room for a drain from the first pass on.
            sleep(Duration::from_secs(300)).await;
            let resumed = play(&sim, settings, interrupt).await;
            let outcome = resumed.result.map(|r| r.outcome);
            assert!(matches!(outcome, Ok(Verdict::Done)), "crashed at action {action}: {outcome:?}");
            assert_eq!(sim.verdict(), [""; 0]);
            assert_eq!(sim.left_behind(), [""; 0]);
        });
    }
}
