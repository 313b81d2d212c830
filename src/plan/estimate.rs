//! How long a launch, a drain and a termination are expected to take.

use serde::{Deserialize, Serialize};

/// Expected times of a node's stages, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// Launch to functional, soak included.
    pub launch_s: f64,
    /// First eviction to drained.
    pub drain_s: f64,
    /// Terminate to gone.
    pub terminate_s: f64,
}

impl Default for Expected {
    /// A stock EKS node boots and registers in about half a minute and is functional soon after; pods are
    /// given 30 s to end, and those of one budget go one after the other; an instance is gone in a minute.
    fn default() -> Self {
        Self { launch_s: 90.0, drain_s: 60.0, terminate_s: 60.0 }
    }
}
