//! What is sent again, and when: a few times, further and further apart, with a seeded jitter.

use std::cell::RefCell;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::time::timeout;

use super::{FENCED_DEADLINE, Fault};
use crate::{cloud, cluster};

/// Sent again at most so often.
const TIMES: usize = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The seeded source of every pause's jitter.
#[derive(Debug)]
pub struct Jitter(RefCell<ChaCha8Rng>);

impl Jitter {
    /// A stream of its own for this seed.
    pub fn seeded(seed: u64) -> Self {
        Self(RefCell::new(ChaCha8Rng::seed_from_u64(seed)))
    }

    /// The pauses of one call: 0.5 s, 1 s, 2 s, each up to twice as long.
    pub fn pauses(&self) -> ExponentialBuilder {
        ExponentialBuilder::default()
            .with_min_delay(FIRST_PAUSE)
            .with_max_delay(LONGEST_PAUSE)
            .with_max_times(TIMES)
            .with_jitter()
            .with_jitter_seed(self.0.borrow_mut().random())
    }

    /// `pause` or up to half of it more.
    pub fn stretch(&self, pause: Duration) -> Duration {
        pause.mul_f64(1.0 + self.0.borrow_mut().random_range(0.0..0.5))
    }
}

/// Whether sending the same again may help within seconds, and can do no harm.
pub fn may_send_again(fault: &Fault) -> bool {
    match fault {
        Fault::Cloud(e) => matches!(e.kind, cloud::ErrorKind::Throttled | cloud::ErrorKind::Unavailable),
        Fault::Cluster(e) => matches!(e.kind, cluster::ErrorKind::Throttled | cluster::ErrorKind::Unavailable),
        Fault::Deadline | Fault::Changed(_) | Fault::NotLocked => false,
    }
}

/// Runs `call`, which can be repeated without harm, until it succeeds, is refused, or has failed too often.
///
/// # Errors
/// The last failure.
pub async fn repeat<T, E: Into<Fault>, F: Future<Output = Result<T, E>>>(
    jitter: &Jitter,
    locked: impl Fn() -> Result<(), Fault>,
    mut call: impl FnMut() -> F,
) -> Result<T, Fault> {
    let attempt = || {
        let ready = locked();
        let call = ready.map(|()| call());
        async { within(FENCED_DEADLINE, call?).await }
    };
    attempt
        .retry(jitter.pauses())
        .when(may_send_again)
        .adjust(|fault, pause| match fault {
            // The server knows better how long it is busy.
            Fault::Cluster(cluster::Error { retry_after: Some(seconds), .. }) => {
                pause.map(|p| p.max(Duration::from_secs((*seconds).into()).min(LONGEST_PAUSE)))
            }
            _ => pause,
        })
        .await
}

/// Runs `call` up to its hard deadline.
///
/// # Errors
/// The call's own, or [`Fault::Deadline`].
pub async fn within<T, E: Into<Fault>>(
    deadline: Duration,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, Fault> {
    match timeout(deadline, call).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(Fault::Deadline),
    }
}
