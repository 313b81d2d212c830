//! Changes of Nodes.

use crate::cluster::NodeChange;
use crate::model::{Lifecycle, Node, NodeName, TaintEffect, Uid, marks};
use crate::plan::NodePurpose;
use crate::units;

use super::world::{World, about_node, carries_load};
use super::{Violation, lets_go, rule, violation};

/// What our keys in labels and annotations begin with.
const OURS: &str = "fastnode.dev/";

pub(super) fn change(
    world: &World<'_>,
    name: &NodeName,
    uid: &Uid,
    purpose: NodePurpose,
    change: &NodeChange,
) -> Result<(), Violation> {
    let node = world.node(name, uid)?;
    // A Node outlives its instance for a while: then only its own marks speak for it.
    if let Some(instance) = world.instance_of(node) {
        world.group(&instance.group, lets_go(purpose))?;
    } else if !lets_go(purpose) {
        let detail = format!("{purpose:?} of a Node without an instance of these groups");
        return Err(violation(rule::SCOPE, about_node(name), detail));
    }
    keys(world, node, change)?;
    schedulable(world, node, purpose, change)?;
    match purpose {
        NodePurpose::Cordon => cordon(world, node),
        NodePurpose::MarkFailed => mark_failed(world, node),
        NodePurpose::MarkDrained => mark_drained(world, node),
        NodePurpose::ExcludeFromLoadBalancers => exclude(world, node),
        NodePurpose::Skip | NodePurpose::Uncordon | NodePurpose::Release => let_go(world, node),
        NodePurpose::Adopt | NodePurpose::SoftTaint => Ok(()),
    }
}

/// Only keys of ours, and the two of others that the contract names.
fn keys(world: &World<'_>, node: &Node, change: &NodeChange) -> Result<(), Violation> {
    let broken = |what: String| Err(violation(rule::OWN_MARKS, about_node(&node.name), what));
    if let Some(key) = change.labels.keys().find(|k| !k.starts_with(OURS) && &***k != marks::EXCLUDE_FROM_LB) {
        return broken(format!("label {key} is not ours to change"));
    }
    let foreign = |k: &&crate::model::Text| !k.starts_with(OURS) && &***k != marks::SCALE_DOWN_DISABLED;
    if let Some(key) = change.annotations.keys().find(foreign) {
        return broken(format!("annotation {key} is not ours to change"));
    }
    if let Some(Some(id)) = change.labels.get(marks::ROTATION)
        && *id != world.record.id
    {
        return broken(format!("it would be marked for rotation {id}, this is {}", world.record.id));
    }
    if let Some(taint) = &change.add_taint
        && (&*taint.key != marks::OUTDATED_TAINT || taint.effect != TaintEffect::PreferNoSchedule)
    {
        return broken(format!("taint {}:{:?} is not ours to set", taint.key, taint.effect));
    }
    match &change.remove_taint {
        Some(key) if &**key != marks::OUTDATED_TAINT => broken(format!("taint {key} is not ours to remove")),
        _ => Ok(()),
    }
}

/// A cordon is set to drain or because of a failure, with our mark; only our own is undone.
fn schedulable(world: &World<'_>, node: &Node, purpose: NodePurpose, change: &NodeChange) -> Result<(), Violation> {
    let broken = |what: &str| Err(violation(rule::OWN_MARKS, about_node(&node.name), what.to_owned()));
    match change.unschedulable {
        Some(true) if !matches!(purpose, NodePurpose::Cordon | NodePurpose::MarkFailed) => {
            broken("it would be cordoned in passing")
        }
        Some(true) if !matches!(change.labels.get(marks::ROTATION), Some(Some(_))) && !world.is_ours(node) => {
            broken("it would be cordoned without our mark")
        }
        Some(false) if !lets_go(purpose) => broken("it would be uncordoned in passing"),
        Some(false) if !world.is_ours(node) => broken("it would be uncordoned, and the cordon is not ours"),
        Some(false) if node.annotations.contains_key(marks::CORDONED_BEFORE) => {
            broken("it would be uncordoned, and somebody had cordoned it before us")
        }
        _ => Ok(()),
    }
}

fn cordon(world: &World<'_>, node: &Node) -> Result<(), Violation> {
    let broken = |rule, what: String| Err(violation(rule, about_node(&node.name), what));
    let Some(instance) = world.instance_of(node) else {
        return broken(rule::SCOPE, "no group has its instance".to_owned());
    };
    if instance.lifecycle != Lifecycle::InService {
        return broken(rule::SCOPE, format!("its instance is {:?}, not in service", instance.lifecycle));
    }
    if let Some(other) = node.labels.get(marks::ROTATION).filter(|id| **id != world.record.id) {
        return broken(rule::OWN_MARKS, format!("it is marked by another rotation, {other}"));
    }
    if world.may_rotate(instance) {
        let scope = &world.policy.scope;
        let named = scope.nodes.is_empty() || scope.nodes.contains(&node.name);
        return if named && scope.selector.iter().all(|r| r.matches(&node.labels)) {
            Ok(())
        } else {
            broken(rule::SCOPE, "it is not among the nodes asked for".to_owned())
        };
    }
    let surge = match world.snapshot.groups.get(&instance.group) {
        Some(group) => world.own_desired(group)?.1,
        None => 0,
    };
    if world.is_replacement(instance) && surge > 0 {
        return Ok(());
    }
    broken(rule::OUTDATED, "it would be drained, and is what its group launches".to_owned())
}

fn mark_failed(world: &World<'_>, node: &Node) -> Result<(), Violation> {
    if world.instance_of(node).is_some_and(|i| world.is_replacement(i)) {
        return Ok(());
    }
    let detail = "it would be given up as a failed replacement, and is older than the rotation".to_owned();
    Err(violation(rule::OUTDATED, about_node(&node.name), detail))
}

fn mark_drained(world: &World<'_>, node: &Node) -> Result<(), Violation> {
    let broken = |what: String| Err(violation(rule::DRAINED, about_node(&node.name), what));
    if !world.is_in_hand(node) {
        return broken("it would be called drained, and is not cordoned by us".to_owned());
    }
    if let Some(pod) = world.left_on(node) {
        return broken(format!("it would be called drained with pod {} on it", pod.key));
    }
    match world.volumes_on(node) {
        0 => Ok(()),
        n => broken(format!("it would be called drained with {} attached", units::count(n as u64, "volume"))),
    }
}

/// Out of its load balancers only from our hands, and only when another node carries load in its group.
fn exclude(world: &World<'_>, node: &Node) -> Result<(), Violation> {
    if !world.is_in_hand(node) {
        let detail = "it would leave its load balancers, and is not cordoned by us".to_owned();
        return Err(violation(rule::OWN_MARKS, about_node(&node.name), detail));
    }
    let group = world.instance_of(node).map(|i| &i.group);
    let serves = |group| {
        let mut nodes = world.snapshot.instances_of(group).filter_map(|i| world.snapshot.node_of(&i.id));
        nodes.any(|other| other.name != node.name && carries_load(other))
    };
    if group.is_some_and(serves) {
        return Ok(());
    }
    let detail = "it would leave its load balancers, and no other node of its group serves".to_owned();
    Err(violation(rule::CAPACITY, about_node(&node.name), detail))
}

fn let_go(world: &World<'_>, node: &Node) -> Result<(), Violation> {
    let broken = |what: String| Err(violation(rule::OWN_MARKS, about_node(&node.name), what));
    match node.labels.get(marks::ROTATION) {
        Some(id) if *id != world.record.id => broken(format!("it is marked by another rotation, {id}")),
        None if !node.has_taint(marks::OUTDATED_TAINT) => broken("it carries no mark of ours".to_owned()),
        _ => Ok(()),
    }
}
