//! What AWS and Kubernetes say, joined into one [`Snapshot`].

mod covers;
mod derived;
mod effect;
mod index;
pub mod mending;
mod refresh;
mod snapshot;
pub mod source;

pub(crate) use derived::STANDBY;
pub use derived::{Derived, Drain, DrainPod, GroupView, Member, Members, Role, Stray, ZoneView};
pub(crate) use index::Joined;
pub use snapshot::{InFlight, Refusal, RotationRecord, Snapshot, Synced};
