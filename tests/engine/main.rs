//! The engine's parts on small fakes of both ports: what is sent, in which order, and never twice.

#![allow(clippy::unwrap_used, reason = "what cannot be set up has failed")]

mod asks;
mod executor;
mod fakes;
mod lock;
mod rotation;
mod source;
mod voice;
