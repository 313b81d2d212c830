//! A DaemonSet and its revisions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::marks::FIX_PREFIX;
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
    /// What the fixes that fastnode has applied to it tell of themselves, by the fix: JSON, see [`fix_marks`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fixes: BTreeMap<Text, Text>,
}

/// What is kept of the annotations that fixes leave on a DaemonSet, by the fix: all but what was there before, which a
/// revert reads off the object itself. One that cannot be read is left out.
pub fn fix_marks<'a>(annotations: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<Text, Text> {
    let ours = annotations.filter_map(|(key, text)| Some((key.strip_prefix(FIX_PREFIX)?, text)));
    let kept = ours.filter_map(|(fix, text)| {
        let mut record: Map<String, Value> = serde_json::from_str(text).ok()?;
        record.retain(|key, _| !["places", "owners", "hash", "addon", "strategy"].contains(&key.as_str()));
        Some((fix.into(), Value::Object(record).to_string().into()))
    });
    kept.collect()
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
