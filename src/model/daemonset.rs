//! A DaemonSet and its revisions.

use serde::{Deserialize, Serialize};

use super::{Labels, NodeName, NodeSelectorTerm, ObjectKey, Text, Toleration, Uid};

/// How a DaemonSet replaces its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpdateStrategy {
    /// Pods are replaced by the controller.
    RollingUpdate,
    /// Pods are replaced when somebody deletes them: a rotation renews them.
    OnDelete,
}

/// A DaemonSet, slim: what decides where it runs and whether it is gated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonSet {
    /// Its UID.
    pub uid: Uid,
    /// Namespace and name.
    pub key: ObjectKey,
    /// Its own labels.
    pub labels: Labels,
    /// How it is updated.
    pub strategy: UpdateStrategy,
    /// The template's `nodeName`.
    pub node_name: Option<NodeName>,
    /// The template's `nodeSelector`.
    pub node_selector: Labels,
    /// The template's required node affinity; empty where there is none.
    pub affinity: Vec<NodeSelectorTerm>,
    /// The template has a required node affinity (with no terms it matches nothing).
    pub has_affinity: bool,
    /// The template's tolerations.
    pub tolerations: Vec<Toleration>,
    /// On the host's network: tolerates `network-unavailable` too.
    pub host_network: bool,
    /// The template's priority class.
    pub priority_class: Option<Text>,
    /// It is being deleted.
    pub deleting: bool,
}

/// The newest ControllerRevision of a DaemonSet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// UID of the DaemonSet that owns it.
    pub owner: Uid,
    /// UID of the ControllerRevision itself.
    pub uid: Uid,
    /// Its number; the newest is the highest.
    pub number: i64,
    /// Label `controller-revision-hash`, which current pods carry too.
    pub hash: Text,
}
