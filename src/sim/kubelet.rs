//! Nodes: kubelets that join, DaemonSet pods that start in their order, and Ready that follows.
//!
//! ```text
//! register (not-ready, startup taints) -> DaemonSet pods bound -> containers run -> ready
//!                                             |      ^  |                             |
//!                                             |      |  +-- fail, back-off <-+        +-> Node Ready, taints go
//!                                             +-- wait for what they come after
//! ```
//! How a DaemonSet's pod comes up is in `start`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::cluster::{Fact, NodeChange};
use crate::model::marks::UNSCHEDULABLE_TAINT;
use crate::model::{
    Condition, ConditionStatus, CsiNode, Labels, Lifecycle, Node, NodeName, Phase, Taint, TaintEffect, Text, Uid,
};

use super::past::Came;
use super::start::settle_containers;
use super::workloads::{Origin, daemon_pod};
use super::world::{Event, Micros, World};

/// The label that says which group a Node belongs to.
pub(super) const GROUP_LABEL: &str = "node.example.com/group";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const NETWORK_NOT_READY: &str = "container runtime network not ready: NetworkReady=false \
    reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized";

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
    pub(super) ready_daemons: BTreeSet<usize>,
    /// DaemonSets that have been ready here once: their rules, files and sockets outlast a pod's renewal.
    pub(super) provided: BTreeSet<usize>,
    pub(super) cpu: i64,
    pub(super) memory: i64,
    pub(super) room: i64,
    /// Its place in the scheduler's order, while pods may be put there.
    pub(super) cell_key: Option<(bool, i64)>,
    pub(super) tie: u32,
    pub(super) gone: bool,
    /// The so-manieth new node; `None` for those that were there.
    pub(super) newcomer: Option<u32>,
    drivers: Vec<Text>,
    pub(super) functional: bool,
}

impl World {
    /// A Node that was there before the scenario began: Ready, its DaemonSet pods running.
    pub(super) fn old_node(&mut self, instance: usize, past: &[Came]) {
        let came = past.get(self.nodes.len() % past.len().max(1));
        let joined = came.map_or(SignedDuration::from_secs(70), |came| came.joined);
        let created = self.instances[instance].launched + joined;
        let node = self.new_node(instance, created);
        let state = &mut self.nodes[node];
        state.record.taints.clear();
        state.record.conditions.insert("Ready".into(), ready_condition(created));
        self.make_daemon_pods(node, created);
        let ready = created + SignedDuration::from_secs(15);
        for (daemon, pod) in self.nodes[node].daemons.clone() {
            if let Some(pod) = &mut self.pods[pod as usize] {
                pod.record.phase = Phase::Running;
                pod.record.flags.ready = true;
                pod.record.ready_since = Some(ready);
                pod.record.initialized = Some(created);
                settle_containers(&mut pod.record.containers, ready);
            }
            self.nodes[node].ready_daemons.insert(daemon);
            self.nodes[node].provided.insert(daemon);
            self.register_driver(node, daemon);
        }
        if let Some(came) = came {
            self.relive(node, came);
        }
        self.place_in_cell(node);
        self.refresh_functional(node);
    }

    fn new_node(&mut self, instance: usize, created: Timestamp) -> usize {
        let at = self.nodes.len();
        let state = &self.instances[instance];
        let spec = &self.groups[state.group].spec;
        let name = NodeName::from(state.dns.clone());
        let text = |s: &str| Text::from(s);
        let labels: Labels = [
            (text("kubernetes.io/hostname"), name.text().clone()),
            (text("kubernetes.io/os"), text("linux")),
            (text("node.kubernetes.io/instance-type"), state.record.instance_type.clone()),
            (text("topology.kubernetes.io/zone"), state.record.zone.text().clone()),
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
            provided: BTreeSet::new(),
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
                let times = mine.map(|r| r.times).sum();
                if let Some(startup) = pod.startup.as_deref_mut() {
                    startup.scripted = times;
                }
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

    pub(super) fn daemon_of(&self, pod: u32) -> Option<(usize, usize)> {
        let pod = self.pods.get(pod as usize)?.as_ref()?;
        match pod.origin {
            Origin::Daemon(daemon) => Some((daemon, pod.node?)),
            Origin::Work { .. } => None,
        }
    }

    pub(super) fn register_driver(&mut self, node: usize, daemon: usize) {
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
