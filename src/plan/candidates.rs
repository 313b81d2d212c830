//! Which instances are rotated, and what every other one is to the rotation.

use jiff::Timestamp;

use super::filters::{self, Verdict};
use super::group::Group;
use super::pass::Pass;
use super::zones::Choice;
use super::{ActionKey, BlockReason, outdated, tokens};
use crate::model::{
    Instance, InstanceId, Lifecycle, Node, NodeGroup, NodeMark, NodeName, ObjectKey, Pod, Process, Target, TemplateRef,
    Text, Zone, marks,
};
use crate::observe::{Drain, DrainPod, Joined, Member, Role, STANDBY, Snapshot, Stray};
use crate::policy::Policy;
use crate::readiness;

/// What a decrement would do to such a group: the drained node would come back from the warm pool.
pub(crate) const REUSES: &str =
    "its warm pool takes back what is scaled in (ReuseOnScaleIn): switch that off for the rotation";

/// Why a whole group is left alone.
pub(crate) fn group_hold(cluster: &str, group: &NodeGroup) -> Option<BlockReason> {
    if let Some(nodegroup) = &group.managed_by {
        let command = format!("aws eks update-nodegroup-version --cluster-name {cluster} --nodegroup-name {nodegroup}");
        return Some(BlockReason::ManagedNodeGroup { nodegroup: nodegroup.clone(), command: command.into() });
    }
    if let Some(operator) = &group.operator {
        return Some(BlockReason::Operator { operator: operator.clone() });
    }
    if group.refreshing {
        return Some(BlockReason::InstanceRefresh);
    }
    if group.target == Target::None {
        return Some(BlockReason::NoTarget);
    }
    if group.reuses {
        return Some(BlockReason::NotOurs { what: REUSES.into() });
    }
    if group.weighted {
        return Some(BlockReason::Weighted);
    }
    suspended(group).map(|why| BlockReason::NotOurs { what: why.into() })
}

/// What somebody has suspended that a rotation of the group cannot do without.
pub(crate) fn suspended(group: &NodeGroup) -> Option<String> {
    // In hand already, it is seen through: what cannot be done then is named where it comes up.
    let process = [Process::LAUNCH, Process::TERMINATE].into_iter().find(|p| group.is_suspended(p));
    let process = process.filter(|_| !group.tags.contains_key(marks::TAG_ROTATION))?;
    Some(format!("somebody has suspended its process {process}: resume it first"))
}

/// Whether `now` would launch something else than `fixed`. What is not resolved yet is not called different, unless
/// it names another version: a number needs no resolution.
pub(crate) fn has_moved(fixed: &Target, now: &Target) -> bool {
    let known = |a: &Option<Text>, b: &Option<Text>| a.is_some() && b.is_some() && a != b;
    let moved = |a: &TemplateRef, b: &TemplateRef| {
        a.id != b.id || a.version != b.version || known(&a.resolved, &b.resolved) || known(&a.image, &b.image)
    };
    match (fixed, now) {
        (Target::Template(a), Target::Template(b)) => moved(a, b),
        (Target::Mixed { base: a, overrides: x }, Target::Mixed { base: b, overrides: y }) => {
            moved(a, b)
                || x.len() != y.len()
                || x.iter().zip(y).any(|(x, y)| {
                    x.instance_type != y.instance_type
                        || match (&x.template, &y.template) {
                            (Some(x), Some(y)) => moved(x, y),
                            (x, y) => x.is_some() != y.is_some(),
                        }
                })
        }
        (a, b) => a != b,
    }
}

/// What a member is derived from, besides its own records.
pub(crate) struct Judge<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) snapshot: &'a Snapshot,
    /// When the rotation began; when the groups were read, where none has.
    pub(crate) started: Timestamp,
}

impl Judge<'_> {
    /// Derives what the planner knows of an instance, `joined` with its Node.
    pub(crate) fn member(&self, group: &NodeGroup, instance: &Instance, joined: Option<&Joined>) -> Member {
        let snapshot = self.snapshot;
        let rotation = snapshot.rotation.as_ref();
        // Few parts need the whole record.
        let node = || joined.and_then(|j| snapshot.nodes.get(&j.name));
        let fixed = rotation.and_then(|r| r.targets.get(&group.name)).unwrap_or(&group.target);
        let born = instance.launched_at.or(joined.map(|j| j.created));
        let mark = joined.and_then(|j| j.mark);
        let named = joined.map(|j| (&j.name, j.created));
        let outdated = outdated::reasons(self.policy, fixed, instance, named, self.started);
        let new = rotation.is_some()
            && (mark == Some(NodeMark::Replacement)
                || (instance.lifecycle == Lifecycle::Pending || born.is_none_or(|b| b >= self.started)));
        // What the group launched after its target moved is no old node, though the rotation does not want it.
        let newer = new && outdated::is_newer(fixed, instance);
        let replacement =
            new && (newer || outdated.is_empty() || outdated::against(&group.target, instance).is_empty());
        let counted = instance.lifecycle.counts_in_desired();
        let stray = match counted && new && !outdated::against(fixed, instance).is_empty() {
            true if newer => Stray::Newer,
            true => Stray::Other,
            false => Stray::No,
        };
        let role = match &instance.lifecycle {
            Lifecycle::Warmed => Role::Warmed,
            Lifecycle::Terminating | Lifecycle::Terminated => Role::Leaving,
            Lifecycle::Retained => Role::Aside("Terminating:Retained".into()),
            Lifecycle::Detaching => Role::Aside("Detaching".into()),
            Lifecycle::Standby => Role::Aside(STANDBY.into()),
            Lifecycle::Quarantined => Role::Aside("Quarantined".into()),
            Lifecycle::Unknown(state) => Role::Aside(state.clone()),
            Lifecycle::Pending | Lifecycle::InService if replacement => self.replacement(instance, mark),
            Lifecycle::Pending | Lifecycle::InService if outdated.is_empty() || !self.in_scope(node) => Role::Current,
            Lifecycle::Pending | Lifecycle::InService => self.old(group, instance, joined.map(|j| &j.name), mark),
        };
        let outdated = if matches!(role, Role::Current) || replacement { Vec::new() } else { outdated };
        let in_service = instance.lifecycle == Lifecycle::InService;
        let serves = in_service
            && !matches!(role, Role::Young | Role::Failed | Role::Returning)
            && joined.is_some_and(|j| j.serves);
        let judged = if role == Role::Young { node() } else { None };
        let judgement = judged.map(|node| readiness::judge(self.policy, snapshot, node));
        let drained = if matches!(role, Role::Draining | Role::Failed | Role::Returning) { node() } else { None };
        let drain = drained.map(|node| self.drain(node));
        Member {
            group: group.name.clone(),
            zone: instance.zone.clone(),
            node: joined.map(|j| j.name.clone()),
            role,
            outdated,
            counted,
            pending: instance.lifecycle == Lifecycle::Pending,
            serves,
            marked: joined.is_some_and(|j| j.marked),
            tainted: joined.is_some_and(|j| j.tainted),
            own: joined.is_some_and(|j| snapshot.own_node.as_ref() == Some(&j.name)),
            born,
            judgement,
            drain,
            stray,
        }
    }

    fn replacement(&self, instance: &Instance, mark: Option<NodeMark>) -> Role {
        let failed = self.snapshot.rotation.as_ref().is_some_and(|r| r.failed.contains_key(&instance.id));
        match mark {
            Some(NodeMark::Draining | NodeMark::Drained) => Role::Returning,
            Some(NodeMark::Failed) => Role::Failed,
            _ if failed => Role::Failed,
            Some(NodeMark::Replacement) => Role::Adopted,
            _ => Role::Young,
        }
    }

    fn old(&self, group: &NodeGroup, instance: &Instance, node: Option<&NodeName>, mark: Option<NodeMark>) -> Role {
        let rotation = self.snapshot.rotation.as_ref();
        let Some(node) = node else {
            let what = "an instance without a Node: nothing on it can be drained";
            return Role::Held(BlockReason::NotOurs { what: what.into() });
        };
        match mark {
            Some(NodeMark::Draining | NodeMark::Drained) => return Role::Draining,
            Some(NodeMark::Skipped) => return Role::Skipped,
            _ => {}
        }
        if rotation.is_some_and(|r| r.skipped.contains_key(node)) {
            return Role::Skipped;
        }
        // Where the group protects all it launches, protection says nothing about this one.
        let ours = rotation.is_some_and(|r| r.protection.contains_key(&instance.id));
        if instance.protected && !ours && !group.new_instances_protected {
            return Role::Held(BlockReason::Protected);
        }
        self.node_hold(node).map_or(Role::Candidate, Role::Held)
    }

    fn in_scope<'n>(&self, node: impl Fn() -> Option<&'n Node>) -> bool {
        let scope = &self.policy.scope;
        if scope.nodes.is_empty() && scope.selector.is_empty() {
            return true;
        }
        node().is_some_and(|node| {
            (scope.nodes.is_empty() || scope.nodes.contains(&node.name))
                && scope.selector.iter().all(|r| r.matches(&node.labels))
        })
    }

    /// What holds a node: the first of its pods that must not be evicted.
    fn node_hold(&self, node: &NodeName) -> Option<BlockReason> {
        self.snapshot.holders_on(node).find_map(|pod| match filters::judge(self.policy, self.snapshot, pod) {
            Verdict::Hold(reason) => Some(reason),
            _ => None,
        })
    }

    /// What is left on a node that is being drained.
    fn drain(&self, node: &Node) -> Drain {
        let mut pods = Vec::new();
        let mut staying_claims = 0;
        for pod in self.snapshot.pods_on(&node.name) {
            let (going, hold) = match filters::judge(self.policy, self.snapshot, pod) {
                Verdict::Leave => {
                    staying_claims += u32::from(pod.flags.claims && !pod.is_finished());
                    continue;
                }
                Verdict::Going => (true, None),
                Verdict::Evict => (false, None),
                Verdict::Hold(reason) => (false, Some(reason)),
            };
            let budgets: Vec<ObjectKey> = if going || filters::bypasses_budgets(pod) {
                Vec::new()
            } else {
                self.snapshot.budgets_over(pod).map(|b| b.key.clone()).collect()
            };
            let (uid, key) = (pod.uid.clone(), pod.key.clone());
            let (critical, ready) = (pod.flags.critical, pod.flags.ready);
            pods.push(DrainPod { uid, key, critical, ready, going, hold, budgets });
        }
        pods.sort_by(|a, b| (a.critical, &a.key).cmp(&(b.critical, &b.key)));
        // Attachments name volumes, not pods: those of pods that stay are told apart by their number only.
        let attached = self.snapshot.attachments_on(&node.name).count() as u32;
        Drain { pods, volumes: attached.saturating_sub(staying_claims) }
    }
}

/// What a zone has to give next.
pub(super) enum Next<'a> {
    /// This one can be drained.
    Drain(&'a InstanceId),
    /// Only such as this one, whose pods are bound to the zone and fit on no other node of it.
    Bound(&'a InstanceId),
    /// Nothing.
    None,
}

/// The next candidate of a zone: one that serves only where there is `room` for it to go.
///
/// Among the first few, one whose pods find their budgets open goes before one that would wait for what another
/// drain has taken; and of those that need not wait, the one whose budget takes most rounds to move all its pods,
/// because the rest of that chain can begin no earlier. Where no replacement has come to the zone, its pods that are bound to it must fit elsewhere
/// in it.
pub(super) fn next<'a>(pass: &Pass<'a>, group: &Group<'a>, choice: &Choice, room: bool) -> Next<'a> {
    const LOOK_AT: usize = 8;
    let mut best = Next::None;
    let mut longest: Option<(i32, &InstanceId)> = None;
    let Some(zone) = group.view.zones.get(&choice.zone) else { return best };
    // Those that serve nobody come first: without room the look ends with them.
    let open = zone.candidates.iter().take_while(|(_, serves, _, _)| room || !serves);
    let free = open.filter(|(own, _, _, id)| {
        let node = pass.derived.members.get(id).and_then(|m| m.node.clone());
        (pass.own_turn || !own) && node.is_some_and(|n| pass.is_free(&ActionKey::Node(n)))
    });
    for (_, _, _, id) in free.take(LOOK_AT) {
        let Some(node) = pass.derived.members.get(id).and_then(|m| m.node.as_ref()) else { continue };
        if !choice.replaced && !fits_elsewhere(pass, group, node, &choice.zone) {
            if matches!(best, Next::None) {
                best = Next::Bound(id);
            }
            continue;
        }
        let Some(rounds) = rounds(pass, node) else {
            if !matches!(best, Next::Drain(_)) {
                best = Next::Drain(id);
            }
            continue;
        };
        if longest.is_none_or(|(most, _)| rounds > most) {
            longest = Some((rounds, id));
        }
    }
    longest.map_or(best, |(_, id)| Next::Drain(id))
}

/// In how many rounds the scarcest budget over a node's pods lets all that it covers go, 0 where none counts any of
/// them; `None` where one of the pods would wait for its budget.
fn rounds(pass: &Pass<'_>, node: &NodeName) -> Option<i32> {
    let mut most = 0;
    for budget in pass.snapshot.pods_on(node).flat_map(|pod| tokens::counted(pass.snapshot, pod)) {
        if pass.tokens.would_wait(pass.snapshot, budget) {
            return None;
        }
        most = most.max(budget.expected / (budget.expected - budget.desired).max(1));
    }
    Some(most)
}

/// Whether the pods on `node` that cannot leave its zone (a volume, hard spread over zones) fit on the other
/// nodes that serve in it, each pod on the first with enough cpu and memory left.
fn fits_elsewhere(pass: &Pass<'_>, group: &Group<'_>, node: &NodeName, zone: &Zone) -> bool {
    let snapshot = pass.snapshot;
    let bound = |p: &&Pod| !p.is_daemon() && !p.is_finished() && (p.flags.claims || p.flags.hard_zone_spread);
    let mut pods = snapshot.pods_on(node).filter(bound).peekable();
    if pods.peek().is_none() {
        return true;
    }
    let others = snapshot.instances_of(group.name).filter(|i| i.zone == *zone).filter_map(|i| snapshot.node_of(&i.id));
    let mut free: Vec<(u64, u64)> = others
        .filter(|n| n.name != *node && readiness::serves(n))
        .map(|n| {
            let used = snapshot.pods_on(&n.name).filter(|p| !p.is_finished());
            let (cpu, memory) = used.fold((0, 0), |(cpu, memory), p| (cpu + p.cpu, memory + p.memory));
            let of = |what: &str| n.allocatable.get(what).copied().unwrap_or(0);
            (of("cpu").saturating_sub(cpu), of("memory").saturating_sub(memory))
        })
        .collect();
    pods.all(|pod| match free.iter_mut().find(|(cpu, memory)| *cpu >= pod.cpu && *memory >= pod.memory) {
        Some((cpu, memory)) => {
            *cpu -= pod.cpu;
            *memory -= pod.memory;
            true
        }
        None => false,
    })
}

/// Whether a node carries anything that the end of a rotation takes off.
pub(crate) fn is_marked(node: &Node) -> bool {
    node.labels.contains_key(marks::ROTATION)
        || node.annotations.contains_key(marks::STATE)
        || node.has_taint(marks::OUTDATED_TAINT)
}

/// The instance's id, for a message about an instance that may have no Node.
pub(crate) fn subject(id: &InstanceId, member: &Member) -> super::Subject {
    match &member.node {
        Some(node) => super::Subject::Node(node.clone()),
        None => super::Subject::Instance(id.clone()),
    }
}
