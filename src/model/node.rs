//! A Node, its taints and conditions, its CSI drivers and the volumes attached to it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{InstanceId, Labels, NodeName, Text, Uid};

/// The effect of a taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TaintEffect {
    /// New pods that do not tolerate it are not scheduled here.
    NoSchedule,
    /// The scheduler avoids the node where it can.
    PreferNoSchedule,
    /// As `NoSchedule`, and pods here that do not tolerate it are evicted.
    NoExecute,
}

/// A taint of a Node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Taint {
    /// Its key.
    pub key: Text,
    /// Its value.
    pub value: Option<Text>,
    /// Its effect.
    pub effect: TaintEffect,
}

/// The status of a condition. Anything the API sends that is neither `True` nor `False` is `Unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// `True`
    True,
    /// `False`
    False,
    /// `Unknown`: never counted as ready.
    Unknown,
}

/// A condition of a Node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Its status.
    pub status: ConditionStatus,
    /// A word for why.
    pub reason: Text,
    /// A sentence for why; kept only where the status is not the good one.
    pub message: Option<Text>,
    /// When the status last changed.
    pub since: Option<Timestamp>,
}

/// A Node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Its UID.
    pub uid: Uid,
    /// The instance its `providerID` names; `None` for Fargate, hybrid and not yet initialised nodes.
    pub instance: Option<InstanceId>,
    /// Its labels.
    pub labels: Labels,
    /// The annotations a rule reads: `fastnode.dev/*`, `karpenter.sh/do-not-disrupt` and
    /// `cluster-autoscaler.kubernetes.io/*`.
    pub annotations: BTreeMap<Text, Text>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// Its conditions by type.
    pub conditions: BTreeMap<Text, Condition>,
    /// `status.nodeInfo.kubeletVersion`, `v1.36.3-eks-…`.
    pub kubelet: Text,
    /// Allocatable: `cpu` in millicores, everything else in units.
    pub allocatable: BTreeMap<Text, u64>,
    /// When the Node was created.
    pub created: Timestamp,
    /// It is being deleted.
    pub deleting: bool,
}

impl Node {
    /// The `Ready` condition's status; a missing condition is `Unknown`.
    pub fn ready(&self) -> ConditionStatus {
        self.conditions.get("Ready").map_or(ConditionStatus::Unknown, |c| c.status)
    }

    /// Whether a taint of this key is there, whatever its value and effect.
    pub fn has_taint(&self, key: &str) -> bool {
        self.taints.iter().any(|t| &*t.key == key)
    }

    /// Whether it runs Windows.
    pub fn is_windows(&self) -> bool {
        self.labels.get("kubernetes.io/os").is_some_and(|os| &**os == "windows")
    }

    /// What EKS writes on nodes that it brings up in its own ways: `fargate`, `auto` or `hybrid` (EKS user guide).
    pub fn compute_type(&self) -> Option<&str> {
        self.labels.get("eks.amazonaws.com/compute-type").map(|kind| &**kind)
    }

    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(|v| &**v)
    }
}

/// The CSI drivers registered on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CsiNode {
    /// The node.
    pub node: NodeName,
    /// Names of the drivers, sorted.
    pub drivers: Vec<Text>,
}

/// A volume attached to, or being attached to, a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeAttachment {
    /// Its name.
    pub name: Text,
    /// The node.
    pub node: NodeName,
    /// The PersistentVolume, where it names one.
    pub volume: Option<Text>,
    /// `status.attached`.
    pub attached: bool,
}
