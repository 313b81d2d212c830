//! Changes of groups: tags, processes, maximum, desired, protection.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{GroupName, InstanceId, Ledger, Node, NodeGroup, NodeMark, Process, Target, Text, Zone, marks};
use crate::plan::{Action, Plan};
use crate::policy::{OnTargetChange, Surge};

use super::world::{World, about_group};
use super::{Violation, rule, violation};

/// What our tags begin with.
const OURS: &str = "fastnode:";

fn broken<T>(rule: &'static str, group: &GroupName, detail: impl Into<String>) -> Result<T, Violation> {
    Err(violation(rule, about_group(group), detail.into()))
}

pub(super) fn tag(world: &World<'_>, name: &GroupName, tags: &BTreeMap<Text, Text>) -> Result<(), Violation> {
    let group = world.group(name, true)?;
    for (key, value) in tags {
        if !key.starts_with(OURS) {
            return broken(rule::TAGS, name, format!("tag {key} is not ours to set"));
        }
        if &**key == marks::TAG_ROTATION && *value != world.record.id {
            return broken(rule::TAGS, name, format!("it would be tagged for rotation {value}"));
        }
        if &**key == marks::TAG_SURGE {
            let confirmed = world.ledger(group)?.confirmed;
            if Ledger::parse(value) != Ok(Ledger::settled(confirmed)) {
                return broken(rule::LEDGER, name, format!("the ledger would say {value}, {confirmed} are ours"));
            }
        }
        if &**key == marks::TAG_SUSPENDED {
            let known = listed(group);
            let theirs = |p: &&str| group.is_suspended(p) && !known.contains(p);
            if let Some(process) = value.split(',').find(theirs) {
                return broken(rule::PROCESSES, name, format!("{process} was suspended by somebody else"));
            }
        }
    }
    Ok(())
}

pub(super) fn untag(world: &World<'_>, name: &GroupName, keys: &BTreeSet<Text>) -> Result<(), Violation> {
    let group = world.group(name, true)?;
    for key in keys {
        if !key.starts_with(OURS) {
            return broken(rule::TAGS, name, format!("tag {key} is not ours to remove"));
        }
        let Some(value) = group.tags.get(key) else { continue };
        let left = match &**key {
            marks::TAG_SURGE => {
                let ledger = world.ledger(group)?;
                (ledger != Ledger::settled(0)).then(|| format!("{} instances of surge are left", ledger.confirmed))
            }
            marks::TAG_SUSPENDED => {
                let left = value.split(',').find(|p| group.is_suspended(p));
                left.map(|process| format!("{process} is still suspended"))
            }
            marks::TAG_MAX => (**value != *group.max.to_string()).then(|| format!("the maximum is not {value} yet")),
            marks::TAG_PROTECTED => {
                let differs = |id: &InstanceId| {
                    let former = world.record.protection.get(id);
                    let now = world.snapshot.instances.get(id).filter(|i| i.lifecycle.counts_in_desired());
                    former.zip(now).is_some_and(|(former, now)| *former != now.protected)
                };
                let ids = || world.snapshot.instances_of(name).map(|i| &i.id);
                ids().find(|id| differs(id)).map(|id| format!("{id}'s protection is not put back yet"))
            }
            _ => None,
        };
        if let Some(left) = left {
            return broken(rule::TAGS, name, format!("tag {key} would go while {left}"));
        }
    }
    Ok(())
}

/// A rotation goes on for another target only if the policy says so, for the one that its group launches, and with
/// no old node in hand: what replaces it was not proved by the one before.
pub(super) fn retarget(world: &World<'_>, targets: &BTreeMap<GroupName, Target>) -> Result<(), Violation> {
    for (name, target) in targets {
        let group = world.group(name, false)?;
        if world.policy.on_target_change != OnTargetChange::Recanary {
            return broken(rule::TARGET, name, "it would go on for another target, which the policy does not allow");
        }
        if *target != group.target {
            return broken(rule::TARGET, name, "it would go on for a target that it does not launch");
        }
        let there = world.snapshot.instances_of(name).filter(|i| i.lifecycle.counts_in_desired());
        let mut nodes = there.filter_map(|i| world.snapshot.node_of(&i.id));
        let in_hand = |node: &&Node| matches!(world.mark(node), Some(NodeMark::Draining | NodeMark::Drained));
        if let Some(node) = nodes.find(in_hand) {
            return broken(rule::TARGET, name, format!("it would go on for another target with {} in hand", node.name));
        }
    }
    Ok(())
}

/// The processes our tag says we suspended.
fn listed(group: &NodeGroup) -> Vec<&str> {
    group.tags.get(marks::TAG_SUSPENDED).map(|tag| tag.split(',').collect()).unwrap_or_default()
}

pub(super) fn suspend(world: &World<'_>, name: &GroupName, processes: &BTreeSet<Process>) -> Result<(), Violation> {
    let group = world.group(name, false)?;
    let listed = listed(group);
    for process in processes {
        let known = [Process::AZ_REBALANCE, Process::LAUNCH, Process::TERMINATE].contains(&&*process.0);
        if !known || !listed.contains(&&*process.0) {
            let detail = format!("{} would be suspended without a tag that says so", process.0);
            return broken(rule::PROCESSES, name, detail);
        }
    }
    Ok(())
}

pub(super) fn resume(world: &World<'_>, name: &GroupName, processes: &BTreeSet<Process>) -> Result<(), Violation> {
    let group = world.group(name, true)?;
    let listed = listed(group);
    for process in processes {
        if !listed.contains(&&*process.0) {
            return broken(rule::PROCESSES, name, format!("{} would be resumed, and we did not suspend it", process.0));
        }
        if &*process.0 == Process::AZ_REBALANCE
            && let Some((most, fewest)) = imbalance(world, group)
        {
            let detail = format!("AZRebalance would be resumed with {most} and {fewest} instances a zone");
            return broken(rule::PROCESSES, name, detail);
        }
    }
    Ok(())
}

/// Most and fewest instances of a zone, where they differ by more than 1: then AZRebalance would terminate.
fn imbalance(world: &World<'_>, group: &NodeGroup) -> Option<(u32, u32)> {
    let mut zones: BTreeMap<&Zone, u32> = group.zones.iter().map(|zone| (zone, 0)).collect();
    for instance in world.snapshot.instances_of(&group.name).filter(|i| i.lifecycle.counts_in_desired()) {
        *zones.entry(&instance.zone).or_default() += 1;
    }
    let (most, fewest) = (*zones.values().max()?, *zones.values().min()?);
    (most - fewest > 1).then_some((most, fewest))
}

pub(super) fn set_max(world: &World<'_>, name: &GroupName, from: u32, to: u32) -> Result<(), Violation> {
    let group = world.group(name, true)?;
    if from != group.max {
        return broken(rule::LIMITS, name, format!("its maximum is {}, not {from}", group.max));
    }
    if to < group.desired {
        return broken(rule::LIMITS, name, format!("a maximum of {to} is below its desired of {}", group.desired));
    }
    let former = group.tags.get(marks::TAG_MAX).and_then(|tag| tag.parse::<u32>().ok());
    match former {
        None => broken(rule::LIMITS, name, "its maximum would change without a tag that keeps the former one"),
        Some(_) if to > from && !world.policy.raise_max => {
            broken(rule::LIMITS, name, "its maximum would be raised, which nobody allowed")
        }
        Some(former) if to < former => {
            broken(rule::LIMITS, name, format!("its maximum would fall to {to}, it was {former} before us"))
        }
        Some(_) => Ok(()),
    }
}

pub(super) fn resize(
    world: &World<'_>,
    name: &GroupName,
    (from, to): (u32, u32),
    (before, after): (&Ledger, &Ledger),
) -> Result<(), Violation> {
    let group = world.group(name, to < from)?;
    let ledger = world.ledger(group)?;
    if from != group.desired {
        return broken(rule::LEDGER, name, format!("its desired is {}, not {from}", group.desired));
    }
    if ledger.step.is_some() {
        return broken(rule::LEDGER, name, "it has a step in hand already");
    }
    let announced = before.step.as_ref().is_some_and(|s| (s.from, s.to) == (from, to) && s.instance.is_none());
    if !announced || before.confirmed != ledger.confirmed {
        return broken(rule::LEDGER, name, format!("the step from {from} to {to} is not announced"));
    }
    // Wide enough for any two sizes.
    let confirmed = i64::from(ledger.confirmed) + i64::from(to) - i64::from(from);
    if confirmed < 0 {
        return broken(rule::LEDGER, name, format!("{to} would take its own desired, {} are ours", ledger.confirmed));
    }
    if after.step.is_some() || i64::from(after.confirmed) != confirmed {
        return broken(rule::LEDGER, name, format!("after it the ledger would say {}", after.to_tag()));
    }
    if to > group.max || to < group.min {
        let detail = format!("{to} is not between its minimum of {} and maximum of {}", group.min, group.max);
        return broken(rule::LIMITS, name, detail);
    }
    if to < from { never_launched(world, group, to) } else { within_policy(world, group, after.confirmed) }
}

/// Down by SetDesiredCapacity only by what is missing anyway: else AWS would choose an instance to terminate.
fn never_launched(world: &World<'_>, group: &NodeGroup, to: u32) -> Result<(), Violation> {
    let standing = world.snapshot.instances_of(&group.name).filter(|i| i.lifecycle.counts_in_desired()).count();
    if standing > to as usize {
        let detail = format!("a desired of {to} would terminate one of its {standing} instances");
        return broken(rule::SHRINK, &group.name, detail);
    }
    if !group.is_suspended(Process::LAUNCH) {
        return broken(rule::SHRINK, &group.name, "desired would be lowered while the group may launch");
    }
    Ok(())
}

fn within_policy(world: &World<'_>, group: &NodeGroup, surge: u32) -> Result<(), Violation> {
    if !world.tagged_ours(group) {
        return broken(rule::LEDGER, &group.name, "desired would be raised before the group is tagged");
    }
    let own = world.own_desired(group)?.0;
    let allowed = match world.policy.surge {
        Surge::Fixed(amount) => amount.of(own),
        // More than there is to rotate is never useful; nor more than the group's own size.
        Surge::Auto => own.max(1),
    };
    if surge > allowed {
        return broken(rule::SURGE, &group.name, format!("a surge of {surge} is above the {allowed} allowed"));
    }
    Ok(())
}

pub(super) fn settle(world: &World<'_>, name: &GroupName, settled: &Ledger) -> Result<(), Violation> {
    let group = world.group(name, true)?;
    let ledger = world.ledger(group)?;
    let Some(step) = &ledger.step else {
        return broken(rule::LEDGER, name, "it has no step in hand to be settled");
    };
    let applied = (ledger.confirmed + step.to).checked_sub(step.from);
    let fits = settled.confirmed == ledger.confirmed || Some(settled.confirmed) == applied;
    if settled.step.is_some() || !fits {
        return broken(rule::LEDGER, name, format!("the ledger would say {}", settled.to_tag()));
    }
    Ok(())
}

pub(super) fn protect(
    world: &World<'_>,
    plan: &Plan,
    name: &GroupName,
    instances: &[InstanceId],
    protected: bool,
) -> Result<(), Violation> {
    world.group(name, true)?;
    for id in instances {
        if world.snapshot.instances.get(id).is_none_or(|i| i.group != *name) {
            return broken(rule::IDENTITY, name, format!("it has no instance {id}"));
        }
        let written = plan.actions.iter().any(|planned| match &planned.action {
            Action::Record { protection, .. } => protection.contains_key(id),
            _ => false,
        });
        match world.record.protection.get(id) {
            None if !protected || !written => {
                return broken(rule::PROTECTION, name, format!("{id}'s former protection is not recorded"));
            }
            Some(true) if !protected => {
                return broken(rule::PROTECTION, name, format!("{id} was protected before us"));
            }
            _ => {}
        }
    }
    Ok(())
}
