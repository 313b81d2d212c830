//! The changes a rotation makes to a Node: each is one PATCH.

use jiff::Timestamp;

use super::{Action, NodePurpose};
use crate::cluster::NodeChange;
use crate::model::{Node, NodeMark, Taint, TaintEffect, Text, marks};

fn change(node: &Node, purpose: NodePurpose, change: NodeChange) -> Action {
    Action::ChangeNode { node: node.name.clone(), uid: node.uid.clone(), purpose, change }
}

/// Label and annotations that say whose node it is and where it stands.
fn marked(rotation: &Text, mark: NodeMark, reason: &str, now: Timestamp) -> NodeChange {
    let mut change = NodeChange::default();
    change.labels.insert(marks::ROTATION.into(), Some(rotation.clone()));
    change.annotations.insert(marks::STATE.into(), Some(mark.as_str().into()));
    change.annotations.insert(marks::REASON.into(), Some(reason.into()));
    change.annotations.insert(marks::SINCE.into(), Some(now.to_string().into()));
    change
}

/// Cordons a node whose drain begins.
pub(super) fn cordon(node: &Node, rotation: &Text, reason: &str, now: Timestamp) -> Action {
    let mut patch = marked(rotation, NodeMark::Draining, reason, now);
    patch.unschedulable = Some(true);
    if node.unschedulable {
        patch.annotations.insert(marks::CORDONED_BEFORE.into(), Some("true".into()));
    }
    if node.annotation(marks::STATE).and_then(NodeMark::parse) == Some(NodeMark::Replacement) {
        // Its new mark does not say any more that we set this one.
        patch.annotations.insert(marks::SCALE_DOWN_DISABLED.into(), None);
    }
    change(node, NodePurpose::Cordon, patch)
}

/// Cordons a node that is being drained already and that somebody uncordoned.
pub(super) fn cordon_again(node: &Node) -> Action {
    change(node, NodePurpose::Cordon, NodeChange { unschedulable: Some(true), ..NodeChange::default() })
}

/// Marks a proven replacement as ours; Cluster Autoscaler leaves it alone.
pub(super) fn adopt(node: &Node, rotation: &Text, now: Timestamp) -> Action {
    let mut patch = marked(rotation, NodeMark::Replacement, "passed the gate", now);
    patch.annotations.insert(marks::SCALE_DOWN_DISABLED.into(), Some("true".into()));
    change(node, NodePurpose::Adopt, patch)
}

/// Cordons a replacement that failed.
pub(super) fn fail(node: &Node, rotation: &Text, why: &str, now: Timestamp) -> Action {
    let mut patch = marked(rotation, NodeMark::Failed, why, now);
    patch.unschedulable = Some(true);
    change(node, NodePurpose::MarkFailed, patch)
}

/// Makes evicted pods prefer other nodes.
pub(super) fn soft_taint(node: &Node) -> Action {
    let taint = Taint { key: marks::OUTDATED_TAINT.into(), value: None, effect: TaintEffect::PreferNoSchedule };
    change(node, NodePurpose::SoftTaint, NodeChange { add_taint: Some(taint), ..NodeChange::default() })
}

/// Has the load balancers take the node out of service, and writes down since when.
pub(super) fn exclude_from_load_balancers(node: &Node, now: Timestamp) -> Action {
    let mut patch = NodeChange::default();
    patch.labels.insert(marks::EXCLUDE_FROM_LB.into(), Some("true".into()));
    patch.annotations.insert(marks::EXCLUDED_SINCE.into(), Some(now.to_string().into()));
    change(node, NodePurpose::ExcludeFromLoadBalancers, patch)
}

/// Marks a node as drained that waits for its load balancers: a signal leaves it as it is.
pub(super) fn drained(node: &Node) -> Action {
    let mut patch = NodeChange::default();
    patch.annotations.insert(marks::STATE.into(), Some(NodeMark::Drained.as_str().into()));
    change(node, NodePurpose::MarkDrained, patch)
}

/// Gives a node up: uncordoned, unless it had been cordoned before us.
pub(super) fn skip(node: &Node, rotation: &Text, why: &str, now: Timestamp) -> Action {
    let mut patch = marked(rotation, NodeMark::Skipped, why, now);
    uncordon(node, &mut patch);
    change(node, NodePurpose::Skip, patch)
}

/// Takes all of ours off a node. What other hands put on stays.
pub(super) fn release(node: &Node, purpose: NodePurpose) -> Action {
    let mut patch = NodeChange::default();
    let mark = node.annotation(marks::STATE).and_then(NodeMark::parse);
    for key in [marks::STATE, marks::REASON, marks::SINCE] {
        if node.annotations.contains_key(key) {
            patch.annotations.insert(key.into(), None);
        }
    }
    if mark == Some(NodeMark::Replacement) {
        patch.annotations.insert(marks::SCALE_DOWN_DISABLED.into(), None);
    }
    if matches!(mark, Some(NodeMark::Draining | NodeMark::Drained | NodeMark::Failed)) {
        uncordon(node, &mut patch);
    }
    if node.labels.contains_key(marks::ROTATION) {
        patch.labels.insert(marks::ROTATION.into(), None);
    }
    if node.has_taint(marks::OUTDATED_TAINT) {
        patch.remove_taint = Some(marks::OUTDATED_TAINT.into());
    }
    change(node, purpose, patch)
}

fn uncordon(node: &Node, patch: &mut NodeChange) {
    if node.annotations.contains_key(marks::CORDONED_BEFORE) {
        patch.annotations.insert(marks::CORDONED_BEFORE.into(), None);
    } else {
        patch.unschedulable = Some(false);
    }
    // A label that somebody else had put on has no date of ours, and stays.
    if node.annotations.contains_key(marks::EXCLUDED_SINCE) {
        patch.labels.insert(marks::EXCLUDE_FROM_LB.into(), None);
        patch.annotations.insert(marks::EXCLUDED_SINCE.into(), None);
    }
}
