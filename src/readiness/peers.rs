//! What a new node is compared with: the healthy old nodes of its group.

use jiff::SignedDuration;

use crate::model::{ConditionStatus, Container, ContainerState, DaemonSet, Node, NodeMark, Pod, Text, marks};
use crate::observe::Snapshot;
use crate::policy::Policy;

/// The label that names a node's instance type.
const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";

/// How long a node counts as new where the policy sets the gate no limit.
const NEW_FOR: SignedDuration = SignedDuration::from_mins(5);

/// The healthy old nodes of `node`'s group: Ready, there before the rotation began (before `node`, where none
/// has begun), and none of its replacements.
fn old_peers<'a>(snapshot: &'a Snapshot, node: &'a Node) -> impl Iterator<Item = &'a Node> {
    let before = snapshot.rotation.as_ref().map_or(node.created, |r| r.started.min(node.created));
    let group = node.instance.as_ref().and_then(|id| snapshot.instances.get(id)).map(|i| &i.group);
    group
        .into_iter()
        .flat_map(|group| snapshot.instances_of(group))
        .filter_map(|instance| snapshot.node_of(&instance.id))
        .filter(move |peer| peer.name != node.name && peer.created < before && is_healthy(peer))
}

fn is_healthy(node: &Node) -> bool {
    let mark = node.annotation(marks::STATE).and_then(NodeMark::parse);
    node.ready() == ConditionStatus::True
        && !node.deleting
        && !matches!(mark, Some(NodeMark::Replacement | NodeMark::Failed))
}

/// What every healthy old node of the group has and `node` lacks: a CSI driver, or an extended resource with
/// something allocatable (compared among nodes of one instance type). Nothing, where no old node is left.
///
/// Whatever all of them have the first has too, so a node that lacks nothing costs one comparison.
pub(super) fn lacks<'a>(snapshot: &'a Snapshot, node: &'a Node) -> Option<Lack<'a>> {
    let mut peers = old_peers(snapshot, node).peekable();
    let first = *peers.peek()?;
    let mut drivers: Vec<&Text> = drivers(snapshot, first).filter(|d| !has_driver(snapshot, node, d)).collect();
    let mut resources: Option<Vec<&Text>> = None;
    for peer in peers {
        drivers.retain(|d| has_driver(snapshot, peer, d));
        if peer.labels.get(INSTANCE_TYPE) == node.labels.get(INSTANCE_TYPE) {
            match &mut resources {
                None => resources = Some(extended(peer).filter(|r| !has_resource(node, r)).collect()),
                Some(missing) => missing.retain(|r| has_resource(peer, r)),
            }
        }
        if drivers.is_empty() && resources.as_ref().is_some_and(Vec::is_empty) {
            return None;
        }
    }
    let resource = resources.into_iter().flatten().next();
    drivers.into_iter().next().map(Lack::Driver).or(resource.map(Lack::Resource))
}

/// Something a node lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lack<'a> {
    /// A CSI driver.
    Driver(&'a Text),
    /// An extended resource.
    Resource(&'a Text),
}

fn drivers<'a>(snapshot: &'a Snapshot, node: &Node) -> impl Iterator<Item = &'a Text> {
    snapshot.csi_nodes.get(&node.name).into_iter().flat_map(|csi| &csi.drivers)
}

fn has_driver(snapshot: &Snapshot, node: &Node, driver: &Text) -> bool {
    drivers(snapshot, node).any(|d| d == driver)
}

/// Extended resources are those outside Kubernetes' own domain (`k8s.io/kubernetes` pkg/apis/core/v1/helper
/// `IsExtendedResourceName`).
fn extended(node: &Node) -> impl Iterator<Item = &Text> {
    let own = |name: &str| !name.contains('/') || name.contains("kubernetes.io/");
    node.allocatable.iter().filter(move |(name, amount)| **amount > 0 && !own(name)).map(|(name, _)| name)
}

fn has_resource(node: &Node, resource: &Text) -> bool {
    node.allocatable.get(resource).is_some_and(|amount| *amount > 0)
}

/// How often this container of `set` was restarted on the healthy old nodes of the group while *they* were
/// new: the largest count among those that show it. 0 where none does.
///
/// A restart count alone grows over months and says nothing about a start. But where a pod was made with its
/// node, and what runs in it now has run since then, every restart it shows fell into that time.
pub(super) fn restarts_when_new(
    policy: &Policy,
    snapshot: &Snapshot,
    node: &Node,
    set: &DaemonSet,
    container: &Container,
) -> u32 {
    let window = policy.gate_timeout.limit().unwrap_or(NEW_FOR);
    old_peers(snapshot, node)
        .flat_map(|peer| snapshot.pods_on(&peer.name).map(move |pod| (peer, pod)))
        .filter(|(_, pod)| pod.owner.as_ref().is_some_and(|o| o.uid == set.uid))
        .filter(|(peer, pod)| has_run_since_new(peer, pod, window))
        .flat_map(|(_, pod)| &pod.containers)
        .filter(|c| c.init == container.init && c.name == container.name)
        .map(|c| c.restarts)
        .max()
        .unwrap_or(0)
}

fn has_run_since_new(node: &Node, pod: &Pod, window: SignedDuration) -> bool {
    let until = node.created.saturating_add(window);
    let began = |c: &Container| match c.state {
        ContainerState::Running(since) => since,
        ContainerState::Waiting(_) | ContainerState::Terminated(_) => None,
    };
    let mut main = pod.containers.iter().filter(|c| !c.init).peekable();
    main.peek().is_some() && until.is_ok_and(|until| main.all(|c| began(c).is_some_and(|at| at <= until)))
}
