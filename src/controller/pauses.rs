//! When what failed or was refused may be tried again.
//!
//! An action that failed keeps its place among those in flight until its pause is over, so that the planner
//! leaves it out; an eviction that was refused gets a [`Refusal`], with one pause for all pods of a budget.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::cluster::{Error, ErrorKind};
use crate::model::{ObjectKey, Uid};
use crate::observe::{Refusal, Snapshot};
use crate::plan::ActionKey;

const FIRST: f64 = 1.0;
const LONGEST: f64 = 30.0;
/// So long after it was due again, an action that fails has failed anew, not still.
const OCCASION: SignedDuration = SignedDuration::from_mins(5);
/// What the API server asks for while a budget has not been observed (eviction.go).
const UNOBSERVED_SECONDS: u32 = 10;

#[derive(Clone, Copy, Debug)]
struct Round {
    attempts: u32,
    since: Timestamp,
    until: Timestamp,
}

/// Pauses by action and by budget.
#[derive(Debug)]
pub(super) struct Pauses {
    failed: BTreeMap<ActionKey, Round>,
    due: BTreeSet<(Timestamp, ActionKey)>,
    budgets: BTreeMap<ObjectKey, Round>,
    jitter: ChaCha8Rng,
}

impl Pauses {
    /// No pauses; jitter by this seed.
    pub(super) fn seeded(seed: u64) -> Self {
        Self {
            failed: BTreeMap::new(),
            due: BTreeSet::new(),
            budgets: BTreeMap::new(),
            jitter: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// An action failed: so many times in a row now, the first time then. It is due again after its pause.
    pub(super) fn failed(&mut self, key: &ActionKey, now: Timestamp) -> (u32, Timestamp) {
        // One that was not tried again when it was due failed on another occasion.
        let before = self.failed.get(key).filter(|r| now.duration_since(r.until) < OCCASION);
        let (attempts, since) = before.map_or((1, now), |r| (r.attempts.saturating_add(1), r.since));
        let until = self.after(attempts, now);
        self.failed.insert(key.clone(), Round { attempts, since, until });
        self.due.insert((until, key.clone()));
        (attempts, since)
    }

    /// What fails has its whole time once more.
    pub(super) fn anew(&mut self, now: Timestamp) {
        self.failed.values_mut().for_each(|round| round.since = now);
    }

    /// An action succeeded.
    pub(super) fn succeeded(&mut self, key: &ActionKey) {
        if !self.failed.is_empty() {
            self.failed.remove(key);
        }
    }

    /// The actions whose pause is over.
    pub(super) fn over(&mut self, now: Timestamp) -> Vec<ActionKey> {
        let mut over = Vec::new();
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            over.extend(self.due.pop_first().map(|(_, key)| key));
        }
        over
    }

    /// The actions whose pause is not over, with when it will be.
    pub(super) fn pending(&self) -> impl Iterator<Item = (Timestamp, ActionKey)> + '_ {
        self.due.iter().cloned()
    }

    /// When the next pause is over.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Budgets that cover a pod whose eviction was accepted start over.
    pub(super) fn accepted(&mut self, snapshot: &Snapshot, pod: &Uid) {
        if self.budgets.is_empty() {
            return;
        }
        if let Some(pod) = snapshot.pods.get(pod) {
            for budget in snapshot.budgets_over(pod) {
                self.budgets.remove(&budget.key);
            }
        }
    }

    /// An eviction was refused: how often in a row, and when it may be posted again.
    pub(super) fn refused(&mut self, snapshot: &Snapshot, pod: &Uid, error: Error, now: Timestamp) -> Refusal {
        let attempts = snapshot.refusals.get(pod).map_or(1, |r| r.attempts.saturating_add(1));
        let retry_at = match error.kind {
            ErrorKind::BudgetExhausted => self.exhausted(snapshot, pod, attempts, now),
            ErrorKind::BudgetUnobserved => {
                let seconds = error.retry_after.unwrap_or(UNOBSERVED_SECONDS).max(1);
                now + SignedDuration::from_secs(seconds.into())
            }
            ErrorKind::SeveralBudgets => Timestamp::MAX,
            _ => {
                let asked = SignedDuration::from_secs(error.retry_after.unwrap_or(0).into());
                self.after(attempts, now).max(now + asked)
            }
        };
        Refusal { kind: error.kind, message: error.message, at: now, attempts, retry_at }
    }

    /// The pods of a budget share its pause, which grows once a round and not once a pod.
    fn exhausted(&mut self, snapshot: &Snapshot, pod: &Uid, attempts: u32, now: Timestamp) -> Timestamp {
        let budget = snapshot.pods.get(pod).and_then(|p| snapshot.budgets_over(p).next()).map(|b| b.key.clone());
        let Some(budget) = budget else { return self.after(attempts, now) };
        let round = match self.budgets.get(&budget) {
            Some(round) if now < round.until => *round,
            round => {
                let attempts = round.map_or(1, |r| r.attempts.saturating_add(1));
                Round { attempts, since: now, until: self.after(attempts, now) }
            }
        };
        self.budgets.insert(budget, round);
        round.until
    }

    /// 1 s, 2 s, … 30 s after `now`, and up to half of it more.
    fn after(&mut self, attempts: u32, now: Timestamp) -> Timestamp {
        let pause = (FIRST * 2f64.powi(attempts.saturating_sub(1).min(16) as i32)).min(LONGEST);
        let pause = pause * (1.0 + self.jitter.random_range(0.0..0.5));
        now + SignedDuration::from_secs_f64(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Fact;
    use crate::model::{Budget, Phase, Pod, PodFlags, Selector};

    fn snapshot(pods: &[&str]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.apply(Fact::Budget(Budget {
            key: ObjectKey::new("ns", "budget"),
            selector: Some(Selector::default()),
            allowed: 0,
            healthy: 2,
            desired: 2,
            expected: 3,
            observed: true,
            unhealthy_always: false,
        }));
        for name in pods {
            snapshot.apply(Fact::Pod(Pod {
                uid: (*name).into(),
                key: ObjectKey::new("ns", name),
                node: Some("n".into()),
                phase: Phase::Running,
                deleting: None,
                owner: None,
                labels: Default::default(),
                flags: PodFlags::default(),
                containers: vec![],
                revision: None,
                cpu: 0,
                memory: 0,
                tolerates_cordon: false,
                unschedulable: None,
                created: Timestamp::UNIX_EPOCH,
                scheduled: None,
                initialized: None,
                ready_since: None,
            }));
        }
        snapshot
    }

    fn error(kind: ErrorKind) -> Error {
        Error { kind, verb: "create pods/eviction".into(), message: String::new(), retry_after: None }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn the_pods_of_a_budget_share_its_pause_and_it_grows_once_a_round() {
        let snapshot = snapshot(&["a", "b"]);
        let mut pauses = Pauses::seeded(1);
        let mut refuse =
            |pod: &str, now| pauses.refused(&snapshot, &pod.into(), error(ErrorKind::BudgetExhausted), now).retry_at;
        let first = refuse("a", at(0));
        assert!(first >= at(1) && first < at(2), "{first}");
        assert_eq!(refuse("b", at(0)), first, "the same round");
        let second = refuse("a", first).duration_since(first).as_secs_f64();
        assert!((2.0..3.0).contains(&second), "{second}");
    }

    #[test]
    fn an_accepted_eviction_starts_its_budget_over() {
        let snapshot = snapshot(&["a"]);
        let mut pauses = Pauses::seeded(1);
        for round in 0..6 {
            pauses.refused(&snapshot, &"a".into(), error(ErrorKind::BudgetExhausted), at(round * 100));
        }
        pauses.accepted(&snapshot, &"a".into());
        let refusal = pauses.refused(&snapshot, &"a".into(), error(ErrorKind::BudgetExhausted), at(1000));
        assert!(refusal.retry_at < at(1002));
    }

    #[test]
    fn what_no_retry_helps_is_not_tried_again_and_the_server_is_taken_at_its_word() {
        let snapshot = snapshot(&["a"]);
        let mut pauses = Pauses::seeded(1);
        let several = pauses.refused(&snapshot, &"a".into(), error(ErrorKind::SeveralBudgets), at(0));
        assert_eq!(several.retry_at, Timestamp::MAX);
        let unobserved = Error { retry_after: Some(7), ..error(ErrorKind::BudgetUnobserved) };
        assert_eq!(pauses.refused(&snapshot, &"a".into(), unobserved, at(0)).retry_at, at(7));
        let throttled = Error { retry_after: Some(20), ..error(ErrorKind::Throttled) };
        assert!(pauses.refused(&snapshot, &"a".into(), throttled, at(0)).retry_at >= at(20));
    }

    #[test]
    fn a_failed_action_is_due_again_later_each_time_and_at_most_after_45_s() {
        let mut pauses = Pauses::seeded(1);
        let key = ActionKey::Record;
        let mut now = at(0);
        let mut lengths = vec![];
        for attempt in 1..=8 {
            assert_eq!(pauses.failed(&key, now).0, attempt);
            assert!(pauses.over(now).is_empty());
            let next = pauses.next().unwrap();
            lengths.push(next.duration_since(now).as_secs_f64());
            now = next;
            assert_eq!(pauses.over(now), std::slice::from_ref(&key));
        }
        assert!(lengths[0] < 1.5 && lengths.iter().all(|l| *l <= 45.0) && lengths[7] >= 30.0, "{lengths:?}");
        pauses.succeeded(&key);
        assert_eq!(pauses.failed(&key, now).0, 1);
    }
}
