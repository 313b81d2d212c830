//! Fixes on the simulated cluster, whose API server keeps the owners of fields: each from the look at its target to the
//! way back, and what stands in its way.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod bench;
mod command;
mod managed;
mod matrix;
mod own;
mod owners;
mod plain;
mod standing;
