//! Nodes: kubelets that join, DaemonSet pods that start in their order, and Ready that follows.
//!
//! ```text
//! register (not-ready, startup taints) -> DaemonSet pods bound -> containers run -> ready
//!                                             |      ^  |                             |
//!                                             |      |  +-- fail, back-off <-+        +-> Node Ready, taints go
//!                                             +-- wait for what they come after
//! ```
//! The article's two faults are causes here: a kube-proxy whose node lookup fails sleeps 1, 2, 4, 8 and 16 s
//! before its service rules are there, and whatever needs those rules and does not wait for them fails and
//! is restarted with the kubelet's back-off (at once, then after 10, 20, 40 s, … at most 300 s:
//! kubernetes pkg/kubelet/kubelet.go `MaxContainerBackOff`).

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::cluster::{Fact, NodeChange};
use crate::model::marks::UNSCHEDULABLE_TAINT;
use crate::model::{
    Condition, ConditionStatus, Container, ContainerState, CsiNode, DaemonSet, Labels, LastRun, Lifecycle, Node,
    NodeName, NodeSelectorTerm, ObjectKey, Operator, Owner, Phase, Requirement, Revision, Taint, TaintEffect, Text,
    Toleration, Uid, UpdateStrategy,
};

use super::scenario::{DaemonSpec, Restarts, Scenario};
use super::workloads::{Origin, PodState, daemon_pod};
use super::world::{Event, Micros, World};

/// The label that says which group a Node belongs to.
pub(super) const GROUP_LABEL: &str = "node.example.com/group";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const NETWORK_NOT_READY: &str = "container runtime network not ready: NetworkReady=false \
    reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized";

/// A DaemonSet.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) record: DaemonSet,
    pub(super) revision: Revision,
    pub(super) spec: DaemonSpec,
    /// DaemonSets that must be ready on a node before this one's containers can start.
    after: Vec<usize>,
    needs: Option<usize>,
    pub(super) pod_labels: std::sync::Arc<Labels>,
    pub(super) owner: Owner,
}

/// A Node and what the API does not show of it.
#[derive(Debug)]
pub(super) struct NodeState {
    pub(super) record: Node,
    pub(super) instance: usize,
    pub(super) group: usize,
    pub(super) zone: usize,
    pub(super) pods: BTreeSet<u32>,
    /// Its DaemonSet pods by DaemonSet.
    pub(super) daemons: BTreeMap<usize, u32>,
    ready_daemons: BTreeSet<usize>,
    pub(super) cpu: i64,
    pub(super) memory: i64,
    pub(super) room: i64,
    /// Its place in the scheduler's order, while pods may be put there.
    pub(super) cell_key: Option<(bool, i64)>,
    pub(super) tie: u32,
    pub(super) gone: bool,
    /// The so-manieth new node; `None` for those that were there.
    newcomer: Option<u32>,
    drivers: Vec<Text>,
    pub(super) functional: bool,
}

impl World {
    pub(super) fn add_daemonsets(&mut self, scenario: &Scenario) {
        for (at, spec) in scenario.daemonsets.iter().enumerate() {
            let named = |name: &String| scenario.daemonsets.iter().position(|s| s.name == *name);
            let uid = Uid::from(format!("d5000000-0000-4000-8000-{at:012x}"));
            let app: Labels = [("k8s-app".into(), spec.name.as_str().into())].into();
            let group = |values: Vec<Text>| NodeSelectorTerm {
                labels: vec![Requirement { key: GROUP_LABEL.into(), operator: Operator::In, values }],
                fields: Vec::new(),
            };
            let groups: Vec<Text> = spec.groups.iter().map(|g| g.as_str().into()).collect();
            let everything = Toleration {
                key: None,
                exists: true,
                value: None,
                effect: (!spec.critical).then_some(TaintEffect::NoSchedule),
            };
            let record = DaemonSet {
                uid: uid.clone(),
                key: ObjectKey::new(&spec.namespace, &spec.name),
                labels: app.clone(),
                strategy: if spec.on_delete { UpdateStrategy::OnDelete } else { UpdateStrategy::RollingUpdate },
                node_name: None,
                node_selector: Labels::new(),
                has_affinity: !groups.is_empty(),
                affinity: if groups.is_empty() { Vec::new() } else { vec![group(groups)] },
                tolerations: vec![everything],
                host_network: spec.host_network,
                priority_class: spec.critical.then(|| "system-node-critical".into()),
                deleting: false,
            };
            let revision = Revision {
                owner: uid.clone(),
                uid: Uid::from(format!("c0000000-0000-4000-8000-{at:012x}")),
                number: 1,
                hash: format!("{:09x}", 0x5f3759df_u64 ^ at as u64).into(),
            };
            let mut pod_labels = app;
            pod_labels.insert("controller-revision-hash".into(), revision.hash.clone());
            self.daemons.push(Daemon {
                record,
                revision,
                spec: spec.clone(),
                after: spec.after.iter().filter_map(named).collect(),
                needs: spec.needs.as_ref().and_then(named),
                pod_labels: pod_labels.into(),
                owner: Owner { kind: "DaemonSet".into(), name: spec.name.as_str().into(), uid },
            });
        }
    }

    /// A Node that was there before the scenario began: Ready, its DaemonSet pods running.
    pub(super) fn old_node(&mut self, instance: usize) {
        let created = self.instances[instance].launched + SignedDuration::from_secs(70);
        let node = self.new_node(instance, created);
        let state = &mut self.nodes[node];
        state.record.taints.clear();
        state.record.conditions.insert("Ready".into(), ready_condition(created));
        self.make_daemon_pods(node, created);
        let ready = created + SignedDuration::from_secs(15);
        for (daemon, pod) in self.nodes[node].daemons.clone() {
            let restarts = self.daemons[daemon].spec.old_restarts;
            if let Some(pod) = &mut self.pods[pod as usize] {
                pod.record.phase = Phase::Running;
                pod.record.flags.ready = true;
                pod.record.ready_since = Some(ready);
                for container in &mut pod.record.containers {
                    container.restarts = restarts;
                    container.ready = true;
                    container.state = ContainerState::Running(Some(ready));
                    container.last = (restarts > 0).then(|| crashed(None, ready));
                }
            }
            self.nodes[node].ready_daemons.insert(daemon);
            self.register_driver(node, daemon);
        }
        self.place_in_cell(node);
        self.refresh_functional(node);
    }

    fn new_node(&mut self, instance: usize, created: Timestamp) -> usize {
        let at = self.nodes.len();
        let state = &self.instances[instance];
        let spec = &self.groups[state.group].spec;
        let name = NodeName(state.dns.clone());
        let text = |s: &str| Text::from(s);
        let labels: Labels = [
            (text("kubernetes.io/hostname"), name.0.clone()),
            (text("kubernetes.io/os"), text("linux")),
            (text("node.kubernetes.io/instance-type"), state.record.instance_type.clone()),
            (text("topology.kubernetes.io/zone"), state.record.zone.0.clone()),
            (text(GROUP_LABEL), spec.name.as_str().into()),
        ]
        .into();
        let mut taints = vec![Taint { key: NOT_READY.into(), value: None, effect: TaintEffect::NoSchedule }];
        taints.extend(spec.startup_taints.iter().filter_map(|t| {
            let (key, effect) = t.rsplit_once(':')?;
            let effect = if effect == "NoExecute" { TaintEffect::NoExecute } else { TaintEffect::NoSchedule };
            Some(Taint { key: key.into(), value: None, effect })
        }));
        let memory = spec.memory_mib << 20;
        let waiting = Condition {
            status: ConditionStatus::False,
            reason: "KubeletNotReady".into(),
            message: Some(NETWORK_NOT_READY.into()),
            since: Some(created),
        };
        let record = Node {
            name: name.clone(),
            uid: Uid::from(format!("0de00000-0000-4000-8000-{at:012x}")),
            instance: Some(state.record.id.clone()),
            labels,
            annotations: BTreeMap::new(),
            taints,
            unschedulable: false,
            conditions: [(text("Ready"), waiting)].into(),
            kubelet: format!("{}-eks-0a1b2c3", self.version).into(),
            allocatable: [(text("cpu"), spec.cpu_m), (text("memory"), memory), (text("pods"), spec.pods)].into(),
            created,
            deleting: false,
        };
        let node = NodeState {
            record,
            instance,
            group: state.group,
            zone: state.zone,
            pods: BTreeSet::new(),
            daemons: BTreeMap::new(),
            ready_daemons: BTreeSet::new(),
            cpu: i64::try_from(spec.cpu_m).unwrap_or(i64::MAX),
            memory: i64::try_from(memory).unwrap_or(i64::MAX),
            room: i64::try_from(spec.pods).unwrap_or(i64::MAX),
            cell_key: None,
            tie: self.random.control.bits() as u32,
            gone: false,
            newcomer: None,
            drivers: Vec::new(),
            functional: false,
        };
        self.nodes.push(node);
        self.node_index.insert(name, at);
        self.instances[instance].node = Some(at);
        at
    }

    /// A kubelet registers its Node.
    pub(super) fn join(&mut self, instance: usize) {
        let lifecycle = &self.instances[instance].record.lifecycle;
        if !matches!(lifecycle, Lifecycle::Pending | Lifecycle::InService) {
            return;
        }
        let now = self.timestamp();
        let node = self.new_node(instance, now);
        self.newcomers += 1;
        self.nodes[node].newcomer = Some(self.newcomers);
        self.tell_node(node);
        self.tell_drivers(node);
        self.make_daemon_pods(node, now);
        let flapping = self.faults.flapping.iter().find(|f| f.node == self.newcomers);
        if let Some((times, every)) = flapping.map(|f| (f.times, (f.every_s * 1e6) as Micros)) {
            self.after(every, Event::Flap(node, times * 2));
        }
    }

    /// The DaemonSet controller: a pod for every set that should run here and has none.
    fn make_daemon_pods(&mut self, node: usize, created: Timestamp) {
        let state = &self.nodes[node];
        let group = &self.groups[state.group].spec.name;
        let shut = state.record.taints.iter().any(|t| t.effect == TaintEffect::NoExecute && &*t.key != NOT_READY);
        let missing: Vec<usize> = (0..self.daemons.len())
            .filter(|d| !state.daemons.contains_key(d))
            .filter(|d| {
                let spec = &self.daemons[*d].spec;
                (spec.groups.is_empty() || spec.groups.contains(group)) && (spec.critical || !shut)
            })
            .collect();
        for daemon in missing {
            let id = self.pods.len() as u32;
            let state = &mut self.nodes[node];
            let mut pod = daemon_pod(id, &self.daemons[daemon], daemon, node, &state.record.name, created);
            if let Some(newcomer) = state.newcomer {
                let scripted = self.faults.restarts.iter();
                let mine = scripted.filter(|r| r.node == newcomer && r.daemonset == self.daemons[daemon].spec.name);
                pod.scripted_restarts = mine.map(|r| r.times).sum();
            }
            state.daemons.insert(daemon, id);
            state.pods.insert(id);
            state.cpu -= pod.record.cpu as i64;
            state.memory -= pod.record.memory as i64;
            state.room -= 1;
            self.pod_index.insert(pod.record.key.clone(), id);
            self.pods.push(Some(pod));
            self.tell_pod(id);
            if self.now > 0 {
                self.begin_daemon(id);
            }
        }
    }

    /// A DaemonSet's pod is gone: another is made if the node is still there.
    pub(super) fn daemon_ended(&mut self, node: usize, daemon: usize) {
        self.nodes[node].daemons.remove(&daemon);
        self.nodes[node].ready_daemons.remove(&daemon);
        if !self.nodes[node].gone {
            let now = self.timestamp();
            self.make_daemon_pods(node, now);
            self.refresh_functional(node);
        }
    }

    fn daemon_of(&self, pod: u32) -> Option<(usize, usize)> {
        let pod = self.pods.get(pod as usize)?.as_ref()?;
        match pod.origin {
            Origin::Daemon(daemon) => Some((daemon, pod.node?)),
            Origin::Work { .. } => None,
        }
    }

    /// Starts a DaemonSet pod's containers, once what it comes after is ready on the node.
    fn begin_daemon(&mut self, pod: u32) {
        let Some((daemon, node)) = self.daemon_of(pod) else { return };
        let set = &self.daemons[daemon];
        let ready = &self.nodes[node].ready_daemons;
        let waits_for = set.needs.filter(|_| set.spec.waits);
        let held = set.after.iter().chain(&waits_for).any(|d| !ready.contains(d));
        let Some(state) = &mut self.pods[pod as usize] else { return };
        state.held = held;
        if !held {
            let delay = self.random.daemons.spread(self.daemons[daemon].spec.start_s);
            self.after(delay, Event::DaemonRuns(pod));
        }
    }

    pub(super) fn daemon_runs(&mut self, pod: u32) {
        let Some((daemon, node)) = self.daemon_of(pod) else { return };
        let now = self.timestamp();
        let set = &self.daemons[daemon];
        let lacks = set.needs.is_some_and(|n| !self.nodes[node].ready_daemons.contains(&n));
        let (ready_s, timeout_s, lookup_fails) =
            (set.spec.ready_s, set.spec.needs_timeout_s, !set.spec.hostname_override);
        let Some(state) = self.live_pod(pod) else { return };
        state.record.phase = Phase::Running;
        set_containers(state, ContainerState::Running(Some(now)), false);
        let attempt = state.restarts;
        let scripted = state.scripted_restarts > 0;
        if scripted {
            state.scripted_restarts -= 1;
        }
        self.tell_pod(pod);
        if scripted {
            let set = &self.daemons[daemon];
            let mine = |r: &&Restarts| Some(r.node) == self.nodes[node].newcomer && r.daemonset == set.spec.name;
            let delay = match self.faults.restarts.iter().find(mine).and_then(|r| r.after_s) {
                Some(after) => self.random.daemons.spread(after),
                None => self.random.daemons.micros(1_500.0, 4_000.0),
            };
            self.after(delay, Event::DaemonFails(pod));
        } else if lacks {
            let delay = self.random.daemons.spread(timeout_s);
            self.after(delay, Event::DaemonFails(pod));
        } else {
            let lookup: Micros = if lookup_fails { (1 + 2 + 4 + 8 + 16) * 1_000_000 } else { 0 };
            let delay = lookup + self.random.daemons.spread(ready_s);
            self.after(delay, Event::DaemonReady(pod, attempt));
        }
    }

    pub(super) fn daemon_fails(&mut self, pod: u32) {
        let now = self.timestamp();
        let Some(state) = self.live_pod(pod) else { return };
        state.restarts += 1;
        let restarts = state.restarts;
        for container in &mut state.record.containers {
            container.restarts = restarts;
            container.last = Some(crashed(started(container), now));
        }
        let reason = if restarts == 1 { "ContainerCreating" } else { "CrashLoopBackOff" };
        set_containers(state, ContainerState::Waiting(reason.into()), false);
        self.tell_pod(pod);
        let back_off = match restarts {
            1 => 0,
            n => (10_u64 << (n - 2).min(5)).min(300) * 1_000_000,
        };
        let delay = back_off + self.random.daemons.micros(300.0, 900.0);
        self.after(delay, Event::DaemonRuns(pod));
    }

    pub(super) fn daemon_ready(&mut self, pod: u32, attempt: u32) {
        let Some((daemon, node)) = self.daemon_of(pod) else { return };
        let now = self.timestamp();
        let Some(state) = self.live_pod(pod) else { return };
        if state.restarts != attempt {
            return;
        }
        state.record.flags.ready = true;
        state.record.ready_since = Some(now);
        for container in &mut state.record.containers {
            container.ready = true;
        }
        self.tell_pod(pod);
        self.nodes[node].ready_daemons.insert(daemon);
        if self.daemons[daemon].spec.makes_ready {
            let delay = self.random.daemons.spread(self.times.node_ready_s);
            self.after(delay, Event::NodeReady(node));
        }
        if self.daemons[daemon].spec.clears_taint.is_some() {
            let delay = self.random.daemons.micros(200.0, 1_500.0);
            self.after(delay, Event::ClearTaint(node, daemon));
        }
        self.register_driver(node, daemon);
        let held: Vec<u32> = self.nodes[node]
            .daemons
            .values()
            .copied()
            .filter(|p| self.pods[*p as usize].as_ref().is_some_and(|p| p.held))
            .collect();
        held.into_iter().for_each(|p| self.begin_daemon(p));
        self.refresh_functional(node);
    }

    fn register_driver(&mut self, node: usize, daemon: usize) {
        let Some(driver) = self.daemons[daemon].spec.csi_driver.as_deref() else { return };
        let drivers = &mut self.nodes[node].drivers;
        if !drivers.iter().any(|d| **d == *driver) {
            drivers.push(driver.into());
            drivers.sort();
            self.tell_drivers(node);
        }
    }

    pub(super) fn node_ready(&mut self, node: usize) {
        if self.nodes[node].gone {
            return;
        }
        let now = self.timestamp();
        let record = &mut self.nodes[node].record;
        record.conditions.insert("Ready".into(), ready_condition(now));
        record.taints.retain(|t| &*t.key != NOT_READY);
        self.node_changed(node);
    }

    pub(super) fn flap(&mut self, node: usize, left: u32) {
        if self.nodes[node].gone || left == 0 {
            return;
        }
        let now = self.timestamp();
        let every = self.faults.flapping.iter().find(|f| Some(f.node) == self.nodes[node].newcomer);
        let every = every.map_or(1_000_000, |f| (f.every_s * 1e6) as Micros);
        if left.is_multiple_of(2) {
            let condition = Condition {
                status: ConditionStatus::Unknown,
                reason: "NodeStatusUnknown".into(),
                message: Some("Kubelet stopped posting node status.".into()),
                since: Some(now),
            };
            let record = &mut self.nodes[node].record;
            record.conditions.insert("Ready".into(), condition);
            if !record.has_taint(NOT_READY) {
                record.taints.push(Taint { key: NOT_READY.into(), value: None, effect: TaintEffect::NoSchedule });
            }
            self.node_changed(node);
        } else {
            self.node_ready(node);
        }
        self.after(every, Event::Flap(node, left - 1));
    }

    pub(super) fn clear_startup_taint(&mut self, node: usize, daemon: usize) {
        let Some(key) = self.daemons[daemon].spec.clears_taint.clone() else { return };
        if self.nodes[node].gone || !self.nodes[node].record.has_taint(&key) {
            return;
        }
        self.nodes[node].record.taints.retain(|t| *t.key != *key);
        self.node_changed(node);
        let now = self.timestamp();
        self.make_daemon_pods(node, now);
    }

    pub(super) fn cordon_taint(&mut self, node: usize) {
        let record = &mut self.nodes[node].record;
        let (want, have) = (record.unschedulable, record.has_taint(UNSCHEDULABLE_TAINT));
        if self.nodes[node].gone || want == have {
            return;
        }
        let record = &mut self.nodes[node].record;
        if want {
            let effect = TaintEffect::NoSchedule;
            record.taints.push(Taint { key: UNSCHEDULABLE_TAINT.into(), value: None, effect });
        } else {
            record.taints.retain(|t| &*t.key != UNSCHEDULABLE_TAINT);
        }
        self.node_changed(node);
    }

    /// A PATCH of a Node; its precondition has been checked.
    pub(super) fn patch_node(&mut self, node: usize, change: &NodeChange) {
        let was_functional = self.nodes[node].functional;
        let record = &mut self.nodes[node].record;
        if let Some(unschedulable) = change.unschedulable
            && record.unschedulable != unschedulable
        {
            record.unschedulable = unschedulable;
            let delay = self.random.control.micros(5.0, 80.0);
            self.after(delay, Event::CordonTaint(node));
        }
        let record = &mut self.nodes[node].record;
        for (values, target) in [(&change.labels, &mut record.labels), (&change.annotations, &mut record.annotations)] {
            for (key, value) in values {
                match value {
                    Some(value) => target.insert(key.clone(), value.clone()),
                    None => target.remove(key),
                };
            }
        }
        if let Some(taint) = &change.add_taint {
            record.taints.retain(|t| t.key != taint.key || t.effect != taint.effect);
            record.taints.push(taint.clone());
        }
        if let Some(key) = &change.remove_taint {
            record.taints.retain(|t| t.key != *key);
        }
        self.node_changed(node);
        if was_functional && change.unschedulable == Some(true) {
            self.judge_cordon(node);
        }
    }

    /// Deletes a Node object: its pods go with it.
    pub(super) fn remove_node(&mut self, node: usize) {
        if self.nodes[node].gone {
            return;
        }
        self.nodes[node].gone = true;
        self.refresh_functional(node);
        self.place_in_cell(node);
        for pod in self.nodes[node].pods.clone() {
            self.kill_pod(pod);
        }
        let name = self.nodes[node].record.name.clone();
        if self.node_index.get(&name) == Some(&node) {
            self.node_index.remove(&name);
        }
        self.tell(|| Fact::NodeGone(name.clone()));
        self.tell(|| Fact::CsiNodeGone(name.clone()));
    }

    fn node_changed(&mut self, node: usize) {
        self.tell_node(node);
        self.place_in_cell(node);
        self.refresh_functional(node);
    }

    fn tell_node(&self, node: usize) {
        self.tell(|| Fact::Node(self.nodes[node].record.clone()));
    }

    /// A Node's drivers as a CSINode says them.
    pub(super) fn csi_node(&self, node: usize) -> CsiNode {
        CsiNode { node: self.nodes[node].record.name.clone(), drivers: self.nodes[node].drivers.clone() }
    }

    fn tell_drivers(&self, node: usize) {
        self.tell(|| Fact::CsiNode(self.csi_node(node)));
    }

    /// Judges anew whether a node does the work of one: in service, Ready, open, the pod of every critical
    /// DaemonSet ready.
    pub(super) fn refresh_functional(&mut self, node: usize) {
        let state = &self.nodes[node];
        let closed = |t: &Taint| t.effect != TaintEffect::PreferNoSchedule && &*t.key != UNSCHEDULABLE_TAINT;
        let functional = !state.gone
            && self.instances[state.instance].record.lifecycle == Lifecycle::InService
            && state.record.ready() == ConditionStatus::True
            && !state.record.unschedulable
            && !state.record.taints.iter().any(closed)
            && state.daemons.keys().all(|d| !self.daemons[*d].spec.critical || state.ready_daemons.contains(d));
        if functional != state.functional {
            self.nodes[node].functional = functional;
            self.judge_functional(node, functional);
        }
    }
}

fn ready_condition(since: Timestamp) -> Condition {
    Condition { status: ConditionStatus::True, reason: "KubeletReady".into(), message: None, since: Some(since) }
}

fn set_containers(pod: &mut PodState, to: ContainerState, ready: bool) {
    for container in &mut pod.record.containers {
        container.state = to.clone();
        container.ready = ready;
    }
}

/// Since when a container runs.
fn started(container: &Container) -> Option<Timestamp> {
    match container.state {
        ContainerState::Running(since) => since,
        ContainerState::Waiting(_) | ContainerState::Terminated(_) => None,
    }
}

fn crashed(started: Option<Timestamp>, finished: Timestamp) -> LastRun {
    LastRun { exit_code: 1, reason: "Error".into(), started, finished: Some(finished) }
}

/// The containers of a DaemonSet's pod before they start.
pub(super) fn new_containers(spec: &DaemonSpec) -> Vec<Container> {
    vec![Container {
        name: spec.name.as_str().into(),
        init: false,
        restarts: 0,
        ready: false,
        state: ContainerState::Waiting("ContainerCreating".into()),
        last: None,
    }]
}
