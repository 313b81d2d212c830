//! The time that requests and tokens are signed with.
//!
//! AWS refuses a signature whose date is more than a few minutes from its own. The date is the system's
//! clock, and where an answer shows that one to be wrong, the service's: its refusal carries the time it
//! compared with. (AWS General Reference, "Signature Version 4"; each SDK client corrects itself alike, which
//! is off here, so that what one service tells is known to all.)

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;

/// Less is no reason for a refusal, and the answer's way takes time too.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(60);

/// The system's time, corrected by what AWS's answers have shown. Clones share the correction.
#[derive(Clone, Debug)]
pub struct SigningTime {
    clock: Clock,
    /// How far AWS is ahead of `clock`.
    ahead_ms: Arc<AtomicI64>,
}

impl From<Clock> for SigningTime {
    fn from(clock: Clock) -> Self {
        Self { clock, ahead_ms: Arc::default() }
    }
}

impl SigningTime {
    /// The date for a signature made now.
    pub fn now(&self) -> Timestamp {
        self.at(self.ahead())
    }

    /// The correction now, to be handed to [`SigningTime::correct`] with the answer.
    pub(in crate::cloud) fn ahead(&self) -> SignedDuration {
        SignedDuration::from_millis(self.ahead_ms.load(Ordering::Relaxed))
    }

    fn at(&self, ahead: SignedDuration) -> Timestamp {
        let stamp = self.clock.stamp();
        stamp.checked_add(ahead).unwrap_or(stamp)
    }

    /// Takes the time of an answer that refused a signature made with the correction `ahead`; whether there is
    /// a better one, so that another attempt may succeed.
    pub(in crate::cloud) fn correct(&self, ahead: SignedDuration, answer: &HttpResponse) -> bool {
        let date = answer.headers().get("date").and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
        let Some(theirs) = date.and_then(|date| Timestamp::from_second(date.secs()).ok()) else { return false };
        if theirs.duration_since(self.at(ahead)).abs() < TOLERANCE {
            return false;
        }
        let ahead = theirs.duration_since(self.clock.stamp());
        let Ok(ahead_ms) = i64::try_from(ahead.as_millis()) else { return false };
        tracing::warn!(
            "this machine's clock is off: AWS is {ahead:#} ahead of it; requests are signed with AWS's time"
        );
        self.ahead_ms.store(ahead_ms, Ordering::Relaxed);
        true
    }
}

#[expect(clippy::disallowed_types, reason = "the SDKs' own trait")]
impl TimeSource for SigningTime {
    fn now(&self) -> std::time::SystemTime {
        SigningTime::now(self).into()
    }
}
