//! Both simulated ports with a record of everything that was sent through them, and, where a test wants it,
//! requests that fail.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use fastnode::cloud::{self, Cloud, EksCluster, GroupState, InstanceDetail};
use fastnode::cluster::{self, Cluster, ConfigRecord, ErrorKind, Fact, LeaseRecord, NodeChange};
use fastnode::model::{
    Activity, Attachment, GroupName, InstanceId, Node, NodeName, ObjectKey, Process, Target, Text, Uid,
};
use fastnode::sim::{SimCloud, SimCluster};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// What was sent, in order, and when.
#[derive(Clone)]
pub struct Log {
    began: Instant,
    lines: Rc<RefCell<Vec<(Duration, String)>>>,
}

impl Log {
    pub fn new() -> Self {
        Self { began: Instant::now(), lines: Rc::default() }
    }

    fn add(&self, line: String) {
        self.lines.borrow_mut().push((self.began.elapsed(), line));
    }

    /// When each request that begins so was sent.
    pub fn times(&self, prefix: &str) -> Vec<Duration> {
        self.lines.borrow().iter().filter(|(_, l)| l.starts_with(prefix)).map(|(at, _)| *at).collect()
    }

    /// The requests that begin so.
    pub fn sent(&self, prefix: &str) -> Vec<String> {
        self.lines.borrow().iter().map(|(_, l)| l.clone()).filter(|l| l.starts_with(prefix)).collect()
    }
}

/// The simulated AWS, recorded.
pub struct RecordedCloud {
    pub inner: SimCloud,
    pub log: Log,
}

impl Cloud for RecordedCloud {
    async fn cluster(&self, name: &str) -> cloud::Result<EksCluster> {
        self.inner.cluster(name).await
    }
    async fn groups(&self, cluster: &str) -> cloud::Result<Vec<GroupState>> {
        self.inner.groups(cluster).await
    }
    async fn refreshing(&self, groups: &[GroupName]) -> cloud::Result<BTreeSet<GroupName>> {
        self.inner.refreshing(groups).await
    }
    async fn deregistration_delays(
        &self,
        attachments: &BTreeSet<Attachment>,
    ) -> cloud::Result<BTreeMap<Attachment, u32>> {
        self.inner.deregistration_delays(attachments).await
    }
    async fn resolve(&self, target: &Target) -> cloud::Result<Target> {
        self.inner.resolve(target).await
    }
    async fn instances(&self, ids: &[InstanceId]) -> cloud::Result<Vec<InstanceDetail>> {
        self.inner.instances(ids).await
    }
    async fn activities(&self, group: &GroupName, since: Timestamp) -> cloud::Result<Vec<Activity>> {
        self.inner.activities(group, since).await
    }
    async fn set_desired(&self, group: &GroupName, desired: u32) -> cloud::Result<()> {
        self.log.add(format!("desired {group} {desired}"));
        self.inner.set_desired(group, desired).await
    }
    async fn terminate(&self, instance: &InstanceId, decrement: bool) -> cloud::Result<Activity> {
        self.log.add(format!("terminate {instance} {decrement}"));
        self.inner.terminate(instance, decrement).await
    }
    async fn suspend(&self, group: &GroupName, processes: &BTreeSet<Process>) -> cloud::Result<()> {
        self.log.add(format!("suspend {group}"));
        self.inner.suspend(group, processes).await
    }
    async fn resume(&self, group: &GroupName, processes: &BTreeSet<Process>) -> cloud::Result<()> {
        self.log.add(format!("resume {group}"));
        self.inner.resume(group, processes).await
    }
    async fn protect(&self, group: &GroupName, ids: &[InstanceId], protected: bool) -> cloud::Result<()> {
        self.log.add(format!("protect {group} {protected}"));
        self.inner.protect(group, ids, protected).await
    }
    async fn set_max(&self, group: &GroupName, max: u32) -> cloud::Result<()> {
        self.log.add(format!("max {group} {max}"));
        self.inner.set_max(group, max).await
    }
    async fn tag(&self, group: &GroupName, tags: &BTreeMap<Text, Text>) -> cloud::Result<()> {
        self.log.add(format!("tag {group}"));
        self.inner.tag(group, tags).await
    }
    async fn untag(&self, group: &GroupName, keys: &BTreeSet<Text>) -> cloud::Result<()> {
        self.log.add(format!("untag {group}"));
        self.inner.untag(group, keys).await
    }
    fn calls(&self) -> BTreeMap<Text, u64> {
        self.inner.calls()
    }
}

/// The simulated API server, recorded; a request `refuse` says something to is not passed on.
pub struct RecordedCluster {
    pub inner: SimCluster,
    pub log: Log,
    pub refuse: fn(&str) -> Option<ErrorKind>,
}

impl RecordedCluster {
    fn send(&self, line: String) -> cluster::Result<()> {
        let refused = (self.refuse)(&line);
        self.log.add(line.clone());
        match refused {
            Some(kind) => Err(cluster::Error {
                kind,
                verb: line.into(),
                message: "as the test wants it".into(),
                retry_after: None,
            }),
            None => Ok(()),
        }
    }
}

impl Cluster for RecordedCluster {
    async fn watch(&self, sink: mpsc::Sender<Fact>) -> cluster::Result<()> {
        self.inner.watch(sink).await
    }
    async fn version(&self) -> cluster::Result<Text> {
        self.inner.version().await
    }
    async fn refused(&self, wanted: &[(&str, &str, Option<&str>)]) -> cluster::Result<Vec<String>> {
        self.inner.refused(wanted).await
    }
    async fn change_node(&self, node: &NodeName, uid: &Uid, change: &NodeChange) -> cluster::Result<Node> {
        let what = match change.unschedulable {
            Some(true) => "cordon",
            Some(false) => "uncordon",
            None => "change",
        };
        let labels: Vec<_> = change.labels.iter().filter(|(_, v)| v.is_some()).map(|(k, _)| &**k).collect();
        self.send(format!("{what} {node} {}", labels.join(",")))?;
        self.inner.change_node(node, uid, change).await
    }
    async fn delete_node(&self, node: &NodeName, uid: &Uid) -> cluster::Result<()> {
        self.send(format!("delete-node {node}"))?;
        self.inner.delete_node(node, uid).await
    }
    async fn evict(&self, pod: &ObjectKey, uid: &Uid) -> cluster::Result<()> {
        self.send(format!("evict {pod}"))?;
        self.inner.evict(pod, uid).await
    }
    async fn delete_pod(&self, pod: &ObjectKey, uid: &Uid, grace_seconds: u32) -> cluster::Result<()> {
        self.send(format!("delete-pod {pod}"))?;
        self.inner.delete_pod(pod, uid, grace_seconds).await
    }
    async fn lease(&self, key: &ObjectKey) -> cluster::Result<Option<LeaseRecord>> {
        self.inner.lease(key).await
    }
    async fn put_lease(&self, key: &ObjectKey, lease: &LeaseRecord) -> cluster::Result<LeaseRecord> {
        self.inner.put_lease(key, lease).await
    }
    async fn delete_lease(&self, key: &ObjectKey, version: &str) -> cluster::Result<()> {
        self.inner.delete_lease(key, version).await
    }
    async fn configs(&self, namespace: &str) -> cluster::Result<Vec<ConfigRecord>> {
        self.inner.configs(namespace).await
    }
    async fn put_config(&self, ns: &str, rotation: &str, config: &ConfigRecord) -> cluster::Result<ConfigRecord> {
        self.inner.put_config(ns, rotation, config).await
    }
    async fn delete_config(&self, namespace: &str, name: &str) -> cluster::Result<()> {
        self.inner.delete_config(namespace, name).await
    }
    fn requests(&self) -> BTreeMap<Text, u64> {
        self.inner.requests()
    }
}
