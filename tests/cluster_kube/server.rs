//! An API server of prepared answers, in memory: real sockets would not follow the paused clock.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use fastnode::cluster::Kind;
use fastnode::cluster::access::{Connection, Tokens};
use fastnode::cluster::kube::KubeCluster;
use http::{Request, Response};
use http_body::Frame;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep, sleep};
use tower_test::mock;

/// How a body ends.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// It is complete.
    Close,
    /// It stays open.
    Hold,
    /// It is complete after this long.
    CloseAfter(Duration),
}

/// A response body that arrives in small pieces.
pub struct Feed {
    chunks: VecDeque<Bytes>,
    end: End,
    sleep: Option<Pin<Box<Sleep>>>,
    open: Arc<AtomicUsize>,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl http_body::Body for Feed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(chunk) = self.chunks.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match self.end {
            End::Close => Poll::Ready(None),
            End::Hold => Poll::Pending,
            End::CloseAfter(time) => {
                let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(time)));
                pin!(sleep).poll(cx).map(|()| None)
            }
        }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    code: u16,
    retry_after: Option<u32>,
    body: String,
    end: End,
    broken: bool,
}

impl Answer {
    pub fn json(code: u16, body: &Value) -> Self {
        Self::text(code, &body.to_string())
    }

    pub fn text(code: u16, body: &str) -> Self {
        Self { code, retry_after: None, body: body.to_owned(), end: End::Close, broken: false }
    }

    /// No answer: the connection is reset.
    pub fn reset() -> Self {
        Self { broken: true, ..Self::text(0, "") }
    }

    /// The head of an answer, and then nothing.
    pub fn silence() -> Self {
        Self { end: End::Hold, ..Self::text(200, "") }
    }

    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// A page of a list.
    pub fn page(version: &str, next: &str, items: &[Value]) -> Self {
        let metadata = if next.is_empty() {
            json!({ "resourceVersion": version })
        } else {
            json!({ "resourceVersion": version, "continue": next, "remainingItemCount": 1 })
        };
        Self::json(200, &json!({ "kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items }))
    }

    /// A watch that tells these events.
    pub fn watch(events: &[(&str, Value)], end: End) -> Self {
        let lines = events.iter().map(|(word, object)| format!("{}\n", json!({ "type": word, "object": object })));
        Self { end, ..Self::text(200, &lines.collect::<String>()) }
    }

    fn response(self, open: &Arc<AtomicUsize>) -> Response<Feed> {
        open.fetch_add(1, Ordering::Relaxed);
        // Pieces of 37 bytes: nothing may depend on where they are cut.
        let chunks = self.body.as_bytes().chunks(37).map(Bytes::copy_from_slice).collect();
        let mut response = Response::builder().status(self.code);
        if let Some(seconds) = self.retry_after {
            response = response.header("Retry-After", seconds);
        }
        response.body(Feed { chunks, end: self.end, sleep: None, open: Arc::clone(open) }).unwrap()
    }
}

/// A Status of a failure.
pub fn status(code: u16, reason: &str, message: &str, details: Value) -> Answer {
    Answer::json(
        code,
        &json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
            "reason": reason, "details": details, "code": code }),
    )
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub query: String,
    pub content: String,
    pub token: String,
    pub body: Value,
    /// Virtual time since the server's start.
    pub at: Duration,
}

/// The server: scripts by what is asked for, and all that was asked.
#[derive(Clone, Default)]
pub struct Server {
    scripts: Rc<RefCell<BTreeMap<String, VecDeque<Answer>>>>,
    seen: Rc<RefCell<Vec<Seen>>>,
    open: Arc<AtomicUsize>,
}

impl Server {
    /// The next answer to `what`: `GET /path`, or `watch /path` for watches. A list without a script is
    /// empty, a watch without one stays open, everything else is 404.
    pub fn on(&self, what: &str, answer: Answer) -> &Self {
        self.scripts.borrow_mut().entry(what.to_owned()).or_default().push_back(answer);
        self
    }

    /// Requests to `what` so far.
    pub fn asked(&self, what: &str) -> Vec<Seen> {
        self.seen.borrow().iter().filter(|seen| Self::name(seen) == what).cloned().collect()
    }

    /// Answers whose body the client still holds.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Every request so far.
    pub fn calls(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    fn name(seen: &Seen) -> String {
        let verb = if seen.query.contains("watch=true") { "watch" } else { &seen.method };
        format!("{verb} {}", seen.path)
    }

    fn answer(&self, seen: &Seen) -> Answer {
        let name = Self::name(seen);
        let scripted = self.scripts.borrow_mut().get_mut(&name).and_then(VecDeque::pop_front);
        scripted.unwrap_or_else(|| match name.split(' ').next() {
            Some("watch") => Answer::watch(&[], End::Hold),
            Some("GET") if seen.query.contains("limit=") => Answer::page("1", "", &[]),
            _ => status(404, "NotFound", "not found", json!({})),
        })
    }

    /// A cluster that talks to this server. Must be called inside a `LocalSet`.
    pub fn cluster(&self) -> KubeCluster {
        self.cluster_with(None)
    }

    pub fn cluster_with(&self, tokens: Option<Rc<dyn Tokens>>) -> KubeCluster {
        let (service, handle) = mock::pair::<Request<Body>, Response<Feed>>();
        let client = Client::new(service, "default");
        let server = self.clone();
        let start = Instant::now();
        tokio::task::spawn_local(async move {
            let mut handle = pin!(handle);
            while let Some((request, send)) = handle.next_request().await {
                let server = server.clone();
                let (head, body) = request.into_parts();
                let header =
                    |name: &str| head.headers.get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
                let seen = Seen {
                    method: head.method.to_string(),
                    path: head.uri.path().to_owned(),
                    query: head.uri.query().unwrap_or_default().to_owned(),
                    content: header("content-type"),
                    token: header("authorization"),
                    body: serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap_or(Value::Null),
                    at: start.elapsed(),
                };
                let answer = server.answer(&seen);
                server.seen.borrow_mut().push(seen);
                if answer.broken {
                    send.send_error(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
                } else {
                    send.send_response(answer.response(&server.open));
                }
            }
        });
        KubeCluster::new(Connection { client, host: "https://api.test".into(), tokens }, 7)
    }
}

/// Runs a test on a `LocalSet`, as the program does.
pub async fn local<F: Future>(test: F) -> F::Output {
    tokio::task::LocalSet::new().run_until(test).await
}

/// A pod as the API sends it.
pub fn pod(name: &str, version: u32) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "shop", "uid": format!("{name}-uid"), "resourceVersion": version.to_string(),
            "creationTimestamp": "2026-11-01T10:00:00Z", "labels": { "app": "shop" } },
        "spec": { "nodeName": "n1", "containers": [{ "name": "main", "image": "shop:1" }] },
        "status": { "phase": "Running" },
    })
}

/// A Node as the API sends it.
pub fn node(name: &str, version: u32, taints: &Value) -> Value {
    json!({
        "kind": "Node", "apiVersion": "v1",
        "metadata": { "name": name, "uid": format!("{name}-uid"), "resourceVersion": version.to_string(),
            "creationTimestamp": "2026-11-01T10:00:00Z" },
        "spec": { "providerID": "aws:///us-west-2a/i-0abc", "taints": taints },
        "status": {},
    })
}

/// Where each kind is listed.
pub fn path(kind: Kind) -> &'static str {
    match kind {
        Kind::Node => "/api/v1/nodes",
        Kind::Pod => "/api/v1/pods",
        Kind::DaemonSet => "/apis/apps/v1/daemonsets",
        Kind::Revision => "/apis/apps/v1/controllerrevisions",
        Kind::Budget => "/apis/policy/v1/poddisruptionbudgets",
        Kind::CsiNode => "/apis/storage.k8s.io/v1/csinodes",
        Kind::VolumeAttachment => "/apis/storage.k8s.io/v1/volumeattachments",
    }
}
