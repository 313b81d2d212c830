//! Our own writes in the snapshot, until readings that began after them have caught up.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::cloud::GroupState;
use crate::cluster::Fact;
use crate::execute::{Effect, Record};
use crate::model::{Lifecycle, Uid};
use crate::observe::Snapshot;

/// The Auto Scaling API may show a change a moment after it has confirmed it.
const LAG: Duration = Duration::from_secs(2);

/// What we have changed and a source may not show yet.
#[derive(Debug, Default)]
pub(super) struct OwnWrites {
    /// Changes of groups, with when they were confirmed.
    groups: Vec<(Instant, Effect)>,
    /// Pods whose eviction was accepted, with when.
    leaving: BTreeMap<Uid, Timestamp>,
}

impl OwnWrites {
    /// Takes an effect into the snapshot.
    pub(super) fn take<K>(&mut self, snapshot: &mut Snapshot, effect: Effect, record: &Record<K>, now: Timestamp) {
        match effect {
            Effect::Node(node) => snapshot.apply(Fact::Node(*node)),
            Effect::NodeGone(name) => snapshot.apply(Fact::NodeGone(name)),
            Effect::PodLeaving(uid) => {
                if let Some(pod) = snapshot.pods.get(&uid).filter(|p| p.deleting.is_none()) {
                    let mut pod = pod.clone();
                    pod.deleting = Some(now);
                    snapshot.apply(Fact::Pod(pod));
                    self.leaving.insert(uid, now);
                }
            }
            Effect::Groups(states, began) => self.read(snapshot, states, began, now),
            Effect::Record => snapshot.rotation = Some(record.current()),
            group => {
                show(snapshot, &group);
                self.groups.push((Instant::now(), group));
            }
        }
    }

    /// Takes a reading of the groups into the snapshot, and over it whatever it may have been too early for.
    pub(super) fn read(&mut self, snapshot: &mut Snapshot, states: Vec<GroupState>, began: Instant, now: Timestamp) {
        snapshot.apply_groups(states, now);
        self.groups.retain(|(at, _)| *at + LAG > began);
        for (_, effect) in &self.groups {
            show(snapshot, effect);
        }
    }

    /// Amends a fact that a watch saw before our own write reached it.
    pub(super) fn amend(&mut self, fact: &mut Fact) {
        match fact {
            Fact::Pod(pod) if pod.deleting.is_none() => pod.deleting = self.leaving.get(&pod.uid).copied(),
            Fact::PodGone(uid) => {
                self.leaving.remove(uid);
            }
            _ => {}
        }
    }
}

fn show(snapshot: &mut Snapshot, effect: &Effect) {
    match effect {
        Effect::Tags(group, tags) => snapshot.change_group(group, |g| {
            for (key, value) in tags {
                match value {
                    Some(value) => g.tags.insert(key.clone(), value.clone()),
                    None => g.tags.remove(key),
                };
            }
        }),
        Effect::Processes(group, processes, true) => {
            snapshot.change_group(group, |g| g.suspended.extend(processes.iter().cloned()));
        }
        Effect::Processes(group, processes, false) => {
            snapshot.change_group(group, |g| g.suspended.retain(|p| !processes.contains(p)));
        }
        Effect::Max(group, max) => snapshot.change_group(group, |g| g.max = *max),
        Effect::Desired(group, desired) => snapshot.change_group(group, |g| g.desired = *desired),
        Effect::Protection(ids, protected) => {
            for id in ids {
                snapshot.change_instance(id, |i| i.protected = *protected);
            }
        }
        Effect::Terminating(id) => snapshot.change_instance(id, |i| {
            if !i.lifecycle.is_leaving() {
                i.lifecycle = Lifecycle::Terminating;
            }
        }),
        Effect::Node(_) | Effect::NodeGone(_) | Effect::PodLeaving(_) | Effect::Groups(..) | Effect::Record => {}
    }
}
