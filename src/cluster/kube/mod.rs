//! The port's real side, over kube-rs.
//!
//! kube's client carries the connection, TLS and kubeconfig credentials; requests and decoding are our own,
//! because memory (slim records, no page held), the eviction's answers and the back-off of watches decide
//! here. Requests that change the world are sent once, those that only read again after a passing fault.

mod evidence;
mod fault;
mod manifests;
mod nodes;
mod records;
mod review;
mod watch;
mod wire;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use futures::stream::{StreamExt, TryStreamExt};
use http::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use self::fault::EVICT;
use self::watch::Watcher;
use self::wire::{Call, Wire};
use super::access::Connection;
use super::slim::{self, NodeState, intern::Interner};
use super::{Cluster, ConfigRecord, Error, ErrorKind, Fact, Kind, LeaseRecord, NodeChange, Result};
use crate::model::marks::ROTATION;
use crate::model::{Node, NodeName, ObjectKey, Text, Uid};

/// Our name in `managedFields`.
const MANAGER: &str = "fieldManager=fastnode";
/// Times a change of taints is tried while others write the same Node.
const TAINT_TRIES: u32 = 5;
/// Access reviews in flight together; each one holds a connection.
const REVIEWS_AT_ONCE: usize = 4;

/// A real cluster. Must be used inside a [`tokio::task::LocalSet`].
pub struct KubeCluster {
    shared: Rc<Shared>,
}

/// What the requests and the watches share.
struct Shared {
    wire: Wire,
    strings: RefCell<Interner>,
    /// Each Node as last seen, so that a change of taints needs no read before it.
    nodes: RefCell<BTreeMap<NodeName, NodeState>>,
    seed: u64,
}

impl Shared {
    /// Keeps the newer of two sights: the watch may tell of a time before our own last write.
    fn saw_node(&self, name: NodeName, state: NodeState) {
        let mut nodes = self.nodes.borrow_mut();
        let newer = nodes.get(&name).is_none_or(|known| {
            known.uid != state.uid
                || match (known.version.parse::<u64>(), state.version.parse::<u64>()) {
                    (Ok(known), Ok(seen)) => seen >= known,
                    // Not numbers: whatever came last.
                    _ => true,
                }
        });
        if newer {
            nodes.insert(name, state);
        }
    }
}

impl KubeCluster {
    /// Over a connection made by [`super::access::Access::connect`]; `seed` is for the jitter of back-offs.
    pub fn new(connection: Connection, seed: u64) -> Self {
        let wire = Wire::new(connection, seed);
        Self { shared: Rc::new(Shared { wire, strings: RefCell::default(), nodes: RefCell::default(), seed }) }
    }

    async fn call(&self, call: Call) -> Result<Vec<u8>> {
        self.shared.wire.call(&call).await
    }

    /// What is needed to change a Node's taints: as last seen, else read now.
    async fn node_state(&self, node: &NodeName, uid: &Uid) -> Result<NodeState> {
        let seen = self.shared.nodes.borrow().get(node).filter(|state| state.uid == *uid).cloned();
        match seen {
            Some(state) => Ok(state),
            None => self.read_node(node, uid).await,
        }
    }

    async fn read_node(&self, node: &NodeName, uid: &Uid) -> Result<NodeState> {
        const VERB: &str = "get nodes";
        let body = self.call(Call::get(VERB, node_path(node))).await?;
        let state = slim::node_state(&body).map_err(|error| unreadable(VERB, &error))?;
        if state.uid != *uid {
            let message = format!("node {node} is another one now: its UID is {}, not {uid}", state.uid);
            return Err(Error { kind: ErrorKind::Conflict, verb: VERB.into(), message, retry_after: None });
        }
        Ok(state)
    }
}

fn node_path(node: &NodeName) -> String {
    format!("/api/v1/nodes/{node}")
}

fn pod_path(pod: &ObjectKey) -> String {
    format!("/api/v1/namespaces/{}/pods/{}", pod.namespace, pod.name)
}

fn lease_path(namespace: &str) -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases")
}

fn config_path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps")
}

/// An answer that is not what the API promises.
fn unreadable(verb: &str, error: &dyn std::fmt::Display) -> Error {
    let message = format!("the answer cannot be read: {error}");
    Error { kind: ErrorKind::Other, verb: verb.into(), message, retry_after: None }
}

impl Cluster for KubeCluster {
    async fn watch(&self, sink: mpsc::Sender<Fact>) -> Result<()> {
        let mut tasks = JoinSet::new();
        let mut starts = Vec::new();
        for kind in Kind::ALL {
            let (tell, started) = oneshot::channel();
            tasks.spawn_local(Watcher::new(Rc::clone(&self.shared), kind, sink.clone(), tell).run());
            starts.push(started);
        }
        // Dropping the set ends the other watches where one is refused.
        for started in starts {
            // A watcher that ended without a word ended because the sink is closed.
            started.await.unwrap_or(Ok(()))?;
        }
        tasks.detach_all();
        Ok(())
    }

    async fn version(&self) -> Result<Text> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            git_version: Text,
        }
        const VERB: &str = "get /version";
        let body = self.call(Call::get(VERB, "/version".into())).await?;
        let version: Version = serde_json::from_slice(&body).map_err(|error| unreadable(VERB, &error))?;
        Ok(version.git_version)
    }

    async fn refused(&self, wanted: &[(&str, &str, Option<&str>)]) -> Result<Vec<String>> {
        const VERB: &str = "create selfsubjectaccessreviews";
        const PATH: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let reviews = wanted.iter().map(|&(verb, resource, namespace)| async move {
            let review = review::review(verb, resource, namespace);
            let body = self.call(Call::ask(VERB, PATH.into(), &review)).await?;
            let allowed = review::allowed(&body).map_err(|error| unreadable(VERB, &error))?;
            Ok::<_, Error>((!allowed).then(|| review::right(verb, resource, namespace)))
        });
        let answers: Vec<Option<String>> =
            futures::stream::iter(reviews).buffered(REVIEWS_AT_ONCE).try_collect().await?;
        Ok(answers.into_iter().flatten().collect())
    }

    async fn change_node(&self, node: &NodeName, uid: &Uid, change: &NodeChange) -> Result<Node> {
        const VERB: &str = "patch nodes";
        let path = format!("{}?{MANAGER}", node_path(node));
        let mut seen = None;
        if nodes::touches_taints(change) {
            seen = Some(self.node_state(node, uid).await?);
        }
        let mut tries = 1;
        let body = loop {
            let patch = nodes::patch(uid, change, seen.as_ref());
            match self.call(Call::merge(VERB, path.clone(), &patch)).await {
                // Refused, so not applied: the taints, or anything else of the Node, had changed.
                Err(error) if error.kind == ErrorKind::Conflict && seen.is_some() && tries < TAINT_TRIES => {
                    seen = Some(self.read_node(node, uid).await?);
                    tries += 1;
                }
                answer => break answer?,
            }
        };
        let object =
            slim::one_node(&body, &mut self.shared.strings.borrow_mut()).map_err(|error| unreadable(VERB, &error))?;
        if let Some((name, state)) = object.node {
            self.shared.saw_node(name, state);
        }
        match object.fact {
            Some(Fact::Node(node)) => Ok(node),
            _ => Err(unreadable(VERB, &"it is not a Node")),
        }
    }

    async fn delete_node(&self, node: &NodeName, uid: &Uid) -> Result<()> {
        let options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": { "uid": uid } });
        self.call(Call::json("delete nodes", Method::DELETE, node_path(node), &options)).await.map(drop)
    }

    async fn evict(&self, pod: &ObjectKey, uid: &Uid) -> Result<()> {
        // Not kube's `Api::evict`: it drops the delete options, and the precondition with them.
        let eviction = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": { "name": pod.name, "namespace": pod.namespace },
            "deleteOptions": { "preconditions": { "uid": uid } },
        });
        let path = format!("{}/eviction", pod_path(pod));
        self.call(Call::json(EVICT, Method::POST, path, &eviction)).await.map(drop)
    }

    async fn delete_pod(&self, pod: &ObjectKey, uid: &Uid, grace_seconds: u32) -> Result<()> {
        let options = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            // 0 would remove the object while its containers may still run.
            "gracePeriodSeconds": grace_seconds.max(1),
            "preconditions": { "uid": uid },
        });
        self.call(Call::json("delete pods", Method::DELETE, pod_path(pod), &options)).await.map(drop)
    }

    async fn lease(&self, key: &ObjectKey) -> Result<Option<LeaseRecord>> {
        const VERB: &str = "get leases";
        let path = format!("{}/{}", lease_path(&key.namespace), key.name);
        match self.call(Call::get(VERB, path)).await {
            Ok(body) => records::lease(&body).map(Some).map_err(|error| unreadable(VERB, &error)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn put_lease(&self, key: &ObjectKey, lease: &LeaseRecord) -> Result<LeaseRecord> {
        let body = records::lease_json(key, lease);
        let base = lease_path(&key.namespace);
        let call = match &lease.version {
            None => Call::json("create leases", Method::POST, format!("{base}?{MANAGER}"), &body),
            Some(_) => Call::json("update leases", Method::PUT, format!("{base}/{}?{MANAGER}", key.name), &body),
        };
        let verb = call.verb;
        let answer = self.call(call).await?;
        records::lease(&answer).map_err(|error| unreadable(verb, &error))
    }

    async fn delete_lease(&self, key: &ObjectKey, version: &str) -> Result<()> {
        let options = json!({ "preconditions": { "resourceVersion": version } });
        let path = format!("{}/{}", lease_path(&key.namespace), key.name);
        self.call(Call::json("delete leases", Method::DELETE, path, &options)).await.map(drop)
    }

    async fn configs(&self, namespace: &str) -> Result<Vec<ConfigRecord>> {
        const VERB: &str = "list configmaps";
        let path = format!("{}?labelSelector={ROTATION}", config_path(namespace));
        let body = self.call(Call::get(VERB, path)).await?;
        records::configs(&body).map_err(|error| unreadable(VERB, &error))
    }

    async fn put_config(&self, namespace: &str, rotation: &str, config: &ConfigRecord) -> Result<ConfigRecord> {
        let body = records::config_json(namespace, rotation, config);
        let base = config_path(namespace);
        let call = match &config.version {
            None => Call::json("create configmaps", Method::POST, format!("{base}?{MANAGER}"), &body),
            Some(_) => Call::json("update configmaps", Method::PUT, format!("{base}/{}?{MANAGER}", config.name), &body),
        };
        let verb = call.verb;
        let answer = self.call(call).await?;
        records::config(&answer).map_err(|error| unreadable(verb, &error))
    }

    async fn delete_config(&self, namespace: &str, name: &str) -> Result<()> {
        let path = format!("{}/{name}", config_path(namespace));
        self.call(Call::delete("delete configmaps", path)).await.map(drop)
    }

    fn requests(&self) -> BTreeMap<Text, u64> {
        self.shared.wire.counts()
    }
}
