//! Sending requests: each one counted and watched, repeated only where that is safe.
//!
//! The SDKs' own retries are off, because they also resend after a dropped reply, which could terminate an
//! instance twice over.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::connection::CaptureSmithyConnection;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextRef;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use backon::{ExponentialBuilder, Retryable};
use jiff::SignedDuration;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;

use super::failure::{Failure, Fault};
use crate::cloud::Result;
use crate::cloud::signing::SigningTime;
use crate::model::Text;

/// How often each operation was sent.
pub(in crate::cloud) type Counts = Arc<Mutex<BTreeMap<Text, u64>>>;

/// Sends requests.
#[derive(Debug)]
pub(in crate::cloud) struct Caller {
    counts: Counts,
    time: SigningTime,
    jitter: RefCell<ChaCha8Rng>,
}

impl Caller {
    /// A caller whose back-off is jittered from `seed`, and whose requests are signed by `time`.
    pub(in crate::cloud) fn new(seed: u64, time: SigningTime) -> Self {
        Self { counts: Counts::default(), time, jitter: RefCell::new(ChaCha8Rng::seed_from_u64(seed)) }
    }

    /// Sends a read or an idempotent write, and again after throttling and transient faults, within a
    /// minute of the first attempt.
    pub(in crate::cloud) async fn repeatable<T>(
        &self,
        operation: &'static str,
        send: impl AsyncFn(Probe) -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        self.send(operation, send, Failure::patience).await.map_err(Failure::into_error)
    }

    /// Sends a write that must take effect at most once; again only where it was thrown out unread: for its
    /// rate, or for the date of its signature.
    pub(in crate::cloud) async fn once<T>(
        &self,
        operation: &'static str,
        send: impl AsyncFn(Probe) -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        self.send(operation, send, Failure::patience_once).await.map_err(Failure::into_error_once)
    }

    async fn send<T>(
        &self,
        operation: &'static str,
        send: impl AsyncFn(Probe) -> std::result::Result<T, Failure>,
        patience: fn(&Failure) -> Option<Duration>,
    ) -> std::result::Result<T, Failure> {
        let started = Instant::now();
        let backoff = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(8))
            .without_max_times()
            .with_jitter()
            .with_jitter_seed(self.jitter.borrow_mut().next_u64());
        (|| send(Probe::new(operation, Arc::clone(&self.counts), self.time.clone())))
            .retry(backoff)
            .adjust(|failure, pause| {
                pause.filter(|pause| patience(failure).is_some_and(|limit| started.elapsed() + *pause <= limit))
            })
            .notify(|failure, delay| {
                tracing::debug!(operation, cause = failure.message, delay_ms = delay.as_millis(), "sending again");
            })
            .await
    }

    /// How often each operation was sent so far.
    pub(in crate::cloud) fn counts(&self) -> BTreeMap<Text, u64> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Watches one request: counts it when it is sent, and knows whether it had a connection to go out on.
#[derive(Clone, Debug)]
pub(in crate::cloud) struct Probe {
    operation: &'static str,
    counts: Counts,
    time: SigningTime,
    /// The correction its signature is made with.
    ahead: SignedDuration,
    /// Set when the request is handed to the transport: where the transport notes its connection, if the
    /// request has such a place.
    sent: Arc<OnceLock<Option<CaptureSmithyConnection>>>,
}

impl Probe {
    fn new(operation: &'static str, counts: Counts, time: SigningTime) -> Self {
        let ahead = time.ahead();
        Self { operation, counts, time, ahead, sent: Arc::default() }
    }

    /// Whether the request may have reached the service. A failed connect (name, TCP, TLS) never did.
    fn reached(&self) -> bool {
        self.sent.get().is_some_and(|connection| connection.as_ref().is_none_or(|c| c.get().is_some()))
    }

    /// Judges the request's error, and corrects the time of the next signature where this one's was refused.
    pub(in crate::cloud) fn judge<E>(&self, error: &SdkError<E, HttpResponse>) -> Failure
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        let failure = Failure::judge(self.operation, error, self.reached());
        let corrected = || error.raw_response().is_some_and(|answer| self.time.correct(self.ahead, answer));
        if failure.fault == Fault::Skewed && !corrected() { failure.uncorrected() } else { failure }
    }

    fn note(&self, connection: Option<CaptureSmithyConnection>) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(self.operation.into()).or_default() += 1;
        // Retries are off, so there is one send a probe; a second one would find the first's place kept.
        let _ = self.sent.set(connection);
    }
}

/// Where a client takes no interceptor for one call, the probe travels in the call's own configuration.
impl Storable for Probe {
    type Storer = StoreReplace<Self>;
}

impl Intercept for Probe {
    fn name(&self) -> &'static str {
        "Probe"
    }

    fn read_before_transmit(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        self.note(cfg.load::<CaptureSmithyConnection>().cloned());
        Ok(())
    }
}
