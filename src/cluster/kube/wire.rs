//! Sends requests: credentials, time limits, counting, and the repeats of what only reads.
//!
//! A read is sent again a bounded number of times after a fault that passes: a broken connection, 5xx, no
//! answer in time, or a 429 for the server's load. A refusal is final. A request that changes something is
//! sent once: whoever asked for it knows whether a precondition makes a second one harmless. After a 401 any
//! request is sent once more under a fresh token: the API server answers that before it acts.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use ::kube::Client;
use ::kube::client::Body;
use backon::{ExponentialBuilder, Retryable};
use futures::io::AsyncBufRead;
use http::{HeaderValue, Method, Request, Response, header};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::fault::Fault;
use crate::cluster::access::{Connection, Tokens};
use crate::cluster::{Error, ErrorKind, Result};
use crate::model::Text;

/// How long any request but a list or a watch may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// How long a list or a watch may take to begin, and a list be silent: the server may have to read etcd.
pub(super) const STREAM_LIMIT: Duration = Duration::from_secs(30);
/// How often a read is sent again.
const READ_AGAIN: usize = 3;
/// The first pause before that, and the longest that is our own choice; each up to twice as long by its jitter.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
/// No read is sent again so long after it was first sent: a server that says nothing is asked twice, and one
/// that names a longer `Retry-After` is taken at its word.
const PATIENCE: Duration = Duration::from_secs(12);

/// A request to send.
#[derive(Debug)]
pub(super) struct Call {
    /// RBAC's words, `patch nodes`.
    pub(super) verb: &'static str,
    method: Method,
    path: String,
    body: Option<(&'static str, Vec<u8>)>,
    /// Whether it changes nothing, so that it may be sent again.
    reads: bool,
}

impl Call {
    /// A GET.
    pub(super) fn get(verb: &'static str, path: String) -> Self {
        Self { verb, method: Method::GET, path, body: None, reads: true }
    }

    /// A GET that is not worth asking again: its answer may be missing, and another one waits behind it.
    pub(super) fn get_once(verb: &'static str, path: String) -> Self {
        Self { reads: false, ..Self::get(verb, path) }
    }

    /// A question that is POSTed and leaves nothing behind, as access reviews are.
    pub(super) fn ask(verb: &'static str, path: String, body: &Value) -> Self {
        Self { reads: true, ..Self::json(verb, Method::POST, path, body) }
    }

    /// A DELETE without options.
    pub(super) fn delete(verb: &'static str, path: String) -> Self {
        Self { verb, method: Method::DELETE, path, body: None, reads: false }
    }

    /// A request with a JSON body.
    pub(super) fn json(verb: &'static str, method: Method, path: String, body: &Value) -> Self {
        Self { verb, method, path, body: Some(("application/json", body.to_string().into_bytes())), reads: false }
    }

    /// A JSON merge patch.
    pub(super) fn merge(verb: &'static str, path: String, body: &Value) -> Self {
        let body = Some(("application/merge-patch+json", body.to_string().into_bytes()));
        Self { verb, method: Method::PATCH, path, body, reads: false }
    }

    /// A patch of another kind; `judged` where the server keeps nothing of it.
    pub(super) fn patch(verb: &'static str, path: String, media: &'static str, body: &Value, judged: bool) -> Self {
        let body = Some((media, body.to_string().into_bytes()));
        Self { verb, method: Method::PATCH, path, body, reads: judged }
    }
}

/// The connection and what was sent over it.
pub(super) struct Wire {
    client: Client,
    /// Named in errors.
    pub(super) host: String,
    tokens: Option<Rc<dyn Tokens>>,
    counts: RefCell<BTreeMap<Text, u64>>,
    jitter: RefCell<ChaCha8Rng>,
}

impl Wire {
    /// Over a connection; `seed` is for the jitter of the pauses.
    pub(super) fn new(connection: Connection, seed: u64) -> Self {
        let Connection { client, host, tokens } = connection;
        let jitter = RefCell::new(ChaCha8Rng::seed_from_u64(seed));
        Self { client, host, tokens, counts: RefCell::default(), jitter }
    }

    /// Requests sent so far.
    pub(super) fn counts(&self) -> BTreeMap<Text, u64> {
        self.counts.borrow().clone()
    }

    /// Counts one request (or one list, or one watch).
    pub(super) fn count(&self, verb: &str) {
        let mut counts = self.counts.borrow_mut();
        match counts.get_mut(verb) {
            Some(count) => *count += 1,
            None => {
                counts.insert(verb.into(), 1);
            }
        }
    }

    /// Sends a request, a read again where that may help, and returns the body of its success.
    pub(super) async fn call(&self, call: &Call) -> Result<Vec<u8>> {
        let started = Instant::now();
        let (first, longest) = PAUSES;
        let pauses = ExponentialBuilder::new()
            .with_min_delay(first)
            .with_max_delay(longest)
            .with_max_times(if call.reads { READ_AGAIN } else { 0 })
            .with_jitter()
            .with_jitter_seed(self.jitter.borrow_mut().next_u64());
        (|| self.call_once(call))
            .retry(pauses)
            .when(Error::is_passing)
            .adjust(|error, pause| {
                // The server knows best how long it is busy.
                let asked = Duration::from_secs(error.retry_after.unwrap_or(0).into());
                pause.map(|pause| pause.max(asked)).filter(|pause| started.elapsed() + *pause < PATIENCE)
            })
            .notify(|error, pause| {
                tracing::debug!(verb = call.verb, cause = error.message, delay_ms = pause.as_millis(), "asking again");
            })
            .await
    }

    async fn call_once(&self, call: &Call) -> Result<Vec<u8>> {
        match timeout(REQUEST_LIMIT, self.exchange(call)).await {
            Ok(answer) => answer.map_err(|fault| fault.error),
            Err(_) => Err(self.silence(call.verb, REQUEST_LIMIT).error),
        }
    }

    async fn exchange(&self, call: &Call) -> std::result::Result<Vec<u8>, Fault> {
        let mut response = self.send(call, false).await?;
        if response.status() == http::StatusCode::UNAUTHORIZED && self.tokens.is_some() {
            response = self.send(call, true).await?;
        }
        let code = response.status();
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|seconds| seconds.parse().ok());
        let body = response
            .into_body()
            .collect_bytes()
            .await
            .map_err(|error| Fault::from_transport(call.verb, &self.host, &error))?;
        if !code.is_success() {
            return Err(Fault::from_answer(call.verb, code.as_u16(), retry_after, &body));
        }
        Ok(Vec::from(body))
    }

    async fn send(&self, call: &Call, fresh: bool) -> std::result::Result<Response<Body>, Fault> {
        let (media, body) = call.body.clone().map_or((None, Vec::new()), |(media, body)| (Some(media), body));
        let request = self.request(call, media, fresh, Body::from(body)).await?;
        self.count(call.verb);
        self.client.send(request).await.map_err(|error| Fault::from_transport(call.verb, &self.host, &error))
    }

    /// Begins a list page or a watch: its body as it arrives.
    pub(super) async fn stream(&self, call: &Call) -> std::result::Result<impl AsyncBufRead + Unpin + use<>, Fault> {
        let begin = async {
            let mut fresh = false;
            loop {
                let request = self.request(call, None, fresh, Vec::new()).await?;
                match self.client.request_stream(request).await {
                    Ok(body) => return Ok(Box::pin(body)),
                    Err(::kube::Error::Api(status)) if status.code == 401 && self.tokens.is_some() && !fresh => {
                        fresh = true;
                    }
                    Err(error) => return Err(Fault::from_transport(call.verb, &self.host, &error)),
                }
            }
        };
        timeout(STREAM_LIMIT, begin).await.unwrap_or_else(|_| Err(self.silence(call.verb, STREAM_LIMIT)))
    }

    async fn request<B>(
        &self,
        call: &Call,
        media: Option<&'static str>,
        fresh: bool,
        body: B,
    ) -> std::result::Result<Request<B>, Fault> {
        let mut builder =
            Request::builder().method(call.method.clone()).uri(&call.path).header(header::ACCEPT, "application/json");
        if let Some(media) = media {
            builder = builder.header(header::CONTENT_TYPE, media);
        }
        if let Some(tokens) = &self.tokens {
            let refuse = |why: String| {
                Fault::new(ErrorKind::Unauthorized, call.verb, format!("no token for {}: {why}", self.host))
            };
            let token = tokens.token(fresh).await.map_err(refuse)?;
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| refuse("it holds characters that no header may".into()))?;
            value.set_sensitive(true);
            builder = builder.header(header::AUTHORIZATION, value);
        }
        builder.body(body).map_err(|error| Fault::new(ErrorKind::Other, call.verb, error.to_string()))
    }

    /// The fault of an answer that did not come in time.
    pub(super) fn silence(&self, verb: &str, limit: Duration) -> Fault {
        let message = format!("cannot reach {}: no answer within {} s", self.host, limit.as_secs());
        Fault::new(ErrorKind::Unavailable, verb, message)
    }
}
