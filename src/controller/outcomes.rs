//! What came back from the executor, taken into the snapshot, the pauses and the events.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::engine::{CREDENTIALS, Ending, Engine};
use super::own::LAG;
use super::{Error, history, prepare};
use crate::cloud::{self, Cloud};
use crate::cluster::{self, Cluster};
use crate::event::EventKind;
use crate::execute::{Fault, Outcome};
use crate::model::{Process, Text, Uid};
use crate::plan::{Action, ActionKey, Verdict};
use crate::policy::OnStuck;

/// An action that has failed for so long, tried at most every 45 s, will not succeed: the rotation ends, and after as
/// long again what is left to put back is left to the next run. `--on-stuck wait` tries on.
const PERSISTENT: SignedDuration = SignedDuration::from_mins(15);

impl<C: Cloud + 'static, K: Cluster + 'static> Engine<'_, C, K> {
    /// Takes in an outcome.
    pub(super) fn came_back(
        &mut self,
        outcome: Outcome,
        now: Timestamp,
        events: &mut Vec<EventKind>,
    ) -> Option<Ending> {
        let Outcome { key, action, result, effects, .. } = outcome;
        self.again = true;
        if let (Action::Evict { pod, uid, node }, Ok(())) = (&action, &result) {
            self.pauses.accepted(&self.snapshot, uid);
            let moved_before = self.moved_before(uid);
            let record = self.snapshot.pods.get(uid);
            events.push(EventKind::PodEvicted { pod: pod.clone(), node: node.clone(), moved_before });
            match record {
                Some(pod) => self.changes.evicted(pod, node),
                // One that had not been started is gone before its eviction has been answered.
                None => events.push(EventKind::PodGone { pod: pod.clone(), node: node.clone() }),
            }
        }
        for effect in effects {
            self.own.take(&mut self.snapshot, (&action, effect), &self.record, now);
        }
        if self.own.in_doubt() {
            self.source.pace.refuse(Instant::now(), LAG);
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
                if error.kind == cluster::ErrorKind::Unavailable {
                    self.changes.unanswered(uid, pod, node);
                    let moved_before = self.moved_before(uid);
                    let pod = self.snapshot.pods.get(uid);
                    if pod.is_none_or(|pod| pod.deleting.is_some()) {
                        events.extend(self.changes.pod_goes(uid, moved_before));
                        if pod.is_none() {
                            events.extend(self.changes.pod_gone(uid));
                        }
                        return None;
                    }
                }
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

    fn blocked_by(&self, uid: &Uid, error: &cluster::Error) -> Text {
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
        let (attempts, since) = self.pauses.failed(key, now);
        if fault.is_access() && (attempts >= CREDENTIALS || !is_credentials(&fault)) {
            return Some(Ending::Failed(history::access(fault, "act")));
        }
        // Told once, and again each time the attempts have doubled.
        if attempts.is_power_of_two() {
            let message = format!("failed to {}: {fault}", action);
            events.push(EventKind::Error { message, fatal: false });
        }
        let failing = now.duration_since(since);
        if failing >= PERSISTENT && self.policy.on_stuck != OnStuck::Wait {
            if self.wanted.is_some() || self.record.current().ending.is_some() {
                return Some(Ending::Failed(Error::Stuck { what: action.to_string(), fault: fault.to_string() }));
            }
            let minutes = failing.as_mins();
            let message = format!("failed to {action} for {minutes} min, so the rotation ends: {fault}");
            events.push(EventKind::Error { message, fatal: false });
            self.wanted = Some(Verdict::Stuck);
            self.pauses.anew(now);
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
            // Until a moment ago the group may have launched: what is not seen of it must not be shrunk away.
            Action::Suspend { processes, .. } if processes.iter().any(|p| &*p.0 == Process::LAUNCH) => {
                self.source.pace.not_before(Instant::now() + LAG);
            }
            _ => {}
        }
    }
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
