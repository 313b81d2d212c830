//! The simulated world: what its two ports answer, and what a rotation leaves behind on it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "what is missing is the test's own fault; a replayed seed prints its events"
)]

#[path = "simulation/balance.rs"]
mod balance;
#[path = "simulation/diagnosis.rs"]
mod diagnosis;
#[path = "simulation/harness.rs"]
mod harness;
#[path = "simulation/held.rs"]
mod held;
#[path = "simulation/liveness.rs"]
mod liveness;
#[path = "simulation/objects.rs"]
mod objects;
#[path = "simulation/ports.rs"]
mod ports;
#[path = "simulation/retargets.rs"]
mod retargets;
#[path = "simulation/rotations.rs"]
mod rotations;
#[path = "worlds/runs.rs"]
mod runs;
#[path = "simulation/starts.rs"]
mod starts;
#[path = "simulation/troubled.rs"]
mod troubled;
#[path = "simulation/verdicts.rs"]
mod verdicts;
