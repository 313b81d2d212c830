//! Diagnosis: each signature found in realistic text, and not in what only looks like it.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod catalogue;
mod gathering;
mod instances;
mod logs;
mod scene;
mod states;
mod suspicion;
#[path = "../worlds/mod.rs"]
mod worlds;
