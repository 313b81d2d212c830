//! A small cluster in the middle of a rotation, to be changed by a test and judged.
//!
//! Group `workers`, three zones, six nodes of its own (`old-0` to `old-5`, two a zone, launched from version 1)
//! and one functional replacement (`new-0`, zone a, version 2): the surge of 1 is confirmed. Every node runs
//! aws-node and kube-proxy; every old one a pod `shop/web-<n>`.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses its own part; what is missing is the test's own fault"
)]

mod group;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fastnode::cluster::Kind;
use fastnode::model::*;
use fastnode::observe::{RotationRecord, Snapshot};
use group::plain_group;
use jiff::{SignedDuration, Timestamp};

pub const ROTATION: &str = "20261123-120000-abcd";
pub const GROUP: &str = "workers";

/// When the rotation began.
pub fn began() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

/// So many minutes after it began.
pub fn minute(n: i64) -> Timestamp {
    began() + SignedDuration::from_mins(n)
}

pub fn now() -> Timestamp {
    minute(10)
}

pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| (Text::from(*k), Text::from(*v))).collect()
}

pub fn taint(key: &str, effect: TaintEffect) -> Taint {
    Taint { key: key.into(), value: None, effect }
}

pub fn template(version: &str) -> TemplateRef {
    TemplateRef { id: "lt-1".into(), version: "$Latest".into(), resolved: Some(version.into()), image: None }
}

pub fn instance(id: &str, zone: &str, version: &str, launched: Timestamp) -> Instance {
    Instance {
        id: id.into(),
        group: GROUP.into(),
        zone: zone.into(),
        instance_type: "m7i.large".into(),
        lifecycle: Lifecycle::InService,
        healthy: true,
        protected: false,
        source: LaunchSource::Template { id: "lt-1".into(), version: version.into() },
        launched_at: Some(launched),
        image: None,
    }
}

pub fn node(name: &str, zone: &str, created: Timestamp) -> Node {
    let ready = Condition {
        status: ConditionStatus::True,
        reason: "KubeletReady".into(),
        message: None,
        since: Some(created + SignedDuration::from_secs(20)),
    };
    Node {
        name: name.into(),
        uid: format!("uid-{name}").into(),
        instance: Some(format!("i-{name}").into()),
        labels: labels(&[
            ("topology.kubernetes.io/zone", zone),
            ("kubernetes.io/os", "linux"),
            ("node.kubernetes.io/instance-type", "m7i.large"),
        ]),
        annotations: BTreeMap::new(),
        taints: vec![],
        unschedulable: false,
        conditions: BTreeMap::from([(Text::from("Ready"), ready)]),
        kubelet: "v1.36.3-eks-1".into(),
        allocatable: BTreeMap::from([("cpu".into(), 1900), ("memory".into(), 7_000_000_000)]),
        created,
        deleting: false,
    }
}

pub fn daemonset(namespace: &str, name: &str) -> DaemonSet {
    DaemonSet {
        uid: format!("ds-{name}").into(),
        key: ObjectKey::new(namespace, name),
        labels: labels(&[("k8s-app", name)]),
        strategy: UpdateStrategy::RollingUpdate,
        node_name: None,
        node_selector: Labels::new(),
        affinity: vec![],
        has_affinity: false,
        tolerations: vec![Toleration { key: None, exists: true, value: None, effect: None }],
        host_network: true,
        priority_class: Some("system-node-critical".into()),
        deleting: false,
        fixes: Default::default(),
    }
}

pub fn revision(set: &DaemonSet, number: i64, hash: &str) -> Revision {
    Revision { owner: set.uid.clone(), uid: format!("rev-{}-{number}", set.key.name).into(), number, hash: hash.into() }
}

pub fn container(name: &str, init: bool) -> Container {
    let ended = LastRun { exit_code: 0, reason: "Completed".into(), started: Some(began()), finished: Some(began()) };
    let state = if init { ContainerState::Terminated(ended) } else { ContainerState::Running(Some(began())) };
    Container { name: name.into(), init, restarts: 0, ready: true, state, last: None }
}

/// A workload pod on a node.
pub fn pod(uid: &str, key: ObjectKey, node: &Node) -> Pod {
    Pod {
        uid: uid.into(),
        key,
        node: Some(node.name.clone()),
        phase: Phase::Running,
        deleting: None,
        owner: Some(Arc::new(Owner { kind: "ReplicaSet".into(), name: "web".into(), uid: "rs-web".into() })),
        labels: Default::default(),
        flags: PodFlags { ready: true, ..PodFlags::default() },
        containers: vec![],
        revision: None,
        cpu: 100,
        memory: 1 << 28,
        tolerates_cordon: false,
        unschedulable: None,
        created: node.created + SignedDuration::from_secs(5),
        scheduled: Some(node.created + SignedDuration::from_secs(22)),
        initialized: None,
        ready_since: Some(node.created + SignedDuration::from_secs(30)),
    }
}

/// A DaemonSet's good pod on a node: current, Running, Ready, never restarted.
pub fn daemon_pod(set: &DaemonSet, node: &Node) -> Pod {
    let name = &set.key.name;
    let mut pod = pod(
        &format!("pod-{name}-{}", node.name),
        ObjectKey { namespace: set.key.namespace.clone(), name: format!("{name}-{}", node.name).into() },
        node,
    );
    pod.owner = Some(Arc::new(Owner { kind: "DaemonSet".into(), name: name.clone(), uid: set.uid.clone() }));
    pod.flags.critical = true;
    pod.flags.host_network = true;
    pod.containers = vec![container("init", true), container(name, false)];
    let second = |n| Some(node.created + SignedDuration::from_secs(n));
    pod.scheduled = second(5);
    let init = LastRun { exit_code: 0, reason: "Completed".into(), started: second(7), finished: second(9) };
    pod.containers[0].state = ContainerState::Terminated(init);
    pod.containers[1].state = ContainerState::Running(Some(node.created + SignedDuration::from_secs(25)));
    pod.revision = Some("hash-1".into());
    pod.tolerates_cordon = true;
    pod
}

pub fn group(desired: u32) -> NodeGroup {
    let tags = [
        ("kubernetes.io/cluster/blue", "owned"),
        (marks::TAG_ROTATION, ROTATION),
        (marks::TAG_SUSPENDED, Process::AZ_REBALANCE),
        (marks::TAG_SURGE, &Ledger::settled(1).to_tag()),
    ]
    .map(|(k, v)| (Text::from(k), Text::from(v)));
    NodeGroup {
        min: 3,
        target: Target::Template(template("2")),
        suspended: BTreeSet::from([Process(Process::AZ_REBALANCE.into())]),
        tags: BTreeMap::from(tags),
        ..plain_group(GROUP, &["a", "b", "c"], desired, 10)
    }
}

pub fn old_name(n: usize) -> String {
    format!("old-{n}")
}

pub fn zone_of(n: usize) -> &'static str {
    ["a", "b", "c"][n % 3]
}

pub fn long_ago() -> Timestamp {
    began() - SignedDuration::from_hours(30 * 24)
}

/// Adds an instance with its node and the pods of every DaemonSet; indices are made anew.
pub fn add_node(snapshot: &mut Snapshot, name: &str, zone: &str, version: &str, created: Timestamp) {
    let node = node(name, zone, created);
    let instance = instance(&format!("i-{name}"), zone, version, created - SignedDuration::from_secs(15));
    for set in snapshot.daemonsets.values() {
        let pod = daemon_pod(set, &node);
        snapshot.pods.insert(pod.uid.clone(), pod.into());
    }
    snapshot.instances.insert(instance.id.clone(), instance);
    snapshot.nodes.insert(node.name.clone(), node);
    snapshot.reindex();
}

/// See the module's text.
pub fn world() -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.cluster = "blue".into();
    snapshot.version = "v1.36.3".into();
    snapshot.synced.groups = true;
    snapshot.synced.kinds = Kind::ALL.into_iter().collect();
    snapshot.groups.insert(GROUP.into(), group(7));
    for set in [daemonset("kube-system", "aws-node"), daemonset("kube-system", "kube-proxy")] {
        snapshot.revisions.insert(set.uid.clone(), revision(&set, 1, "hash-1"));
        snapshot.daemonsets.insert(set.uid.clone(), set);
    }
    for n in 0..6 {
        add_node(&mut snapshot, &old_name(n), zone_of(n), "1", long_ago());
        let node = &snapshot.nodes[&NodeName::from(old_name(n))];
        let web = pod(&format!("pod-web-{n}"), ObjectKey::new("shop", &format!("web-{n}")), node);
        snapshot.pods.insert(web.uid.clone(), web.into());
    }
    snapshot.rotation = Some(Arc::new(RotationRecord {
        id: ROTATION.into(),
        started: began(),
        targets: BTreeMap::from([(GROUP.into(), Target::Template(template("2")))]),
        protection: BTreeMap::new(),
        skipped: BTreeMap::new(),
        failed: BTreeMap::new(),
        ending: None,
        mended: Default::default(),
    }));
    add_node(&mut snapshot, "new-0", "a", "2", minute(2));
    mark(&mut snapshot, "new-0", NodeMark::Replacement);
    snapshot
}

pub fn node_mut<'a>(snapshot: &'a mut Snapshot, name: &str) -> &'a mut Node {
    snapshot.nodes.get_mut(&NodeName::from(name)).unwrap()
}

pub fn instance_mut<'a>(snapshot: &'a mut Snapshot, id: &str) -> &'a mut Instance {
    snapshot.instances.get_mut(&InstanceId::from(id)).unwrap()
}

pub fn group_mut(snapshot: &mut Snapshot) -> &mut NodeGroup {
    snapshot.groups.get_mut(&GroupName::from(GROUP)).unwrap()
}

pub fn pod_mut<'a>(snapshot: &'a mut Snapshot, uid: &str) -> &'a mut Pod {
    Arc::make_mut(snapshot.pods.get_mut(&Uid::from(uid)).unwrap())
}

pub fn record_mut(snapshot: &mut Snapshot) -> &mut RotationRecord {
    Arc::make_mut(snapshot.rotation.as_mut().unwrap())
}

/// Marks a node as this rotation does; old ones in hand and failed ones are cordoned.
pub fn mark(snapshot: &mut Snapshot, name: &str, state: NodeMark) {
    let node = node_mut(snapshot, name);
    node.labels.insert(marks::ROTATION.into(), ROTATION.into());
    node.annotations.insert(marks::STATE.into(), state.as_str().into());
    node.annotations.insert(marks::SINCE.into(), minute(5).to_string().into());
    if matches!(state, NodeMark::Draining | NodeMark::Drained | NodeMark::Failed) {
        node.unschedulable = true;
        node.taints.push(taint(marks::UNSCHEDULABLE_TAINT, TaintEffect::NoSchedule));
    }
}

/// Marks an old node as drained to the end, its workload gone.
pub fn drained(snapshot: &mut Snapshot, n: usize) {
    mark(snapshot, &old_name(n), NodeMark::Drained);
    snapshot.pods.remove(&Uid::from(format!("pod-web-{n}")));
    snapshot.reindex();
}
