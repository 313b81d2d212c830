//! Fixes: what makes nodes slow to become functional, mended, proved, and taken back.
//!
//! ```text
//!              propose                apply             follow                  verify
//!  missing ------------> a diff ---------------> applied -----> rolled out ---------------> verified
//!     |                                            |                |                           |
//!  present, unfit, conflict:               revert  |      unready, restarts: reverted    no effect: reverted
//!  nothing is changed                              v
//!                                         as it was before, unless somebody changed it since
//! ```
//!
//! - [`catalogue`]: the fixes as data, shipped and the user's own
//! - [`detect`]: whether a target has a fix already, and whether it fits
//! - [`render`]: what a fix writes where
//! - [`place`]: paths, fragments for server-side apply, JSON patches
//! - [`owners`]: who owns a field
//! - [`addon`]: configuration values of EKS add-ons; [`bootstrap`]: what a startup taint needs of new nodes
//! - [`proposal`]: what is to be done, and in which way
//! - [`record`]: what stays on the object until the fix is reverted
//! - [`remedy`]: the way to AWS and Kubernetes; [`undo`]: and back
//! - [`rollout`]: the restart of the pods that a change brings
//! - [`course`]: a fix on its way: applied, followed, taken back where it does harm
//! - [`verify`]: whether it helped; [`standing`]: the same of one that is in place, by the nodes there are
//! - [`diff`]: a change to read

pub mod addon;
pub mod bootstrap;
pub mod catalogue;
mod check;
mod circumstances;
pub mod course;
pub mod detect;
pub mod diff;
mod error;
pub mod owners;
pub mod place;
pub mod proposal;
pub mod record;
pub mod remedy;
pub mod render;
pub mod rollout;
pub mod standing;
pub mod undo;
pub mod verify;

pub use catalogue::{Catalogue, CatalogueError};
pub use course::{Came, Course, Onlooker};
pub use error::Error;
pub use proposal::{Options, State, Way};
pub use remedy::{Proposal, Remedy};
pub use render::{START_OVER, is_waiter};
pub use rollout::{Ended, PodView};
pub use standing::Standing;
pub use undo::Undo;
pub use verify::{Effect, Start, compare, judge, judge_all};
