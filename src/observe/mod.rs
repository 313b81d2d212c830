//! What AWS and Kubernetes say, joined into one [`Snapshot`].

mod index;
mod snapshot;
pub mod source;

pub use snapshot::{InFlight, Refusal, RotationRecord, Snapshot, Synced};
