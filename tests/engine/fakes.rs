//! Both ports over maps in memory, with scripted failures and a log of what was sent.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use fastnode::cloud::{self, Cloud, EksCluster, GroupState, InstanceDetail};
use fastnode::cluster::{self, Cluster, ConfigRecord, Fact, Kind, LeaseRecord, NodeChange};
use fastnode::model::{
    Activity, ActivityStatus, Attachment, GroupName, Instance, InstanceId, LaunchSource, Lifecycle, Node, NodeGroup,
    NodeName, ObjectKey, Process, Target, Text, Uid, Zone,
};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::group::plain_group;

pub const START: Timestamp = Timestamp::UNIX_EPOCH;

/// How a call fails: with this kind, and whether its effect took place all the same.
pub type Failure = (cloud::ErrorKind, bool);

pub fn group(name: &str, desired: u32) -> NodeGroup {
    plain_group(name, &["a"], desired, 10)
}

pub fn instance(id: &str, group: &str) -> Instance {
    Instance {
        id: id.into(),
        group: group.into(),
        zone: Zone::from("a"),
        instance_type: "m7g.large".into(),
        lifecycle: Lifecycle::InService,
        healthy: true,
        protected: false,
        source: LaunchSource::Unknown,
        launched_at: None,
        image: None,
    }
}

#[derive(Default)]
pub struct FakeCloud {
    pub groups: RefCell<Vec<GroupState>>,
    pub failures: RefCell<VecDeque<Failure>>,
    pub log: RefCell<Vec<String>>,
}

impl FakeCloud {
    pub fn with(states: Vec<GroupState>) -> Self {
        Self { groups: RefCell::new(states), ..Self::default() }
    }

    /// Logs the call; `Err` if it is to fail, having run `effect` first if it takes effect all the same.
    fn call(&self, what: String, effect: impl FnOnce(&mut Vec<GroupState>)) -> cloud::Result<()> {
        self.log.borrow_mut().push(what.clone());
        let failure = self.failures.borrow_mut().pop_front();
        if failure.is_none_or(|(_, applied)| applied) {
            effect(&mut self.groups.borrow_mut());
        }
        match failure {
            Some((kind, _)) => Err(cloud::Error { kind, operation: what.into(), message: "scripted".into() }),
            None => Ok(()),
        }
    }

    pub fn sent(&self, what: &str) -> usize {
        self.log.borrow().iter().filter(|l| l.starts_with(what)).count()
    }
}

impl Cloud for FakeCloud {
    async fn cluster(&self, _: &str) -> cloud::Result<EksCluster> {
        let message = "the engine is told where its cluster is".into();
        Err(cloud::Error { kind: cloud::ErrorKind::NotFound, operation: "cluster".into(), message })
    }
    async fn groups(&self, _: &str) -> cloud::Result<Vec<GroupState>> {
        self.log.borrow_mut().push("groups".into());
        sleep(Duration::from_millis(100)).await;
        Ok(self.groups.borrow().clone())
    }
    async fn refreshing(&self, _: &[GroupName]) -> cloud::Result<BTreeSet<GroupName>> {
        Ok(BTreeSet::new())
    }
    async fn deregistration_delays(&self, _: &BTreeSet<Attachment>) -> cloud::Result<BTreeMap<Attachment, u32>> {
        Ok(BTreeMap::new())
    }
    async fn resolve(&self, target: &Target) -> cloud::Result<Target> {
        self.log.borrow_mut().push("resolve".into());
        Ok(target.clone())
    }
    async fn instances(&self, _: &[InstanceId]) -> cloud::Result<Vec<InstanceDetail>> {
        Ok(vec![])
    }
    async fn activities(&self, _: &GroupName, _: Timestamp) -> cloud::Result<Vec<Activity>> {
        Ok(vec![])
    }
    async fn set_desired(&self, group: &GroupName, desired: u32) -> cloud::Result<()> {
        self.call(format!("desired {desired}"), |groups| {
            groups.iter_mut().filter(|s| s.group.name == *group).for_each(|s| s.group.desired = desired);
        })
    }
    async fn terminate(&self, instance: &InstanceId, decrement: bool) -> cloud::Result<Activity> {
        self.call(format!("terminate {instance} {decrement}"), |groups| {
            let all = groups.iter_mut().flat_map(|s| &mut s.instances);
            all.filter(|i| i.id == *instance).for_each(|i| i.lifecycle = Lifecycle::Terminating);
        })?;
        Ok(Activity {
            id: "1".into(),
            group: "g".into(),
            instance: Some(instance.clone()),
            description: "".into(),
            cause: "".into(),
            message: None,
            status: ActivityStatus::InProgress,
            started: START,
            ended: None,
        })
    }
    async fn suspend(&self, _: &GroupName, _: &BTreeSet<Process>) -> cloud::Result<()> {
        self.call("suspend".into(), |_| ())
    }
    async fn resume(&self, _: &GroupName, _: &BTreeSet<Process>) -> cloud::Result<()> {
        self.call("resume".into(), |_| ())
    }
    async fn protect(&self, _: &GroupName, _: &[InstanceId], protected: bool) -> cloud::Result<()> {
        self.call(format!("protect {protected}"), |_| ())
    }
    async fn set_max(&self, _: &GroupName, max: u32) -> cloud::Result<()> {
        self.call(format!("max {max}"), |_| ())
    }
    async fn tag(&self, _: &GroupName, tags: &BTreeMap<Text, Text>) -> cloud::Result<()> {
        self.log.borrow_mut().extend(tags.iter().map(|(k, v)| format!("tag {k}={v}")));
        Ok(())
    }
    async fn untag(&self, _: &GroupName, keys: &BTreeSet<Text>) -> cloud::Result<()> {
        self.log.borrow_mut().extend(keys.iter().map(|k| format!("untag {k}")));
        Ok(())
    }
    fn calls(&self) -> BTreeMap<Text, u64> {
        BTreeMap::new()
    }
}

#[derive(Default)]
pub struct FakeCluster {
    pub lease: RefCell<Option<LeaseRecord>>,
    pub configs: RefCell<BTreeMap<String, ConfigRecord>>,
    pub version: Cell<u64>,
    pub unreachable: Cell<bool>,
    /// So many writes of the Lease take effect, and their reply is lost.
    pub lost_replies: Cell<u32>,
    pub evictions: RefCell<VecDeque<cluster::ErrorKind>>,
    pub log: RefCell<Vec<String>>,
    pub facts: RefCell<Option<mpsc::Sender<Fact>>>,
}

pub fn refused(kind: cluster::ErrorKind) -> cluster::Error {
    cluster::Error { kind, verb: "scripted".into(), message: "scripted".into(), retry_after: None }
}

impl FakeCluster {
    fn next(&self) -> Option<String> {
        self.version.set(self.version.get() + 1);
        Some(self.version.get().to_string())
    }

    /// Another hand changes the Lease.
    pub fn write_lease(&self, change: impl FnOnce(&mut LeaseRecord)) {
        let version = self.next();
        let mut lease = self.lease.borrow_mut();
        let lease = lease.get_or_insert(LeaseRecord {
            holder: None,
            duration_seconds: 15,
            acquired: Some(START),
            renewed: Some(START),
            transitions: 0,
            annotations: BTreeMap::new(),
            version: None,
        });
        change(lease);
        lease.version = version;
    }

    fn up(&self) -> cluster::Result<()> {
        if self.unreachable.get() { Err(refused(cluster::ErrorKind::Unavailable)) } else { Ok(()) }
    }
}

impl Cluster for FakeCluster {
    async fn watch(&self, sink: mpsc::Sender<Fact>) -> cluster::Result<()> {
        for kind in Kind::ALL {
            let _ = sink.send(Fact::Relisting(kind)).await;
            let _ = sink.send(Fact::Synced(kind)).await;
        }
        *self.facts.borrow_mut() = Some(sink);
        std::future::pending().await
    }
    async fn version(&self) -> cluster::Result<Text> {
        Ok("v1.36.0".into())
    }
    async fn refused(&self, _: &[(&str, &str, Option<&str>)]) -> cluster::Result<Vec<String>> {
        Ok(vec![])
    }
    async fn change_node(&self, _: &NodeName, _: &Uid, _: &NodeChange) -> cluster::Result<Node> {
        Err(refused(cluster::ErrorKind::NotFound))
    }
    async fn delete_node(&self, _: &NodeName, _: &Uid) -> cluster::Result<()> {
        Ok(())
    }
    async fn evict(&self, pod: &ObjectKey, _: &Uid) -> cluster::Result<()> {
        self.log.borrow_mut().push(format!("evict {pod}"));
        self.evictions.borrow_mut().pop_front().map_or(Ok(()), |kind| Err(refused(kind)))
    }
    async fn delete_pod(&self, _: &ObjectKey, _: &Uid, _: u32) -> cluster::Result<()> {
        Ok(())
    }
    async fn lease(&self, _: &ObjectKey) -> cluster::Result<Option<LeaseRecord>> {
        self.up()?;
        Ok(self.lease.borrow().clone())
    }
    async fn put_lease(&self, _: &ObjectKey, lease: &LeaseRecord) -> cluster::Result<LeaseRecord> {
        self.up()?;
        let found = self.lease.borrow().as_ref().and_then(|l| l.version.clone());
        if found != lease.version {
            return Err(refused(cluster::ErrorKind::Conflict));
        }
        let written = LeaseRecord { version: self.next(), ..lease.clone() };
        *self.lease.borrow_mut() = Some(written.clone());
        if self.lost_replies.get() > 0 {
            self.lost_replies.set(self.lost_replies.get() - 1);
            return Err(refused(cluster::ErrorKind::Unavailable));
        }
        Ok(written)
    }
    async fn delete_lease(&self, _: &ObjectKey, version: &str) -> cluster::Result<()> {
        self.up()?;
        let found = self.lease.borrow().as_ref().and_then(|l| l.version.clone());
        if found.as_deref() != Some(version) {
            return Err(refused(cluster::ErrorKind::Conflict));
        }
        *self.lease.borrow_mut() = None;
        Ok(())
    }
    async fn configs(&self, _: &str) -> cluster::Result<Vec<ConfigRecord>> {
        Ok(self.configs.borrow().values().cloned().collect())
    }
    async fn put_config(&self, _: &str, _: &str, config: &ConfigRecord) -> cluster::Result<ConfigRecord> {
        let found = self.configs.borrow().get(&config.name).and_then(|c| c.version.clone());
        if found != config.version {
            return Err(refused(cluster::ErrorKind::Conflict));
        }
        let written = ConfigRecord { version: self.next(), ..config.clone() };
        self.configs.borrow_mut().insert(config.name.clone(), written.clone());
        Ok(written)
    }
    async fn delete_config(&self, _: &str, name: &str) -> cluster::Result<()> {
        self.configs.borrow_mut().remove(name);
        Ok(())
    }
    fn requests(&self) -> BTreeMap<Text, u64> {
        BTreeMap::new()
    }
}

/// Runs `test` on virtual time with local tasks.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}
