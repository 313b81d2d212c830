//! A PodDisruptionBudget.

use serde::{Deserialize, Serialize};

use super::{ObjectKey, Selector};

/// A PodDisruptionBudget, as its controller last judged it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Which pods of its namespace it covers. An empty selector covers all; a missing one none.
    pub selector: Option<Selector>,
    /// `status.disruptionsAllowed`.
    pub allowed: i32,
    /// `status.currentHealthy`.
    pub healthy: i32,
    /// `status.desiredHealthy`.
    pub desired: i32,
    /// `status.expectedPods`.
    pub expected: i32,
    /// `status.observedGeneration` has caught up; until then evictions answer 429 with RetryAfter 10.
    pub observed: bool,
    /// `unhealthyPodEvictionPolicy: AlwaysAllow`.
    pub unhealthy_always: bool,
}

impl Budget {
    /// Whether it can never free by itself: every pod healthy, and still none may go.
    pub fn never_frees(&self) -> bool {
        self.observed && self.expected > 0 && self.desired >= self.expected
    }
}
