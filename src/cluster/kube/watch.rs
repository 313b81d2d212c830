//! One kind's list and watch, for as long as somebody listens.
//!
//! ```text
//!            +-- 410, or an object that cannot be read --+
//!            v                                           |
//!   Listing (pages: Relisting, objects, Synced) ---> Watching (changes, bookmarks)
//!                                                    ^   |
//!                                                    +---+ ended or broke: from the last resourceVersion
//! ```
//!
//! Every arrow back waits: not at all after a watch that lived a while and ended by itself, else longer each
//! time, with seeded jitter. A server that ends each watch at once is thus not hammered.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures::io::{AsyncBufRead, AsyncBufReadExt};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::Shared;
use super::fault::Fault;
use super::wire::{Call, STREAM_LIMIT};
use crate::cluster::slim::{self, DecodeError, Event, Object};
use crate::cluster::{Error, ErrorKind, Fact, Kind};

/// Objects a page.
const PAGE: u32 = 500;
/// Times the very first page is asked for before the start fails.
const FIRST_TRIES: u32 = 3;
/// A watch that lived this long was a real one: the back-off starts anew.
const SETTLED: Duration = Duration::from_secs(10);
/// Bookmarks come about once a minute; a watch silent for this long has lost its connection.
const SILENCE: Duration = Duration::from_secs(150);
/// Shortest and longest time the server is asked to keep a watch, in seconds.
const WATCH_SECONDS: (u32, u32) = (300, 600);
/// First and longest wait between tries.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Where a kind is listed, and RBAC's words for it.
struct Source {
    path: &'static str,
    list: &'static str,
    watch: &'static str,
}

fn source(kind: Kind) -> Source {
    let (path, list, watch) = match kind {
        Kind::Node => ("/api/v1/nodes", "list nodes", "watch nodes"),
        Kind::Pod => ("/api/v1/pods", "list pods", "watch pods"),
        Kind::DaemonSet => ("/apis/apps/v1/daemonsets", "list daemonsets", "watch daemonsets"),
        Kind::Revision => {
            ("/apis/apps/v1/controllerrevisions", "list controllerrevisions", "watch controllerrevisions")
        }
        Kind::Budget => {
            ("/apis/policy/v1/poddisruptionbudgets", "list poddisruptionbudgets", "watch poddisruptionbudgets")
        }
        Kind::CsiNode => ("/apis/storage.k8s.io/v1/csinodes", "list csinodes", "watch csinodes"),
        Kind::VolumeAttachment => {
            ("/apis/storage.k8s.io/v1/volumeattachments", "list volumeattachments", "watch volumeattachments")
        }
    };
    Source { path, list, watch }
}

/// Why a list or a watch stopped.
enum Stop {
    /// Nobody listens any more.
    Closed,
    /// The watch ended as asked, or the connection did: go on from the last version.
    Ended,
    /// The version or page token is too old: list again.
    Expired,
    /// What came could not be read: list again.
    Unreadable(DecodeError),
    /// A request failed.
    Failed(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        if fault.is_expired() { Self::Expired } else { Self::Failed(fault) }
    }
}

impl From<DecodeError> for Stop {
    fn from(error: DecodeError) -> Self {
        Self::Unreadable(error)
    }
}

/// The back-off of one kind.
struct Pace {
    random: ChaCha8Rng,
    tries: u32,
}

impl Pace {
    fn next(&mut self, at_least: Option<u32>) -> Duration {
        let (first, longest) = BACKOFF;
        let full = first.saturating_mul(1 << self.tries.min(8)).min(longest);
        self.tries += 1;
        // Between half and all of it.
        let share = f64::from(self.random.next_u32()) / f64::from(u32::MAX);
        full.mul_f64(0.5 + share / 2.0).max(Duration::from_secs(at_least.unwrap_or(0).into()))
    }

    fn watch_seconds(&mut self) -> u32 {
        let (low, high) = WATCH_SECONDS;
        low + self.random.next_u32() % (high - low + 1)
    }
}

/// The watcher of one kind.
pub(super) struct Watcher {
    shared: Rc<Shared>,
    kind: Kind,
    source: Source,
    sink: mpsc::Sender<Fact>,
    pace: Pace,
    /// Told once the first page was answered, or refused.
    started: Option<oneshot::Sender<Result<(), Error>>>,
    /// Where a watch goes on; `None` lists.
    version: Option<String>,
}

impl Watcher {
    /// A watcher of `kind`; `started` hears whether the first list is allowed.
    pub(super) fn new(
        shared: Rc<Shared>,
        kind: Kind,
        sink: mpsc::Sender<Fact>,
        started: oneshot::Sender<Result<(), Error>>,
    ) -> Self {
        // Each kind has a stream of its own, so that one's faults do not move another's waits.
        let random = ChaCha8Rng::seed_from_u64(shared.seed.wrapping_add(kind as u64));
        let pace = Pace { random, tries: 0 };
        Self { shared, kind, source: source(kind), sink, pace, started: Some(started), version: None }
    }

    /// Runs until the sink is closed, or the first list is refused.
    pub(super) async fn run(mut self) {
        let sink = self.sink.clone();
        tokio::select! {
            biased;
            () = sink.closed() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&mut self) {
        loop {
            let begun = Instant::now();
            let watching = self.version.is_some();
            let stop = if watching { self.watch().await } else { self.list().await };
            let Err(stop) = stop else { continue };
            let settled = watching && begun.elapsed() >= SETTLED;
            if settled {
                self.pace.tries = 0;
            }
            let (why, retry_after) = match stop {
                Stop::Closed => return,
                Stop::Ended if settled => continue,
                Stop::Ended => ("the server ended the watch early".to_owned(), None),
                Stop::Expired => {
                    self.version = None;
                    if settled {
                        continue;
                    }
                    ("the list or watch expired on the server".to_owned(), None)
                }
                Stop::Unreadable(error) => {
                    self.version = None;
                    let fault = Fault::new(ErrorKind::Other, self.source.list, error.to_string());
                    if self.refuse_start(&fault) {
                        return;
                    }
                    (fault.error.to_string(), None)
                }
                Stop::Failed(fault) => {
                    if self.refuse_start(&fault) {
                        return;
                    }
                    (fault.error.to_string(), fault.error.retry_after)
                }
            };
            if self.started.is_none() && self.sink.send(Fact::WatchFailed(self.kind, why)).await.is_err() {
                return;
            }
            sleep(self.pace.next(retry_after)).await;
        }
    }

    /// Fails the start, if this is still the start and trying again would not help.
    fn refuse_start(&mut self, fault: &Fault) -> bool {
        if fault.is_passing() && self.pace.tries + 1 < FIRST_TRIES {
            return false;
        }
        let Some(started) = self.started.take() else { return false };
        // Whoever asked may be gone; then nobody needs the answer.
        let _ = started.send(Err(fault.error.clone()));
        true
    }

    async fn send(&self, fact: Fact) -> Result<(), Stop> {
        self.sink.send(fact).await.map_err(|_| Stop::Closed)
    }

    /// Lists every page; afterwards `version` says where to watch from.
    async fn list(&mut self) -> Result<(), Stop> {
        self.shared.wire.count(self.source.list);
        let mut next = String::new();
        let mut version = None;
        loop {
            let mut path = format!("{}?limit={PAGE}", self.source.path);
            if !next.is_empty() {
                path.push_str("&continue=");
                path.push_str(&next);
            }
            let body = self.shared.wire.stream(&Call::get(self.source.list, path)).await?;
            if let Some(started) = self.started.take() {
                let _ = started.send(Ok(()));
            }
            if version.is_none() {
                self.send(Fact::Relisting(self.kind)).await?;
                if self.kind == Kind::Node {
                    self.shared.nodes.borrow_mut().clear();
                }
            }
            let page = self.page(body).await?;
            // All pages show the same moment: the first's.
            version.get_or_insert(page.resource_version);
            next = page.next;
            if next.is_empty() {
                break;
            }
        }
        self.send(Fact::Synced(self.kind)).await?;
        self.version = version;
        Ok(())
    }

    /// Sends each object of a page as it arrives.
    async fn page(&self, body: impl AsyncBufRead) -> Result<slim::list::ListMeta, Stop> {
        let mut body = pin!(body);
        let mut splitter = slim::list::Splitter::default();
        let mut facts = Vec::new();
        loop {
            let chunk = timeout(STREAM_LIMIT, body.fill_buf())
                .await
                .map_err(|_| self.shared.wire.silence(self.source.list, STREAM_LIMIT))?
                .map_err(|error| self.broken(self.source.list, &error))?;
            let length = chunk.len();
            if length == 0 {
                break;
            }
            splitter.feed(chunk, |item| {
                let object = slim::item(self.kind, item, &mut self.shared.strings.borrow_mut())?;
                facts.extend(self.note(object).0);
                Ok::<_, DecodeError>(())
            })?;
            body.as_mut().consume(length);
            for fact in facts.drain(..) {
                self.send(fact).await?;
            }
        }
        Ok(splitter.finish()?.metadata)
    }

    /// Watches from `version` until it stops, which it always does.
    async fn watch(&mut self) -> Result<(), Stop> {
        let seconds = self.pace.watch_seconds();
        let path = format!(
            "{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={}",
            self.source.path,
            self.version.as_deref().unwrap_or_default(),
        );
        self.shared.wire.count(self.source.watch);
        let mut body = pin!(self.shared.wire.stream(&Call::get(self.source.watch, path)).await?);
        let mut line = Vec::new();
        loop {
            line.clear();
            match timeout(SILENCE, body.read_until(b'\n', &mut line)).await {
                Ok(Ok(0)) => return Err(Stop::Ended),
                Ok(Ok(_)) if !line.ends_with(b"\n") => return Err(Stop::Ended),
                Ok(Ok(_)) => self.event(&line).await?,
                Ok(Err(error)) => return Err(self.broken(self.source.watch, &error).into()),
                Err(_) => {
                    let message = format!("nothing came from {} for {} s", self.shared.wire.host, SILENCE.as_secs());
                    return Err(Fault::new(ErrorKind::Unavailable, self.source.watch, message).into());
                }
            }
        }
    }

    async fn event(&mut self, line: &[u8]) -> Result<(), Stop> {
        let event = slim::event(self.kind, line, &mut self.shared.strings.borrow_mut())?;
        match event {
            Event::Bookmark(version) => self.version = Some(version),
            Event::Change(object) => self.change(object).await?,
            Event::Gone(object) => {
                if let Some(Fact::NodeGone(node)) = &object.fact {
                    self.shared.nodes.borrow_mut().remove(node);
                }
                self.change(object).await?;
            }
            Event::Error(code, message) => {
                return Err(Fault::from_answer(self.source.watch, code, None, message.as_bytes()).into());
            }
        }
        Ok(())
    }

    async fn change(&mut self, object: Object) -> Result<(), Stop> {
        let (fact, version) = self.note(object);
        if let Some(fact) = fact {
            self.send(fact).await?;
        }
        // Only what was handed on is done: a resumed watch tells the rest again.
        if version.is_some() {
            self.version = version;
        }
        Ok(())
    }

    /// Remembers what later changes of a Node need.
    fn note(&self, object: Object) -> (Option<Fact>, Option<String>) {
        if let Some((name, state)) = object.node {
            self.shared.saw_node(name, state);
        }
        (object.fact, object.version)
    }

    fn broken(&self, verb: &str, error: &std::io::Error) -> Fault {
        Fault::from_transport(verb, &self.shared.wire.host, error)
    }
}
