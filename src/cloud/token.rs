//! The bearer token an EKS API server accepts: a presigned STS GetCallerIdentity request.
//!
//! The API server's authenticator sends the request on and takes the identity STS answers with. The URL
//! must name the STS host of the cluster's region, whatever endpoint the other services are called at, and
//! the header `x-k8s-aws-id` with the cluster's name must be signed, so that a token for one cluster is
//! useless at another. (aws-iam-authenticator, pkg/token/token.go.)

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::box_error::BoxError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;

use super::aws::credentials::{expiry, load};
use super::aws::failure::Failure;
use super::aws::partition::sts_host;
use super::{Error, ErrorKind, Result};
use crate::clock::Clock;
use crate::model::Text;

/// What every token begins with.
const PREFIX: &str = "k8s-aws-v1.";
/// `X-Amz-Expires`. The authenticator does not go by it: a token is good for 15 minutes from its date.
const URL_EXPIRES: Duration = Duration::from_secs(60);
/// How long a token is used; a minute less than the authenticator takes it, for clocks that differ.
const LIFETIME: SignedDuration = SignedDuration::from_mins(14);
/// A new one is made so long before the old one ends.
const MARGIN: SignedDuration = SignedDuration::from_mins(2);
/// The IAM action the token exercises.
const OPERATION: &str = "sts:GetCallerIdentity";

/// Makes tokens for one cluster, and hands the same one out until two minutes before its end.
#[derive(Debug)]
pub struct TokenSource {
    provider: SharedCredentialsProvider,
    region: Text,
    cluster: Text,
    clock: Clock,
    held: Mutex<Option<Held>>,
}

#[derive(Debug)]
struct Held {
    token: String,
    renew_at: Timestamp,
}

impl TokenSource {
    /// A source for `cluster` in `region`, signing with what `provider` gives at the time.
    pub fn new(provider: SharedCredentialsProvider, region: &str, cluster: &str, clock: Clock) -> Self {
        Self { provider, region: region.into(), cluster: cluster.into(), clock, held: Mutex::new(None) }
    }

    /// A token that is good for at least two more minutes, as far as the credentials are.
    ///
    /// # Errors
    /// [`ErrorKind::Credentials`] when the provider has none.
    pub async fn token(&self) -> Result<String> {
        let mut held = self.held.lock().await;
        let now = self.clock.now();
        if let Some(held) = held.as_ref().filter(|held| now < held.renew_at) {
            return Ok(held.token.clone());
        }
        let credentials =
            load(&self.provider).await.map_err(|error| Failure::credentials(OPERATION, &error).into_error())?;
        let token = presign(&credentials, &self.region, &self.cluster, now).map_err(|cause| Error {
            kind: ErrorKind::Other,
            operation: OPERATION.into(),
            message: format!("failed to sign the token for cluster {:?}: {cause}", self.cluster),
        })?;
        // A token ends with the credentials that signed it.
        let mut until = now.checked_add(LIFETIME).unwrap_or(Timestamp::MAX);
        if let Some(end) = expiry(&credentials) {
            until = until.min(end);
        }
        *held = Some(Held { token: token.clone(), renew_at: until.checked_sub(MARGIN).unwrap_or(Timestamp::MIN) });
        Ok(token)
    }

    /// Forgets the token at hand, because the API server refused it: the next is signed anew, with what the
    /// provider gives by then.
    pub async fn forget(&self) {
        *self.held.lock().await = None;
    }
}

fn presign(
    credentials: &Credentials,
    region: &str,
    cluster: &str,
    now: Timestamp,
) -> std::result::Result<String, BoxError> {
    let url = format!("https://{}/?Action=GetCallerIdentity&Version=2011-06-15", sts_host(region));
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(URL_EXPIRES);
    let identity = credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("sts")
        .time(now.into())
        .settings(settings)
        .build()?
        .into();
    let headers = [("x-k8s-aws-id", cluster)];
    let request = SignableRequest::new("GET", url.as_str(), headers.into_iter(), SignableBody::Bytes(&[]))?;
    let (instructions, _) = sign(request, &params)?.into_parts();
    let mut signed = http::Request::get(&url).body(())?;
    instructions.apply_to_request_http1x(&mut signed);
    Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(signed.uri().to_string())))
}
