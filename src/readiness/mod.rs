//! When a node is functional, and what it still lacks.
//!
//! Ready is not usable. A node is functional when it is Ready, open for pods, rid of its startup taints, has
//! the CSI drivers and extended resources of its group, and when each gated DaemonSet that should run there
//! has a current pod, Running and Ready, that was never restarted. Everything missing or unknown counts as
//! unmet: it fails closed. Nothing here reads a clock: how long it must have stayed so is the planner's.

pub mod diagnosis;
mod expected;
mod gate;
mod peers;
mod pods;
pub mod stages;
mod taints;

pub use expected::should_run;
pub use gate::gated;
pub(crate) use pods::restarted;
pub use taints::{is_startup_taint, serves};

/// How often containers of gated DaemonSets were restarted on a node; a waiter that starts over is none.
pub fn restarts_on(policy: &Policy, snapshot: &Snapshot, node: &Node) -> u32 {
    let counts = |pod: &&Pod| {
        let set = pod.owner.as_ref().and_then(|owner| snapshot.daemonsets.get(&owner.uid));
        set.is_some_and(|set| gated(policy, set))
    };
    snapshot.pods_on(&node.name).filter(counts).flat_map(restarted).map(|container| container.restarts).sum()
}

use std::fmt;

use jiff::Timestamp;

use crate::model::{ConditionStatus, Container, DaemonSet, Node, Pod, Text};
use crate::observe::Snapshot;
use crate::plan::WaitReason;
use crate::policy::{Policy, Restarts};

use peers::Lack;
use pods::Clauses;

/// One thing a node lacks to be functional. Displays as one sentence, without the node's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// What is waited for; names the culprit.
    pub reason: WaitReason,
    /// The same as one sentence: `aws-node: container aws-node restarted 1x, last exit code 1`.
    pub sentence: Text,
    /// No wait cures it: a restart that the policy does not tolerate stays counted for as long as the pod lives.
    pub lasting: bool,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// What a node lacks, and since when it lacks nothing.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// What is unmet; empty where nothing is.
    pub unmet: Vec<Unmet>,
    /// When the last condition that has a transition time (the node's, and each gated pod's) became true; the
    /// soak runs from here. `None` where something is unmet. The end of a startup taint and the registration
    /// of a CSI driver leave no time behind and are not in it.
    pub since: Option<Timestamp>,
    /// Restarts that the policy lets pass, and waiters that asked to be started over; to be reported.
    pub tolerated: Vec<Unmet>,
    /// How a node that lacks nothing differs from the healthy old nodes of its group, which a new template may
    /// intend: sentences, to be reported.
    pub differs: Vec<Text>,
}

impl Judgement {
    /// Whether nothing is unmet. The soak is not in it.
    pub fn is_met(&self) -> bool {
        self.unmet.is_empty()
    }
}

/// Judges one new node by `policy`. The same snapshot gives the same judgement at any time.
pub fn judge(policy: &Policy, snapshot: &Snapshot, node: &Node) -> Judgement {
    let mut judgement = Judgement::default();
    let mut since = judge_node(node, &mut judgement.unmet);

    let daemons: Vec<&Pod> = snapshot.pods_on(&node.name).filter(|p| p.is_daemon()).collect();
    for set in snapshot.daemonsets.values().filter(|set| gated(policy, set) && should_run(set, node)) {
        match pods::pod_of(set, snapshot.revisions.get(&set.uid), &daemons, Clauses::New) {
            Ok(pod) => {
                since = since.max(pod.ready_since);
                judge_restarts(policy, snapshot, node, (set, pod), &daemons, &mut judgement);
            }
            Err(why) => {
                // A pod that crashes again and again is hardly ever seen Running.
                let pod = pods::lasting_pod(set, snapshot.revisions.get(&set.uid), &daemons);
                let too_often = |c: &Container| !tolerates(policy, snapshot, node, set, c);
                let lasting = pod.is_some_and(|pod| pods::restarted(pod).any(too_often));
                judgement.unmet.push(Unmet { lasting, ..lacking_daemonset(set, why.into()) });
            }
        }
    }

    // Drivers and devices register last: asked only once all else is met.
    if judgement.is_met()
        && let Some(lack) = peers::lacks(snapshot, node)
    {
        judgement.unmet.push(lacking_feature(lack));
    }
    if judgement.is_met() {
        judgement.differs = peers::differences(snapshot, node);
    }
    judgement.since = if judgement.is_met() { since } else { None };
    judgement
}

/// The Running and Ready pod of `set` among the DaemonSet pods of a node that has run for a while, its revision
/// and restarts left aside; what preflight judges old nodes by.
///
/// # Errors
/// What is wrong, a sentence.
pub(crate) fn standing_pod<'a>(set: &DaemonSet, pods: &[&'a Pod]) -> Result<&'a Pod, String> {
    pods::pod_of(set, None, pods, Clauses::Old)
}

/// Conditions that are good while they are `False`; a Node that does not have one is not asked for it.
const PRESSURES: [&str; 4] = ["DiskPressure", "MemoryPressure", "PIDPressure", "NetworkUnavailable"];

/// Judges the Node itself; since when its conditions are good. One that comes and goes begins anew each time.
fn judge_node(node: &Node, unmet: &mut Vec<Unmet>) -> Option<Timestamp> {
    let mut not_ready = |why: Text| {
        unmet.push(Unmet { sentence: why.clone(), reason: WaitReason::NodeReady { why }, lasting: false });
    };
    let ready = node.conditions.get("Ready");
    match ready {
        Some(c) if c.status == ConditionStatus::True && c.since.is_none() => {
            not_ready("Ready, but it does not say since when".into());
        }
        Some(c) if c.status == ConditionStatus::True => {}
        Some(c) => not_ready(match &c.message {
            Some(message) => format!("not Ready: {}: {message}", c.reason).into(),
            None => format!("not Ready: {}", c.reason).into(),
        }),
        None => not_ready("not Ready: it has no Ready condition yet".into()),
    }
    let mut since = ready.and_then(|c| c.since);
    for name in PRESSURES {
        let Some(condition) = node.conditions.get(name) else { continue };
        match condition.status {
            ConditionStatus::False => since = since.max(condition.since),
            ConditionStatus::True => not_ready(format!("{name}: {}", condition.reason).into()),
            ConditionStatus::Unknown => not_ready(format!("{name} is not known: {}", condition.reason).into()),
        }
    }
    if node.deleting {
        not_ready("the Node is being deleted".into());
    }
    if node.unschedulable {
        not_ready("the Node is cordoned".into());
    }
    for taint in node.taints.iter().filter(|t| is_startup_taint(t)) {
        unmet.push(Unmet {
            sentence: format!("startup taint {} is still on", taint.key).into(),
            reason: WaitReason::StartupTaint { taint: taint.key.clone() },
            lasting: false,
        });
    }
    since
}

/// Since when a node that failed for its restarts, and is cordoned for it, has been functional in all else; `None`
/// while it lacks something else.
pub fn functional_but_for_restarts(policy: &Policy, snapshot: &Snapshot, node: &Node) -> Option<Timestamp> {
    let lenient = Policy { restarts: Restarts::Warn, ..policy.clone() };
    let open = Node { unschedulable: false, ..node.clone() };
    judge(&lenient, snapshot, &open).since
}

fn judge_restarts(
    policy: &Policy,
    snapshot: &Snapshot,
    node: &Node,
    (set, pod): (&DaemonSet, &Pod),
    daemons: &[&Pod],
    judgement: &mut Judgement,
) {
    for container in pods::restarted(pod) {
        let lasting = !tolerates(policy, snapshot, node, set, container);
        let proxy = daemons.iter().copied().find(|other| pods::is_kube_proxy(snapshot, other) && other.uid != pod.uid);
        let fault = Unmet { lasting, ..lacking_daemonset(set, pods::restart_sentence(set, container, proxy)) };
        let list = if lasting { &mut judgement.unmet } else { &mut judgement.tolerated };
        list.push(fault);
    }
    let waiters = pods::started_over(pod).map(|waiter| lacking_daemonset(set, pods::waiter_sentence(set, waiter)));
    judgement.tolerated.extend(waiters);
}

/// Whether the policy lets a container of a new node have been restarted as often as it was.
fn tolerates(policy: &Policy, snapshot: &Snapshot, node: &Node, set: &DaemonSet, container: &Container) -> bool {
    match policy.restarts {
        Restarts::Zero => false,
        Restarts::Baseline => peers::as_often_when_new(policy, snapshot, node, set, container),
        Restarts::Warn => true,
    }
}

fn lacking_daemonset(set: &DaemonSet, why: Text) -> Unmet {
    Unmet { sentence: why.clone(), reason: WaitReason::DaemonSet { daemonset: set.key.clone(), why }, lasting: false }
}

fn lacking_feature(lack: Lack<'_>) -> Unmet {
    let (what, sentence): (Text, _) = match lack {
        Lack::Driver(name) => (format!("CSI driver {name}").into(), None),
        Lack::Resource { name, here: 0, .. } => (format!("extended resource {name}").into(), None),
        Lack::Resource { name, here, least } => {
            let sentence = format!("extended resource {name}: {here} here, {least} or more on every healthy old node");
            (format!("extended resource {name}").into(), Some(sentence.into()))
        }
    };
    let missing = || format!("{what} is on every healthy old node of its group, not here").into();
    Unmet { sentence: sentence.unwrap_or_else(missing), reason: WaitReason::NodeLacks { what }, lasting: false }
}
