//! Taints that a node carries only while it starts, and what makes a node count as capacity.

use crate::model::{ConditionStatus, Node, Taint};

/// Taints that controllers put on a node until it is usable, by their exact key.
///
/// The first three mirror conditions (`k8s.io/kubernetes` pkg/controller/nodelifecycle); the fourth is the
/// cloud controller manager's (`k8s.io/cloud-provider/api/well_known_taints.go`).
const KEYS: [&str; 4] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/network-unavailable",
    "node.cloudprovider.kubernetes.io/uninitialized",
];

/// What an agent's startup taint ends with: `ebs.csi.aws.com/agent-not-ready`, `efs.csi.aws.com/agent-not-ready`,
/// `node.cilium.io/agent-not-ready`.
const SUFFIX: &str = "/agent-not-ready";

/// What the node readiness controller's taints begin with.
const PREFIX: &str = "readiness.k8s.io/";

/// Whether `taint` is one that a node carries only until it has started, whatever its value and effect.
///
/// The taint of a cordon (`node.kubernetes.io/unschedulable`) is none.
pub fn is_startup_taint(taint: &Taint) -> bool {
    let key = &*taint.key;
    KEYS.contains(&key) || key.ends_with(SUFFIX) || key.starts_with(PREFIX)
}

/// Whether a node, old or new, counts as capacity: Ready, open for pods, not being deleted, and started.
pub fn serves(node: &Node) -> bool {
    node.ready() == ConditionStatus::True
        && !node.unschedulable
        && !node.deleting
        && !node.taints.iter().any(is_startup_taint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TaintEffect;

    fn taint(key: &str) -> Taint {
        Taint { key: key.into(), value: None, effect: TaintEffect::NoSchedule }
    }

    #[test]
    fn startup_taints_are_told_from_those_that_stay() {
        for key in [
            "node.kubernetes.io/not-ready",
            "node.cloudprovider.kubernetes.io/uninitialized",
            "node.cilium.io/agent-not-ready",
            "ebs.csi.aws.com/agent-not-ready",
            "readiness.k8s.io/network",
        ] {
            assert!(is_startup_taint(&taint(key)), "{key}");
        }
        for key in [
            crate::model::marks::UNSCHEDULABLE_TAINT,
            crate::model::marks::OUTDATED_TAINT,
            "dedicated",
            "agent-not-ready",
            "node.kubernetes.io/disk-pressure",
        ] {
            assert!(!is_startup_taint(&taint(key)), "{key}");
        }
    }
}
