//! The planner: `plan(&Policy, &Snapshot, now) -> Plan`, pure and synchronous.
//!
//! No IO, no clock, no client. Every [`Action`] is complete and carries its reason; whatever is *not* done
//! yet has a typed [`WaitReason`] or [`BlockReason`] with the numbers in it.

mod action;
mod canary;
pub(crate) mod candidates;
mod changes;
mod deadlines;
mod deregister;
mod drain;
mod ending;
pub mod estimate;
pub(crate) mod filters;
mod group;
mod ledger;
mod outdated;
mod pass;
mod preview;
mod reason;
mod retarget;
mod standstill;
pub(crate) mod surge;
mod terminate;
mod tokens;
mod words;
mod zones;

pub use action::{Action, ActionKey, NodePurpose, Planned};
pub use preview::{Finding, GroupPreview, Preview, preview};
pub use reason::{ActionReason, BlockReason, Outdated, Subject, WaitReason};
pub use surge::Limits;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{GroupName, InstanceId, NodeName, Zone};
use crate::observe::{RotationRecord, Snapshot};
use crate::policy::Policy;

use group::Group;
use pass::Pass;

/// Something that is waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wait {
    /// Who waits.
    pub subject: Subject,
    /// For what; names the culprit.
    pub reason: WaitReason,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Until when at most; `None` is for as long as it takes.
    pub until: Option<Timestamp>,
}

/// Something that will not be done unless somebody changes something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// Who is held.
    pub subject: Subject,
    /// Why.
    pub reason: BlockReason,
}

/// Where a node in hand stands; what the progress lines show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Replacement: desired was raised or an instance terminated; no instance seen yet, or it is Pending.
    Launching,
    /// Replacement: InService, no Node yet.
    Running,
    /// Replacement: a Node, not Ready.
    Joined,
    /// Replacement: Ready, the gate not passed.
    Ready,
    /// Replacement: passed the gate, soak included.
    Functional,
    /// Replacement: gave up at a deadline.
    Failed,
    /// Old: chosen, being cordoned.
    Selected,
    /// Old: pods being evicted, volumes being detached.
    Draining,
    /// Old: nothing left on it.
    Drained,
    /// Old: out of its load balancers' service, the delay running.
    Deregistering,
    /// Old: its termination was accepted, or others have it terminated.
    Terminating,
    /// Old: given up.
    Skipped,
}

/// A node in hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InHand {
    /// Its group.
    pub group: GroupName,
    /// Its zone, once known.
    pub zone: Option<Zone>,
    /// Its instance, once known.
    pub instance: Option<InstanceId>,
    /// Its Node, once known.
    pub node: Option<NodeName>,
    /// Where it stands.
    pub stage: Stage,
    /// Since when, where the world says.
    pub since: Option<Timestamp>,
    /// Evictable pods left on it.
    pub pods_left: u32,
}

/// Counts of a group, for the bars.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Instances that are still to be rotated, those in hand included.
    pub outdated: u32,
    /// Instances on the target.
    pub current: u32,
    /// Of these, functional.
    pub functional: u32,
    /// Old nodes draining.
    pub draining: u32,
    /// Old nodes drained or terminating.
    pub leaving: u32,
    /// Replacements launching, running, joined or ready.
    pub arriving: u32,
    /// Nodes given up.
    pub skipped: u32,
    /// The group's own desired: its desired less our surge.
    pub own_desired: u32,
    /// Our surge now.
    pub surge: u32,
}

/// How a rotation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every outdated node was rotated and everything put back.
    Done,
    /// Ended with nodes skipped, or with something that could not be put back.
    Incomplete,
    /// The target changed in the middle.
    TargetChanged,
    /// The canary failed.
    CanaryFailed,
    /// Too many replacements failed.
    FailureBudget,
    /// A time-out under `--on-stuck stop`.
    Stuck,
    /// Ended on request, everything put back.
    Aborted,
    /// Cut short by a signal; the next run goes on from here.
    Interrupted,
    /// Cut short by an error: no access, the lock lost, or a rule about to be broken.
    Failed,
}

/// What to do now, what is waited for, what is held, and where everything stands.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// To be done now, in this order; those in flight are left out.
    pub actions: Vec<Planned>,
    /// Waited for.
    pub waits: Vec<Wait>,
    /// Held.
    pub blocks: Vec<Block>,
    /// Nodes in hand.
    pub in_hand: Vec<InHand>,
    /// Counts by group.
    pub progress: BTreeMap<GroupName, Progress>,
    /// When to plan again though nothing has changed: the nearest deadline, soak or retry.
    pub wake: Option<Timestamp>,
    /// Set once there is nothing left to do.
    pub verdict: Option<Verdict>,
}

/// Plans what to do now. The snapshot must have been refreshed with the same policy.
///
/// With no rotation in progress nothing is done: the plan shows the groups' counts and what is held.
pub fn plan(policy: &Policy, snapshot: &Snapshot, now: Timestamp) -> Plan {
    let Some(rotation) = &snapshot.rotation else {
        let none = RotationRecord {
            id: "".into(),
            started: now,
            targets: BTreeMap::new(),
            protection: BTreeMap::new(),
            skipped: BTreeMap::new(),
            failed: BTreeMap::new(),
            ending: None,
            mended: Default::default(),
        };
        let mut plan = pass(policy, snapshot, &none, now);
        plan.actions.clear();
        plan.waits.clear();
        (plan.wake, plan.verdict) = (None, None);
        return plan;
    };
    pass(policy, snapshot, rotation, now)
}

fn pass(policy: &Policy, snapshot: &Snapshot, rotation: &RotationRecord, now: Timestamp) -> Plan {
    let mut pass = Pass::new(policy, snapshot, rotation, now);
    let mut groups: Vec<Group<'_>> = Vec::new();
    for name in snapshot.derived().groups.keys() {
        if let Some(mut group) = Group::gather(&mut pass, name) {
            canary::judge(&mut pass, &mut group);
            retarget::look(&mut pass, &mut group);
            group.waits_for_budget = deadlines::never_freed(&mut pass, &group);
            pass.draining += drain::slots(&pass, &group);
            groups.push(group);
        }
    }
    pass.own_turn = groups.iter().filter(|g| g.goes_on(&pass)).map(|g| g.remaining).sum::<u32>() <= 1;
    group::cordons_in_flight(&mut pass, &mut groups);
    let canaries: Vec<bool> = groups.iter().map(|g| canary::is_awaited(&mut pass, g)).collect();
    let passed = !canaries.contains(&true);
    if policy.max_drains.is_some() {
        // Whoever has the longest way to go takes the cluster's drain slots first; the others end before it anyway.
        groups.sort_by_key(|g| std::cmp::Reverse(g.rounds_left()));
    }
    for group in &mut groups {
        group::rotate(&mut pass, group, passed);
    }
    pass.finish()
}
