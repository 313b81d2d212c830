//! One new node, `new-0`, and what its DaemonSets' pods show; times are seconds after the Node's creation.

use fastnode::model::*;
use fastnode::observe::Snapshot;
use fastnode::policy::Policy;
use fastnode::readiness::stages::{LeftOut, NodeStart, Segment, requests, start_of};
use jiff::{SignedDuration, Timestamp};

use crate::worlds::*;

/// When `new-0` was created.
pub fn created() -> Timestamp {
    minute(2)
}

pub fn at(second: i64) -> Timestamp {
    created() + SignedDuration::from_secs(second)
}

/// What a DaemonSet's pod on `new-0` shows.
#[derive(Clone)]
pub struct Came {
    pub name: &'static str,
    pub made: i64,
    pub initialized: i64,
    pub started: i64,
    pub ready: i64,
    pub restarts: u32,
    /// Its previous run.
    pub failed: Option<(i64, i64)>,
}

impl Came {
    /// Started and Ready then, never restarted.
    pub fn up(name: &'static str, started: i64, ready: i64) -> Self {
        Self { name, made: 1, initialized: 1, started, ready, restarts: 0, failed: None }
    }

    /// Ran for a while, failed, and was restarted so often before the run that went well.
    pub fn failing(name: &'static str, restarts: u32, failed: (i64, i64), started: i64, ready: i64) -> Self {
        Self { restarts, failed: Some(failed), ..Self::up(name, started, ready) }
    }
}

/// The world with these DaemonSets alone, and with `new-0` Ready after so many seconds.
pub fn with(ready: i64, came: &[Came]) -> Snapshot {
    let mut snapshot = world();
    snapshot.daemonsets.clear();
    snapshot.revisions.clear();
    snapshot.pods.retain(|_, pod| !pod.is_daemon());
    let node = node_mut(&mut snapshot, "new-0");
    node.conditions.get_mut("Ready").unwrap().since = Some(at(ready));
    let node = node.clone();
    for came in came {
        let set = daemonset("kube-system", came.name);
        let mut pod = daemon_pod(&set, &node);
        pod.created = at(came.made);
        pod.scheduled = Some(at(came.made));
        pod.initialized = Some(at(came.initialized));
        pod.ready_since = Some(at(came.ready));
        pod.containers.remove(0);
        let container = &mut pod.containers[0];
        container.state = ContainerState::Running(Some(at(came.started)));
        container.restarts = came.restarts;
        container.last = came.failed.map(|(started, finished)| LastRun {
            exit_code: 1,
            reason: "Error".into(),
            started: Some(at(started)),
            finished: Some(at(finished)),
        });
        snapshot.pods.insert(pod.uid.clone(), pod.into());
        snapshot.daemonsets.insert(set.uid.clone(), set);
    }
    snapshot.reindex();
    snapshot
}

/// How `new-0` started.
pub fn start(snapshot: &Snapshot) -> Result<NodeStart, LeftOut> {
    let mut snapshot = snapshot.clone();
    snapshot.reindex();
    let node = &snapshot.nodes[&NodeName::from("new-0")];
    start_of(&Policy::default(), &snapshot, node, &requests(&snapshot))
}

/// The path of `new-0` from its Node's creation on, a line a segment.
pub fn path(snapshot: &Snapshot) -> Vec<String> {
    let start = start(snapshot).unwrap();
    let after = |s: &&Segment| s.from >= created();
    let second = |at: Timestamp| at.duration_since(created()).as_secs();
    let path: Vec<&Segment> = start.path.iter().filter(after).collect();
    for pair in path.windows(2) {
        assert_eq!(pair[0].to, pair[1].from, "a gap in {path:?}");
    }
    path.iter().map(|s| format!("{}-{} {s}", second(s.from), second(s.to))).collect()
}
