//! How a node started: the moments of its way, each DaemonSet's part of it, and what it was waiting for.
//!
//! ```text
//! requested -> provisioned -> booted   -> joined -> Ready -> functional          first workload pod
//!  activity    EC2 launch     kubelet's   Node      Node's    the last gated      the first that is
//!  began       time           Event       created   condition DaemonSet pod Ready there became Ready
//! ```
//! All of it is read off what the world still shows, long after the start, so most of the care here is for what
//! it no longer shows. A stage is told only of a node that has a *first-generation* DaemonSet pod, one made
//! within [`FIRST_GENERATION`] of its Node, and only where the time that ends it lies in the node's first
//! [`START`]: a DaemonSet that was updated since has new pods, a condition that flapped has a new time, and
//! neither says anything about the start. What cannot be told is unknown, never guessed. An instance has booted when
//! its kubelet starts, of which an Event is kept for an hour; of older nodes boot and registration are one.

mod boot;
mod chain;
mod figures;
mod measurement;
mod path;
mod worth;

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::{
    Condition, ConditionStatus, DaemonSet, GroupName, Instance, InstanceId, LaunchSource, Node, NodeName, Pod, Text,
    Zone,
};
use crate::observe::Snapshot;
use crate::policy::{Policy, Scope};

pub use boot::{Boots, boots};
pub use chain::Chain;
pub use figures::{Figures, PathShare, Sampled, SetFigures};
pub use measurement::{Comparison, Lever, Measurement, ReadError, VERSION};
pub use path::{Segment, Step};
pub use worth::{Worth, worth};

use super::{gated, should_run};

/// A DaemonSet pod made within this time of its Node is the one the node started with.
pub const FIRST_GENERATION: SignedDuration = SignedDuration::from_mins(5);

/// A time later than this after the Node's creation is none of its start: something changed since.
pub const START: SignedDuration = SignedDuration::from_mins(15);

/// Kubernetes' stamps are whole seconds, of two clocks: what is this little too early is at the same time.
const SLACK: SignedDuration = SignedDuration::from_secs(2);

/// What a registration may take between the kubelet's stamp and the API server's: only clocks that are further apart
/// are said to differ.
const APART: SignedDuration = SignedDuration::from_secs(5);

/// A stretch of a node's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// From the Auto Scaling activity's start to EC2's launch.
    Provisioned,
    /// From the launch to the kubelet's start: a part of [`Self::Joined`].
    Booted,
    /// From the launch to the Node's creation: boot and registration.
    Joined,
    /// From the Node's creation to Ready.
    Ready,
    /// From Ready to functional, soak excluded.
    Functional,
    /// From the Node's creation to functional: `Ready` and `Functional` together.
    Start,
    /// From the launch to functional.
    Total,
    /// From the Node's creation to the first Ready pod of a workload.
    FirstPod,
}

impl Stage {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::Provisioned,
        Self::Booted,
        Self::Joined,
        Self::Ready,
        Self::Functional,
        Self::Start,
        Self::Total,
        Self::FirstPod,
    ];

    /// Its name, as JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Provisioned => "provisioned",
            Self::Booted => "booted",
            Self::Joined => "joined",
            Self::Ready => "ready",
            Self::Functional => "functional",
            Self::Start => "start",
            Self::Total => "total",
            Self::FirstPod => "first_pod",
        }
    }

    /// From what to what, for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Provisioned => "requested to launched",
            Self::Booted => "launched to kubelet up",
            Self::Joined => "launched to registered",
            Self::Ready => "registered to Ready",
            Self::Functional => "Ready to functional",
            Self::Start => "registered to functional",
            Self::Total => "launched to functional",
            Self::FirstPod => "registered to first pod",
        }
    }
}

/// When a node came how far; `None` is unknown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moments {
    /// The Auto Scaling activity that launched it began.
    pub requested: Option<Timestamp>,
    /// EC2 launched the instance.
    pub provisioned: Option<Timestamp>,
    /// Its kubelet started.
    #[serde(default)]
    pub booted: Option<Timestamp>,
    /// The Node was created.
    pub joined: Timestamp,
    /// The kubelet said Ready.
    pub ready: Option<Timestamp>,
    /// The last of Ready and the gated DaemonSets' pods was Ready.
    pub functional: Option<Timestamp>,
    /// The first workload pod that is still there was Ready.
    pub first_pod: Option<Timestamp>,
}

impl Moments {
    /// How long a stage took, seconds; `None` where one of its ends is unknown.
    pub fn seconds(&self, stage: Stage) -> Option<f64> {
        let (from, to) = match stage {
            Stage::Provisioned => (self.requested?, self.provisioned?),
            Stage::Booted => (self.provisioned?, self.booted?),
            Stage::Joined => (self.provisioned?, self.joined),
            Stage::Ready => (self.joined, self.ready?),
            Stage::Functional => (self.ready?, self.functional?),
            Stage::Start => (self.joined, self.functional?),
            Stage::Total => (self.provisioned?, self.functional?),
            Stage::FirstPod => (self.joined, self.first_pod?),
        };
        Some(seconds(from, to))
    }
}

/// How one node started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStart {
    /// The node.
    pub node: NodeName,
    /// Its instance.
    pub instance: Option<InstanceId>,
    /// Its group; `None` where no Auto Scaling group of the cluster has it.
    pub group: Option<GroupName>,
    /// Its zone.
    pub zone: Option<Zone>,
    /// Its instance type.
    pub instance_type: Option<Text>,
    /// What it was launched from: `lt-… version 7`, or a launch configuration.
    pub template: Option<Text>,
    /// When it came how far.
    pub moments: Moments,
    /// The part of each DaemonSet whose first-generation pod is there, gated ones first, slowest first.
    pub daemonsets: Vec<Chain>,
    /// What it was waiting for at each moment until functional, in order; empty where that is unknown.
    pub path: Vec<Segment>,
    /// Why `ready` or `functional` is unknown: one sentence each.
    pub unknown: Vec<Text>,
}

/// What AWS tells of an instance's launch; `None` is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Launch {
    /// The activity that launched it began.
    pub requested: Option<Timestamp>,
    /// EC2 launched it.
    pub provisioned: Option<Timestamp>,
}

impl NodeStart {
    /// Takes in what AWS tells of the launch, as far as it fits: one that is later than the Node is that of an
    /// instance which was stopped and started again.
    pub fn launched(&mut self, launch: &Launch) {
        let joined = self.moments.joined;
        let earlier =
            |at: Option<Timestamp>, than: Timestamp| at.filter(|at| !is_before(than, *at)).map(|at| at.min(than));
        self.moments.provisioned = earlier(launch.provisioned, joined);
        self.moments.requested = earlier(launch.requested, self.moments.provisioned.unwrap_or(joined));
        self.begin_path();
    }

    /// Takes in when its kubelet started, as far as that is of this start.
    pub fn booted(&mut self, starts: &[Timestamp]) {
        self.moments.booted = boot::booted(&self.moments, starts);
        self.begin_path();
    }

    /// The path's part before the Node's creation anew.
    fn begin_path(&mut self) {
        if !self.path.is_empty() {
            self.path.retain(|s| s.from >= self.moments.joined);
            self.path.splice(0..0, path::before(&self.moments));
        }
    }

    /// How often containers of gated DaemonSets were restarted while it started.
    pub fn restarts(&self) -> u32 {
        self.daemonsets.iter().filter(|c| c.gated).filter_map(|c| c.restarts).sum()
    }
}

/// Why a node does not show how it started.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOut {
    /// It runs Windows.
    Windows,
    /// It is a Fargate pod's.
    Fargate,
    /// None of its DaemonSet pods was made with it.
    Renewed,
    /// It has no DaemonSet pod at all.
    NoDaemons,
    /// Its clock is so many seconds before (negative: behind) the API server's.
    Skewed(i64),
}

impl LeftOut {
    /// The reason without what differs between nodes.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Windows => "Windows nodes are not measured",
            Self::Fargate => "Fargate nodes are not measured",
            Self::Renewed => "no DaemonSet pod on it was made within 5 minutes of its Node",
            Self::NoDaemons => "it has no DaemonSet pod",
            Self::Skewed(_) => "its clock differs from the API server's",
        }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skewed(by) if *by < 0 => write!(f, "its clock is {}s behind the API server's", -by),
            Self::Skewed(by) => write!(f, "its clock is {by}s ahead of the API server's"),
            _ => f.write_str(self.kind()),
        }
    }
}

/// Whether a node is one that `scope` asks for.
pub fn in_scope(scope: &Scope, snapshot: &Snapshot, node: &Node) -> bool {
    let group = || node.instance.as_ref().and_then(|id| snapshot.instances.get(id)).map(|i| &i.group);
    (scope.nodes.is_empty() || scope.nodes.contains(&node.name))
        && scope.selector.iter().all(|r| r.matches(&node.labels))
        && (scope.groups.is_empty() || group().is_some_and(|g| scope.groups.contains(g)))
}

/// When the newest launch of each instance began, by the activities at hand.
pub fn requests(snapshot: &Snapshot) -> BTreeMap<&InstanceId, Timestamp> {
    let mut requests = BTreeMap::new();
    // Newest first: one that came out of a warm pool is launched twice, and the second time counts.
    for activity in snapshot.activities.values().flatten().filter(|a| a.description.starts_with("Launching")) {
        if let Some(instance) = &activity.instance {
            requests.entry(instance).or_insert(activity.started);
        }
    }
    requests
}

/// How `node` started.
///
/// # Errors
/// Why that cannot be told.
pub fn start_of(
    policy: &Policy,
    snapshot: &Snapshot,
    node: &Node,
    requests: &BTreeMap<&InstanceId, Timestamp>,
) -> Result<NodeStart, LeftOut> {
    match () {
        () if node.is_windows() => return Err(LeftOut::Windows),
        () if node.compute_type() == Some("fargate") => return Err(LeftOut::Fargate),
        () => {}
    }
    let daemons: Vec<&Pod> = snapshot.pods_on(&node.name).filter(|p| p.is_daemon()).collect();
    let first: Vec<&Pod> = daemons.iter().copied().filter(|p| chain::is_first_generation(node, p)).collect();
    match () {
        () if daemons.is_empty() => return Err(LeftOut::NoDaemons),
        () if first.is_empty() => return Err(LeftOut::Renewed),
        () => {}
    }
    if let Some(by) = skew(node, &first) {
        return Err(LeftOut::Skewed(by));
    }
    let instance = node.instance.as_ref().and_then(|id| snapshot.instances.get(id));
    let mut daemonsets = chain::of(policy, snapshot, node, &first);
    daemonsets.sort_by(|a, b| b.gated.cmp(&a.gated).then(b.ready.cmp(&a.ready)).then(a.daemonset.cmp(&b.daemonset)));
    let mut unknown = Vec::new();
    let workloads: Vec<&Pod> = snapshot.pods_on(&node.name).filter(|p| !p.is_daemon() && !p.flags.mirror).collect();
    let ready = ready(node, &workloads).map_err(|why| unknown.push(why)).ok();
    let functional = functional(policy, snapshot, node, ready, (&daemonsets, &daemons), &mut unknown);
    let first_pod = first_pod(node, &workloads);
    let moments = Moments {
        requested: None,
        provisioned: None,
        booted: None,
        joined: node.created,
        ready,
        functional,
        first_pod,
    };
    let path = path::critical(&moments, &daemonsets);
    let mut start = NodeStart {
        node: node.name.clone(),
        instance: node.instance.clone(),
        group: instance.map(|i| i.group.clone()),
        zone: instance.map(|i| i.zone.clone()).or_else(|| label(node, "topology.kubernetes.io/zone").map(Zone::from)),
        instance_type: instance
            .map(|i| i.instance_type.clone())
            .or_else(|| label(node, "node.kubernetes.io/instance-type")),
        template: instance.and_then(template),
        moments,
        daemonsets,
        path,
        unknown,
    };
    let requested = node.instance.as_ref().and_then(|id| requests.get(id)).copied();
    start.launched(&Launch { requested, provisioned: instance.and_then(|i| i.launched_at) });
    Ok(start)
}

fn label(node: &Node, key: &str) -> Option<Text> {
    node.labels.get(key).cloned()
}

fn template(instance: &Instance) -> Option<Text> {
    match &instance.source {
        LaunchSource::Template { id, version } => Some(format!("{id} version {version}").into()),
        LaunchSource::Configuration(name) => Some(name.clone()),
        LaunchSource::Unknown => None,
    }
}

/// By how many seconds the node's clock differs, where that can be told and matters.
///
/// A kubelet stamps its first conditions right before it registers
/// (`k8s.io/kubernetes` pkg/kubelet/kubelet_node_status.go `registerWithAPIServer`), so where the three pressures
/// never changed since, they and the Node's creation are one moment by two clocks. And no container starts before
/// its pod is bound, which the API server stamps.
fn skew(node: &Node, pods: &[&Pod]) -> Option<i64> {
    let since = |name: &str| node.conditions.get(name).and_then(|c| c.since);
    let pressures = ["MemoryPressure", "DiskPressure", "PIDPressure"].map(since);
    if let [Some(first), ..] = pressures
        && pressures.iter().all(|p| *p == Some(first))
    {
        let by = first.duration_since(node.created);
        // A kubelet that was lost has all its conditions set anew at once: that is no clock.
        let lost = since("Ready").is_some_and(|ready| ready.duration_since(first).abs() <= SLACK);
        let told = by < -APART || (by > APART && by < START && !lost);
        return told.then(|| by.as_secs());
    }
    let before = |pod: &&Pod| Some(chain::first_sign(pod)?.duration_since(pod.scheduled?));
    let worst = pods.iter().filter_map(before).min()?;
    (worst < -SLACK).then(|| worst.as_secs())
}

/// When the node became Ready, if its condition still tells of the start.
fn ready(node: &Node, workloads: &[&Pod]) -> Result<Timestamp, Text> {
    let said = |c: &Condition| (c.status == ConditionStatus::True).then_some(c.since).flatten();
    let since = node.conditions.get("Ready").and_then(said).ok_or("it is not Ready")?;
    // Workloads are bound to Ready nodes, unless they tolerate everything: it was Ready before.
    let mut patient = workloads.iter().filter(|p| !p.tolerates_cordon);
    let bound_before = patient.any(|p| p.scheduled.is_some_and(|at| is_before(at, since)));
    match within_start(node, since) {
        _ if bound_before => Err("its Ready condition has changed since it started".into()),
        None => Err("its Ready condition has changed since it started".into()),
        Some(since) => Ok(since),
    }
}

fn functional(
    policy: &Policy,
    snapshot: &Snapshot,
    node: &Node,
    ready: Option<Timestamp>,
    (chains, daemons): (&[Chain], &[&Pod]),
    unknown: &mut Vec<Text>,
) -> Option<Timestamp> {
    let mut last = ready;
    let mut lacks = |set: &DaemonSet, why: &str| unknown.push(format!("{}: {why}", set.key).into());
    for set in snapshot.daemonsets.values().filter(|set| gated(policy, set) && should_run(set, node)) {
        match chains.iter().find(|c| c.daemonset == set.key) {
            None => {
                let has_pod = daemons.iter().any(|p| p.owner.as_ref().is_some_and(|o| o.uid == set.uid));
                lacks(set, if has_pod { "its pod is not the one that the node started with" } else { "no pod here" });
                last = None;
            }
            Some(chain) if chain.ready.is_none() => {
                lacks(set, if chain.is_up { "its pod has changed since it started" } else { "its pod is not Ready" });
                last = None;
            }
            Some(chain) => last = last.map(|at| at.max(chain.ready.unwrap_or(at))),
        }
    }
    last.filter(|_| unknown.is_empty())
}

/// The first workload pod is the first that is still there; one that has long gone is not known of.
fn first_pod(node: &Node, workloads: &[&Pod]) -> Option<Timestamp> {
    let ready = workloads.iter().filter(|p| p.flags.ready && p.scheduled.is_some()).filter_map(|p| p.ready_since);
    ready.filter_map(|at| within_start(node, at)).min()
}

/// `at`, if it lies in the node's start.
fn within_start(node: &Node, at: Timestamp) -> Option<Timestamp> {
    let age = at.duration_since(node.created);
    (age >= -SLACK && age <= START).then(|| at.max(node.created))
}

/// Whether `a` is before `b` by more than stamps of whole seconds explain.
fn is_before(a: Timestamp, b: Timestamp) -> bool {
    b.duration_since(a) > SLACK
}

/// Seconds from `a` to `b`; 0 if `b` is earlier.
fn seconds(a: Timestamp, b: Timestamp) -> f64 {
    b.duration_since(a).as_secs_f64().max(0.0)
}
