//! Our own writes in the snapshot, until readings that began after them have caught up.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::cloud::GroupState;
use crate::cluster::Fact;
use crate::execute::{Effect, Record};
use crate::model::Lifecycle;
use crate::observe::Snapshot;
use crate::plan::Action;

/// The Auto Scaling API may show a change a moment after it has confirmed it.
pub(super) const LAG: Duration = Duration::from_secs(2);

/// Our changes of groups that a source may not show yet, with when they were confirmed.
#[derive(Debug, Default)]
pub(super) struct OwnWrites(Vec<(Instant, Effect)>);

impl OwnWrites {
    /// Takes an effect of an action into the snapshot.
    pub(super) fn take<K>(
        &mut self,
        snapshot: &mut Snapshot,
        (action, effect): (&Action, Effect),
        record: &Record<K>,
        now: Timestamp,
    ) {
        match effect {
            Effect::Node(node) => snapshot.apply(Fact::Node(*node)),
            Effect::NodeGone(name) => snapshot.apply(Fact::NodeGone(name)),
            Effect::PodAccepted => snapshot.took_effect(action, now),
            Effect::PodLeaving(uid) => snapshot.pod_leaves(&uid, now),
            Effect::Groups(states, began) => self.read(snapshot, states, began, now),
            Effect::Record => snapshot.rotation = Some(record.current().into()),
            group => {
                show(snapshot, &group);
                self.0.push((Instant::now(), group));
            }
        }
    }

    /// Takes a reading of the groups into the snapshot, and over it whatever it may have been too early for.
    pub(super) fn read(&mut self, snapshot: &mut Snapshot, states: Vec<GroupState>, began: Instant, now: Timestamp) {
        snapshot.apply_groups(states, now);
        self.0.retain(|(at, _)| *at + LAG > began);
        for (_, effect) in &self.0 {
            show(snapshot, effect);
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
        Effect::Node(_)
        | Effect::NodeGone(_)
        | Effect::PodAccepted
        | Effect::PodLeaving(_)
        | Effect::Groups(..)
        | Effect::Record => {}
    }
}
