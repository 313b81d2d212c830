//! The judge: watches the world from inside and says what went against the safety promise.
//!
//! It reads the world's own state, never a snapshot, and shares no code with the planner or the checker. Each
//! rule below is the promise in other words:
//! - an instance that serves is terminated only when nothing evictable is left on it and its Node is cordoned;
//! - no group is taken below what the policy promises: its own desired less `unavailable`;
//! - no pod is deleted past a budget unless the policy says so;
//! - no instance on the target is rotated, none is terminated twice, none by a scale-in that nobody asked for;
//! - pods move once where they can;
//! - in the end everything is as it was.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::model::marks::{EXCLUDE_FROM_LB, EXCLUDED_SINCE, SCALE_DOWN_DISABLED, STATE, UNSCHEDULABLE_TAINT};
use crate::model::{ConditionStatus, InstanceId, Lifecycle, NodeGroup, NodeName};
use crate::policy::{Amount, Policy};

use super::workloads::Origin;
use super::world::{Micros, World};

/// What the judge keeps.
#[derive(Debug, Default)]
pub(super) struct Judge {
    violations: Vec<String>,
    counts: Counts,
    /// Groups as they were.
    groups: Vec<NodeGroup>,
    protected: BTreeMap<InstanceId, bool>,
    /// Functional nodes now, by group.
    functional: Vec<u32>,
    /// Others' changes of desired since.
    by_others: Vec<i64>,
    /// Of these, as far as readings have told fastnode: nobody can keep what nobody has told it.
    told: Vec<Told>,
    /// Instances whose termination was accepted.
    terminated: BTreeSet<usize>,
    /// What was promised when a node was cordoned.
    cordoned: BTreeMap<usize, i64>,
    unavailable: Option<Amount>,
    /// Current instances may be rotated: `--force`, `--older-than`, `--node`.
    any: bool,
    past_budgets: bool,
    /// Second moves of pods that had been put on an outdated node though a new one had room.
    badly: u64,
}

/// What fastnode was told of others' changes of a group's desired capacity, and when that changed.
#[derive(Clone, Debug, Default)]
struct Told {
    now: i64,
    before: i64,
    since: Micros,
}

/// What was decided so shortly after it was told stood on what had been told before.
const TOLD_LATELY: Micros = 3_000_000;

/// What the judge counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Terminations accepted.
    pub terminations: u32,
    /// Of instances that were there before.
    pub rotated: u32,
    /// Evictions accepted of workload pods.
    pub evictions: u64,
    /// Of pods that had been moved by an eviction before.
    pub moved_twice: u64,
    /// Of these, those that another functional node on the target, which stays, could have taken the first time.
    pub moved_twice_avoidably: u64,
    /// Pods that went down with their node, not evicted.
    pub killed: u64,
    /// Fewest functional nodes a group had, less what was promised; by group.
    pub least_margin: BTreeMap<String, i64>,
}

impl World {
    /// Remembers how everything is, and by which policy to judge.
    pub(super) fn judge_from_now(&mut self, policy: &Policy) {
        self.judge.groups = self.groups.iter().map(|g| g.record.clone()).collect();
        self.judge.by_others = vec![0; self.groups.len()];
        self.judge.told = vec![Told::default(); self.groups.len()];
        self.judge.protected =
            self.instances.iter().filter(|i| !i.gone).map(|i| (i.record.id.clone(), i.record.protected)).collect();
        self.judge_by(policy);
    }

    /// Judges by another policy from here on.
    pub(super) fn judge_by(&mut self, policy: &Policy) {
        self.judge.unavailable = Some(policy.unavailable);
        self.judge.any = policy.force || policy.older_than.is_some() || !policy.scope.nodes.is_empty();
        self.judge.past_budgets = policy.past_budgets;
    }

    fn violation(&mut self, what: String) {
        let at = self.now as f64 / 1e6;
        self.judge.violations.push(format!("at {at:.3} s: {what}"));
    }

    pub(super) fn judge_functional(&mut self, node: usize, functional: bool) {
        let group = self.nodes[node].group;
        if self.judge.functional.len() <= group {
            self.judge.functional.resize(self.groups.len().max(group + 1), 0);
        }
        let count = &mut self.judge.functional[group];
        *count = if functional { *count + 1 } else { count.saturating_sub(1) };
    }

    /// The groups have been told to fastnode as they are now.
    pub(super) fn judge_told(&mut self) {
        for (told, by) in self.judge.told.iter_mut().zip(&self.judge.by_others) {
            if told.now != *by {
                *told = Told { now: *by, before: told.now, since: self.now };
            }
        }
    }

    /// The fewest functional nodes a group may have: its own desired, others' changes included, less `unavailable`.
    /// What others add counts from when fastnode was told, what they take away at once.
    fn promised(&self, group: usize) -> i64 {
        let told = &self.judge.told[group];
        let lately = self.now < told.since + TOLD_LATELY;
        let known = if lately { told.now.min(told.before) } else { told.now };
        let own = i64::from(self.judge.groups[group].desired) + self.judge.by_others[group].min(known);
        let own = own.max(0);
        let size = u32::try_from(own).unwrap_or(u32::MAX);
        own - i64::from(self.judge.unavailable.map_or(0, |u| u.of_down(size)))
    }

    fn check_capacity(&mut self, node: usize, what: &str) {
        let group = self.nodes[node].group;
        let have = i64::from(self.judge.functional.get(group).copied().unwrap_or(0));
        // A node that was cordoned when there were enough is not missed because somebody wants more since.
        let promised = self.judge.cordoned.get(&node).map_or(i64::MAX, |at| *at).min(self.promised(group));
        let name = self.groups[group].record.name.to_string();
        let least = self.judge.counts.least_margin.entry(name.clone()).or_insert(i64::MAX);
        *least = (*least).min(have - promised);
        if have < promised {
            let node = self.nodes[node].record.name.clone();
            self.violation(format!(
                "{what} {node} left group {name} with {have} functional nodes, {promised} promised"
            ));
        }
    }

    /// A functional node was cordoned.
    pub(super) fn judge_cordon(&mut self, node: usize) {
        self.judge.cordoned.remove(&node);
        self.check_capacity(node, "cordoning");
        let promised = self.promised(self.nodes[node].group);
        self.judge.cordoned.insert(node, promised);
    }

    /// Workload pods on a node that an eviction would still have to move; those on their way out included.
    fn evictable_on(&self, node: usize) -> Vec<String> {
        let pods = self.nodes[node].pods.iter().filter_map(|p| self.pods[*p as usize].as_ref());
        pods.filter(|p| matches!(p.origin, Origin::Work { .. }) && !p.record.is_finished())
            .map(|p| p.record.key.to_string())
            .collect()
    }

    /// An instance's termination is about to be accepted.
    pub(super) fn judge_terminate(&mut self, at: usize, decrement: bool) {
        self.judge.counts.terminations += 1;
        self.judge.terminated.insert(at);
        let state = &self.instances[at];
        let (id, group, new) = (state.record.id.clone(), state.group, state.new);
        let outdated = !self.groups[group].is_current(state);
        let Some(node) = state.node.filter(|n| !self.nodes[*n].gone) else {
            if !new {
                self.violation(format!("{id}, which was there before and has no Node, was terminated"));
            }
            return;
        };
        let left = self.evictable_on(node);
        if let Some(pod) = left.first() {
            let count = left.len();
            self.violation(format!("{id} was terminated with {count} evictable pods left on it, {pod} among them"));
        }
        let record = &self.nodes[node].record;
        let failed = record.annotation(STATE) == Some("failed");
        let excluded = record.annotation(EXCLUDED_SINCE).filter(|_| record.labels.contains_key(EXCLUDE_FROM_LB));
        let out_since: Option<Timestamp> = excluded.and_then(|since| since.parse().ok());
        if !record.unschedulable {
            let name = record.name.clone();
            self.violation(format!("{id} was terminated while its Node {name} was open to pods"));
        }
        if let Some(delay) = self.groups[group].spec.deregistration_s.filter(|_| !failed) {
            let out = out_since.map(|since| self.timestamp().duration_since(since).as_secs());
            if out.is_none_or(|out| out < i64::from(delay)) {
                self.violation(format!(
                    "{id} was terminated {out:?} s after it left a target group that takes {delay} s"
                ));
            }
        }
        let given_back = new && decrement;
        if !(outdated || failed || given_back || self.judge.any) {
            self.violation(format!("{id}, which is on the target, was terminated"));
        }
        if !failed && !new {
            self.judge.counts.rotated += 1;
        }
        // Where others have scaled in since it was cordoned, their group takes nodes that served.
        if !(self.groups[group].shrunk_by_others && self.judge.cordoned.contains_key(&node)) {
            self.check_capacity(node, "terminating");
        }
    }

    /// A termination is refused because the instance is on its way out. Where its group took it by itself a moment
    /// ago, nobody could know.
    pub(super) fn judge_terminated_again(&mut self, at: usize) {
        if !self.judge.terminated.contains(&at) {
            return;
        }
        let id = self.instances[at].record.id.clone();
        self.violation(format!("{id} was terminated a second time"));
    }

    /// The group itself takes an instance.
    pub(super) fn judge_scale_in(&mut self, at: usize) {
        let state = &self.instances[at];
        if self.groups[state.group].shrunk_by_others {
            return;
        }
        let id = state.record.id.clone();
        let left = state.node.map_or(0, |n| self.evictable_on(n).len());
        let serves = state.node.is_some_and(|n| self.nodes[n].record.ready() == ConditionStatus::True);
        if serves {
            self.violation(format!("the group itself terminated {id} with {left} evictable pods on it"));
        }
    }

    pub(super) fn judge_scaled_by_others(&mut self, group: usize, by: i64) {
        self.judge.by_others[group] += by;
    }

    pub(super) fn judge_eviction(&mut self, pod: u32) {
        let Some(pod) = &self.pods[pod as usize] else { return };
        if pod.record.deleting.is_some() || matches!(pod.origin, Origin::Daemon(_)) {
            return;
        }
        let stays = |node: usize| !self.nodes[node].gone && !self.nodes[node].record.unschedulable;
        let (moves, badly, avoidably) = (pod.moves, pod.placed_badly, pod.alternative.is_some_and(stays));
        self.judge.counts.evictions += 1;
        if moves > 0 {
            self.judge.counts.moved_twice += 1;
            self.judge.counts.moved_twice_avoidably += u64::from(avoidably);
            self.judge.badly += u64::from(badly);
        }
    }

    /// A pod is deleted without asking its budget.
    pub(super) fn judge_delete(&mut self, pod: u32) {
        let Some(state) = &self.pods[pod as usize] else { return };
        if !self.judge.past_budgets && state.record.deleting.is_none() {
            let key = state.record.key.clone();
            self.violation(format!("pod {key} was deleted past its budgets, which the policy does not allow"));
        }
        self.judge_eviction(pod);
    }

    /// A Node object is deleted by a request.
    pub(super) fn judge_delete_node(&mut self, node: usize) {
        let instance = &self.instances[self.nodes[node].instance];
        if !instance.gone {
            let (name, id) = (self.nodes[node].record.name.clone(), instance.record.id.clone());
            self.violation(format!("Node {name} was deleted while its instance {id} was there"));
        }
    }

    /// What went against the promise so far.
    pub(super) fn verdict(&self) -> Vec<String> {
        let mut found = self.judge.violations.clone();
        let counts = &self.judge.counts;
        if self.judge.badly * 20 > counts.evictions {
            found.push(format!(
                "{} of {} evicted pods were put on an outdated node though a new one had room, and moved twice",
                self.judge.badly, counts.evictions
            ));
        }
        found
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.judge.counts
    }

    /// What is not as it was before: desired, maximum, tags, processes, protection, cordons, taints, marks, lock.
    pub(super) fn left_behind(&self) -> Vec<String> {
        let mut left = Vec::new();
        for (at, group) in self.groups.iter().enumerate() {
            let (was, is) = (&self.judge.groups[at], &group.record);
            let name = &is.name;
            let desired = i64::from(was.desired) + self.judge.by_others[at];
            if i64::from(is.desired) != desired {
                left.push(format!("group {name}: desired is {}, expected {desired}", is.desired));
            }
            if is.max != was.max {
                left.push(format!("group {name}: maximum is {}, was {}", is.max, was.max));
            }
            if is.tags != was.tags {
                let ours: Vec<_> = is.tags.keys().filter(|k| !was.tags.contains_key(*k)).collect();
                left.push(format!("group {name}: tags differ, {ours:?} are new"));
            }
            if is.suspended != was.suspended {
                left.push(format!("group {name}: {:?} are suspended, {:?} were", is.suspended, was.suspended));
            }
        }
        for instance in self.instances.iter().filter(|i| !i.gone && !i.record.lifecycle.is_leaving()) {
            let record = &instance.record;
            let own = self.groups[instance.group].record.new_instances_protected;
            let was = self.judge.protected.get(&record.id).copied().unwrap_or(own);
            if record.protected != was {
                left.push(format!("instance {}: protected is {}, was {was}", record.id, record.protected));
            }
        }
        for node in self.nodes.iter().filter(|n| !n.gone && !self.instances[n.instance].record.lifecycle.is_leaving()) {
            let record = &node.record;
            let ours =
                |key: &str| key.starts_with("fastnode.dev/") || [EXCLUDE_FROM_LB, SCALE_DOWN_DISABLED].contains(&key);
            let marks: Vec<_> =
                record.labels.keys().chain(record.annotations.keys()).filter(|k| ours(k)).map(|k| &**k).collect();
            let taints: Vec<_> = record
                .taints
                .iter()
                .filter(|t| ours(&t.key) || &*t.key == UNSCHEDULABLE_TAINT)
                .map(|t| &*t.key)
                .collect();
            if record.unschedulable || !marks.is_empty() || !taints.is_empty() {
                left.push(format!(
                    "Node {}: cordoned {}, marks {marks:?}, taints {taints:?}",
                    record.name, record.unschedulable
                ));
            }
        }
        for (key, lease) in &self.leases {
            if lease.holder.as_ref().is_some_and(|h| !h.is_empty()) {
                left.push(format!("Lease {key} is held by {:?}", lease.holder));
            }
        }
        left
    }

    /// Nodes of fastnode's groups that are not on the target.
    pub(super) fn outdated(&self) -> Vec<NodeName> {
        let nodes = self.nodes.iter().filter(|n| !n.gone);
        nodes
            .filter(|n| {
                let instance = &self.instances[n.instance];
                instance.record.lifecycle == Lifecycle::InService && !self.groups[n.group].is_current(instance)
            })
            .map(|n| n.record.name.clone())
            .collect()
    }
}
