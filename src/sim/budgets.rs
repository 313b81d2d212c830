//! PodDisruptionBudgets: their controller, and the eviction that asks them.
//!
//! Rules of kubernetes pkg/controller/disruption/disruption.go (what is expected, desired and allowed) and
//! pkg/registry/core/pod/storage/eviction.go (what an eviction is answered, in which order).

use crate::cluster::{ErrorKind, Fact};
use crate::model::{Budget, ObjectKey, Phase, Selector, Uid};

use super::scenario::{BudgetSpec, Count};
use super::workloads::Origin;
use super::world::{Event, World};

/// A budget and its counters, kept up a pod at a time.
#[derive(Debug)]
pub(super) struct BudgetState {
    pub(super) record: Budget,
    spec: BudgetSpec,
    workload: usize,
    pods: i64,
    healthy: i64,
    sync_due: bool,
}

impl BudgetState {
    pub(super) fn new(key: ObjectKey, selector: Selector, spec: BudgetSpec, workload: usize) -> Self {
        let record = Budget {
            key,
            selector: Some(selector),
            allowed: 0,
            healthy: 0,
            desired: 0,
            expected: 0,
            observed: true,
            unhealthy_always: spec.unhealthy_always,
        };
        Self { record, spec, workload, pods: 0, healthy: 0, sync_due: false }
    }
}

/// Why an eviction is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) kind: ErrorKind,
    pub(super) message: String,
}

fn refusal(kind: ErrorKind, message: impl Into<String>) -> Refusal {
    Refusal { kind, message: message.into() }
}

impl World {
    /// Pods of a workload came or went, or became healthy or not.
    pub(super) fn count_pod(&mut self, workload: usize, pods: i64, healthy: i64) {
        for at in 0..self.workloads[workload].budgets.len() {
            let budget = self.workloads[workload].budgets[at];
            let state = &mut self.budgets[budget];
            state.pods += pods;
            state.healthy += healthy;
            if !state.sync_due && self.now > 0 {
                state.sync_due = true;
                let delay = self.random.control.micros(5.0, 40.0);
                self.after(delay, Event::BudgetSync(budget));
            }
        }
    }

    /// The budgets' controller writes a budget's status.
    pub(super) fn sync_budget(&mut self, at: usize) {
        let state = &mut self.budgets[at];
        state.sync_due = false;
        let scale = self.workloads[state.workload].spec.replicas;
        let (expected, desired) = match (&state.spec.min_available, &state.spec.max_unavailable) {
            (Some(Count::Number(min)), _) => (state.pods, i64::from(*min)),
            (Some(percent), _) => (i64::from(scale), i64::from(percent.of(scale))),
            (None, Some(max)) => (i64::from(scale), i64::from(scale.saturating_sub(max.of(scale)))),
            (None, None) => (state.pods, state.pods),
        };
        let allowed = if expected <= 0 { 0 } else { (state.healthy - desired).max(0) };
        let (allowed, healthy) = (allowed as i32, state.healthy as i32);
        let (expected, desired) = (expected as i32, desired as i32);
        let record = &mut state.record;
        let before = (record.allowed, record.healthy, record.expected, record.desired);
        if before != (allowed, healthy, expected, desired) {
            (record.allowed, record.healthy, record.expected, record.desired) = (allowed, healthy, expected, desired);
            self.tell_budget(at);
        }
    }

    fn tell_budget(&self, at: usize) {
        self.tell(|| Fact::Budget(self.budgets[at].record.clone()));
    }

    /// Answers an eviction as the API server does.
    pub(super) fn evict(&mut self, key: &ObjectKey, uid: &Uid) -> Result<(), Refusal> {
        let found = self.pod_index.get(key).copied();
        let pod = found.and_then(|id| Some((id, self.pods[id as usize].as_ref()?)));
        let Some((id, pod)) = pod else {
            return Err(refusal(ErrorKind::NotFound, format!("pods \"{}\" not found", key.name)));
        };
        if pod.record.uid != *uid {
            let message = format!(
                "Operation cannot be fulfilled on pods \"{}\": the UID in the precondition ({uid}) does not match the \
                 UID in record ({}). The object might have been deleted and then recreated",
                key.name, pod.record.uid
            );
            return Err(refusal(ErrorKind::Conflict, message));
        }
        let bypass = pod.record.deleting.is_some() || pod.record.is_finished() || pod.record.phase == Phase::Pending;
        let ready = pod.record.flags.ready;
        if let (Origin::Work { workload, .. }, false) = (pod.origin, bypass) {
            match self.workloads[workload].budgets.as_slice() {
                [] => {}
                [budget] => self.ask_budget(*budget, ready)?,
                _ => {
                    let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource \
                                   does not support.";
                    return Err(refusal(ErrorKind::SeveralBudgets, message));
                }
            }
        }
        self.judge_eviction(id);
        self.delete_pod(id, None);
        Ok(())
    }

    fn ask_budget(&mut self, at: usize, ready: bool) -> Result<(), Refusal> {
        let record = &mut self.budgets[at].record;
        if !ready && (record.unhealthy_always || (record.healthy >= record.desired && record.desired > 0)) {
            return Ok(());
        }
        let name = &record.key.name;
        if !record.observed {
            let message = format!(
                "Cannot evict pod as it would violate the pod's disruption budget. The disruption budget {name} is \
                 still being processed by the server."
            );
            return Err(refusal(ErrorKind::BudgetUnobserved, message));
        }
        if record.allowed < 0 {
            return Err(refusal(ErrorKind::BudgetRefused, "pdb disruptions allowed is negative"));
        }
        if record.allowed == 0 {
            let message = format!(
                "Cannot evict pod as it would violate the pod's disruption budget. The disruption budget {name} needs \
                 {} healthy pods and has {} currently",
                record.desired, record.healthy
            );
            return Err(refusal(ErrorKind::BudgetExhausted, message));
        }
        record.allowed -= 1;
        self.tell_budget(at);
        Ok(())
    }
}
