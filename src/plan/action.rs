//! What can be done to the world, each action complete in itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ActionReason, Verdict};
use crate::cluster::NodeChange;
use crate::model::{GroupName, InstanceId, Ledger, NodeName, ObjectKey, Process, Target, Text, Uid};

/// Why a Node is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NodePurpose {
    /// Old node: cordon, and mark as draining.
    Cordon,
    /// Old node: take it out of its load balancers.
    ExcludeFromLoadBalancers,
    /// Old node: mark as drained.
    MarkDrained,
    /// Old node: given up; uncordon and mark as skipped.
    Skip,
    /// Old node: undo the cordon and our marks.
    Uncordon,
    /// Outdated node: the soft taint, so that evicted pods go to new nodes.
    SoftTaint,
    /// New node: mark as ours, Cluster Autoscaler told to leave it alone.
    Adopt,
    /// Failed replacement: cordon, and mark as failed.
    MarkFailed,
    /// Any node: take all our marks off.
    Release,
}

/// An action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Put tags on a group (ours only).
    TagGroup {
        /// The group.
        group: GroupName,
        /// Tags to set.
        tags: BTreeMap<Text, Text>,
    },
    /// Take our tags off a group.
    UntagGroup {
        /// The group.
        group: GroupName,
        /// Keys to remove.
        keys: BTreeSet<Text>,
    },
    /// Suspend processes of a group (their tag is on already).
    Suspend {
        /// The group.
        group: GroupName,
        /// The processes.
        processes: BTreeSet<Process>,
    },
    /// Resume processes that we suspended.
    Resume {
        /// The group.
        group: GroupName,
        /// The processes.
        processes: BTreeSet<Process>,
    },
    /// Change a group's maximum.
    SetMax {
        /// The group.
        group: GroupName,
        /// The maximum it must have now.
        from: u32,
        /// The maximum after.
        to: u32,
    },
    /// Change desired by our surge: write `before` to the ledger, set desired, write `after`.
    Resize {
        /// The group.
        group: GroupName,
        /// Desired it must have now.
        from: u32,
        /// Desired after.
        to: u32,
        /// Ledger with the step in hand.
        before: Ledger,
        /// Ledger with the step folded in.
        after: Ledger,
    },
    /// Write a ledger whose step in hand has been settled by what the world shows.
    SettleLedger {
        /// The group.
        group: GroupName,
        /// The settled ledger.
        ledger: Ledger,
    },
    /// Change scale-in protection.
    Protect {
        /// The group.
        group: GroupName,
        /// The instances.
        instances: Vec<InstanceId>,
        /// On or off.
        protected: bool,
    },
    /// Change a Node.
    ChangeNode {
        /// The Node.
        node: NodeName,
        /// Its UID.
        uid: Uid,
        /// Why.
        purpose: NodePurpose,
        /// What.
        change: NodeChange,
    },
    /// Evict a pod.
    Evict {
        /// The node being drained.
        node: NodeName,
        /// The pod.
        pod: ObjectKey,
        /// Its UID.
        uid: Uid,
    },
    /// Delete a pod past its budget; only under `--past-budgets` and after the drain time-out.
    DeletePod {
        /// The node being drained.
        node: NodeName,
        /// The pod.
        pod: ObjectKey,
        /// Its UID.
        uid: Uid,
        /// Grace period in seconds, at least 1.
        grace_seconds: u32,
    },
    /// Terminate an instance.
    Terminate {
        /// The instance.
        instance: InstanceId,
        /// Its group.
        group: GroupName,
        /// Its Node and the Node's UID; `None` for a replacement that never registered.
        node: Option<(NodeName, Uid)>,
        /// With decrement: the ledger with the step in hand, and after it.
        decrement: Option<Box<(Ledger, Ledger)>>,
    },
    /// Write the rotation's record to its ConfigMap.
    Record {
        /// Nodes given up since it was last written, with the reason.
        skipped: BTreeMap<NodeName, Text>,
        /// Replacements failed since it was last written, with the reason.
        failed: BTreeMap<InstanceId, Text>,
        /// Former scale-in protection of instances that are about to be protected.
        protection: BTreeMap<InstanceId, bool>,
        /// Targets that groups go on for from now on.
        #[serde(default)]
        targets: BTreeMap<GroupName, Target>,
        /// The rotation ends from now on, with this verdict.
        ending: Option<Verdict>,
    },
}

/// What an action is about: two actions with the same key are never in flight together.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum ActionKey {
    /// A group.
    Group(GroupName),
    /// A Node.
    Node(NodeName),
    /// A pod.
    Pod(Uid),
    /// An instance.
    Instance(InstanceId),
    /// The rotation's record.
    Record,
}

impl fmt::Display for ActionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(g) => write!(f, "group/{g}"),
            Self::Node(n) => write!(f, "node/{n}"),
            Self::Pod(p) => write!(f, "pod/{p}"),
            Self::Instance(i) => write!(f, "instance/{i}"),
            Self::Record => f.write_str("record"),
        }
    }
}

impl fmt::Debug for ActionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<ActionKey> for String {
    fn from(key: ActionKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for ActionKey {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once('/') {
            Some(("group", g)) => Ok(Self::Group(g.into())),
            Some(("node", n)) => Ok(Self::Node(n.into())),
            Some(("pod", p)) => Ok(Self::Pod(p.into())),
            Some(("instance", i)) => Ok(Self::Instance(i.into())),
            None if text == "record" => Ok(Self::Record),
            _ => Err(format!("{text:?} is not an action's key")),
        }
    }
}

impl Action {
    /// What it is about.
    pub fn key(&self) -> ActionKey {
        match self {
            Self::TagGroup { group, .. }
            | Self::UntagGroup { group, .. }
            | Self::Suspend { group, .. }
            | Self::Resume { group, .. }
            | Self::SetMax { group, .. }
            | Self::Resize { group, .. }
            | Self::SettleLedger { group, .. }
            | Self::Protect { group, .. } => ActionKey::Group(group.clone()),
            Self::ChangeNode { node, .. } => ActionKey::Node(node.clone()),
            Self::Evict { uid, .. } | Self::DeletePod { uid, .. } => ActionKey::Pod(uid.clone()),
            // A decrement moves the group's ledger: nothing else may move it at the same time.
            Self::Terminate { decrement: Some(_), group, .. } => ActionKey::Group(group.clone()),
            Self::Terminate { instance, .. } => ActionKey::Instance(instance.clone()),
            Self::Record { .. } => ActionKey::Record,
        }
    }
}

/// An action and its reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// What.
    pub action: Action,
    /// Why.
    pub reason: ActionReason,
}
