//! How long a launch, a drain and a termination are expected to take.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::model::{ActivityStatus, Instance};
use crate::observe::Snapshot;
use crate::policy::Policy;

/// Fewer samples than this say nothing.
const SAMPLES: usize = 3;
/// A stage that took longer was no stage of a healthy node: somebody had stopped it, or it flapped later.
const LONGEST: SignedDuration = SignedDuration::from_mins(15);

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
    /// A stock EKS node registers in about half a minute, but not every node is stock: two minutes to
    /// functional. Pods are given 30 s to end by default, so no drain of a loaded node is much shorter; where
    /// drains take longer, this only makes the surge larger than it need be. An instance is gone in a minute.
    fn default() -> Self {
        Self { launch_s: 120.0, drain_s: 30.0, terminate_s: 60.0 }
    }
}

/// The expected times, by what the world shows of its own nodes and activities where it shows enough.
pub(crate) fn measured(policy: &Policy, snapshot: &Snapshot) -> Expected {
    let usual = Expected::default();
    let launches = snapshot.instances.values().filter_map(|i| launch(snapshot, i));
    let gone = snapshot.activities.values().flatten().filter_map(|a| {
        let ended = a.ended.filter(|_| a.status == ActivityStatus::Successful)?;
        a.description.starts_with("Terminating").then(|| ended.duration_since(a.started))
    });
    Expected {
        launch_s: mean(launches).map_or(usual.launch_s, |launch| launch + policy.soak.as_secs_f64()),
        terminate_s: mean(gone).unwrap_or(usual.terminate_s),
        ..usual
    }
}

/// From an instance's launch to its Node's Ready.
fn launch(snapshot: &Snapshot, instance: &Instance) -> Option<SignedDuration> {
    let node = snapshot.node_of(&instance.id)?;
    let ready = node.conditions.get("Ready")?.since?;
    Some(ready.duration_since(instance.launched_at?))
}

fn mean(samples: impl Iterator<Item = SignedDuration>) -> Option<f64> {
    let plausible = samples.filter(|s| s.is_positive() && *s < LONGEST).map(|s| s.as_secs_f64());
    let (sum, count) = plausible.fold((0.0, 0), |(sum, count), s| (sum + s, count + 1));
    (count >= SAMPLES).then(|| sum / count as f64)
}
