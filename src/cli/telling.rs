//! What a rotation tells, carried to the reporter while it runs.

use std::path::Path;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::exit::Exit;
use super::failure::{Failure, chain};
use super::log;
use crate::event::Sink;
use crate::report::reporter::{Reporter, Show};

/// Events that may wait for the reporter, which never blocks: a burst, not a backlog.
const EVENTS: usize = 4096;

/// The reporter at work.
pub(super) struct Telling(JoinHandle<Reporter>);

/// Starts a reporter, which tells whatever comes through the sink. Must be called inside a `LocalSet`.
///
/// # Errors
/// If the file for the events cannot be written, or the terminal not be drawn on.
pub(super) fn begin(show: Show, events: Option<&Path>) -> Result<(Sink, Telling), Failure> {
    let mut reporter = Reporter::new(show, events, log::bars).map_err(|e| Failure::new(Exit::Usage, chain(&e)))?;
    let (sink, mut events) = mpsc::channel(EVENTS);
    let telling = tokio::task::spawn_local(async move {
        while let Some(event) = events.recv().await {
            reporter.event(&event);
        }
        reporter
    });
    Ok((sink, Telling(telling)))
}

impl Telling {
    /// The reporter, once the sink is dropped and everything is told.
    ///
    /// # Errors
    /// If it has died.
    pub(super) async fn end(self) -> Result<Reporter, Failure> {
        self.0.await.map_err(|e| Failure::new(Exit::Unexpected, chain(&e)))
    }
}
