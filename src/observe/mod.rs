//! What AWS and Kubernetes say, joined into one [`Snapshot`].

mod snapshot;
pub mod source;

pub use snapshot::{InFlight, Refusal, RotationRecord, Snapshot, Synced};
