//! Terminations: what may die, and what its group does next.

use crate::model::{
    GroupName, Instance, InstanceId, Ledger, Lifecycle, NodeGroup, NodeMark, NodeName, Process, Target, Uid,
};
use crate::plan::Subject;
use crate::policy::Timeout;
use crate::units;

use super::world::World;
use super::{Violation, deregistration, rule, violation};

pub(super) fn check(
    world: &World<'_>,
    id: &InstanceId,
    group: &GroupName,
    node: Option<&(NodeName, Uid)>,
    decrement: Option<&(Ledger, Ledger)>,
) -> Result<(), Violation> {
    let subject = Subject::Instance(id.clone());
    let broken = |rule, detail: String| Err(violation(rule, subject.clone(), detail));
    let group = world.group(group, false)?;
    let Some(instance) = world.snapshot.instances.get(id).filter(|i| i.group == group.name) else {
        return broken(rule::IDENTITY, format!("group {} has no such instance", group.name));
    };
    let pending = instance.lifecycle == Lifecycle::Pending && node.is_none();
    if instance.lifecycle != Lifecycle::InService && !pending {
        return broken(rule::DRAINED, format!("it is {:?}, not in service", instance.lifecycle));
    }
    match node {
        Some((name, uid)) => {
            drained(world, instance, name, uid)?;
            deregistration::check(world, group, world.node(name, uid)?)?;
        }
        None => never_registered(world, instance)?,
    }
    match decrement {
        Some((before, after)) => shrinks(world, group, instance, before, after),
        None => is_replaced(world, group, instance),
    }
}

/// A node that we cordoned and drained to the end.
fn drained(world: &World<'_>, instance: &Instance, name: &NodeName, uid: &Uid) -> Result<(), Violation> {
    let broken = |rule, detail: String| Err(violation(rule, Subject::Node(name.clone()), detail));
    let node = world.node(name, uid)?;
    if node.instance.as_ref() != Some(&instance.id) {
        return broken(rule::IDENTITY, format!("it is not the Node of {}", instance.id));
    }
    if !world.is_in_hand(node) {
        return broken(rule::DRAINED, format!("{} would be terminated, but we did not cordon it", instance.id));
    }
    if let Some(pod) = world.left_on(node) {
        return broken(rule::DRAINED, format!("{} would be terminated with pod {} on it", instance.id, pod.key));
    }
    match world.volumes_on(node) {
        0 => {}
        n => {
            return broken(
                rule::DRAINED,
                format!("{} would be terminated with {} attached", instance.id, units::count(n as u64, "volume")),
            );
        }
    }
    if !world.may_rotate(instance) && !world.is_replacement(instance) {
        return broken(rule::OUTDATED, format!("{} is what its group launches", instance.id));
    }
    Ok(())
}

/// The one exception: a replacement of this rotation that never registered a Node in its time.
fn never_registered(world: &World<'_>, instance: &Instance) -> Result<(), Violation> {
    let broken = |detail: String| Err(violation(rule::DRAINED, Subject::Instance(instance.id.clone()), detail));
    if let Some(node) = world.snapshot.node_of(&instance.id) {
        return broken(format!("it would be terminated as one without a Node, and has {}", node.name));
    }
    if world.record.failed.contains_key(&instance.id) {
        return Ok(());
    }
    let Some(launched) = instance.launched_at.filter(|at| *at >= world.record.started) else {
        return broken("it has no Node, and is no replacement of this rotation".to_owned());
    };
    let over = match world.policy.join_timeout {
        Timeout::After(limit) => launched.checked_add(limit).is_ok_and(|until| until <= world.now),
        Timeout::Never => false,
    };
    if over { Ok(()) } else { broken("it has no Node yet, and still has time to join".to_owned()) }
}

/// With decrement: one of our surge goes, by a step in the ledger.
fn shrinks(
    world: &World<'_>,
    group: &NodeGroup,
    instance: &Instance,
    before: &Ledger,
    after: &Ledger,
) -> Result<(), Violation> {
    let broken = |rule, detail: String| Err(violation(rule, Subject::Instance(instance.id.clone()), detail));
    let ledger = world.ledger(group)?;
    if ledger.step.is_some() {
        return broken(rule::LEDGER, format!("group {} has a step in hand already", group.name));
    }
    if ledger.confirmed == 0 {
        return broken(rule::LEDGER, format!("it would take group {}'s own desired, no surge is left", group.name));
    }
    let step = before.step.as_ref();
    let announced = step.is_some_and(|s| {
        s.from == group.desired && s.to.checked_add(1) == Some(s.from) && s.instance.as_ref() == Some(&instance.id)
    });
    if !announced || before.confirmed != ledger.confirmed {
        return broken(rule::LEDGER, format!("its step {step:?} is not one down from {}", group.desired));
    }
    if *after != Ledger::settled(ledger.confirmed - 1) {
        return broken(rule::LEDGER, format!("after it the ledger would say {}", after.to_tag()));
    }
    if group.desired <= group.min {
        return broken(rule::LIMITS, format!("desired {} is at the minimum of {}", group.desired, group.min));
    }
    only_one_leaves(world, group, instance)
}

/// A decrement races with launches and may cost another instance: nothing is launched, nothing else may go.
fn only_one_leaves(world: &World<'_>, group: &NodeGroup, instance: &Instance) -> Result<(), Violation> {
    let broken = |detail: String| Err(violation(rule::SHRINK, Subject::Instance(instance.id.clone()), detail));
    let mut standing = 0;
    for other in world.snapshot.instances_of(&group.name) {
        match other.lifecycle {
            Lifecycle::Pending if other.id != instance.id => {
                return broken(format!("{} is being launched at the same time", other.id));
            }
            Lifecycle::InService if other.id != instance.id && !other.protected => {
                return broken(format!("{} is not protected from going instead", other.id));
            }
            Lifecycle::Pending | Lifecycle::InService => standing += 1,
            _ => {}
        }
    }
    if standing < group.desired {
        return broken(format!("{standing} of {} instances are there, a launch is due", group.desired));
    }
    Ok(())
}

/// Without decrement: the group launches another in its place, which must be possible and wanted.
fn is_replaced(world: &World<'_>, group: &NodeGroup, instance: &Instance) -> Result<(), Violation> {
    let broken = |detail: String| Err(violation(rule::REPLACEMENT, Subject::Instance(instance.id.clone()), detail));
    if group.is_suspended(Process::LAUNCH) {
        return broken(format!("group {} would not replace it, Launch is suspended", group.name));
    }
    if world.record.targets.get(&group.name).is_some_and(|recorded| moved(recorded, &group.target)) {
        return broken(format!("group {} would replace it by a target that nothing has proved", group.name));
    }
    let node = world.snapshot.node_of(&instance.id);
    let failed =
        world.record.failed.contains_key(&instance.id) || node.and_then(|n| world.mark(n)) == Some(NodeMark::Failed);
    // What it failed for was mended since: what is launched in its place is not the same.
    let mended = failed && world.record.mended.excused.contains(&instance.id);
    if !mended && (failed || !world.may_rotate(instance)) {
        return broken("a replacement that goes must take its surge along, or the same is launched again".to_owned());
    }
    Ok(())
}

/// Whether a group launches something else than was recorded; what is not resolved yet is taken as unchanged.
fn moved(recorded: &Target, now: &Target) -> bool {
    *recorded != now.clone().keeping_resolution(recorded)
}
