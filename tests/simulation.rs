//! The simulated world: what its two ports answer, and what a rotation leaves behind on it.

#[path = "simulation/harness.rs"]
mod harness;
#[path = "simulation/ports.rs"]
mod ports;
#[path = "simulation/rotations.rs"]
mod rotations;
