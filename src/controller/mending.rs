//! New nodes that are slow or fail: looked into, and where the user wants it, mended while the rotation goes on.
//!
//! ```text
//!             a replacement is functional, or fails
//!  watching ----------------------------------------> examining --> told (suggest) --> done
//!     ^                                                   |
//!     |  measured on the next new node                    v  (apply: one fix at a time)
//!     +---- verified, or taken back <---- waiting <--- mending --> not possible: the next finding, or done
//! ```
//!
//! While something is looked into or mended nothing new is begun; a failed replacement ends the rotation only once
//! it has been looked into, and not if what made it fail was mended.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;

use super::engine::Engine;
use super::surgeon::{Applied, Fixes, LIMIT, Surgeon, Ward};
use crate::cloud::Cloud;
use crate::cluster::Cluster;
use crate::event::{About, EventKind};
use crate::fixes::{PodView, Start, compare, judge};
use crate::model::{InstanceId, Text};
use crate::observe::Snapshot;
use crate::observe::mending::Busy;
use crate::plan::{Action, Plan};
use crate::readiness::diagnosis::Finding;
use crate::readiness::restarts_on;

/// News that may wait; there is never more than one operation.
const NEWS: usize = 4;
/// Failed replacements that are looked into; those beyond fail for what these have shown.
const LOOKED_INTO: usize = 5;
/// A node that takes longer from its creation to functional, seconds, is worth a look; a stock one takes half of it.
const SLOW: f64 = 60.0;
/// How long looking into one may take.
const EXAMINATION: Duration = Duration::from_secs(60);

/// What an operation came to.
pub(super) enum News {
    Examined(InstanceId, Vec<Finding>),
    Mended(Text, Result<Applied, String>),
    TakenBack((Text, Text), Result<(), String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The next new node is looked into.
    Watching,
    /// Something is under way.
    Busy,
    /// Nothing is left to be found: only what fails is looked into.
    Done,
}

/// A fix whose effect is still to be seen.
struct Pending {
    fix: Text,
    daemonset: Text,
    /// Nodes created from then on have it.
    since: Timestamp,
    /// How nodes started before it.
    before: Vec<Start>,
}

/// The loop's side of mending.
pub(super) struct Care {
    surgeon: Rc<dyn Surgeon>,
    stage: Stage,
    tell: mpsc::Sender<News>,
    news: mpsc::Receiver<News>,
    ward: Ward,
    /// How replacements started since the last fix that is proved.
    starts: Vec<Start>,
    pending: Vec<Pending>,
    tried: BTreeSet<Text>,
    /// What was found, and not tried yet.
    queue: Vec<Finding>,
    /// Whom it was found on.
    patient: Option<InstanceId>,
    looked_into: BTreeSet<InstanceId>,
    /// Failed ones that are to be looked into once the hands are free.
    waiting: Vec<InstanceId>,
}

impl Care {
    pub(super) fn new(surgeon: Rc<dyn Surgeon>) -> Self {
        let (tell, news) = mpsc::channel(NEWS);
        Self {
            surgeon,
            stage: Stage::Watching,
            tell,
            news,
            ward: Ward::default(),
            starts: Vec::new(),
            pending: Vec::new(),
            tried: BTreeSet::new(),
            queue: Vec::new(),
            patient: None,
            looked_into: BTreeSet::new(),
            waiting: Vec::new(),
        }
    }

    /// The next news; never, where nobody mends. Cancel safe.
    pub(super) async fn hear(care: &mut Option<Self>) -> News {
        match care {
            Some(care) => match care.news.recv().await {
                Some(news) => news,
                // It holds a sender itself.
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }

    /// Whether a functional one is looked into: where nothing is to be mended, only one that was slow or restarted.
    fn is_worth_a_look(&self, start: Option<Start>) -> bool {
        let slow = |start: Start| start.restarts > 0 || start.seconds > SLOW;
        self.surgeon.fixes() == Fixes::Apply || start.is_some_and(slow)
    }

    fn examine(&mut self, snapshot: &Snapshot, id: InstanceId) {
        self.stage = Stage::Busy;
        self.looked_into.insert(id.clone());
        let (work, tell) = (self.surgeon.examine(snapshot.clone(), id.clone()), self.tell.clone());
        tokio::task::spawn_local(async move {
            let findings = tokio::time::timeout(EXAMINATION, work).await.unwrap_or_default();
            // Nobody hears it once the loop has ended.
            let _ = tell.send(News::Examined(id, findings)).await;
        });
    }

    fn mend(&mut self, finding: Finding) {
        self.stage = Stage::Busy;
        let fix = finding.fix.clone().unwrap_or_default();
        let (work, tell) = (self.surgeon.mend(finding, self.ward.clone()), self.tell.clone());
        tokio::task::spawn_local(async move {
            let _ = tell.send(News::Mended(fix, work.await)).await;
        });
    }

    fn take_back(&mut self, fix: Text, daemonset: Text) {
        self.stage = Stage::Busy;
        let (work, tell) = (self.surgeon.take_back(fix.clone(), self.ward.clone()), self.tell.clone());
        tokio::task::spawn_local(async move {
            let _ = tell.send(News::TakenBack((fix, daemonset), work.await)).await;
        });
    }
}

/// A replacement that has just become functional, or failed.
struct New {
    about: About,
    id: InstanceId,
    /// How it started; `None` of one that failed: how long it would have taken nobody knows.
    start: Option<Start>,
    failed: bool,
}

impl<C: Cloud + 'static, K: Cluster + 'static> Engine<'_, C, K> {
    /// Looks after the replacements that a plan shows functional or failed for the first time.
    pub(super) fn attend(&mut self, told: &[EventKind], now: Timestamp, events: &mut Vec<EventKind>) {
        if self.care.is_none() {
            return;
        }
        for kind in told {
            let (about, seconds, failed) = match kind {
                EventKind::ReplacementFunctional { about, seconds, .. } => (about, Some(*seconds), false),
                EventKind::ReplacementFailed { about, .. } => (about, None, true),
                _ => continue,
            };
            let Some(id) = about.instance.clone() else { continue };
            let node = about.node.as_ref().and_then(|name| self.snapshot.nodes.get(name));
            let restarts = node.map_or(0, |node| restarts_on(self.policy, &self.snapshot, node));
            let start = seconds.map(|seconds| Start { seconds, restarts });
            self.arrived(New { about: about.clone(), id, start, failed }, now, events);
        }
    }

    fn arrived(&mut self, new: New, now: Timestamp, events: &mut Vec<EventKind>) {
        let created = new.about.node.as_ref().and_then(|n| self.snapshot.nodes.get(n)).map(|n| n.created);
        let Some(care) = &mut self.care else { return };
        let mut undo = None;
        if let (Some(start), Some(created)) = (new.start, created) {
            let seen = care.pending.iter().all(|p| created >= p.since);
            for pending in if seen { std::mem::take(&mut care.pending) } else { Vec::new() } {
                let rule = care.surgeon.rule(&pending.fix);
                let effect = compare(&pending.before, start, &rule).unwrap_or_else(|| judge(start, &rule));
                let (fix, daemonset) = (pending.fix, pending.daemonset);
                if effect.helped {
                    care.starts.clear();
                } else {
                    undo = Some((fix.clone(), daemonset.clone()));
                }
                events.push(EventKind::FixVerified { fix, daemonset, effect });
            }
        }
        care.starts.extend(new.start);
        if let Some((fix, daemonset)) = undo {
            care.take_back(fix, daemonset);
        } else if new.failed && care.stage == Stage::Busy {
            care.waiting.push(new.id);
        } else if new.failed && care.looked_into.len() < LOOKED_INTO
            || !new.failed
                && care.stage == Stage::Watching
                && care.pending.is_empty()
                && care.is_worth_a_look(new.start)
        {
            care.examine(&self.snapshot, new.id);
        } else if new.failed {
            self.snapshot.mending.examined.insert(new.id);
        }
        self.hold(now);
    }

    /// Says what nothing new is begun before.
    fn hold(&mut self, now: Timestamp) {
        let Some(care) = &self.care else { return };
        let holds = care.stage == Stage::Busy && care.surgeon.fixes() == Fixes::Apply;
        let before = self.snapshot.mending.busy.take();
        if holds {
            let what: Text = match (&*care.ward.stands.borrow(), &care.patient) {
                (Some(stands), _) => stands.clone(),
                (None, Some(_)) => "a fix of its new nodes to be applied".into(),
                (None, None) => "what its new nodes waited for to be found".into(),
            };
            let since = before.as_ref().map_or(now, |busy| busy.since);
            let limit = SignedDuration::try_from(LIMIT + EXAMINATION).unwrap_or(SignedDuration::MAX);
            let until = since.checked_add(limit).unwrap_or(Timestamp::MAX);
            self.snapshot.mending.busy = Some(Busy { what, since, until });
        }
        self.again |= before != self.snapshot.mending.busy;
    }

    /// Shows an operation the pods it waits for, and says where it stands and what it is about to do. Once a second.
    pub(super) fn make_rounds(&mut self, now: Timestamp) -> Option<EventKind> {
        let care = self.care.as_ref().filter(|care| care.stage == Stage::Busy)?;
        let proposed = care.ward.proposed.borrow_mut().take();
        if let Some(key) = &*care.ward.set.borrow() {
            let set = self.snapshot.daemonsets.values().find(|set| set.key == *key);
            let of_set = |pod: &&crate::model::Pod| {
                set.is_some_and(|set| pod.owner.as_ref().is_some_and(|owner| owner.uid == set.uid))
            };
            let pods = self.snapshot.pods.values().map(|pod| &**pod).filter(of_set);
            *care.ward.pods.borrow_mut() = pods.map(PodView::of).collect();
        }
        self.hold(now);
        proposed
    }

    /// Takes in what an operation came to.
    pub(super) async fn operated(&mut self, news: News, now: Timestamp) {
        let mut events = Vec::new();
        match news {
            News::Examined(id, findings) => self.examined(id, findings, now, &mut events),
            News::Mended(fix, result) => self.mended(fix, result, now, &mut events).await,
            News::TakenBack((fix, daemonset), result) => {
                let why = "it had no effect on the next new node".to_owned();
                events.push(match result {
                    Ok(()) => EventKind::FixReverted { fix, daemonset, why },
                    Err(why) => failure(&fix, "take back", &why),
                });
                self.go_on(now);
            }
        }
        self.hold(now);
        self.again = true;
        for event in events {
            self.voice.say(now, event).await;
        }
    }

    fn examined(&mut self, id: InstanceId, findings: Vec<Finding>, now: Timestamp, events: &mut Vec<EventKind>) {
        let about = self.snapshot.node_of(&id).map(|n| super::ending::about(&self.snapshot, &n.name));
        let about = about.unwrap_or_else(|| About { instance: Some(id.clone()), ..About::default() });
        let Some(care) = &mut self.care else { return };
        for finding in &findings {
            let told = EventKind::Diagnosis { about: about.clone(), finding: Box::new(finding.clone()) };
            events.push(told);
        }
        if care.surgeon.fixes() == Fixes::Apply {
            care.queue = findings.into_iter().filter(|f| f.fix.is_some()).collect();
            care.patient = Some(id);
            self.treat(now);
        } else {
            let mut proposed = BTreeMap::new();
            for finding in findings.iter().filter(|f| f.fix.is_some()) {
                proposed.entry(finding.fix.clone().unwrap_or_default()).or_insert(finding);
            }
            for (fix, finding) in proposed {
                let command = format!("fastnode fix --cluster {} {fix} --apply", self.settings.cluster);
                let daemonset = finding.daemonset.as_ref().map(|set| set.to_string().into()).unwrap_or_default();
                events.push(EventKind::FixProposed { fix, daemonset, way: command, diff: String::new() });
            }
            self.give_verdict(&id);
            self.go_on(now);
        }
    }

    /// Applies the first fix that has not been tried; where none is left, the patient's verdict is due.
    fn treat(&mut self, now: Timestamp) {
        let Some(care) = &mut self.care else { return };
        let Some(patient) = care.patient.clone() else { return };
        while !care.queue.is_empty() {
            let finding = care.queue.remove(0);
            if finding.fix.clone().is_some_and(|fix| care.tried.insert(fix)) {
                care.mend(finding);
                return;
            }
        }
        care.patient = None;
        // With a fix whose effect is not seen yet, the next new node may still show something else.
        care.stage = if care.pending.is_empty() { Stage::Done } else { Stage::Watching };
        self.give_verdict(&patient);
        self.go_on(now);
    }

    async fn mended(
        &mut self,
        fix: Text,
        result: Result<Applied, String>,
        now: Timestamp,
        events: &mut Vec<EventKind>,
    ) {
        let applied = match result {
            Ok(applied) => applied,
            Err(why) => {
                events.push(failure(&fix, "apply", &why));
                return self.treat(now);
            }
        };
        let daemonset: Text = applied.daemonset.to_string().into();
        events.push(EventKind::FixApplied { fix: fix.clone(), daemonset: daemonset.clone(), pods: applied.pods });
        // What failed before the fix was there, the patient with it, says nothing of how it is now.
        let written = self.record.update(|record| {
            record.mended.fixes.push(fix.clone());
            record.mended.excused.extend(record.failed.keys().cloned());
        });
        if let Err(fault) = written.await {
            events.push(EventKind::Error { message: format!("failed to write down {fix}: {fault}"), fatal: false });
        }
        self.snapshot.rotation = Some(self.record.current().into());
        if let Some(care) = &mut self.care {
            care.pending.push(Pending { fix, daemonset, since: now, before: care.starts.clone() });
            (care.patient, care.stage) = (None, Stage::Watching);
            care.queue.clear();
        }
        self.go_on(now);
    }

    /// What failed ends the rotation, if the policy says so.
    fn give_verdict(&mut self, id: &InstanceId) {
        if self.snapshot.rotation.as_ref().is_some_and(|r| r.failed.contains_key(id)) {
            self.snapshot.mending.examined.insert(id.clone());
        }
    }

    /// With free hands: looks into what failed meanwhile.
    fn go_on(&mut self, now: Timestamp) {
        let excused = self.record.current().mended.excused;
        let Some(care) = &mut self.care else { return };
        if care.stage == Stage::Busy {
            care.stage = if care.surgeon.fixes() == Fixes::Apply { Stage::Watching } else { Stage::Done };
        }
        while let Some(id) = care.waiting.pop() {
            if excused.contains(&id) {
                continue;
            }
            if care.looked_into.len() < LOOKED_INTO {
                care.examine(&self.snapshot, id);
                break;
            }
            self.snapshot.mending.examined.insert(id);
        }
        self.hold(now);
    }

    /// Verdicts that a plan has been made with, and that did not end the rotation, are not given again.
    pub(super) fn settle(&mut self, plan: &Plan) {
        let records = |action: &Action| matches!(action, Action::Record { .. });
        let ends = plan.actions.iter().any(|planned| records(&planned.action));
        let writing = self.snapshot.in_flight.contains_key(&crate::plan::ActionKey::Record);
        if !ends && !writing {
            let examined = std::mem::take(&mut self.snapshot.mending.examined);
            self.snapshot.mending.settled.extend(examined);
        }
    }
}

fn failure(fix: &str, what: &str, why: &str) -> EventKind {
    EventKind::Error { message: format!("failed to {what} the fix {fix}: {why}"), fatal: false }
}
