//! The loop itself: hear, refresh, plan, check, act, tell.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::changes::{self, Changes};
use super::ending::{about, release};
use super::fresh;
use super::handover::{self, OwnPod};
use super::mending::Care;
use super::own::{self, OwnWrites, Reading};
use super::pauses::Pauses;
use super::prepare::{self, BATCH, World};
use super::surgeon::Surgeon;
use super::voice::Voice;
use super::waits::group_of;
use super::{Error, Interrupt, Ports, Settings, history};
use crate::cloud::{self, Cloud, GroupState};
use crate::cluster::{Cluster, Fact, Kind};
use crate::event::{EventKind, Report};
use crate::execute::retry::Jitter;
use crate::execute::{Executor, Outcome, Record};
use crate::invariants::{self, Violation};
use crate::lock::{self, Lock};
use crate::model::{GroupName, InstanceId, LaunchSource, Lifecycle, Target, Text, Uid};
use crate::observe::source::{Answer, Heard, Source};
use crate::observe::{InFlight, Snapshot};
use crate::plan::{Action, ActionKey, NodePurpose, Plan, Planned, Preview, Verdict, Wait, WaitReason, plan};
use crate::policy::Policy;

/// Two passes are at least so far apart, so that what comes in a burst is planned on once.
const APART: Duration = Duration::from_millis(20);
/// How often time passes for whoever looks on.
const TICK: Duration = Duration::from_secs(1);
/// How often the groups' targets are resolved anew, where nothing else has had them resolved meanwhile.
const RESOLVE_EVERY: Duration = Duration::from_secs(5 * 60);
/// A launch that has not shown for so long is looked up in the group's activities, and again after as long.
const LAUNCH_OVERDUE: SignedDuration = SignedDuration::from_secs(90);
/// While the lock is not certain, acting is tried again this often.
const UNCERTAIN: Duration = Duration::from_millis(500);
/// What was observed so long ago needs no catching up.
const JUST_OBSERVED: Duration = Duration::from_secs(2);
/// Catching up ends when nothing was heard for so long,
const QUIET: Duration = Duration::from_millis(50);
/// and after so long in any case.
const CATCH_UP: Duration = Duration::from_secs(10);
/// A reading of the groups that failed while actions wait for it is begun again after so long.
const READ_AGAIN: Duration = Duration::from_secs(2);
/// Refused credentials in a row before the run ends: they may be about to be renewed.
pub(super) const CREDENTIALS: u32 = 3;

/// Why the loop ended.
pub(super) enum Ending {
    Verdict(Verdict),
    Interrupted(Interrupt),
    Violated(Violation),
    LockLost(String),
    OwnNode(OwnPod),
    Failed(Error),
}

/// Waits for a signal; for ever, if whoever could send one is gone.
pub(super) async fn interrupted(interrupt: &mut watch::Receiver<Option<Interrupt>>) -> Interrupt {
    loop {
        if let Some(signal) = *interrupt.borrow_and_update() {
            return signal;
        }
        if interrupt.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Rotates, from the lock on; or, to `abort`, ends what was begun.
pub(super) async fn run<C, K>(
    (ports, settings): (&Ports<C, K>, &Settings),
    world: World<C>,
    preview: &Preview,
    (lock, abort, surgeon): (Lock<K>, bool, Option<Rc<dyn Surgeon>>),
    mut voice: Voice,
    mut interrupt: watch::Receiver<Option<Interrupt>>,
) -> Result<Report, Error>
where
    C: Cloud + 'static,
    K: Cluster + 'static,
{
    let id = history::rotation_id(&world, ports.clock.now(), settings);
    let begun = tokio::select! {
        biased;
        signal = interrupted(&mut interrupt) => Err(Error::Interrupted(signal)),
        begun = begin(ports, settings, &id, &world.snapshot) => begun,
    };
    let (record, resumed) = match begun {
        Ok(begun) => begun,
        Err(e) => {
            let now = ports.clock.now();
            let verdict = match &e {
                Error::Interrupted(_) => Verdict::Interrupted,
                e => {
                    voice.say(now, EventKind::Error { message: e.to_string(), fatal: true }).await;
                    Verdict::Failed
                }
            };
            let report = voice.report(verdict, now, preview, &settings.policy, ports, Vec::new());
            release(lock, true, &mut voice, ports.clock.now()).await;
            voice.say(ports.clock.now(), EventKind::RotationFinished(Box::new(report))).await;
            return Err(e);
        }
    };
    let mut engine = Engine::new((ports, settings), world, &lock, record, voice);
    engine.snapshot.mending.awaited = surgeon.is_some();
    engine.care = surgeon.map(|surgeon| Care::new(surgeon, ports.clock, engine.record.current().mended.fixes));
    engine.start(resumed, abort).await;
    let ending = engine.turn(&mut interrupt).await;
    let mut own = None;
    let result = match ending {
        Ending::Verdict(verdict) => Ok(engine.finish(verdict, preview, settings).await),
        Ending::Interrupted(signal) => {
            engine.wind_down().await;
            Err(Error::Interrupted(signal))
        }
        Ending::OwnNode(pod) => {
            engine.let_acts_end().await;
            Err(own.insert(pod).left())
        }
        Ending::Violated(violation) => {
            engine.let_acts_end().await;
            Err(Error::Invariant(violation))
        }
        Ending::LockLost(holder) => Err(Error::Locked { holder, doing: None, since: None, rotation: None }),
        Ending::Failed(e) => {
            engine.let_acts_end().await;
            Err(e)
        }
    };
    let now = ports.clock.now();
    let report = match &result {
        Ok(report) => report.clone(),
        Err(Error::Interrupted(_)) => engine.report(Verdict::Interrupted, preview),
        // What is left is our own node: the next run's.
        Err(Error::OwnNode { .. }) => engine.report(Verdict::Incomplete, preview),
        Err(e) => {
            engine.voice.say(now, EventKind::Error { message: e.to_string(), fatal: true }).await;
            engine.report(Verdict::Failed, preview)
        }
    };
    if result.is_ok() {
        let snapshot = &engine.snapshot;
        engine.voice.tell_skipped(now, &report, |node| about(snapshot, node)).await;
    }
    let mut voice = engine.voice;
    release(lock, result.is_err(), &mut voice, ports.clock.now()).await;
    // The last event of every run.
    voice.say(ports.clock.now(), EventKind::RotationFinished(Box::new(report))).await;
    match own {
        Some(own) => Err(own.leave(&*ports.cluster, &mut interrupt).await),
        None => result,
    }
}

/// Under the lock: whoever held it before may have ended a rotation, so the record is looked for once more.
async fn begin<C, K: Cluster>(
    ports: &Ports<C, K>,
    settings: &Settings,
    id: &Text,
    snapshot: &Snapshot,
) -> Result<(Record<K>, bool), Error> {
    let jitter = Jitter::seeded(settings.seed);
    let configs = prepare::patiently(&jitter, "list configmaps", || ports.cluster.configs(&settings.namespace)).await?;
    let found = history::open(&configs, &settings.cluster);
    let resumed = found.is_some();
    let id = found.as_ref().map_or(id, |(record, _)| &record.id).clone();
    let found = found.or_else(|| history::again(&id, ports.clock.now(), &configs, snapshot));
    Ok((history::begin(ports, settings, &id, found, snapshot).await?, resumed))
}

pub(super) struct Engine<'a, C, K> {
    pub(super) ports: &'a Ports<C, K>,
    pub(super) settings: &'a Settings,
    pub(super) policy: &'a Policy,
    pub(super) snapshot: Snapshot,
    pub(super) source: Source<C>,
    pub(super) executor: Executor<C, K>,
    pub(super) outcomes: mpsc::Receiver<Outcome>,
    pub(super) lock: (lock::Guard, watch::Receiver<lock::State>),
    pub(super) record: Record<K>,
    pub(super) voice: Voice,
    pub(super) plan: Plan,
    pub(super) changes: Changes,
    pub(super) own: OwnWrites,
    pub(super) pauses: Pauses,
    /// Something was done or answered that a plan reads: plan again whatever the snapshot says.
    pub(super) again: bool,
    /// Actions wait for a fresh reading of the groups.
    pub(super) held: bool,
    /// A Node went whose instance is in service as far as was read: the groups are to say what became of it.
    pub(super) orphaned: bool,
    /// Nothing is left but to evict our own pod: nothing more is begun.
    pub(super) leaving: Option<OwnPod>,
    /// On request: drains in hand finish, nothing new is begun.
    pub(super) paused: bool,
    /// How it is to end, on request or because something fails again and again: nothing new is begun, and
    /// everything is put back.
    pub(super) wanted: Option<Verdict>,
    /// Why it ends has been told.
    pub(super) ending: Option<Verdict>,
    /// Plan again then, though nothing may have changed: the plan's own wake, or the lock was not certain.
    pub(super) wake: Option<Instant>,
    pub(super) tick: Instant,
    pub(super) resolve: Instant,
    pub(super) targets: fresh::Targets,
    pub(super) foreseen: fresh::Foreseen,
    /// Launches of something else than the target for which the targets were resolved anew.
    pub(super) strays: BTreeSet<InstanceId>,
    /// When a group's activities were asked for because a launch was overdue.
    pub(super) looked_up: BTreeMap<GroupName, Timestamp>,
    pub(super) rejected: u32,
    /// Somebody looks after new nodes.
    pub(super) care: Option<Care>,
}

impl<'a, C: Cloud + 'static, K: Cluster + 'static> Engine<'a, C, K> {
    fn new(
        (ports, settings): (&'a Ports<C, K>, &'a Settings),
        world: World<C>,
        lock: &Lock<K>,
        record: Record<K>,
        voice: Voice,
    ) -> Self {
        let World { mut snapshot, source, targets, .. } = world;
        snapshot.rotation = Some(record.current().into());
        let calls = (ports.cloud.clone(), ports.cluster.clone(), ports.clock);
        let (executor, outcomes) =
            Executor::new(calls, settings.cluster.clone(), lock.guard(), record.clone(), settings.seed);
        let now = Instant::now();
        Self {
            ports,
            settings,
            policy: &settings.policy,
            snapshot,
            source,
            executor,
            outcomes,
            lock: (lock.guard(), lock.state()),
            record,
            voice,
            plan: Plan::default(),
            changes: Changes::default(),
            own: OwnWrites::default(),
            pauses: Pauses::seeded(settings.seed),
            again: true,
            held: false,
            orphaned: false,
            leaving: None,
            paused: false,
            wanted: None,
            ending: None,
            wake: None,
            tick: now + TICK,
            resolve: now,
            targets,
            foreseen: fresh::Foreseen::default(),
            strays: BTreeSet::new(),
            looked_up: BTreeMap::new(),
            rejected: 0,
            care: None,
        }
    }

    /// Takes in what has happened since the world was observed, where that is a while ago: the user may have
    /// taken time to say yes, and the lock may have had to be waited for.
    async fn catch_up(&mut self) -> Option<Ending> {
        if self.source.pace.is_fresh(Instant::now(), JUST_OBSERVED) {
            return None;
        }
        let mut facts = Vec::with_capacity(BATCH);
        self.source.read_groups();
        let end = Instant::now() + CATCH_UP;
        while Instant::now() < end {
            let quiet = self.source.pace.due().map_or(end, |_| Instant::now() + QUIET);
            let Ok(heard) = tokio::time::timeout_at(quiet, self.source.hear(&mut facts)).await else { break };
            let answers = match heard {
                Heard::Facts => vec![],
                Heard::Answer(answer) => vec![*answer],
            };
            if let Some(ending) = self.take(&mut facts, answers, vec![]).await {
                return Some(ending);
            }
        }
        None
    }

    async fn start(&mut self, resumed: bool, abort: bool) {
        if !resumed {
            self.changes.afresh();
        }
        self.snapshot.refresh(self.policy);
        let plan = plan(self.policy, &self.snapshot, self.ports.clock.now());
        let outdated = plan.progress.values().map(|p| p.outdated).sum();
        let rotation = self.record.current().id;
        let now = self.ports.clock.now();
        self.voice.say(now, EventKind::RotationStarted { rotation, resumed, outdated }).await;
        self.take_up_mending(now);
        let request = self.lock.1.borrow_and_update().request.clone();
        self.asked(if abort { Some(lock::ABORT) } else { request.as_deref() }).await;
    }

    async fn turn(&mut self, interrupt: &mut watch::Receiver<Option<Interrupt>>) -> Ending {
        let caught_up = tokio::select! {
            biased;
            signal = interrupted(interrupt) => return Ending::Interrupted(signal),
            caught_up = self.catch_up() => caught_up,
        };
        if let Some(ending) = caught_up {
            return ending;
        }
        let mut facts = Vec::with_capacity(BATCH);
        let mut last = Instant::now();
        loop {
            if let Some(ending) = self.pass().await {
                return ending;
            }
            let timer = self.timer();
            let mut answers = Vec::new();
            let mut outcomes = Vec::new();
            tokio::select! {
                biased;
                signal = interrupted(interrupt) => return Ending::Interrupted(signal),
                Ok(()) = self.lock.1.changed() => {
                    let state = self.lock.1.borrow_and_update().clone();
                    if let Some(holder) = state.lost_to {
                        return Ending::LockLost(holder);
                    }
                    self.asked(state.request.as_deref()).await;
                }
                Some(outcome) = self.outcomes.recv() => outcomes.push(outcome),
                news = Care::hear(&mut self.care) => self.operated(news, self.ports.clock.now()).await,
                heard = self.source.hear(&mut facts) => {
                    if let Heard::Answer(answer) = heard {
                        answers.push(*answer);
                    }
                }
                () = sleep_until(timer) => {}
            }
            let now = Instant::now();
            if now < last + APART && now < timer {
                sleep_until(last + APART).await;
            }
            last = Instant::now();
            answers.extend(self.source.ready(&mut facts));
            while let Ok(outcome) = self.outcomes.try_recv() {
                outcomes.push(outcome);
            }
            if let Some(ending) = self.take(&mut facts, answers, outcomes).await {
                return ending;
            }
        }
    }

    /// When something is to be done though nothing is heard.
    fn timer(&self) -> Instant {
        let wake = [self.wake, self.source.pace.due(), self.pauses.next().map(|at| self.instant(at))];
        wake.into_iter().flatten().fold(self.tick.min(self.resolve), Instant::min)
    }

    fn instant(&self, at: Timestamp) -> Instant {
        let left = Duration::try_from(at.duration_since(self.ports.clock.now())).unwrap_or(Duration::ZERO);
        Instant::now() + left
    }

    /// What a user asked of the running rotation, by the Lease's annotation.
    async fn asked(&mut self, request: Option<&str>) {
        let now = self.ports.clock.now();
        if request == Some(lock::ABORT) {
            self.wanted = Some(Verdict::Aborted);
        }
        // What is being put back is not held up.
        let paused = request == Some(lock::PAUSE) && self.wanted.is_none();
        if std::mem::replace(&mut self.paused, paused) != paused {
            let kind = if paused { EventKind::RotationPaused } else { EventKind::RotationResumed };
            self.voice.say(now, kind).await;
            self.again = true;
        }
    }

    /// Writes down that the rotation is to end, until that is in the record.
    fn record_end(&mut self, now: Timestamp) {
        let wanted = self.wanted.filter(|_| self.record.current().ending.is_none());
        if wanted.is_some() && !self.snapshot.in_flight.contains_key(&ActionKey::Record) {
            self.snapshot.in_flight.insert(ActionKey::Record, InFlight { since: now });
            self.executor.begin(Action::Record {
                skipped: BTreeMap::new(),
                failed: BTreeMap::new(),
                protection: BTreeMap::new(),
                targets: BTreeMap::new(),
                ending: wanted,
            });
        }
    }

    fn wake_by(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Takes in everything that was heard.
    async fn take(&mut self, facts: &mut Vec<Fact>, answers: Vec<Answer>, outcomes: Vec<Outcome>) -> Option<Ending> {
        let now = self.ports.clock.now();
        let mut events = Vec::new();
        for fact in facts.drain(..) {
            self.hear(fact, &mut events);
        }
        let mut ending = None;
        for outcome in outcomes {
            ending = ending.or(self.came_back(outcome, now, &mut events));
        }
        for answer in answers {
            ending = ending.or(self.answered(answer, now, &mut events));
        }
        for event in events {
            self.voice.say(now, event).await;
        }
        ending
    }

    fn hear(&mut self, fact: Fact, events: &mut Vec<EventKind>) {
        match &fact {
            Fact::Node(node) => {
                let known = self.snapshot.nodes.get(&node.name).is_some_and(|n| n.instance == node.instance);
                if !known && node.instance.as_ref().is_some_and(|i| !self.in_service(i)) {
                    let patience = if self.arriving() > 1 { fresh::unhurried(self.policy) } else { Duration::ZERO };
                    self.source.pace.on_join(Instant::now(), patience);
                }
            }
            Fact::NodeGone(name) => {
                let instance = self.snapshot.nodes.get(name).and_then(|n| n.instance.as_ref());
                self.orphaned |= instance.is_some_and(|i| self.in_service(i));
                if instance.is_some_and(|i| self.snapshot.instances.contains_key(i)) {
                    let arriving = self.arriving() > 0;
                    let pace = &mut self.source.pace;
                    if arriving { pace.on_leave(Instant::now()) } else { pace.on_node(Instant::now()) }
                }
            }
            Fact::Pod(pod) if pod.deleting.is_some() => {
                let moved_before = self.moved_before(&pod.uid);
                events.extend(self.changes.pod_goes(&pod.uid, moved_before));
            }
            Fact::PodGone(uid) => {
                let moved_before = self.moved_before(uid);
                events.extend(self.changes.pod_goes(uid, moved_before));
                events.extend(self.changes.pod_gone(uid));
            }
            Fact::WatchFailed(kind, why) => {
                let message = format!("the watch of {kind:?} broke off: {why}");
                events.push(EventKind::Error { message, fatal: false });
            }
            _ => {}
        }
        let listed = matches!(fact, Fact::Synced(Kind::Pod));
        self.snapshot.apply(fact);
        if listed {
            events.extend(self.changes.pods_listed(&self.snapshot));
        }
    }

    /// Whether a launch that was not seen before is of something else than the rotation's target.
    fn is_strayed(&mut self) -> bool {
        let groups = self.snapshot.derived().groups.values();
        let strays = groups.flat_map(|g| g.strays.keys().chain(g.newer.keys()));
        let before = self.strays.len();
        self.strays.extend(strays.cloned());
        self.strays.len() > before
    }

    /// Whether a pod has been moved by this rotation already: it was made since the beginning.
    pub(super) fn moved_before(&self, pod: &Uid) -> bool {
        let started = self.snapshot.rotation.as_ref().map(|r| r.started);
        self.snapshot.pods.get(pod).zip(started).is_some_and(|(pod, started)| pod.created > started)
    }

    /// Instances that are awaited: their launches, or their Nodes.
    fn arriving(&self) -> u32 {
        let awaited = |w: &Wait| match w.reason {
            WaitReason::Launch { missing, .. } => missing,
            WaitReason::Join => 1,
            _ => 0,
        };
        self.plan.waits.iter().map(awaited).sum()
    }

    fn in_service(&self, id: &InstanceId) -> bool {
        self.snapshot.instances.get(id).is_some_and(|i| i.lifecycle == Lifecycle::InService)
    }

    fn answered(&mut self, answer: Answer, now: Timestamp, events: &mut Vec<EventKind>) -> Option<Ending> {
        match answer {
            Answer::Groups { states, began } => {
                if states.iter().any(|s| launched_another(&self.snapshot, s) || is_renamed(&self.snapshot, s)) {
                    self.targets.forget();
                    self.resolve = Instant::now();
                }
                let reading = self.own.read(&mut self.snapshot, states, began, now);
                self.source.pace.end(Instant::now());
                self.rejected = 0;
                match reading {
                    Reading::Taken => self.again |= std::mem::take(&mut self.orphaned),
                    Reading::Refused => {
                        self.source.pace.refuse(Instant::now(), own::LAG);
                        return None;
                    }
                    Reading::Disputed(message) => events.push(EventKind::Error { message, fatal: false }),
                }
                self.again |= std::mem::take(&mut self.held);
            }
            Answer::Targets(targets) => {
                for (group, target) in targets {
                    self.targets.answered(&group);
                    if self.snapshot.groups.get(&group).is_some_and(|g| names_another(&g.target, &target)) {
                        // The question is older than the group's change.
                        self.targets.forget();
                        self.resolve = Instant::now();
                        continue;
                    }
                    self.snapshot.apply_target(&group, target);
                }
                self.again |= std::mem::take(&mut self.held);
            }
            Answer::Details(details) => self.snapshot.apply_details(details),
            Answer::Activities(group, activities) => self.snapshot.apply_activities(&group, activities),
            Answer::GroupsFailed(e) => {
                self.source.pace.fail(Instant::now());
                return self.unheard(e, events);
            }
            Answer::Failed(e) => {
                self.targets.failed();
                return self.unheard(e, events);
            }
            Answer::WatchRefused(e) => return Some(Ending::Failed(Error::Cluster(e))),
        }
        None
    }

    fn unheard(&mut self, e: cloud::Error, events: &mut Vec<EventKind>) -> Option<Ending> {
        if std::mem::take(&mut self.held) {
            self.wake_by(Instant::now() + READ_AGAIN);
        }
        if e.kind == cloud::ErrorKind::Credentials {
            self.rejected += 1;
        }
        if prepare::is_denied(&e) || self.rejected >= CREDENTIALS {
            return Some(Ending::Failed(Error::Cloud(e)));
        }
        events.push(EventKind::Error { message: e.to_string(), fatal: false });
        None
    }

    /// Launches that should have shown by now: the activities say why they have not.
    fn look_up_overdue(&mut self, now: Timestamp) {
        // Early enough to be told when the time to join is over.
        let join = self.policy.join_timeout.limit().map_or(LAUNCH_OVERDUE, |limit| limit / 2);
        let overdue = LAUNCH_OVERDUE.min(join);
        for wait in &self.plan.waits {
            let (Some(group), WaitReason::Launch { .. }, Some(since)) = (group_of(wait), &wait.reason, wait.since)
            else {
                continue;
            };
            let last = self.looked_up.get(group).copied().unwrap_or(since).max(since);
            if now.duration_since(last) >= overdue {
                self.source.read_activities(group.clone(), prepare::by_aws(since));
                self.looked_up.insert(group.clone(), now);
            }
        }
    }

    /// Refreshes; plans, checks, acts and tells if anything a plan reads has changed, or it is time to.
    async fn pass(&mut self) -> Option<Ending> {
        let (clock, instant) = (self.ports.clock.now(), Instant::now());
        for key in self.pauses.over(clock) {
            self.snapshot.in_flight.remove(&key);
            self.again = true;
        }
        if self.resolve <= instant {
            self.resolve = instant + RESOLVE_EVERY;
            let mut targets = prepare::targets(&self.snapshot);
            targets.retain(|group, _| {
                !self.targets.is_known(group, instant, RESOLVE_EVERY) && self.targets.ask(group, instant)
            });
            self.source.read_targets(targets);
        }
        self.record_end(clock);
        let woken = self.wake.is_some_and(|at| at <= instant);
        let changed = self.snapshot.refresh(self.policy);
        if changed && self.is_strayed() {
            self.targets.forget();
            self.resolve = instant;
        }
        if changed || woken || std::mem::take(&mut self.again) {
            self.again = false;
            let plan = plan(self.policy, &self.snapshot, clock);
            if let Err(violation) = invariants::check(self.policy, &self.snapshot, &plan, clock) {
                return Some(Ending::Violated(violation));
            }
            self.follow(plan, clock).await;
        }
        if self.tick <= instant {
            self.tick = instant + TICK;
            let mut events = Vec::new();
            self.changes.waits(&self.plan, clock, &mut events);
            for event in events {
                self.voice.say(clock, event).await;
            }
            self.voice.tick(clock);
            for event in self.make_rounds(clock) {
                self.voice.say(clock, event).await;
            }
            self.look_up_overdue(clock);
        }
        self.voice.show(&self.plan, clock);
        if self.source.pace.due().is_some_and(|due| due <= instant) {
            self.source.read_groups();
        }
        if let Some(own) = self.leaving.take() {
            return Some(Ending::OwnNode(own));
        }
        let settled = self.snapshot.in_flight.is_empty() && !self.held && !self.orphaned;
        let verdict = self.plan.verdict.filter(|_| settled);
        verdict.map(Ending::Verdict)
    }

    /// Tells what a plan changes, and hands over its actions.
    async fn follow(&mut self, plan: Plan, now: Timestamp) {
        let mut events = Vec::new();
        let why = self.snapshot.rotation.as_ref().and_then(|r| r.ending);
        if why.is_some() && std::mem::replace(&mut self.ending, why) != why {
            events.extend(why.map(|why| EventKind::RotationEnding { why }));
        }
        self.changes.compare(&plan, &self.snapshot, now, &mut events);
        changes::show_starts(self.policy, &self.snapshot, &mut events);
        let mut seen = Vec::new();
        self.attend(&events, now, &mut seen);
        events.extend(seen);
        self.settle(&plan);
        let expecting = plan.progress.values().any(|p| p.arriving > 0 || p.leaving > 0);
        self.source.pace.expect(expecting);
        // A wake that is due already would spin: what it waits for cannot be nearer than the next pass.
        self.wake = plan.wake.map(|at| self.instant(at).max(Instant::now() + APART));
        for planned in &plan.actions {
            self.hand_over(planned, now, &mut events);
        }
        self.plan = plan;
        self.read_ahead(Instant::now());
        self.voice.stir();
        for event in events {
            self.voice.say(now, event).await;
        }
    }

    fn hand_over(&mut self, planned: &Planned, now: Timestamp, events: &mut Vec<EventKind>) {
        let key = planned.action.key();
        if self.snapshot.in_flight.contains_key(&key) || self.leaving.is_some() {
            return;
        }
        self.leaving = handover::is_own(self.settings, &planned.action);
        if self.leaving.is_some() {
            return;
        }
        let instant = Instant::now();
        if !self.lock.0.may_act() {
            self.wake_by(instant + UNCERTAIN);
            return;
        }
        // Planned again on `resume`, or once the record says that it ends.
        let ends = self.wanted.is_some() && self.record.current().ending.is_none();
        let mends = self.snapshot.mending.busy.is_some()
            && !matches!(&planned.action, Action::ChangeNode { purpose: NodePurpose::SoftTaint, .. });
        if (self.paused || ends || mends) && begins_something(&planned.action) {
            return;
        }
        let doubtful = self.own.in_doubt() && begins_something(&planned.action);
        if doubtful || !self.is_read(&planned.action, instant) {
            self.held = true;
            return;
        }
        self.snapshot.in_flight.insert(key, InFlight { since: now });
        events.push(match &planned.action {
            Action::Evict { pod, node, .. } => EventKind::PodEvicting { pod: pod.clone(), node: node.clone() },
            action => EventKind::Action { what: action.to_string(), reason: planned.reason.clone() },
        });
        self.executor.begin(planned.action.clone());
    }
}

/// Whether a group names another template or version than when it was read last.
fn is_renamed(snapshot: &Snapshot, state: &GroupState) -> bool {
    snapshot.groups.get(&state.group.name).is_some_and(|known| names_another(&known.target, &state.group.target))
}

fn names_another(known: &Target, now: &Target) -> bool {
    prepare::unresolved(known) != prepare::unresolved(now)
}

/// Whether a group has launched, since the last reading, from another version than its target was resolved to:
/// the target has moved, and is worth asking for before its time.
fn launched_another(snapshot: &Snapshot, state: &GroupState) -> bool {
    let Some(Target::Template(target)) = snapshot.groups.get(&state.group.name).map(|g| &g.target) else {
        return false;
    };
    state.instances.iter().filter(|i| !snapshot.instances.contains_key(&i.id)).any(|i| match &i.source {
        LaunchSource::Template { id, version } => {
            *id == target.id && target.resolved.as_ref().is_some_and(|resolved| resolved != version)
        }
        LaunchSource::Configuration(_) | LaunchSource::Unknown => false,
    })
}

/// Actions that a pause holds back: those that take another node in hand or launch for it.
fn begins_something(action: &Action) -> bool {
    match action {
        Action::ChangeNode { purpose, .. } => matches!(purpose, NodePurpose::Cordon | NodePurpose::SoftTaint),
        Action::Resize { from, to, .. } => to > from,
        Action::Suspend { .. } | Action::SetMax { .. } => true,
        _ => false,
    }
}
