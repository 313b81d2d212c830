//! The world: what there is, an ordered queue of what happens next, and the one task that lets it happen.
//!
//! Every event is handled at its own time, in the order of (time, sequence), before any request that comes
//! later is answered; so the order of events never depends on which task the runtime polls first.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::rc::Rc;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use crate::cluster::{ConfigRecord, Fact, LeaseRecord};
use crate::model::{GroupName, InstanceId, NodeName, ObjectKey, Text, Zone};

use super::Faults;
use super::addons::UpdateState;
use super::budgets::BudgetState;
use super::daemons::Daemon;
use super::groups::{Group, InstanceState};
use super::judge::Judge;
use super::kubelet::NodeState;
use super::past::Past;
use super::scenario::{Scenario, Times};
use super::scheduler::Cells;
use super::streams::Streams;
use super::workloads::{PodState, VolumeState, Workload};

/// Microseconds of virtual time since the scenario began.
pub(super) type Micros = u64;

/// When every scenario begins.
pub(super) const ORIGIN: Timestamp = Timestamp::constant(1_793_606_400, 0);

/// Something that happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A group compares desired and actual.
    Reconcile(usize),
    /// A group tries again what could not be launched.
    Retry(usize),
    /// An instance goes into service.
    InService(usize),
    /// An instance's kubelet registers its Node.
    Join(usize),
    /// An instance is gone.
    Gone(usize),
    /// The cloud's controller deletes the Node of an instance that is gone.
    NodeDeleted(usize),
    /// A Node becomes Ready.
    NodeReady(usize),
    /// The cordon's taint follows `spec.unschedulable`.
    CordonTaint(usize),
    /// A DaemonSet takes its startup taint off a Node.
    ClearTaint(usize, usize),
    /// A Node's Ready comes or goes, so many times more.
    Flap(usize, u32),
    /// A DaemonSet pod's next container runs.
    DaemonRuns(u32),
    /// A DaemonSet pod's init container has waited, in its so-manieth run.
    DaemonWaited(u32, u32),
    /// A DaemonSet pod is ready, unless it was restarted since its so-manieth run.
    DaemonReady(u32, u32),
    /// A DaemonSet pod's container fails in its so-manieth run, with this exit code.
    DaemonFails(u32, u32, i32),
    /// The DaemonSet controller replaces pods of earlier revisions.
    Roll(usize),
    /// An update of an add-on is done.
    AddonUpdated(usize),
    /// A controller makes a pod for this slot of a workload, moved so often before.
    Replace(usize, u32, u32),
    /// The scheduler looks at a pod.
    Schedule(u32),
    /// A workload pod's containers run.
    Running(u32),
    /// A workload pod is ready.
    Ready(u32),
    /// A workload pod ends well by itself.
    Finish(u32),
    /// A pod that is being deleted is gone.
    End(u32),
    /// A volume is attached.
    Attached(usize),
    /// A volume is detached.
    Detached(usize),
    /// The budgets' controller looks at a budget.
    BudgetSync(usize),
    /// Somebody else changes desired: entry of `faults.scale`.
    Scale(usize),
    /// A template gets a new version: entry of `faults.retarget`.
    Retarget(usize),
}

#[derive(Debug, PartialEq, Eq)]
struct Queued {
    at: Micros,
    sequence: u64,
    event: Event,
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// A watch in progress: facts on their way to it.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    pub(super) facts: RefCell<VecDeque<Fact>>,
    pub(super) arrived: Notify,
}

/// The world.
#[derive(Debug)]
pub struct World {
    pub(super) now: Micros,
    queue: BinaryHeap<Reverse<Queued>>,
    sequence: u64,
    head_moved: bool,
    pub(super) random: Streams,
    pub(super) times: Times,
    pub(super) faults: Faults,
    pub(super) cluster: Text,
    pub(super) version: Text,
    pub(super) zones: Vec<Zone>,
    pub(super) groups: Vec<Group>,
    pub(super) group_index: BTreeMap<GroupName, usize>,
    pub(super) instances: Vec<InstanceState>,
    pub(super) instance_index: BTreeMap<InstanceId, usize>,
    pub(super) launches: u32,
    pub(super) nodes: Vec<NodeState>,
    pub(super) node_index: BTreeMap<NodeName, usize>,
    pub(super) newcomers: u32,
    pub(super) daemons: Vec<Daemon>,
    /// Host names end in this domain, Node names do not.
    pub(super) dhcp_domain: Option<Text>,
    /// Updates of add-ons so far.
    pub(super) addon_updates: Vec<UpdateState>,
    pub(super) workloads: Vec<Workload>,
    pub(super) pods: Vec<Option<PodState>>,
    pub(super) pod_index: BTreeMap<ObjectKey, u32>,
    pub(super) volumes: Vec<VolumeState>,
    pub(super) budgets: Vec<BudgetState>,
    pub(super) cells: Cells,
    pub(super) unschedulable: BTreeSet<u32>,
    pub(super) leases: BTreeMap<ObjectKey, LeaseRecord>,
    pub(super) configs: BTreeMap<ObjectKey, ConfigRecord>,
    pub(super) resource_version: u64,
    pub(super) watchers: Vec<Rc<Watcher>>,
    /// Facts told so far.
    pub(super) told: Cell<u64>,
    pub(super) calls: BTreeMap<&'static str, u64>,
    pub(super) requests: BTreeMap<&'static str, u64>,
    pub(super) judge: Judge,
    /// Which life of fastnode may use the ports; those of earlier lives hang.
    pub(super) life: u64,
    /// Actions that were to change something, over all lives.
    pub(super) actions: u64,
    pub(super) crash_at: Option<u64>,
    pub(super) crashed: bool,
}

impl World {
    /// The world of a scenario as it is before anybody does anything.
    pub(super) fn new(scenario: &Scenario, seed: u64) -> Self {
        let zones: BTreeSet<&str> = scenario.groups.iter().flat_map(|g| &g.zones).map(String::as_str).collect();
        let zones: Vec<Zone> = zones.into_iter().map(Zone::from).collect();
        let mut world = Self {
            now: 0,
            queue: BinaryHeap::new(),
            sequence: 0,
            head_moved: false,
            random: Streams::new(seed),
            times: scenario.times.clone(),
            faults: scenario.faults.clone(),
            cluster: scenario.cluster.as_str().into(),
            version: scenario.version.as_str().into(),
            cells: Cells::new(scenario.groups.len(), zones.len()),
            zones,
            groups: Vec::new(),
            group_index: BTreeMap::new(),
            instances: Vec::new(),
            instance_index: BTreeMap::new(),
            launches: 0,
            nodes: Vec::new(),
            node_index: BTreeMap::new(),
            newcomers: 0,
            daemons: Vec::new(),
            dhcp_domain: scenario.dhcp_domain.as_deref().map(Text::from),
            addon_updates: Vec::new(),
            workloads: Vec::new(),
            pods: Vec::new(),
            pod_index: BTreeMap::new(),
            volumes: Vec::new(),
            budgets: Vec::new(),
            unschedulable: BTreeSet::new(),
            leases: BTreeMap::new(),
            configs: BTreeMap::new(),
            resource_version: 1_000,
            watchers: Vec::new(),
            told: Cell::new(0),
            calls: BTreeMap::new(),
            requests: BTreeMap::new(),
            judge: Judge::default(),
            life: 0,
            actions: 0,
            crash_at: scenario.faults.crash_at,
            crashed: false,
        };
        world.populate(scenario, &Self::past(scenario, seed));
        world
    }

    fn populate(&mut self, scenario: &Scenario, past: &Past) {
        self.add_daemonsets(scenario);
        for (at, spec) in scenario.groups.iter().enumerate() {
            self.add_group(spec, past.get(at).map_or(&[], Vec::as_slice));
        }
        self.add_workloads(scenario);
        for at in 0..self.faults.scale.len() {
            self.after((self.faults.scale[at].at_s * 1e6) as Micros, Event::Scale(at));
        }
        for at in 0..self.faults.retarget.len() {
            self.after((self.faults.retarget[at].at_s * 1e6) as Micros, Event::Retarget(at));
        }
        self.judge_from_now(&scenario.policy());
    }

    /// The time now.
    pub(super) fn timestamp(&self) -> Timestamp {
        timestamp(self.now)
    }

    /// Lets `event` happen so many microseconds from now.
    pub(super) fn after(&mut self, delay: Micros, event: Event) {
        let at = self.now + delay.max(1);
        if self.queue.peek().is_none_or(|Reverse(head)| at < head.at) {
            self.head_moved = true;
        }
        self.sequence += 1;
        self.queue.push(Reverse(Queued { at, sequence: self.sequence, event }));
    }

    /// When the next event is due.
    pub(super) fn next_due(&self) -> Option<Micros> {
        self.queue.peek().map(|Reverse(head)| head.at)
    }

    /// Lets everything happen that is due at `until`; facts go to the watches.
    pub(super) fn advance(&mut self, until: Micros) {
        while let Some(Reverse(head)) = self.queue.peek()
            && head.at <= until
        {
            let Some(Reverse(Queued { at, event, .. })) = self.queue.pop() else { break };
            self.now = at;
            self.handle(event);
        }
        self.now = self.now.max(until);
    }

    /// Whether the head of the queue has moved since this was last asked.
    pub(super) fn take_head_moved(&mut self) -> bool {
        std::mem::take(&mut self.head_moved)
    }

    /// Wakes the watches that have facts waiting.
    pub(super) fn flush(&self) {
        for watcher in &self.watchers {
            if !watcher.facts.borrow().is_empty() {
                watcher.arrived.notify_one();
            }
        }
    }

    /// Tells every watch.
    pub(super) fn tell(&self, fact: impl Fn() -> Fact) {
        for watcher in &self.watchers {
            self.told.set(self.told.get() + 1);
            watcher.facts.borrow_mut().push_back(fact());
        }
    }

    /// The next `resourceVersion`.
    pub(super) fn next_version(&mut self) -> String {
        self.resource_version += 1;
        self.resource_version.to_string()
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Reconcile(group) => self.reconcile(group),
            Event::Retry(group) => self.retry(group),
            Event::InService(instance) => self.in_service(instance),
            Event::Join(instance) => self.join(instance),
            Event::Gone(instance) => self.instance_gone(instance),
            Event::NodeDeleted(node) => self.remove_node(node),
            Event::NodeReady(node) => self.node_ready(node),
            Event::CordonTaint(node) => self.cordon_taint(node),
            Event::ClearTaint(node, daemon) => self.clear_startup_taint(node, daemon),
            Event::Flap(node, left) => self.flap(node, left),
            Event::DaemonRuns(pod) => self.daemon_runs(pod),
            Event::DaemonWaited(pod, run) => self.daemon_waited(pod, run),
            Event::DaemonReady(pod, run) => self.daemon_ready(pod, run),
            Event::DaemonFails(pod, run, exit_code) => self.daemon_fails(pod, run, exit_code),
            Event::Roll(daemon) => self.roll(daemon),
            Event::AddonUpdated(update) => self.addon_updated(update),
            Event::Replace(workload, slot, moves) => {
                self.make_pod(workload, slot, moves);
            }
            Event::Schedule(pod) => self.schedule(pod),
            Event::Running(pod) => self.pod_running(pod),
            Event::Ready(pod) => self.pod_ready(pod),
            Event::Finish(pod) => self.pod_finished(pod),
            Event::End(pod) => self.end_pod(pod),
            Event::Attached(volume) => self.volume_attached(volume),
            Event::Detached(volume) => self.volume_detached(volume),
            Event::BudgetSync(budget) => self.sync_budget(budget),
            Event::Scale(at) => self.scale_by_others(at),
            Event::Retarget(at) => self.retarget(at),
        }
    }
}

/// The timestamp of a virtual time.
pub(super) fn timestamp(at: Micros) -> Timestamp {
    later(ORIGIN, at)
}

/// So many microseconds after a time.
pub(super) fn later(begin: Timestamp, at: Micros) -> Timestamp {
    let micros = i64::try_from(at).unwrap_or(i64::MAX);
    begin.checked_add(SignedDuration::from_micros(micros)).unwrap_or(Timestamp::MAX)
}
