//! The Kubernetes adapter against an API server of prepared answers.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod evidence;
mod manifests;
mod repeats;
mod requests;
mod server;
mod watches;
