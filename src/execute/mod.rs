//! Actions to port calls. Nothing is decided here: an [`Action`] is complete when it arrives.
//!
//! Each action runs in a local task of its own, so many at once to AWS and to Kubernetes, each call with a hard
//! deadline, and comes back as one [`Outcome`] over a bounded channel. What a call did is handed along as [`Effect`]s, so
//! that the snapshot does not lag behind our own writes. No call is begun while the lock is not ours for certain.
//!
//! - [`groups`]: tags, processes, maximum, protection, the surge's ledger
//! - [`instances`]: terminations, each sent once
//! - [`nodes`], [`pods`]: Kubernetes, each call under the object's UID
//! - [`record`]: the rotation's ConfigMap
//! - [`retry`]: what is sent again, and when

pub mod groups;
pub mod instances;
pub mod nodes;
pub mod pods;
pub mod record;
pub mod retry;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::cloud::{self, Cloud, GroupState};
use crate::cluster::{self, Cluster};
use crate::lock::Guard;
use crate::model::{GroupName, InstanceId, Node, NodeName, Process, Text, Uid};
use crate::plan::{Action, ActionKey};

pub use record::Record;

/// Actions on Kubernetes that run at once, evictions included: enough to keep a drain of 100 pods from queueing,
/// few enough for an API server's priority level.
pub const CONCURRENT_CLUSTER: usize = 24;
/// Actions on AWS that run at once. They do not queue behind evictions: a termination stands on a reading that
/// is a few seconds old.
pub const CONCURRENT_CLOUD: usize = 8;
/// Hard deadline of a call that no precondition fences (terminate, desired, maximum): the lock's arithmetic
/// counts on it, see [`crate::lock`].
pub const UNFENCED_DEADLINE: Duration = Duration::from_secs(4);
/// Hard deadline of any other call: harmless when it lands late. Admission webhooks may take 30 s
/// (`timeoutSeconds` of a ValidatingWebhookConfiguration is at most 30).
pub const FENCED_DEADLINE: Duration = Duration::from_secs(35);
/// Outcomes on their way to the loop.
const OUTCOMES: usize = 2 * (CONCURRENT_CLUSTER + CONCURRENT_CLOUD);

/// Something our own call has changed for certain.
#[derive(Clone, Debug)]
pub enum Effect {
    /// The Node is now like this.
    Node(Box<Node>),
    /// The Node is gone.
    NodeGone(NodeName),
    /// The pod's eviction or deletion was accepted.
    PodAccepted,
    /// The pod goes, or is gone, by itself.
    PodLeaving(Uid),
    /// Tags of a group were set (`Some`) or removed.
    Tags(GroupName, BTreeMap<Text, Option<Text>>),
    /// Processes of a group were suspended (true) or resumed.
    Processes(GroupName, BTreeSet<Process>, bool),
    /// A group's maximum.
    Max(GroupName, u32),
    /// A group's desired capacity.
    Desired(GroupName, u32),
    /// Scale-in protection of instances.
    Protection(Vec<InstanceId>, bool),
    /// The instance is being terminated.
    Terminating(InstanceId),
    /// All groups as read after an outcome was unknown.
    Groups(Vec<GroupState>, tokio::time::Instant),
    /// The rotation's record was written.
    Record,
}

/// Why an action did not do what it was to do.
#[derive(Debug)]
pub enum Fault {
    /// AWS said so.
    Cloud(cloud::Error),
    /// Kubernetes said so.
    Cluster(cluster::Error),
    /// It did not answer in time.
    Deadline,
    /// The world was not as the action expects it; says how.
    Changed(String),
    /// The lock was not ours for certain: nothing was sent.
    NotLocked,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cloud(e) => e.fmt(f),
            Self::Cluster(e) => e.fmt(f),
            Self::Deadline => f.write_str("no answer before the call's deadline"),
            Self::Changed(how) => f.write_str(how),
            Self::NotLocked => f.write_str("the lock was not renewed in time"),
        }
    }
}

impl From<cloud::Error> for Fault {
    fn from(e: cloud::Error) -> Self {
        Self::Cloud(e)
    }
}

impl From<cluster::Error> for Fault {
    fn from(e: cluster::Error) -> Self {
        Self::Cluster(e)
    }
}

impl Fault {
    /// Whether nobody but a person can cure it: a permission or the credentials.
    pub fn is_access(&self) -> bool {
        match self {
            Self::Cloud(e) => matches!(e.kind, cloud::ErrorKind::Denied | cloud::ErrorKind::Credentials),
            Self::Cluster(e) => matches!(e.kind, cluster::ErrorKind::Forbidden | cluster::ErrorKind::Unauthorized),
            Self::Deadline | Self::Changed(_) | Self::NotLocked => false,
        }
    }
}

/// What became of an action.
#[derive(Debug)]
pub struct Outcome {
    /// Its key.
    pub key: ActionKey,
    /// The action.
    pub action: Action,
    /// Done (also where what it was to change was gone already), or why not.
    pub result: Result<(), Fault>,
    /// What is certain to have changed, also where the action failed half way.
    pub effects: Vec<Effect>,
    /// When it came back.
    pub at: Timestamp,
}

/// What every family of actions works with.
pub(crate) struct Tools<C, K> {
    pub(crate) cloud: Rc<C>,
    pub(crate) cluster: Rc<K>,
    pub(crate) clock: Clock,
    pub(crate) name: Text,
    pub(crate) guard: Guard,
    pub(crate) record: Record<K>,
    pub(crate) jitter: retry::Jitter,
}

impl<C, K> Tools<C, K> {
    /// Nothing is sent once the lock is not ours for certain.
    pub(crate) fn locked(&self) -> Result<(), Fault> {
        if self.guard.may_act() { Ok(()) } else { Err(Fault::NotLocked) }
    }
}

/// Runs actions. Dropping it drops those in flight.
pub struct Executor<C, K> {
    tools: Rc<Tools<C, K>>,
    cloud_slots: Rc<Semaphore>,
    cluster_slots: Rc<Semaphore>,
    tell: mpsc::Sender<Outcome>,
    tasks: JoinSet<()>,
}

impl<C: Cloud + 'static, K: Cluster + 'static> Executor<C, K> {
    /// An executor under a lock, for a rotation's record; its outcomes come through the receiver.
    pub fn new(
        (cloud, cluster, clock): (Rc<C>, Rc<K>, Clock),
        name: Text,
        guard: Guard,
        record: Record<K>,
        seed: u64,
    ) -> (Self, mpsc::Receiver<Outcome>) {
        let (tell, outcomes) = mpsc::channel(OUTCOMES);
        let jitter = retry::Jitter::seeded(seed);
        let tools = Rc::new(Tools { cloud, cluster, clock, name, guard, record, jitter });
        let cloud_slots = Rc::new(Semaphore::new(CONCURRENT_CLOUD));
        let cluster_slots = Rc::new(Semaphore::new(CONCURRENT_CLUSTER));
        (Self { tools, cloud_slots, cluster_slots, tell, tasks: JoinSet::new() }, outcomes)
    }

    /// Begins an action. Must be called inside a `LocalSet`.
    pub fn begin(&mut self, action: Action) {
        while self.tasks.try_join_next().is_some() {}
        let slots = match &action {
            Action::ChangeNode { .. } | Action::Evict { .. } | Action::DeletePod { .. } | Action::Record { .. } => {
                self.cluster_slots.clone()
            }
            _ => self.cloud_slots.clone(),
        };
        let (tools, tell) = (self.tools.clone(), self.tell.clone());
        self.tasks.spawn_local(async move {
            // The semaphore is never closed.
            let _slot = slots.acquire().await;
            let mut effects = Vec::new();
            let result = act(&tools, &action, &mut effects).await;
            let outcome = Outcome { key: action.key(), action, result, effects, at: tools.clock.now() };
            // The loop has ended: nobody needs to know.
            let _ = tell.send(outcome).await;
        });
    }
}

async fn act<C: Cloud, K: Cluster>(
    tools: &Tools<C, K>,
    action: &Action,
    effects: &mut Vec<Effect>,
) -> Result<(), Fault> {
    tools.locked()?;
    match action {
        Action::TagGroup { group, tags } => groups::tag(tools, group, tags, effects).await,
        Action::UntagGroup { group, keys } => groups::untag(tools, group, keys, effects).await,
        Action::Suspend { group, processes } => groups::suspend(tools, group, processes, effects).await,
        Action::Resume { group, processes } => groups::resume(tools, group, processes, effects).await,
        Action::SetMax { group, to, .. } => groups::set_max(tools, group, *to, effects).await,
        Action::Resize { group, from, to, before, after } => {
            groups::resize(tools, group, (*from, *to), (before, after), effects).await
        }
        Action::SettleLedger { group, ledger } => groups::write_ledger(tools, group, ledger, effects).await,
        Action::Protect { group, instances, protected } => {
            groups::protect(tools, group, instances, *protected, effects).await
        }
        Action::Terminate { instance, group, decrement, .. } => {
            instances::terminate(tools, instance, group, decrement.as_deref(), effects).await
        }
        Action::ChangeNode { node, uid, change, .. } => nodes::change(tools, node, uid, change, effects).await,
        Action::Evict { pod, uid, .. } => pods::evict(tools, pod, uid, effects).await,
        Action::DeletePod { pod, uid, grace_seconds, .. } => {
            pods::delete(tools, pod, uid, *grace_seconds, effects).await
        }
        Action::Record { skipped, failed, protection, targets, ending } => {
            tools
                .record
                .update(|r| {
                    r.skipped.extend(skipped.clone());
                    r.failed.extend(failed.clone());
                    protection.iter().for_each(|(id, was)| _ = r.protection.entry(id.clone()).or_insert(*was));
                    r.targets.extend(targets.clone());
                    r.ending = r.ending.or(*ending);
                })
                .await?;
            effects.push(Effect::Record);
            Ok(())
        }
    }
}
