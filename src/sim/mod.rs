//! The simulator: both ports over an in-memory world on virtual time.
//!
//! A [`World`] holds groups, instances, kubelets, DaemonSets, workloads, budgets and volumes. One task lets
//! its events happen in order on tokio's paused clock; the production controller runs on its two ports
//! unchanged. The same scenario and seed give the same bytes.
//!
//! ```text
//!   scenario + seed --> World <-- events in order of time (one task)
//!                        |  ^
//!           SimCloud <---+--+---> SimCluster --> facts to the watch
//!                        |
//!                      judge: what went against the promise
//! ```

mod addons;
mod behaviour;
mod budgets;
mod cloud;
mod cluster;
mod console;
mod daemons;
mod evidence;
mod fields;
mod generator;
mod groups;
mod judge;
mod kubelet;
mod manifests;
pub mod pace;
mod past;
pub mod scenario;
mod scheduler;
mod simulation;
mod start;
mod streams;
mod template;
mod workloads;
mod world;

pub use cloud::SimCloud;
pub use cluster::SimCluster;
pub use judge::Counts;
pub use pace::Speed;
pub use scenario::{Faults, Scenario, ScenarioError};
pub use simulation::Simulation;
pub use world::World;

/// The runtime a simulation runs on: one thread, its clock paused, moved on whenever nothing else can go on. It has
/// no sockets: each step of its clock would cost two system calls more.
///
/// # Errors
/// If the operating system refuses what a runtime needs.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()
}
