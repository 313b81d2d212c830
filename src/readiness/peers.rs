//! What a new node is compared with: the healthy old nodes of its group.

use jiff::SignedDuration;

use super::is_startup_taint;
use crate::model::{ConditionStatus, Container, DaemonSet, GroupName, Node, NodeMark, Pod, Taint, Text, marks};
use crate::observe::Snapshot;
use crate::policy::Policy;

/// The label that names a node's instance type.
const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";

/// The part of an allocatable resource that a node may have less than all others: a tenth.
const SPARE: u64 = 10;

/// How long a node counts as new where the policy sets the gate no limit.
const NEW_FOR: SignedDuration = SignedDuration::from_mins(5);

/// The healthy old nodes of `node`'s group: Ready, there before the rotation began (before `node`, where none
/// has begun), and none of its replacements.
fn old_peers<'a>(snapshot: &'a Snapshot, node: &'a Node) -> impl Iterator<Item = &'a Node> {
    group_of(snapshot, node)
        .into_iter()
        .flat_map(|group| snapshot.instances_of(group))
        .filter_map(|instance| snapshot.node_of(&instance.id))
        .filter(|peer| is_old_peer(snapshot, node, peer))
}

/// Whether a node of `node`'s group is one of those that it is compared with.
fn is_old_peer(snapshot: &Snapshot, node: &Node, peer: &Node) -> bool {
    let before = snapshot.rotation.as_ref().map_or(node.created, |r| r.started.min(node.created));
    peer.name != node.name && peer.created < before && is_healthy(peer)
}

fn group_of<'a>(snapshot: &'a Snapshot, node: &Node) -> Option<&'a GroupName> {
    node.instance.as_ref().and_then(|id| snapshot.instances.get(id)).map(|i| &i.group)
}

fn is_healthy(node: &Node) -> bool {
    let mark = node.annotation(marks::STATE).and_then(NodeMark::parse);
    node.ready() == ConditionStatus::True
        && !node.deleting
        && !matches!(mark, Some(NodeMark::Replacement | NodeMark::Failed))
}

/// What every healthy old node of the group has and `node` lacks: a CSI driver, or as much of an extended resource
/// (compared among nodes of one instance type). Nothing, where no old node is left.
///
/// Whatever all of them have the first has too, so a node that lacks nothing costs one comparison.
pub(super) fn lacks<'a>(snapshot: &'a Snapshot, node: &'a Node) -> Option<Lack<'a>> {
    let mut peers = old_peers(snapshot, node).peekable();
    let first = *peers.peek()?;
    let mut drivers: Vec<&Text> = drivers(snapshot, first).filter(|d| !has_driver(snapshot, node, d)).collect();
    let mut resources: Option<Vec<(&Text, u64)>> = None;
    for peer in peers {
        drivers.retain(|d| has_driver(snapshot, peer, d));
        if is_of_its_type(peer, node) {
            match &mut resources {
                None => resources = Some(extended(peer).filter(|(r, least)| amount(node, r) < *least).collect()),
                Some(missing) => missing.retain_mut(|(r, least)| {
                    *least = amount(peer, r).min(*least);
                    amount(node, r) < *least
                }),
            }
        }
        if drivers.is_empty() && resources.as_ref().is_some_and(Vec::is_empty) {
            return None;
        }
    }
    let resource = resources.into_iter().flatten().next();
    let resource = resource.map(|(name, least)| Lack::Resource { name, here: amount(node, name), least });
    drivers.into_iter().next().map(Lack::Driver).or(resource)
}

/// Something a node lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lack<'a> {
    /// A CSI driver.
    Driver(&'a Text),
    /// An extended resource, or part of it.
    Resource {
        /// Its name.
        name: &'a Text,
        /// What the node has of it.
        here: u64,
        /// The least that a healthy old node has.
        least: u64,
    },
}

/// How `node` differs from all healthy old nodes of its group: labels that each of them has, taints that none of
/// them or that each of them has, less than nine tenths of what each of them (of its instance type) can give to
/// pods. A new template may mean any of it, so nothing waits for it.
pub(super) fn differences(snapshot: &Snapshot, node: &Node) -> Vec<Text> {
    let mut peers = old_peers(snapshot, node);
    let Some(first) = peers.next() else { return Vec::new() };
    let mut labels: Vec<&Text> = first.labels.keys().filter(|key| !node.labels.contains_key(*key)).collect();
    labels.retain(|key| is_anybodys(key));
    let mut gone: Vec<&Taint> = lasting(first).filter(|taint| !carries(node, taint)).collect();
    let mut new: Vec<&Taint> = lasting(node).filter(|taint| !carries(first, taint)).collect();
    let mut less: Vec<(&Text, u64)> = Vec::new();
    let mut compared = false;
    for peer in std::iter::once(first).chain(peers) {
        labels.retain(|key| peer.labels.contains_key(*key));
        gone.retain(|taint| carries(peer, taint));
        new.retain(|taint| !carries(peer, taint));
        if is_of_its_type(peer, node) {
            if !compared {
                less = peer.allocatable.iter().filter(|(name, _)| is_own(name)).map(|(n, least)| (n, *least)).collect();
                compared = true;
            }
            less.retain_mut(|(name, least)| {
                *least = amount(peer, name).min(*least);
                amount(node, name) < least.saturating_sub(*least / SPARE)
            });
        }
        if labels.is_empty() && gone.is_empty() && new.is_empty() && compared && less.is_empty() {
            return Vec::new();
        }
    }
    let taint = |taint: &Taint| format!("taint {}:{:?}", taint.key, taint.effect);
    let labels = labels.into_iter().map(|key| format!("label {key} is on every healthy old node, not here"));
    let gone = gone.into_iter().map(|t| format!("{} is on every healthy old node, not here", taint(t)));
    let new = new.into_iter().map(|t| format!("{} is here, on no healthy old node", taint(t)));
    let share = |(name, least): (&Text, u64)| {
        let here = amount(node, name);
        let percent = here.saturating_mul(100).checked_div(least).unwrap_or_default();
        format!("allocatable {name}: {here} here, {percent}% of the least ({least}) on healthy old nodes")
    };
    labels.chain(gone).chain(new).chain(less.into_iter().map(share)).map(Text::from).collect()
}

fn is_of_its_type(peer: &Node, node: &Node) -> bool {
    peer.labels.get(INSTANCE_TYPE) == node.labels.get(INSTANCE_TYPE)
}

/// Labels that a rotation sets and takes away are not compared.
fn is_anybodys(key: &str) -> bool {
    !key.starts_with("fastnode.dev/") && key != marks::EXCLUDE_FROM_LB
}

/// Taints that say what a node is for; those of its state come and go.
fn lasting(node: &Node) -> impl Iterator<Item = &Taint> {
    let own = |key: &str| key.starts_with("node.kubernetes.io/") || key.starts_with("fastnode.dev/");
    node.taints.iter().filter(move |taint| !own(&taint.key) && !is_startup_taint(taint))
}

fn carries(node: &Node, taint: &Taint) -> bool {
    node.taints.iter().any(|t| t.key == taint.key && t.effect == taint.effect)
}

fn drivers<'a>(snapshot: &'a Snapshot, node: &Node) -> impl Iterator<Item = &'a Text> {
    snapshot.csi_nodes.get(&node.name).into_iter().flat_map(|csi| &csi.drivers)
}

fn has_driver(snapshot: &Snapshot, node: &Node, driver: &Text) -> bool {
    drivers(snapshot, node).any(|d| d == driver)
}

/// Extended resources are those outside Kubernetes' own domain (`k8s.io/kubernetes` pkg/apis/core/v1/helper
/// `IsExtendedResourceName`).
fn is_own(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn extended(node: &Node) -> impl Iterator<Item = (&Text, u64)> {
    node.allocatable.iter().filter(|(name, amount)| **amount > 0 && !is_own(name)).map(|(name, amount)| (name, *amount))
}

fn amount(node: &Node, resource: &Text) -> u64 {
    node.allocatable.get(resource).copied().unwrap_or_default()
}

/// Whether this container of `set` was restarted as often on a healthy old node of the group while *that* was new.
///
/// A restart count alone grows over months and says nothing about a start. But where a pod was made with its
/// node, and what runs in it now has run since then, every restart it shows fell into that time.
pub(super) fn as_often_when_new(
    policy: &Policy,
    snapshot: &Snapshot,
    node: &Node,
    set: &DaemonSet,
    container: &Container,
) -> bool {
    let Some(group) = group_of(snapshot, node) else { return false };
    let window = policy.gate_timeout.limit().unwrap_or(NEW_FOR);
    let as_often =
        |c: &Container| c.init == container.init && c.name == container.name && c.restarts >= container.restarts;
    snapshot
        .restarted_early(&set.uid, container.restarts, window)
        .filter(|pod| pod.containers.iter().any(as_often))
        .filter_map(|pod| Some((snapshot.nodes.get(pod.node.as_ref()?)?, pod)))
        .filter(|(peer, pod)| has_run_since_new(peer, pod, window))
        .any(|(peer, _)| group_of(snapshot, peer) == Some(group) && is_old_peer(snapshot, node, peer))
}

fn has_run_since_new(node: &Node, pod: &Pod, window: SignedDuration) -> bool {
    let Ok(until) = node.created.saturating_add(window) else { return false };
    let mut main = pod.containers.iter().filter(|c| !c.init).peekable();
    main.peek().is_some() && main.all(|c| c.running_since().is_some_and(|at| at <= until))
}
