//! What Kubernetes keeps of how containers and nodes came up: logs and Events. Read for suspects only.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Result;
use crate::model::{ObjectKey, Text, Uid};

/// Lines asked of one container's log at most, the last ones.
pub const LOG_LINES: u32 = 400;
/// Bytes asked of one container's log at most.
pub const LOG_BYTES: u32 = 128 << 10;

/// Which run of a container a log is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LogRun {
    /// The one that runs, or ran last.
    Current,
    /// The one before it (`previous=true`).
    Previous,
}

/// A line of a log, with the time at which the kubelet took it in (`timestamps=true`): the same clock for every
/// container of a node, whatever zone and form the container writes its own times in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When.
    pub time: Timestamp,
    /// What the container wrote.
    pub text: Text,
}

/// An Event (`core/v1`), slim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// `involvedObject.kind`: `Node`, `Pod`, `DaemonSet`, …
    pub kind: Text,
    /// `involvedObject`'s namespace and name; the namespace of a Node's is empty.
    pub about: ObjectKey,
    /// `involvedObject.uid`; of a Node the kubelet writes its name here.
    pub uid: Option<Uid>,
    /// `type` is `Warning`.
    pub warning: bool,
    /// `reason`, `FailedCreatePodSandBox`.
    pub reason: Text,
    /// `message`.
    pub message: Text,
    /// How often (`count`, or the series' count), at least 1.
    pub count: u32,
    /// When first (`firstTimestamp`, else `eventTime`).
    pub first: Option<Timestamp>,
    /// When last (`lastTimestamp`, the series' last, else `eventTime`).
    pub last: Option<Timestamp>,
    /// `source.component` or `reportingComponent`.
    pub source: Text,
}

/// Kubernetes as a witness.
#[expect(async_fn_in_trait, reason = "everything runs on one current-thread runtime; no future needs Send")]
pub trait Evidence {
    /// The last lines of a container's log, oldest first, at most [`LOG_LINES`] and [`LOG_BYTES`]; empty where
    /// there is no such run or nothing is left of it.
    async fn logs(&self, pod: &ObjectKey, container: &str, run: LogRun) -> Result<Vec<LogLine>>;

    /// Every Event of type `Warning` that is still kept (an hour, by default), in one paged list.
    async fn warnings(&self) -> Result<Vec<EventRecord>>;

    /// Every Event `Starting` about a Node that is still kept, in one paged list: of kubelets, and of kube-proxies.
    async fn starts(&self) -> Result<Vec<EventRecord>>;
}
