//! What the `Cloud` port shows of AWS, checked in two worlds: the simulator, and the Auto Scaling engine of
//! `tests/stack` behind the real AWS adapter.
//!
//! Every case names the page of AWS's documentation that says so. `cargo test --test conformance` runs them on the
//! simulator, on virtual time; with `FASTNODE_CONFORMANCE=1` and the environment that `tests/stack/up` prints they
//! run on the engine, which is what `tests/stack/run conformance` does.
//!
//! A case asserts only what the port shows, and no more time than "soon", "not yet" and "nothing happens".

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod aside;
mod capacity;
mod launches;
mod lifecycle;
mod making;
mod refusals;
mod targets;
mod world;
mod zones;
