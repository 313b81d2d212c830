//! Which DaemonSets should run on a node, by the DaemonSet controller's own algorithm.
//!
//! The controller's `NodeShouldRunDaemonPod` (`k8s.io/kubernetes` pkg/controller/daemon/daemon_controller.go),
//! with one difference: startup taints are left out. The controller sees them and may hold a pod back for
//! their time; the question here is which pods the node will have once it has started.

use crate::model::{DaemonSet, Node, NodeSelectorTerm, Operator, Requirement, Taint, TaintEffect};

use super::is_startup_taint;

/// Tolerations every DaemonSet pod is given (`AddOrUpdateDaemonPodTolerations`, pkg/controller/daemon/util).
const ADDED: [(&str, TaintEffect); 6] = [
    ("node.kubernetes.io/not-ready", TaintEffect::NoExecute),
    ("node.kubernetes.io/unreachable", TaintEffect::NoExecute),
    ("node.kubernetes.io/disk-pressure", TaintEffect::NoSchedule),
    ("node.kubernetes.io/memory-pressure", TaintEffect::NoSchedule),
    ("node.kubernetes.io/pid-pressure", TaintEffect::NoSchedule),
    ("node.kubernetes.io/unschedulable", TaintEffect::NoSchedule),
];

/// The one more that a pod on the host's network is given.
const ADDED_ON_HOST_NETWORK: (&str, TaintEffect) = ("node.kubernetes.io/network-unavailable", TaintEffect::NoSchedule);

/// The only field that node affinity knows.
const FIELD_NAME: &str = "metadata.name";

/// Whether `set` should have a pod on `node` once the node has started. A set that is being deleted has none.
pub fn should_run(set: &DaemonSet, node: &Node) -> bool {
    !set.deleting
        && set.node_name.as_ref().is_none_or(|name| name.as_str().is_empty() || *name == node.name)
        && set.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
        && (!set.has_affinity || set.affinity.iter().any(|term| matches(term, node)))
        && node.taints.iter().filter(|t| keeps_out(t) && !is_startup_taint(t)).all(|t| tolerates(set, t))
}

/// Whether a taint keeps pods off a node at all; `PreferNoSchedule` does not.
fn keeps_out(taint: &Taint) -> bool {
    matches!(taint.effect, TaintEffect::NoSchedule | TaintEffect::NoExecute)
}

fn tolerates(set: &DaemonSet, taint: &Taint) -> bool {
    let added = |(key, effect): &(&str, TaintEffect)| *key == &*taint.key && *effect == taint.effect;
    ADDED.iter().any(added)
        || (set.host_network && added(&ADDED_ON_HOST_NETWORK))
        || set.tolerations.iter().any(|t| t.tolerates(taint))
}

/// A term without requirements matches nothing (`k8s.io/component-helpers` scheduling/corev1/nodeaffinity).
fn matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    !(term.labels.is_empty() && term.fields.is_empty())
        && term.labels.iter().all(|r| r.matches(&node.labels))
        && term.fields.iter().all(|r| matches_field(r, node))
}

/// Fields take `In` and `NotIn` with exactly one value; anything else is invalid, and an invalid term
/// matches nothing.
fn matches_field(requirement: &Requirement, node: &Node) -> bool {
    let [value] = requirement.values.as_slice() else { return false };
    if &*requirement.key != FIELD_NAME {
        return false;
    }
    match requirement.operator {
        Operator::In => *value == *node.name.text(),
        Operator::NotIn => *value != *node.name.text(),
        Operator::Exists | Operator::DoesNotExist | Operator::Gt | Operator::Lt => false,
    }
}
