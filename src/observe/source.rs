//! Where the snapshot's facts come from: the cluster's watches, and AWS read at a pace of its own.
//!
//! Kubernetes is never polled. AWS has nothing to watch, so the groups are read (one call for all of them)
//! when something makes a reading worth its call, and at a slow beat otherwise; [`Pace`] holds the rules.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::cloud::{self, Cloud, GroupState, InstanceDetail};
use crate::cluster::{self, Cluster, Fact};
use crate::model::{Activity, GroupName, InstanceId, Target, Text};

/// Facts on their way to the loop. A first list of 15,000 pods passes through it a page at a time; the
/// watches wait while it is full.
const FACTS: usize = 1024;
/// Answers of AWS on their way to the loop; there are never more than a few questions open.
const ANSWERS: usize = 64;

/// What AWS, or a watch that could not begin, has to say.
#[derive(Debug)]
pub enum Answer {
    /// All groups, as of some time after `began`.
    Groups {
        /// The groups.
        states: Vec<GroupState>,
        /// When the call was begun: what was done after that may be missing from it.
        began: Instant,
    },
    /// What the groups' targets resolve to now.
    Targets(BTreeMap<GroupName, Target>),
    /// EC2's view of some instances.
    Details(Vec<InstanceDetail>),
    /// A group's activities.
    Activities(GroupName, Vec<Activity>),
    /// The reading of the groups failed.
    GroupsFailed(cloud::Error),
    /// Another call failed.
    Failed(cloud::Error),
    /// A watch was refused.
    WatchRefused(cluster::Error),
}

/// When to read the groups.
///
/// A reading is due soon after a Node of an unknown instance registers or a Node of ours disappears (later, both, where
/// another one is about to register), a little after desired was changed, at once when a destructive call needs fresh
/// values, and else at a beat: 30 s once after desired was changed, 60 s while something is expected, 120 s when
/// nothing is.
#[derive(Clone, Debug)]
pub struct Pace {
    due: Instant,
    /// When the last reading was begun.
    began: Option<Instant>,
    /// When the last one that came back with an answer was begun.
    read: Option<Instant>,
    /// Readings that began before it may lack something.
    not_before: Option<Instant>,
    resized: bool,
    expecting: bool,
    reading: bool,
    again: bool,
}

impl Pace {
    const FIRST_BEAT: Duration = Duration::from_secs(30);
    const EXPECTING_BEAT: Duration = Duration::from_secs(60);
    const IDLE_BEAT: Duration = Duration::from_secs(120);
    /// What happens within it shares a reading.
    const GATHER: Duration = Duration::from_millis(50);
    /// A Node that registered shows so much later, at most, where others are about to.
    const TOGETHER: Duration = Duration::from_secs(5);
    /// Readings that a watch asks for are at least so far apart.
    const APART: Duration = Duration::from_secs(1);
    /// That a node is gone may show so much later where another one is about to register.
    const WITH_OTHERS: Duration = Duration::from_secs(10);
    /// A launch shows in the group this long after desired was raised.
    const AFTER_RESIZE: Duration = Duration::from_secs(5);

    /// A pace whose first reading is due at once.
    pub fn new(now: Instant) -> Self {
        Self {
            due: now,
            began: None,
            read: None,
            not_before: None,
            resized: false,
            expecting: false,
            reading: false,
            again: false,
        }
    }

    /// When the next reading is due; `None` while one is under way.
    pub fn due(&self) -> Option<Instant> {
        (!self.reading).then_some(self.due)
    }

    /// Whether the groups were read, beginning no longer than `age` ago and not too early; that another reading is
    /// under way takes nothing from an answer that is here.
    pub fn is_fresh(&self, now: Instant, age: Duration) -> bool {
        let young = |began: Instant| now.saturating_duration_since(began) <= age;
        self.read.is_some_and(|b| young(b) && self.not_before.is_none_or(|from| b >= from))
    }

    /// Only a reading that begins at `from` or later shows all that a group has done by itself until now.
    pub fn not_before(&mut self, from: Instant) {
        self.not_before = Some(from);
    }

    /// A watch saw a Node go whose instance the groups say otherwise of.
    pub fn on_node(&mut self, now: Instant) {
        self.on_join(now, Self::GATHER);
    }

    /// A Node of an unknown instance registered. One reading shows all that do within `patience`, for which nothing
    /// waits for it.
    pub fn on_join(&mut self, now: Instant, patience: Duration) {
        let apart = self.began.map_or(now, |b| b + Self::APART);
        self.hasten(apart.max(now + patience.clamp(Self::GATHER, Self::TOGETHER)));
    }

    /// A Node went, and others are about to come: one reading shows both.
    pub fn on_leave(&mut self, now: Instant) {
        self.hasten(now + Self::WITH_OTHERS);
    }

    /// Desired was changed.
    pub fn on_resize(&mut self, now: Instant) {
        self.resized = true;
        self.hasten(now + Self::AFTER_RESIZE);
    }

    /// An instance was terminated: its group will launch another, or shrink.
    pub fn on_terminate(&mut self, now: Instant) {
        self.hasten(now + Self::EXPECTING_BEAT);
    }

    /// Fresh values are needed now; a reading that is under way will be fresh when it comes back.
    pub fn now(&mut self, now: Instant) {
        if !self.reading {
            self.hasten(self.not_before.map_or(now, |from| from.max(now)));
        }
    }

    /// Whether launches or terminations are expected to show.
    pub fn expect(&mut self, expecting: bool) {
        self.expecting = expecting;
    }

    /// A reading begins.
    pub fn begin(&mut self, now: Instant) {
        self.reading = true;
        self.again = false;
        self.began = Some(now);
    }

    /// The reading that was begun has come back.
    pub fn end(&mut self, now: Instant) {
        self.read = self.began;
        self.fail(now);
    }

    /// The reading that was begun has failed: what was read before it is as old as it was.
    pub fn fail(&mut self, now: Instant) {
        self.reading = false;
        let slow = if self.expecting { Self::EXPECTING_BEAT } else { Self::IDLE_BEAT };
        let beat = if std::mem::take(&mut self.resized) { Self::FIRST_BEAT } else { slow };
        if !self.again {
            self.due = now + beat;
        }
    }

    /// The reading that has come back is older than what is known: another is begun after `pause`.
    pub fn refuse(&mut self, now: Instant, pause: Duration) {
        self.read = None;
        self.hasten(now + pause);
    }

    fn hasten(&mut self, at: Instant) {
        // What is asked for while a reading is under way may be missing from it.
        if self.reading {
            self.due = if self.again { self.due.min(at) } else { at };
            self.again = true;
        } else {
            self.due = self.due.min(at);
        }
    }
}

/// Everything the loop hears.
pub struct Source<C> {
    cloud: Rc<C>,
    name: Text,
    facts: mpsc::Receiver<Fact>,
    answers: mpsc::Receiver<Answer>,
    tell: mpsc::Sender<Answer>,
    watches: AbortHandle,
    ended: bool,
    /// When to read the groups.
    pub pace: Pace,
}

impl<C> Drop for Source<C> {
    fn drop(&mut self) {
        self.watches.abort();
    }
}

/// What [`Source::hear`] came back with.
#[derive(Debug)]
pub enum Heard {
    /// Facts are in the buffer.
    Facts,
    /// AWS answered.
    Answer(Box<Answer>),
}

impl<C: Cloud + 'static> Source<C> {
    /// Starts every watch. Must be called inside a `LocalSet`.
    pub fn start<K: Cluster + 'static>(cloud: Rc<C>, cluster: Rc<K>, name: &Text) -> Self {
        let (sink, facts) = mpsc::channel(FACTS);
        let (tell, answers) = mpsc::channel(ANSWERS);
        let refused = tell.clone();
        let watches = tokio::task::spawn_local(async move {
            if let Err(e) = cluster.watch(sink).await {
                // The loop that would have read it is gone: nothing is lost.
                let _ = refused.send(Answer::WatchRefused(e)).await;
            }
        });
        let watches = watches.abort_handle();
        Self { cloud, name: name.clone(), facts, answers, tell, watches, ended: false, pace: Pace::new(Instant::now()) }
    }

    /// Waits for the next facts or answer; facts are appended to `buffer`, all that are ready up to its capacity.
    /// Cancel safe.
    pub async fn hear(&mut self, buffer: &mut Vec<Fact>) -> Heard {
        let room = buffer.capacity().saturating_sub(buffer.len()).max(1);
        loop {
            tokio::select! {
                biased;
                Some(answer) = self.answers.recv() => return Heard::Answer(Box::new(answer)),
                n = self.facts.recv_many(buffer, room), if !self.ended => {
                    if n > 0 {
                        return Heard::Facts;
                    }
                    // Every watch has ended; the reason comes as an answer.
                    self.ended = true;
                }
            }
        }
    }

    /// Takes what is ready without waiting.
    pub fn ready(&mut self, buffer: &mut Vec<Fact>) -> Option<Answer> {
        while buffer.len() < buffer.capacity().max(1) {
            let Ok(fact) = self.facts.try_recv() else { break };
            buffer.push(fact);
        }
        self.answers.try_recv().ok()
    }

    /// Reads the groups; the answer comes through [`Source::hear`].
    pub fn read_groups(&mut self) {
        let began = Instant::now();
        self.pace.begin(began);
        let (cloud, name, tell) = (self.cloud.clone(), self.name.clone(), self.tell.clone());
        tokio::task::spawn_local(async move {
            let answer = match cloud.groups(&name).await {
                Ok(states) => Answer::Groups { states, began },
                Err(e) => Answer::GroupsFailed(e),
            };
            // Nobody hears it once the loop has ended.
            let _ = tell.send(answer).await;
        });
    }

    /// Reads a group's activities since `since`.
    pub fn read_activities(&self, group: GroupName, since: Timestamp) {
        let cloud = self.cloud.clone();
        self.ask(async move { Ok(Answer::Activities(group.clone(), cloud.activities(&group, since).await?)) });
    }

    /// Resolves these targets, each distinct one once.
    pub fn read_targets(&self, targets: BTreeMap<GroupName, Target>) {
        let cloud = self.cloud.clone();
        self.ask(async move { Ok(Answer::Targets(resolve(&*cloud, targets).await?)) });
    }

    /// Reads what EC2 says of these instances.
    pub fn read_details(&self, ids: Vec<InstanceId>) {
        let cloud = self.cloud.clone();
        self.ask(async move { Ok(Answer::Details(cloud.instances(&ids).await?)) });
    }

    fn ask(&self, question: impl Future<Output = cloud::Result<Answer>> + 'static) {
        let tell = self.tell.clone();
        tokio::task::spawn_local(async move {
            let _ = tell.send(question.await.unwrap_or_else(Answer::Failed)).await;
        });
    }
}

/// Resolves targets, each distinct one once.
///
/// # Errors
/// What AWS said of the first that could not be resolved.
pub async fn resolve<C: Cloud>(
    cloud: &C,
    targets: BTreeMap<GroupName, Target>,
) -> cloud::Result<BTreeMap<GroupName, Target>> {
    let mut answers: BTreeMap<Target, Target> = BTreeMap::new();
    let mut resolved = BTreeMap::new();
    for (group, target) in targets {
        let answer = match answers.get(&target) {
            Some(answer) => answer.clone(),
            None => {
                let answer = cloud.resolve(&target).await?;
                answers.insert(target, answer.clone());
                answer
            }
        };
        resolved.insert(group, answer);
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    /// A pace that has just been read, at `start`.
    fn read(start: Instant) -> Pace {
        let mut pace = Pace::new(start);
        pace.begin(start);
        pace.end(start);
        pace
    }

    #[tokio::test(start_paused = true)]
    async fn the_beat_is_quick_once_after_a_resize_and_slow_when_nothing_is_expected() {
        let start = Instant::now();
        let mut pace = read(start);
        let mut now = start;
        let mut next = |pace: &mut Pace| {
            let due = pace.due().unwrap();
            let waited = (due - now).as_secs();
            now = due;
            pace.begin(now);
            pace.end(now);
            waited
        };
        assert_eq!(next(&mut pace), 120);
        pace.expect(true);
        pace.on_resize(pace.began.unwrap());
        assert_eq!([next(&mut pace), next(&mut pace), next(&mut pace)], [5, 30, 60]);
    }

    #[tokio::test(start_paused = true)]
    async fn nodes_that_come_together_share_a_reading() {
        let start = Instant::now();
        let mut pace = read(start);
        pace.on_node(after(start, 5000));
        pace.on_node(after(start, 5020));
        assert_eq!(pace.due(), Some(after(start, 5050)));
        pace.begin(after(start, 5050));
        pace.end(after(start, 5100));
        pace.on_node(after(start, 5200));
        assert_eq!(pace.due(), Some(after(start, 6050)), "readings are a second apart");
        pace.begin(after(start, 6050));
        pace.end(after(start, 6100));
        pace.on_join(after(start, 9000), Duration::from_secs(9));
        assert_eq!(pace.due(), Some(after(start, 14000)));
        pace.on_join(after(start, 10000), Duration::ZERO);
        assert_eq!(pace.due(), Some(after(start, 10050)), "the one that is waited for decides");
    }

    #[tokio::test(start_paused = true)]
    async fn what_happens_during_a_reading_asks_for_another() {
        let start = Instant::now();
        let mut pace = read(start);
        pace.begin(after(start, 1000));
        assert!(pace.is_fresh(after(start, 1001), Duration::from_secs(1) + Duration::from_millis(1)));
        assert!(!pace.is_fresh(after(start, 1001), Duration::from_secs(1)), "not before its answer is here");
        pace.on_node(after(start, 1010));
        pace.end(after(start, 1200));
        assert_eq!(pace.due(), Some(after(start, 2000)));
        assert!(pace.is_fresh(after(start, 1300), Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_that_failed_makes_nothing_fresh() {
        let start = Instant::now();
        let mut pace = read(start);
        pace.begin(after(start, 4000));
        pace.fail(after(start, 4100));
        assert!(pace.is_fresh(after(start, 5000), Duration::from_secs(5)));
        assert!(!pace.is_fresh(after(start, 5001), Duration::from_secs(5)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_that_began_too_early_is_not_fresh() {
        let start = Instant::now();
        let mut pace = read(start);
        pace.begin(after(start, 900));
        pace.not_before(after(start, 3000));
        pace.end(after(start, 1100));
        assert!(!pace.is_fresh(after(start, 1200), Duration::from_secs(5)));
        pace.now(after(start, 1200));
        assert_eq!(pace.due(), Some(after(start, 3000)), "no reading helps before");
        pace.begin(after(start, 3000));
        pace.end(after(start, 3100));
        assert!(pace.is_fresh(after(start, 3200), Duration::from_secs(5)));
    }
}
