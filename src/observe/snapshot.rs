//! The world as last seen, joined and indexed.
//!
//! The controller owns it and is the only one to change it, a fact at a time; everybody else reads it.
//! Indices are kept up as facts arrive, so that a pass costs what changed, not what there is.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cluster::{ErrorKind, Kind};
use crate::model::{
    Activity, Budget, CsiNode, DaemonSet, GroupName, Instance, InstanceId, Node, NodeGroup, NodeName, ObjectKey, Pod,
    Revision, Target, Text, Uid, VolumeAttachment,
};
use crate::plan::ActionKey;

/// The rotation's own record, as its ConfigMap keeps it: fixed when it began, the same after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationRecord {
    /// Its id: sortable, unique, a valid label value.
    pub id: Text,
    /// When it began. Age and force apply to instances launched before.
    pub started: Timestamp,
    /// The resolved target of each group, fixed for the rotation.
    pub targets: BTreeMap<GroupName, Target>,
    /// Former scale-in protection of the instances whose protection we changed.
    pub protection: BTreeMap<InstanceId, bool>,
    /// Nodes given up, with the reason.
    pub skipped: BTreeMap<NodeName, Text>,
    /// Failed replacements so far, with the reason.
    pub failed: BTreeMap<InstanceId, Text>,
}

/// An action that was handed to the executor and has not come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// When it was handed over.
    pub since: Timestamp,
}

/// The last refusal of an eviction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What kind.
    pub kind: ErrorKind,
    /// What the server said.
    pub message: String,
    /// When.
    pub at: Timestamp,
    /// Refusals in a row.
    pub attempts: u32,
    /// Not before; a budget that opens earlier overrides it.
    pub retry_at: Timestamp,
}

/// Which sources have been heard in full.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Synced {
    /// Kinds whose first list is complete.
    pub kinds: BTreeSet<Kind>,
    /// The groups have been read.
    pub groups: bool,
}

/// The joined world. See the module's text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The cluster's name.
    pub cluster: Text,
    /// The control plane's version, `v1.36.3`.
    pub version: Text,
    /// When the groups were last read.
    pub groups_read: Option<Timestamp>,
    /// Groups by name.
    pub groups: BTreeMap<GroupName, NodeGroup>,
    /// Instances by id.
    pub instances: BTreeMap<InstanceId, Instance>,
    /// Recent activities by group, newest first.
    pub activities: BTreeMap<GroupName, Vec<Activity>>,
    /// Nodes by name.
    pub nodes: BTreeMap<NodeName, Node>,
    /// Pods by UID.
    pub pods: BTreeMap<Uid, Pod>,
    /// DaemonSets by UID.
    pub daemonsets: BTreeMap<Uid, DaemonSet>,
    /// The newest revision of each DaemonSet, by the DaemonSet's UID.
    pub revisions: BTreeMap<Uid, Revision>,
    /// Budgets.
    pub budgets: BTreeMap<ObjectKey, Budget>,
    /// CSI drivers by node.
    pub csi_nodes: BTreeMap<NodeName, CsiNode>,
    /// Volume attachments by name.
    pub attachments: BTreeMap<Text, VolumeAttachment>,
    /// The rotation in progress, if one is.
    pub rotation: Option<RotationRecord>,
    /// Actions handed to the executor.
    pub in_flight: BTreeMap<ActionKey, InFlight>,
    /// Evictions refused, by pod.
    pub refusals: BTreeMap<Uid, Refusal>,
    /// The node fastnode itself runs on.
    pub own_node: Option<NodeName>,
    /// What has been heard in full.
    pub synced: Synced,
}
