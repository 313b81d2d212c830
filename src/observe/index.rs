//! The snapshot's indices, kept up a fact at a time.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::cluster::Kind;
use crate::model::{
    Budget, GroupName, InstanceId, Node, NodeName, ObjectKey, Operator, Pod, Text, Uid, VolumeAttachment,
};

/// Look-ups that would otherwise walk everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Index {
    /// Nodes that name an instance, the newest last: one registered anew under another name outlives its object.
    pub(super) nodes_of_instance: BTreeMap<InstanceId, BTreeSet<(Timestamp, NodeName)>>,
    pub(super) instances_of_group: BTreeMap<GroupName, BTreeSet<InstanceId>>,
    pub(super) pods_of_node: BTreeMap<NodeName, BTreeSet<Uid>>,
    pub(super) attachments_of_node: BTreeMap<NodeName, BTreeSet<Text>>,
    /// Budgets by namespace, key and value of one label that they require: a pod meets few of a namespace's many.
    pub(super) budgets_of_label: BTreeMap<(Text, Text, Text), BTreeSet<ObjectKey>>,
    /// Budgets that require no label with one value.
    pub(super) budgets_elsewise: BTreeSet<ObjectKey>,
    pub(super) relists: Vec<Relist>,
}

/// Where a budget is found again: by the first label it requires one value of.
fn label_of(budget: &Budget) -> Option<(Text, Text, Text)> {
    budget.selector.as_ref()?.0.iter().find_map(|requirement| match requirement.values.as_slice() {
        [value] if requirement.operator == Operator::In => {
            Some((budget.key.namespace.clone(), requirement.key.clone(), value.clone()))
        }
        _ => None,
    })
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
    pub(super) fn seen(&mut self, kind: Kind, id: &str) {
        if let Some(list) = self.relists.iter_mut().find(|r| r.kind == kind) {
            list.seen.insert(id.into());
        }
    }

    pub(super) fn join(&mut self, node: &Node) {
        if let Some(instance) = &node.instance {
            self.nodes_of_instance.entry(instance.clone()).or_default().insert((node.created, node.name.clone()));
        }
    }

    pub(super) fn part(&mut self, node: &Node) {
        let Some(instance) = &node.instance else { return };
        let Some(nodes) = self.nodes_of_instance.get_mut(instance) else { return };
        nodes.remove(&(node.created, node.name.clone()));
        if nodes.is_empty() {
            self.nodes_of_instance.remove(instance);
        }
    }

    pub(super) fn leave_group(&mut self, group: &GroupName, id: &InstanceId) {
        if let Some(members) = self.instances_of_group.get_mut(group) {
            members.remove(id);
        }
    }

    pub(super) fn cover(&mut self, budget: &Budget) {
        match label_of(budget) {
            Some(label) => self.budgets_of_label.entry(label).or_default().insert(budget.key.clone()),
            None => self.budgets_elsewise.insert(budget.key.clone()),
        };
    }

    pub(super) fn uncover(&mut self, budget: &Budget) {
        let Some(label) = label_of(budget) else {
            self.budgets_elsewise.remove(&budget.key);
            return;
        };
        let Some(budgets) = self.budgets_of_label.get_mut(&label) else { return };
        budgets.remove(&budget.key);
        if budgets.is_empty() {
            self.budgets_of_label.remove(&label);
        }
    }

    /// The budgets that may cover a pod, in the order of their names.
    pub(super) fn budgets_near(&self, pod: &Pod) -> BTreeSet<&ObjectKey> {
        let namespace = &pod.key.namespace;
        let labels = pod.labels.iter().map(|(key, value)| (namespace.clone(), key.clone(), value.clone()));
        let found = labels.filter_map(|label| self.budgets_of_label.get(&label)).flatten();
        let first = ObjectKey { namespace: namespace.clone(), name: "".into() };
        let others = self.budgets_elsewise.range(first..).take_while(|key| key.namespace == *namespace);
        found.chain(others).collect()
    }

    pub(super) fn bind(&mut self, pod: &Pod) {
        if let Some(node) = &pod.node {
            self.pods_of_node.entry(node.clone()).or_default().insert(pod.uid.clone());
        }
    }

    pub(super) fn unbind(&mut self, pod: &Pod) {
        let Some(node) = &pod.node else { return };
        if let Some(pods) = self.pods_of_node.get_mut(node) {
            pods.remove(&pod.uid);
            if pods.is_empty() {
                self.pods_of_node.remove(node);
            }
        }
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
