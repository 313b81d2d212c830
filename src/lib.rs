//! fastnode rotates the nodes of an EKS cluster's Auto Scaling groups, gated on functional readiness.
//!
//! One direction of flow:
//!
//! ```text
//!             +-----------------------------------------------------------+
//!             |                       controller                          |
//!             |  the loop, the only writer of state; reacts to watches    |
//!             v                                                           |
//!  cloud ---> observe ---> plan ---> invariants ---> execute ---> cloud / cluster
//!  cluster -->  Snapshot     Plan       (checked        Action -> Outcome
//!                                       before acting)
//!                              \_____________ event ______________> report
//! ```
//!
//! - [`model`]: the vocabulary; no IO, no clock
//! - [`policy`]: what the user wants, validated
//! - [`cloud`], [`cluster`]: the two ports and their real adapters
//! - [`observe`]: the joined, indexed [`observe::Snapshot`]
//! - [`readiness`]: when a node is functional
//! - [`preflight`]: what speaks against a rotation before it begins
//! - [`plan`]: the pure planner
//! - [`invariants`]: the independent checker
//! - [`execute`]: actions to port calls
//! - [`fixes`]: what makes nodes slow, mended
//! - [`lock`]: one rotation a cluster
//! - [`controller`]: the loop
//! - [`event`], [`report`]: everything that is shown
//! - [`sim`]: both ports on virtual time
//! - [`config`], [`cli`]: what the user types

pub mod bound;
pub mod cli;
pub mod clock;
pub mod cloud;
pub mod cluster;
pub mod config;
pub mod controller;
pub mod event;
pub mod execute;
pub mod fixes;
pub mod invariants;
pub mod lock;
pub mod model;
pub mod observe;
pub mod plan;
pub mod policy;
pub mod preflight;
pub mod readiness;
pub mod report;
pub mod sim;
mod units;
