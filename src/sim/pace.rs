//! How fast virtual time runs against the wall clock.

use std::time::Duration;

/// How fast a simulation plays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// As fast as it goes.
    Max,
    /// So many virtual seconds a second.
    Times(f64),
    /// So that a run expected to take this long plays in about [`Speed::AUTO_SECONDS`].
    Auto {
        /// Expected virtual duration, seconds.
        expected_s: f64,
    },
}

impl Speed {
    /// How long `auto` plays, seconds.
    pub const AUTO_SECONDS: f64 = 20.0;

    /// Virtual seconds a second; `None` is as fast as it goes.
    pub fn factor(self) -> Option<f64> {
        let factor = match self {
            Self::Max => return None,
            Self::Times(factor) => factor,
            Self::Auto { expected_s } => expected_s / Self::AUTO_SECONDS,
        };
        (factor.is_finite() && factor > 0.0).then_some(factor)
    }
}

/// Holds virtual time back to a pace.
#[derive(Debug)]
pub(super) struct Pace {
    factor: f64,
    from_virtual: Duration,
    from_wall: std::time::Instant,
}

impl Pace {
    /// The longest the thread is blocked, and the longest that virtual time may run ahead.
    const SLICE: Duration = Duration::from_millis(50);

    /// A pace that begins at a virtual time.
    #[expect(clippy::disallowed_methods, reason = "playing to a person is the one thing that follows the wall clock")]
    pub(super) fn new(speed: Speed, from_virtual: Duration) -> Option<Self> {
        Some(Self { factor: speed.factor()?, from_virtual, from_wall: std::time::Instant::now() })
    }

    /// Virtual time that passes in a slice.
    pub(super) fn slice(&self) -> Duration {
        Self::SLICE.mul_f64(self.factor.clamp(1e-3, 1e6))
    }

    /// Blocks for at most a slice; true while virtual time is still ahead of its pace.
    #[expect(clippy::disallowed_methods, reason = "blocking the one thread is what holds the paused clock back")]
    pub(super) fn hold(&self, now_virtual: Duration) -> bool {
        let due = now_virtual.saturating_sub(self.from_virtual).div_f64(self.factor);
        let ahead = due.saturating_sub(self.from_wall.elapsed());
        std::thread::sleep(ahead.min(Self::SLICE));
        ahead > Self::SLICE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_plays_any_run_in_the_same_time() {
        assert_eq!(Speed::Max.factor(), None);
        assert_eq!(Speed::Times(8.0).factor(), Some(8.0));
        assert_eq!(Speed::Auto { expected_s: 4000.0 }.factor(), Some(200.0));
        assert_eq!(Speed::Auto { expected_s: 0.0 }.factor(), None);
    }
}
