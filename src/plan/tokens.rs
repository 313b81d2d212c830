//! What each disruption budget still allows, so that no more is asked of it than it gives.

use std::collections::BTreeMap;

use super::{ActionKey, filters};
use crate::model::ObjectKey;
use crate::observe::{DrainPod, Snapshot};

/// Evictions that budgets still allow, as of their last observation, less what was asked of them since.
pub(super) struct Tokens {
    asked: BTreeMap<ObjectKey, u32>,
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
        Self { asked }
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

    /// Takes from each budget that counts this pod.
    pub(super) fn take(&mut self, snapshot: &Snapshot, pod: &DrainPod) {
        for key in &pod.budgets {
            if snapshot.budgets.get(key).is_some_and(|b| filters::needs_token(pod.ready, b)) {
                *self.asked.entry(key.clone()).or_default() += 1;
            }
        }
    }
}
