//! Our own writes in the snapshot until readings have caught up, and readings that are older than what is known.
//!
//! The Auto Scaling API is eventually consistent: an answer may be older than its question. What no group ever does
//! gives such an answer away: an instance that was on its way out is in service again, desired is back at what we
//! changed it from, an instance is missing that nobody took out. It is refused, and the groups are read again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::cloud::GroupState;
use crate::cluster::Fact;
use crate::execute::{Effect, Record};
use crate::model::marks::TAG_SURGE;
use crate::model::{GroupName, Instance, InstanceId, Ledger, Lifecycle};
use crate::observe::Snapshot;
use crate::plan::Action;

/// The Auto Scaling API may show a change a moment after it has confirmed it.
pub(super) const LAG: Duration = Duration::from_secs(2);
/// Readings that show desired as it was before we changed it are refused for so long: then somebody has set it back.
const SET_BACK: Duration = Duration::from_secs(10);
/// Readings that show in service what has left are refused for so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// No reading is as old as this: what has not been shown for so long need not be remembered.
const FORGOTTEN: Duration = Duration::from_secs(15 * 60);

/// Our changes of groups that a source may not show yet, with when they were confirmed.
#[derive(Debug, Default)]
pub(super) struct OwnWrites {
    writes: Vec<Write>,
    /// Instances that were seen on their way out, or whose termination was accepted, with when that was last: none of
    /// them comes back.
    left: BTreeMap<InstanceId, Instant>,
    /// What we have changed desired from, until a reading shows that it was changed.
    sizes: BTreeMap<GroupName, BTreeSet<u32>>,
    doubt: Option<Doubt>,
}

/// A change of ours that was confirmed.
#[derive(Debug)]
struct Write {
    at: Instant,
    /// The same by the clock that the ledger's steps are dated by.
    dated: Timestamp,
    effect: Effect,
}

impl Write {
    /// Whether a reading that began then may not show it yet.
    fn may_be_missing(&self, began: Instant) -> bool {
        self.at + LAG > began
    }
}

/// Readings are being refused.
#[derive(Debug)]
struct Doubt {
    since: Instant,
    what: Contradiction,
}

/// How a reading contradicts what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Contradiction {
    /// An instance that has left is in service.
    Back(InstanceId),
    /// Desired is what we changed it from.
    Size(GroupName, u32),
    /// An instance is missing, or not in service any more, that was not seen on its way out.
    Missing(InstanceId),
}

/// What became of a reading.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// It was taken into the snapshot.
    Taken,
    /// It is older than what is known: the groups are to be read again.
    Refused,
    /// It was taken in but for what contradicts, which still does after all this time; says what.
    Disputed(String),
}

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
            // One that is refused here is followed by one of the loop's own.
            Effect::Groups(states, began) => _ = self.read(snapshot, states, began, now),
            Effect::Record => snapshot.rotation = Some(record.current().into()),
            group => {
                self.remember(action, &group);
                show(snapshot, &group, now);
                self.writes.push(Write { at: Instant::now(), dated: now, effect: group });
            }
        }
    }

    /// Whether the last readings contradict what is known: nothing is begun that counts on the groups' sizes.
    pub(super) fn in_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    fn remember(&mut self, action: &Action, effect: &Effect) {
        match effect {
            Effect::Terminating(id) => _ = self.left.insert(id.clone(), Instant::now()),
            Effect::Desired(group, to) => {
                let sizes = self.sizes.entry(group.clone()).or_default();
                match action {
                    Action::Resize { from, .. } => _ = sizes.insert(*from),
                    Action::Terminate { .. } => _ = sizes.insert(to.saturating_add(1)),
                    _ => {}
                }
                sizes.remove(to);
            }
            _ => {}
        }
    }

    /// Takes a reading of the groups into the snapshot, and over it whatever it may have been too early for; unless
    /// it is older than what is known.
    pub(super) fn read(
        &mut self,
        snapshot: &mut Snapshot,
        states: Vec<GroupState>,
        began: Instant,
        now: Timestamp,
    ) -> Reading {
        let mut reading = Reading::Taken;
        if let Some(what) = self.contradiction(snapshot, &states, began) {
            let since = self.doubt.as_ref().map_or(began, |doubt| doubt.since);
            let again = self.doubt.as_ref().is_some_and(|doubt| doubt.what == what && doubt.since + LAG <= began);
            match &what {
                // Two readings that are apart say so: somebody has detached it.
                Contradiction::Missing(_) if again => {}
                Contradiction::Back(id) if since + PATIENCE <= began => {
                    let waited = PATIENCE.as_secs();
                    let says = format!("the groups show {id} in service for {waited} s after it had left");
                    reading = Reading::Disputed(says);
                }
                Contradiction::Size(group, _) if since + SET_BACK <= began => _ = self.sizes.remove(group),
                _ => {
                    if self.doubt.as_ref().is_none_or(|doubt| doubt.what != what) {
                        self.doubt = Some(Doubt { since, what });
                    }
                    return Reading::Refused;
                }
            }
        }
        self.doubt = None;
        let shown: Vec<InstanceId> = self.note_leaving(&states, began);
        self.writes.retain(|write| write.may_be_missing(began));
        let writes = &self.writes;
        let recent =
            |group: &GroupName| writes.iter().any(|w| matches!(&w.effect, Effect::Desired(g, _) if g == group));
        self.sizes.retain(|group, _| recent(group));
        snapshot.apply_groups(states, now);
        for id in &shown {
            snapshot.instance_leaves(id, now);
        }
        for write in &self.writes {
            if !is_outdone(snapshot, write) {
                show(snapshot, &write.effect, now);
            }
        }
        reading
    }

    /// Remembers the instances that a reading shows on their way out; those it shows that have left before.
    fn note_leaving(&mut self, states: &[GroupState], began: Instant) -> Vec<InstanceId> {
        let mut shown = Vec::new();
        for instance in states.iter().flat_map(|s| &s.instances) {
            if instance.lifecycle.is_leaving() {
                self.left.insert(instance.id.clone(), began);
            } else if let Some(last) = self.left.get_mut(&instance.id) {
                *last = (*last).max(began);
                shown.push(instance.id.clone());
            }
        }
        self.left.retain(|_, last| began.saturating_duration_since(*last) < FORGOTTEN);
        shown
    }

    /// What a reading says that cannot be so.
    fn contradiction(&self, snapshot: &Snapshot, states: &[GroupState], began: Instant) -> Option<Contradiction> {
        let early =
            |effect: &dyn Fn(&Effect) -> bool| self.writes.iter().any(|w| w.may_be_missing(began) && effect(&w.effect));
        for state in states {
            let name = &state.group.name;
            // A warm pool that takes back what is scaled in may bring it into service again.
            let reuses = state.group.reuses;
            let back = |id: &InstanceId| {
                !reuses && self.left.contains_key(id) && !early(&|e| matches!(e, Effect::Terminating(i) if i == id))
            };
            let mut standing = state.instances.iter().filter(|i| i.lifecycle.counts_in_desired());
            if let Some(instance) = standing.find(|i| back(&i.id)) {
                return Some(Contradiction::Back(instance.id.clone()));
            }
            let desired = state.group.desired;
            let former = self.sizes.get(name).is_some_and(|sizes| sizes.contains(&desired));
            if former && !early(&|e| matches!(e, Effect::Desired(g, _) if g == name)) {
                return Some(Contradiction::Size(name.clone(), desired));
            }
        }
        self.missing(snapshot, states)
    }

    /// An instance that was in service, and that the reading does not show there although nobody has seen it leave.
    fn missing(&self, snapshot: &Snapshot, states: &[GroupState]) -> Option<Contradiction> {
        let mut shown: Vec<&Instance> = states.iter().flat_map(|s| &s.instances).collect();
        // Both are gone along side by side: a look-up for each of thousands would be most of a reading's time.
        shown.sort_by(|a, b| a.id.cmp(&b.id));
        let mut shown = shown.into_iter().peekable();
        let is_read = |group: &GroupName| states.iter().any(|s| s.group.name == *group);
        for (id, known) in &snapshot.instances {
            while shown.next_if(|i| i.id < *id).is_some() {}
            let here = shown.next_if(|i| i.id == *id);
            let gone = match here {
                None => known.lifecycle.counts_in_desired() && !self.left.contains_key(id) && is_read(&known.group),
                Some(here) => here.lifecycle == Lifecycle::Pending && known.lifecycle == Lifecycle::InService,
            };
            if gone {
                return Some(Contradiction::Missing(id.clone()));
            }
        }
        None
    }
}

/// Whether the reading shows a step in the ledger that was announced after a write of the ledger's tag: an action under
/// way writes it before it has an outcome.
fn is_outdone(snapshot: &Snapshot, write: &Write) -> bool {
    let Effect::Tags(group, tags) = &write.effect else { return false };
    let shown = snapshot.groups.get(group).and_then(|g| g.tags.get(TAG_SURGE)).and_then(|tag| Ledger::parse(tag).ok());
    let step = shown.and_then(|ledger| ledger.step);
    tags.contains_key(TAG_SURGE) && step.is_some_and(|step| step.at >= write.dated)
}

fn show(snapshot: &mut Snapshot, effect: &Effect, now: Timestamp) {
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
        Effect::Terminating(id) => snapshot.instance_leaves(id, now),
        Effect::Node(_)
        | Effect::NodeGone(_)
        | Effect::PodAccepted
        | Effect::PodLeaving(_)
        | Effect::Groups(..)
        | Effect::Record => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet as Set;

    use super::*;
    use crate::model::{LaunchSource, NodeGroup, Target};

    const START: Timestamp = Timestamp::UNIX_EPOCH;

    fn instance(id: &str, lifecycle: Lifecycle) -> Instance {
        Instance {
            id: id.into(),
            group: "g".into(),
            zone: "a".into(),
            instance_type: "m5".into(),
            lifecycle,
            healthy: true,
            protected: false,
            source: LaunchSource::Unknown,
            launched_at: None,
            image: None,
        }
    }

    /// The group with this desired capacity and these instances in service.
    fn shows(desired: u32, in_service: &[&str]) -> Vec<GroupState> {
        let group = NodeGroup {
            name: "g".into(),
            min: 0,
            max: 9,
            desired,
            zones: vec!["a".into()],
            target: Target::None,
            suspended: Set::new(),
            tags: BTreeMap::new(),
            new_instances_protected: false,
            managed_by: None,
            operator: None,
            refreshing: false,
            warm_pool: false,
            reuses: false,
            attachments: Set::new(),
            weighted: false,
            subnets: Set::new(),
        };
        let instances = in_service.iter().map(|id| instance(id, Lifecycle::InService)).collect();
        vec![GroupState { group, instances }]
    }

    /// A group of three that was read, and since when that is long ago.
    fn read() -> (OwnWrites, Snapshot, Instant) {
        let (mut own, mut snapshot, now) = (OwnWrites::default(), Snapshot::default(), Instant::now());
        assert_eq!(own.read(&mut snapshot, shows(3, &["i-1", "i-2", "i-3"]), now, START), Reading::Taken);
        (own, snapshot, now + Duration::from_secs(60))
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn what_was_terminated_does_not_come_back() {
        let (mut own, mut snapshot, later) = read();
        own.left.insert("i-1".into(), later);
        let stale = || shows(3, &["i-1", "i-2", "i-3"]);
        assert_eq!(own.read(&mut snapshot, stale(), later, START), Reading::Refused);
        assert!(own.in_doubt());
        assert_eq!(own.read(&mut snapshot, stale(), later + seconds(29), START), Reading::Refused);
        // Named at last, and still not believed.
        let disputed = own.read(&mut snapshot, stale(), later + seconds(30), START);
        assert!(matches!(disputed, Reading::Disputed(says) if says.contains("i-1")));
        assert!(snapshot.instances[&InstanceId::from("i-1")].lifecycle.is_leaving());
        assert_eq!(own.read(&mut snapshot, shows(3, &["i-2", "i-3"]), later + seconds(31), START), Reading::Taken);
        assert!(!own.in_doubt());
    }

    #[test]
    fn desired_is_not_back_at_what_it_was_changed_from_unless_it_stays_there() {
        let (mut own, mut snapshot, later) = read();
        own.sizes.insert("g".into(), Set::from([3]));
        let stale = || shows(3, &["i-1", "i-2", "i-3"]);
        assert_eq!(own.read(&mut snapshot, stale(), later, START), Reading::Refused);
        assert_eq!(own.read(&mut snapshot, stale(), later + seconds(9), START), Reading::Refused);
        assert_eq!(
            own.read(&mut snapshot, stale(), later + seconds(10), START),
            Reading::Taken,
            "somebody set it back"
        );
        own.sizes.insert("g".into(), Set::from([3]));
        let four = shows(4, &["i-1", "i-2", "i-3"]);
        assert_eq!(own.read(&mut snapshot, four, later + seconds(20), START), Reading::Taken);
        assert_eq!(own.read(&mut snapshot, stale(), later + seconds(90), START), Reading::Taken, "it was seen changed");
    }

    #[test]
    fn an_instance_that_nobody_took_out_is_missing_only_if_two_readings_say_so() {
        let (mut own, mut snapshot, later) = read();
        let without = || shows(3, &["i-1", "i-2"]);
        assert_eq!(own.read(&mut snapshot, without(), later, START), Reading::Refused);
        assert_eq!(own.read(&mut snapshot, without(), later + seconds(1), START), Reading::Refused);
        assert_eq!(own.read(&mut snapshot, without(), later + LAG, START), Reading::Taken);
    }

    #[test]
    fn a_step_announced_since_is_not_hidden_by_an_earlier_write_of_ours() {
        let (mut own, mut snapshot, later) = read();
        let tag = |ledger: &Ledger| BTreeMap::from([(TAG_SURGE.into(), Some(ledger.to_tag().into()))]);
        let effect = Effect::Tags("g".into(), tag(&Ledger::settled(2)));
        own.writes.push(Write { at: later, dated: START, effect });
        let step = crate::model::Step { from: 3, to: 2, instance: Some("i-1".into()), at: START };
        let announced = Ledger { step: Some(step), ..Ledger::settled(2) };
        let mut states = shows(2, &["i-1", "i-2", "i-3"]);
        states[0].group.tags.insert(TAG_SURGE.into(), announced.to_tag().into());
        assert_eq!(own.read(&mut snapshot, states, later, START), Reading::Taken);
        assert_eq!(*snapshot.groups[&GroupName::from("g")].tags[TAG_SURGE], announced.to_tag());
    }
}
