//! Credentials for the requests fastnode signs itself, kept until shortly before they expire.

use std::cell::RefCell;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use jiff::{SignedDuration, Timestamp};

/// How long a provider may take; the SDKs' own limit is the same.
const LOAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Credentials that say nothing of their end are asked for again after this, as in the SDKs.
const DEFAULT_LIFETIME: SignedDuration = SignedDuration::from_mins(15);
/// New ones are asked for so long before the end.
const MARGIN: SignedDuration = SignedDuration::from_secs(60);

/// Asks `provider`, within its time.
pub(in crate::cloud) async fn load(
    provider: &SharedCredentialsProvider,
) -> std::result::Result<Credentials, CredentialsError> {
    tokio::time::timeout(LOAD_TIMEOUT, provider.provide_credentials())
        .await
        .map_err(|_| CredentialsError::provider_timed_out(LOAD_TIMEOUT))?
}

/// When `credentials` end, if they say so.
pub(in crate::cloud) fn expiry(credentials: &Credentials) -> Option<Timestamp> {
    credentials.expiry().and_then(|end| Timestamp::try_from(end).ok())
}

/// A provider and what it last gave.
#[derive(Debug)]
pub(in crate::cloud) struct Held {
    provider: SharedCredentialsProvider,
    last: RefCell<Option<(Credentials, Timestamp)>>,
}

impl Held {
    /// Nothing held yet.
    pub(in crate::cloud) fn new(provider: SharedCredentialsProvider) -> Self {
        Self { provider, last: RefCell::default() }
    }

    /// Credentials good at `now`.
    pub(in crate::cloud) async fn get(&self, now: Timestamp) -> std::result::Result<Credentials, CredentialsError> {
        let held = self.last.borrow().as_ref().filter(|(_, until)| now < *until).map(|(held, _)| held.clone());
        if let Some(held) = held {
            return Ok(held);
        }
        let fresh = load(&self.provider).await?;
        let until = match expiry(&fresh) {
            Some(end) => end.checked_sub(MARGIN).unwrap_or(Timestamp::MIN),
            None => now.checked_add(DEFAULT_LIFETIME).unwrap_or(Timestamp::MAX),
        };
        *self.last.borrow_mut() = Some((fresh.clone(), until));
        Ok(fresh)
    }

    /// Drops what is held: the service did not accept it.
    pub(in crate::cloud) fn forget(&self) {
        *self.last.borrow_mut() = None;
    }
}
