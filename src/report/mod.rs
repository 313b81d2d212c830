//! What people and programs get to see: folds over [`crate::event`], and the plan as a table.

pub mod summary;

pub use summary::{Closing, Limits, Summary};
