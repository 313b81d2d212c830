//! What a plan reads, derived from the records and kept up as they change.
//!
//! A [`Member`] is what the planner knows of one instance; a [`GroupView`] is the sum of its members. A change
//! takes the old member out of its group's sums and puts the new one in, so that a pass costs what changed.
//! Nothing here depends on the time: whatever does is decided by the planner.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::model::{GroupName, InstanceId, NodeName, ObjectKey, Text, Uid, Zone};
use crate::plan::{BlockReason, Outdated};

use crate::readiness::Judgement;

/// The part an instance plays in the rotation.
#[derive(Clone, Debug, PartialEq)]
pub enum Role {
    /// Outdated, free to be drained.
    Candidate,
    /// Outdated, held back by this.
    Held(BlockReason),
    /// Outdated, given up by this rotation.
    Skipped,
    /// Outdated, cordoned by us.
    Draining,
    /// On the target, launched since the rotation began, not yet proven functional.
    Young,
    /// On the target, proven functional and marked as ours.
    Adopted,
    /// A replacement that failed its gate, cordoned by us.
    Failed,
    /// A replacement that is given back, cordoned by us.
    Returning,
    /// On the target since before the rotation, or out of scope.
    Current,
    /// In a lifecycle state that is not ours to change.
    Aside(Text),
    /// Being terminated.
    Leaving,
    /// In the warm pool; in no count.
    Warmed,
}

/// The state of [`Role::Aside`] in which an outdated instance is unfinished business.
pub(crate) const STANDBY: &str = "Standby";

/// Whether an instance shows that its group launches something else than the rotation's target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stray {
    /// It does not.
    No,
    /// Launched since the rotation began, and not on its target: worth to resolve the group's target anew.
    Other,
    /// From a newer version of the target's own template: the target has changed.
    Newer,
}

/// A pod that a drain has to see gone.
#[derive(Clone, Debug, PartialEq)]
pub struct DrainPod {
    /// Its UID.
    pub uid: Uid,
    /// Its name.
    pub key: ObjectKey,
    /// Evicted after those that are not.
    pub critical: bool,
    /// Its `Ready` condition is `True`.
    pub ready: bool,
    /// It is going already.
    pub going: bool,
    /// Why it is not evicted.
    pub hold: Option<BlockReason>,
    /// The budgets that cover it.
    pub budgets: Vec<ObjectKey>,
}

/// What is left on a node that is being drained.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drain {
    /// Pods, those to be evicted first in front.
    pub pods: Vec<DrainPod>,
    /// Volumes of theirs still attached.
    pub volumes: u32,
}

/// What the planner knows of an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its group.
    pub group: GroupName,
    /// Its zone.
    pub zone: Zone,
    /// Its Node.
    pub node: Option<NodeName>,
    /// Its part.
    pub role: Role,
    /// Why it is outdated.
    pub outdated: Vec<Outdated>,
    /// Its group counts it in desired.
    pub counted: bool,
    /// It is being launched.
    pub pending: bool,
    /// Its node counts as capacity; never true for young ones.
    pub serves: bool,
    /// Its node carries something of ours that the end takes off.
    pub marked: bool,
    /// Its node has the soft taint.
    pub tainted: bool,
    /// fastnode itself runs on its node.
    pub own: bool,
    /// When it was launched, or its Node created.
    pub born: Option<Timestamp>,
    /// The gate's judgement of a young one with a Node.
    pub judgement: Option<Judgement>,
    /// What is left on it, where it is being drained.
    pub drain: Option<Drain>,
    /// Whether it shows that the target has changed.
    pub stray: Stray,
}

/// The order in which candidates of a zone are drained: those that serve nobody first, fastnode's own node
/// last, else the oldest first.
pub(crate) type Rank = (bool, bool, Option<Timestamp>, InstanceId);

impl Member {
    pub(crate) fn rank(&self, id: &InstanceId) -> Rank {
        (self.own, self.serves, self.born, id.clone())
    }

    /// Whether it is among its zone's candidates.
    fn is_queued(&self) -> bool {
        self.role == Role::Candidate && self.counted
    }

    /// Whether it is a candidate that is to get the soft taint.
    fn is_untainted(&self) -> bool {
        self.role == Role::Candidate && !self.tainted
    }
}

/// Members by their instance; those of a group's part are the same records as the whole's.
pub type Members = BTreeMap<InstanceId, Arc<Member>>;

/// A zone of a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ZoneView {
    /// Candidates in the order in which they are drained.
    pub(crate) candidates: BTreeSet<Rank>,
    /// Nodes that count as capacity, young ones aside.
    pub serving: u32,
    /// Counted instances that will be there at the end: all but candidates and those being drained.
    pub staying: u32,
    /// Counted instances.
    pub counted: u32,
    /// Proven replacements.
    pub adopted: u32,
    /// Young ones that the gate has let pass, by since when: the soak runs from there.
    pub(crate) passed: BTreeSet<(Timestamp, InstanceId)>,
}

impl ZoneView {
    /// How many young ones the gate had let pass by `then`.
    pub(crate) fn passed_by(&self, then: Timestamp) -> u32 {
        let later = self.passed.iter().rev().take_while(|(since, _)| *since > then);
        (self.passed.len() - later.count()) as u32
    }
}

/// A group: the sums over its members.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupView {
    /// Why the whole group is left alone.
    pub hold: Option<BlockReason>,
    /// The group's resolved target is no longer the one the rotation fixed.
    pub target_moved: bool,
    /// See [`Stray::Other`].
    pub strays: Members,
    /// See [`Stray::Newer`].
    pub newer: Members,
    /// Its zones.
    pub zones: BTreeMap<Zone, ZoneView>,
    /// By the part they play.
    pub young: Members,
    /// See [`Role::Draining`].
    pub draining: Members,
    /// See [`Role::Failed`].
    pub failed: Members,
    /// See [`Role::Returning`].
    pub returning: Members,
    /// See [`Role::Held`].
    pub held: Members,
    /// See [`Role::Skipped`].
    pub skipped: Members,
    /// See [`Role::Aside`] and [`Role::Warmed`], the outdated ones.
    pub aside: Members,
    /// See [`Role::Leaving`].
    pub leaving: Members,
    /// Proven replacements, the newest last.
    pub adopted: BTreeSet<(Option<Timestamp>, InstanceId)>,
    /// Candidates without the soft taint.
    pub untainted: Members,
    /// Nodes that carry something of ours.
    pub marked: Members,
    /// Candidates.
    pub candidates: u32,
    /// See [`Role::Current`].
    pub current: u32,
    /// Counted instances.
    pub counted: u32,
    /// Of these, being launched.
    pub pending: u32,
    /// Nodes that count as capacity, young ones aside.
    pub serving: u32,
    /// Of these, on the target.
    pub serving_current: u32,
}

fn toggle<T: Ord>(set: &mut BTreeSet<T>, value: T, on: bool) {
    if on {
        set.insert(value);
    } else {
        set.remove(&value);
    }
}

fn enter(members: &mut Members, id: &InstanceId, member: &Arc<Member>, on: bool) {
    if on {
        members.insert(id.clone(), member.clone());
    } else {
        members.remove(id);
    }
}

fn count(number: &mut u32, on: bool) {
    if on {
        *number += 1;
    } else {
        *number = number.saturating_sub(1);
    }
}

impl GroupView {
    /// Whether somebody has put an outdated instance into Standby, from where it may come back as it is.
    pub(crate) fn has_outdated_in_standby(&self) -> bool {
        self.aside.values().any(|m| matches!(&m.role, Role::Aside(state) if &**state == STANDBY))
    }

    /// Puts a member into the sums (`on`), or takes out one that was put in.
    fn sum(&mut self, id: &InstanceId, member: &Arc<Member>, on: bool) {
        if member.is_untainted() {
            enter(&mut self.untainted, id, member, on);
        }
        if member.is_queued() {
            let zone = self.zones.entry(member.zone.clone()).or_default();
            toggle(&mut zone.candidates, member.rank(id), on);
        }
        self.tally(id, member, on);
    }

    /// All of [`GroupView::sum`] but the two sets that hold most of a big group.
    fn tally(&mut self, id: &InstanceId, member: &Arc<Member>, on: bool) {
        if member.marked {
            enter(&mut self.marked, id, member, on);
        }
        match member.stray {
            Stray::No => {}
            Stray::Other => enter(&mut self.strays, id, member, on),
            Stray::Newer => enter(&mut self.newer, id, member, on),
        }
        let set = match &member.role {
            Role::Held(_) => Some(&mut self.held),
            Role::Skipped => Some(&mut self.skipped),
            Role::Draining => Some(&mut self.draining),
            Role::Young => Some(&mut self.young),
            Role::Failed => Some(&mut self.failed),
            Role::Returning => Some(&mut self.returning),
            Role::Leaving => Some(&mut self.leaving),
            Role::Aside(_) | Role::Warmed if !member.outdated.is_empty() => Some(&mut self.aside),
            Role::Aside(_) | Role::Warmed => None,
            Role::Candidate => {
                count(&mut self.candidates, on);
                None
            }
            Role::Adopted => {
                toggle(&mut self.adopted, (member.born, id.clone()), on);
                None
            }
            Role::Current => {
                count(&mut self.current, on);
                None
            }
        };
        if let Some(set) = set {
            enter(set, id, member, on);
        }
        if !member.counted {
            return;
        }
        count(&mut self.counted, on);
        if member.pending {
            count(&mut self.pending, on);
        }
        let zone = self.zones.entry(member.zone.clone()).or_default();
        count(&mut zone.counted, on);
        match member.role {
            Role::Candidate | Role::Draining | Role::Failed | Role::Returning => {}
            _ => count(&mut zone.staying, on),
        }
        if member.role == Role::Adopted {
            count(&mut zone.adopted, on);
        }
        if let Some(since) = member.judgement.as_ref().and_then(|j| j.since) {
            toggle(&mut zone.passed, (since, id.clone()), on);
        }
        if member.serves {
            count(&mut zone.serving, on);
            count(&mut self.serving, on);
            if matches!(member.role, Role::Current | Role::Adopted) {
                count(&mut self.serving_current, on);
            }
        }
        if *zone == ZoneView::default() {
            self.zones.remove(&member.zone);
        }
    }
}

/// Everything derived.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Derived {
    /// Groups in scope.
    pub groups: BTreeMap<GroupName, GroupView>,
    /// Their instances.
    pub members: Members,
    /// Nodes whose every pod matters (failed, and being drained), with the members that name them.
    pub(crate) watched: BTreeMap<NodeName, u32>,
    /// Young nodes, of whose pods only the DaemonSets' matter, with the members that name them.
    pub(crate) gated: BTreeMap<NodeName, u32>,
}

impl Derived {
    /// A member.
    pub fn member(&self, id: &InstanceId) -> Option<&Member> {
        self.members.get(id).map(|member| &**member)
    }

    /// Members of a group that play one part.
    pub fn select<'a>(&self, members: &'a Members) -> impl Iterator<Item = (&'a InstanceId, &'a Member)> + use<'a> {
        members.iter().map(|(id, member)| (id, &**member))
    }

    /// Whether a budget decides about an eviction now.
    pub(crate) fn waits_on(&self, budget: &ObjectKey) -> bool {
        self.groups.values().any(|g| {
            [&g.draining, &g.failed, &g.returning].into_iter().any(|set| {
                self.select(set).any(|(_, m)| m.drain.iter().flat_map(|d| &d.pods).any(|p| p.budgets.contains(budget)))
            })
        })
    }

    /// Everything at once, from the groups in scope and their members in the order of their ids.
    pub(super) fn of(groups: BTreeMap<GroupName, GroupView>, members: Vec<(InstanceId, Arc<Member>)>) -> Self {
        let mut derived = Self { groups, ..Self::default() };
        // Sorted once and built at once, which costs a fraction of as many insertions.
        let mut queued: BTreeMap<(&GroupName, &Zone), Vec<Rank>> = BTreeMap::new();
        let mut untainted: BTreeMap<&GroupName, Vec<(InstanceId, Arc<Member>)>> = BTreeMap::new();
        for (id, member) in &members {
            if let Some(group) = derived.groups.get_mut(&member.group) {
                group.tally(id, member, true);
            }
            if member.is_queued() {
                queued.entry((&member.group, &member.zone)).or_default().push(member.rank(id));
            }
            if member.is_untainted() {
                untainted.entry(&member.group).or_default().push((id.clone(), member.clone()));
            }
            derived.watch(member, true);
        }
        for ((group, zone), ranks) in queued {
            if let Some(view) = derived.groups.get_mut(group) {
                view.zones.entry(zone.clone()).or_default().candidates = BTreeSet::from_iter(ranks);
            }
        }
        for (group, those) in untainted {
            if let Some(view) = derived.groups.get_mut(group) {
                view.untainted = Members::from_iter(those);
            }
        }
        derived.members = Members::from_iter(members);
        derived
    }

    /// Replaces a member, or drops it; whether anything changed.
    pub(super) fn put(&mut self, id: &InstanceId, new: Option<Member>) -> bool {
        if self.member(id) == new.as_ref() {
            return false;
        }
        if let Some(old) = self.members.remove(id) {
            if let Some(group) = self.groups.get_mut(&old.group) {
                group.sum(id, &old, false);
            }
            self.watch(&old, false);
        }
        if let Some(new) = new.map(Arc::new) {
            let Some(group) = self.groups.get_mut(&new.group) else { return true };
            group.sum(id, &new, true);
            self.watch(&new, true);
            self.members.insert(id.clone(), new);
        }
        true
    }

    fn watch(&mut self, member: &Member, on: bool) {
        let Some(node) = &member.node else { return };
        let nodes = match member.role {
            Role::Young => &mut self.gated,
            Role::Draining | Role::Failed | Role::Returning => &mut self.watched,
            _ => return,
        };
        let members = nodes.entry(node.clone()).or_default();
        count(members, on);
        if *members == 0 {
            nodes.remove(node);
        }
    }
}
