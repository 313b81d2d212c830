//! What a user asks of a rotation, wherever it runs: to pause, to go on, or to end and put everything back.
//!
//! ```text
//!   ask --(the Lease's annotation)--> holder: reads it with its next renewal, does it, keeps the lock
//!                                     nobody: pause waits for the next run; abort takes the lock and does the work
//! ```

use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::history::{self, Chapter};
use super::voice::Voice;
use super::{Error, Interrupt, Ports, Settings, engine, prepare};
use crate::cloud::Cloud;
use crate::cluster::{Cluster, LeaseRecord};
use crate::event::{Report, Sink};
use crate::lock::{self, Lock};
use crate::model::marks::{DOING, REQUEST, ROTATION};
use crate::model::{ObjectKey, Text};
use crate::plan::preview;
use crate::policy::Policy;

/// How often the Lease is looked at while somebody is to answer.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A holder that lives has renewed its Lease, and so read the request, within this.
const ANSWER: Duration = Duration::from_secs(15);

/// What became of `pause` or `resume`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Answer {
    /// No rotation runs or waits to be gone on with.
    NoRotation,
    /// It was so already.
    Already {
        /// Who holds the lock.
        holder: Option<String>,
    },
    /// The holder has read it.
    Heard {
        /// Who.
        holder: String,
    },
    /// Nobody runs it; the next run does as it was asked.
    Noted,
    /// The holder has not renewed its lock since: it is most likely dead. The next run does as it was asked.
    Silent {
        /// Who.
        holder: String,
    },
}

/// What became of `abort`.
#[derive(Clone, Debug, PartialEq)]
pub enum Aborted {
    /// Nothing runs, and nothing is left of an earlier run.
    Nothing,
    /// The holder ended it: its report, where it left one.
    There(Option<Box<Report>>),
    /// Nobody ran it, so it was done here.
    Here(Box<Report>),
}

/// Asks a rotation to hold at the next safe point (`pause`), or to go on, and waits until its holder has read it.
///
/// # Errors
/// If Kubernetes cannot be reached or refuses.
pub async fn ask<C, K: Cluster>(ports: &Ports<C, K>, settings: &Settings, pause: bool) -> Result<Answer, Error> {
    let cluster = &*ports.cluster;
    let configs = cluster.configs(&settings.namespace).await?;
    let before = lease(ports, settings).await?;
    let asked = before.as_ref().and_then(|l| l.annotations.get(REQUEST)).map(|r| r.to_string());
    let open = history::open(&configs, &settings.cluster).is_some();
    // Who mends holds no rotation up: what is asked is for the next one.
    let mends = |lease: &LeaseRecord| lease.annotations.contains_key(DOING);
    let held = before.as_ref().filter(|lease| !mends(lease)).and_then(holder);
    if before.is_none() || (held.is_none() && !open) {
        return Ok(Answer::NoRotation);
    }
    let is_paused = asked.as_deref() == Some(lock::PAUSE);
    // An abort is not taken back by going on, nor by pausing.
    if is_paused == pause || asked.as_deref() == Some(lock::ABORT) {
        return Ok(Answer::Already { holder: held });
    }
    let Some(written) = lock::ask(cluster, &settings.namespace, pause.then_some(lock::PAUSE)).await? else {
        return Ok(Answer::NoRotation);
    };
    let Some(holder) = holder(&written).filter(|_| !mends(&written)) else { return Ok(Answer::Noted) };
    let end = Instant::now() + ANSWER;
    while Instant::now() < end {
        sleep(LOOK_EVERY).await;
        match lease(ports, settings).await? {
            Some(now) if now.renewed == written.renewed && now.holder == written.holder => {}
            Some(_) => return Ok(Answer::Heard { holder }),
            None => return Ok(Answer::NoRotation),
        }
    }
    Ok(Answer::Silent { holder })
}

/// Ends a rotation and puts everything back: asks whoever runs it and waits for its end, or, where nobody does,
/// takes the lock and does the work by the rotation's own policy. `told` is called with the holder that was asked.
/// Must be called inside a `LocalSet`.
///
/// # Errors
/// See [`Error`].
pub async fn abort<C, K>(
    ports: Ports<C, K>,
    mut settings: Settings,
    told: impl Fn(&str),
    events: Sink,
    mut interrupt: watch::Receiver<Option<Interrupt>>,
) -> Result<Aborted, Error>
where
    C: Cloud + 'static,
    K: Cluster + 'static,
{
    let mut voice = Voice::new(events, ports.clock.now());
    loop {
        let watched = async {
            if let Some(holder) = lease(&ports, &settings).await?.as_ref().and_then(holder) {
                told(&holder);
                lock::ask(&*ports.cluster, &settings.namespace, Some(lock::ABORT)).await?;
                if let Some(report) = ended(&ports, &settings).await? {
                    return Ok(Err(Aborted::There(report)));
                }
            }
            settings.policy = recorded(&ports, &settings).await?;
            let mut world = prepare::observe(&ports, &settings).await?;
            if !prepare::is_marked(&world.snapshot) {
                return Ok(Err(Aborted::Nothing));
            }
            world.snapshot.refresh(&settings.policy);
            let now = ports.clock.now();
            let preview = preview(&settings.policy, &world.snapshot, now);
            voice.say(now, prepare::planned(&settings.cluster, &preview)).await;
            prepare::permitted(&ports, &settings).await?;
            let id = history::rotation_id(&world, now, &settings);
            let (cluster, clock) = (ports.cluster.clone(), ports.clock);
            match Lock::acquire(cluster, clock, &settings.namespace, &settings.identity, &id).await {
                Ok(lock) => Ok(Ok(Some((world, preview, lock)))),
                // Somebody began to run it meanwhile: that one is asked.
                Err(lock::Error::Held { .. }) => Ok(Ok(None)),
                Err(e) => Err(Error::from(e)),
            }
        };
        let begun = tokio::select! {
            biased;
            signal = engine::interrupted(&mut interrupt) => return Err(Error::Interrupted(signal)),
            begun = watched => begun?,
        };
        match begun {
            Err(aborted) => return Ok(aborted),
            Ok(None) => {}
            Ok(Some((world, preview, lock))) => {
                let report =
                    engine::run((&ports, &settings), world, &preview, (lock, true, None), voice, interrupt).await?;
                return Ok(Aborted::Here(Box::new(report)));
            }
        }
    }
}

async fn lease<C, K: Cluster>(ports: &Ports<C, K>, settings: &Settings) -> Result<Option<LeaseRecord>, Error> {
    Ok(ports.cluster.lease(&ObjectKey::new(&settings.namespace, lock::NAME)).await?)
}

fn holder(lease: &LeaseRecord) -> Option<String> {
    lease.holder.clone().filter(|h| !h.is_empty())
}

/// Waits until the holder that was asked has ended: with its report, if it left one; `None` if it fell silent, or
/// let go of the lock with the rotation still to be ended.
async fn ended<C, K: Cluster>(ports: &Ports<C, K>, settings: &Settings) -> Result<Option<Option<Box<Report>>>, Error> {
    let mut last: Option<LeaseRecord> = None;
    let mut seen = Instant::now();
    loop {
        let now = lease(ports, settings).await?;
        match (&now, &last) {
            (Some(now), Some(last)) if holder(now).is_none() || now.holder != last.holder => return Ok(None),
            (Some(now), Some(last)) if now.renewed == last.renewed && seen.elapsed() >= ANSWER => return Ok(None),
            (Some(now), Some(last)) if now.renewed == last.renewed => {}
            (Some(_), _) => {
                seen = Instant::now();
                last = now;
            }
            (None, _) => {
                let rotation = last.and_then(|l| l.annotations.get(ROTATION).cloned());
                return Ok(Some(report(ports, settings, rotation.as_ref()).await?));
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

/// The report that a rotation left at its end.
async fn report<C, K: Cluster>(
    ports: &Ports<C, K>,
    settings: &Settings,
    rotation: Option<&Text>,
) -> Result<Option<Box<Report>>, Error> {
    let name = rotation.map(|id| format!("fastnode-{id}"));
    let configs = ports.cluster.configs(&settings.namespace).await?;
    let left = configs.iter().find(|c| Some(&c.name) == name.as_ref());
    Ok(left.and_then(|config| match history::read(config, &settings.cluster)? {
        Chapter::Closed(report) => Some(report),
        Chapter::Open(_) => None,
    }))
}

/// The policy of the rotation in progress, so that it is put back by the rules it was begun by; but what a person
/// allowed it to do to budgets was allowed to it alone.
async fn recorded<C, K: Cluster>(ports: &Ports<C, K>, settings: &Settings) -> Result<Policy, Error> {
    let configs = ports.cluster.configs(&settings.namespace).await?;
    let policy = history::open(&configs, &settings.cluster).and_then(|(_, config)| history::policy(&config));
    Ok(Policy { past_budgets: false, ..policy.unwrap_or_else(|| settings.policy.clone()) })
}
