//! What a group still carries once everything the plan cordons is cordoned.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;

use crate::model::{GroupName, Node, NodeGroup, NodeMark, NodeName, Pod, Zone, marks};
use crate::plan::{Action, ActionKey, NodePurpose, Plan};
use crate::policy::{Gate, Policy};

use super::world::{World, about_group, about_node, carries_load};
use super::{Violation, rule, violation};

/// How long after its registration a node's own agents are looked at; later that is settled.
const NEW_FOR: SignedDuration = SignedDuration::from_mins(15);

/// The namespace and priority class of the agents without which no node works.
const AGENTS: (&str, &str) = ("kube-system", "system-node-critical");

/// A zone of a group, counted.
#[derive(Default)]
struct Count {
    /// Carry load, and go on to.
    stay: u32,
    /// Of these, replacements of this rotation.
    stand_in: u32,
    /// Carry load until this plan cordons them.
    cordoned: u32,
    /// Cordoned by us to be drained, this plan included, and not terminated yet.
    in_hand: u32,
}

pub(super) fn check(world: &World<'_>, plan: &Plan) -> Result<(), Violation> {
    let cordons: BTreeSet<&NodeName> = plan.actions.iter().filter_map(|p| cordoned(&p.action)).collect();
    if cordons.is_empty() {
        return Ok(());
    }
    let nodes = cordons.iter().filter_map(|name| world.snapshot.nodes.get(*name));
    let groups: BTreeSet<&GroupName> = nodes.filter_map(|n| world.instance_of(n)).map(|i| &i.group).collect();
    let in_flight: BTreeSet<&NodeName> = world
        .snapshot
        .in_flight
        .keys()
        .filter_map(|key| match key {
            ActionKey::Node(name) => Some(name),
            _ => None,
        })
        .collect();
    for name in groups {
        let group = world.group(name, false)?;
        check_group(world, group, &cordons, &in_flight)?;
    }
    check_cluster(world, &cordons, &in_flight)
}

fn cordoned(action: &Action) -> Option<&NodeName> {
    match action {
        Action::ChangeNode { node, purpose: NodePurpose::Cordon, .. } => Some(node),
        _ => None,
    }
}

/// A cordon that was handed over and does not show yet. Of the changes a node can have in flight only a cordon
/// is about one that serves and carries the soft taint already, the end's release aside.
fn being_cordoned(world: &World<'_>, node: &Node, in_flight: &BTreeSet<&NodeName>) -> bool {
    in_flight.contains(&node.name)
        && !node.unschedulable
        && node.has_taint(marks::OUTDATED_TAINT)
        && world.mark(node) != Some(NodeMark::Skipped)
}

fn check_group(
    world: &World<'_>,
    group: &NodeGroup,
    cordons: &BTreeSet<&NodeName>,
    in_flight: &BTreeSet<&NodeName>,
) -> Result<(), Violation> {
    let mut zones: BTreeMap<&Zone, Count> = group.zones.iter().map(|zone| (zone, Count::default())).collect();
    let (mut draining, mut begun, mut begins, mut proven) = (0, 0, false, false);
    let snapshot = world.snapshot;
    let members: Vec<_> = snapshot.instances_of(&group.name).map(|i| (i, snapshot.node_of(&i.id))).collect();
    let mut all = members.iter().filter(|(i, _)| i.lifecycle.counts_in_desired());
    // A surge that has launched nothing, with as many there as desired says, will not: others scaled in meanwhile.
    let launches = all.clone().count() < group.desired as usize || all.any(|(i, node)| world.is_new(i, *node));
    for (instance, node) in members.iter().filter_map(|(i, node)| Some((*i, (*node)?))) {
        let count = zones.entry(&instance.zone).or_default();
        let here = cordons.contains(&node.name);
        let going = here || being_cordoned(world, node, in_flight);
        let counted = instance.lifecycle.counts_in_desired();
        match (counted && carries_load(node) && works(world, node), going) {
            (true, true) => count.cordoned += u32::from(here),
            (true, false) => {
                count.stay += 1;
                count.stand_in += u32::from(world.is_new(instance, Some(node)));
                proven = proven || !world.may_rotate(instance) && !world.record.failed.contains_key(&instance.id);
            }
            (false, _) => {}
        }
        let marked = matches!(world.mark(node), Some(NodeMark::Draining | NodeMark::Drained));
        // One that others have taken brings no replacement, and proves nothing.
        let taken = !counted && !launches;
        begun += u32::from((going || (marked && !taken)) && world.may_rotate(instance));
        begins |= here && world.may_rotate(instance);
        count.in_hand += u32::from(counted && (going || marked));
        // What somebody else has terminated meanwhile goes by itself.
        draining += u32::from(going || (!instance.lifecycle.is_leaving() && is_draining(world, node)));
    }
    // What is given back was never promised.
    if begins && snapshot.in_flight.contains_key(&ActionKey::Group(group.name.clone())) {
        let detail = "a change of it is under way, of which a reading may show desired without the ledger".to_owned();
        return Err(violation(rule::CAPACITY, about_group(&group.name), detail));
    }
    let (own, surge) = world.own_desired(group)?;
    if begins {
        check_canary(world, group, begun, if launches { surge } else { 0 }, proven)?;
    }
    check_drains(world, group, own, draining)?;
    check_promise(world, group, &zones, own)
}

/// Marked as draining, and with something left to wait for.
fn is_draining(world: &World<'_>, node: &Node) -> bool {
    node.unschedulable
        && world.mark(node) == Some(NodeMark::Draining)
        && (world.left_on(node).is_some() || world.volumes_on(node) > 0)
}

/// Whether the agents that no node works without are Ready on a node that joined lately.
fn works(world: &World<'_>, node: &Node) -> bool {
    let old = world.now.checked_sub(NEW_FOR).is_ok_and(|new_since| node.created < new_since);
    if old || world.policy.gate != Gate::Auto {
        return true;
    }
    let broken = |pod: &Pod| {
        let set = pod.owner.as_ref().and_then(|owner| world.snapshot.daemonsets.get(&owner.uid));
        let agent = set.is_some_and(|set| {
            &*set.key.namespace == AGENTS.0
                && set.priority_class.as_deref() == Some(AGENTS.1)
                && !["log", "fluent", "metric"].iter().any(|word| set.key.name.contains(word))
        });
        agent && pod.deleting.is_none() && !pod.flags.ready
    };
    !world.snapshot.pods_on(&node.name).any(broken)
}

/// With a surge, nothing goes before one replacement works; without one, no more than the canary does.
fn check_canary(world: &World<'_>, group: &NodeGroup, begun: u32, surge: u32, proven: bool) -> Result<(), Violation> {
    let Policy { canary, .. } = *world.policy;
    if canary == 0 || proven {
        return Ok(());
    }
    let allowed = if surge > 0 { 0 } else { canary };
    if begun > allowed {
        let detail = format!("{begun} nodes would be drained before any on the target works; {allowed} may be");
        return Err(violation(rule::CANARY, about_group(&group.name), detail));
    }
    Ok(())
}

fn check_drains(world: &World<'_>, group: &NodeGroup, own: u32, draining: u32) -> Result<(), Violation> {
    let allowed = world.policy.drains.of(own).max(1);
    if draining > allowed {
        let detail = format!("{draining} nodes would drain at once, {allowed} may");
        return Err(violation(rule::DRAINS, about_group(&group.name), detail));
    }
    Ok(())
}

fn check_cluster(
    world: &World<'_>,
    cordons: &BTreeSet<&NodeName>,
    in_flight: &BTreeSet<&NodeName>,
) -> Result<(), Violation> {
    let Some(allowed) = world.policy.max_drains else { return Ok(()) };
    let leaves = |node: &Node| world.instance_of(node).is_some_and(|i| i.lifecycle.is_leaving());
    let drains = |node: &&Node| {
        cordons.contains(&node.name)
            || being_cordoned(world, node, in_flight)
            || (!leaves(node) && is_draining(world, node))
    };
    let draining = world.snapshot.nodes.values().filter(drains).count();
    match cordons.first() {
        Some(first) if draining > allowed.max(1) as usize => {
            let detail = format!("with it {draining} nodes would drain at once over the cluster, {allowed} may");
            Err(violation(rule::DRAINS, about_node(first), detail))
        }
        _ => Ok(()),
    }
}

/// The group keeps its own desired less what may be unavailable; a zone its even share of that but one, or a
/// working replacement for each node of it in hand. The one is what a drain in the fullest zone takes where the
/// group launched its replacement elsewhere, and the next launch, which goes where there are fewest, gives back.
fn check_promise(
    world: &World<'_>,
    group: &NodeGroup,
    zones: &BTreeMap<&Zone, Count>,
    own: u32,
) -> Result<(), Violation> {
    let unavailable = world.policy.unavailable.of_down(own);
    let promised = own.saturating_sub(unavailable);
    let stay: u32 = zones.values().map(|count| count.stay).sum();
    let cordoned: u32 = zones.values().map(|count| count.cordoned).sum();
    if cordoned > 0 && stay < promised {
        let detail = format!("{stay} nodes would be left serving, {promised} are promised");
        return Err(violation(rule::CAPACITY, about_group(&group.name), detail));
    }
    let share = promised / u32::try_from(group.zones.len().max(1)).unwrap_or(u32::MAX);
    for (zone, count) in zones.iter().filter(|(_, count)| count.cordoned > 0) {
        let stood_in = count.stand_in + unavailable >= count.in_hand;
        if count.stay + 1 < share && !stood_in {
            let detail = format!(
                "{} nodes would be left serving in {zone}, {share} are its share, and {} replacements there stand in \
                 for {} in hand",
                count.stay, count.stand_in, count.in_hand
            );
            return Err(violation(rule::ZONE, about_group(&group.name), detail));
        }
    }
    Ok(())
}
