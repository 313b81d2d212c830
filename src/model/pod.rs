//! A Pod, slim: what the drain filters, the gate and the budgets read.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Labels, NodeName, ObjectKey, Text, Toleration, Uid};

/// A pod's phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Not all containers have started.
    Pending,
    /// Bound, and at least one container runs or restarts.
    Running,
    /// All containers ended well; such a pod bypasses budgets.
    Succeeded,
    /// All containers ended, one badly; such a pod bypasses budgets.
    Failed,
    /// Not known, or a word this version does not know.
    Unknown,
}

/// The controller that owns a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owner {
    /// `ReplicaSet`, `DaemonSet`, `StatefulSet`, `Job`, `Node`, …
    pub kind: Text,
    /// Its name.
    pub name: Text,
    /// Its UID.
    pub uid: Uid,
}

/// What a container is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Not started, or waiting to start again; the reason (`CrashLoopBackOff`, `PodInitializing`, …).
    Waiting(Text),
    /// Running since.
    Running(Option<Timestamp>),
    /// Ended.
    Terminated(LastRun),
}

/// A run of a container that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// How it exited: 0 well, 128 + n by signal n.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, …
    pub reason: Text,
    /// When it was started.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
}

/// A container's status. Kept for pods of DaemonSets only: nothing else is gated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its name.
    pub name: Text,
    /// An init container (restartable "sidecars" included).
    pub init: bool,
    /// How often it was restarted.
    pub restarts: u32,
    /// Its `ready`.
    pub ready: bool,
    /// Its state.
    pub state: ContainerState,
    /// Its previous run, where there was one.
    pub last: Option<LastRun>,
}

impl Container {
    /// Since when it runs, where it does and says so.
    pub fn running_since(&self) -> Option<Timestamp> {
        match self.state {
            ContainerState::Running(since) => since,
            ContainerState::Waiting(_) | ContainerState::Terminated(_) => None,
        }
    }
}

/// Facts about a pod that are yes or no.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodFlags {
    /// A mirror of a static pod (annotation `kubernetes.io/config.mirror`).
    pub mirror: bool,
    /// Uses an `emptyDir`.
    pub empty_dir: bool,
    /// On the host's network.
    pub host_network: bool,
    /// Uses a PersistentVolumeClaim (its volume may be bound to a zone).
    pub claims: bool,
    /// Has a spread constraint over zones with `DoNotSchedule`.
    pub hard_zone_spread: bool,
    /// `cluster-autoscaler.kubernetes.io/safe-to-evict: "false"`.
    pub not_safe_to_evict: bool,
    /// `karpenter.sh/do-not-disrupt`.
    pub do_not_disrupt: bool,
    /// Its `Ready` condition is `True`.
    pub ready: bool,
    /// Its priority class is `system-node-critical` or `system-cluster-critical`.
    pub critical: bool,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Its UID.
    pub uid: Uid,
    /// Namespace and name.
    pub key: ObjectKey,
    /// The node it is bound to.
    pub node: Option<NodeName>,
    /// Its phase.
    pub phase: Phase,
    /// When its deletion is due (`deletionTimestamp`).
    pub deleting: Option<Timestamp>,
    /// The owner with `controller: true`; pods of one owner share one record.
    pub owner: Option<Arc<Owner>>,
    /// Its labels; pods of one template share one set.
    pub labels: Arc<Labels>,
    /// Yes-or-no facts.
    pub flags: PodFlags,
    /// Container statuses; empty for pods that are not a DaemonSet's.
    pub containers: Vec<Container>,
    /// Label `controller-revision-hash`.
    pub revision: Option<Text>,
    /// CPU requested, in millicores.
    pub cpu: u64,
    /// Memory requested, in bytes.
    pub memory: u64,
    /// Tolerations that matter to a drain: those that tolerate `node.kubernetes.io/unschedulable`.
    pub tolerates_cordon: bool,
    /// Why it cannot be scheduled, where the scheduler said so.
    pub unschedulable: Option<Text>,
    /// When it was created.
    pub created: Timestamp,
    /// When it was bound to its node: its `PodScheduled` condition became true.
    pub scheduled: Option<Timestamp>,
    /// When its init containers had ended well: its `Initialized` condition became true. Kept for pods of
    /// DaemonSets.
    pub initialized: Option<Timestamp>,
    /// When its `Ready` condition last changed.
    pub ready_since: Option<Timestamp>,
}

impl Pod {
    /// Whether a DaemonSet owns it.
    pub fn is_daemon(&self) -> bool {
        self.owner.as_ref().is_some_and(|o| &*o.kind == "DaemonSet")
    }

    /// Whether it ended, well or badly: such a pod needs no eviction and bypasses budgets.
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Succeeded | Phase::Failed)
    }
}

/// Whether any of `tolerations` tolerates the cordon's taint.
pub fn tolerates_cordon(tolerations: &[Toleration]) -> bool {
    let taint = super::Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        value: None,
        effect: super::TaintEffect::NoSchedule,
    };
    tolerations.iter().any(|t| t.tolerates(&taint))
}
