//! The port to AWS: exactly the calls fastnode makes, in the model's words.
//!
//! Two sides implement it: `aws` (the SDKs) and [`crate::sim`]. An implementation retries what is safe to
//! retry (throttling, a failed read) within a bounded time and counts every request it sends; `terminate`
//! and `set_desired` are sent once and answer [`ErrorKind::UnknownOutcome`] when no reply came, because a
//! second blind send could cost an instance.

pub mod addons;
pub mod aws;
mod ec2;
mod elb;
pub mod evidence;
mod iam;
mod query;
pub mod signing;
pub mod token;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{Activity, Attachment, GroupName, Instance, InstanceId, NodeGroup, Process, Target, Text};

/// What went wrong with a call, as far as a decision depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// Throttled beyond the retries: slow down and try again.
    Throttled,
    /// A service or network fault on a read, or one known to have had no effect: try again.
    Unavailable,
    /// Sent, and no reply: read the state again, never send again blind.
    UnknownOutcome,
    /// Credentials are missing, wrong or expired.
    Credentials,
    /// The caller may not do this; `Error::operation` is the IAM action.
    Denied,
    /// The thing does not exist.
    NotFound,
    /// Another scaling activity or update is in progress: wait for it.
    Busy,
    /// Refused by a limit (desired above max, decrement below min): a fact, not to be retried.
    Refused,
    /// Anything else.
    Other,
}

/// A failed call.
#[derive(Debug, thiserror::Error)]
#[error("failed to call {operation}: {message}")]
pub struct Error {
    /// What kind.
    pub kind: ErrorKind,
    /// Service and operation as IAM writes them, `autoscaling:DescribeAutoScalingGroups`.
    pub operation: Text,
    /// The service's code and message.
    pub message: String,
}

/// The result of a call.
pub type Result<T> = std::result::Result<T, Error>;

/// An EKS cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EksCluster {
    /// Its name.
    pub name: Text,
    /// Its Kubernetes version, `1.36`.
    pub version: Text,
    /// The API server's URL.
    pub endpoint: Text,
    /// The CA, PEM, base64 as EKS hands it out.
    pub ca: Text,
    /// `ACTIVE`, `UPDATING`, …
    pub status: Text,
}

/// A group and its instances, as one page of DescribeAutoScalingGroups shows them together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupState {
    /// The group.
    pub group: NodeGroup,
    /// All its instances, `Warmed:*` excluded where the API lists them apart.
    pub instances: Vec<Instance>,
}

/// What EC2 says of an instance beyond its group's view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceDetail {
    /// The instance.
    pub id: InstanceId,
    /// `launchTime`.
    pub launched_at: Option<Timestamp>,
    /// `imageId`.
    pub image: Option<Text>,
    /// `instanceState.name`: `pending`, `running`, `shutting-down`, `terminated`, …
    pub state: Text,
    /// `privateDnsName`.
    pub private_dns: Option<Text>,
}

/// AWS.
#[expect(async_fn_in_trait, reason = "everything runs on one current-thread runtime; no future needs Send")]
pub trait Cloud {
    /// `eks:DescribeCluster`.
    async fn cluster(&self, name: &str) -> Result<EksCluster>;

    /// All Auto Scaling groups tagged for the cluster: `kubernetes.io/cluster/<name>` = `owned` or `shared`,
    /// `k8s.io/cluster/<name>`, or `eks:cluster-name` = `<name>`. One paged DescribeAutoScalingGroups a call;
    /// the target's `$Latest`/`$Default` are left unresolved.
    async fn groups(&self, cluster: &str) -> Result<Vec<GroupState>>;

    /// Those of `groups` that an instance refresh is under way in. One `autoscaling:DescribeInstanceRefreshes`
    /// a group: for the preflight, not for a poll. [`Cloud::groups`] leaves `NodeGroup::refreshing` false.
    async fn refreshing(&self, groups: &[GroupName]) -> Result<BTreeSet<GroupName>>;

    /// The deregistration delay of each, in seconds: `elasticloadbalancing:DescribeTargetGroupAttributes` and
    /// `DescribeLoadBalancerAttributes`, one call each: for the preflight, not for a poll. Those that may not be
    /// read, are gone, or belong to another service are left out.
    async fn deregistration_delays(&self, attachments: &BTreeSet<Attachment>) -> Result<BTreeMap<Attachment, u32>>;

    /// Resolves every `TemplateRef` of `target`, which is as [`Cloud::groups`] gave it (`$Latest`, `$Default`,
    /// `resolve:ssm:` images), as of now. An override's own image stands above its template's.
    async fn resolve(&self, target: &Target) -> Result<Target>;

    /// EC2's view of instances; those unknown to EC2 are left out.
    async fn instances(&self, ids: &[InstanceId]) -> Result<Vec<InstanceDetail>>;

    /// The group's activities that started at or after `since`, newest first.
    async fn activities(&self, group: &GroupName, since: Timestamp) -> Result<Vec<Activity>>;

    /// `autoscaling:SetDesiredCapacity`, HonorCooldown false. Sent once.
    async fn set_desired(&self, group: &GroupName, desired: u32) -> Result<()>;

    /// `autoscaling:TerminateInstanceInAutoScalingGroup`. Sent once.
    async fn terminate(&self, instance: &InstanceId, decrement: bool) -> Result<Activity>;

    /// `autoscaling:SuspendProcesses`.
    async fn suspend(&self, group: &GroupName, processes: &BTreeSet<Process>) -> Result<()>;

    /// `autoscaling:ResumeProcesses`.
    async fn resume(&self, group: &GroupName, processes: &BTreeSet<Process>) -> Result<()>;

    /// `autoscaling:SetInstanceProtection`, in pages of 50.
    async fn protect(&self, group: &GroupName, instances: &[InstanceId], protected: bool) -> Result<()>;

    /// `autoscaling:UpdateAutoScalingGroup` with `MaxSize` only.
    async fn set_max(&self, group: &GroupName, max: u32) -> Result<()>;

    /// `autoscaling:CreateOrUpdateTags`, PropagateAtLaunch false.
    async fn tag(&self, group: &GroupName, tags: &BTreeMap<Text, Text>) -> Result<()>;

    /// `autoscaling:DeleteTags`.
    async fn untag(&self, group: &GroupName, keys: &BTreeSet<Text>) -> Result<()>;

    /// Requests sent so far by operation, retries counted.
    fn calls(&self) -> BTreeMap<Text, u64>;
}
