//! What the checker counts with, from the raw records.

use jiff::Timestamp;

use crate::model::{
    ConditionStatus, GroupName, Instance, LaunchSource, Ledger, Node, NodeGroup, NodeMark, NodeName, Override, Pod,
    Target, TemplateRef, Text, Uid, marks,
};
use crate::observe::{RotationRecord, Snapshot};
use crate::plan::Subject;
use crate::policy::Policy;

use super::{Violation, rule, violation};

/// All that a check reads.
pub(super) struct World<'a> {
    pub(super) policy: &'a Policy,
    pub(super) snapshot: &'a Snapshot,
    pub(super) record: &'a RotationRecord,
    pub(super) now: Timestamp,
}

pub(super) fn about_group(group: &GroupName) -> Subject {
    Subject::Group(group.clone())
}

pub(super) fn about_node(node: &NodeName) -> Subject {
    Subject::Node(node.clone())
}

impl<'a> World<'a> {
    /// The group, if anything may be done to it; `giving_up` for what only takes our own changes back.
    pub(super) fn group(&self, name: &GroupName, giving_up: bool) -> Result<&'a NodeGroup, Violation> {
        let broken = |detail: &str| violation(rule::SCOPE, about_group(name), detail.to_owned());
        let Some(group) = self.snapshot.groups.get(name) else {
            return Err(broken("the group is not one of the cluster's"));
        };
        if let Some(nodegroup) = &group.managed_by {
            return Err(broken(&format!("it belongs to EKS managed node group {nodegroup}")));
        }
        if let Some(operator) = &group.operator {
            return Err(broken(&format!("only {operator} may change it")));
        }
        if giving_up && self.tagged_ours(group) {
            return Ok(group);
        }
        if group.refreshing {
            return Err(broken("an instance refresh is in progress"));
        }
        if group.reuses {
            return Err(broken("its warm pool would take back what is scaled in"));
        }
        if group.weighted {
            return Err(broken("it counts in instance weights"));
        }
        let scope = &self.policy.scope.groups;
        if !scope.is_empty() && !scope.contains(name) {
            return Err(broken("it is out of scope"));
        }
        match self.record.targets.get(name) {
            None | Some(Target::None) => Err(broken("no target is recorded for it")),
            Some(_) => Ok(group),
        }
    }

    pub(super) fn tagged_ours(&self, group: &NodeGroup) -> bool {
        group.tags.get(marks::TAG_ROTATION) == Some(&self.record.id)
    }

    /// The Node of this name and UID.
    pub(super) fn node(&self, name: &NodeName, uid: &Uid) -> Result<&'a Node, Violation> {
        match self.snapshot.nodes.get(name) {
            Some(node) if node.uid == *uid => Ok(node),
            Some(node) => Err(violation(
                rule::IDENTITY,
                about_node(name),
                format!("it names UID {uid}, the Node's is {}", node.uid),
            )),
            None => Err(violation(rule::IDENTITY, about_node(name), "there is no such Node".to_owned())),
        }
    }

    /// The instance of a Node, where a group has it.
    pub(super) fn instance_of(&self, node: &Node) -> Option<&'a Instance> {
        self.snapshot.instances.get(node.instance.as_ref()?)
    }

    pub(super) fn is_ours(&self, node: &Node) -> bool {
        node.labels.get(marks::ROTATION) == Some(&self.record.id)
    }

    /// Our mark on a node; another rotation's is none.
    pub(super) fn mark(&self, node: &Node) -> Option<NodeMark> {
        if !self.is_ours(node) {
            return None;
        }
        NodeMark::parse(node.annotations.get(marks::STATE)?)
    }

    /// Cordoned by this rotation, to be drained or drained.
    pub(super) fn is_in_hand(&self, node: &Node) -> bool {
        node.unschedulable && matches!(self.mark(node), Some(NodeMark::Draining | NodeMark::Drained | NodeMark::Failed))
    }

    /// Launched since the rotation began: one of its replacements.
    pub(super) fn is_replacement(&self, instance: &Instance) -> bool {
        let node = if instance.launched_at.is_none() { self.snapshot.node_of(&instance.id) } else { None };
        self.is_new(instance, node)
    }

    /// The same of an instance whose Node is at hand.
    pub(super) fn is_new(&self, instance: &Instance, node: Option<&Node>) -> bool {
        let born = instance.launched_at.or(node.map(|node| node.created));
        born.is_some_and(|born| born >= self.record.started) || self.record.failed.contains_key(&instance.id)
    }

    /// Whether an instance may be rotated: it is not what the recorded target launches, or was asked for and is
    /// older than the rotation.
    pub(super) fn may_rotate(&self, instance: &Instance) -> bool {
        if self.record.targets.get(&instance.group).is_some_and(|target| !launches(target, instance)) {
            return true;
        }
        let asks = self.policy.force || self.policy.older_than.is_some() || !self.policy.scope.nodes.is_empty();
        if !asks || self.born(instance).is_none_or(|born| born >= self.record.started) {
            return false;
        }
        let named = || self.snapshot.node_of(&instance.id).is_some_and(|n| self.policy.scope.nodes.contains(&n.name));
        let limit = self.policy.older_than.and_then(|age| self.record.started.checked_sub(age).ok());
        self.policy.force || self.born(instance).zip(limit).is_some_and(|(born, limit)| born < limit) || named()
    }

    fn born(&self, instance: &Instance) -> Option<Timestamp> {
        instance.launched_at.or_else(|| Some(self.snapshot.node_of(&instance.id)?.created))
    }

    /// The first pod on a node that a drain would have to see gone.
    pub(super) fn left_on(&self, node: &Node) -> Option<&'a Pod> {
        self.snapshot.pods_on(&node.name).find(|pod| must_leave(pod))
    }

    /// Volumes attached to a node that may belong to a pod that had to go. Where a pod that stays uses a claim,
    /// they may be that one's.
    pub(super) fn volumes_on(&self, node: &Node) -> usize {
        let stays_with_claim = |pod: &Pod| pod.flags.claims && !must_leave(pod) && !pod.is_finished();
        if self.snapshot.pods_on(&node.name).any(stays_with_claim) {
            return 0;
        }
        self.snapshot.attachments_on(&node.name).count()
    }

    /// The group's ledger; none is an empty one.
    pub(super) fn ledger(&self, group: &NodeGroup) -> Result<Ledger, Violation> {
        match group.tags.get(marks::TAG_SURGE) {
            None => Ok(Ledger::settled(0)),
            Some(tag) => {
                Ledger::parse(tag).map_err(|e| violation(rule::LEDGER, about_group(&group.name), e.to_string()))
            }
        }
    }

    /// The group's own desired and our surge. A step in hand counts as not ours.
    pub(super) fn own_desired(&self, group: &NodeGroup) -> Result<(u32, u32), Violation> {
        let ours = self.ledger(group)?.confirmed;
        Ok((group.desired.saturating_sub(ours), ours))
    }
}

/// A pod that neither stays with its node (a DaemonSet's, a mirror) nor has ended.
pub(super) fn must_leave(pod: &Pod) -> bool {
    let stays = pod.flags.mirror || pod.owner.as_ref().is_some_and(|owner| &*owner.kind == "DaemonSet");
    !stays && !pod.is_finished()
}

/// Whether a node carries load: Ready, open, staying, and rid of what keeps pods off while it starts.
pub(super) fn carries_load(node: &Node) -> bool {
    let starting = |key: &str| {
        key.ends_with("not-ready") || key.ends_with("/uninitialized") || key.starts_with("readiness.k8s.io/")
    };
    node.ready() == ConditionStatus::True
        && !node.unschedulable
        && !node.deleting
        && !node.taints.iter().any(|taint| starting(&taint.key))
}

/// Whether `target` launches instances like this one, as far as can be told: in doubt it does.
fn launches(target: &Target, instance: &Instance) -> bool {
    let same = |template: &TemplateRef, id: &Text, version: &Text| {
        let version = template.resolved.as_ref().is_none_or(|resolved| resolved == version);
        let image = template.image.as_ref().zip(instance.image.as_ref()).is_none_or(|(want, have)| want == have);
        template.id == *id && version && image
    };
    match (target, &instance.source) {
        (Target::Template(template), LaunchSource::Template { id, version }) => same(template, id, version),
        (Target::Mixed { base, overrides }, LaunchSource::Template { id, version }) => {
            let fitting = |o: &&Override| o.instance_type.as_ref().is_none_or(|kind| *kind == instance.instance_type);
            let mut fitting = overrides.iter().filter(fitting).peekable();
            let none = fitting.peek().is_none();
            (none && overrides.is_empty() && same(base, id, version))
                || fitting.any(|o| same(o.template.as_ref().unwrap_or(base), id, version))
        }
        (Target::Configuration(want), LaunchSource::Configuration(have)) => want == have,
        _ => false,
    }
}
