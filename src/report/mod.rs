//! What people and programs get to see: folds over [`crate::event`], and the plan as a table.

pub mod canvas;
pub mod closing;
pub mod doctor;
pub mod fix;
pub mod json;
pub mod measure;
pub mod output;
mod page;
pub mod picture;
pub mod plain;
pub mod plan;
pub mod progress;
mod repairs;
pub mod reporter;
pub mod summary;
pub mod text;
pub mod view;
pub mod words;

pub use summary::{Closing, Limits, Summary};

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
