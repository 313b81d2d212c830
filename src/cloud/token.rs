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
use super::signing::SigningTime;
use super::{Error, ErrorKind, Result};
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
    time: SigningTime,
    held: Mutex<Option<Held>>,
}

#[derive(Debug)]
struct Held {
    token: String,
    renew_at: Timestamp,
}

impl TokenSource {
    /// A source for `cluster` in `region`, signing with what `provider` gives at the time, dated by `time`.
    pub fn new(provider: SharedCredentialsProvider, region: &str, cluster: &str, time: impl Into<SigningTime>) -> Self {
        Self { provider, region: region.into(), cluster: cluster.into(), time: time.into(), held: Mutex::new(None) }
    }

    /// A token that is good for at least two more minutes, as far as the credentials are.
    ///
    /// # Errors
    /// [`ErrorKind::Credentials`] when the provider has none.
    pub async fn token(&self) -> Result<String> {
        let mut held = self.held.lock().await;
        let now = self.time.now();
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use aws_credential_types::provider::error::CredentialsError;
    use aws_credential_types::provider::{ProvideCredentials, future};

    use super::*;
    use crate::clock::Clock;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    /// Counts how often it is asked; the credentials end after `lifetime`.
    #[derive(Clone, Debug)]
    struct Provider {
        asked: Arc<AtomicU32>,
        ends: Option<Timestamp>,
        none: bool,
    }

    impl ProvideCredentials for Provider {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let n = self.asked.fetch_add(1, Ordering::Relaxed);
            future::ProvideCredentials::ready(if self.none {
                Err(CredentialsError::not_loaded_no_source())
            } else {
                Ok(Credentials::new(format!("AKID{n}"), SECRET, None, self.ends.map(Into::into), "test"))
            })
        }
    }

    fn clock() -> Clock {
        Clock::starting_at("2026-11-20T10:11:12Z".parse().unwrap())
    }

    fn source(ends: Option<&str>, none: bool) -> (TokenSource, Arc<AtomicU32>) {
        let asked = Arc::new(AtomicU32::new(0));
        let ends = ends.map(|ends| ends.parse().unwrap());
        let provider = Provider { asked: Arc::clone(&asked), ends, none };
        (TokenSource::new(SharedCredentialsProvider::new(provider), "us-west-2", "demo", clock()), asked)
    }

    /// The query of a token's URL, sorted, and what is before it.
    fn parts(token: &str) -> (String, Vec<String>) {
        let url = URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX).unwrap()).unwrap();
        let url = String::from_utf8(url).unwrap();
        let (host, query) = url.split_once('?').unwrap();
        let mut query: Vec<String> = query.split('&').map(str::to_owned).collect();
        query.sort();
        (host.to_owned(), query)
    }

    /// The expected URLs are botocore's (`SigV4QueryAuth`, 60 s) for the same keys and time.
    #[tokio::test(start_paused = true)]
    async fn tokens_equal_botocores() {
        for (region, cluster, key, session, expected) in [
            (
                "us-west-2",
                "demo",
                "AKIDEXAMPLE",
                None,
                concat!(
                    "https://sts.us-west-2.amazonaws.com/?Action=GetCallerIdentity&",
                    "Version=2011-06-15&X-Amz-Algorithm=AWS4-HMAC-SHA256&",
                    "X-Amz-Credential=AKIDEXAMPLE%2F20261120%2Fus-west-2%2Fsts%2Faws4_request&",
                    "X-Amz-Date=20261120T101112Z&X-Amz-Expires=60&",
                    "X-Amz-SignedHeaders=host%3Bx-k8s-aws-id&",
                    "X-Amz-Signature=c9655c1fe7b0bd60b9a5b610b37d4f2120ba957244d4ee236c25d0b696860ed7",
                ),
            ),
            (
                "cn-north-1",
                "demo-2",
                "ASIAEXAMPLE",
                Some("IQoJb3Jp/Z2lu+X2Vj=="),
                concat!(
                    "https://sts.cn-north-1.amazonaws.com.cn/?Action=GetCallerIdentity&",
                    "Version=2011-06-15&X-Amz-Algorithm=AWS4-HMAC-SHA256&",
                    "X-Amz-Credential=ASIAEXAMPLE%2F20261120%2Fcn-north-1%2Fsts%2Faws4_request&",
                    "X-Amz-Date=20261120T101112Z&X-Amz-Expires=60&",
                    "X-Amz-SignedHeaders=host%3Bx-k8s-aws-id&",
                    "X-Amz-Security-Token=IQoJb3Jp%2FZ2lu%2BX2Vj%3D%3D&",
                    "X-Amz-Signature=1ff0eb34f9840cbcbcae1dcf888f62cb03f84dd848c79e0145cb07f21e756d83",
                ),
            ),
        ] {
            let credentials = Credentials::new(key, SECRET, session.map(str::to_owned), None, "test");
            let source = TokenSource::new(SharedCredentialsProvider::new(credentials), region, cluster, clock());
            let token = source.token().await.unwrap();
            let (host, query) = parts(&token);
            let expected = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(expected));
            assert_eq!((host, query), parts(&expected));
            assert!(!token.contains(['=', '+', '/']), "{token}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_serves_twelve_minutes_and_then_the_provider_is_asked_anew() {
        let (source, asked) = source(None, false);
        let first = source.token().await.unwrap();
        tokio::time::advance(Duration::from_secs(12 * 60 - 1)).await;
        assert_eq!(source.token().await.unwrap(), first);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = source.token().await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        let (_, query) = parts(&second);
        assert!(query.iter().any(|p| p.starts_with("X-Amz-Credential=AKID1%2F")), "{query:?}");
        assert!(query.contains(&"X-Amz-Date=20261120T102312Z".to_owned()), "{query:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_does_not_outlive_the_credentials_that_signed_it() {
        let (source, asked) = source(Some("2026-11-20T10:16:12Z"), false);
        source.token().await.unwrap();
        tokio::time::advance(Duration::from_secs(3 * 60 - 1)).await;
        source.token().await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        source.token().await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn without_credentials_there_is_no_token() {
        let (source, _) = source(None, true);
        let error = source.token().await.unwrap_err();
        assert_eq!((error.kind, &*error.operation), (ErrorKind::Credentials, "sts:GetCallerIdentity"));
    }

    #[test]
    fn a_source_can_be_shared_between_threads() {
        fn shareable<T: Send + Sync>() {}
        shareable::<TokenSource>();
    }
}
