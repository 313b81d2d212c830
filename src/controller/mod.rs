//! The loop: the only writer of state.
//!
//! ```text
//!  prepare --> confirm --> lock --> record --> +-> hear facts, answers, outcomes --+
//!     |           |          |                 |   refresh the snapshot            |
//!  nothing     declined    held by             |   plan, check, act, tell           |
//!  to do                   another             +------------------<----------------+
//!                                              |            |           |
//!                                           verdict     interrupt    violation, lock lost, no access
//!                                              |            |           |
//!                                   summary, unlock   uncordon, unlock  unlock
//! ```
//!
//! State is derived from the world on every pass, never from memory: what is kept here besides is the last
//! plan (to tell events by the difference), pauses after failures, and our own writes until a reading shows them.
//!
//! - `asks`: what a user asks of a rotation, wherever it runs
//! - `prepare`: from nothing to a snapshot that may be planned on
//! - `engine`: the loop itself
//! - `outcomes`: what came back from the executor
//! - `fresh`: whether what a call stands on was read a moment ago
//! - `ending`: how a run ends
//! - `handover`: the node that fastnode itself runs on
//! - `mending`: new nodes that are slow or fail, and what is done about it; [`surgeon`]: by whom
//! - `own`: our own writes, until readings have caught up
//! - `pauses`: when what failed or was refused may be tried again
//! - `changes`: events by the difference of two plans
//! - `voice`: events on their way out
//! - `history`: the rotation's record and the summaries of the last ones
//! - [`status`]: what any machine can tell of a rotation

mod asks;
mod changes;
mod ending;
mod engine;
mod error;
mod fresh;
mod handover;
mod history;
mod mending;
mod outcomes;
mod own;
mod pauses;
mod prepare;
mod status;
pub mod surgeon;
mod voice;
mod waits;

use std::rc::Rc;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::cloud::Cloud;
use crate::cluster::Cluster;
use crate::event::{About, EventKind, Report, Sink};
use crate::lock::Lock;
use crate::model::{NodeName, ObjectKey, Text};
use crate::observe::Snapshot;
use crate::plan::{Finding, Preview, Verdict, preview};
use crate::policy::Policy;
use crate::preflight::{self, Preflight};
use surgeon::Surgeon;

pub use asks::{Aborted, Answer, abort, ask};
pub use error::{Error, ErrorKind};
pub use status::{Errand, MarkedNode, Status, errand, status};

/// Both ports and the clock.
pub struct Ports<C, K> {
    /// AWS.
    pub cloud: Rc<C>,
    /// Kubernetes.
    pub cluster: Rc<K>,
    /// The clock.
    pub clock: Clock,
}

impl<C, K> Clone for Ports<C, K> {
    fn clone(&self) -> Self {
        Self { cloud: self.cloud.clone(), cluster: self.cluster.clone(), clock: self.clock }
    }
}

/// What a run is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cluster's name.
    pub cluster: Text,
    /// What the user wants.
    pub policy: Policy,
    /// Where the Lease and the ConfigMaps stand.
    pub namespace: String,
    /// Who we are: unique to this process, and telling to a person (`user@host/pid`).
    pub identity: String,
    /// The node fastnode itself runs on; `None` is told from its pod, if it has one.
    pub own_node: Option<NodeName>,
    /// The pod fastnode itself runs in.
    pub own_pod: Option<ObjectKey>,
    /// Of every random choice.
    pub seed: u64,
}

/// A signal to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// SIGINT, Ctrl-C.
    Int,
    /// SIGTERM.
    Term,
}

/// Observes: every watch synced, targets resolved, the record of a rotation in progress read. Takes no lock
/// and writes nothing. Must be called inside a `LocalSet`.
///
/// # Errors
/// If AWS or Kubernetes cannot be reached or refuse.
pub async fn observe<C, K>(ports: &Ports<C, K>, settings: &Settings) -> Result<Snapshot, Error>
where
    C: Cloud + 'static,
    K: Cluster + 'static,
{
    let mut world = prepare::observe(ports, settings).await?;
    world.snapshot.refresh(&settings.policy);
    Ok(world.snapshot)
}

/// Rotates. `confirm` is asked once, after observing and before the lock and any write; where it says no,
/// nothing was changed. Where there is nothing to do and nothing of ours is left in the world, it is not asked
/// and nothing is written. Must be called inside a `LocalSet`.
///
/// # Errors
/// See [`Error`]. A rotation that ended incomplete is no error: its report says so.
pub async fn rotate<C, K>(
    ports: Ports<C, K>,
    settings: Settings,
    confirm: impl AsyncFnOnce(&Snapshot, &Preview, &Preflight) -> bool,
    events: Sink,
    interrupt: watch::Receiver<Option<Interrupt>>,
) -> Result<Report, Error>
where
    C: Cloud + 'static,
    K: Cluster + 'static,
{
    rotate_and_mend(ports, settings, None, confirm, events, interrupt).await
}

/// Rotates, and has `surgeon` look into new nodes that are slow or fail. Otherwise as [`rotate`].
///
/// # Errors
/// As [`rotate`].
pub async fn rotate_and_mend<C, K>(
    ports: Ports<C, K>,
    settings: Settings,
    surgeon: Option<Rc<dyn Surgeon>>,
    confirm: impl AsyncFnOnce(&Snapshot, &Preview, &Preflight) -> bool,
    events: Sink,
    mut interrupt: watch::Receiver<Option<Interrupt>>,
) -> Result<Report, Error>
where
    C: Cloud + 'static,
    K: Cluster + 'static,
{
    let mut voice = voice::Voice::new(events, ports.clock.now());
    let begun = async {
        let mut world = prepare::observe(&ports, &settings).await?;
        world.snapshot.refresh(&settings.policy);
        let now = ports.clock.now();
        let preview = preview(&settings.policy, &world.snapshot, now);
        let preflight = preflight::check(&settings.policy, &world.snapshot, now);
        voice.say(now, prepare::planned(&settings.cluster, &preview)).await;
        let wrong = preflight.faults.iter().any(|f| prepare::is_of_the_request(f, world.open.is_some()));
        // What is held altogether is refused below, with the reasons.
        let idle = preview.finding == Finding::NothingToDo || (!preview.has_work() && preflight.faults.is_empty());
        if !wrong && idle && !prepare::is_marked(&world.snapshot) {
            return Ok(Err((world, preview)));
        }
        // What a rotation has begun is finished or undone, whatever would speak against beginning it.
        if wrong || (!preflight.faults.is_empty() && world.open.is_none()) {
            return Err(Error::Preflight(preflight));
        }
        handover::refuse_drained_node(&world.snapshot)?;
        prepare::permitted(&ports, &settings).await?;
        if !confirm(&world.snapshot, &preview, &preflight).await {
            return Err(Error::Declined);
        }
        let id = history::rotation_id(&world, ports.clock.now(), &settings);
        let lock =
            Lock::acquire(ports.cluster.clone(), ports.clock, &settings.namespace, &settings.identity, &id).await?;
        Ok(Ok((world, preview, lock)))
    };
    let begun = tokio::select! {
        biased;
        signal = engine::interrupted(&mut interrupt) => return Err(Error::Interrupted(signal)),
        begun = begun => begun?,
    };
    let (world, preview, lock) = match begun {
        Ok(begun) => begun,
        Err((world, preview)) => {
            let now = ports.clock.now();
            let outcome = match preview.finding {
                Finding::Held => Verdict::Incomplete,
                Finding::NothingToDo | Finding::Work => Verdict::Done,
            };
            let mut report = voice.report(outcome, now, &preview, &settings.policy, &ports, vec![]);
            report.nodes_skipped.extend(ending::with_group(&world.snapshot, &preview.blocks));
            let about = |node: &NodeName| About { node: Some(node.clone()), ..About::default() };
            voice.tell_skipped(now, &report, about).await;
            voice.say(now, EventKind::RotationFinished(Box::new(report.clone()))).await;
            return Ok(report);
        }
    };
    engine::run((&ports, &settings), world, &preview, (lock, false, surgeon), voice, interrupt).await
}
