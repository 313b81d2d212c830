//! Events: the only thing that leaves the engine. Progress bars, plain lines, JSON lines, journal and the
//! final report are folds over them. Ticks are events too.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::model::{GroupName, InstanceId, NodeName, ObjectKey, Text, Zone};
use crate::plan::{ActionReason, Block, InHand, Outdated, Progress, Verdict, Wait};
use crate::readiness::diagnosis::Finding;
use crate::readiness::stages::NodeStart;

/// The schema's version, `v` of each line.
pub const VERSION: u32 = 1;

/// An event at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// What.
    pub kind: EventKind,
}

/// The group, instance and Node an event is about; whatever is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
    /// The zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
    /// The instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// The Node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
}

/// Why a node is chosen to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chosen {
    /// It is an old node.
    Outdated,
    /// It is a replacement, and goes with the surge that is given back.
    Surge,
    /// It is a replacement that failed.
    Failed,
}

/// What happened. Serialised by [`crate::report`] with the contract's names (`rotation.planned`, …).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum EventKind {
    /// The plan, before anything is done.
    #[serde(rename = "rotation.planned")]
    RotationPlanned {
        /// The cluster.
        cluster: Text,
        /// Counts by group.
        groups: BTreeMap<GroupName, Progress>,
        /// What is held, and why.
        blocks: Vec<Block>,
        /// Expected duration, seconds.
        expected_s: f64,
        /// Lower bound, seconds.
        lower_bound_s: f64,
        /// What decides it.
        bottleneck: Text,
    },
    /// It begins, or goes on after a crash (`resumed` true).
    #[serde(rename = "rotation.started")]
    RotationStarted {
        /// Its id; as JSON it is the line's own `rotation`, from here on.
        #[serde(skip_serializing, default)]
        rotation: Text,
        /// A rotation found in progress is continued.
        resumed: bool,
        /// Outdated nodes now.
        outdated: u32,
    },
    /// Holds at a safe point.
    #[serde(rename = "rotation.paused")]
    RotationPaused,
    /// Goes on.
    #[serde(rename = "rotation.resumed")]
    RotationResumed,
    /// It begins nothing new any more, and puts back what it changed.
    #[serde(rename = "rotation.ending")]
    RotationEnding {
        /// The outcome it will have.
        why: Verdict,
    },
    /// It ended.
    #[serde(rename = "rotation.finished")]
    RotationFinished(Box<Report>),
    /// A node was chosen to go, and is being cordoned.
    #[serde(rename = "node.selected")]
    NodeSelected {
        /// Who.
        #[serde(flatten)]
        about: About,
        /// What it is to the rotation.
        reason: Chosen,
        /// Why it is outdated.
        outdated: Vec<Outdated>,
    },
    /// Its pods are being evicted.
    #[serde(rename = "node.draining")]
    NodeDraining {
        /// Who.
        #[serde(flatten)]
        about: About,
        /// Evictable pods on it.
        pods: u32,
    },
    /// Nothing evictable is left on it.
    #[serde(rename = "node.drained")]
    NodeDrained {
        /// Who.
        #[serde(flatten)]
        about: About,
        /// Since the first eviction, seconds.
        seconds: f64,
        /// What it is to the rotation.
        reason: Chosen,
    },
    /// Its instance is on its way out: its termination was accepted, or somebody else's scaling took it.
    #[serde(rename = "node.terminating")]
    NodeTerminating {
        /// Who.
        #[serde(flatten)]
        about: About,
        /// With decrement.
        decrement: bool,
        /// Somebody else took it before it was drained; left out otherwise.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_others: bool,
    },
    /// Its instance is gone.
    #[serde(rename = "node.gone")]
    NodeGone {
        /// Who.
        #[serde(flatten)]
        about: About,
        /// Since it was on its way out, seconds.
        seconds: f64,
        /// Somebody else took it before it was drained; left out otherwise.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_others: bool,
    },
    /// It was given up.
    #[serde(rename = "node.skipped")]
    NodeSkipped {
        /// Who.
        #[serde(flatten)]
        about: About,
        /// Why: names the culprit.
        why: Text,
    },
    /// A replacement is launching.
    #[serde(rename = "replacement.launching")]
    ReplacementLaunching {
        /// Who.
        #[serde(flatten)]
        about: About,
    },
    /// Its instance runs.
    #[serde(rename = "replacement.running")]
    ReplacementRunning {
        /// Who.
        #[serde(flatten)]
        about: About,
    },
    /// Its Node registered.
    #[serde(rename = "replacement.joined")]
    ReplacementJoined {
        /// Who.
        #[serde(flatten)]
        about: About,
    },
    /// Its Node is Ready.
    #[serde(rename = "replacement.ready")]
    ReplacementReady {
        /// Who.
        #[serde(flatten)]
        about: About,
        /// Since the Node was created, seconds.
        seconds: f64,
    },
    /// It passed the gate.
    #[serde(rename = "replacement.functional")]
    ReplacementFunctional {
        /// Who.
        #[serde(flatten)]
        about: About,
        /// Since the Node was created, seconds, soak excluded.
        seconds: f64,
        /// How it started, as `fastnode measure` tells it; left out where the world does not show it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        start: Option<Box<NodeStart>>,
        /// What the policy let pass: restarts under `baseline` and `warn`, waiters that asked to be started over.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tolerated: Vec<Text>,
        /// How it differs from all healthy old nodes of its group.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        differs: Vec<Text>,
    },
    /// It failed.
    #[serde(rename = "replacement.failed")]
    ReplacementFailed {
        /// Who.
        #[serde(flatten)]
        about: About,
        /// Why.
        diagnosis: Text,
    },
    /// An eviction is being posted.
    #[serde(rename = "pod.evicting")]
    PodEvicting {
        /// The pod.
        pod: ObjectKey,
        /// Its node.
        node: NodeName,
    },
    /// The eviction was accepted.
    #[serde(rename = "pod.evicted")]
    PodEvicted {
        /// The pod.
        pod: ObjectKey,
        /// Its node.
        node: NodeName,
        /// It was created after the rotation began: most likely it has moved before.
        moved_before: bool,
    },
    /// The eviction was refused, or is held back because a budget would refuse it.
    #[serde(rename = "pod.blocked")]
    PodBlocked {
        /// The pod.
        pod: ObjectKey,
        /// Its node.
        node: NodeName,
        /// By what: the budget, or what the server said.
        by: Text,
    },
    /// The pod is gone.
    #[serde(rename = "pod.gone")]
    PodGone {
        /// The pod.
        pod: ObjectKey,
        /// Its node.
        node: NodeName,
    },
    /// Something is waited for; sent when it begins and when its culprit changes.
    #[serde(rename = "wait")]
    Wait(Wait),
    /// An action is handed to the executor, with its reason (log level debug).
    #[serde(rename = "action")]
    Action {
        /// In words.
        what: String,
        /// Why.
        reason: ActionReason,
    },
    /// Something that a diagnosis found on a new node, or on an instance that did not become one.
    #[serde(rename = "diagnosis")]
    Diagnosis {
        /// Who was diagnosed.
        #[serde(flatten)]
        about: About,
        /// What was found.
        #[serde(flatten)]
        finding: Box<Finding>,
    },
    /// A fix would help, and this is how it would be brought in.
    #[serde(rename = "fix.proposed")]
    FixProposed {
        /// The fix.
        fix: Text,
        /// Its DaemonSet, `namespace/name`.
        daemonset: Text,
        /// How, in words.
        way: String,
        /// The change, a unified diff.
        diff: String,
    },
    /// A fix is in its object, and the restart of the pods that it brings is over.
    #[serde(rename = "fix.applied")]
    FixApplied {
        /// The fix.
        fix: Text,
        /// Its DaemonSet.
        daemonset: Text,
        /// Pods restarted.
        pods: u32,
    },
    /// A new node was measured against those before the fix.
    #[serde(rename = "fix.verified")]
    FixVerified {
        /// The fix.
        fix: Text,
        /// Its DaemonSet.
        daemonset: Text,
        /// What the comparison came to.
        #[serde(flatten)]
        effect: crate::fixes::Effect,
    },
    /// A fix was taken back.
    #[serde(rename = "fix.reverted")]
    FixReverted {
        /// The fix.
        fix: Text,
        /// Its DaemonSet.
        daemonset: Text,
        /// Why: asked for, of no effect, or what harm it did.
        why: String,
    },
    /// Something went wrong; the rotation goes on unless `fatal`.
    #[serde(rename = "error")]
    Error {
        /// What.
        message: String,
        /// It ends the rotation.
        fatal: bool,
    },
    /// Where everything stands; for bars, never written as a line.
    #[serde(rename = "progress")]
    Progress {
        /// Counts by group.
        groups: BTreeMap<GroupName, Progress>,
        /// Nodes in hand.
        in_hand: Vec<InHand>,
        /// Waits.
        waits: Vec<Wait>,
    },
    /// Time passed; for bars, never written as a line.
    #[serde(rename = "tick")]
    Tick,
}

/// Percentiles of a stage, seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 90th.
    pub p90: f64,
    /// 99th.
    pub p99: f64,
    /// Largest.
    pub max: f64,
}

impl Percentiles {
    /// By nearest rank; all 0 where there is no sample.
    pub fn of(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let rank = |p: usize| {
            let index = (sorted.len() * p).div_ceil(100).saturating_sub(1);
            sorted.get(index).copied().unwrap_or_default()
        };
        Self { p50: rank(50), p90: rank(90), p99: rank(99), max: rank(100) }
    }
}

/// Time between the lower bound and the run, and who spent it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeLost {
    /// To what.
    pub what: Text,
    /// Seconds.
    pub seconds: f64,
}

/// How far a fix came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FixState {
    /// It would help.
    Proposed,
    /// It is in place, and no new node has shown yet whether it helps.
    Applied,
    /// A new node has shown that it helps.
    Verified,
    /// It was taken back.
    Reverted,
}

/// What became of a fix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FixReport {
    /// The fix.
    pub fix: Text,
    /// How far it came.
    pub state: FixState,
    /// From the Node's creation to functional before it, and on the next new node, seconds; restarts there.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub effect: Option<crate::fixes::Effect>,
    /// New nodes that started with it since it was verified.
    pub nodes: u32,
    /// What it saved them altogether, seconds: each was functional so much sooner.
    pub saved_s: f64,
}

/// The report of a rotation: what `rotation.finished` carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// How it ended.
    pub outcome: Verdict,
    /// Old nodes terminated after a full drain.
    pub nodes_rotated: u32,
    /// Nodes given up, and why.
    pub nodes_skipped: BTreeMap<NodeName, Text>,
    /// Replacements that failed, by Node or else by instance, and why.
    #[serde(default)]
    pub replacements_failed: BTreeMap<Text, Text>,
    /// What passed the gate though it is worth a look, and on how many new nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub remarks: BTreeMap<Text, u32>,
    /// From the first action to the last thing put back.
    pub duration_s: f64,
    /// The bound by the run's own means; where no node was rotated, the plan's for all of them.
    pub lower_bound_s: f64,
    /// What decides it; `not known` beside a bound of 0 where others scaled the groups in.
    pub bottleneck: Text,
    /// Evictions accepted.
    pub evictions: u64,
    /// Workload pods that moved.
    pub pods_moved: u64,
    /// Of these, more than once.
    pub pods_moved_twice: u64,
    /// AWS requests by operation.
    pub aws_calls: BTreeMap<Text, u64>,
    /// Kubernetes requests by `verb resource`.
    pub kube_requests: BTreeMap<Text, u64>,
    /// Stage times.
    pub stages: BTreeMap<Text, Percentiles>,
    /// The stages (or DaemonSets) on the critical path of a new node.
    pub critical_path: Vec<Text>,
    /// Fixes proposed or applied, in their order.
    pub fixes: Vec<FixReport>,
    /// Where time over the bound went; where no node was rotated, all of it.
    pub time_lost: Vec<TimeLost>,
    /// What could not be put back, and how to.
    pub left_behind: Vec<Text>,
}

/// Where the engine sends its events: bounded, and closed when the reporter is gone.
pub type Sink = mpsc::Sender<Event>;
