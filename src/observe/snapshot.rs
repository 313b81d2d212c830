//! The world as last seen, joined and indexed.
//!
//! The controller owns it and is the only one to change it, a fact at a time; everybody else reads it.
//! Indices are kept up as facts arrive, so that a pass costs what changed, not what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::cloud::{GroupState, InstanceDetail};
use crate::cluster::{ErrorKind, Fact, Kind};
use crate::model::{
    Activity, Attachment, Budget, CsiNode, DaemonSet, GroupName, Instance, InstanceId, Node, NodeGroup, NodeName,
    ObjectKey, Pod, Revision, Selector, Target, Text, Uid, VolumeAttachment,
};
use crate::plan::{ActionKey, Verdict, candidates, filters};

use super::derived::Derived;
use super::index::{Index, Joined, Relist};
use super::mending::{Mended, Mending};
use super::refresh::{Dirty, Seen};

/// The rotation's own record, as its ConfigMap keeps it: fixed when it began, the same after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationRecord {
    /// Its id: sortable, unique, a valid label value.
    pub id: Text,
    /// When it began. Age and force apply to instances launched before.
    pub started: Timestamp,
    /// The resolved target of each group, fixed for the rotation.
    pub targets: BTreeMap<GroupName, Target>,
    /// Former scale-in protection of the instances whose protection we changed.
    pub protection: BTreeMap<InstanceId, bool>,
    /// Nodes given up, with the reason.
    pub skipped: BTreeMap<NodeName, Text>,
    /// Failed replacements so far, with the reason.
    pub failed: BTreeMap<InstanceId, Text>,
    /// The rotation is ending early, with this verdict: nothing new is begun, after a crash neither.
    #[serde(default)]
    pub ending: Option<Verdict>,
    /// What it has mended.
    #[serde(default)]
    pub mended: Mended,
}

/// An action that was handed to the executor and has not come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// When it was handed over.
    pub since: Timestamp,
}

/// The last refusal of an eviction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What kind.
    pub kind: ErrorKind,
    /// What the server said.
    pub message: String,
    /// When.
    pub at: Timestamp,
    /// Refusals in a row.
    pub attempts: u32,
    /// Not before; a budget that opens earlier overrides it.
    pub retry_at: Timestamp,
}

/// Which sources have been heard in full.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Synced {
    /// Kinds whose first list is complete.
    pub kinds: BTreeSet<Kind>,
    /// The groups have been read.
    pub groups: bool,
}

/// The joined world. See the module's text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The cluster's name.
    pub cluster: Text,
    /// The control plane's version, `v1.36.3`.
    pub version: Text,
    /// When the groups were last read.
    pub groups_read: Option<Timestamp>,
    /// Groups by name.
    pub groups: BTreeMap<GroupName, NodeGroup>,
    /// Instances by id.
    pub instances: BTreeMap<InstanceId, Instance>,
    /// Recent activities by group, newest first.
    pub activities: BTreeMap<GroupName, Vec<Activity>>,
    /// Nodes by name.
    pub nodes: BTreeMap<NodeName, Node>,
    /// Pods by UID.
    pub pods: BTreeMap<Uid, Arc<Pod>>,
    /// DaemonSets by UID.
    pub daemonsets: BTreeMap<Uid, DaemonSet>,
    /// The newest revision of each DaemonSet, by the DaemonSet's UID.
    pub revisions: BTreeMap<Uid, Revision>,
    /// Budgets.
    pub budgets: BTreeMap<ObjectKey, Budget>,
    /// CSI drivers by node.
    pub csi_nodes: BTreeMap<NodeName, CsiNode>,
    /// Volume attachments by name.
    pub attachments: BTreeMap<Text, VolumeAttachment>,
    /// The rotation in progress, if one is.
    pub rotation: Option<Arc<RotationRecord>>,
    /// Actions handed to the executor.
    pub in_flight: BTreeMap<ActionKey, InFlight>,
    /// Evictions refused, by pod.
    pub refusals: BTreeMap<Uid, Refusal>,
    /// The node fastnode itself runs on.
    pub own_node: Option<NodeName>,
    /// What has been heard in full.
    pub synced: Synced,
    /// Since when a group has had fewer instances than its desired capacity, as far as readings have shown.
    #[serde(default)]
    pub short_since: BTreeMap<GroupName, Timestamp>,
    /// When a reading first showed an instance whose launch time is not known.
    #[serde(default)]
    pub first_seen: BTreeMap<InstanceId, Timestamp>,
    /// The deregistration delay of what is attached to groups, in seconds, where it could be read.
    #[serde(default)]
    pub delays: BTreeMap<Attachment, u32>,
    /// When a reading first showed an instance on its way out.
    #[serde(default)]
    pub leaving_since: BTreeMap<InstanceId, Timestamp>,
    /// Instances whose Node has gone, and when the reading before that was: they have joined once.
    #[serde(default)]
    pub unregistered: BTreeMap<InstanceId, Timestamp>,
    /// Of these, those whose Node carried marks of ours.
    #[serde(default)]
    pub marked_before: BTreeSet<InstanceId>,
    /// What is being done about slow or failing new nodes.
    #[serde(skip)]
    pub mending: Mending,
    /// Evictions that were accepted and whose pod does not show it yet.
    #[serde(skip)]
    pub(crate) accepted: BTreeMap<Uid, Timestamp>,
    /// Evictions accepted since a budget was last observed.
    #[serde(skip)]
    pub(crate) spent: BTreeMap<ObjectKey, u32>,
    #[serde(skip)]
    pub(super) index: Index,
    #[serde(skip)]
    pub(super) derived: Derived,
    #[serde(skip)]
    pub(super) dirty: Dirty,
    #[serde(skip)]
    pub(super) seen: Seen,
}

impl Snapshot {
    /// Takes in one fact of a watch.
    pub fn apply(&mut self, fact: Fact) {
        match fact {
            Fact::Relisting(kind) => {
                self.index.relists.retain(|r| r.kind != kind);
                // A first list takes nothing away, and may name many thousands.
                if self.knows(kind) {
                    self.index.relists.push(Relist::begin(kind));
                }
            }
            Fact::Synced(kind) => self.finish_list(kind),
            Fact::Node(node) => {
                self.index.seen(Kind::Node, || node.name.text().clone());
                if let Some(old) = self.nodes.get(&node.name) {
                    self.index.part(old);
                    self.dirty.instances.extend(old.instance.clone());
                }
                self.index.join(&node);
                if let Some(id) = &node.instance {
                    self.unregistered.remove(id);
                    self.marked_before.remove(id);
                }
                self.dirty.nodes.insert(node.name.clone());
                self.nodes.insert(node.name.clone(), node);
            }
            Fact::NodeGone(name) => self.drop_node(&name),
            Fact::Pod(pod) => {
                self.index.seen(Kind::Pod, || pod.uid.text().clone());
                self.apply_pod(Arc::new(pod));
            }
            Fact::PodGone(uid) => self.drop_pod(&uid),
            Fact::DaemonSet(set) => {
                self.index.seen(Kind::DaemonSet, || set.uid.text().clone());
                self.dirty.gates |= self.daemonsets.get(&set.uid) != Some(&set);
                self.daemonsets.insert(set.uid.clone(), set);
            }
            Fact::DaemonSetGone(uid) => {
                self.dirty.gates = true;
                self.daemonsets.remove(&uid);
            }
            Fact::Revision(revision) => {
                self.index.seen(Kind::Revision, || revision.uid.text().clone());
                let newest = self.revisions.get(&revision.owner);
                if newest.is_none_or(|n| n.number <= revision.number || n.uid == revision.uid) {
                    self.dirty.gates |= newest != Some(&revision);
                    self.revisions.insert(revision.owner.clone(), revision);
                }
            }
            // The newest revision goes only with its DaemonSet, or when the controller trims history, which
            // never takes the newest: an older one is not kept here at all.
            Fact::RevisionGone(uid) => {
                self.dirty.gates = true;
                self.revisions.retain(|_, r| r.uid != uid);
            }
            Fact::Budget(budget) => {
                self.index.seen(Kind::Budget, || budget.key.to_string().into());
                self.apply_budget(budget);
            }
            Fact::BudgetGone(key) => self.drop_budget(&key),
            Fact::CsiNode(csi) => {
                self.index.seen(Kind::CsiNode, || csi.node.text().clone());
                self.mark_watched(&csi.node.clone());
                self.csi_nodes.insert(csi.node.clone(), csi);
            }
            Fact::CsiNodeGone(name) => {
                self.mark_watched(&name);
                self.csi_nodes.remove(&name);
            }
            Fact::VolumeAttachment(attachment) => {
                self.index.seen(Kind::VolumeAttachment, || attachment.name.clone());
                self.drop_attachment(&attachment.name);
                self.mark_watched(&attachment.node);
                self.index.attach(&attachment);
                self.attachments.insert(attachment.name.clone(), attachment);
            }
            Fact::VolumeAttachmentGone(name) => self.drop_attachment(&name),
            Fact::WatchFailed(..) => {}
        }
    }

    /// Takes in a full reading of the cluster's groups. Targets stay as they were resolved last where the
    /// group still names the same thing; what other calls said of a group or an instance is kept.
    pub fn apply_groups(&mut self, states: Vec<GroupState>, now: Timestamp) {
        let mut groups = BTreeMap::new();
        let mut shown = Vec::with_capacity(self.instances.len());
        // Without a rotation, ages are counted from the reading.
        self.dirty.all |= self.rotation.is_none();
        for mut state in states {
            if let Some(old) = self.groups.get(&state.group.name) {
                state.group.target = state.group.target.keeping_resolution(&old.target);
                state.group.refreshing = old.refreshing;
            }
            self.index.instances_of_group.entry(state.group.name.clone()).or_default();
            let counted = state.instances.iter().filter(|i| i.lifecycle.counts_in_desired()).count();
            shown.extend(state.instances);
            if counted >= state.group.desired as usize {
                self.short_since.remove(&state.group.name);
            } else if !self.short_since.contains_key(&state.group.name) {
                // From here on it has a deadline.
                self.short_since.insert(state.group.name.clone(), now);
                self.dirty.relevant = true;
            }
            self.note_group(&state.group);
            groups.insert(state.group.name.clone(), state.group);
        }
        self.apply_instances(shown, now);
        self.dirty.groups |= groups.len() != self.groups.len();
        self.index.instances_of_group.retain(|name, _| groups.contains_key(name));
        self.groups = groups;
        self.groups_read = Some(now);
        self.synced.groups = true;
    }

    /// Makes the instances those of a reading. Most are as they were: these cost a comparison and nothing else.
    fn apply_instances(&mut self, mut shown: Vec<Instance>, now: Timestamp) {
        shown.sort_by(|a, b| a.id.cmp(&b.id));
        let (mut changed, mut gone) = (Vec::new(), Vec::new());
        let mut known = self.instances.values().peekable();
        for mut instance in shown {
            while let Some(unnamed) = known.next_if(|old| old.id < instance.id) {
                gone.push(unnamed.id.clone());
            }
            if let Some(old) = known.next_if(|old| old.id == instance.id) {
                instance.launched_at = instance.launched_at.or(old.launched_at);
                instance.image = instance.image.take().or_else(|| old.image.clone());
                if *old == instance {
                    continue;
                }
            }
            changed.push(instance);
        }
        gone.extend(known.map(|old| old.id.clone()));
        for id in gone {
            self.drop_instance(&id);
        }
        for instance in changed {
            self.apply_instance(instance, now);
        }
    }

    fn apply_instance(&mut self, instance: Instance, now: Timestamp) {
        let id = instance.id.clone();
        if instance.lifecycle.is_leaving() && !self.leaving_since.contains_key(&id) {
            self.leaving_since.insert(id.clone(), now);
            self.dirty.relevant = true;
        }
        if let Some(old) = self.instances.get(&id).filter(|old| old.group != instance.group) {
            self.index.leave_group(&old.group, &id);
        }
        if instance.launched_at.is_none() {
            self.first_seen.entry(id.clone()).or_insert(now);
        }
        self.index.instances_of_group.entry(instance.group.clone()).or_default().insert(id.clone());
        self.dirty.instances.insert(id.clone());
        self.instances.insert(id, instance);
    }

    fn drop_instance(&mut self, id: &InstanceId) {
        if let Some(instance) = self.instances.remove(id) {
            self.index.leave_group(&instance.group, id);
        }
        self.first_seen.remove(id);
        self.leaving_since.remove(id);
        self.unregistered.remove(id);
        self.marked_before.remove(id);
        self.dirty.instances.insert(id.clone());
    }

    /// Takes in what a group's target resolves to now.
    pub fn apply_target(&mut self, group: &GroupName, target: Target) {
        let Some(mut changed) = self.groups.get(group).cloned() else { return };
        changed.target = target;
        self.note_group(&changed);
        self.groups.insert(group.clone(), changed);
    }

    /// Takes in what EC2 says of instances.
    pub fn apply_details(&mut self, details: Vec<InstanceDetail>) {
        for detail in details {
            let Some(instance) = self.instances.get_mut(&detail.id) else { continue };
            if (instance.launched_at, &instance.image) != (detail.launched_at, &detail.image) {
                instance.launched_at = detail.launched_at.or(instance.launched_at);
                instance.image = detail.image.or(instance.image.take());
                self.dirty.instances.insert(detail.id);
            }
        }
    }

    /// Takes in a group's recent activities, newest first.
    pub fn apply_activities(&mut self, group: &GroupName, activities: Vec<Activity>) {
        if self.activities.get(group) != Some(&activities) {
            self.dirty.relevant = true;
            self.activities.insert(group.clone(), activities);
        }
    }

    /// Whether every source has been heard in full; before that nothing may be planned.
    pub fn is_synced(&self) -> bool {
        self.synced.groups && Kind::ALL.iter().all(|k| self.synced.kinds.contains(k))
    }

    /// The Node of an instance, joined by `providerID`.
    pub fn node_of(&self, instance: &InstanceId) -> Option<&Node> {
        self.nodes.get(&self.joined(instance)?.name)
    }

    /// What of an instance's Node its member is derived from.
    pub(super) fn joined(&self, instance: &InstanceId) -> Option<&Joined> {
        self.index.nodes_of_instance.get(instance)?.last()
    }

    /// The instances of a group, by id.
    pub fn instances_of<'a>(&'a self, group: &GroupName) -> impl Iterator<Item = &'a Instance> + use<'a> {
        let members = self.index.instances_of_group.get(group);
        members.into_iter().flatten().filter_map(|id| self.instances.get(id))
    }

    /// The pods bound to a node, by UID.
    pub fn pods_on<'a>(&'a self, node: &NodeName) -> impl Iterator<Item = &'a Pod> + use<'a> {
        self.index.pods_of_node.get(node).into_iter().flat_map(|pods| pods.values()).map(|pod| &**pod)
    }

    /// The pods of a DaemonSet with a container that was restarted `least` times (at least once) or more, whose main
    /// containers have run since `within` after the pod was made.
    pub(crate) fn restarted_early<'a>(
        &'a self,
        set: &Uid,
        least: u32,
        within: SignedDuration,
    ) -> impl Iterator<Item = &'a Pod> + use<'a> {
        let pods = self.index.restarted.get(set).into_iter().flatten();
        let early = pods.take_while(move |r| r.after <= within).filter(move |r| r.most >= least);
        early.filter_map(|r| self.pods.get(&r.pod)).map(|pod| &**pod)
    }

    /// Of the pods on a node those that could hold it, by UID.
    pub(crate) fn holders_on<'a>(&'a self, node: &NodeName) -> impl Iterator<Item = &'a Pod> + use<'a> {
        let holders = self.index.holders_of_node.get(node);
        holders.into_iter().flatten().filter_map(|uid| self.pods.get(uid)).map(|pod| &**pod)
    }

    /// The budgets that cover a pod (`k8s.io/kubernetes` pkg/registry/core/pod/storage/eviction.go).
    pub fn budgets_over(&self, pod: &Pod) -> impl Iterator<Item = &Budget> {
        self.index.covers.over(pod).iter().filter_map(|key| self.budgets.get(key))
    }

    /// The volumes attached to, or being attached to, a node.
    pub fn attachments_on<'a>(&'a self, node: &NodeName) -> impl Iterator<Item = &'a VolumeAttachment> + use<'a> {
        let names = self.index.attachments_of_node.get(node);
        names.into_iter().flatten().filter_map(|name| self.attachments.get(name))
    }

    /// Makes the indices anew, and has the next refresh derive everything anew: after reading a snapshot from a file, and to prove that the kept ones are right.
    pub fn reindex(&mut self) {
        let relists = std::mem::take(&mut self.index.relists);
        self.index = Index { relists, ..Index::default() };
        self.dirty.all = true;
        self.derived = Derived::default();
        for attachment in self.attachments.values() {
            self.index.attach(attachment);
        }
        for node in self.nodes.values() {
            self.index.join(node);
        }
        for budget in self.budgets.values() {
            self.index.covers.settle((None, Some(budget)), &self.budgets);
        }
        for pod in self.pods.values() {
            self.index.bind(pod, &self.budgets);
        }
        for group in self.groups.keys() {
            self.index.instances_of_group.insert(group.clone(), BTreeSet::new());
        }
        for instance in self.instances.values() {
            self.index.instances_of_group.entry(instance.group.clone()).or_default().insert(instance.id.clone());
        }
    }

    /// Whether any object of a kind is known.
    fn knows(&self, kind: Kind) -> bool {
        match kind {
            Kind::Node => !self.nodes.is_empty(),
            Kind::Pod => !self.pods.is_empty(),
            Kind::DaemonSet => !self.daemonsets.is_empty(),
            Kind::Revision => !self.revisions.is_empty(),
            Kind::Budget => !self.budgets.is_empty(),
            Kind::CsiNode => !self.csi_nodes.is_empty(),
            Kind::VolumeAttachment => !self.attachments.is_empty(),
        }
    }

    fn finish_list(&mut self, kind: Kind) {
        self.synced.kinds.insert(kind);
        let Some(at) = self.index.relists.iter().position(|r| r.kind == kind) else { return };
        let seen = self.index.relists.swap_remove(at).seen;
        match kind {
            Kind::Node => {
                let gone: Vec<_> = self.nodes.keys().filter(|n| !seen.contains(n.text())).cloned().collect();
                gone.iter().for_each(|n| self.drop_node(n));
            }
            Kind::Pod => {
                let gone: Vec<_> = self.pods.keys().filter(|u| !seen.contains(u.text())).cloned().collect();
                gone.iter().for_each(|u| self.drop_pod(u));
            }
            Kind::DaemonSet => {
                self.dirty.gates = true;
                self.daemonsets.retain(|uid, _| seen.contains(uid.text()));
            }
            Kind::Revision => {
                self.dirty.gates = true;
                self.revisions.retain(|_, r| seen.contains(r.uid.text()));
            }
            Kind::Budget => {
                let gone: Vec<_> = self.budgets.keys().filter(|k| !seen.contains(&*k.to_string())).cloned().collect();
                gone.iter().for_each(|k| self.drop_budget(k));
            }
            Kind::CsiNode => {
                self.dirty.gates = true;
                self.csi_nodes.retain(|node, _| seen.contains(node.text()));
            }
            Kind::VolumeAttachment => {
                let gone: Vec<_> = self.attachments.keys().filter(|n| !seen.contains(*n)).cloned().collect();
                gone.iter().for_each(|n| self.drop_attachment(n));
            }
        }
    }

    /// Notes what a group's new record changes, before it replaces the old one.
    fn note_group(&mut self, new: &NodeGroup) {
        let Some(old) = self.groups.get(&new.name) else {
            self.dirty.all = true;
            return;
        };
        if old == new {
            return;
        }
        self.dirty.groups = true;
        // The group's own target decides about its members only beside the rotation's, or instead of it.
        if old.target != new.target || old.new_instances_protected != new.new_instances_protected {
            self.dirty.all = true;
        }
    }

    fn mark_watched(&mut self, node: &NodeName) {
        if self.derived.watched.contains_key(node) || self.derived.gated.contains_key(node) {
            self.dirty.nodes.insert(node.clone());
        }
    }

    fn apply_pod(&mut self, pod: Arc<Pod>) {
        if pod.deleting.is_some() {
            self.accepted.remove(&pod.uid);
        }
        let Some(slot) = self.pods.get_mut(&pod.uid) else {
            self.index.bind(&pod, &self.budgets);
            self.mark_pod(&pod);
            self.pods.insert(pod.uid.clone(), pod);
            return;
        };
        if *slot == pod {
            return;
        }
        let old = std::mem::replace(slot, pod.clone());
        self.mark_pod(&old);
        self.index.rebind(&old, &pod, &self.budgets);
        self.mark_pod(&pod);
    }

    /// A pod concerns its node's derived state where the node is watched, or where it could hold the node.
    fn mark_pod(&mut self, pod: &Pod) {
        if let Some(node) = &pod.node
            && (self.derived.watched.contains_key(node)
                || pod.is_daemon() && self.derived.gated.contains_key(node)
                || self.index.may_hold(pod))
        {
            self.dirty.nodes.insert(node.clone());
        }
    }

    fn apply_budget(&mut self, budget: Budget) {
        self.spent.remove(&budget.key);
        self.dirty.relevant |= self.derived.waits_on(&budget.key);
        let key = budget.key.clone();
        let old = self.budgets.insert(key.clone(), budget);
        let new = self.budgets.get(&key);
        if old.as_ref().zip(new).is_none_or(|(old, new)| holds_by(old) != holds_by(new)) {
            self.settle_budget(&key, old.as_ref());
        }
    }

    fn drop_budget(&mut self, key: &ObjectKey) {
        self.spent.remove(key);
        if let Some(old) = self.budgets.remove(key) {
            self.settle_budget(key, Some(&old));
        }
    }

    /// Brings up to date what a budget covers, and notes the nodes that it concerns.
    fn settle_budget(&mut self, key: &ObjectKey, old: Option<&Budget>) {
        self.dirty.nodes.extend(self.derived.watched.keys().cloned());
        for uid in self.index.covers.settle((old, self.budgets.get(key)), &self.budgets) {
            if let Some(pod) = self.pods.get(&uid).cloned() {
                self.mark_pod(&pod);
                self.index.unbind(&pod);
                self.index.bind(&pod, &self.budgets);
                self.mark_pod(&pod);
            }
        }
    }

    fn drop_attachment(&mut self, name: &Text) {
        if let Some(old) = self.attachments.remove(name) {
            self.index.detach(&old);
            self.mark_watched(&old.node);
        }
    }

    fn drop_node(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.remove(name) else { return };
        self.index.part(&node);
        if let (Some(id), Some(read)) = (&node.instance, self.groups_read) {
            self.unregistered.insert(id.clone(), read);
            if candidates::is_marked(&node) {
                self.marked_before.insert(id.clone());
            }
        }
        self.dirty.instances.extend(node.instance);
    }

    fn drop_pod(&mut self, uid: &Uid) {
        if let Some(pod) = self.pods.remove(uid) {
            self.mark_pod(&pod);
            self.index.unbind(&pod);
        }
        self.accepted.remove(uid);
        self.refusals.remove(uid);
    }
}

/// All of a budget by which it decides which nodes are held; the rest of it moves with every eviction.
fn holds_by(budget: &Budget) -> (&Option<Selector>, bool, bool, bool) {
    let unready = filters::needs_token(false, budget);
    (&budget.selector, budget.never_frees(), budget.unhealthy_always, unready)
}
