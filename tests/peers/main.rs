//! What other node rotators were read or seen to do wrong, one test each: fastnode does none of it.
//!
//! Each test is named after the behaviour, plays it on the simulator with the production controller (or, where
//! a single judgement is in question, on a hand-made snapshot), and fails if fastnode behaves so.

#![expect(clippy::unwrap_used, reason = "what cannot be set up has failed")]

mod recorded;
#[path = "../worlds/runs.rs"]
mod runs;
#[path = "../worlds/mod.rs"]
mod worlds;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use fastnode::cluster::{ErrorKind, Kind};
use fastnode::controller::{Error, Ports, rotate};
use fastnode::event::{Event, EventKind, Report};
use fastnode::invariants;
use fastnode::model::*;
use fastnode::observe::Snapshot;
use fastnode::plan::{Action, Verdict, plan};
use fastnode::policy::{Amount, Policy, Surge, Timeout};
use fastnode::readiness::{judge, serves};
use fastnode::sim::{self, Scenario, Simulation, World};
use jiff::SignedDuration;
use recorded::{Log, RecordedCloud, RecordedCluster};
use tokio::sync::{mpsc, watch};

/// A run: how it ended, what was told, and what was sent.
struct Run {
    result: Result<Report, Error>,
    events: Vec<Event>,
    log: Log,
}

impl Run {
    fn report(&self) -> &Report {
        self.result.as_ref().unwrap()
    }

    fn position(&self, wanted: impl Fn(&EventKind) -> bool) -> Option<usize> {
        self.events.iter().position(|e| wanted(&e.kind))
    }

    /// Nodes that were given up, with what was said.
    fn skipped(&self) -> &BTreeMap<NodeName, Text> {
        &self.report().nodes_skipped
    }
}

fn scenario(text: &str) -> Scenario {
    Scenario::parse(&format!("name='test'\nabout='test'\ncluster='blue'\n{text}"), "test.toml").unwrap()
}

/// A group of `nodes` over zones a and b.
fn group(name: &str, nodes: u32, more: &str) -> String {
    format!("[[groups]]\nname='{name}'\nnodes={nodes}\nzones=['a','b']\n{more}\n")
}

fn workload(name: &str, more: &str) -> String {
    format!("[[workloads]]\nname='{name}'\n{more}\n")
}

fn surge(n: u32) -> Policy {
    Policy { surge: Surge::Fixed(Amount::Count(n)), ..Policy::default() }
}

fn on_virtual_time<F: Future>(test: F) -> F::Output {
    tokio::task::LocalSet::new().block_on(&sim::runtime().unwrap(), test)
}

async fn run(sim: &Simulation, policy: Policy, refuse: fn(&str) -> Option<ErrorKind>) -> Run {
    sim.judge_by(&policy);
    let log = Log::new();
    let ports = Ports {
        cloud: Rc::new(RecordedCloud { inner: sim.cloud.clone(), log: log.clone() }),
        cluster: Rc::new(RecordedCluster { inner: sim.cluster.clone(), log: log.clone(), refuse }),
        clock: sim.clock,
    };
    let (sink, told) = mpsc::channel::<Event>(256);
    let (_keep, interrupt) = watch::channel(None);
    let rotated = rotate(ports, runs::settings("blue", policy), async |_: &_, _: &_, _: &_| true, sink, interrupt);
    let (result, events) = tokio::join!(rotated, runs::all(told));
    Run { result, events, log }
}

fn nothing_refused(_: &str) -> Option<ErrorKind> {
    None
}

/// Plays a scenario under a policy; the promise is kept in any case.
fn play(text: &str, policy: Policy, refuse: fn(&str) -> Option<ErrorKind>) -> (Run, Vec<String>) {
    on_virtual_time(async {
        let sim = World::start(&scenario(text), 11);
        let run = run(&sim, policy, refuse).await;
        assert_eq!(sim.verdict(), [""; 0]);
        (run, sim.left_behind())
    })
}

/// A workload whose budget lets one pod go, and then none for longer than a drain may take.
fn slow_to_come_back(name: &str, groups: &str) -> String {
    workload(name, &format!("replicas=4\ngroups={groups}\nready_s=[3000.0, 0.0]\nbudgets=[{{ max_unavailable = 1 }}]"))
}

/// keikoproj/upgrade-manager untags instances account-wide, so that a run on another group forgets this one's.
#[test]
fn peer_01_a_run_on_another_group_leaves_this_ones_state_alone() {
    on_virtual_time(async {
        let text = group("first", 3, "") + &group("second", 3, "");
        let sim = World::start(&scenario(&text), 11);
        let only = |name: &str| {
            let mut policy = surge(1);
            policy.scope.groups = BTreeSet::from([GroupName::from(name)]);
            policy
        };
        let first = run(&sim, only("first"), nothing_refused);
        let second = async {
            // The first holds a surge, a ledger and suspended processes by now.
            tokio::time::sleep(Duration::from_secs(60)).await;
            run(&sim, only("second"), nothing_refused).await
        };
        let (first, second) = tokio::join!(first, second);
        assert!(matches!(second.result, Err(Error::Locked { .. })), "{:?}", second.result);
        assert!(second.log.sent("").is_empty(), "{:?}", second.log.sent(""));
        assert_eq!((first.report().outcome, first.report().nodes_rotated), (Verdict::Done, 3));
        assert!(first.log.sent("").iter().all(|line| !line.contains(" second")), "the other group is not touched");
        assert_eq!(sim.left_behind(), [""; 0]);
    });
}

/// upgrade-manager's README sets its drain time-out to 0 or -1, which fails every drain at once.
#[test]
fn peer_02_no_timeout_of_zero_or_below_fails_every_drain() {
    for wrong in ["0", "0s", "-1", "-1s"] {
        let said = wrong.parse::<Timeout>().unwrap_err();
        assert!(said.contains(wrong) && said.contains("never"), "{said}");
    }
    let never = Policy {
        drain_timeout: Timeout::Never,
        join_timeout: Timeout::Never,
        gate_timeout: Timeout::Never,
        terminate_timeout: Timeout::Never,
        ..surge(1)
    };
    let web = workload("web", "replicas=4\nbudgets=[{ max_unavailable = 1 }]");
    let (run, left) = play(&(group("g", 3, "") + &web), never, nothing_refused);
    assert_eq!((run.report().outcome, run.report().nodes_rotated), (Verdict::Done, 3));
    assert_eq!(left, [""; 0]);
}

/// upgrade-manager's error channel holds one: the second drain that fails blocks for ever.
#[test]
fn peer_03_a_second_failing_drain_does_not_block_the_run() {
    let policy = Policy { drains: Amount::Count(4), ..surge(4) };
    let text = group("g", 4, "") + &slow_to_come_back("web", "['g']") + &slow_to_come_back("api", "['g']");
    let (run, _) = play(&text, policy, nothing_refused);
    assert!(run.skipped().len() >= 2, "{:?}", run.skipped());
    assert_eq!(run.report().outcome, Verdict::Incomplete);
}

/// upgrade-manager drains on although the step before the drain has failed, and never takes a documented wait.
#[test]
fn peer_04_nothing_goes_on_after_a_step_before_it_failed() {
    let cordons_fail = |line: &str| line.starts_with("cordon").then_some(ErrorKind::Other);
    let text = group("g", 3, "") + &workload("web", "replicas=4");
    let (run, _) = play(&text, surge(1), cordons_fail);
    assert!(!run.log.sent("cordon").is_empty());
    // It fails for ever: after 15 minutes the rotation ends, and the surge cannot be given back either.
    assert!(matches!(run.result, Err(Error::Stuck { .. })), "{:?}", run.result);
    let ends = |e: &EventKind| matches!(e, EventKind::Error { message, .. } if message.contains("for 15 min, so"));
    assert!(run.position(ends).is_some());
    assert_eq!(run.log.sent("evict"), [""; 0], "no node was cordoned, so none is drained");
    assert!(run.log.sent("terminate").iter().all(|line| line.ends_with(" true")), "only the surge is given back");

    // The wait for volumes is taken: the drained node stays until its last one is detached.
    let detaching = |seconds: f64| {
        let text = format!("[times]\ndetach_s=[{seconds:.1}, 0.0]\n{}", group("g", 3, ""))
            + &workload("db", "kind='statefulset'\nreplicas=3\nvolume=true");
        let (run, _) = play(&text, surge(1), nothing_refused);
        assert_eq!(run.report().nodes_rotated, 3);
        run.report().duration_s
    };
    assert!(detaching(120.0) > detaching(1.0) + 3.0 * 100.0, "three nodes, two minutes of detaching each");
}

/// TwiN/aws-eks-asg-rolling-update-handler and kured evict again at once when a budget says no.
#[test]
fn peer_05_a_blocked_eviction_is_not_repeated_without_delay() {
    let text = group("g", 3, "") + &slow_to_come_back("web", "['g']");
    let (run, _) = play(&text, surge(1), nothing_refused);
    let mut by_pod: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    for pod in run.log.sent("evict") {
        by_pod.insert(pod.clone(), run.log.times(&pod));
    }
    let repeated: Vec<_> = by_pod.values().filter(|times| times.len() > 1).collect();
    assert!(!run.skipped().is_empty(), "a budget blocked a drain to its time-out");
    for times in repeated {
        assert!(times.windows(2).all(|w| w[1] - w[0] >= Duration::from_secs(1)), "{times:?}");
        assert!(times.len() <= 30, "{} tries in a quarter of an hour", times.len());
    }
}

/// aws-eks-asg-rolling-update-handler's time-out ends the wait, not the work: two handlers then run.
#[test]
fn peer_06_a_drain_that_timed_out_is_really_given_up() {
    let text = group("g", 4, "") + &slow_to_come_back("web", "['g']") + &workload("free", "replicas=8");
    let (run, left) = play(&text, surge(1), nothing_refused);
    assert!(!run.skipped().is_empty());
    for node in run.skipped().keys() {
        let given_up =
            run.position(|e| matches!(e, EventKind::NodeSkipped { about, .. } if about.node.as_ref() == Some(node)));
        let evicting = |e: &Event| matches!(&e.kind, EventKind::PodEvicting { node: n, .. } if n == node);
        let later = run.events[given_up.unwrap()..].iter().filter(|e| evicting(e)).count();
        assert_eq!(later, 0, "{node} was given up, and its pods are still evicted");
        let cordons = run.log.sent(&format!("cordon {node} ")).len();
        assert_eq!(cordons, run.log.sent(&format!("uncordon {node} ")).len(), "it is open again");
    }
    assert_eq!(left, [""; 0]);
}

/// eks-rolling-update counts Ready=Unknown as ready, aws-asg-roller looks at the last condition's type only and
/// counts what never registered, nidhogg counts pods without container statuses.
#[test]
fn peer_07_what_is_unknown_or_missing_is_not_ready() {
    let functional = |change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = worlds::world();
        change(&mut snapshot);
        snapshot.reindex();
        let node = &snapshot.nodes[&NodeName::from("new-0")];
        (serves(node), judge(&Policy::default(), &snapshot, node).unmet.is_empty())
    };
    assert_eq!(functional(&|_| ()), (true, true));
    let ready = |status: ConditionStatus| {
        functional(&move |s| {
            let conditions = &mut worlds::node_mut(s, "new-0").conditions;
            conditions.get_mut("Ready").unwrap().status = status;
            // A later condition that is true changes nothing.
            let other = Condition { status: ConditionStatus::True, reason: "".into(), message: None, since: None };
            conditions.insert("ZLast".into(), other);
        })
    };
    assert_eq!(ready(ConditionStatus::Unknown), (false, false));
    assert_eq!(ready(ConditionStatus::False), (false, false));
    assert_eq!(functional(&|s| worlds::node_mut(s, "new-0").conditions.clear()), (false, false));
    let statuses = |s: &mut Snapshot| worlds::pod_mut(s, "pod-aws-node-new-0").containers.clear();
    assert!(!functional(&statuses).1);

    // An instance in service that never registered holds the drains back.
    let text = group("g", 3, "") + "[[faults.never_joins]]\nlaunches=[1]\n";
    let (run, _) = play(&text, surge(1), nothing_refused);
    assert_eq!(run.report().outcome, Verdict::CanaryFailed);
    assert_eq!(run.log.sent("cordon"), [""; 0]);
}

/// upgrade-manager, kOps and Cyclops take the old node out of its load balancer before its replacement exists.
#[test]
fn peer_08_an_old_node_keeps_its_load_balancer_until_its_replacement_is_functional() {
    let labelled = |functional: bool| {
        let mut snapshot = worlds::world();
        worlds::group_mut(&mut snapshot).attachments = [Attachment("tg".into())].into();
        if !functional {
            let conditions = &mut worlds::node_mut(&mut snapshot, "new-0").conditions;
            conditions.get_mut("Ready").unwrap().status = ConditionStatus::False;
        }
        worlds::mark(&mut snapshot, "old-0", NodeMark::Draining);
        snapshot.reindex();
        let policy = surge(1);
        snapshot.refresh(&policy);
        let plan = plan(&policy, &snapshot, worlds::now());
        let excludes = |a: &Action| match a {
            Action::ChangeNode { change, .. } => change.labels.contains_key(marks::EXCLUDE_FROM_LB),
            _ => false,
        };
        plan.actions.iter().any(|p| excludes(&p.action))
    };
    assert!(labelled(true));
    assert!(!labelled(false));
}

/// bottlerocket-update-operator lets pods a budget blocks hold every slot, and says "drained" when evictions
/// have failed.
#[test]
fn peer_09_blocked_drains_do_not_hold_the_others_up_and_are_not_called_drained() {
    let text = group("g", 6, "") + &slow_to_come_back("web", "['g']") + &workload("free", "replicas=12");
    let (run, _) = play(&text, surge(1), nothing_refused);
    let skipped: BTreeSet<_> = run.skipped().keys().cloned().collect();
    assert!(!skipped.is_empty());
    assert!(run.report().nodes_rotated > 0, "the others were rotated");
    let drained = run.events.iter().filter_map(|e| match &e.kind {
        EventKind::NodeDrained { about, .. } => about.node.clone(),
        _ => None,
    });
    assert!(drained.into_iter().all(|node| !skipped.contains(&node)), "a skipped node was called drained");
}

/// cloud-platform's recycle-node deletes past the budget, unasked, when the drain times out.
#[test]
fn peer_10_a_drain_that_times_out_never_deletes_past_the_budget_unasked() {
    let text = group("g", 3, "") + &slow_to_come_back("web", "['g']");
    let (run, _) = play(&text, surge(1), nothing_refused);
    assert!(!run.skipped().is_empty());
    assert_eq!(run.log.sent("delete-pod"), [""; 0]);
    let terminated = run.log.sent("terminate");
    for node in run.events.iter().filter_map(|e| match &e.kind {
        EventKind::NodeSkipped { about, .. } => about.instance.clone(),
        _ => None,
    }) {
        assert!(!terminated.iter().any(|t| t.contains(node.as_str())), "{node} was given up, and terminated");
    }
}

/// upgrade-manager's head skips a node its cache has lost and counts it as drained.
#[test]
fn peer_11_a_node_that_is_not_in_the_cache_is_not_taken_for_drained() {
    // Whether its instance is planned to be terminated, and whether the checker lets the plan pass.
    let terminated = |change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = worlds::world();
        worlds::drained(&mut snapshot, 0);
        change(&mut snapshot);
        snapshot.reindex();
        let policy = surge(1);
        snapshot.refresh(&policy);
        let plan = plan(&policy, &snapshot, worlds::now());
        let old = InstanceId::from("i-old-0");
        let planned =
            plan.actions.iter().any(|p| matches!(&p.action, Action::Terminate { instance, .. } if *instance == old));
        (planned, invariants::check(&policy, &snapshot, &plan, worlds::now()).is_ok())
    };
    assert_eq!(terminated(&|_| ()), (true, true), "drained and known: it goes");
    assert!(!terminated(&|s| drop(s.nodes.remove(&NodeName::from("old-0")))).0, "its Node is not known");
    let unlisted = |s: &mut Snapshot| assert!(s.synced.kinds.remove(&Kind::Pod));
    assert!(!terminated(&unlisted).1, "the pods have not been heard in full");
}

/// aws-eks-asg-rolling-update-handler decrements whenever the pods happen to fit: a group of 12 ended at 3.
#[test]
fn peer_12_desired_capacity_does_not_sink_as_a_side_effect() {
    // Empty nodes: everything would fit elsewhere.
    for policy in [surge(1), surge(4), Policy { unavailable: Amount::Count(2), ..surge(0) }, Policy::default()] {
        let (run, left) = play(&(group("g", 12, "min=0") + &workload("web", "replicas=2")), policy, nothing_refused);
        assert_eq!((run.report().outcome, run.report().nodes_rotated), (Verdict::Done, 12));
        assert_eq!(left, [""; 0], "desired, maximum, tags and processes are as before");
    }
}

/// eks-rolling-update exits with every node cordoned and processes suspended when its drain command fails.
#[test]
fn peer_13_failing_drains_leave_no_node_cordoned_and_no_process_suspended() {
    let evictions_fail = |line: &str| line.starts_with("evict").then_some(ErrorKind::Other);
    let policy = Policy { drain_timeout: Timeout::After(SignedDuration::from_mins(2)), ..surge(1) };
    let text = group("g", 3, "") + &workload("web", "replicas=6");
    let (run, left) = play(&text, policy, evictions_fail);
    assert!(!run.log.sent("evict").is_empty());
    assert_eq!(run.report().outcome, Verdict::Incomplete);
    assert_eq!(left, [""; 0]);
}

/// upgrade-manager v1.0.9 compares `$Latest` with the instance's version as text: outdated without end.
#[test]
fn peer_14_latest_and_default_are_resolved_not_compared_as_text() {
    for version in ["$Latest", "$Default"] {
        on_virtual_time(async {
            let text = group("g", 3, &format!("version='{version}'"));
            let sim = World::start(&scenario(&text), 11);
            let first = run(&sim, surge(1), nothing_refused).await;
            assert_eq!((first.report().outcome, first.report().nodes_rotated), (Verdict::Done, 3));
            let second = run(&sim, surge(1), nothing_refused).await;
            assert_eq!((second.report().outcome, second.report().nodes_rotated), (Verdict::Done, 0));
            assert_eq!(second.log.sent(""), [""; 0], "the new nodes are current");
        });
    }
}
