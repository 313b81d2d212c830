//! Keeping the derived state up: what became dirty is derived anew, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{GroupName, InstanceId, NodeName, Target, Uid};
use crate::plan::candidates::{Judge, group_hold, has_moved};
use crate::plan::{ActionKey, BlockReason, filters};
use crate::policy::Policy;

use super::derived::{Derived, GroupView};
use super::snapshot::{RotationRecord, Snapshot};

/// What changed since the last refresh.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Dirty {
    /// Everything.
    pub(super) all: bool,
    /// The groups' own records.
    pub(super) groups: bool,
    /// Every node that is judged by the gate.
    pub(super) gates: bool,
    /// Budgets came, went, or changed what they cover.
    pub(super) budgets: bool,
    /// Instances.
    pub(super) instances: BTreeSet<InstanceId>,
    /// Nodes.
    pub(super) nodes: BTreeSet<NodeName>,
    /// Something that a plan reads straight from the records.
    pub(super) relevant: bool,
}

/// What the last refresh was made for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    policy: Option<Policy>,
    rotation: Option<RotationRecord>,
    in_flight: BTreeSet<ActionKey>,
    refusals: BTreeMap<Uid, u32>,
}

impl Snapshot {
    /// Derives anew what has changed; `false` where nothing that a plan reads has.
    ///
    /// A node that is not in hand costs nothing when its pods come and go, unless one of them could hold it.
    pub fn refresh(&mut self, policy: &Policy) -> bool {
        let mut dirty = std::mem::take(&mut self.dirty);
        if self.seen.policy.as_ref() != Some(policy) {
            self.seen.policy = Some(policy.clone());
            dirty.all = true;
        }
        self.compare_rotation(&mut dirty);
        self.compare_in_flight(&mut dirty);
        self.compare_refusals(&mut dirty);

        let mut derived = std::mem::take(&mut self.derived);
        if dirty.budgets {
            let hard = filters::hard_namespaces(self.budgets.values());
            dirty.all |= hard != derived.hard || !hard.is_empty();
            dirty.nodes.extend(derived.watched.iter().cloned());
        }
        if dirty.groups && !dirty.all {
            dirty.all = !self.update_groups(policy, &mut derived);
        }
        let relevant = if dirty.all {
            derived = self.derive(policy);
            true
        } else {
            self.update_members(policy, &mut derived, &dirty)
        };
        self.derived = derived;
        relevant || dirty.relevant || dirty.groups
    }

    /// What a plan reads, as of the last [`Snapshot::refresh`].
    pub fn derived(&self) -> &Derived {
        &self.derived
    }

    fn compare_rotation(&mut self, dirty: &mut Dirty) {
        if self.seen.rotation == self.rotation {
            return;
        }
        dirty.relevant = true;
        match (&self.seen.rotation, &self.rotation) {
            (Some(old), Some(new)) if old.started == new.started && old.targets == new.targets => {
                dirty.nodes.extend(changed_keys(&old.skipped, &new.skipped));
                dirty.instances.extend(changed_keys(&old.failed, &new.failed));
                dirty.instances.extend(changed_keys(&old.protection, &new.protection));
            }
            _ => dirty.all = true,
        }
        self.seen.rotation = self.rotation.clone();
    }

    fn compare_in_flight(&mut self, dirty: &mut Dirty) {
        let seen = &self.seen.in_flight;
        if seen.len() == self.in_flight.len() && seen.iter().all(|k| self.in_flight.contains_key(k)) {
            return;
        }
        dirty.relevant |= seen.iter().any(|k| !self.in_flight.contains_key(k));
        self.seen.in_flight = self.in_flight.keys().cloned().collect();
    }

    /// A refused eviction shows that what we know of its budget is out of date: until the budget is observed
    /// again, nothing is taken from it.
    fn compare_refusals(&mut self, dirty: &mut Dirty) {
        if self.refusals.is_empty() && self.seen.refusals.is_empty() {
            return;
        }
        let now: BTreeMap<Uid, u32> = self.refusals.iter().map(|(uid, r)| (uid.clone(), r.attempts)).collect();
        for uid in changed_keys(&self.seen.refusals, &now) {
            dirty.relevant = true;
            let Some(pod) = self.pods.get(&uid).filter(|_| now.contains_key(&uid)) else { continue };
            let over: Vec<_> = self.budgets_over(pod).map(|b| (b.key.clone(), b.allowed.max(0) as u32)).collect();
            for (budget, allowed) in over {
                let spent = self.spent.entry(budget).or_default();
                *spent = (*spent).max(allowed);
            }
        }
        self.seen.refusals = now;
    }

    /// The target that members of a group are compared with.
    fn fixed_target<'a>(&'a self, group: &GroupName, now: &'a Target) -> &'a Target {
        self.rotation.as_ref().and_then(|r| r.targets.get(group)).unwrap_or(now)
    }

    /// Brings the groups' own facts up to date; `false` where a change reaches all members.
    fn update_groups(&self, policy: &Policy, derived: &mut Derived) -> bool {
        let in_scope = |name: &GroupName| policy.scope.groups.is_empty() || policy.scope.groups.contains(name);
        if !self.groups.keys().filter(|g| in_scope(g)).eq(derived.groups.keys()) {
            return false;
        }
        for (name, view) in &mut derived.groups {
            let Some(group) = self.groups.get(name) else { return false };
            view.hold = group_hold(&self.cluster, group);
            view.target_moved = has_moved(self.fixed_target(name, &group.target), &group.target);
        }
        true
    }

    fn update_members(&self, policy: &Policy, derived: &mut Derived, dirty: &Dirty) -> bool {
        let mut ids = dirty.instances.clone();
        let instance_of = |name: &NodeName| self.nodes.get(name).and_then(|n| n.instance.clone());
        ids.extend(dirty.nodes.iter().filter_map(instance_of));
        if dirty.gates {
            ids.extend(derived.groups.values().flat_map(|g| g.young.iter().cloned()));
        }
        if ids.is_empty() {
            return false;
        }
        let hard = std::mem::take(&mut derived.hard);
        let judge = Judge { policy, snapshot: self, hard: &hard, started: self.started() };
        let mut changed = false;
        for id in &ids {
            let member = self.instances.get(id).and_then(|instance| {
                derived.groups.get(&instance.group)?;
                let group = self.groups.get(&instance.group)?;
                Some(judge.member(group, instance, |node| judge.node_hold(node)))
            });
            changed |= derived.put(id, member);
        }
        derived.hard = hard;
        changed
    }

    fn started(&self) -> jiff::Timestamp {
        self.rotation.as_ref().map(|r| r.started).or(self.groups_read).unwrap_or(jiff::Timestamp::MAX)
    }

    /// Derives everything.
    pub(super) fn derive(&self, policy: &Policy) -> Derived {
        let mut derived = Derived { hard: filters::hard_namespaces(self.budgets.values()), ..Derived::default() };
        for (name, group) in &self.groups {
            if policy.scope.groups.is_empty() || policy.scope.groups.contains(name) {
                let hold = group_hold(&self.cluster, group);
                let target_moved = has_moved(self.fixed_target(name, &group.target), &group.target);
                derived.groups.insert(name.clone(), GroupView { hold, target_moved, ..GroupView::default() });
            }
        }
        let hard = std::mem::take(&mut derived.hard);
        let judge = Judge { policy, snapshot: self, hard: &hard, started: self.started() };
        // One walk over all pods instead of a look-up for each pod of each node.
        let mut holds: BTreeMap<&NodeName, BlockReason> = BTreeMap::new();
        for pod in self.pods.values() {
            if let Some(node) = &pod.node
                && filters::may_hold(pod, &hard)
                && !holds.contains_key(node)
                && let Some(hold) = judge.pod_hold(pod)
            {
                holds.insert(node, hold);
            }
        }
        for instance in self.instances.values() {
            if derived.groups.contains_key(&instance.group)
                && let Some(group) = self.groups.get(&instance.group)
            {
                let member = judge.member(group, instance, |node| holds.get(&node.name).cloned());
                derived.put(&instance.id, Some(member));
            }
        }
        derived.hard = hard;
        derived
    }
}

fn changed_keys<K: Ord + Clone, V: PartialEq>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> Vec<K> {
    let gone = old.keys().filter(|k| !new.contains_key(k));
    let changed = new.iter().filter(|(k, v)| old.get(k) != Some(v)).map(|(k, _)| k);
    gone.chain(changed).cloned().collect()
}
