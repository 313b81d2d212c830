//! Whom to look at: nodes that lack something, pods whose logs may say why, instances that never joined.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::Evidence;
use super::logs::lacks;
use crate::model::{
    ConditionStatus, Container, ContainerState, DaemonSet, GroupName, Instance, InstanceId, Lifecycle, Node, NodeName,
    ObjectKey, Pod, Text, Uid,
};
use crate::observe::Snapshot;
use crate::policy::Policy;
use crate::readiness::stages::in_scope;
use crate::readiness::{gated, is_startup_taint, restarted, should_run, standing_pod};

/// A restart within so long after the Node's creation belongs to its start.
const START: SignedDuration = SignedDuration::from_secs(90);
/// A pod made within so long after its Node is the first of its DaemonSet there.
const FIRST: SignedDuration = SignedDuration::from_mins(5);
/// A pod that takes longer from its start to its readiness is late.
const LATE: SignedDuration = SignedDuration::from_secs(20);
/// An instance has so long to join before it is a suspect.
const JOIN: SignedDuration = SignedDuration::from_mins(5);
/// kube-proxy pods that are looked at, the newest, where nothing but their spec is suspicious.
const BY_SPEC: usize = 2;

const KUBE_PROXY: &str = "kube-proxy";

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// What the policy's scope names: the whole cluster, where it is not narrowed.
    Policy,
    /// One instance, all of it: a canary that failed.
    Instance(InstanceId),
}

/// A node that lacks something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sick {
    /// The node.
    pub node: NodeName,
    /// What it lacks: sentences.
    pub lacks: Vec<Text>,
}

/// A pod whose logs are worth reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuspectPod {
    /// The pod.
    pub pod: ObjectKey,
    /// Its DaemonSet.
    pub set: ObjectKey,
    /// Its node.
    pub node: NodeName,
    /// Its containers; true where there was a run before.
    pub containers: Vec<(Text, bool)>,
}

/// Whom to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspects {
    /// Nodes that lack something.
    pub sick: Vec<Sick>,
    /// Nodes that were judged.
    pub judged: BTreeSet<NodeName>,
    /// Pods, the most telling first, no DaemonSet before its turn.
    pub pods: Vec<SuspectPod>,
    /// Instances in service without a Node.
    pub unjoined: Vec<InstanceId>,
    /// Groups that have fewer instances than they want, or such as did not join.
    pub groups: BTreeSet<GroupName>,
    /// Windows and Fargate nodes, which are left out.
    pub left_out: usize,
    /// A DaemonSet called kube-proxy is there.
    pub has_proxy: bool,
}

/// Why a pod is suspected, the most telling first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    NotStanding,
    RestartedEarly,
    Late,
    BesideAnother,
    BySpec,
    /// Its node is asked about.
    Asked,
}

/// Finds the suspects. `evidence` may hold the specs already; nothing else of it is read. Pure.
pub fn suspects(policy: &Policy, snapshot: &Snapshot, scope: &Scope, evidence: &Evidence, now: Timestamp) -> Suspects {
    let sets: Vec<&DaemonSet> = snapshot.daemonsets.values().filter(|set| gated(policy, set)).collect();
    let proxies: Vec<&DaemonSet> = snapshot.daemonsets.values().filter(|s| &*s.key.name == KUBE_PROXY).collect();
    let mut found = Suspects { has_proxy: !proxies.is_empty(), ..Suspects::default() };
    let mut by_set: BTreeMap<&ObjectKey, Vec<(Why, &Node, &Pod)>> = BTreeMap::new();
    let wanted = |node: &&Node| match scope {
        Scope::Policy => in_scope(&policy.scope, snapshot, node),
        Scope::Instance(id) => node.instance.as_ref() == Some(id),
    };
    for node in snapshot.nodes.values().filter(wanted) {
        if is_left_out(node) {
            found.left_out += 1;
            continue;
        }
        found.judged.insert(node.name.clone());
        let pods: Vec<&Pod> = snapshot.pods_on(&node.name).filter(|p| p.is_daemon()).collect();
        let mut lacks = own_lacks(node);
        let mut suspected = Vec::new();
        for set in &sets {
            if !should_run(set, node) {
                continue;
            }
            let own = pods.iter().copied().filter(|p| is_of(p, &set.uid));
            let standing = standing_pod(set, &pods);
            lacks.extend(standing.as_ref().err().map(|why| Text::from(why.as_str())));
            let why = |pod: &Pod| match () {
                () if standing.is_err() => Some(Why::NotStanding),
                () if restarted(pod).any(|c| restarted_early(node, pod, c)) => Some(Why::RestartedEarly),
                () if is_late(node, pod) => Some(Why::Late),
                () if *scope != Scope::Policy => Some(Why::Asked),
                () => None,
            };
            suspected.extend(own.filter_map(|pod| Some((why(pod)?, *set, pod))));
        }
        // What waits for kube-proxy is told by kube-proxy.
        if !suspected.is_empty() {
            for set in &proxies {
                if !suspected.iter().any(|(_, other, _)| other.uid == set.uid) {
                    let own = pods.iter().copied().filter(|p| is_of(p, &set.uid));
                    suspected.extend(own.map(|pod| (Why::BesideAnother, *set, pod)));
                }
            }
        }
        for (why, set, pod) in suspected {
            by_set.entry(&set.key).or_default().push((why, node, pod));
        }
        if !lacks.is_empty() {
            found.sick.push(Sick { node: node.name.clone(), lacks });
        }
    }
    if *scope == Scope::Policy {
        suspect_by_spec(snapshot, &proxies, evidence, &found.judged, &mut by_set);
    }
    found.pods = in_turn(by_set);
    unjoined((policy, scope), snapshot, now, &mut found);
    found
}

/// Fargate has no DaemonSets, and on Windows none of the signatures is true.
fn is_left_out(node: &Node) -> bool {
    node.is_windows() || node.compute_type() == Some("fargate")
}

fn is_of(pod: &Pod, set: &Uid) -> bool {
    pod.owner.as_ref().is_some_and(|o| o.uid == *set)
}

/// What a Node itself lacks. A cordon is somebody's intention, no fault.
fn own_lacks(node: &Node) -> Vec<Text> {
    let mut lacks = Vec::new();
    match node.conditions.get("Ready") {
        Some(c) if c.status == ConditionStatus::True => {}
        Some(c) => {
            let message = c.message.as_ref().map_or(String::new(), |m| format!(": {m}"));
            lacks.push(format!("not Ready: {}{message}", c.reason).into());
        }
        None => lacks.push("not Ready: it has no Ready condition yet".into()),
    }
    // Those of conditions only repeat them.
    let own = |key: &str| !key.starts_with("node.kubernetes.io/");
    for taint in node.taints.iter().filter(|t| is_startup_taint(t) && own(&t.key)) {
        lacks.push(format!("startup taint {} is still on", taint.key).into());
    }
    lacks
}

/// Whether the pod was made with its node.
pub(super) fn is_first(node: &Node, pod: &Pod) -> bool {
    node.created.checked_add(FIRST).is_ok_and(|until| pod.created <= until)
}

/// Whether all restarts of the container fell into its node's start.
pub(super) fn restarted_early(node: &Node, pod: &Pod, container: &Container) -> bool {
    restarted_within(node, pod, container, START)
}

/// Whether the container was restarted within so long after its node's creation. Only the last restart leaves a
/// time; the first of several was well before it.
pub(super) fn restarted_within(node: &Node, pod: &Pod, container: &Container, limit: SignedDuration) -> bool {
    let limit = if container.restarts > 1 { limit.max(FIRST) } else { limit };
    let running = match container.state {
        ContainerState::Running(since) => since,
        ContainerState::Waiting(_) | ContainerState::Terminated(_) => None,
    };
    // Where the end of the last run is not told, the start of this one came later still.
    let ended = container.last.as_ref().and_then(|run| run.finished).or(running);
    is_first(node, pod) && node.created.checked_add(limit).is_ok_and(|until| ended.is_some_and(|at| at <= until))
}

/// When the pod's main containers were first started, as far as that is told.
pub(super) fn first_start(pod: &Pod) -> Option<Timestamp> {
    let first = |c: &Container| match (&c.last, &c.state) {
        (Some(run), _) if c.restarts == 1 => run.started,
        (None, ContainerState::Running(since)) if c.restarts == 0 => *since,
        _ => None,
    };
    pod.initialized.or_else(|| pod.containers.iter().filter(|c| !c.init).filter_map(first).min())
}

/// Seconds from the pod's first start to its readiness, where that was its node's start.
pub(super) fn delay(node: &Node, pod: &Pod) -> Option<f64> {
    let ready = pod.ready_since.filter(|_| pod.flags.ready)?;
    let start = node.created.checked_add(SignedDuration::from_mins(15)).is_ok_and(|until| ready <= until);
    super::seconds_between(first_start(pod)?, ready).filter(|_| start && is_first(node, pod))
}

fn is_late(node: &Node, pod: &Pod) -> bool {
    delay(node, pod).is_some_and(|s| s > LATE.as_secs_f64())
}

/// kube-proxy without the Node's name gives no sign of its own: it counts as ready while it still looks.
fn suspect_by_spec<'a>(
    snapshot: &'a Snapshot,
    proxies: &[&'a DaemonSet],
    evidence: &Evidence,
    judged: &BTreeSet<NodeName>,
    by_set: &mut BTreeMap<&'a ObjectKey, Vec<(Why, &'a Node, &'a Pod)>>,
) {
    for set in proxies {
        let Some(spec) = evidence.specs.get(&set.key) else { continue };
        if !lacks(evidence, &set.key, spec, "--hostname-override") {
            continue;
        }
        let known = by_set.entry(&set.key).or_default();
        let pods = snapshot.pods.values().filter(|p| is_of(p, &set.uid));
        let at_node = |pod: &'a Pod| Some((snapshot.nodes.get(pod.node.as_ref()?)?, pod));
        let mut others: Vec<_> = pods.filter_map(|pod| at_node(pod)).collect();
        others.retain(|(node, pod)| judged.contains(&node.name) && !known.iter().any(|(_, _, k)| k.uid == pod.uid));
        others.sort_by_key(|(node, _)| std::cmp::Reverse(node.created));
        let further = BY_SPEC.saturating_sub(known.len());
        known.extend(others.into_iter().take(further).map(|(node, pod)| (Why::BySpec, node, pod)));
    }
}

/// The pods so that each DaemonSet has its turn: its most telling first, the newest node's among those.
fn in_turn(by_set: BTreeMap<&ObjectKey, Vec<(Why, &Node, &Pod)>>) -> Vec<SuspectPod> {
    let mut queues: Vec<_> = by_set
        .into_iter()
        .map(|(set, mut pods)| {
            pods.sort_by_key(|(why, node, _)| (*why, std::cmp::Reverse(node.created), node.name.clone()));
            pods.into_iter().map(move |(_, node, pod)| SuspectPod {
                pod: pod.key.clone(),
                set: set.clone(),
                node: node.name.clone(),
                containers: pod
                    .containers
                    .iter()
                    .filter(|c| !is_over(c))
                    .map(|c| (c.name.clone(), c.restarts > 0))
                    .collect(),
            })
        })
        .collect();
    let mut all = Vec::new();
    loop {
        let turn: Vec<SuspectPod> = queues.iter_mut().filter_map(Iterator::next).collect();
        if turn.is_empty() {
            return all;
        }
        all.extend(turn);
    }
}

/// Whether it is an init container that did its work at once: its log tells nothing.
fn is_over(container: &Container) -> bool {
    let ended_well = matches!(&container.state, ContainerState::Terminated(run) if run.exit_code == 0);
    container.init && ended_well && container.restarts == 0
}

fn unjoined((policy, scope): (&Policy, &Scope), snapshot: &Snapshot, now: Timestamp, found: &mut Suspects) {
    // What has no Node has neither its name nor its labels.
    let no_node = policy.scope.nodes.is_empty() && policy.scope.selector.is_empty();
    let in_group = |group: &GroupName| policy.scope.groups.is_empty() || policy.scope.groups.contains(group);
    let wanted = |instance: &Instance| match scope {
        Scope::Policy => no_node && in_group(&instance.group),
        Scope::Instance(only) => *only == instance.id,
    };
    for instance in snapshot.instances.values().filter(|i| wanted(i)) {
        let launched = instance.launched_at.or_else(|| snapshot.first_seen.get(&instance.id).copied());
        // One that is asked about has had its time.
        let due = *scope != Scope::Policy || launched.is_some_and(|at| now.duration_since(at) >= JOIN);
        if instance.lifecycle == Lifecycle::InService && due && snapshot.node_of(&instance.id).is_none() {
            found.unjoined.push(instance.id.clone());
            found.groups.insert(instance.group.clone());
        }
    }
    if *scope == Scope::Policy {
        let counted = |group: &GroupName| {
            snapshot.instances_of(group).filter(|i| i.lifecycle == Lifecycle::InService).count() as u64
        };
        let asked = snapshot.groups.values().filter(|g| no_node && in_group(&g.name));
        let short = asked.filter(|g| counted(&g.name) < u64::from(g.desired));
        found.groups.extend(short.map(|g| g.name.clone()));
    }
}
