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
    wall: bool,
}

impl Clock {
    /// The wall clock, read once; from there on it is monotonic, so a step of the system's clock in the
    /// middle of a rotation moves no deadline; [`Clock::stamp`] alone follows such steps. Must be called inside a tokio runtime.
    #[expect(clippy::disallowed_methods, reason = "the one place where wall time enters")]
    pub fn wall() -> Self {
        Self { origin: Timestamp::now(), started: Instant::now(), wall: true }
    }

    /// A clock that starts at `origin` and follows tokio's time.
    pub fn starting_at(origin: Timestamp) -> Self {
        Self { origin, started: Instant::now(), wall: false }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.started.elapsed()).unwrap_or(SignedDuration::MAX);
        self.origin.checked_add(elapsed).unwrap_or(Timestamp::MAX)
    }

    /// The time of day for what another machine compares with its own, a request's signature above all.
    ///
    /// The monotonic clock stands still while the machine is suspended, and what is signed by it afterwards is
    /// refused as expired; the system's clock is right again. In a simulation this is [`Clock::now`].
    #[expect(clippy::disallowed_methods, reason = "nothing is decided by it: others judge what it is put on")]
    pub fn stamp(&self) -> Timestamp {
        if self.wall { Timestamp::now() } else { self.now() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn stamps_follow_the_system_where_the_monotonic_clock_parts_from_it() {
        let clock = Clock::wall();
        tokio::time::advance(Duration::from_secs(3600)).await;
        let apart = clock.now().duration_since(clock.stamp());
        assert!(apart > SignedDuration::from_mins(59), "{apart}");
    }

    #[tokio::test(start_paused = true)]
    async fn stamps_are_virtual_where_time_is() {
        let clock = Clock::starting_at("2026-11-20T10:11:12Z".parse().unwrap());
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(clock.stamp(), "2026-11-20T11:11:12Z".parse().unwrap());
    }
}
