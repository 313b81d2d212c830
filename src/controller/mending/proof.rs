//! What proves a fix: the next new node, and where a restart fails that, the failed one that comes up all the same.

use jiff::{SignedDuration, Timestamp};

use super::{Care, New};
use crate::cloud::Cloud;
use crate::cluster::Cluster;
use crate::controller::engine::Engine;
use crate::controller::surgeon::Fixes;
use crate::event::EventKind;
use crate::fixes::{self, Start, judge_all};
use crate::model::Node;
use crate::observe::Snapshot;
use crate::policy::Policy;
use crate::readiness::diagnosis::Finding;
use crate::readiness::{self, restarts_on};

/// How long a failed replacement may take to come up all the same, from its Node's creation: the slowest of those that
/// restart until what they need is there do in half of it.
pub(super) const COMES_UP: SignedDuration = SignedDuration::from_mins(10);

impl Care {
    /// How nodes started before a fix: the new ones since the last that is proved, else those there were before.
    pub(super) fn before(&self, finding: &Finding, policy: &Policy, snapshot: &Snapshot) -> Vec<Start> {
        if !self.starts.is_empty() {
            return self.starts.clone();
        }
        let set = finding.daemonset.as_ref();
        let there = set.and_then(|set| fixes::standing::baseline(policy, snapshot, set));
        // Old nodes without the fault say nothing of new ones that have it.
        there.map(|(start, _)| start).filter(|start| start.restarts > 0).into_iter().collect()
    }
}

impl<C: Cloud + 'static, K: Cluster + 'static> Engine<'_, C, K> {
    /// Has what is applied and not proved yet judged by a node that started with all of it.
    pub(super) fn judge_pending(&mut self, start: Start, created: Timestamp, events: &mut Vec<EventKind>) {
        let Some(care) = &mut self.care else { return };
        let seen = care.pending.iter().all(|p| created >= p.since);
        let judged = if seen { std::mem::take(&mut care.pending) } else { Vec::new() };
        let befores: Vec<_> = judged.iter().map(|p| (p.before.clone(), care.surgeon.rule(&p.fix))).collect();
        let effects = judge_all(&befores, start);
        if effects.iter().any(|effect| effect.helped) {
            care.starts.clear();
        }
        for (pending, effect) in judged.into_iter().zip(effects) {
            self.proved(pending, effect, events);
        }
    }

    /// Has a failed replacement stay that may come up all the same, where fixes are applied: it tells how nodes start,
    /// with the last fix or before the first. One at a time.
    pub(super) fn keep(&mut self, new: &New, now: Timestamp) {
        let applies = self.care.as_ref().is_some_and(|care| care.surgeon.fixes() == Fixes::Apply);
        let node = new.about.node.as_ref().and_then(|name| self.snapshot.nodes.get(name));
        if let Some(node) = node.filter(|_| applies && self.snapshot.mending.watched.is_empty()) {
            let until = comes_up_by(self.policy, &self.snapshot, node, now);
            self.snapshot.mending.watched.extend(until.map(|until| (new.id.clone(), until)));
        }
    }

    /// Whether a failed replacement that has been looked into has come up all the same. If so it is measured, and what
    /// was applied before is judged by it; if it does not, what was found on it is mended all the same.
    pub(super) fn watch(&mut self, now: Timestamp, events: &mut Vec<EventKind>) {
        let Some(care) = &self.care else { return };
        let known = care.pending.is_empty() && !care.starts.is_empty();
        let patient = care.patient.clone();
        let until = patient.as_ref().and_then(|id| self.snapshot.mending.watched.get(id)).filter(|until| **until > now);
        let node = patient.as_ref().and_then(|id| self.snapshot.node_of(id));
        let start = node.and_then(|node| {
            let up = readiness::functional_but_for_restarts(self.policy, &self.snapshot, node)?;
            let seconds = up.duration_since(node.created).as_secs_f64();
            Some((Start { seconds, restarts: restarts_on(self.policy, &self.snapshot, node) }, node.created))
        });
        if start.is_none() && !known && node.is_some() && until.is_some() {
            return;
        }
        if let Some((start, created)) = start {
            // Without anything to compare it with, one that failed proves nothing: a later one shows both.
            if care.pending.iter().all(|pending| !pending.before.is_empty()) {
                self.judge_pending(start, created, events);
            }
            if let Some(care) = &mut self.care {
                care.starts.push(start);
            }
        }
        self.again = true;
        let Some(care) = &mut self.care else { return };
        care.watches = false;
        if care.vain.is_empty() {
            self.treat(now);
        } else {
            // What else was found is mended once it is taken back.
            self.go_on(now);
        }
    }
}

/// By when a failed replacement comes up all the same; `None` where what it failed for is no restart, or it has had
/// its time.
pub(super) fn comes_up_by(policy: &Policy, snapshot: &Snapshot, node: &Node, now: Timestamp) -> Option<Timestamp> {
    let until = node.created.checked_add(COMES_UP).ok().filter(|until| *until > now)?;
    readiness::judge(policy, snapshot, node).unmet.iter().any(|unmet| unmet.lasting).then_some(until)
}
