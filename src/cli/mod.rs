//! What the user types.
pub mod args;
