//! The engine's parts on small fakes of both ports: what is sent, in which order, and never twice.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what cannot be set up has failed")]

mod asks;
mod executor;
mod fakes;
#[path = "../worlds/group.rs"]
mod group;
mod lock;
mod rotation;
#[path = "../worlds/runs.rs"]
mod runs;
mod source;
mod voice;
