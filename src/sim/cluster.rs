//! The port to Kubernetes, on the world.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::cluster::{Cluster, ConfigRecord, Error, ErrorKind, Fact, Kind, LeaseRecord, NodeChange, Result};
use crate::model::{Node, NodeName, ObjectKey, Text, Uid};

use super::simulation::Handle;
use super::world::{Watcher, World};

/// A request that reads is sent so often at most while the server sheds load.
const READ_ATTEMPTS: u32 = 6;

/// Kubernetes as the simulator plays it.
#[derive(Clone, Debug)]
pub struct SimCluster {
    handle: Handle,
}

pub(super) fn error(kind: ErrorKind, verb: &str, message: impl Into<String>) -> Error {
    Error { kind, verb: verb.into(), message: message.into(), retry_after: None }
}

pub(super) fn not_found(verb: &str, what: &str, name: impl std::fmt::Display) -> Error {
    error(ErrorKind::NotFound, verb, format!("{what} \"{name}\" not found"))
}

fn conflict(verb: &str, what: &str, name: impl std::fmt::Display) -> Error {
    let message = format!(
        "Operation cannot be fulfilled on {what} \"{name}\": the object has been modified; please apply your changes to \
         the latest version and try again"
    );
    error(ErrorKind::Conflict, verb, message)
}

const fn verbs(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Node => ("list nodes", "watch nodes"),
        Kind::Pod => ("list pods", "watch pods"),
        Kind::DaemonSet => ("list daemonsets", "watch daemonsets"),
        Kind::Revision => ("list controllerrevisions", "watch controllerrevisions"),
        Kind::Budget => ("list poddisruptionbudgets", "watch poddisruptionbudgets"),
        Kind::CsiNode => ("list csinodes", "watch csinodes"),
        Kind::VolumeAttachment => ("list volumeattachments", "watch volumeattachments"),
    }
}

impl SimCluster {
    pub(super) fn new(handle: Handle) -> Self {
        Self { handle }
    }

    /// A request that reads: counted, delayed, perhaps refused.
    pub(super) async fn read<T>(&self, verb: &'static str, act: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
        self.ask(verb).await?;
        self.handle.with(act)
    }

    /// A request that is sent again while the server sheds load: one that changes nothing.
    async fn ask(&self, verb: &'static str) -> Result<()> {
        for attempt in 1..READ_ATTEMPTS {
            match self.travel(verb).await {
                Err(error) if error.kind == ErrorKind::Throttled => {
                    tokio::time::sleep(Duration::from_millis(200 << attempt)).await;
                }
                other => return other,
            }
        }
        self.travel(verb).await
    }

    async fn travel(&self, verb: &'static str) -> Result<()> {
        self.handle.alive().await;
        let there = self.handle.with(|world| {
            *world.requests.entry(verb).or_default() += 1;
            let (low, high) = world.times.kube_ms;
            world.random.latency.micros(low, high)
        });
        tokio::time::sleep(Duration::from_micros(there)).await;
        self.handle.alive().await;
        self.handle.with(|world| {
            if world.faults.denied.contains(verb) {
                return Err(error(ErrorKind::Forbidden, verb, "forbidden: not allowed by RBAC"));
            }
            if world.random.faults.chance(world.faults.throttle) {
                let mut error = error(ErrorKind::Throttled, verb, "the server has received too many requests");
                error.retry_after = Some(1);
                return Err(error);
            }
            Ok(())
        })
    }

    /// A request that changes something: the process may die at it, and its answer may be lost.
    pub(super) async fn change<T>(&self, verb: &'static str, act: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
        self.handle.alive().await;
        let mut dies_after = false;
        if self.handle.counts_to_death() {
            dies_after = self.handle.with(|world| world.random.faults.chance(0.5));
            if !dies_after {
                self.handle.die().await;
            }
        }
        self.travel(verb).await?;
        let (result, lost) =
            self.handle.with(|world| (act(world), world.random.faults.chance(world.faults.lost_answers)));
        if dies_after {
            self.handle.die().await;
        }
        if lost && result.is_ok() {
            return Err(error(ErrorKind::Unavailable, verb, "connection closed before an answer came"));
        }
        result
    }
}

/// Carries facts to a watch until its receiver is closed.
async fn deliver(watcher: Rc<Watcher>, sink: mpsc::Sender<Fact>, handle: Handle) {
    loop {
        loop {
            let next = watcher.facts.borrow_mut().pop_front();
            let Some(fact) = next else { break };
            if sink.send(fact).await.is_err() {
                break;
            }
        }
        tokio::select! {
            biased;
            () = sink.closed() => break,
            () = watcher.arrived.notified() => {}
        }
    }
    handle.with(|world| world.watchers.retain(|w| !Rc::ptr_eq(w, &watcher)));
}

fn list(world: &World, kind: Kind, into: &mut std::collections::VecDeque<Fact>) {
    into.push_back(Fact::Relisting(kind));
    match kind {
        Kind::Node => {
            let nodes = world.node_index.values().map(|n| Fact::Node(world.nodes[*n].record.clone()));
            into.extend(nodes);
        }
        Kind::Pod => into.extend(world.list_pods()),
        Kind::DaemonSet => into.extend(world.daemons.iter().map(|d| Fact::DaemonSet(d.record.clone()))),
        Kind::Revision => into.extend(world.daemons.iter().map(|d| Fact::Revision(d.revision.clone()))),
        Kind::Budget => into.extend(world.budgets.iter().map(|b| Fact::Budget(b.record.clone()))),
        Kind::CsiNode => into.extend(world.node_index.values().map(|n| Fact::CsiNode(world.csi_node(*n)))),
        Kind::VolumeAttachment => {
            let attached = world.volumes.iter().filter_map(|v| v.attached.as_ref());
            into.extend(attached.map(|(_, a)| Fact::VolumeAttachment(a.clone())));
        }
    }
    into.push_back(Fact::Synced(kind));
}

fn find_node(world: &World, verb: &str, node: &NodeName, uid: &Uid) -> Result<usize> {
    let at = world.node_index.get(node).copied().ok_or_else(|| not_found(verb, "nodes", node))?;
    if world.nodes[at].record.uid != *uid {
        return Err(conflict(verb, "nodes", node));
    }
    Ok(at)
}

impl Cluster for SimCluster {
    async fn watch(&self, sink: mpsc::Sender<Fact>) -> Result<()> {
        let watcher = Rc::new(Watcher::default());
        for kind in Kind::ALL {
            let (list_verb, watch_verb) = verbs(kind);
            self.ask(list_verb).await?;
            self.ask(watch_verb).await?;
        }
        // All kinds are listed at one moment, so that they agree with each other and with what follows.
        self.handle.with(|world| {
            let mut facts = watcher.facts.borrow_mut();
            Kind::ALL.into_iter().for_each(|kind| list(world, kind, &mut facts));
            world.watchers.push(watcher.clone());
        });
        tokio::task::spawn_local(deliver(watcher, sink, self.handle.clone()));
        Ok(())
    }

    async fn version(&self) -> Result<Text> {
        self.read("get /version", |world| Ok(world.version.clone())).await
    }

    async fn refused(&self, wanted: &[(&str, &str, Option<&str>)]) -> Result<Vec<String>> {
        let mut refused = Vec::new();
        for (verb, resource, _) in wanted {
            let name = format!("{verb} {resource}");
            let act = |world: &mut World| Ok(world.faults.denied.contains(&name));
            if self.read("create selfsubjectaccessreviews", act).await? {
                refused.push(name.clone());
            }
        }
        Ok(refused)
    }

    async fn change_node(&self, node: &NodeName, uid: &Uid, change: &NodeChange) -> Result<Node> {
        let verb = "patch nodes";
        let act = |world: &mut World| {
            let at = find_node(world, verb, node, uid)?;
            world.patch_node(at, change);
            Ok(world.nodes[at].record.clone())
        };
        self.change(verb, act).await
    }

    async fn delete_node(&self, node: &NodeName, uid: &Uid) -> Result<()> {
        let verb = "delete nodes";
        let act = |world: &mut World| {
            let at = find_node(world, verb, node, uid)?;
            world.judge_delete_node(at);
            world.remove_node(at);
            Ok(())
        };
        self.change(verb, act).await
    }

    async fn evict(&self, pod: &ObjectKey, uid: &Uid) -> Result<()> {
        let verb = "create pods/eviction";
        let act = |world: &mut World| {
            world.evict(pod, uid).map_err(|refusal| {
                let mut error = error(refusal.kind.clone(), verb, refusal.message);
                error.retry_after = (refusal.kind == ErrorKind::BudgetUnobserved).then_some(10);
                error
            })
        };
        self.change(verb, act).await
    }

    async fn delete_pod(&self, pod: &ObjectKey, uid: &Uid, grace_seconds: u32) -> Result<()> {
        let verb = "delete pods";
        let act = |world: &mut World| {
            let found = world.pod_index.get(pod).copied();
            let id = found.ok_or_else(|| not_found(verb, "pods", &pod.name))?;
            if world.pods[id as usize].as_ref().is_none_or(|p| p.record.uid != *uid) {
                return Err(conflict(verb, "pods", &pod.name));
            }
            world.judge_delete(id);
            world.delete_pod(id, Some(grace_seconds.max(1)));
            Ok(())
        };
        self.change(verb, act).await
    }

    async fn lease(&self, key: &ObjectKey) -> Result<Option<LeaseRecord>> {
        self.read("get leases", |world| Ok(world.leases.get(key).cloned())).await
    }

    async fn put_lease(&self, key: &ObjectKey, lease: &LeaseRecord) -> Result<LeaseRecord> {
        let verb = if lease.version.is_some() { "update leases" } else { "create leases" };
        let act = |world: &mut World| {
            match (&lease.version, world.leases.get(key)) {
                (Some(_), None) => return Err(not_found(verb, "leases", &key.name)),
                (version, Some(there)) if there.version != *version => return Err(conflict(verb, "leases", &key.name)),
                _ => {}
            }
            let written = LeaseRecord { version: Some(world.next_version()), ..lease.clone() };
            world.leases.insert(key.clone(), written.clone());
            Ok(written)
        };
        self.change(verb, act).await
    }

    async fn delete_lease(&self, key: &ObjectKey, version: &str) -> Result<()> {
        let verb = "delete leases";
        let act = |world: &mut World| match world.leases.get(key) {
            None => Err(not_found(verb, "leases", &key.name)),
            Some(there) if there.version.as_deref() != Some(version) => Err(conflict(verb, "leases", &key.name)),
            Some(_) => {
                world.leases.remove(key);
                Ok(())
            }
        };
        self.change(verb, act).await
    }

    async fn configs(&self, namespace: &str) -> Result<Vec<ConfigRecord>> {
        let act = |world: &mut World| {
            let all = world.configs.iter().filter(|(key, _)| *key.namespace == *namespace);
            Ok(all.map(|(_, config)| config.clone()).collect())
        };
        self.read("list configmaps", act).await
    }

    async fn put_config(&self, namespace: &str, _rotation: &str, config: &ConfigRecord) -> Result<ConfigRecord> {
        let verb = if config.version.is_some() { "update configmaps" } else { "create configmaps" };
        let act = |world: &mut World| {
            let key = ObjectKey::new(namespace, &config.name);
            let created = match (&config.version, world.configs.get(&key)) {
                (Some(_), None) => return Err(not_found(verb, "configmaps", &config.name)),
                (version, Some(there)) if there.version != *version => {
                    return Err(conflict(verb, "configmaps", &config.name));
                }
                (_, there) => there.and_then(|c| c.created).unwrap_or_else(|| world.timestamp()),
            };
            let version = Some(world.next_version());
            let written = ConfigRecord { version, created: Some(created), ..config.clone() };
            world.configs.insert(key, written.clone());
            Ok(written)
        };
        self.change(verb, act).await
    }

    async fn delete_config(&self, namespace: &str, name: &str) -> Result<()> {
        let verb = "delete configmaps";
        let act = |world: &mut World| {
            let gone = world.configs.remove(&ObjectKey::new(namespace, name));
            gone.map(|_| ()).ok_or_else(|| not_found(verb, "configmaps", name))
        };
        self.change(verb, act).await
    }

    fn requests(&self) -> BTreeMap<Text, u64> {
        self.handle.with(|world| world.requests.iter().map(|(k, n)| (Text::from(*k), *n)).collect())
    }
}
