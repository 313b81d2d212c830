//! Nodes.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::core::{Str, TextMap, null_default, taint_effect};
use super::intern::Interner;
use super::meta::Meta;
use super::{DecodeError, Record};
use crate::cluster::Fact;
use crate::model::{Condition, ConditionStatus, InstanceId, Node, NodeName, Taint, TaintEffect, Uid, quantity};

#[derive(Deserialize)]
pub(super) struct NodeJson<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
    #[serde(borrow, default)]
    spec: Spec<'a>,
    #[serde(borrow, default)]
    status: Status<'a>,
}

#[derive(Default, Deserialize)]
struct Spec<'a> {
    #[serde(borrow, rename = "providerID")]
    provider_id: Option<Str<'a>>,
    /// Kept whole: a change writes the list back and must lose nothing of other people's taints.
    #[serde(default, deserialize_with = "null_default")]
    taints: Vec<Value>,
    #[serde(default)]
    unschedulable: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    #[serde(borrow, default, deserialize_with = "null_default")]
    conditions: Vec<ConditionJson<'a>>,
    #[serde(borrow)]
    node_info: Option<NodeInfo<'a>>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    allocatable: TextMap<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeInfo<'a> {
    #[serde(borrow, default, deserialize_with = "null_default")]
    kubelet_version: Str<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConditionJson<'a> {
    #[serde(borrow, rename = "type")]
    name: Str<'a>,
    #[serde(borrow)]
    status: Str<'a>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    reason: Str<'a>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    message: Str<'a>,
    last_transition_time: Option<Timestamp>,
}

/// What a change of a Node's taints must know: the list, and the version it was seen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cluster) struct NodeState {
    /// The Node's UID.
    pub(in crate::cluster) uid: Uid,
    /// Its `resourceVersion`.
    pub(in crate::cluster) version: String,
    /// `spec.taints`, every field of each.
    pub(in crate::cluster) taints: Vec<Value>,
}

/// Reads only what a change of taints needs from a Node.
pub(in crate::cluster) fn node_state(json: &[u8]) -> Result<NodeState, DecodeError> {
    let node: NodeJson<'_> = serde_json::from_slice(json).map_err(|cause| DecodeError { what: "a Node", cause })?;
    Ok(node.to_state())
}

impl NodeJson<'_> {
    fn to_state(&self) -> NodeState {
        NodeState {
            uid: self.metadata.owned_uid(),
            version: self.metadata.resource_version.as_ref().map_or_else(String::new, |v| v.to_string()),
            taints: self.spec.taints.clone(),
        }
    }
}

impl<'a> Record<'a> for NodeJson<'a> {
    fn meta(&self) -> &Meta<'a> {
        &self.metadata
    }

    fn state(&self) -> Option<NodeState> {
        Some(self.to_state())
    }

    fn fact(self, strings: &mut Interner) -> Option<Fact> {
        let Self { metadata, spec, status } = self;
        let allocatable = status
            .allocatable
            .0
            .iter()
            .filter_map(|(name, quantity)| {
                let amount =
                    if name.as_str() == "cpu" { quantity::milli_cpu(quantity) } else { quantity::units(quantity) };
                Some((strings.text(name), amount?))
            })
            .collect();
        Some(Fact::Node(Node {
            name: NodeName::from(strings.text(&metadata.name)),
            uid: metadata.owned_uid(),
            instance: spec.provider_id.as_ref().and_then(|id| InstanceId::from_provider_id(id)),
            labels: metadata.labels.to_labels(strings),
            annotations: metadata.annotations.to_map(strings),
            taints: spec.taints.iter().map(|t| taint(t, strings)).collect(),
            unschedulable: spec.unschedulable,
            conditions: status.conditions.iter().map(|c| (strings.text(&c.name), c.model(strings))).collect(),
            kubelet: strings.text(status.node_info.as_ref().map_or("", |i| i.kubelet_version.as_str())),
            allocatable,
            created: metadata.created(),
            deleting: metadata.deletion_timestamp.is_some(),
        }))
    }
}

/// An effect this version does not know is read as the one that keeps pods away.
fn taint(json: &Value, strings: &mut Interner) -> Taint {
    let field = |name: &str| json.get(name).and_then(Value::as_str);
    Taint {
        key: strings.text(field("key").unwrap_or_default()),
        value: field("value").filter(|v| !v.is_empty()).map(|v| strings.text(v)),
        effect: field("effect").and_then(taint_effect).unwrap_or(TaintEffect::NoSchedule),
    }
}

impl ConditionJson<'_> {
    fn model(&self, strings: &mut Interner) -> Condition {
        let status = condition_status(&self.status);
        // `Ready` and its like are good when true, pressures and problems when false.
        let good = if self.name.ends_with("Ready") { ConditionStatus::True } else { ConditionStatus::False };
        Condition {
            status,
            reason: strings.text(&self.reason),
            message: (status != good && !self.message.is_empty()).then(|| strings.text(&self.message)),
            since: self.last_transition_time,
        }
    }
}

/// Anything but the two sure words is `Unknown`.
pub(super) fn condition_status(word: &str) -> ConditionStatus {
    match word {
        "True" => ConditionStatus::True,
        "False" => ConditionStatus::False,
        _ => ConditionStatus::Unknown,
    }
}
