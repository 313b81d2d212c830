//! A DaemonSet's part in a node's start.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{FIRST_GENERATION, SLACK, Step, within_start};
use crate::model::{Container, ContainerState, DaemonSet, Node, ObjectKey, Pod, Text};
use crate::observe::Snapshot;
use crate::policy::Policy;
use crate::readiness::{gated, restarted};

/// How the first-generation pod of a DaemonSet came up; `None` is unknown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// The DaemonSet.
    pub daemonset: ObjectKey,
    /// The node waits for it.
    pub gated: bool,
    /// The pod's name.
    pub pod: Text,
    /// The pod was made.
    pub created: Timestamp,
    /// It was bound to the node.
    pub scheduled: Option<Timestamp>,
    /// Its init containers had ended well.
    pub initialized: Option<Timestamp>,
    /// The container that came up last was started for the first time.
    pub began: Option<Timestamp>,
    /// The same container was started for the last time: the same moment where it was not restarted.
    pub started: Option<Timestamp>,
    /// The pod was Ready.
    pub ready: Option<Timestamp>,
    /// How often its containers were restarted while the node started, init containers included.
    pub restarts: Option<u32>,
    /// When containers failed, as far as it still shows: the last failure of each.
    pub failures: Vec<Timestamp>,
    /// When the last run that failed was started.
    pub failed_run: Option<Timestamp>,
    /// The pod is Ready now, whenever it became so.
    pub is_up: bool,
}

/// Whether a pod is the one its node started with.
pub(super) fn is_first_generation(node: &Node, pod: &Pod) -> bool {
    let age = pod.created.duration_since(node.created);
    age >= -SLACK && age <= FIRST_GENERATION
}

/// The chains of a node's first-generation DaemonSet pods; of two pods of one set, the first.
pub(super) fn of(policy: &Policy, snapshot: &Snapshot, node: &Node, pods: &[&Pod]) -> Vec<Chain> {
    let mut chains: Vec<Chain> = Vec::new();
    for pod in pods {
        let Some(set) = pod.owner.as_ref().and_then(|o| snapshot.daemonsets.get(&o.uid)) else { continue };
        match chains.iter_mut().find(|c| c.daemonset == set.key) {
            Some(other) if other.created <= pod.created => {}
            Some(other) => *other = chain(policy, node, set, pod),
            None => chains.push(chain(policy, node, set, pod)),
        }
    }
    chains
}

fn chain(policy: &Policy, node: &Node, set: &DaemonSet, pod: &Pod) -> Chain {
    let within = |at: Option<Timestamp>| at.and_then(|at| within_start(node, at));
    let started = within(started(pod));
    let ready = within(pod.ready_since.filter(|_| pod.flags.ready)).filter(|r| started.is_none_or(|s| *r >= s));
    let last = pod.containers.iter().filter(|c| !c.init).max_by_key(|c| running_since(c));
    let failed: Vec<&Container> = restarted(pod).collect();
    // What runs now has run since the start, or it has failed in it: its count is the start's.
    let counted = failed.iter().all(|c| within(sign_of_life(c)).is_some());
    let failures = failed.iter().filter_map(|c| within(c.last.as_ref()?.finished)).collect();
    Chain {
        daemonset: set.key.clone(),
        gated: gated(policy, set),
        pod: pod.key.name.clone(),
        created: pod.created.max(node.created),
        scheduled: within(pod.scheduled),
        initialized: within(pod.initialized),
        began: started.and_then(|_| within(last.and_then(began))),
        started,
        ready,
        restarts: counted.then(|| failed.iter().map(|c| c.restarts).sum()),
        failures,
        failed_run: last.filter(|c| c.restarts > 0).and_then(|c| within(c.last.as_ref()?.started)),
        is_up: pod.flags.ready,
    }
}

/// When the last of the main containers was started; `None` where one does not run.
fn started(pod: &Pod) -> Option<Timestamp> {
    let mut last = None;
    for container in pod.containers.iter().filter(|c| !c.init) {
        last = last.max(Some(running_since(container)?));
    }
    last
}

/// When a container was started for the first time, where that still shows.
fn began(container: &Container) -> Option<Timestamp> {
    match (container.restarts, &container.last) {
        (0, _) => running_since(container),
        (1, Some(last)) => last.started,
        _ => None,
    }
}

fn running_since(container: &Container) -> Option<Timestamp> {
    match container.state {
        ContainerState::Running(since) => since,
        ContainerState::Waiting(_) | ContainerState::Terminated(_) => None,
    }
}

/// When what a container does now began, or its last run ended.
fn sign_of_life(container: &Container) -> Option<Timestamp> {
    match &container.state {
        ContainerState::Running(since) => *since,
        ContainerState::Terminated(run) => run.finished.or(run.started),
        ContainerState::Waiting(_) => container.last.as_ref().and_then(|run| run.finished),
    }
}

/// The earliest start of any of a pod's containers that still shows.
pub(super) fn first_sign(pod: &Pod) -> Option<Timestamp> {
    let starts = |c: &Container| {
        let ended = match &c.state {
            ContainerState::Terminated(run) => run.started,
            ContainerState::Running(since) => *since,
            ContainerState::Waiting(_) => None,
        };
        [ended, c.last.as_ref().and_then(|run| run.started)].into_iter().flatten().min()
    };
    pod.containers.iter().filter_map(starts).min()
}

impl Chain {
    /// The steps from the Node's creation to the pod's being Ready, without gaps; a moment that is unknown is
    /// passed over, and its step is part of the next. Empty where the pod's being Ready is unknown.
    pub(super) fn steps(&self, joined: Timestamp) -> Vec<(Step, Timestamp, Timestamp)> {
        let Some(ready) = self.ready else { return Vec::new() };
        let restarted = self.restarts.is_none_or(|n| n > 0) && self.began != self.started;
        let moments = [
            (Step::Created, Some(self.created)),
            (Step::Scheduled, self.scheduled),
            (Step::Initialized, self.initialized),
            (Step::Started, self.began),
            (Step::Restarted, self.started.filter(|_| restarted)),
            (Step::Ready, Some(ready)),
        ];
        let mut steps = Vec::new();
        let mut from = joined;
        for (step, to) in moments {
            let Some(to) = to.filter(|to| *to >= from && *to <= ready) else { continue };
            steps.push((step, from, to));
            from = to;
        }
        steps
    }
}
