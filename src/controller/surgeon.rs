//! Who looks into new nodes and mends what makes them slow: asked by the loop, at work beside it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use jiff::Timestamp;
use tokio::time::timeout;

use super::Ports;
use crate::clock::Clock;
use crate::cloud::addons::Addons;
use crate::cloud::{self, Cloud};
use crate::cluster::manifests::Manifests;
use crate::cluster::{self, Cluster};
use crate::event::EventKind;
use crate::fixes::catalogue::{Catalogue, Patch, Verify};
use crate::fixes::record::Mark;
use crate::fixes::rollout::Going;
use crate::fixes::{
    self, Came, Course, Effect, Ended, Onlooker, Options, PodView, Proposal, Remedy, State, Way, bootstrap, standing,
};
use crate::model::{InstanceId, ObjectKey, Text};
use crate::observe::Snapshot;
use crate::policy::Policy;
use crate::readiness::diagnosis::{Finding, autopsy};

/// What `--fixes` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fixes {
    /// What is found is told, with the command that mends it.
    Suggest,
    /// What is found is mended, one after the other, each proved on the next new node.
    Apply,
}

/// How long a rotation waits for one fix, its rollout included.
pub const LIMIT: Duration = Duration::from_secs(30 * 60);
/// How long one pod of a rollout may take to be ready.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// How often is looked whether the loop has shown the pods.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What became of a fix that was applied, or taken up.
#[derive(Clone, Debug, PartialEq)]
pub struct Treated {
    /// Its name, with what it is for.
    pub fix: Text,
    /// The DaemonSet it changed.
    pub daemonset: ObjectKey,
    /// Nodes created from then on have it.
    pub since: Timestamp,
    /// How far it came.
    pub came: Came,
}

/// A fix that was in place when the rotation began.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Its name, with what it is for.
    pub fix: Text,
    /// The DaemonSet it changed.
    pub daemonset: ObjectKey,
    /// What its record tells.
    pub mark: Mark,
    /// What the nodes there are tell of it.
    pub shown: fixes::Standing,
}

/// What the loop and an operation share.
#[derive(Clone)]
pub struct Ward {
    /// The DaemonSet whose rollout is followed: the operation says which,
    pub set: Rc<RefCell<Option<ObjectKey>>>,
    /// and the loop shows its pods.
    pub pods: Rc<RefCell<Option<Vec<PodView>>>>,
    /// Where it stands, in words.
    pub stands: Rc<RefCell<Option<Text>>>,
    /// When it made its change.
    pub changed: Rc<Cell<Option<Timestamp>>>,
    /// What it is about to do.
    pub proposed: Rc<RefCell<Option<EventKind>>>,
    clock: Clock,
}

impl Ward {
    /// One on which nobody operates.
    pub fn new(clock: Clock) -> Self {
        let (set, pods, stands, changed, proposed) = Default::default();
        Self { set, pods, stands, changed, proposed, clock }
    }

    /// An operation from its beginning to its end, which comes in time: `done` is what it is not, otherwise.
    async fn bounded<T>(&self, done: &str, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        let ended = timeout(LIMIT, work).await;
        *self.set.borrow_mut() = None;
        *self.pods.borrow_mut() = None;
        *self.stands.borrow_mut() = None;
        ended.unwrap_or_else(|_| Err(format!("it is not {done} within {} min", LIMIT.as_secs() / 60)))
    }
}

impl Onlooker for Ward {
    async fn turn_to(&self, set: &ObjectKey) {
        *self.pods.borrow_mut() = None;
        *self.set.borrow_mut() = Some(set.clone());
        // The loop shows them within its next second.
        while self.pods.borrow().is_none() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn pods(&self, _: &ObjectKey) -> Vec<PodView> {
        self.pods.borrow().clone().unwrap_or_default()
    }

    fn changed(&self) {
        self.changed.set(Some(self.clock.now()));
    }

    fn going(&self, set: &ObjectKey, going: &Going) {
        // The same words all the while: who waits is not told of each pod.
        let text = format!("the {} pods of {set} to be renewed with a fix", going.desired);
        *self.stands.borrow_mut() = Some(text.into());
    }
}

/// Looks into new nodes, and mends. The rotation's loop goes on meanwhile, so nothing is borrowed from it.
pub trait Surgeon {
    /// What is done with what is found.
    fn fixes(&self) -> Fixes;

    /// What made a replacement slow, or fail. Bounded in time and reads.
    fn examine(&self, snapshot: Snapshot, instance: InstanceId) -> LocalBoxFuture<'static, Vec<Finding>>;

    /// Applies what helps against a finding and follows it to every node; a change that does harm is taken back.
    /// The sentence says why it was not applied.
    fn mend(&self, finding: Finding, options: Options, ward: Ward) -> LocalBoxFuture<'static, Result<Treated, String>>;

    /// The fixes that are in place, and not taken back.
    fn standing(&self, snapshot: &Snapshot) -> Vec<Standing>;

    /// Goes on with a fix that somebody has applied who did not live to see it through, and takes it back where it does
    /// harm and `may` be.
    fn take_up(&self, fix: Text, may: bool, ward: Ward) -> LocalBoxFuture<'static, Result<Treated, String>>;

    /// Takes a fix of ours back.
    fn take_back(&self, fix: Text, ward: Ward) -> LocalBoxFuture<'static, Result<(), String>>;

    /// Writes down on its object what a fix came to.
    fn note(&self, fix: Text, effect: Effect) -> LocalBoxFuture<'static, ()>;

    /// What a fix has to show on the next new node.
    fn rule(&self, fix: &str) -> Verify;
}

/// The surgeon of a cluster.
pub struct ClusterSurgeon<C, K> {
    ports: Ports<C, K>,
    cluster: Text,
    policy: Policy,
    fixes: Fixes,
    remedy: Rc<Remedy<C, K>>,
}

impl<C, K> ClusterSurgeon<C, K>
where
    C: Cloud + Addons + cloud::evidence::Evidence + 'static,
    K: Cluster + Manifests + cluster::evidence::Evidence + 'static,
{
    /// One that has `catalogue` at hand; `waiter` is the image of init containers that wait.
    pub fn new(
        ports: &Ports<C, K>,
        (cluster, policy): (Text, Policy),
        fixes: Fixes,
        catalogue: Catalogue,
        waiter: Option<String>,
    ) -> Self {
        let (aws, kube) = (ports.cloud.clone(), ports.cluster.clone());
        let remedy = Rc::new(Remedy::new(aws, kube, ports.clock, cluster.clone(), catalogue, waiter));
        Self { ports: ports.clone(), cluster, policy, fixes, remedy }
    }
}

impl<C, K> Surgeon for ClusterSurgeon<C, K>
where
    C: Cloud + Addons + cloud::evidence::Evidence + 'static,
    K: Cluster + Manifests + cluster::evidence::Evidence + 'static,
{
    fn fixes(&self) -> Fixes {
        self.fixes
    }

    fn examine(&self, snapshot: Snapshot, instance: InstanceId) -> LocalBoxFuture<'static, Vec<Finding>> {
        let (ports, cluster, policy) = (self.ports.clone(), self.cluster.clone(), self.policy.clone());
        let remedy = self.remedy.clone();
        Box::pin(async move {
            let sides = (&*ports.cloud, &*ports.cluster, ports.clock);
            let found = autopsy(sides, (&cluster, &policy), &snapshot, &instance).await;
            let mut found = found.unwrap_or_else(|e| {
                tracing::warn!("{e}");
                Vec::new()
            });
            found.iter_mut().for_each(|finding| remedy.catalogue().aim(finding));
            found
        })
    }

    fn mend(&self, finding: Finding, options: Options, ward: Ward) -> LocalBoxFuture<'static, Result<Treated, String>> {
        let remedy = self.remedy.clone();
        Box::pin(async move { ward.bounded("in place", mend(&remedy, &finding, &options, &ward)).await })
    }

    fn standing(&self, snapshot: &Snapshot) -> Vec<Standing> {
        let found = standing::marked(self.remedy.catalogue(), snapshot).map(|(remedial, mark, _)| Standing {
            shown: standing::standing(&self.policy, snapshot, &remedial, &mark),
            fix: remedial.name.into(),
            daemonset: remedial.daemonset,
            mark,
        });
        let mut found: Vec<Standing> = found.collect();
        found.sort_by_key(|standing| standing.mark.at);
        found
    }

    fn take_up(&self, fix: Text, may: bool, ward: Ward) -> LocalBoxFuture<'static, Result<Treated, String>> {
        let remedy = self.remedy.clone();
        Box::pin(async move {
            let work = async {
                let daemonset = remedy.catalogue().find(&fix).map_err(|e| e.to_string())?.daemonset;
                let since = ward.clock.now();
                let came = course(&remedy, &ward).take_up(&fix, may).await.map_err(|e| e.to_string())?;
                Ok(Treated { fix, daemonset, since, came })
            };
            ward.bounded("in place", work).await
        })
    }

    fn take_back(&self, fix: Text, ward: Ward) -> LocalBoxFuture<'static, Result<(), String>> {
        let remedy = self.remedy.clone();
        Box::pin(async move {
            let work = async {
                let undo = remedy.propose_revert(&fix).await.map_err(|e| e.to_string())?;
                match course(&remedy, &ward).take_back(&undo).await.map_err(|e| e.to_string())? {
                    Ended::Done(_) => Ok(()),
                    Ended::Bad(why) | Ended::Late(why) => {
                        Err(format!("it is taken back, and the rollout does not end: {why}"))
                    }
                }
            };
            ward.bounded("taken back", work).await
        })
    }

    fn note(&self, fix: Text, effect: Effect) -> LocalBoxFuture<'static, ()> {
        let remedy = self.remedy.clone();
        Box::pin(async move {
            // The nodes show it for a while longer.
            if let Err(error) = remedy.note(&fix, effect).await {
                tracing::warn!("{error}");
            }
        })
    }

    fn rule(&self, fix: &str) -> Verify {
        self.remedy.catalogue().find(fix).map(|found| found.fix.verify).unwrap_or_default()
    }
}

fn course<'a, C, K>(remedy: &'a Remedy<C, K>, ward: &'a Ward) -> Course<'a, C, K, Ward> {
    Course { remedy, onlooker: ward, patience: PATIENCE }
}

async fn mend<C, K>(remedy: &Remedy<C, K>, finding: &Finding, options: &Options, ward: &Ward) -> Result<Treated, String>
where
    C: Cloud + Addons,
    K: Manifests,
{
    let Some(fix) = &finding.fix else { return Err("there is no fix for it".to_owned()) };
    let mut proposal = remedy.propose(fix, options).await.map_err(|e| e.to_string())?;
    if let (Some(Way::Conflict { .. }), Some(_)) = (&proposal.way, &proposal.remedial.addon) {
        // Where EKS manages what would be changed, a newer version may bring it along.
        let update = format!("addon-update:{}", proposal.remedial.daemonset);
        let update = remedy.propose(&update, options).await.ok().filter(Proposal::is_open);
        proposal = update.unwrap_or(proposal);
    }
    let fix: Text = proposal.remedial.name.as_str().into();
    if matches!(proposal.remedial.fix.patch, Patch::StartupTaint { .. }) {
        // Half of it would show nothing on the next node, and be taken back.
        return Err(format!("{}; fastnode fix {fix} shows the text", bootstrap::words(&proposal.remedial)));
    }
    if !proposal.is_open() {
        return Err(match (&proposal.way, &proposal.state) {
            (Some(way), _) => way.to_string(),
            (None, State::Present(how) | State::Unfit(how)) => how.clone(),
            (None, State::Missing | State::Applied(_)) => "it is applied already".to_owned(),
        });
    }
    let daemonset = proposal.remedial.daemonset.clone();
    *ward.proposed.borrow_mut() = Some(EventKind::FixProposed {
        fix: fix.clone(),
        daemonset: daemonset.to_string().into(),
        way: proposal.way.as_ref().map(ToString::to_string).unwrap_or_default(),
        diff: proposal.diff.clone(),
    });
    let came = course(remedy, ward).apply(&proposal).await.map_err(|e| e.to_string())?;
    let since = ward.changed.take().unwrap_or_else(|| ward.clock.now());
    Ok(Treated { fix, daemonset, since, came })
}
