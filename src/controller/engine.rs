//! The loop itself: hear, refresh, plan, check, act, tell.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::changes::{Changes, group_of};
use super::own::OwnWrites;
use super::pauses::Pauses;
use super::prepare::{self, BATCH, World};
use super::voice::Voice;
use super::{Error, Interrupt, Ports, Settings, history, rules};
use crate::cloud::{self, Cloud};
use crate::cluster::{self, Cluster, Fact, Kind, NodeChange};
use crate::event::{EventKind, Report};
use crate::execute::{Executor, Fault, Outcome, Record};
use crate::lock::{self, Lock};
use crate::model::marks::{CORDONED_BEFORE, EXCLUDE_FROM_LB, REASON, ROTATION, SINCE, STATE};
use crate::model::{GroupName, NodeMark, Text};
use crate::observe::source::{Answer, Heard, Source};
use crate::observe::{InFlight, Snapshot};
use crate::plan::{Action, ActionKey, ActionReason, NodePurpose, Plan, Planned, Verdict, WaitReason};
use crate::policy::Policy;

/// Two passes are at least so far apart, so that what comes in a burst is planned on once.
const APART: Duration = Duration::from_millis(20);
/// A reading of the groups that a destructive call stands on is no older than this.
const FRESH: Duration = Duration::from_secs(5);
/// How often time passes for whoever looks on.
const TICK: Duration = Duration::from_secs(1);
/// How often the groups' targets are resolved anew.
const RESOLVE_EVERY: Duration = Duration::from_secs(4 * 60);
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
/// On a signal: acts in flight are awaited so long at most, and uncordoning takes so long at most. Together with
/// the Lease's release they stay within the 10 s that a signal promises.
const WIND_DOWN: Duration = Duration::from_secs(4);
/// Refused credentials in a row before the run ends: they may be about to be renewed.
const CREDENTIALS: u32 = 3;

/// Why the loop ended.
enum Ending {
    Verdict(Verdict),
    Interrupted(Interrupt),
    Violated(rules::Violation),
    LockLost(String),
    NoAccess(Error),
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

/// Rotates, from the lock on.
pub(super) async fn run<C, K>(
    (ports, settings): (&Ports<C, K>, &Settings),
    world: World<C>,
    preview: &rules::Preview,
    lock: Lock<K>,
    mut voice: Voice,
    mut interrupt: watch::Receiver<Option<Interrupt>>,
) -> Result<Report, Error>
where
    C: Cloud + 'static,
    K: Cluster + 'static,
{
    let id = history::rotation_id(&world, ports.clock.now(), settings);
    let begun = begin(ports, settings, &id, &world.snapshot).await;
    let (record, resumed) = match begun {
        Ok(begun) => begun,
        Err(e) => {
            release(lock, true, &mut voice, ports.clock.now()).await;
            return Err(e);
        }
    };
    let mut engine = Engine::new((ports, settings), world, &lock, record, voice);
    engine.start(resumed).await;
    let ending = engine.turn(&mut interrupt).await;
    let now = ports.clock.now();
    let result = match ending {
        Ending::Verdict(verdict) => Ok(engine.finish(verdict, preview, settings).await),
        Ending::Interrupted(signal) => {
            engine.wind_down().await;
            Err(Error::Interrupted(signal))
        }
        Ending::Violated(violation) => {
            engine.let_acts_end().await;
            Err(Error::Invariant(violation))
        }
        Ending::LockLost(holder) => Err(Error::Locked { holder, since: None, rotation: None }),
        Ending::NoAccess(e) => {
            engine.let_acts_end().await;
            Err(e)
        }
    };
    if let Err(e) = &result {
        let fatal = !matches!(e, Error::Interrupted(_));
        engine.voice.say(now, EventKind::Error { message: e.to_string(), fatal }).await;
    }
    let mut voice = engine.voice;
    release(lock, result.is_err(), &mut voice, ports.clock.now()).await;
    if let Ok(report) = &result {
        voice.say(ports.clock.now(), EventKind::RotationFinished(Box::new(report.clone()))).await;
    }
    result
}

async fn release<K: Cluster + 'static>(lock: Lock<K>, resumed: bool, voice: &mut Voice, now: Timestamp) {
    if let Err(e) = lock.release(resumed).await {
        voice.say(now, EventKind::Error { message: e.to_string(), fatal: false }).await;
    }
}

/// Under the lock: whoever held it before may have ended a rotation, so the record is looked for once more.
async fn begin<C, K: Cluster>(
    ports: &Ports<C, K>,
    settings: &Settings,
    id: &Text,
    snapshot: &Snapshot,
) -> Result<(Record<K>, bool), Error> {
    let configs = ports.cluster.configs(&settings.namespace).await?;
    let found = history::open(&configs, &settings.cluster);
    let resumed = found.is_some();
    let id = found.as_ref().map_or(id, |(record, _)| &record.id).clone();
    let found = found.or_else(|| history::again(&id, ports.clock.now(), &configs, snapshot));
    Ok((history::begin(ports, settings, &id, found, snapshot).await?, resumed))
}

struct Engine<'a, C, K> {
    ports: &'a Ports<C, K>,
    policy: &'a Policy,
    snapshot: Snapshot,
    source: Source<C>,
    executor: Executor<C, K>,
    outcomes: mpsc::Receiver<Outcome>,
    lock: (lock::Guard, watch::Receiver<lock::State>),
    record: Record<K>,
    voice: Voice,
    plan: Plan,
    changes: Changes,
    own: OwnWrites,
    pauses: Pauses,
    /// Something was done or answered that a plan reads: plan again whatever the snapshot says.
    again: bool,
    /// Actions wait for a fresh reading of the groups.
    held: bool,
    /// On request: drains in hand finish, nothing new is begun.
    paused: bool,
    /// Plan again then, though nothing may have changed: the plan's own wake, or the lock was not certain.
    wake: Option<Instant>,
    tick: Instant,
    resolve: Instant,
    /// When a group's activities were asked for because a launch was overdue.
    looked_up: BTreeMap<GroupName, Timestamp>,
    rejected: u32,
}

impl<'a, C: Cloud + 'static, K: Cluster + 'static> Engine<'a, C, K> {
    fn new(
        (ports, settings): (&'a Ports<C, K>, &'a Settings),
        world: World<C>,
        lock: &Lock<K>,
        record: Record<K>,
        voice: Voice,
    ) -> Self {
        let World { mut snapshot, source, .. } = world;
        snapshot.rotation = Some(record.current());
        let calls = (ports.cloud.clone(), ports.cluster.clone(), ports.clock);
        let (executor, outcomes) =
            Executor::new(calls, settings.cluster.clone(), lock.guard(), record.clone(), settings.seed);
        let now = Instant::now();
        Self {
            ports,
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
            paused: false,
            wake: None,
            tick: now + TICK,
            resolve: now,
            looked_up: BTreeMap::new(),
            rejected: 0,
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

    async fn start(&mut self, resumed: bool) {
        if !resumed {
            self.changes.afresh();
        }
        self.snapshot.refresh(self.policy);
        let plan = rules::plan(self.policy, &self.snapshot, self.ports.clock.now());
        let outdated = plan.progress.values().map(|p| p.outdated).sum();
        let rotation = self.record.current().id;
        let now = self.ports.clock.now();
        self.voice.say(now, EventKind::RotationStarted { rotation, resumed, outdated }).await;
        let request = self.lock.1.borrow_and_update().request.clone();
        self.asked(request.as_deref()).await;
    }

    async fn turn(&mut self, interrupt: &mut watch::Receiver<Option<Interrupt>>) -> Ending {
        if let Some(ending) = self.catch_up().await {
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
        let paused = request == Some(lock::PAUSE);
        if std::mem::replace(&mut self.paused, paused) != paused {
            let kind = if paused { EventKind::RotationPaused } else { EventKind::RotationResumed };
            self.voice.say(now, kind).await;
            self.again = true;
        }
        if request == Some(lock::ABORT) && self.record.current().ending.is_none() {
            self.snapshot.in_flight.insert(ActionKey::Record, InFlight { since: now });
            self.executor.begin(Action::Record {
                skipped: BTreeMap::new(),
                failed: BTreeMap::new(),
                protection: BTreeMap::new(),
                ending: Some(Verdict::Aborted),
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
                    self.source.pace.on_node(Instant::now());
                }
            }
            Fact::NodeGone(name) => {
                let instance = self.snapshot.nodes.get(name).and_then(|n| n.instance.as_ref());
                if instance.is_some_and(|i| self.snapshot.instances.contains_key(i)) {
                    self.source.pace.on_node(Instant::now());
                }
            }
            Fact::PodGone(uid) => events.extend(self.changes.pod_gone(uid)),
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

    fn in_service(&self, id: &crate::model::InstanceId) -> bool {
        self.snapshot.instances.get(id).is_some_and(|i| i.lifecycle == crate::model::Lifecycle::InService)
    }

    fn answered(&mut self, answer: Answer, now: Timestamp, events: &mut Vec<EventKind>) -> Option<Ending> {
        match answer {
            Answer::Groups { states, began } => {
                let before = (self.snapshot.instances.len(), self.in_transit());
                self.own.read(&mut self.snapshot, states, began, now);
                let news = before != (self.snapshot.instances.len(), self.in_transit());
                self.source.pace.end(Instant::now(), news);
                self.rejected = 0;
                self.again |= std::mem::take(&mut self.held);
                self.look_up_overdue(now);
            }
            Answer::Targets(targets) => {
                for (group, target) in targets {
                    self.snapshot.apply_target(&group, target);
                }
            }
            Answer::Details(details) => self.snapshot.apply_details(details),
            Answer::Activities(group, activities) => self.snapshot.apply_activities(&group, activities),
            Answer::GroupsFailed(e) => {
                self.source.pace.end(Instant::now(), false);
                if std::mem::take(&mut self.held) {
                    self.wake_by(Instant::now() + READ_AGAIN);
                }
                return self.unheard(e, events);
            }
            Answer::Failed(e) => return self.unheard(e, events),
            Answer::WatchRefused(e) => return Some(Ending::NoAccess(Error::Cluster(e))),
        }
        None
    }

    fn in_transit(&self) -> usize {
        self.snapshot.instances.values().filter(|i| i.lifecycle != crate::model::Lifecycle::InService).count()
    }

    fn unheard(&mut self, e: cloud::Error, events: &mut Vec<EventKind>) -> Option<Ending> {
        if e.kind == cloud::ErrorKind::Credentials {
            self.rejected += 1;
        }
        if prepare::is_denied(&e) || self.rejected >= CREDENTIALS {
            return Some(Ending::NoAccess(Error::Cloud(e)));
        }
        events.push(EventKind::Error { message: e.to_string(), fatal: false });
        None
    }

    /// Launches that should have shown by now: the activities say why they have not.
    fn look_up_overdue(&mut self, now: Timestamp) {
        for wait in &self.plan.waits {
            let (Some(group), WaitReason::Launch { .. }, Some(since)) = (group_of(wait), &wait.reason, wait.since)
            else {
                continue;
            };
            let last = self.looked_up.get(group).copied().unwrap_or(since).max(since);
            if now.duration_since(last) >= LAUNCH_OVERDUE {
                self.source.read_activities(group.clone(), since);
                self.looked_up.insert(group.clone(), now);
            }
        }
    }

    fn came_back(&mut self, outcome: Outcome, now: Timestamp, events: &mut Vec<EventKind>) -> Option<Ending> {
        let Outcome { key, action, result, effects, .. } = outcome;
        self.again = true;
        if let (Action::Evict { pod, uid, node }, Ok(())) = (&action, &result) {
            self.pauses.accepted(&self.snapshot, uid);
            let started = self.snapshot.rotation.as_ref().map(|r| r.started);
            let record = self.snapshot.pods.get(uid);
            let moved_before = record.zip(started).is_some_and(|(p, started)| p.created > started);
            if let Some(pod) = record {
                self.changes.evicted(pod, node);
            }
            events.push(EventKind::PodEvicted { pod: pod.clone(), node: node.clone(), moved_before });
        }
        for effect in effects {
            self.own.take(&mut self.snapshot, (&action, effect), &self.record, now);
        }
        match (&action, result) {
            (_, Ok(())) => {
                self.snapshot.in_flight.remove(&key);
                self.pauses.succeeded(&key);
                self.follow_up(&action);
                None
            }
            // Nothing was sent: it is planned again as soon as the lock is certain.
            (_, Err(Fault::NotLocked)) => {
                self.snapshot.in_flight.remove(&key);
                None
            }
            (Action::Evict { pod, uid, node }, Err(fault)) => {
                self.snapshot.in_flight.remove(&key);
                let error = refusal(fault);
                let told = self.snapshot.refusals.get(uid).map(|r| (r.kind.clone(), r.message.clone()));
                if told != Some((error.kind.clone(), error.message.clone())) {
                    let by = self.blocked_by(uid, &error);
                    events.push(EventKind::PodBlocked { pod: pod.clone(), node: node.clone(), by });
                }
                let refusal = self.pauses.refused(&self.snapshot, uid, error, now);
                self.snapshot.refusals.insert(uid.clone(), refusal);
                None
            }
            (_, Err(fault)) => self.failed(&key, &action, fault, now, events),
        }
    }

    fn blocked_by(&self, uid: &crate::model::Uid, error: &cluster::Error) -> Text {
        let by_budget =
            matches!(error.kind, cluster::ErrorKind::BudgetExhausted | cluster::ErrorKind::BudgetUnobserved);
        let pod = self.snapshot.pods.get(uid).filter(|_| by_budget);
        match pod.and_then(|p| self.snapshot.budgets_over(p).next()) {
            Some(budget) => budget.key.to_string().into(),
            None => error.message.as_str().into(),
        }
    }

    /// A failed action keeps its place in flight until its pause is over.
    fn failed(
        &mut self,
        key: &ActionKey,
        action: &Action,
        fault: Fault,
        now: Timestamp,
        events: &mut Vec<EventKind>,
    ) -> Option<Ending> {
        let attempts = self.pauses.failed(key, now);
        if fault.is_access() && (attempts >= CREDENTIALS || !is_credentials(&fault)) {
            return Some(Ending::NoAccess(history::access(fault, "act")));
        }
        // Told once, and again each time the attempts have doubled.
        if attempts.is_power_of_two() {
            let message = format!("failed to {}: {fault}", words(action));
            events.push(EventKind::Error { message, fatal: false });
        }
        self.follow_up(action);
        if let Action::Resize { group, .. } | Action::Terminate { group, decrement: Some(_), .. } = action
            && let Some(since) = self.snapshot.groups.get(group).and_then(prepare::step_since)
        {
            self.source.read_activities(group.clone(), since);
        }
        None
    }

    /// What an action makes worth a reading.
    fn follow_up(&mut self, action: &Action) {
        match action {
            Action::Resize { .. } => self.source.pace.on_resize(Instant::now()),
            Action::Terminate { .. } => self.source.pace.on_terminate(Instant::now()),
            _ => {}
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
            self.source.read_targets(prepare::targets(&self.snapshot));
        }
        let woken = self.wake.is_some_and(|at| at <= instant);
        let changed = self.snapshot.refresh(self.policy);
        if changed || woken || std::mem::take(&mut self.again) {
            self.again = false;
            let plan = rules::plan(self.policy, &self.snapshot, clock);
            if let Err(violation) = rules::check(self.policy, &self.snapshot, &plan, clock) {
                return Some(Ending::Violated(violation));
            }
            self.follow(plan, clock).await;
        }
        if self.tick <= instant {
            self.tick = instant + TICK;
            self.voice.tick(clock);
        }
        self.voice.show(&self.plan, clock);
        if self.source.pace.due().is_some_and(|due| due <= instant) {
            self.source.read_groups();
        }
        let verdict = self.plan.verdict.filter(|_| self.snapshot.in_flight.is_empty() && !self.held);
        verdict.map(Ending::Verdict)
    }

    /// Tells what a plan changes, and hands over its actions.
    async fn follow(&mut self, plan: Plan, now: Timestamp) {
        let mut events = Vec::new();
        plan.actions.iter().for_each(|action| self.changes.note(action));
        self.changes.compare(&plan, &self.snapshot, now, &mut events);
        let expecting = plan.progress.values().any(|p| p.arriving > 0 || p.leaving > 0);
        self.source.pace.expect(expecting);
        // A wake that is due already would spin: what it waits for cannot be nearer than the next pass.
        self.wake = plan.wake.map(|at| self.instant(at).max(Instant::now() + APART));
        for planned in &plan.actions {
            self.hand_over(planned, now, &mut events);
        }
        self.plan = plan;
        self.voice.stir();
        for event in events {
            self.voice.say(now, event).await;
        }
    }

    fn hand_over(&mut self, planned: &Planned, now: Timestamp, events: &mut Vec<EventKind>) {
        let key = planned.action.key();
        if self.snapshot.in_flight.contains_key(&key) {
            return;
        }
        let instant = Instant::now();
        if !self.lock.0.may_act() {
            self.wake_by(instant + UNCERTAIN);
            return;
        }
        // Planned again on `resume`.
        if self.paused && begins_something(&planned.action) {
            return;
        }
        if stands_on_groups(&planned.action) && !self.source.pace.is_fresh(instant, FRESH) {
            self.source.pace.now(instant);
            self.held = true;
            return;
        }
        self.snapshot.in_flight.insert(key, InFlight { since: now });
        events.push(match &planned.action {
            Action::Evict { pod, node, .. } => EventKind::PodEvicting { pod: pod.clone(), node: node.clone() },
            action => EventKind::Action { what: words(action), reason: planned.reason.clone() },
        });
        self.executor.begin(planned.action.clone());
    }

    /// Awaits what is in flight, for a short time.
    async fn let_acts_end(&mut self) {
        let end = Instant::now() + WIND_DOWN;
        // Those whose pause after a failure is not over are in no flight.
        for (_, key) in self.pauses.pending() {
            self.snapshot.in_flight.remove(&key);
        }
        while !self.snapshot.in_flight.is_empty() {
            let Ok(Some(outcome)) = tokio::time::timeout_at(end, self.outcomes.recv()).await else { return };
            let now = self.ports.clock.now();
            let mut events = Vec::new();
            let key = outcome.key.clone();
            // Whatever ends the run has been decided already.
            let _ = self.came_back(outcome, now, &mut events);
            self.snapshot.in_flight.remove(&key);
            for event in events {
                self.voice.say(now, event).await;
            }
        }
    }

    /// After a signal: nothing new but to undo our cordons of nodes that are not fully drained.
    async fn wind_down(&mut self) {
        self.let_acts_end().await;
        let actions: Vec<Planned> = self.snapshot.nodes.values().filter_map(uncordon).collect();
        let now = self.ports.clock.now();
        for planned in actions {
            let (key, what) = (planned.action.key(), words(&planned.action));
            self.snapshot.in_flight.insert(key, InFlight { since: now });
            self.voice.say(now, EventKind::Action { what, reason: planned.reason }).await;
            self.executor.begin(planned.action);
        }
        self.let_acts_end().await;
    }

    async fn finish(&mut self, verdict: Verdict, preview: &rules::Preview, settings: &Settings) -> Report {
        let now = self.ports.clock.now();
        let left: Vec<Text> = self.plan.blocks.iter().filter_map(rules::left_behind).collect();
        let mut report = self.voice.report(verdict, now, preview, self.policy, self.ports, left);
        let closed = async {
            history::close(&self.record, &report, now).await?;
            Ok::<_, Fault>(history::trim(&self.ports.cluster, &settings.namespace, &settings.cluster).await?)
        };
        let failed = match timeout(WIND_DOWN, closed).await {
            Ok(Ok(())) => None,
            Ok(Err(fault)) => Some(fault),
            Err(_) => Some(Fault::Deadline),
        };
        if let Some(fault) = failed {
            let message = format!("failed to write the summary: {fault}");
            self.voice.say(now, EventKind::Error { message, fatal: false }).await;
        }
        report.kube_requests = self.ports.cluster.requests();
        report
    }
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

/// Actions whose precondition only a fresh reading of the groups gives.
fn stands_on_groups(action: &Action) -> bool {
    matches!(action, Action::Terminate { .. } | Action::Resize { .. } | Action::SetMax { .. })
}

fn is_credentials(fault: &Fault) -> bool {
    match fault {
        Fault::Cloud(e) => e.kind == cloud::ErrorKind::Credentials,
        Fault::Cluster(e) => e.kind == cluster::ErrorKind::Unauthorized,
        _ => false,
    }
}

/// What refused an eviction; a call that got no answer is one that may be posted again.
fn refusal(fault: Fault) -> cluster::Error {
    match fault {
        Fault::Cluster(e) => e,
        other => cluster::Error {
            kind: cluster::ErrorKind::Unavailable,
            verb: "create pods/eviction".into(),
            message: other.to_string(),
            retry_after: None,
        },
    }
}

/// Undoes our cordon of a node that is not fully drained.
fn uncordon(node: &crate::model::Node) -> Option<Planned> {
    (NodeMark::parse(node.annotation(STATE)?)? == NodeMark::Draining).then(|| {
        let marks = [STATE, REASON, SINCE, CORDONED_BEFORE];
        let change = NodeChange {
            // Somebody else's cordon from before stays.
            unschedulable: node.annotation(CORDONED_BEFORE).is_none().then_some(false),
            labels: [ROTATION, EXCLUDE_FROM_LB].into_iter().map(|k| (k.into(), None)).collect(),
            annotations: marks.into_iter().map(|k| (k.into(), None)).collect(),
            add_taint: None,
            remove_taint: None,
        };
        let (name, uid) = (node.name.clone(), node.uid.clone());
        let action = Action::ChangeNode { node: name, uid, purpose: NodePurpose::Uncordon, change };
        Planned { action, reason: ActionReason::Interrupted }
    })
}

/// An action in words.
fn words(action: &Action) -> String {
    match action {
        Action::TagGroup { group, .. } => format!("tag {group}"),
        Action::UntagGroup { group, .. } => format!("take our tags off {group}"),
        Action::Suspend { group, .. } => format!("suspend processes of {group}"),
        Action::Resume { group, .. } => format!("resume processes of {group}"),
        Action::SetMax { group, from, to } => format!("change the maximum of {group} from {from} to {to}"),
        Action::Resize { group, from, to, .. } => format!("change desired of {group} from {from} to {to}"),
        Action::SettleLedger { group, .. } => format!("settle the surge's ledger of {group}"),
        Action::Protect { group, instances, protected } => {
            let how = if *protected { "protect" } else { "lift the protection of" };
            format!("{how} {} instances of {group}", instances.len())
        }
        Action::ChangeNode { node, purpose, .. } => {
            let what = match purpose {
                NodePurpose::Cordon => "cordon",
                NodePurpose::ExcludeFromLoadBalancers => "take out of load balancers",
                NodePurpose::MarkDrained => "mark as drained",
                NodePurpose::Skip => "give up",
                NodePurpose::Uncordon => "uncordon",
                NodePurpose::SoftTaint => "taint softly",
                NodePurpose::Adopt => "adopt",
                NodePurpose::MarkFailed => "mark as failed",
                NodePurpose::Release => "take our marks off",
            };
            format!("{what} {node}")
        }
        Action::Evict { pod, node, .. } => format!("evict {pod} from {node}"),
        Action::DeletePod { pod, node, .. } => format!("delete {pod} from {node}"),
        Action::Terminate { instance, decrement, .. } => {
            let how = if decrement.is_some() { " with decrement" } else { "" };
            format!("terminate {instance}{how}")
        }
        Action::Record { .. } => "write the rotation's record".to_owned(),
    }
}
