//! New nodes that are slow or fail: looked into, and where the user wants it, mended while the rotation goes on.
//!
//! ```text
//!             a replacement is functional, or fails
//!  watching ----------------------------------------> examining --> told (suggest) --> done
//!     ^                                                   |
//!     |  measured on the next new node                    v  (apply: one fix at a time)
//!     +---- verified, or taken back <---- waiting <--- mending --> not possible: the next finding, or done
//!                                            ^
//!      at the start: what an earlier run ----+ has applied and did not live to see through, or to see proved
//! ```
//!
//! While something is looked into or mended nothing new is begun; a failed replacement ends the rotation only once
//! it has been looked into, and not if what made it fail was mended.

mod proof;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;

use self::proof::{COMES_UP, comes_up_by};
use super::engine::Engine;
use super::surgeon::{Fixes, LIMIT, Standing, Surgeon, Treated, Ward};
use crate::clock::Clock;
use crate::cloud::Cloud;
use crate::cluster::Cluster;
use crate::event::{About, EventKind};
use crate::fixes::verify::middle;
use crate::fixes::{self, Came, Effect, Options, PodView, Start};
use crate::model::{InstanceId, Text};
use crate::observe::Snapshot;
use crate::observe::mending::{Busy, Failure};
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
    Mended(Text, Result<Treated, String>),
    TakenUp(Standing, Result<Treated, String>),
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
    /// A rotation has applied it, and takes it back where it has no effect; what a person applied a person takes back.
    ours: bool,
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
    /// A fix is being applied: how nodes started before it.
    mending: Option<Vec<Start>>,
    pending: Vec<Pending>,
    tried: BTreeSet<Text>,
    /// Fixes without effect, and their DaemonSets: taken back one after the other.
    vain: Vec<(Text, Text)>,
    /// What was applied before this run, and no new node has proved.
    left: Vec<Standing>,
    /// One of them is being seen through.
    takes_up: bool,
    /// What was found, and not tried yet.
    queue: Vec<Finding>,
    /// Whom it was found on.
    patient: Option<InstanceId>,
    looked_into: BTreeSet<InstanceId>,
    /// Failed ones that are to be looked into once the hands are free.
    waiting: Vec<InstanceId>,
    /// The patient has been looked into, and is seen coming up before anything is done.
    watches: bool,
}

impl Care {
    /// `tried`: the fixes that the rotation has applied already.
    pub(super) fn new(surgeon: Rc<dyn Surgeon>, clock: Clock, tried: impl IntoIterator<Item = Text>) -> Self {
        let (tell, news) = mpsc::channel(NEWS);
        Self {
            surgeon,
            stage: Stage::Watching,
            tell,
            news,
            ward: Ward::new(clock),
            starts: Vec::new(),
            mending: None,
            pending: Vec::new(),
            tried: tried.into_iter().collect(),
            vain: Vec::new(),
            left: Vec::new(),
            takes_up: false,
            queue: Vec::new(),
            patient: None,
            looked_into: BTreeSet::new(),
            waiting: Vec::new(),
            watches: false,
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

    /// Has something done beside the loop, which hears what it came to.
    fn begin(&mut self, work: impl Future<Output = News> + 'static) {
        self.stage = Stage::Busy;
        let tell = self.tell.clone();
        tokio::task::spawn_local(async move {
            // Nobody hears it once the loop has ended.
            let _ = tell.send(work.await).await;
        });
    }

    fn examine(&mut self, snapshot: &Snapshot, id: InstanceId) {
        self.looked_into.insert(id.clone());
        let work = tokio::time::timeout(EXAMINATION, self.surgeon.examine(snapshot.clone(), id.clone()));
        self.begin(async move { News::Examined(id, work.await.unwrap_or_default()) });
    }

    fn mend(&mut self, finding: Finding, rotation: Text, before: Vec<Start>) {
        let fix = finding.fix.clone().unwrap_or_default();
        let options = Options { baseline: middle(&before), rotation: Some(rotation), ..Options::default() };
        self.mending = Some(before);
        let work = self.surgeon.mend(finding, options, self.ward.clone());
        self.begin(async move { News::Mended(fix, work.await) });
    }

    /// Whether a fix is this rotation's to take back: a rotation has applied it, and this one applies fixes too. What a
    /// person has applied a person takes back.
    fn is_ours(&self, standing: &Standing) -> bool {
        standing.mark.rotation.is_some() && self.surgeon.fixes() == Fixes::Apply
    }

    fn take_up(&mut self, standing: Standing) {
        self.takes_up = true;
        let work = self.surgeon.take_up(standing.fix.clone(), self.is_ours(&standing), self.ward.clone());
        self.begin(async move { News::TakenUp(standing, work.await) });
    }

    /// Beside everything else: what is not written down, the nodes show for a while longer.
    fn note(&self, fix: &Text, effect: Effect) {
        tokio::task::spawn_local(self.surgeon.note(fix.clone(), effect));
    }

    fn take_back(&mut self, fix: Text, daemonset: Text) {
        let work = self.surgeon.take_back(fix.clone(), self.ward.clone());
        self.begin(async move { News::TakenBack((fix, daemonset), work.await) });
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
    /// Takes up what earlier runs have left: failures that nobody has looked into, fixes whose rollout nobody has
    /// followed to its end, and those that no new node has proved yet.
    pub(super) fn take_up_mending(&mut self, now: Timestamp) {
        let record = self.record.current();
        let Some(care) = &mut self.care else { return };
        let failed = record.failed.keys().filter(|id| !record.mended.excused.contains(*id));
        for instance in failed.filter_map(|id| self.snapshot.instances.get(id)) {
            care.waiting.push(instance.id.clone());
            let failure = Failure { group: instance.group.clone(), until: within_limit(now) };
            self.snapshot.mending.failures.insert(instance.id.clone(), failure);
        }
        let unproved = care.surgeon.standing(&self.snapshot).into_iter().filter(|s| s.mark.effect.is_none());
        care.left = unproved.collect();
        let applied = care.left.iter().map(|standing| standing.mark.at).min();
        let applied = applied.filter(|_| care.surgeon.fixes() == Fixes::Apply);
        for id in care.waiting.clone() {
            let node = self.snapshot.node_of(&id).filter(|node| applied.is_some_and(|at| node.created >= at));
            let until = node.and_then(|node| comes_up_by(self.policy, &self.snapshot, node, now));
            self.snapshot.mending.watched.extend(until.map(|until| (id, until)));
        }
        let Some(care) = &mut self.care else { return };
        care.tried.extend(care.left.iter().map(|standing| standing.fix.clone()));
        self.go_on(now);
    }

    /// Has a fix that is in place proved by a node that has joined since, or by the next one.
    fn await_proof(&mut self, standing: Standing, ours: bool, events: &mut Vec<EventKind>) {
        let Standing { fix, daemonset, mark, shown } = standing;
        let before = Vec::from_iter(mark.baseline);
        let daemonset: Text = daemonset.to_string().into();
        let pending = Pending { fix, daemonset, since: mark.at, before, ours };
        let Some(care) = &mut self.care else { return };
        match shown {
            fixes::Standing::Judged(effect) => {
                care.starts = vec![Start { seconds: effect.after_s, restarts: effect.restarts }];
                self.proved(pending, effect, events);
            }
            _ => care.pending.push(pending),
        }
    }

    /// A new node has shown what a fix is worth.
    fn proved(&mut self, pending: Pending, effect: Effect, events: &mut Vec<EventKind>) {
        let Some(care) = &mut self.care else { return };
        let Pending { fix, daemonset, ours, .. } = pending;
        events.push(EventKind::FixVerified { fix: fix.clone(), daemonset: daemonset.clone(), effect });
        if !effect.helped && ours {
            return care.vain.push((fix, daemonset));
        }
        care.note(&fix, effect);
        if !effect.helped {
            let standing = fixes::Standing::Judged(effect);
            let back = fixes::standing::back(&self.settings.cluster, &fix, &standing).unwrap_or_default();
            events.push(EventKind::Error { message: format!("the fix {fix}: {effect}; {back}"), fatal: false });
        }
    }

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
            if let Some(group) = about.group.clone().filter(|_| failed) {
                let failure = Failure { group, until: within_limit(now) };
                self.snapshot.mending.failures.entry(id.clone()).or_insert(failure);
            }
            let node = about.node.as_ref().and_then(|name| self.snapshot.nodes.get(name));
            let restarts = node.map_or(0, |node| restarts_on(self.policy, &self.snapshot, node));
            let start = seconds.map(|seconds| Start { seconds, restarts });
            self.arrived(New { about: about.clone(), id, start, failed }, now, events);
        }
    }

    fn arrived(&mut self, new: New, now: Timestamp, events: &mut Vec<EventKind>) {
        let created = new.about.node.as_ref().and_then(|n| self.snapshot.nodes.get(n)).map(|n| n.created);
        let Some(care) = &mut self.care else { return };
        if new.failed && (care.looked_into.contains(&new.id) || care.waiting.contains(&new.id)) {
            return;
        }
        // What becomes functional while a fix is applied may have it or not: it says nothing of this one, nor of those
        // before it alone.
        let between = care.mending.is_some() || care.takes_up;
        if let (Some(start), Some(created), false) = (new.start, created, between) {
            self.judge_pending(start, created, events);
        }
        if new.failed {
            self.keep(&new, now);
        }
        let Some(care) = &mut self.care else { return };
        if !between {
            care.starts.extend(new.start);
        }
        if !care.vain.is_empty() {
            // What is left to be found is found on the next one.
            if new.failed {
                care.waiting.push(new.id);
            }
            if care.stage != Stage::Busy {
                self.go_on(now);
            }
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
        // Whoever has applied it: while pods are renewed, nodes are less than they seem.
        let holds = care.stage == Stage::Busy && (care.takes_up || care.surgeon.fixes() == Fixes::Apply);
        let before = self.snapshot.mending.busy.take();
        if holds {
            let what: Text = match (&*care.ward.stands.borrow(), &care.patient) {
                (Some(stands), _) => stands.clone(),
                (None, Some(id)) if care.watches => {
                    format!("{id} to come up all the same, which tells what a fix is worth").into()
                }
                (None, Some(_)) => "a fix of its new nodes to be applied".into(),
                (None, None) => "what its new nodes waited for to be found".into(),
            };
            let since = before.as_ref().map_or(now, |busy| busy.since);
            self.snapshot.mending.busy = Some(Busy { what, since, until: within_limit(since) });
        }
        if before.is_some() && self.snapshot.mending.busy.is_none() {
            self.snapshot.mending.ended = Some(now);
        }
        self.again |= before != self.snapshot.mending.busy;
    }

    /// Shows an operation the pods it waits for, and says where it stands and what it is about to do. Once a second.
    pub(super) fn make_rounds(&mut self, now: Timestamp) -> Vec<EventKind> {
        let mut events = Vec::new();
        let Some(care) = self.care.as_ref().filter(|care| care.stage == Stage::Busy) else { return events };
        events.extend(care.ward.proposed.borrow_mut().take());
        if let Some(set) = &*care.ward.set.borrow() {
            *care.ward.pods.borrow_mut() = Some(PodView::all(&self.snapshot, set));
        }
        if care.watches {
            self.watch(now, &mut events);
        }
        self.hold(now);
        events
    }

    /// Takes in what an operation came to.
    pub(super) async fn operated(&mut self, news: News, now: Timestamp) {
        let mut events = Vec::new();
        match news {
            News::Examined(id, findings) => self.examined(id, findings, now, &mut events),
            News::Mended(fix, result) => self.mended(fix, result, now, &mut events).await,
            News::TakenUp(standing, result) => self.taken_up(standing, result, now, &mut events).await,
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
            // What is proved, or compared with, needs a node that has come up.
            let untried = care.queue.iter().find(|f| f.fix.as_ref().is_some_and(|fix| !care.tried.contains(fix)));
            let unknown = |finding| care.before(finding, self.policy, &self.snapshot).is_empty();
            let tells = !care.pending.is_empty() || untried.is_some_and(unknown);
            care.watches = tells && self.snapshot.mending.watched.contains_key(&id);
            care.patient = Some(id);
            if !care.watches {
                self.treat(now);
            }
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
            self.snapshot.mending.examined.insert(id);
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
                let before = care.before(&finding, self.policy, &self.snapshot);
                care.mend(finding, self.record.current().id, before);
                self.snapshot.mending.watched.clear();
                // It has a time of its own.
                self.snapshot.mending.busy = None;
                return;
            }
        }
        care.patient = None;
        // With a fix whose effect is not seen yet, the next new node may still show something else.
        care.stage = if care.pending.is_empty() { Stage::Done } else { Stage::Watching };
        self.snapshot.mending.examined.insert(patient);
        self.go_on(now);
    }

    async fn mended(
        &mut self,
        fix: Text,
        result: Result<Treated, String>,
        now: Timestamp,
        events: &mut Vec<EventKind>,
    ) {
        let before = self.care.as_mut().and_then(|care| care.mending.take());
        let applied = result.and_then(|treated| {
            let (fix, since) = (treated.fix.clone(), treated.since);
            Ok((fix, since, in_place(treated, events)?))
        });
        let (fix, since, daemonset) = match applied {
            Ok((fix, since, Some(daemonset))) => (fix, since, daemonset),
            Ok((.., None)) => return self.treat(now),
            Err(why) => {
                events.push(failure(&fix, "apply", &why));
                return self.treat(now);
            }
        };
        self.write_down(&fix, events).await;
        if let Some(care) = &mut self.care {
            care.tried.insert(fix.clone());
            care.pending.push(Pending { fix, daemonset, since, before: before.unwrap_or_default(), ours: true });
            (care.patient, care.stage) = (None, Stage::Watching);
            care.queue.clear();
        }
        self.go_on(now);
    }

    /// A fix of an earlier run has been followed to its end.
    async fn taken_up(
        &mut self,
        standing: Standing,
        result: Result<Treated, String>,
        now: Timestamp,
        events: &mut Vec<EventKind>,
    ) {
        let fix = standing.fix.clone();
        let Some(care) = &mut self.care else { return };
        care.takes_up = false;
        let ours = care.is_ours(&standing);
        // A node may have shown it meanwhile.
        let shown = care.surgeon.standing(&self.snapshot).into_iter().find(|other| other.fix == fix);
        let standing = shown.unwrap_or(standing);
        // Of what a person applied before this run began only what comes of it is told.
        let mut told = Vec::new();
        match result.and_then(|treated| in_place(treated, &mut told)) {
            Ok(Some(_)) if ours => {
                events.extend(told);
                self.write_down(&fix, events).await;
                self.await_proof(standing, true, events);
            }
            Ok(Some(_)) if matches!(standing.shown, fixes::Standing::Judged(_) | fixes::Standing::Unseen) => {
                self.await_proof(standing, false, events);
            }
            Ok(Some(_)) => {}
            Ok(None) => events.extend(told),
            Err(why) => {
                events.push(failure(&fix, "see through", &why));
                // What somebody has overwritten may be applied anew, unless this rotation has done so before.
                let by_us = self.record.current().mended.fixes.contains(&fix);
                if let Some(care) = self.care.as_mut().filter(|_| !by_us) {
                    care.tried.remove(&fix);
                }
            }
        }
        self.go_on(now);
    }

    /// The record says that a fix is in place. What failed before it was says nothing of how it is now.
    async fn write_down(&mut self, fix: &Text, events: &mut Vec<EventKind>) {
        // Some may have failed so lately that the record does not name them yet.
        let failed: Vec<InstanceId> = self.snapshot.mending.failures.keys().cloned().collect();
        let written = self.record.update(|record| {
            if !record.mended.fixes.contains(fix) {
                record.mended.fixes.push(fix.clone());
            }
            record.mended.excused.extend(record.failed.keys().chain(&failed).cloned());
        });
        if let Err(fault) = written.await {
            events.push(EventKind::Error { message: format!("failed to write down {fix}: {fault}"), fatal: false });
        }
        self.snapshot.rotation = Some(self.record.current().into());
    }

    /// With free hands: takes back what has no effect, goes on with what an earlier run has left, and looks into what
    /// failed meanwhile.
    fn go_on(&mut self, now: Timestamp) {
        let excused = self.record.current().mended.excused;
        let Some(care) = &mut self.care else { return };
        if !care.vain.is_empty() {
            let (fix, daemonset) = care.vain.remove(0);
            care.take_back(fix, daemonset);
            self.snapshot.mending.busy = None;
            return self.hold(now);
        }
        if !care.left.is_empty() {
            let standing = care.left.remove(0);
            care.take_up(standing);
            return self.hold(now);
        }
        if care.patient.is_some() && !care.watches {
            return self.treat(now);
        }
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
        if care.stage != Stage::Busy {
            self.snapshot.mending.watched.clear();
        }
        self.hold(now);
    }

    /// Verdicts that a plan has been made with, and that did not end the rotation, are not given again. Those on what
    /// is not in the record yet are still due.
    pub(super) fn settle(&mut self, plan: &Plan) {
        let records = |action: &Action| matches!(action, Action::Record { .. });
        let ends = plan.actions.iter().any(|planned| records(&planned.action));
        let writing = self.snapshot.in_flight.contains_key(&crate::plan::ActionKey::Record);
        if !ends && !writing {
            let Some(rotation) = &self.snapshot.rotation else { return };
            let mending = &mut self.snapshot.mending;
            mending.settled.extend(mending.examined.extract_if(.., |id| rotation.failed.contains_key(id)));
        }
    }
}

/// By when what begins at `since` is looked into and mended.
fn within_limit(since: Timestamp) -> Timestamp {
    let limit = SignedDuration::try_from(LIMIT + EXAMINATION).unwrap_or(SignedDuration::MAX);
    let limit = limit.saturating_add(COMES_UP);
    since.checked_add(limit).unwrap_or(Timestamp::MAX)
}

/// The DaemonSet of a fix that is in place; `None` where it did harm and was taken back. Tells of either.
fn in_place(treated: Treated, events: &mut Vec<EventKind>) -> Result<Option<Text>, String> {
    let daemonset: Text = treated.daemonset.to_string().into();
    let (fix, of) = (treated.fix, daemonset.clone());
    match treated.came {
        Came::InPlace(pods) => events.push(EventKind::FixApplied { fix, daemonset: of, pods }),
        // New nodes have it, whatever the pods of the others wait for.
        Came::Late(why) => {
            events.push(EventKind::FixApplied { fix: fix.clone(), daemonset: of, pods: 0 });
            events
                .push(EventKind::Error { message: format!("the rollout of {fix} does not end: {why}"), fatal: false });
        }
        Came::Harm { why, back: Ok(still) } => {
            events.push(EventKind::FixReverted { fix: fix.clone(), daemonset: of, why });
            let message = still.map(|still| format!("{fix} is taken back, and still {still}"));
            events.extend(message.map(|message| EventKind::Error { message, fatal: false }));
            return Ok(None);
        }
        Came::Harm { why, back: Err(failure) } => {
            return Err(format!("its rollout does harm ({why}), and taking it back failed: {failure}"));
        }
    }
    Ok(Some(daemonset))
}

fn failure(fix: &str, what: &str, why: &str) -> EventKind {
    EventKind::Error { message: format!("failed to {what} the fix {fix}: {why}"), fatal: false }
}
