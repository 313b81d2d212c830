//! What a node no longer shows is unknown, and a node that shows nothing is left out with the reason.

use fastnode::cluster::evidence::EventRecord;
use fastnode::model::*;
use fastnode::observe::Snapshot;
use fastnode::readiness::stages::{LeftOut, Moments, Stage, boots};
use jiff::SignedDuration;

use crate::build::{Came, at, start, with};
use crate::worlds::*;

fn good() -> Snapshot {
    with(20, &[Came::up("kube-proxy", 2, 5), Came::up("aws-node", 3, 22)])
}

fn aws_node(snapshot: &mut Snapshot) -> &mut Pod {
    pod_mut(snapshot, "pod-aws-node-new-0")
}

/// The moments of `new-0` after a change, and why some are unknown.
fn moments(change: impl FnOnce(&mut Snapshot)) -> (Moments, Vec<String>) {
    let mut snapshot = good();
    change(&mut snapshot);
    let start = start(&snapshot).unwrap();
    (start.moments, start.unknown.iter().map(ToString::to_string).collect())
}

fn left_out(change: impl FnOnce(&mut Snapshot)) -> Option<String> {
    let mut snapshot = good();
    change(&mut snapshot);
    start(&snapshot).err().map(|why| why.to_string())
}

#[test]
fn a_node_that_still_shows_its_start_has_every_stage() {
    let mut snapshot = good();
    let activity = |description: &str, second| Activity {
        id: format!("a{second}").into(),
        group: GROUP.into(),
        instance: Some("i-new-0".into()),
        description: description.into(),
        cause: "".into(),
        message: None,
        status: ActivityStatus::Successful,
        started: at(second),
        ended: None,
    };
    let out = activity("Launching a new EC2 instance from warm pool: i-new-0", -19);
    let into = activity("Launching a new EC2 instance into warm pool: i-new-0", -900);
    snapshot.apply_activities(&GROUP.into(), vec![activity("Terminating EC2 instance: i-new-0", 90), out, into]);
    let node = snapshot.nodes[&NodeName::from("new-0")].clone();
    let mut web = pod("web", ObjectKey::new("shop", "web"), &node);
    (web.scheduled, web.ready_since) = (Some(at(21)), Some(at(30)));
    snapshot.pods.insert(web.uid.clone(), web.into());
    let mut start = start(&snapshot).unwrap();
    start.booted(&[at(-6)]);
    let seconds: Vec<_> = Stage::ALL.iter().map(|s| start.moments.seconds(*s).unwrap()).collect();
    assert_eq!(seconds, [4.0, 9.0, 15.0, 20.0, 2.0, 22.0, 37.0, 30.0]);
    assert_eq!(start.template.as_deref(), Some("lt-1 version 2"));
    assert_eq!((start.restarts(), start.unknown), (0, vec![]));
}

#[test]
fn pods_made_later_than_five_minutes_after_the_node_say_nothing_of_its_start() {
    let renewed = |second| {
        left_out(move |s| {
            for name in ["pod-aws-node-new-0", "pod-kube-proxy-new-0"] {
                pod_mut(s, name).created = at(second);
            }
        })
    };
    assert_eq!(renewed(300), None);
    assert_eq!(renewed(301), Some("no DaemonSet pod on it was made within 5 minutes of its Node".to_owned()));
    // The Node was deleted and made again under pods that stayed.
    assert_eq!(renewed(-3), Some("no DaemonSet pod on it was made within 5 minutes of its Node".to_owned()));
    let none = left_out(|s| s.pods.retain(|_, p| !p.is_daemon()));
    assert_eq!(none, Some("it has no DaemonSet pod".to_owned()));
}

#[test]
fn one_gated_set_that_was_renewed_makes_functional_unknown_and_leaves_the_rest() {
    let (moments, why) = moments(|s| aws_node(s).created = at(9000));
    assert_eq!((moments.ready, moments.functional), (Some(at(20)), None));
    assert_eq!(why, ["kube-system/aws-node: its pod is not the one that the node started with"]);
}

#[test]
fn a_gated_set_without_a_pod_is_told_from_one_that_was_renewed() {
    let (moments, why) = moments(|s| _ = s.pods.remove(&Uid::from("pod-aws-node-new-0")));
    assert_eq!(moments.functional, None);
    assert_eq!(why, ["kube-system/aws-node: no pod here"]);
}

#[test]
fn a_pod_that_flapped_since_makes_functional_unknown() {
    let (moments, why) = moments(|s| aws_node(s).ready_since = Some(at(86_400)));
    assert_eq!(moments.functional, None);
    assert_eq!(why, ["kube-system/aws-node: its pod has changed since it started"]);
    let (moments, why) = self::moments(|s| aws_node(s).flags.ready = false);
    assert_eq!(moments.functional, None);
    assert_eq!(why, ["kube-system/aws-node: its pod is not Ready"]);
}

#[test]
fn restarts_of_later_are_none_of_the_start() {
    let mut snapshot = good();
    let container = &mut aws_node(&mut snapshot).containers[0];
    container.restarts = 4;
    container.state = ContainerState::Running(Some(at(40_000)));
    container.last =
        Some(LastRun { exit_code: 137, reason: "OOMKilled".into(), started: Some(at(3)), finished: Some(at(39_990)) });
    let start = start(&snapshot).unwrap();
    let chain = start.daemonsets.iter().find(|c| &*c.daemonset.name == "aws-node").unwrap();
    assert_eq!((chain.restarts, chain.started, start.restarts()), (None, None, 0));
}

#[test]
fn a_waiter_that_started_over_was_not_restarted() {
    let mut snapshot = good();
    let mut waiter = container("fastnode-wait-kubernetes", true);
    let run = |exit_code, from| LastRun {
        exit_code,
        reason: "".into(),
        started: Some(at(from)),
        finished: Some(at(from + 1)),
    };
    waiter.restarts = 2;
    waiter.last = Some(run(75, 2));
    waiter.state = ContainerState::Terminated(run(0, 4));
    aws_node(&mut snapshot).containers.insert(0, waiter);
    assert_eq!(start(&snapshot).unwrap().restarts(), 0);
}

#[test]
fn a_ready_condition_that_changed_since_is_unknown() {
    let ready =
        |second| moments(move |s| node_mut(s, "new-0").conditions.get_mut("Ready").unwrap().since = Some(at(second)));
    assert_eq!(ready(900).0.ready, Some(at(900)));
    let (moments, why) = ready(901);
    assert_eq!((moments.ready, moments.functional), (None, None));
    assert_eq!(why, ["its Ready condition has changed since it started"]);
}

#[test]
fn a_workload_bound_before_the_node_was_ready_shows_that_it_was_ready_before() {
    let bound = |tolerates_everything: bool| {
        moments(move |s| {
            let node = s.nodes[&NodeName::from("new-0")].clone();
            let mut web = pod("web", ObjectKey::new("shop", "web"), &node);
            web.scheduled = Some(at(6));
            web.tolerates_cordon = tolerates_everything;
            s.pods.insert(web.uid.clone(), web.into());
        })
    };
    let (moments, why) = bound(false);
    assert_eq!(moments.ready, None);
    assert_eq!(why, ["its Ready condition has changed since it started"]);
    assert_eq!(bound(true).0.ready, Some(at(20)), "such a pod goes to any node");
}

#[test]
fn a_node_that_is_not_ready_yet_shows_what_it_has_behind_it() {
    let (moments, why) = moments(|s| {
        node_mut(s, "new-0").conditions.get_mut("Ready").unwrap().status = ConditionStatus::False;
    });
    assert_eq!(moments.seconds(Stage::Joined), Some(15.0));
    assert_eq!((moments.ready, moments.functional), (None, None));
    assert_eq!(why, ["it is not Ready"]);
}

fn booted(starts: &[i64]) -> Moments {
    let mut start = start(&good()).unwrap();
    start.booted(&starts.iter().map(|second| at(*second)).collect::<Vec<_>>());
    let whole: f64 = start.path.iter().filter(|s| s.to <= at(0)).map(|s| s.seconds()).sum();
    assert!((whole - 15.0).abs() < 1e-9, "no gap before the Node's creation: {:?}", start.path);
    start.moments
}

#[test]
fn an_instance_has_booted_when_its_kubelet_starts_between_launch_and_registration() {
    // Launched at -15.
    let moments = booted(&[-4]);
    assert_eq!((moments.seconds(Stage::Booted), moments.seconds(Stage::Joined)), (Some(11.0), Some(15.0)));
    assert_eq!(booted(&[-4, -9]).booted, Some(at(-9)), "it failed and was started again");
    assert_eq!(booted(&[-60, 40]).booted, None, "another instance's of that name, and a restart");
    assert_eq!(booted(&[1]).booted, Some(at(0)), "stamps of whole seconds");
    assert_eq!(booted(&[]).seconds(Stage::Booted), None);
}

#[test]
fn only_kubelets_events_tell_when_they_started() {
    let event = |kind: &str, reason: &str, source: &str| EventRecord {
        kind: kind.into(),
        about: ObjectKey::new("", "new-0"),
        uid: Some("new-0".into()),
        warning: false,
        reason: reason.into(),
        message: "Starting kubelet.".into(),
        count: 1,
        first: Some(at(-4)),
        last: Some(at(50)),
        source: source.into(),
    };
    let events = [
        event("Node", "Starting", "kubelet"),
        event("Node", "Starting", "kube-proxy"),
        event("Pod", "Starting", "kubelet"),
        event("Node", "NodeReady", "kubelet"),
    ];
    assert_eq!(boots(&events), [("new-0".into(), vec![at(-4)])].into());
}

#[test]
fn an_instance_that_was_stopped_and_started_again_shows_no_boot() {
    let (moments, _) = moments(|s| instance_mut(s, "i-new-0").launched_at = Some(at(5000)));
    assert_eq!(moments.provisioned, None);
    assert_eq!(moments.seconds(Stage::Start), Some(22.0));
}

fn pressures(snapshot: &mut Snapshot, second: i64) {
    for name in ["MemoryPressure", "DiskPressure", "PIDPressure"] {
        let condition = Condition {
            status: ConditionStatus::False,
            reason: "Kubelet".into(),
            message: None,
            since: Some(at(second)),
        };
        node_mut(snapshot, "new-0").conditions.insert(name.into(), condition);
    }
}

#[test]
fn a_clock_that_differs_is_said_and_its_times_are_not_used() {
    assert_eq!(left_out(|s| pressures(s, -47)), Some("its clock is 47s behind the API server's".to_owned()));
    assert_eq!(left_out(|s| pressures(s, 60)), Some("its clock is 60s ahead of the API server's".to_owned()));
    let behind = left_out(|s| aws_node(s).containers[0].state = ContainerState::Running(Some(at(-30))));
    assert_eq!(behind, Some("its clock is 31s behind the API server's".to_owned()));
    let skewed = LeftOut::Skewed(-30);
    assert_eq!(skewed.kind(), LeftOut::Skewed(9).kind());
}

#[test]
fn seconds_of_difference_and_conditions_that_changed_later_are_no_skew() {
    assert_eq!(left_out(|s| pressures(s, -5)), None);
    assert_eq!(left_out(|s| pressures(s, 5)), None);
    // A kubelet that was lost: everything it says is as of its return.
    let lost = |s: &mut Snapshot| {
        pressures(s, 100);
        node_mut(s, "new-0").conditions.get_mut("Ready").unwrap().since = Some(at(100));
    };
    assert_eq!(left_out(lost), None);
    // One of them changed on its own: a real pressure.
    let one = |s: &mut Snapshot| {
        pressures(s, 0);
        node_mut(s, "new-0").conditions.get_mut("DiskPressure").unwrap().since = Some(at(100));
    };
    assert_eq!(left_out(one), None);
    assert_eq!(left_out(|s| pressures(s, 90_000)), None);
}

#[test]
fn windows_and_fargate_nodes_are_left_out() {
    let label = |key: &'static str, value: &'static str| {
        left_out(move |s| _ = node_mut(s, "new-0").labels.insert(key.into(), value.into()))
    };
    assert_eq!(label("kubernetes.io/os", "windows").unwrap(), "Windows nodes are not measured");
    assert_eq!(label("eks.amazonaws.com/compute-type", "fargate").unwrap(), "Fargate nodes are not measured");
    assert_eq!(label("kubernetes.io/os", "linux"), None);
}

#[test]
fn a_node_of_no_group_is_measured_without_its_launch() {
    let mut snapshot = good();
    snapshot.instances.remove(&InstanceId::from("i-new-0"));
    let start = start(&snapshot).unwrap();
    assert_eq!((start.group, start.moments.provisioned), (None, None));
    assert_eq!(start.zone, Some("a".into()));
    assert_eq!(start.moments.functional, Some(at(22)));
}

#[test]
fn the_first_workload_pod_is_one_of_the_start_or_unknown() {
    let first = |scheduled: i64, ready: i64| {
        moments(move |s| {
            let node = s.nodes[&NodeName::from("new-0")].clone();
            let mut web = pod("web", ObjectKey::new("shop", "web"), &node);
            (web.scheduled, web.ready_since) = (Some(at(scheduled)), Some(at(ready)));
            s.pods.insert(web.uid.clone(), web.into());
        })
        .0
        .first_pod
    };
    assert_eq!(first(30, 40), Some(at(40)));
    assert_eq!(first(30, 40 + SignedDuration::from_mins(15).as_secs()), None);
}
