//! What a rotation would do, before it does anything: for a person to read, and for `plan`'s exit code.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::estimate::{self, Expected};
use super::{Block, Limits, Plan, Progress, plan, surge};
use crate::bound::{self, Bottleneck, Bound, GroupLoad};
use crate::model::{GroupName, Ledger, NodeName, Text, Zone, marks};
use crate::observe::{GroupView, Role, Snapshot};
use crate::policy::Policy;

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Nothing is outdated, and nothing of an earlier rotation is left to put back.
    NothingToDo,
    /// There is work.
    Work,
    /// Everything that is outdated is held by something, or in other hands: a rotation would end incomplete.
    Held,
}

/// A group, before its rotation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupPreview {
    /// Counts.
    pub progress: Progress,
    /// Of the outdated, those that nothing holds.
    pub candidates: u32,
    /// Why instances are outdated, in words, with how many; an instance with two reasons is in both.
    pub reasons: BTreeMap<Text, u32>,
    /// The policy in numbers.
    pub limits: Limits,
    /// The free ones in the order in which their zone would give them.
    pub order: BTreeMap<Zone, Vec<NodeName>>,
    /// Expected duration if it were alone, seconds.
    pub expected_s: f64,
    /// Why the whole group is left alone, or cannot begin.
    pub blocks: Vec<Block>,
}

/// A rotation, before it begins.
#[must_use]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preview {
    /// The groups in scope.
    pub groups: BTreeMap<GroupName, GroupPreview>,
    /// Everything that is held, and why.
    pub blocks: Vec<Block>,
    /// What there is to do.
    pub finding: Finding,
    /// How long each stage is expected to take.
    pub stages: Expected,
    /// Expected duration, seconds.
    pub expected_s: f64,
    /// How fast it could go at best, seconds.
    pub lower_bound_s: f64,
    /// What decides that.
    pub bottleneck: Bottleneck,
}

impl Preview {
    /// Whether a rotation would do anything.
    pub fn has_work(&self) -> bool {
        self.finding == Finding::Work
    }

    /// Counts by group.
    pub fn progress(&self) -> BTreeMap<GroupName, Progress> {
        self.groups.iter().map(|(name, group)| (name.clone(), group.progress.clone())).collect()
    }
}

/// Previews a rotation by `policy`. The snapshot must have been refreshed with the same policy. Walks every
/// instance: it is made once, not on each pass.
pub fn preview(policy: &Policy, snapshot: &Snapshot, now: Timestamp) -> Preview {
    let plan = plan(policy, snapshot, now);
    let stages = estimate::measured(policy, snapshot);
    let mut loads = Vec::new();
    let mut groups = BTreeMap::new();
    let (mut left_over, mut in_standby) = (false, false);
    for (name, view) in &snapshot.derived().groups {
        let Some(record) = snapshot.groups.get(name) else { continue };
        let tag = record.tags.get(marks::TAG_SURGE).and_then(|tag| Ledger::parse(tag).ok());
        let own = record.desired.saturating_sub(tag.map_or(0, |l| l.confirmed));
        let waiting = view.candidates + view.draining.len() as u32;
        // Where everything is held, the limits tell what they would be for what is outdated.
        let outdated = if waiting > 0 { waiting } else { view.held.len() as u32 };
        let limits = Limits::from(surge::resolve(policy, record, own, outdated, &Expected::default()));
        let held = view.hold.is_some();
        let load = GroupLoad {
            group: name.clone(),
            nodes: if held { 0 } else { waiting },
            surge: limits.surge,
            unavailable: limits.unavailable,
            drains: limits.drains,
            canary: policy.canary,
            b: stages.launch_s,
            d: stages.drain_s,
            x: stages.terminate_s,
            chain: None,
        };
        let delay = super::deregister::longest(snapshot, record).map_or(0, |(_, delay)| delay);
        let load = if policy.max_drains.is_none() { letting_go(load, delay.into()) } else { load };
        let expected_s = expected(bound::lower_bound(std::slice::from_ref(&load), None).seconds);
        loads.push(load);
        in_standby |= !held && view.has_outdated_in_standby();
        left_over |= !held && record.tags.keys().any(|k| k.starts_with("fastnode:"));
        let group = group_preview(snapshot, name, view, &plan, limits, expected_s);
        groups.insert(name.clone(), group);
    }
    let Bound { seconds, bottleneck } = bound::lower_bound(&loads, policy.max_drains);
    let can_begin = |load: &GroupLoad| load.nodes > 0 && load.surge + load.unavailable > 0;
    let outdated = groups.values().any(|g| g.progress.outdated > 0);
    let finding = match () {
        () if left_over || loads.iter().any(can_begin) => Finding::Work,
        () if outdated || in_standby => Finding::Held,
        () => Finding::NothingToDo,
    };
    let (expected_s, lower_bound_s) = (expected(seconds), seconds);
    Preview { groups, blocks: plan.blocks, finding, stages, expected_s, lower_bound_s, bottleneck }
}

/// The slower of two ways to see a group behind load balancers: its drains as they are, or as long as the load
/// balancers take to let go, which holds the room of surge and unavailable but no drain slot.
fn letting_go(load: GroupLoad, delay: f64) -> GroupLoad {
    let room = load.drains.max(load.surge + load.unavailable);
    let slow = GroupLoad { d: load.d.max(delay), drains: room, ..load.clone() };
    let seconds = |load: &GroupLoad| bound::lower_bound(std::slice::from_ref(load), None).seconds;
    if seconds(&slow) > seconds(&load) { slow } else { load }
}

/// Stages vary about their means, and every wait for the slowest of several is longer than the mean: a tenth.
fn expected(bound: f64) -> f64 {
    bound * 1.1
}

fn group_preview(
    snapshot: &Snapshot,
    name: &GroupName,
    view: &GroupView,
    plan: &Plan,
    limits: Limits,
    expected_s: f64,
) -> GroupPreview {
    let derived = snapshot.derived();
    let mut reasons: BTreeMap<Text, u32> = BTreeMap::new();
    for member in snapshot.instances_of(name).filter_map(|i| derived.member(&i.id)) {
        if matches!(member.role, Role::Candidate | Role::Held(_) | Role::Draining) {
            for outdated in &member.outdated {
                *reasons.entry(outdated.to_string().into()).or_default() += 1;
            }
        }
    }
    let order = view.zones.iter().map(|(zone, zone_view)| {
        let nodes = zone_view.candidates.iter().filter_map(|rank| derived.member(&rank.3)?.node.clone());
        (zone.clone(), nodes.collect())
    });
    let about = |block: &&Block| matches!(&block.subject, super::Subject::Group(group) if group == name);
    let outdated = view.candidates + (view.draining.len() + view.held.len()) as u32;
    let counts = Progress {
        outdated,
        current: view.current + view.adopted.len() as u32,
        functional: view.serving_current,
        own_desired: snapshot.groups.get(name).map_or(0, |g| g.desired),
        ..Progress::default()
    };
    GroupPreview {
        // A group that is left alone as a whole has no part in the plan, but its nodes are counted all the same.
        progress: plan.progress.get(name).cloned().unwrap_or(counts),
        candidates: view.candidates,
        reasons,
        limits,
        order: order.collect(),
        expected_s,
        blocks: plan.blocks.iter().filter(about).cloned().collect(),
    }
}
