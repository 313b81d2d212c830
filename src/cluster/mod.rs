//! The port to Kubernetes: exactly the calls fastnode makes, in the model's words.
//!
//! Two sides implement it: `kube` (kube-rs) and [`crate::sim`]. Watches push [`Fact`]s; nothing here polls.
//! An implementation repeats reads, bounded, and nothing that changes the world: the executor owns those
//! retries.

pub mod access;
pub mod evidence;
pub mod kube;
pub mod manifests;
mod slim;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::model::{
    Budget, CsiNode, DaemonSet, Node, NodeName, ObjectKey, Pod, Revision, Taint, Text, Uid, VolumeAttachment,
};

/// The kinds that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// Nodes.
    Node,
    /// Pods.
    Pod,
    /// DaemonSets.
    DaemonSet,
    /// ControllerRevisions (those a DaemonSet owns).
    Revision,
    /// PodDisruptionBudgets.
    Budget,
    /// CSINodes.
    CsiNode,
    /// VolumeAttachments.
    VolumeAttachment,
}

impl Kind {
    /// Every kind, in the order in which they are started.
    pub const ALL: [Self; 7] =
        [Self::Node, Self::DaemonSet, Self::Revision, Self::Budget, Self::CsiNode, Self::VolumeAttachment, Self::Pod];
}

/// Something a watch saw.
///
/// A list (the first, or one after a lost watch) is `Relisting(kind)`, each object, `Synced(kind)`: objects
/// of that kind not named in between are gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    /// A full list of this kind begins.
    Relisting(Kind),
    /// The full list is complete.
    Synced(Kind),
    /// A Node as it is now.
    Node(Node),
    /// A Node is gone.
    NodeGone(NodeName),
    /// A Pod as it is now.
    Pod(Pod),
    /// A Pod is gone.
    PodGone(Uid),
    /// A DaemonSet as it is now.
    DaemonSet(DaemonSet),
    /// A DaemonSet is gone.
    DaemonSetGone(Uid),
    /// A DaemonSet's ControllerRevision.
    Revision(Revision),
    /// A ControllerRevision is gone (by its own UID).
    RevisionGone(Uid),
    /// A budget as it is now.
    Budget(Budget),
    /// A budget is gone.
    BudgetGone(ObjectKey),
    /// A node's CSI drivers.
    CsiNode(CsiNode),
    /// A CSINode is gone.
    CsiNodeGone(NodeName),
    /// A volume attachment.
    VolumeAttachment(VolumeAttachment),
    /// A volume attachment is gone (by its name).
    VolumeAttachmentGone(Text),
    /// A watch failed and is being started again after a back-off; the sentence says why.
    WatchFailed(Kind, String),
}

/// What went wrong with a request, as far as a decision depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// 404, or another object of that name: what was to go is gone.
    NotFound,
    /// 409: the precondition did not hold (for an eviction: a new pod of that name, so the old one is gone).
    Conflict,
    /// Eviction: 429 with cause `DisruptionBudget` and no budget observed lately blocks it; back off per budget.
    BudgetExhausted,
    /// Eviction: 429 while the budget has not been observed yet; the server says how long.
    BudgetUnobserved,
    /// Eviction: 500, more than one budget covers the pod; no retry ever helps.
    SeveralBudgets,
    /// Eviction: 403, the budget counts a negative allowance or too many disrupted pods.
    BudgetRefused,
    /// 403 because the namespace is being deleted: the pod goes by itself.
    NamespaceTerminating,
    /// 429 without a budget's cause: the API server sheds load.
    Throttled,
    /// 422: the object does not fit its schema.
    Invalid,
    /// 401: the token is not accepted.
    Unauthorized,
    /// 403: `Error::verb` is not allowed.
    Forbidden,
    /// 5xx, a time-out or a broken connection.
    Unavailable,
    /// TLS: the server's certificate is not signed by the CA we were given.
    Certificate,
    /// Anything else.
    Other,
}

/// A failed request.
#[derive(Clone, Debug, thiserror::Error)]
#[error("failed to {verb}: {message}")]
pub struct Error {
    /// What kind.
    pub kind: ErrorKind,
    /// Verb and resource as RBAC writes them: `patch nodes`, `create pods/eviction`.
    pub verb: Text,
    /// What the server said.
    pub message: String,
    /// `Retry-After`, in seconds, where the server sent one above 0.
    pub retry_after: Option<u32>,
}

impl Error {
    /// Whether the same request may well succeed in a moment: no answer, a server's fault, or its load.
    pub fn is_passing(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Throttled)
    }
}

/// The result of a request.
pub type Result<T> = std::result::Result<T, Error>;

/// A change to a Node, applied as one PATCH with the Node's UID as precondition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeChange {
    /// Sets `spec.unschedulable`.
    pub unschedulable: Option<bool>,
    /// Labels to set (`Some`) or remove (`None`).
    pub labels: BTreeMap<Text, Option<Text>>,
    /// Annotations to set or remove.
    pub annotations: BTreeMap<Text, Option<Text>>,
    /// A taint to add (replacing one of the same key and effect).
    pub add_taint: Option<Taint>,
    /// Key of a taint to remove.
    pub remove_taint: Option<Text>,
}

/// A Lease, as the lock reads and writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// `holderIdentity`; empty or `None` means free.
    pub holder: Option<String>,
    /// `leaseDurationSeconds`.
    pub duration_seconds: u32,
    /// `acquireTime`.
    pub acquired: Option<Timestamp>,
    /// `renewTime`.
    pub renewed: Option<Timestamp>,
    /// `leaseTransitions`.
    pub transitions: u32,
    /// Our annotations: the rotation's id, and what was asked of it (`fastnode.dev/request`).
    pub annotations: BTreeMap<Text, Text>,
    /// `resourceVersion`, the precondition of the next write.
    pub version: Option<String>,
}

/// A ConfigMap of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigRecord {
    /// Its name.
    pub name: String,
    /// Its data.
    pub data: BTreeMap<String, String>,
    /// `resourceVersion`; `None` creates it.
    pub version: Option<String>,
    /// When it was created.
    pub created: Option<Timestamp>,
}

/// Kubernetes.
#[expect(async_fn_in_trait, reason = "everything runs on one current-thread runtime; no future needs Send")]
pub trait Cluster {
    /// Starts every watch; facts go to `sink` in the order seen until it is closed. Returns once each kind's
    /// first list has begun to be answered, an error if one is denied or unreachable (then no watch is left
    /// running); later faults are `WatchFailed`. Must be called inside a [`tokio::task::LocalSet`].
    async fn watch(&self, sink: mpsc::Sender<Fact>) -> Result<()>;

    /// The server's version, `v1.36.3`.
    async fn version(&self) -> Result<Text>;

    /// Which of these `(verb, resource, namespace)` may we do? Returns those refused (SelfSubjectAccessReview).
    async fn refused(&self, wanted: &[(&str, &str, Option<&str>)]) -> Result<Vec<String>>;

    /// Changes a Node under its UID; the Node as it is after that.
    async fn change_node(&self, node: &NodeName, uid: &Uid, change: &NodeChange) -> Result<Node>;

    /// Deletes a Node under its UID.
    async fn delete_node(&self, node: &NodeName, uid: &Uid) -> Result<()>;

    /// Posts an eviction with the pod's UID as precondition.
    async fn evict(&self, pod: &ObjectKey, uid: &Uid) -> Result<()>;

    /// Deletes a pod with its UID as precondition and a grace period of at least 1 s: past budgets.
    async fn delete_pod(&self, pod: &ObjectKey, uid: &Uid, grace_seconds: u32) -> Result<()>;

    /// Reads the lock's Lease.
    async fn lease(&self, key: &ObjectKey) -> Result<Option<LeaseRecord>>;

    /// Writes the lock's Lease: creates it if `version` is `None`, else replaces exactly that version.
    async fn put_lease(&self, key: &ObjectKey, lease: &LeaseRecord) -> Result<LeaseRecord>;

    /// Deletes exactly this version of the lock's Lease.
    async fn delete_lease(&self, key: &ObjectKey, version: &str) -> Result<()>;

    /// Reads the ConfigMaps of a namespace that carry the label `fastnode.dev/rotation`.
    async fn configs(&self, namespace: &str) -> Result<Vec<ConfigRecord>>;

    /// Creates or replaces a ConfigMap (exactly that version), labelled `fastnode.dev/rotation=<rotation>`.
    async fn put_config(&self, namespace: &str, rotation: &str, config: &ConfigRecord) -> Result<ConfigRecord>;

    /// Deletes a ConfigMap.
    async fn delete_config(&self, namespace: &str, name: &str) -> Result<()>;

    /// Requests sent so far by `verb resource`, watches and lists counted once each time they are begun.
    fn requests(&self) -> BTreeMap<Text, u64>;
}
