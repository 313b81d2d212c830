//! What speaks against a rotation before it begins: faults refuse it (exit 3), warnings go with the plan.
//!
//! The old nodes are judged by the gate too, without its clauses on restarts (they pile up over months) and
//! revisions (OnDelete sets are renewed by the rotation itself): a DaemonSet that does not run on the nodes
//! there are would fail every replacement, and that is the cluster's fault, not the target's.

mod others;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{
    Attachment, ConditionStatus, DaemonSet, GroupName, Instance, LaunchSource, Ledger, Lifecycle, Node, NodeGroup,
    NodeMark, NodeName, ObjectKey, Pod, Target, TemplateRef, Text, UpdateStrategy, marks,
};
use crate::observe::{Role, Snapshot};
use crate::plan::BlockReason;
use crate::plan::candidates::{REUSES, suspended};
use crate::plan::surge::unavailable;
use crate::policy::{Gate, OnStuck, Policy, Restarts, Surge};
use crate::readiness::{gated, restarted, should_run, standing_pod};

pub use others::Keeper;

/// A DaemonSet may be missing on one in so many of the healthy old nodes.
const MISSING_ONE_IN: usize = 10;

/// Values of a label that a message lists.
const VALUES_SHOWN: usize = 8;

/// What preflight found.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preflight {
    /// The rotation is refused.
    pub faults: Vec<Fault>,
    /// It is not; the user should know.
    pub warnings: Vec<Warning>,
}

/// Why a rotation is refused. Displays as one sentence with what helps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "fault")]
pub enum Fault {
    /// No Auto Scaling group carries the cluster's tag.
    NoGroup,
    /// A group named by the user is not the cluster's.
    UnknownGroup {
        /// As named.
        name: GroupName,
        /// The cluster's groups.
        known: Vec<GroupName>,
    },
    /// A node named by the user does not exist.
    UnknownNode {
        /// As named.
        name: NodeName,
    },
    /// A node named by the user is in none of the groups in scope.
    NodeOfNoGroup {
        /// The node.
        name: NodeName,
    },
    /// A node named by the user is somebody else's to renew.
    NodeOfOthers {
        /// The node.
        name: NodeName,
        /// Whose.
        keeper: Keeper,
    },
    /// A group named by the user has work, and may not be touched.
    NamedHeld {
        /// The group.
        group: GroupName,
        /// Why.
        why: String,
    },
    /// No node in scope carries the labels asked for.
    NothingSelected {
        /// The selector, as `kubectl -l` takes it.
        selector: String,
        /// Nodes looked at: those of the groups in scope, or those named.
        looked_at: usize,
        /// For each label asked for, the values that these nodes have.
        labels: BTreeMap<Text, BTreeSet<Text>>,
    },
    /// A DaemonSet named in the gate does not exist.
    UnknownDaemonSet {
        /// As named.
        name: String,
    },
    /// A gated DaemonSet does not run on the nodes there are.
    DaemonSetDown {
        /// Which.
        daemonset: ObjectKey,
        /// Healthy old nodes without its Running and Ready pod.
        missing: usize,
        /// Healthy old nodes where it should run.
        expected: usize,
        /// What is wrong on one of them.
        example: String,
        /// The `--gate` that leaves it out.
        gate: String,
    },
    /// A group's maximum leaves no room for the surge, and may not be raised.
    Maximum {
        /// The group.
        group: GroupName,
        /// Its maximum.
        max: u32,
        /// What the surge needs.
        needed: u32,
    },
    /// Neither a surge nor anything unavailable is allowed: nothing could ever be drained.
    NoRoom {
        /// The group.
        group: GroupName,
    },
    /// Without a surge, no node of a group would be left to serve behind its load balancers.
    LastServing {
        /// The group.
        group: GroupName,
    },
    /// Every outdated node is held by something on it.
    NodesHeld {
        /// Each node, and what holds it.
        held: BTreeMap<NodeName, String>,
    },
    /// No budget will ever let the pods of some nodes go, and the policy stops at what is stuck.
    NeverFrees {
        /// Each node, and the budget.
        held: BTreeMap<NodeName, String>,
    },
    /// There is work, and none of it may be done.
    AllHeld {
        /// Each group with work, and what holds it.
        held: BTreeMap<GroupName, String>,
    },
}

/// What the user should know. Displays as one sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "warning")]
pub enum Warning {
    /// A group with work is left alone.
    Held {
        /// The group.
        group: GroupName,
        /// Why.
        why: String,
    },
    /// Nodes of none of the cluster's groups are left alone.
    NotOurs {
        /// Whose they are.
        keeper: Keeper,
        /// How many.
        nodes: usize,
        /// The first of them.
        example: NodeName,
    },
    /// How long what is attached to a group takes to let go of a node could not be read.
    DelayUnknown {
        /// The group.
        group: GroupName,
        /// What is attached.
        attachment: Attachment,
    },
    /// A gated container was restarted on old nodes: it may fail the gate on new ones.
    Restarts {
        /// The DaemonSet.
        daemonset: ObjectKey,
        /// The container.
        container: Text,
        /// Old nodes that show a restart.
        nodes: usize,
        /// Old nodes where it runs.
        of: usize,
    },
    /// A gated DaemonSet's pods on old nodes are of an older revision than a new node will get.
    OldRevision {
        /// The DaemonSet.
        daemonset: ObjectKey,
        /// Old nodes with an older one.
        nodes: usize,
        /// Old nodes where it runs.
        of: usize,
        /// Its update strategy is OnDelete.
        on_delete: bool,
    },
    /// A gated DaemonSet is missing on a few old nodes.
    DaemonSetMissing {
        /// Which.
        daemonset: ObjectKey,
        /// Healthy old nodes without it.
        missing: usize,
        /// Healthy old nodes where it should run.
        expected: usize,
    },
    /// Nodes are on their target, and their kubelet is behind the control plane: the target does not cure it.
    Skew {
        /// How many.
        nodes: usize,
        /// The kubelet of one of them.
        kubelet: Text,
        /// The control plane's version.
        version: Text,
    },
    /// A budget over pods of the nodes to rotate can never free by itself.
    NeverFrees {
        /// The budget.
        budget: ObjectKey,
        /// Healthy pods it wants.
        desired: i32,
        /// Pods there are.
        expected: i32,
    },
}

/// Looks at the whole cluster once, before anything is touched.
pub fn check(policy: &Policy, snapshot: &Snapshot, _now: Timestamp) -> Preflight {
    let mut found = Preflight::default();
    check_names(policy, snapshot, &mut found.faults);
    check_groups(policy, snapshot, &mut found);
    let nodes = old_nodes(policy, snapshot);
    check_daemonsets(policy, snapshot, &nodes, &mut found);
    check_budgets(snapshot, &nodes, &mut found.warnings);
    others::name(policy, snapshot, &mut found.warnings);
    check_held(policy, snapshot, &mut found.faults);
    check_skew(snapshot, &nodes, &mut found.warnings);
    found
}

/// What the planner would hold: refused where nothing else is left, or the policy stops at it.
fn check_held(policy: &Policy, snapshot: &Snapshot, faults: &mut Vec<Fault>) {
    let derived = snapshot.derived();
    let mut held = BTreeMap::new();
    let mut stuck = BTreeMap::new();
    let mut free = 0;
    for view in derived.groups.values().filter(|view| view.hold.is_none()) {
        free += view.candidates as usize + view.draining.len();
        for (_, member) in derived.select(&view.held) {
            let (Role::Held(why), Some(node)) = (&member.role, &member.node) else { continue };
            held.insert(node.clone(), why.to_string());
            if matches!(why, BlockReason::NeverFrees { .. } | BlockReason::SeveralBudgets { .. }) {
                stuck.insert(node.clone(), why.to_string());
            }
        }
    }
    if free == 0 && !held.is_empty() {
        faults.push(Fault::NodesHeld { held });
    } else if policy.on_stuck == OnStuck::Stop && !stuck.is_empty() {
        faults.push(Fault::NeverFrees { held: stuck });
    }
}

/// Kubelets behind the control plane on nodes that are on their target: no rotation of these cures it.
fn check_skew(snapshot: &Snapshot, nodes: &BTreeMap<&NodeName, &Node>, warnings: &mut Vec<Warning>) {
    let minor = |version: &str| {
        let mut parts = version.trim_start_matches('v').split('.');
        Some((parts.next()?.parse::<u32>().ok()?, parts.next()?.parse::<u32>().ok()?))
    };
    let Some(control_plane) = minor(&snapshot.version) else { return };
    let current = |node: &&&Node| {
        let member = node.instance.as_ref().and_then(|id| snapshot.derived().member(id));
        member.is_some_and(|m| m.role == Role::Current && m.outdated.is_empty())
    };
    let behind = nodes.values().filter(current).filter(|n| minor(&n.kubelet).is_some_and(|v| v < control_plane));
    let mut behind = behind.peekable();
    if let Some(kubelet) = behind.peek().map(|n| n.kubelet.clone()) {
        let (count, version) = (behind.count(), snapshot.version.clone());
        warnings.push(Warning::Skew { nodes: count, kubelet, version });
    }
}

fn check_names(policy: &Policy, snapshot: &Snapshot, faults: &mut Vec<Fault>) {
    if snapshot.groups.is_empty() {
        faults.push(Fault::NoGroup);
        return;
    }
    for name in policy.scope.groups.iter().filter(|g| !snapshot.groups.contains_key(*g)) {
        let known = snapshot.groups.keys().cloned().collect();
        faults.push(Fault::UnknownGroup { name: name.clone(), known });
    }
    for name in &policy.scope.nodes {
        match snapshot.nodes.get(name) {
            None => faults.push(Fault::UnknownNode { name: name.clone() }),
            Some(node) => {
                let instance = node.instance.as_ref().and_then(|id| snapshot.instances.get(id));
                if !instance.is_some_and(|i| in_scope(policy, &i.group)) {
                    let keeper = others::keeper(snapshot, node).filter(|keeper| *keeper != Keeper::Unknown);
                    faults.push(match keeper {
                        Some(keeper) => Fault::NodeOfOthers { name: name.clone(), keeper },
                        None => Fault::NodeOfNoGroup { name: name.clone() },
                    });
                }
            }
        }
    }
    faults.extend(nothing_selected(policy, snapshot));
    if let Gate::Named(names) = &policy.gate {
        for name in names {
            let only = Policy { gate: Gate::Named([name.clone()].into()), ..policy.clone() };
            if !snapshot.daemonsets.values().any(|set| gated(&only, set)) {
                faults.push(Fault::UnknownDaemonSet { name: name.clone() });
            }
        }
    }
}

/// A selector that none of the nodes in scope meets: most likely misspelt.
fn nothing_selected(policy: &Policy, snapshot: &Snapshot) -> Option<Fault> {
    let scope = &policy.scope;
    if scope.selector.is_empty() {
        return None;
    }
    let instances = snapshot.instances.values().filter(|i| in_scope(policy, &i.group));
    let nodes: Vec<&Node> = instances
        .filter_map(|i| snapshot.node_of(&i.id))
        .filter(|n| scope.nodes.is_empty() || scope.nodes.contains(&n.name))
        .collect();
    // Where there is no node at all, what was named is wrong already, or there is nothing to select from.
    if nodes.is_empty() || nodes.iter().any(|n| scope.selector.iter().all(|r| r.matches(&n.labels))) {
        return None;
    }
    let values = |key: &Text| nodes.iter().filter_map(|n| n.labels.get(key).cloned()).collect();
    Some(Fault::NothingSelected {
        selector: scope.selector.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        looked_at: nodes.len(),
        labels: scope.selector.iter().map(|r| (r.key.clone(), values(&r.key))).collect(),
    })
}

fn in_scope(policy: &Policy, group: &GroupName) -> bool {
    policy.scope.groups.is_empty() || policy.scope.groups.contains(group)
}

fn check_groups(policy: &Policy, snapshot: &Snapshot, found: &mut Preflight) {
    let mut held = BTreeMap::new();
    let mut free = 0;
    for group in snapshot.groups.values().filter(|g| in_scope(policy, &g.name)) {
        if !snapshot.instances_of(&group.name).any(|i| is_work(policy, snapshot, group, i)) {
            continue;
        }
        match why_held(&snapshot.cluster, group) {
            Some(why) => {
                held.insert(group.name.clone(), why);
            }
            None => {
                free += 1;
                let unknown = group.attachments.iter().filter(|a| !snapshot.delays.contains_key(*a));
                found.warnings.extend(unknown.map(|attachment| Warning::DelayUnknown {
                    group: group.name.clone(),
                    attachment: attachment.clone(),
                }));
                // Once begun, its desired holds our surge, perhaps a step that no tag confirms yet: the planner,
                // which settles that first, judges the room.
                if !group.tags.contains_key(marks::TAG_ROTATION) {
                    found.faults.extend(no_room(policy, group));
                }
            }
        }
    }
    if free == 0 && !held.is_empty() {
        found.faults.push(Fault::AllHeld { held });
    } else {
        for (group, why) in held {
            match policy.scope.groups.contains(&group) {
                true => found.faults.push(Fault::NamedHeld { group, why }),
                false => found.warnings.push(Warning::Held { group, why }),
            }
        }
    }
}

/// Why nothing of a group may be changed, by the group alone.
fn why_held(cluster: &str, group: &NodeGroup) -> Option<String> {
    if let Some(nodegroup) = &group.managed_by {
        return Some(format!(
            "it belongs to EKS managed node group {nodegroup}, which updates it itself: aws eks update-nodegroup-version \
             --cluster-name {cluster} --nodegroup-name {nodegroup}"
        ));
    }
    if let Some(operator) = &group.operator {
        return Some(format!("only {operator} may change it"));
    }
    if group.refreshing {
        return Some("an instance refresh is in progress".to_owned());
    }
    if group.reuses {
        return Some(REUSES.to_owned());
    }
    if group.weighted {
        return Some("it counts capacity in instance weights, not in nodes".to_owned());
    }
    if let Some(why) = suspended(group) {
        return Some(why);
    }
    (group.target == Target::None).then(|| "it has neither a launch template nor a launch configuration".to_owned())
}

/// Whether an instance may have to be rotated; in doubt it has.
fn is_work(policy: &Policy, snapshot: &Snapshot, group: &NodeGroup, instance: &Instance) -> bool {
    if instance.lifecycle != Lifecycle::InService {
        return false;
    }
    let node = snapshot.node_of(&instance.id);
    if !policy.scope.nodes.is_empty() && !node.is_some_and(|n| policy.scope.nodes.contains(&n.name)) {
        return false;
    }
    if !policy.scope.selector.is_empty()
        && !node.is_some_and(|n| policy.scope.selector.iter().all(|r| r.matches(&n.labels)))
    {
        return false;
    }
    let asked = policy.force || policy.older_than.is_some() || !policy.scope.nodes.is_empty();
    asked || !launched_from(&group.target, instance)
}

fn launched_from(target: &Target, instance: &Instance) -> bool {
    let is = |template: &TemplateRef, id: &Text, version: &Text| {
        // What is not asked for, as a managed node group's target, is known where the group names a number.
        template.id == *id
            && template.resolved.as_ref().unwrap_or(&template.version) == version
            && match (&template.image, &instance.image) {
                (Some(want), Some(have)) => want == have,
                _ => true,
            }
    };
    match (target, &instance.source) {
        (Target::Template(template), LaunchSource::Template { id, version }) => is(template, id, version),
        (Target::Mixed { base, overrides }, LaunchSource::Template { id, version }) => {
            let for_type = overrides.iter().find(|o| o.instance_type.as_ref() == Some(&instance.instance_type));
            is(for_type.and_then(|o| o.template.as_ref()).unwrap_or(base), id, version)
        }
        (Target::Configuration(want), LaunchSource::Configuration(have)) => want == have,
        _ => false,
    }
}

fn no_room(policy: &Policy, group: &NodeGroup) -> Option<Fault> {
    let ours = group.tags.get(marks::TAG_SURGE).and_then(|tag| Ledger::parse(tag).ok()).map_or(0, |l| l.confirmed);
    let own = group.desired.saturating_sub(ours);
    let unavailable = unavailable(policy, group, own);
    let surge = match policy.surge {
        Surge::Fixed(amount) => amount.of(own),
        // The least that `auto` can do with.
        Surge::Auto => u32::from(unavailable == 0),
    };
    if surge == 0 && unavailable == 0 {
        let group = group.name.clone();
        return Some(match policy.unavailable.of_down(own) {
            0 => Fault::NoRoom { group },
            _ => Fault::LastServing { group },
        });
    }
    let needed = own + surge;
    (needed > group.max && !policy.raise_max).then(|| Fault::Maximum {
        group: group.name.clone(),
        max: group.max,
        needed,
    })
}

/// The healthy nodes of the groups in scope that this rotation did not bring.
fn old_nodes<'a>(policy: &Policy, snapshot: &'a Snapshot) -> BTreeMap<&'a NodeName, &'a Node> {
    let began = snapshot.rotation.as_ref().map_or(Timestamp::MAX, |r| r.started);
    let healthy = |node: &&Node| {
        let mark = node.annotation(marks::STATE).and_then(NodeMark::parse);
        node.ready() == ConditionStatus::True
            && !node.deleting
            && node.created < began
            && !matches!(mark, Some(NodeMark::Replacement | NodeMark::Failed))
    };
    snapshot
        .instances
        .values()
        .filter(|i| i.lifecycle == Lifecycle::InService && in_scope(policy, &i.group))
        .filter_map(|i| snapshot.node_of(&i.id))
        .filter(healthy)
        .map(|node| (&node.name, node))
        .collect()
}

/// How one gated DaemonSet stands on the old nodes.
#[derive(Default)]
struct Standing {
    expected: usize,
    missing: usize,
    example: Option<String>,
    older: usize,
    restarts: BTreeMap<Text, usize>,
}

fn check_daemonsets(policy: &Policy, snapshot: &Snapshot, nodes: &BTreeMap<&NodeName, &Node>, found: &mut Preflight) {
    // One walk over all pods is cheaper than a look-up a pod and node.
    let mut daemons: BTreeMap<&NodeName, Vec<&Pod>> = BTreeMap::new();
    for pod in snapshot.pods.values().filter(|p| p.is_daemon()) {
        if let Some(node) = pod.node.as_ref().filter(|n| nodes.contains_key(n)) {
            daemons.entry(node).or_default().push(pod);
        }
    }
    let sets: Vec<&DaemonSet> = snapshot.daemonsets.values().filter(|set| gated(policy, set)).collect();
    for set in &sets {
        let standing = stand(snapshot, set, nodes, &daemons);
        let Standing { expected, missing, .. } = standing;
        if missing * MISSING_ONE_IN > expected {
            found.faults.push(Fault::DaemonSetDown {
                daemonset: set.key.clone(),
                missing,
                expected,
                example: standing.example.unwrap_or_default(),
                gate: gate_without(set, &sets),
            });
            continue;
        }
        if missing > 0 {
            found.warnings.push(Warning::DaemonSetMissing { daemonset: set.key.clone(), missing, expected });
        }
        if standing.older > 0 {
            found.warnings.push(Warning::OldRevision {
                daemonset: set.key.clone(),
                nodes: standing.older,
                of: expected,
                on_delete: set.strategy == UpdateStrategy::OnDelete,
            });
        }
        if policy.restarts == Restarts::Zero {
            found.warnings.extend(standing.restarts.into_iter().map(|(container, nodes)| Warning::Restarts {
                daemonset: set.key.clone(),
                container,
                nodes,
                of: expected,
            }));
        }
    }
}

fn stand(
    snapshot: &Snapshot,
    set: &DaemonSet,
    nodes: &BTreeMap<&NodeName, &Node>,
    daemons: &BTreeMap<&NodeName, Vec<&Pod>>,
) -> Standing {
    let newest = snapshot.revisions.get(&set.uid).map(|r| &r.hash);
    let mut standing = Standing::default();
    for (name, _) in nodes.iter().filter(|(_, node)| should_run(set, node)) {
        standing.expected += 1;
        match standing_pod(set, daemons.get(name).map_or(&[], Vec::as_slice)) {
            Err(why) => {
                standing.missing += 1;
                standing.example.get_or_insert_with(|| format!("{name}: {why}"));
            }
            Ok(pod) => {
                standing.older += usize::from(newest.is_some() && pod.revision.as_ref() != newest);
                for container in restarted(pod) {
                    *standing.restarts.entry(container.name.clone()).or_default() += 1;
                }
            }
        }
    }
    standing
}

/// The names of all gated sets but this one, as `--gate` takes them.
fn gate_without(left_out: &DaemonSet, sets: &[&DaemonSet]) -> String {
    let names: BTreeSet<&str> = sets.iter().filter(|s| s.uid != left_out.uid).map(|s| &*s.key.name).collect();
    if names.is_empty() { "none".to_owned() } else { names.into_iter().collect::<Vec<_>>().join(",") }
}

fn check_budgets(snapshot: &Snapshot, nodes: &BTreeMap<&NodeName, &Node>, warnings: &mut Vec<Warning>) {
    for budget in snapshot.budgets.values().filter(|b| b.never_frees()) {
        let covers = |pod: &Pod| {
            pod.key.namespace == budget.key.namespace
                && !pod.is_daemon()
                && !pod.is_finished()
                && pod.node.as_ref().is_some_and(|n| nodes.contains_key(n))
                && budget.selector.as_ref().is_some_and(|s| s.matches(&pod.labels))
        };
        if snapshot.pods.values().any(|pod| covers(pod)) {
            warnings.push(Warning::NeverFrees {
                budget: budget.key.clone(),
                desired: budget.desired,
                expected: budget.expected,
            });
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGroup => f.write_str(
                "no Auto Scaling group carries one of the tags that make it the cluster's: kubernetes.io/cluster/NAME (owned or shared), k8s.io/cluster/NAME, or eks:cluster-name with the name as value",
            ),
            Self::UnknownGroup { name, known } => {
                let known: Vec<_> = known.iter().map(GroupName::as_str).collect();
                write!(f, "group {name} is not one of this cluster's: {}", known.join(", "))
            }
            Self::UnknownNode { name } => write!(f, "node {name} does not exist"),
            Self::NodeOfNoGroup { name } => write!(f, "node {name} belongs to no group in scope"),
            Self::NodeOfOthers { name, keeper } => write!(f, "node {name} is left alone: it is {keeper}"),
            Self::NamedHeld { group, why } => write!(f, "group {group} is left alone: {why}"),
            Self::NothingSelected { selector, looked_at, labels } => {
                let of = if *looked_at == 1 { "the one node" } else { &format!("any of {looked_at} nodes") };
                write!(f, "--selector {selector} does not match {of} in scope")?;
                for (at, (key, values)) in labels.iter().enumerate() {
                    f.write_str(if at == 0 { ": " } else { "; " })?;
                    let mut shown: Vec<&str> = values.iter().take(VALUES_SHOWN).map(|v| &**v).collect();
                    if values.len() > VALUES_SHOWN {
                        shown.push("…");
                    }
                    match shown.is_empty() {
                        true => write!(f, "none has a label {key}")?,
                        false => write!(f, "{key} is {}", shown.join(", "))?,
                    }
                }
                Ok(())
            }
            Self::UnknownDaemonSet { name } => write!(f, "DaemonSet {name}, named in the gate, does not exist"),
            Self::DaemonSetDown { daemonset, missing, expected, example, gate } => write!(
                f,
                "DaemonSet {daemonset} has no Running and Ready pod on {missing} of {expected} healthy nodes, so no \
                 new node would be functional ({example}); --gate {gate} leaves it out"
            ),
            Self::Maximum { group, max, needed } => write!(
                f,
                "group {group} has a maximum of {max}, and the surge needs {needed}: raise it, or allow --raise-max"
            ),
            Self::NoRoom { group } => write!(
                f,
                "group {group} allows neither a surge nor an unavailable node: set --surge or --unavailable above 0"
            ),
            Self::LastServing { group } => write!(
                f,
                "group {group} is behind load balancers, and without a surge none of its nodes would be left to serve \
                 while one is replaced, which --unavailable cannot allow: set --surge above 0"
            ),
            Self::NodesHeld { held } => {
                f.write_str("every outdated node is held:")?;
                list(f, held)
            }
            Self::NeverFrees { held } => {
                f.write_str("--on-stuck stop, and there is what will never free:")?;
                list(f, held)
            }
            Self::AllHeld { held } => {
                f.write_str("every group with outdated nodes is held:")?;
                for (at, (group, why)) in held.iter().enumerate() {
                    write!(f, "{} {group}: {why}", if at == 0 { "" } else { ";" })?;
                }
                Ok(())
            }
        }
    }
}

/// The first few, and how many more.
fn list(f: &mut fmt::Formatter<'_>, held: &BTreeMap<NodeName, String>) -> fmt::Result {
    const NAMED: usize = 5;
    for (at, (node, why)) in held.iter().take(NAMED).enumerate() {
        write!(f, "{} {node}: {why}", if at == 0 { "" } else { ";" })?;
    }
    match held.len().saturating_sub(NAMED) {
        0 => Ok(()),
        more => write!(f, "; and {more} more"),
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { group, why } => write!(f, "group {group} is left alone: {why}"),
            Self::NotOurs { keeper, nodes, example } => {
                let (nodes, are) =
                    if *nodes == 1 { ("1 node".to_owned(), "is") } else { (format!("{nodes} nodes"), "are") };
                write!(f, "{nodes} {are} left alone, {example} for one: {keeper}")
            }
            Self::DelayUnknown { group, attachment } => write!(
                f,
                "the deregistration delay of {attachment} of group {group} could not be read, so {} s are waited for \
                 each node; allow elasticloadbalancing:DescribeTargetGroupAttributes and DescribeLoadBalancerAttributes",
                Attachment::DEFAULT_DELAY_S
            ),
            Self::Restarts { daemonset, container, nodes, of } => write!(
                f,
                "container {container} of DaemonSet {daemonset} was restarted on {nodes} of {of} nodes: a new node \
                 where it restarts fails the gate; --restarts baseline allows what old nodes showed when new"
            ),
            Self::OldRevision { daemonset, nodes, of, on_delete } => {
                let how = if *on_delete { "the rotation renews them" } else { "its update is not finished" };
                write!(f, "DaemonSet {daemonset} has pods of an older revision on {nodes} of {of} nodes: {how}")
            }
            Self::DaemonSetMissing { daemonset, missing, expected } => {
                write!(f, "DaemonSet {daemonset} has no Running and Ready pod on {missing} of {expected} healthy nodes")
            }
            Self::Skew { nodes, kubelet, version } => write!(
                f,
                "{nodes} nodes are on their group's target and run kubelet {kubelet}, behind the control plane \
                 {version}: rotating does not cure that, a newer image in the launch template does"
            ),
            Self::NeverFrees { budget, desired, expected } => {
                write!(f, "disruption budget {budget} wants {desired} of {expected} pods and can never free by itself")
            }
        }
    }
}
