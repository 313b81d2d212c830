//! The Kubernetes adapter against an API server of prepared answers.

mod requests;
mod server;
mod watches;
