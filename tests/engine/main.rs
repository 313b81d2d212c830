//! The engine's parts on small fakes of both ports: what is sent, in which order, and never twice.

mod executor;
mod fakes;
mod lock;
mod rotation;
mod source;
