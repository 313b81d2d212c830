//! Nodes that are none of the cluster's Auto Scaling groups: whose they are.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Warning;
use crate::model::{Node, NodeName};
use crate::observe::Snapshot;
use crate::policy::Policy;

/// Karpenter's label on its nodes, and the one before its v1beta1.
const KARPENTER: [&str; 2] = ["karpenter.sh/nodepool", "karpenter.sh/provisioner-name"];

/// Who renews a node that is in none of the groups. Displays as one clause with what helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keeper {
    /// EKS Auto Mode.
    AutoMode,
    /// AWS Fargate.
    Fargate,
    /// An EKS Hybrid Node.
    Hybrid,
    /// Karpenter.
    Karpenter,
    /// Nobody we know.
    Unknown,
}

impl fmt::Display for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AutoMode => "EKS Auto Mode's, which replaces its nodes itself",
            Self::Fargate => "Fargate's, renewed with its pod",
            Self::Hybrid => "a hybrid node, upgraded in place by whoever runs it",
            Self::Karpenter => "Karpenter's, which replaces drifted nodes itself",
            Self::Unknown => "in no Auto Scaling group that carries the cluster's tag",
        })
    }
}

/// Who keeps a Node that is in none of the groups; `None` for one that is.
pub(super) fn keeper(snapshot: &Snapshot, node: &Node) -> Option<Keeper> {
    if node.instance.as_ref().is_some_and(|id| snapshot.instances.contains_key(id)) {
        return None;
    }
    // Auto Mode is built on Karpenter and carries its label too.
    Some(match node.compute_type() {
        Some("auto") => Keeper::AutoMode,
        Some("fargate") => Keeper::Fargate,
        Some("hybrid") => Keeper::Hybrid,
        _ if KARPENTER.iter().any(|label| node.labels.contains_key(*label)) => Keeper::Karpenter,
        _ => Keeper::Unknown,
    })
}

/// Names them by keeper, where the whole cluster is asked for.
pub(super) fn name(policy: &Policy, snapshot: &Snapshot, warnings: &mut Vec<Warning>) {
    let scope = &policy.scope;
    if !scope.groups.is_empty() || !scope.nodes.is_empty() || !scope.selector.is_empty() {
        return;
    }
    let mut kept: BTreeMap<Keeper, (usize, &NodeName)> = BTreeMap::new();
    for node in snapshot.nodes.values() {
        // An instance that is gone leaves its Node for a moment.
        if let Some(keeper) = keeper(snapshot, node).filter(|_| !node.deleting) {
            kept.entry(keeper).or_insert((0, &node.name)).0 += 1;
        }
    }
    let named = kept.into_iter();
    warnings.extend(named.map(|(keeper, (nodes, first))| Warning::NotOurs { keeper, nodes, example: first.clone() }));
}
