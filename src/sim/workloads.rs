//! Workloads, their pods and volumes.
//!
//! ```text
//! made -> scheduled -> (volume attached) -> running -> ready -> deleting -> gone
//! ```
//! A Deployment or Job makes the replacement as soon as a pod is being deleted, a StatefulSet once the old
//! pod of that name is gone, nobody for a bare pod.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::cluster::Fact;
use crate::model::{
    Labels, NodeName, ObjectKey, Operator, Owner, Phase, Pod, PodFlags, Requirement, Selector, Text, Uid,
    VolumeAttachment,
};

use super::budgets::BudgetState;
use super::daemons::Daemon;
use super::scenario::{OptOut, Scenario, WorkloadKind, WorkloadSpec, ZoneSpread};
use super::start::{Startup, new_containers};
use super::world::{Event, World};

/// What made a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A DaemonSet.
    Daemon(usize),
    /// A workload, for one of its slots.
    Work {
        /// Which workload.
        workload: usize,
        /// Which of its replicas.
        slot: u32,
    },
}

/// A pod and what the API does not show of it.
#[derive(Debug)]
pub(super) struct PodState {
    pub(super) record: Pod,
    pub(super) origin: Origin,
    pub(super) node: Option<usize>,
    /// How often this slot was moved by an eviction before.
    pub(super) moves: u32,
    /// How a DaemonSet's pod comes up.
    pub(super) startup: Option<Box<Startup>>,
    pub(super) volume: Option<usize>,
    /// Another node, functional and on the target, that could have taken it when it was bound.
    pub(super) alternative: Option<usize>,
    /// There was such a node, and it was put on an outdated one.
    pub(super) placed_badly: bool,
}

/// A workload.
#[derive(Debug)]
pub(super) struct Workload {
    pub(super) spec: WorkloadSpec,
    pub(super) namespace: Text,
    pub(super) name: Text,
    pub(super) owner: Option<Arc<Owner>>,
    pub(super) labels: Arc<Labels>,
    pub(super) budgets: Vec<usize>,
    /// Groups its pods may run in.
    pub(super) groups: Vec<usize>,
    /// Bound pods that are not being deleted, by zone.
    pub(super) by_zone: Vec<u32>,
    /// The same by node.
    pub(super) by_node: BTreeMap<usize, u32>,
    /// Volumes by slot.
    volumes: Vec<usize>,
}

/// A zonal volume of a StatefulSet's slot.
#[derive(Debug)]
pub(super) struct VolumeState {
    pub(super) name: Text,
    pub(super) zone: Option<usize>,
    /// Where it is attached, being attached or being detached.
    pub(super) attached: Option<(usize, VolumeAttachment)>,
    /// The pod that waits for it.
    waiting: Option<u32>,
}

impl World {
    pub(super) fn add_workloads(&mut self, scenario: &Scenario) {
        for spec in &scenario.workloads {
            for copy in 0..spec.copies {
                let name = if spec.copies == 1 { spec.name.clone() } else { format!("{}-{copy}", spec.name) };
                self.add_workload(spec, &name);
            }
        }
        for budget in 0..self.budgets.len() {
            self.sync_budget(budget);
        }
    }

    fn add_workload(&mut self, spec: &WorkloadSpec, name: &str) {
        let at = self.workloads.len();
        let namespace: Text = spec.namespace.as_str().into();
        let labels: Labels = [("app".into(), name.into())].into();
        let (kind, owner_name) = match spec.kind {
            WorkloadKind::Deployment => ("ReplicaSet", format!("{name}-{:09x}", 0x7d9f8c6b5_u64 ^ at as u64)),
            WorkloadKind::StatefulSet => ("StatefulSet", name.to_owned()),
            WorkloadKind::Job => ("Job", name.to_owned()),
            WorkloadKind::Bare => ("", name.to_owned()),
        };
        let uid = Uid::from(format!("30000000-0000-4000-8000-{at:012x}"));
        let owner =
            (!kind.is_empty()).then(|| Arc::new(Owner { kind: kind.into(), name: owner_name.as_str().into(), uid }));
        let mut budgets = Vec::new();
        for (n, budget) in spec.budgets.iter().enumerate() {
            let budget_name = if n == 0 { name.to_owned() } else { format!("{name}-{n}") };
            let requirement = Requirement { key: "app".into(), operator: Operator::In, values: vec![name.into()] };
            let key = ObjectKey::new(&spec.namespace, &budget_name);
            budgets.push(self.budgets.len());
            self.budgets.push(BudgetState::new(key, Selector(vec![requirement]), budget.clone(), at));
        }
        let groups = (0..self.groups.len())
            .filter(|g| spec.groups.is_empty() || spec.groups.contains(&self.groups[*g].spec.name))
            .collect();
        let volumes = if spec.volume { (0..spec.replicas as usize).collect() } else { Vec::new() };
        let first = self.volumes.len();
        for slot in &volumes {
            let name = format!("pvc-{:012x}", first + slot).into();
            self.volumes.push(VolumeState { name, zone: None, attached: None, waiting: None });
        }
        self.workloads.push(Workload {
            spec: spec.clone(),
            namespace,
            name: owner_name.into(),
            owner,
            labels: labels.into(),
            budgets,
            groups,
            by_zone: vec![0; self.zones.len()],
            by_node: BTreeMap::new(),
            volumes: volumes.into_iter().map(|slot| first + slot).collect(),
        });
        for slot in 0..spec.replicas {
            self.old_pod(at, slot);
        }
    }

    /// A pod that was there before the scenario began: running and ready where there was room.
    fn old_pod(&mut self, workload: usize, slot: u32) {
        let id = self.make_pod(workload, slot, 0);
        let Some(node) = self.pick_node(id) else {
            self.schedule(id);
            return;
        };
        self.bind(id, node);
        let age = 3_600.0 * (1.0 + 200.0 * self.random.pods.uniform());
        let created = self.timestamp() - SignedDuration::from_secs(age as i64);
        if let Some(volume) = self.pods[id as usize].as_ref().and_then(|p| p.volume) {
            self.volumes[volume].zone = Some(self.nodes[node].zone);
            let attachment = self.attachment(volume, node, true);
            self.volumes[volume].attached = Some((node, attachment));
        }
        if let Some(pod) = self.live_pod(id) {
            pod.record.created = created;
            pod.record.phase = Phase::Running;
        }
        self.mark_ready(id, created + SignedDuration::from_secs(10));
        self.plan_finish(id);
    }

    /// A controller makes the pod of a slot.
    pub(super) fn make_pod(&mut self, workload: usize, slot: u32, moves: u32) -> u32 {
        let id = self.pods.len() as u32;
        let owner = &self.workloads[workload];
        let spec = &owner.spec;
        let name: Text = match spec.kind {
            WorkloadKind::StatefulSet => format!("{}-{slot}", owner.name).into(),
            WorkloadKind::Bare if spec.replicas == 1 => owner.name.clone(),
            _ => format!("{}-{}", owner.name, suffix(id)).into(),
        };
        let record = Pod {
            uid: pod_uid(id),
            key: ObjectKey { namespace: owner.namespace.clone(), name },
            node: None,
            phase: Phase::Pending,
            deleting: None,
            owner: owner.owner.clone(),
            labels: owner.labels.clone(),
            flags: PodFlags {
                empty_dir: spec.empty_dir,
                claims: spec.volume,
                hard_zone_spread: spec.spread == ZoneSpread::Hard,
                not_safe_to_evict: spec.opt_out == Some(OptOut::NotSafeToEvict),
                do_not_disrupt: spec.opt_out == Some(OptOut::DoNotDisrupt),
                ..PodFlags::default()
            },
            containers: Vec::new(),
            revision: None,
            cpu: spec.cpu_m,
            memory: spec.memory_mib << 20,
            tolerates_cordon: false,
            unschedulable: None,
            created: self.timestamp(),
            scheduled: None,
            initialized: None,
            ready_since: None,
        };
        let volume = owner.volumes.get(slot as usize).copied();
        self.pod_index.insert(record.key.clone(), id);
        self.pods.push(Some(PodState {
            record,
            origin: Origin::Work { workload, slot },
            node: None,
            moves,
            startup: None,
            volume,
            alternative: None,
            placed_badly: false,
        }));
        self.count_pod(workload, 1, 0);
        self.tell_pod(id);
        if self.now > 0 {
            let delay = self.random.control.micros(2.0, 30.0);
            self.after(delay, Event::Schedule(id));
        }
        id
    }

    /// A pod that is there.
    pub(super) fn live_pod(&mut self, id: u32) -> Option<&mut PodState> {
        self.pods.get_mut(id as usize)?.as_mut()
    }

    /// A pod was bound by the scheduler: what it takes until it runs.
    pub(super) fn start_pod(&mut self, id: u32, node: usize) {
        let Some(volume) = self.pods[id as usize].as_ref().and_then(|p| p.volume) else {
            return self.start_containers(id);
        };
        let zone = self.nodes[node].zone;
        self.volumes[volume].zone = Some(zone);
        self.volumes[volume].waiting = Some(id);
        if self.volumes[volume].attached.is_none() {
            self.attach(volume, node);
        }
    }

    fn attachment(&self, volume: usize, node: usize, attached: bool) -> VolumeAttachment {
        VolumeAttachment {
            name: format!("csi-{}-{node}", self.volumes[volume].name).into(),
            node: self.nodes[node].record.name.clone(),
            volume: Some(self.volumes[volume].name.clone()),
            attached,
        }
    }

    fn attach(&mut self, volume: usize, node: usize) {
        let attachment = self.attachment(volume, node, false);
        self.tell(|| Fact::VolumeAttachment(attachment.clone()));
        self.volumes[volume].attached = Some((node, attachment));
        let delay = self.random.pods.spread(self.times.attach_s);
        self.after(delay, Event::Attached(volume));
    }

    pub(super) fn volume_attached(&mut self, volume: usize) {
        let Some((_, attachment)) = &mut self.volumes[volume].attached else { return };
        attachment.attached = true;
        let attachment = attachment.clone();
        self.tell(|| Fact::VolumeAttachment(attachment.clone()));
        if let Some(pod) = self.volumes[volume].waiting.take() {
            self.start_containers(pod);
        }
    }

    pub(super) fn volume_detached(&mut self, volume: usize) {
        let Some((_, attachment)) = self.volumes[volume].attached.take() else { return };
        self.tell(|| Fact::VolumeAttachmentGone(attachment.name.clone()));
        let waiting = self.volumes[volume].waiting;
        if let Some(node) = waiting.and_then(|p| self.pods[p as usize].as_ref()).and_then(|p| p.node) {
            self.attach(volume, node);
        }
    }

    fn start_containers(&mut self, id: u32) {
        let Some(spread) = self.workload_of(id).map(|w| w.spec.start_s) else { return };
        let delay = self.random.pods.spread(spread.unwrap_or(self.times.start_s));
        self.after(delay, Event::Running(id));
    }

    fn workload_of(&self, id: u32) -> Option<&Workload> {
        match self.pods.get(id as usize)?.as_ref()?.origin {
            Origin::Work { workload, .. } => self.workloads.get(workload),
            Origin::Daemon(_) => None,
        }
    }

    pub(super) fn pod_running(&mut self, id: u32) {
        let Some(spread) = self.workload_of(id).map(|w| w.spec.ready_s) else { return };
        let Some(pod) = self.live_pod(id) else { return };
        if pod.record.deleting.is_some() {
            return;
        }
        pod.record.phase = Phase::Running;
        self.tell_pod(id);
        let delay = self.random.pods.spread(spread.unwrap_or(self.times.ready_s));
        self.after(delay, Event::Ready(id));
        self.plan_finish(id);
    }

    fn plan_finish(&mut self, id: u32) {
        if let Some(run) = self.workload_of(id).and_then(|w| w.spec.run_s) {
            let delay = self.random.pods.spread(run);
            self.after(delay, Event::Finish(id));
        }
    }

    pub(super) fn pod_ready(&mut self, id: u32) {
        let now = self.timestamp();
        self.mark_ready(id, now);
        self.tell_pod(id);
    }

    fn mark_ready(&mut self, id: u32, since: Timestamp) {
        let Some(pod) = self.live_pod(id) else { return };
        if pod.record.deleting.is_some() || pod.record.phase != Phase::Running {
            return;
        }
        pod.record.flags.ready = true;
        pod.record.ready_since = Some(since);
        if let Origin::Work { workload, .. } = pod.origin {
            self.count_pod(workload, 0, 1);
        }
    }

    pub(super) fn pod_finished(&mut self, id: u32) {
        let Some(pod) = self.live_pod(id) else { return };
        if pod.record.deleting.is_some() {
            return;
        }
        let was_ready = std::mem::take(&mut pod.record.flags.ready);
        pod.record.phase = Phase::Succeeded;
        if let (Origin::Work { workload, .. }, true) = (pod.origin, was_ready) {
            self.count_pod(workload, 0, -1);
        }
        self.tell_pod(id);
    }

    /// A pod's deletion begins, by an eviction or a DELETE.
    pub(super) fn delete_pod(&mut self, id: u32, grace_seconds: Option<u32>) {
        let now = self.timestamp();
        let own = self.workload_of(id).and_then(|w| w.spec.grace_s).unwrap_or(self.times.grace_s);
        let limit = grace_seconds.unwrap_or(30);
        let Some(pod) = self.live_pod(id) else { return };
        if pod.record.deleting.is_some() {
            return;
        }
        pod.record.deleting = Some(now + SignedDuration::from_secs(i64::from(limit)));
        let (origin, ready, moves, node) = (pod.origin, pod.record.flags.ready, pod.moves, pod.node);
        let finished = pod.record.is_finished();
        if let Origin::Work { workload, slot } = origin {
            self.count_pod(workload, 0, -i64::from(ready));
            self.leave_spread(workload, node);
            if matches!(self.workloads[workload].spec.kind, WorkloadKind::Deployment | WorkloadKind::Job) && !finished {
                let delay = self.random.control.micros(5.0, 60.0);
                self.after(delay, Event::Replace(workload, slot, moves + 1));
            }
        }
        self.tell_pod(id);
        // A pod that never ran has nothing to end.
        let runs = node.is_some() && !finished;
        let wanted = if runs { self.random.pods.spread(own) } else { 1_000 };
        self.after(wanted.min(u64::from(limit) * 1_000_000), Event::End(id));
    }

    fn leave_spread(&mut self, workload: usize, node: Option<usize>) {
        let Some(node) = node else { return };
        let zone = self.nodes[node].zone;
        let owner = &mut self.workloads[workload];
        owner.by_zone[zone] -= 1;
        if let Some(count) = owner.by_node.get_mut(&node) {
            *count -= 1;
            if *count == 0 {
                owner.by_node.remove(&node);
            }
        }
    }

    /// A pod that is being deleted is gone.
    pub(super) fn end_pod(&mut self, id: u32) {
        let Some(pod) = self.pods.get_mut(id as usize).and_then(Option::take) else { return };
        if self.pod_index.get(&pod.record.key) == Some(&id) {
            self.pod_index.remove(&pod.record.key);
        }
        self.unschedulable.remove(&id);
        self.tell(|| Fact::PodGone(pod.record.uid.clone()));
        if let Some(volume) = pod.volume {
            if self.volumes[volume].waiting == Some(id) {
                self.volumes[volume].waiting = None;
            }
            if self.volumes[volume].attached.as_ref().is_some_and(|(n, _)| Some(*n) == pod.node) {
                let delay = self.random.pods.spread(self.times.detach_s);
                self.after(delay, Event::Detached(volume));
            }
        }
        if let Some(node) = pod.node {
            let state = &mut self.nodes[node];
            state.pods.remove(&id);
            state.cpu += pod.record.cpu as i64;
            state.memory += pod.record.memory as i64;
            state.room += 1;
            if let Origin::Daemon(daemon) = pod.origin {
                self.daemon_ended(node, daemon);
            }
            self.place_in_cell(node);
        }
        if let Origin::Work { workload, slot } = pod.origin {
            self.count_pod(workload, -1, 0);
            if self.workloads[workload].spec.kind == WorkloadKind::StatefulSet && !pod.record.is_finished() {
                let delay = self.random.control.micros(5.0, 60.0);
                self.after(delay, Event::Replace(workload, slot, pod.moves + 1));
            }
        }
    }

    /// A pod whose node is gone: deleted and gone at once, its controller makes another.
    pub(super) fn kill_pod(&mut self, id: u32) {
        let Some(pod) = self.live_pod(id) else { return };
        if pod.record.deleting.is_none()
            && let Origin::Work { workload, slot } = pod.origin
        {
            let (ready, moves, node) = (pod.record.flags.ready, pod.moves, pod.node);
            let finished = pod.record.is_finished();
            self.count_pod(workload, 0, -i64::from(ready));
            self.leave_spread(workload, node);
            if matches!(self.workloads[workload].spec.kind, WorkloadKind::Deployment | WorkloadKind::Job) && !finished {
                let delay = self.random.control.micros(5.0, 60.0);
                self.after(delay, Event::Replace(workload, slot, moves));
            }
        }
        self.end_pod(id);
    }

    pub(super) fn tell_pod(&self, id: u32) {
        if let Some(pod) = &self.pods[id as usize] {
            self.tell(|| Fact::Pod(pod.record.clone()));
        }
    }
}

/// The UID of the so-manieth pod.
fn pod_uid(id: u32) -> Uid {
    // What differs comes first: UIDs are compared a lot.
    Uid::from(format!("{id:08x}-90d0-4000-8000-000000000000"))
}

/// Five characters as generated names end in, different for every pod.
fn suffix(id: u32) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    // 27^5 names, visited in a scattered order: the multiplier shares no factor with 27.
    let mut n = (u64::from(id) * 7_368_787) % 14_348_907;
    let mut text = String::with_capacity(5);
    for _ in 0..5 {
        text.push(char::from(LETTERS[(n % 27) as usize]));
        n /= 27;
    }
    text
}

/// The pod of a DaemonSet on a node.
pub(super) fn daemon_pod(
    id: u32,
    set: &Daemon,
    daemon: usize,
    node: usize,
    name: &NodeName,
    created: Timestamp,
) -> PodState {
    let record = Pod {
        uid: pod_uid(id),
        key: ObjectKey {
            namespace: set.record.key.namespace.clone(),
            name: format!("{}-{}", set.spec.name, suffix(id)).into(),
        },
        node: Some(name.clone()),
        phase: Phase::Pending,
        deleting: None,
        owner: Some(set.owner.clone()),
        labels: set.pod_labels.clone(),
        flags: PodFlags { host_network: set.spec.host_network, critical: set.spec.critical, ..PodFlags::default() },
        containers: new_containers(&set.roles),
        revision: Some(set.revision.hash.clone()),
        cpu: set.spec.cpu_m,
        memory: set.spec.memory_mib << 20,
        tolerates_cordon: true,
        unschedulable: None,
        created,
        // Bound as it is made, and without init containers initialised as soon as the kubelet sees it.
        scheduled: Some(created),
        initialized: (!set.roles.iter().any(|r| r.init)).then_some(created),
        ready_since: None,
    };
    PodState {
        record,
        origin: Origin::Daemon(daemon),
        node: Some(node),
        moves: 0,
        startup: Some(Box::new(Startup::new(set.roles.clone(), set.tag.clone()))),
        volume: None,
        alternative: None,
        placed_badly: false,
    }
}
