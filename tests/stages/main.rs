//! How nodes started: stages, chains, the critical path, and what a change is worth.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

#[path = "../worlds/runs.rs"]
mod runs;
#[path = "../worlds/mod.rs"]
mod worlds;

mod build;
mod figures;
mod path;
mod shown;
mod simulated;
mod unknown;
