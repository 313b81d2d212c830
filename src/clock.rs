//! The one clock: wall time in production, tokio's (paused) time in a simulation.
//!
//! Everything that decides takes `now` as an argument; only the controller, the executor and the lock
//! hold a `Clock`, and sleep with [`tokio::time`], which follows the same source.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// A source of timestamps.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Timestamp,
    started: Instant,
}

impl Clock {
    /// The wall clock, read once; from there on it is monotonic, so a step of the system's clock in the
    /// middle of a rotation moves no deadline. Must be called inside a tokio runtime.
    #[expect(clippy::disallowed_methods, reason = "the one place where wall time enters")]
    pub fn wall() -> Self {
        Self { origin: Timestamp::now(), started: Instant::now() }
    }

    /// A clock that starts at `origin` and follows tokio's time.
    pub fn starting_at(origin: Timestamp) -> Self {
        Self { origin, started: Instant::now() }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.started.elapsed()).unwrap_or(SignedDuration::MAX);
        self.origin.checked_add(elapsed).unwrap_or(Timestamp::MAX)
    }
}
