//! What each disruption budget still allows, so that no more is asked of it than it gives.

use std::collections::BTreeMap;

use super::{ActionKey, filters};
use crate::model::{Budget, ObjectKey, Pod};
use crate::observe::{DrainPod, Snapshot};

/// Evictions that budgets still allow, as of their last observation, less what was asked of them since.
pub(super) struct Tokens {
    asked: BTreeMap<ObjectKey, u32>,
    /// Evictions to come from nodes that are only just being cordoned.
    promised: BTreeMap<ObjectKey, u32>,
}

impl Tokens {
    /// Counts the evictions in flight against their budgets.
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let mut asked = BTreeMap::new();
        let derived = snapshot.derived();
        for group in derived.groups.values() {
            for set in [&group.draining, &group.failed, &group.returning] {
                for pod in derived.select(set).filter_map(|(_, m)| m.drain.as_ref()).flat_map(|d| &d.pods) {
                    if !pod.budgets.is_empty() && snapshot.in_flight.contains_key(&ActionKey::Pod(pod.uid.clone())) {
                        for budget in &pod.budgets {
                            *asked.entry(budget.clone()).or_default() += 1;
                        }
                    }
                }
            }
        }
        Self { asked, promised: BTreeMap::new() }
    }

    /// The budget that refuses this pod now, if one does.
    pub(super) fn refusing<'p>(&self, snapshot: &Snapshot, pod: &'p DrainPod) -> Option<&'p ObjectKey> {
        pod.budgets.iter().find(|key| {
            snapshot.budgets.get(*key).is_some_and(|budget| {
                filters::needs_token(pod.ready, budget) && (!budget.observed || self.left(snapshot, key) <= 0)
            })
        })
    }

    /// How many more evictions a budget allows.
    pub(super) fn left(&self, snapshot: &Snapshot, key: &ObjectKey) -> i64 {
        let allowed = snapshot.budgets.get(key).map_or(0, |b| i64::from(b.allowed));
        let spent = snapshot.spent.get(key).copied().unwrap_or(0) + self.asked.get(key).copied().unwrap_or(0);
        allowed - i64::from(spent)
    }

    /// Whether a pod that this budget counts, were its node chosen now, would wait for it: for what was asked of it, or
    /// for what nodes chosen before will ask.
    pub(super) fn would_wait(&self, snapshot: &Snapshot, budget: &Budget) -> bool {
        let promised = self.promised.get(&budget.key).copied().unwrap_or(0);
        !budget.observed || self.left(snapshot, &budget.key) <= i64::from(promised)
    }

    /// Counts the eviction of a pod whose node was chosen.
    pub(super) fn promise(&mut self, snapshot: &Snapshot, pod: &Pod) {
        for budget in counted(snapshot, pod) {
            *self.promised.entry(budget.key.clone()).or_default() += 1;
        }
    }

    /// Takes from each budget that counts this pod.
    pub(super) fn take(&mut self, snapshot: &Snapshot, pod: &DrainPod) {
        for key in &pod.budgets {
            if snapshot.budgets.get(key).is_some_and(|b| filters::needs_token(pod.ready, b)) {
                *self.asked.entry(key.clone()).or_default() += 1;
            }
        }
    }
}

/// The budgets that an eviction of this pod takes from.
pub(super) fn counted<'a>(snapshot: &'a Snapshot, pod: &'a Pod) -> impl Iterator<Item = &'a Budget> {
    let evicted = !pod.is_daemon() && !pod.flags.mirror && !filters::bypasses_budgets(pod);
    let over = evicted.then(|| snapshot.budgets_over(pod)).into_iter().flatten();
    over.filter(|budget| filters::needs_token(pod.flags.ready, budget))
}
