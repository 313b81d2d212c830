//! The lock: one Lease a cluster, so that two rotations never run side by side.
//!
//! ```text
//!   free ---------------------------> held --(renewed every 5 s)--+
//!   held by another -(silent for one    |  ^----------------------+
//!     whole duration, by our clock)-->  |
//!   held by another -(it renewed)-> refused, with its name
//!                                       +--(10 s without a renewal)--> expired: no act is begun
//!                                       +--(another holder seen)-----> lost
//!                                       +--release-------------------> free
//! ```
//!
//! Clocks of two machines are never compared: whoever waits judges by whether the Lease *moves*, and the
//! holder by the time since its own last renewal, both on their own monotonic clock. The numbers keep
//! `lease >= renew deadline + longest unfenced act + margin`: 15 s, 10 s, 4 s
//! ([`crate::execute::UNFENCED_DEADLINE`]) and 1 s. The rules follow client-go's
//! tools/leaderelection/leaderelection.go.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::clock::Clock;
use crate::cluster::{self, Cluster, ErrorKind, LeaseRecord};
use crate::model::ObjectKey;
use crate::model::marks::{DOING, REQUEST, ROTATION};

/// The Lease's name.
pub const NAME: &str = "fastnode";
/// The request to hold at the next safe point, as the annotation says it.
pub const PAUSE: &str = "pause";
/// The request to end and put everything back.
pub const ABORT: &str = "abort";
/// How long a Lease that is not renewed keeps others out.
pub const DURATION: Duration = Duration::from_secs(15);
/// Pause between renewals.
pub const RENEW_EVERY: Duration = Duration::from_secs(5);
/// No act is begun this long after the last renewal was sent.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Pause after a renewal that failed.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Pause before a renewal is sent again on the version just read.
const AFTER_CONFLICT: Duration = Duration::from_millis(50);
/// How often a Lease of somebody else's is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2500);
/// Tries of a request before the lock is held.
const TRIES: u32 = 5;
/// Giving the lock back takes no longer than this, so that a signal is answered within its 10 s.
const RELEASE_DEADLINE: Duration = Duration::from_millis(3500);
/// Pause before it is tried again.
const RELEASE_AGAIN: Duration = Duration::from_millis(500);
/// Longest wait for one request about the Lease.
const REQUEST_DEADLINE: Duration = Duration::from_secs(4);
/// A foreign Lease may name any duration; this is the longest that is waited out.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// Why the lock could not be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Another holder is alive.
    #[error("failed to lock the cluster: {holder} holds it{}", told(.doing.as_deref()))]
    Held {
        /// Its identity.
        holder: String,
        /// What it does, where that is no rotation.
        doing: Option<String>,
        /// Since when, by its own word.
        since: Option<Timestamp>,
        /// The rotation it runs, by its own word.
        rotation: Option<String>,
    },
    /// The Lease cannot be read or written.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
}

/// How a lock stands, and what was asked of its holder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Another holder took it: who. Final.
    pub lost_to: Option<String>,
    /// The annotation `fastnode.dev/request`, as last read.
    pub request: Option<String>,
}

/// Says whether an act may be begun.
///
/// The monotonic clock stands still while a machine sleeps, so the system's clock has to agree: it can only make
/// the deadline come sooner.
#[derive(Clone, Debug)]
pub struct Guard {
    until: Rc<Cell<Option<(Instant, Timestamp)>>>,
    clock: Clock,
}

impl Guard {
    /// A guard that expires at `until`.
    pub fn until(until: Instant, clock: Clock) -> Self {
        let guard = Self { until: Rc::new(Cell::new(None)), clock };
        guard.extend(until);
        guard
    }

    /// Whether the lock is still ours for certain.
    pub fn may_act(&self) -> bool {
        self.until.get().is_some_and(|(until, slept)| Instant::now() < until && self.clock.stamp() < slept)
    }

    fn extend(&self, until: Instant) {
        self.until.set(Some((until, self.by_system(until))));
    }

    /// The same moment by the system's clock, were that to run as evenly.
    fn by_system(&self, until: Instant) -> Timestamp {
        let left = SignedDuration::try_from(until.saturating_duration_since(Instant::now()));
        self.clock.stamp().checked_add(left.unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX)
    }

    fn revoke(&self) {
        self.until.set(None);
    }
}

/// A lock that is held; its renewals run in a local task until it is released or dropped.
pub struct Lock<K> {
    cluster: Rc<K>,
    key: ObjectKey,
    lease: Rc<RefCell<LeaseRecord>>,
    guard: Guard,
    state: watch::Receiver<State>,
    renewals: AbortHandle,
}

impl<K> Drop for Lock<K> {
    fn drop(&mut self) {
        self.guard.revoke();
        self.renewals.abort();
    }
}

impl<K: Cluster + 'static> Lock<K> {
    /// Takes the lock for `identity`, waiting up to one lease duration for a silent holder.
    ///
    /// # Errors
    /// [`Error::Held`] if the holder renewed meanwhile, or another was faster; else what the API server said.
    pub async fn acquire(
        cluster: Rc<K>,
        clock: Clock,
        namespace: &str,
        identity: &str,
        rotation: &str,
    ) -> Result<Self, Error> {
        Self::acquire_to(cluster, clock, namespace, identity, (rotation, None)).await
    }

    /// The same to do something else than to rotate: what, for whoever looks at the lock meanwhile.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    pub async fn acquire_to(
        cluster: Rc<K>,
        clock: Clock,
        namespace: &str,
        identity: &str,
        (rotation, doing): (&str, Option<&str>),
    ) -> Result<Self, Error> {
        let key = ObjectKey::new(namespace, NAME);
        let found = await_free(&*cluster, &key).await?;
        let now = clock.now();
        let sent = Instant::now();
        // A pause outlives its holder: who takes the lock while paused waits for `resume` likewise.
        let paused = found.as_ref().and_then(|l| l.annotations.get(REQUEST)).filter(|r| ***r == *PAUSE).cloned();
        let mut annotations = BTreeMap::from([(ROTATION.into(), rotation.into())]);
        annotations.extend(doing.map(|doing| (DOING.into(), doing.into())));
        annotations.extend(paused.clone().map(|pause| (REQUEST.into(), pause)));
        let taken = LeaseRecord {
            holder: Some(identity.to_owned()),
            duration_seconds: DURATION.as_secs() as u32,
            acquired: Some(now),
            renewed: Some(now),
            transitions: found.as_ref().map_or(0, |l| l.transitions.saturating_add(1)),
            annotations,
            version: found.and_then(|l| l.version),
        };
        let lease = take(&*cluster, &key, &taken).await?;
        let guard = Guard::until(sent + RENEW_DEADLINE, clock);
        let (tell, state) = watch::channel(State { lost_to: None, request: paused.map(|p| p.to_string()) });
        let lease = Rc::new(RefCell::new(lease));
        let renewals =
            tokio::task::spawn_local(renew(cluster.clone(), clock, key.clone(), lease.clone(), guard.clone(), tell))
                .abort_handle();
        Ok(Self { cluster, key, lease, guard, state, renewals })
    }

    /// Says whether an act may be begun; cheap, for the executor.
    pub fn guard(&self) -> Guard {
        self.guard.clone()
    }

    /// How the lock stands, each change once.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Gives the lock back. Where the rotation is to be `resumed` by the next holder the Lease stays, without a
    /// holder, with a `pause` that was asked for; at the end of a rotation it goes.
    ///
    /// # Errors
    /// If the Lease cannot be written or deleted; it then runs out by itself.
    pub async fn release(self, resumed: bool) -> Result<(), cluster::Error> {
        self.renewals.abort();
        self.guard.revoke();
        if self.state.borrow().lost_to.is_some() {
            return Ok(());
        }
        let lease = self.lease.borrow().clone();
        let mut last = None;
        // What keeps failing until the deadline is named; the Lease then runs out by itself.
        match timeout(RELEASE_DEADLINE, self.give_back(lease, resumed, &mut last)).await {
            Ok(done) => done,
            Err(_) => last.map_or(Ok(()), Err),
        }
    }

    async fn give_back(
        &self,
        mut lease: LeaseRecord,
        resumed: bool,
        last: &mut Option<cluster::Error>,
    ) -> Result<(), cluster::Error> {
        let ours = lease.holder.clone();
        loop {
            lease.holder = None;
            lease.annotations.retain(|key, value| resumed && key.as_ref() == REQUEST && value.as_ref() == PAUSE);
            let written = match &lease.version {
                Some(version) if !resumed => self.cluster.delete_lease(&self.key, version).await,
                _ => self.cluster.put_lease(&self.key, &lease).await.map(drop),
            };
            match written {
                Err(e) if e.kind == ErrorKind::NotFound => return Ok(()),
                // A renewal that was cut off, or a request written by a user, has moved the version.
                Err(e) if e.kind == ErrorKind::Conflict => {}
                Err(e) if is_passing(&e) => {
                    *last = Some(e);
                    sleep(RELEASE_AGAIN).await;
                }
                done => return done,
            }
            match read(&*self.cluster, &self.key).await? {
                Some(found) if found.holder == ours => lease = found,
                _ => return Ok(()),
            }
        }
    }
}

/// Writes a request to whoever holds the lock, or will: [`PAUSE`], [`ABORT`], or none at all. Returns the Lease as
/// written, or as found where it says so already; `None` where there is none.
///
/// # Errors
/// If the Lease cannot be read or written.
pub async fn ask<K: Cluster>(
    cluster: &K,
    namespace: &str,
    request: Option<&str>,
) -> Result<Option<LeaseRecord>, cluster::Error> {
    let key = ObjectKey::new(namespace, NAME);
    let mut tries = 0;
    loop {
        let Some(mut lease) = read(cluster, &key).await? else { return Ok(None) };
        if lease.annotations.get(REQUEST).map(|r| &**r) == request {
            return Ok(Some(lease));
        }
        match request {
            Some(request) => _ = lease.annotations.insert(REQUEST.into(), request.into()),
            None => _ = lease.annotations.remove(REQUEST),
        }
        tries += 1;
        match cluster.put_lease(&key, &lease).await {
            // The holder renews it every few seconds.
            Err(e) if tries < TRIES && (e.kind == ErrorKind::Conflict || is_passing(&e)) => {
                sleep(AFTER_CONFLICT).await;
            }
            done => return done.map(Some),
        }
    }
}

fn held_by(lease: &LeaseRecord) -> Error {
    Error::Held {
        holder: lease.holder.clone().unwrap_or_default(),
        since: lease.acquired,
        doing: lease.annotations.get(DOING).map(|d| d.to_string()),
        rotation: lease.annotations.get(ROTATION).map(|r| r.to_string()),
    }
}

/// What a holder does, after its name.
pub(crate) fn told(doing: Option<&str>) -> String {
    doing.map(|doing| format!(" for {doing}")).unwrap_or_default()
}

fn is_free(lease: &LeaseRecord) -> bool {
    lease.holder.as_deref().is_none_or(str::is_empty)
}

/// Writes a Lease that was found free. A reply that was lost is looked for: the Lease may be ours already.
async fn take<K: Cluster>(cluster: &K, key: &ObjectKey, taken: &LeaseRecord) -> Result<LeaseRecord, Error> {
    let mut tries = 0;
    loop {
        let e = match cluster.put_lease(key, taken).await {
            Ok(lease) => return Ok(lease),
            Err(e) => e,
        };
        tries += 1;
        if e.kind != ErrorKind::Conflict && (!is_passing(&e) || tries == TRIES) {
            return Err(e.into());
        }
        if e.kind != ErrorKind::Conflict {
            sleep(RETRY_EVERY).await;
        }
        match read(cluster, key).await? {
            Some(found) if found.holder == taken.holder && found.acquired == taken.acquired => return Ok(found),
            Some(found) if found.version != taken.version => return Err(held_by(&found)),
            _ if e.kind == ErrorKind::Conflict => return Err(e.into()),
            _ => {}
        }
    }
}

/// Reads the Lease, a few times if need be.
async fn read<K: Cluster>(cluster: &K, key: &ObjectKey) -> Result<Option<LeaseRecord>, cluster::Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        match cluster.lease(key).await {
            Err(e) if is_passing(&e) && tries < TRIES => sleep(RETRY_EVERY).await,
            answer => return answer,
        }
    }
}

/// Whether a request may succeed a second later.
fn is_passing(e: &cluster::Error) -> bool {
    matches!(e.kind, ErrorKind::Throttled | ErrorKind::Unavailable)
}

/// Waits until the Lease is free or has been silent for as long as it says; returns it as last read.
async fn await_free<K: Cluster>(cluster: &K, key: &ObjectKey) -> Result<Option<LeaseRecord>, Error> {
    let Some(first) = read(cluster, key).await? else { return Ok(None) };
    let seen = Instant::now();
    let wait = Duration::from_secs(first.duration_seconds.into()).clamp(DURATION, LONGEST_WAIT);
    let mut lease = first.clone();
    while !is_free(&lease) && seen.elapsed() < wait {
        sleep(LOOK_EVERY.min(wait.saturating_sub(seen.elapsed()))).await;
        let Some(now) = read(cluster, key).await? else { return Ok(None) };
        // A user's request for pause or abort moves the version too; only the holder moves these.
        if !is_free(&now) && (&now.holder, now.renewed, now.acquired) != (&first.holder, first.renewed, first.acquired)
        {
            return Err(held_by(&now));
        }
        lease = now;
    }
    Ok(Some(lease))
}

async fn renew<K: Cluster>(
    cluster: Rc<K>,
    clock: Clock,
    key: ObjectKey,
    lease: Rc<RefCell<LeaseRecord>>,
    guard: Guard,
    tell: watch::Sender<State>,
) {
    let mut next = Instant::now() + RENEW_EVERY;
    loop {
        sleep_until(next).await;
        let sent = Instant::now();
        let mut wanted = lease.borrow().clone();
        wanted.renewed = Some(clock.now());
        let answer = timeout(REQUEST_DEADLINE, cluster.put_lease(&key, &wanted)).await;
        next = match answer {
            Ok(Ok(renewed)) => {
                guard.extend(sent + RENEW_DEADLINE);
                *lease.borrow_mut() = renewed;
                sent + RENEW_EVERY
            }
            // Somebody wrote it: a user's request, or our own renewal whose reply was lost, or a new holder.
            Ok(Err(e)) if e.kind == ErrorKind::Conflict || e.kind == ErrorKind::NotFound => {
                match timeout(REQUEST_DEADLINE, cluster.lease(&key)).await {
                    Ok(Ok(Some(found))) if found.holder == wanted.holder => {
                        let request = found.annotations.get(REQUEST).map(|r| r.to_string());
                        tell.send_if_modified(|s| std::mem::replace(&mut s.request, request.clone()) != request);
                        *lease.borrow_mut() = found;
                        Instant::now() + AFTER_CONFLICT
                    }
                    Ok(Ok(other)) => {
                        guard.revoke();
                        let holder = other.and_then(|l| l.holder).filter(|h| !h.is_empty());
                        let holder = holder.unwrap_or_else(|| "nobody: the Lease was taken away".to_owned());
                        tell.send_modify(|s| s.lost_to = Some(holder));
                        return;
                    }
                    Ok(Err(_)) | Err(_) => Instant::now() + RETRY_EVERY,
                }
            }
            Ok(Err(_)) | Err(_) => Instant::now() + RETRY_EVERY,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_slept_begins_nothing_on_a_lock_it_has_not_renewed_since() {
        let guard = Guard::until(Instant::now() + RENEW_DEADLINE, Clock::wall());
        assert!(guard.may_act());
        // As if the system's clock had gone on for a minute while ours stood still.
        let asleep = guard.until.get().map(|(until, system)| (until, system - SignedDuration::from_secs(60)));
        guard.until.set(asleep);
        assert!(!guard.may_act());
        guard.extend(Instant::now() + RENEW_DEADLINE);
        assert!(guard.may_act());
    }
}
