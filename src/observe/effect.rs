//! What an action that succeeded has changed, taken into the snapshot at once.
//!
//! The next reading shows it too; until then nobody should plan the same again. What an action changes in
//! Kubernetes comes back with its answer (a Node) or with the watches (pods).

use std::sync::Arc;

use jiff::Timestamp;

use crate::model::{GroupName, InstanceId, Ledger, Lifecycle, NodeGroup, Text, Uid, marks};
use crate::plan::Action;

use super::Snapshot;

impl Snapshot {
    /// Takes in that `action` was done, as of `now`. Not for actions whose outcome is unknown.
    pub fn took_effect(&mut self, action: &Action, now: Timestamp) {
        match action {
            Action::TagGroup { group, tags } => self.change_group(group, |g| g.tags.extend(tags.clone())),
            Action::UntagGroup { group, keys } => self.change_group(group, |g| g.tags.retain(|k, _| !keys.contains(k))),
            Action::Suspend { group, processes } => {
                self.change_group(group, |g| g.suspended.extend(processes.iter().cloned()));
            }
            Action::Resume { group, processes } => {
                self.change_group(group, |g| g.suspended.retain(|p| !processes.contains(p)));
            }
            Action::SetMax { group, to, .. } => self.change_group(group, |g| g.max = *to),
            Action::Resize { group, to, after, .. } => self.change_group(group, |g| {
                g.desired = *to;
                g.tags.insert(marks::TAG_SURGE.into(), after.to_tag().into());
            }),
            Action::SettleLedger { group, ledger } => self.write_ledger(group, ledger),
            Action::Protect { instances, protected, .. } => {
                for id in instances {
                    self.change_instance(id, |i| i.protected = *protected);
                }
            }
            Action::Terminate { instance, group, decrement, .. } => {
                self.instance_leaves(instance, now);
                if let Some(ledgers) = decrement {
                    self.change_group(group, |g| g.desired = g.desired.saturating_sub(1));
                    self.write_ledger(group, &ledgers.1);
                }
            }
            Action::Evict { uid, .. } => {
                let Some(pod) = self.pods.get(uid) else { return };
                let over: Vec<_> = self.budgets_over(pod).map(|b| b.key.clone()).collect();
                for budget in over {
                    *self.spent.entry(budget).or_default() += 1;
                }
                if pod.deleting.is_none() {
                    self.accepted.insert(uid.clone(), now);
                }
                self.refusals.remove(uid);
                self.dirty.relevant = true;
            }
            Action::DeletePod { uid, .. } => self.pod_leaves(uid, now),
            Action::Record { skipped, failed, protection, targets, ending } => {
                let Some(record) = self.rotation.as_mut().map(Arc::make_mut) else { return };
                let text = |(k, v): (&_, &Text)| (Clone::clone(k), v.clone());
                record.skipped.extend(skipped.iter().map(text));
                record.failed.extend(failed.iter().map(|(k, v)| (k.clone(), v.clone())));
                record.protection.extend(protection.iter().map(|(k, v)| (k.clone(), *v)));
                record.targets.extend(targets.iter().map(|(k, v)| (k.clone(), v.clone())));
                record.ending = record.ending.or(*ending);
            }
            Action::ChangeNode { .. } => self.dirty.relevant = true,
        }
    }

    /// Takes in that a pod goes, or is gone, though its watch does not show it yet.
    pub fn pod_leaves(&mut self, uid: &Uid, now: Timestamp) {
        if self.pods.get(uid).is_some_and(|p| p.deleting.is_none()) {
            self.accepted.insert(uid.clone(), now);
        }
        self.refusals.remove(uid);
        self.dirty.relevant = true;
    }

    /// Takes in that an instance is on its way out, though its group does not show it yet.
    pub fn instance_leaves(&mut self, id: &InstanceId, now: Timestamp) {
        if self.instances.get(id).is_some_and(|i| !i.lifecycle.is_leaving()) {
            self.leaving_since.entry(id.clone()).or_insert(now);
            self.change_instance(id, |i| i.lifecycle = Lifecycle::Terminating);
        }
    }

    fn write_ledger(&mut self, group: &GroupName, ledger: &Ledger) {
        self.change_group(group, |g| {
            g.tags.insert(marks::TAG_SURGE.into(), ledger.to_tag().into());
        });
    }

    /// Changes a group, by what our own call is known to have done.
    pub fn change_group(&mut self, name: &GroupName, change: impl FnOnce(&mut NodeGroup)) {
        if let Some(group) = self.groups.get_mut(name) {
            change(group);
            self.dirty.groups = true;
        }
    }

    /// Changes an instance, by what our own call is known to have done.
    pub fn change_instance(&mut self, id: &InstanceId, change: impl FnOnce(&mut crate::model::Instance)) {
        if let Some(instance) = self.instances.get_mut(id) {
            change(instance);
            self.dirty.instances.insert(id.clone());
        }
    }
}
