//! The snapshot's indices, kept up a fact at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::cluster::Kind;
use crate::model::{
    Budget, Container, GroupName, InstanceId, Node, NodeMark, NodeName, ObjectKey, Pod, Text, Uid, VolumeAttachment,
    marks,
};
use crate::plan::candidates::is_marked;
use crate::plan::filters;
use crate::readiness;

use super::covers::Covers;

/// Look-ups that would otherwise walk everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Index {
    /// Nodes that name an instance, the newest last: one registered anew under another name outlives its object.
    pub(super) nodes_of_instance: BTreeMap<InstanceId, Vec<Joined>>,
    pub(super) instances_of_group: BTreeMap<GroupName, BTreeSet<InstanceId>>,
    pub(super) pods_of_node: BTreeMap<NodeName, BTreeMap<Uid, Arc<Pod>>>,
    /// Of these, the few that could hold their node, whatever the policy.
    pub(super) holders_of_node: BTreeMap<NodeName, BTreeSet<Uid>>,
    /// Pods of DaemonSets with a container that was restarted, by the set.
    pub(super) restarted: BTreeMap<Uid, BTreeSet<Restarted>>,
    pub(super) attachments_of_node: BTreeMap<NodeName, BTreeSet<Text>>,
    pub(super) covers: Covers,
    pub(super) relists: Vec<Relist>,
}

/// What every member is derived from of its Node. Told when the Node's fact arrives, so that deriving thousands of
/// members does not look up and walk as many records.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Joined {
    pub(crate) created: Timestamp,
    pub(crate) name: NodeName,
    /// The annotation [`marks::STATE`].
    pub(crate) mark: Option<NodeMark>,
    /// See [`readiness::serves`].
    pub(crate) serves: bool,
    /// See [`is_marked`].
    pub(crate) marked: bool,
    /// It has the soft taint.
    pub(crate) tainted: bool,
}

impl Joined {
    fn of(node: &Node) -> Self {
        Self {
            created: node.created,
            name: node.name.clone(),
            mark: node.annotation(marks::STATE).and_then(NodeMark::parse),
            serves: readiness::serves(node),
            marked: is_marked(node),
            tainted: node.has_taint(marks::OUTDATED_TAINT),
        }
    }
}

/// A pod with a container that was restarted, all of whose main containers run: the soonest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Restarted {
    /// From the pod's creation to the last start of a main container.
    pub(super) after: SignedDuration,
    /// Of one container, init containers included.
    pub(super) most: u32,
    pub(super) pod: Uid,
}

impl Restarted {
    /// Of a pod, with its owner.
    fn of(pod: &Pod) -> Option<(&Uid, Self)> {
        let most = pod.containers.iter().map(|c| c.restarts).max().filter(|most| *most > 0)?;
        let started = pod.containers.iter().filter(|c| !c.init).map(Container::running_since);
        let last = started.reduce(|last, next| Some(last?.max(next?)))??;
        let after = last.duration_since(pod.created);
        Some((&pod.owner.as_ref()?.uid, Self { after, most, pod: pod.uid.clone() }))
    }
}

/// A full list in progress: what it has named so far.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Relist {
    pub(super) kind: Kind,
    pub(super) seen: BTreeSet<Text>,
}

impl Relist {
    pub(super) fn begin(kind: Kind) -> Self {
        Self { kind, seen: BTreeSet::new() }
    }
}

impl Index {
    /// Notes that a list in progress has named this object.
    pub(super) fn seen(&mut self, kind: Kind, id: impl FnOnce() -> Text) {
        if let Some(list) = self.relists.iter_mut().find(|r| r.kind == kind) {
            list.seen.insert(id());
        }
    }

    pub(super) fn join(&mut self, node: &Node) {
        let Some(instance) = &node.instance else { return };
        let nodes = self.nodes_of_instance.entry(instance.clone()).or_insert_with(|| Vec::with_capacity(1));
        let joined = Joined::of(node);
        let at = nodes.partition_point(|n| (n.created, &n.name) < (joined.created, &joined.name));
        nodes.insert(at, joined);
    }

    pub(super) fn part(&mut self, node: &Node) {
        let Some(instance) = &node.instance else { return };
        let Some(nodes) = self.nodes_of_instance.get_mut(instance) else { return };
        nodes.retain(|n| n.name != node.name);
        if nodes.is_empty() {
            self.nodes_of_instance.remove(instance);
        }
    }

    pub(super) fn leave_group(&mut self, group: &GroupName, id: &InstanceId) {
        if let Some(members) = self.instances_of_group.get_mut(group) {
            members.remove(id);
        }
    }

    /// Takes in a pod that was not there before.
    pub(super) fn bind(&mut self, pod: &Arc<Pod>, budgets: &BTreeMap<ObjectKey, Budget>) {
        let hard = self.covers.add(pod, budgets);
        if let Some((set, restarted)) = Restarted::of(pod) {
            self.restarted.entry(set.clone()).or_default().insert(restarted);
        }
        if let Some(node) = &pod.node {
            self.pods_of_node.entry(node.clone()).or_default().insert(pod.uid.clone(), pod.clone());
            if hard && !pod.is_daemon() || filters::may_hold(pod) {
                self.holders_of_node.entry(node.clone()).or_default().insert(pod.uid.clone());
            }
        }
    }

    pub(super) fn unbind(&mut self, pod: &Pod) {
        self.covers.remove(pod);
        if let Some((set, restarted)) = Restarted::of(pod)
            && let Some(pods) = self.restarted.get_mut(set)
        {
            pods.remove(&restarted);
            if pods.is_empty() {
                self.restarted.remove(set);
            }
        }
        let Some(node) = &pod.node else { return };
        if let Some(pods) = self.pods_of_node.get_mut(node) {
            pods.remove(&pod.uid);
            if pods.is_empty() {
                self.pods_of_node.remove(node);
            }
        }
        if let Some(holders) = self.holders_of_node.get_mut(node) {
            holders.remove(&pod.uid);
            if holders.is_empty() {
                self.holders_of_node.remove(node);
            }
        }
    }

    /// Takes in a pod's new record.
    pub(super) fn rebind(&mut self, old: &Pod, new: &Arc<Pod>, budgets: &BTreeMap<ObjectKey, Budget>) {
        let alike = old.node == new.node
            && old.labels == new.labels
            && old.key.namespace == new.key.namespace
            && filters::may_hold(old) == filters::may_hold(new)
            && old.is_daemon() == new.is_daemon()
            && Restarted::of(old) == Restarted::of(new);
        if !alike {
            self.unbind(old);
            self.bind(new, budgets);
        } else if let Some(pods) = new.node.as_ref().and_then(|node| self.pods_of_node.get_mut(node)) {
            pods.insert(new.uid.clone(), new.clone());
        }
    }

    /// Whether a pod is one of those that could hold its node.
    pub(super) fn may_hold(&self, pod: &Pod) -> bool {
        let holders = pod.node.as_ref().and_then(|node| self.holders_of_node.get(node));
        holders.is_some_and(|holders| holders.contains(&pod.uid))
    }

    pub(super) fn attach(&mut self, attachment: &VolumeAttachment) {
        self.attachments_of_node.entry(attachment.node.clone()).or_default().insert(attachment.name.clone());
    }

    pub(super) fn detach(&mut self, attachment: &VolumeAttachment) {
        let Some(names) = self.attachments_of_node.get_mut(&attachment.node) else { return };
        names.remove(&attachment.name);
        if names.is_empty() {
            self.attachments_of_node.remove(&attachment.node);
        }
    }
}
