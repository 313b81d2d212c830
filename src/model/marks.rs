//! The names fastnode writes into the world, and those of others that it reads or sets.

/// Label on every node a rotation touches: the rotation's id.
pub const ROTATION: &str = "fastnode.dev/rotation";
/// Annotation: where the node stands, one of [`NodeMark`]'s words.
pub const STATE: &str = "fastnode.dev/state";
/// Annotation: why.
pub const REASON: &str = "fastnode.dev/reason";
/// Annotation: since when it stands there, RFC 3339.
pub const SINCE: &str = "fastnode.dev/since";
/// Annotation: somebody else had cordoned the node before us, so the cordon stays when we let go of it.
pub const CORDONED_BEFORE: &str = "fastnode.dev/cordoned-before";
/// Annotation: since when the node carries the label that takes it out of its load balancers, RFC 3339. Only
/// where the label is ours.
pub const EXCLUDED_SINCE: &str = "fastnode.dev/excluded-since";
/// Soft taint (PreferNoSchedule) on outdated nodes once the canary has passed.
pub const OUTDATED_TAINT: &str = "fastnode.dev/outdated";
/// Annotation on the Lease: what a user asked of the running rotation, `pause`, `resume` or `abort`.
pub const REQUEST: &str = "fastnode.dev/request";
/// Annotation on the Lease: what its holder does, where that is no rotation (`fix aws-node-wait`).
pub const DOING: &str = "fastnode.dev/doing";
/// Annotation on a DaemonSet, before the name of the fix: what a fix keeps there until it is reverted.
pub const FIX_PREFIX: &str = "fastnode.dev/fix-";

/// Group tag: the rotation's id.
pub const TAG_ROTATION: &str = "fastnode:rotation";
/// Group tag: the surge's ledger, see [`super::Ledger`].
pub const TAG_SURGE: &str = "fastnode:surge";
/// Group tag: the processes we suspended, comma-separated.
pub const TAG_SUSPENDED: &str = "fastnode:suspended";
/// Group tag: scale-in protection was changed; the former protection is in the rotation's ConfigMap.
pub const TAG_PROTECTED: &str = "fastnode:protected";
/// Group tag: the maximum before it was raised.
pub const TAG_MAX: &str = "fastnode:max";

/// Load balancer controllers deregister a node that carries this label.
pub const EXCLUDE_FROM_LB: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// Cluster Autoscaler leaves a node with this annotation alone.
pub const SCALE_DOWN_DISABLED: &str = "cluster-autoscaler.kubernetes.io/scale-down-disabled";
/// The taint a cordon puts on.
pub const UNSCHEDULABLE_TAINT: &str = "node.kubernetes.io/unschedulable";

/// What the annotation [`STATE`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeMark {
    /// An old node: cordoned by us, its pods being evicted.
    Draining,
    /// An old node: no evictable pod is left and its volumes are detached.
    Drained,
    /// An old node given up at a time-out, uncordoned.
    Skipped,
    /// A new node of this rotation.
    Replacement,
    /// A new node that failed its gate, cordoned by us.
    Failed,
}

impl NodeMark {
    /// The word in the annotation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Skipped => "skipped",
            Self::Replacement => "replacement",
            Self::Failed => "failed",
        }
    }

    /// Reads the word; `None` for words of other versions.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Draining, Self::Drained, Self::Skipped, Self::Replacement, Self::Failed]
            .into_iter()
            .find(|m| m.as_str() == word)
    }
}
