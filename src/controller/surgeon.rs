//! Who looks into new nodes and mends what makes them slow: asked by the loop, at work beside it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use tokio::time::timeout;

use super::Ports;
use crate::cloud::addons::Addons;
use crate::cloud::{self, Cloud};
use crate::cluster::manifests::Manifests;
use crate::cluster::{self, Cluster};
use crate::event::EventKind;
use crate::fixes::catalogue::{Catalogue, Verify};
use crate::fixes::rollout::{Going, Rollout, follow};
use crate::fixes::{Ended, Options, PodView, Remedy, State};
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

/// A fix that is in place on every node.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// Its name, with what it is for.
    pub fix: Text,
    /// The DaemonSet it changed.
    pub daemonset: ObjectKey,
    /// Pods that were restarted.
    pub pods: u32,
}

/// What the loop and an operation share.
#[derive(Clone, Default)]
pub struct Ward {
    /// The DaemonSet whose rollout is followed: the operation says which,
    pub set: Rc<RefCell<Option<ObjectKey>>>,
    /// and the loop shows its pods.
    pub pods: Rc<RefCell<Vec<PodView>>>,
    /// Where it stands, in words.
    pub stands: Rc<RefCell<Option<Text>>>,
    /// What it is about to do.
    pub proposed: Rc<RefCell<Option<EventKind>>>,
}

/// Looks into new nodes, and mends. The rotation's loop goes on meanwhile, so nothing is borrowed from it.
pub trait Surgeon {
    /// What is done with what is found.
    fn fixes(&self) -> Fixes;

    /// What made a replacement slow, or fail. Bounded in time and reads.
    fn examine(&self, snapshot: Snapshot, instance: InstanceId) -> LocalBoxFuture<'static, Vec<Finding>>;

    /// Applies what helps against a finding and follows it to every node; a change that does harm is taken back.
    /// The sentence says why it was not applied, or taken back.
    fn mend(&self, finding: Finding, ward: Ward) -> LocalBoxFuture<'static, Result<Applied, String>>;

    /// Takes a fix of ours back.
    fn take_back(&self, fix: Text, ward: Ward) -> LocalBoxFuture<'static, Result<(), String>>;

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

/// The fix against a finding, as the catalogue names it: a general one names its DaemonSet.
fn name(catalogue: &Catalogue, finding: &Finding) -> Option<Text> {
    let fix = finding.fix.as_ref()?;
    let aimed = finding.daemonset.as_ref().map(|set| format!("{fix}:{set}"));
    let all = [Some(fix.to_string()), aimed];
    all.into_iter().flatten().find(|name| catalogue.find(name).is_ok()).map(Into::into)
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
            for finding in &mut found {
                finding.fix = name(remedy.catalogue(), finding);
            }
            found
        })
    }

    fn mend(&self, finding: Finding, ward: Ward) -> LocalBoxFuture<'static, Result<Applied, String>> {
        let (ports, remedy) = (self.ports.clone(), self.remedy.clone());
        Box::pin(async move {
            let work = mend(&ports, &remedy, &finding, &ward);
            let done = timeout(LIMIT, work).await;
            *ward.set.borrow_mut() = None;
            done.unwrap_or_else(|_| Err(format!("it is not in place within {} min", LIMIT.as_secs() / 60)))
        })
    }

    fn take_back(&self, fix: Text, ward: Ward) -> LocalBoxFuture<'static, Result<(), String>> {
        let (ports, remedy) = (self.ports.clone(), self.remedy.clone());
        Box::pin(async move {
            let done = timeout(LIMIT, take_back(&ports, &remedy, &fix, &ward)).await;
            *ward.set.borrow_mut() = None;
            done.unwrap_or_else(|_| Err(format!("it is not taken back within {} min", LIMIT.as_secs() / 60)))
        })
    }

    fn rule(&self, fix: &str) -> Verify {
        self.remedy.catalogue().find(fix).map(|found| found.fix.verify).unwrap_or_default()
    }
}

async fn mend<C, K>(
    ports: &Ports<C, K>,
    remedy: &Remedy<C, K>,
    finding: &Finding,
    ward: &Ward,
) -> Result<Applied, String>
where
    C: Cloud + Addons,
    K: Manifests,
{
    let Some(fix) = &finding.fix else { return Err("there is no fix for it".to_owned()) };
    let proposal = remedy.propose(fix, Options::default()).await.map_err(|e| e.to_string())?;
    if !proposal.is_open() {
        return Err(match (&proposal.way, &proposal.state) {
            (Some(way), _) => way.to_string(),
            (None, State::Present(how) | State::Unfit(how)) => how.clone(),
            (None, State::Missing | State::Applied(_)) => "it is applied already".to_owned(),
        });
    }
    let set = proposal.remedial.daemonset.clone();
    *ward.set.borrow_mut() = Some(set.clone());
    *ward.proposed.borrow_mut() = Some(EventKind::FixProposed {
        fix: fix.clone(),
        daemonset: set.to_string().into(),
        way: proposal.way.as_ref().map(ToString::to_string).unwrap_or_default(),
        diff: proposal.diff.clone(),
    });
    // The loop shows the pods there are within its next second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let rollout = Rollout::begin(&ward.pods.borrow(), ports.clock.now(), PATIENCE);
    remedy.apply(&proposal).await.map_err(|e| e.to_string())?;
    let pods = match rolled_out(ports, &set, rollout, ward).await? {
        Ended::Done(pods) => pods,
        Ended::Late(why) => return Err(format!("it is applied, and its rollout does not end: {why}")),
        Ended::Bad(why) => {
            return Err(match take_back(ports, remedy, fix, ward).await {
                Ok(()) => format!("taken back, its rollout does harm: {why}"),
                Err(failure) => format!("its rollout does harm ({why}), and taking it back failed: {failure}"),
            });
        }
    };
    Ok(Applied { fix: fix.clone(), daemonset: set, pods })
}

async fn take_back<C, K>(ports: &Ports<C, K>, remedy: &Remedy<C, K>, fix: &str, ward: &Ward) -> Result<(), String>
where
    C: Cloud + Addons,
    K: Manifests,
{
    let undo = remedy.propose_revert(fix).await.map_err(|e| e.to_string())?;
    let set = undo.remedial.daemonset.clone();
    *ward.set.borrow_mut() = Some(set.clone());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let rollout = Rollout::begin(&ward.pods.borrow(), ports.clock.now(), PATIENCE);
    remedy.revert(&undo).await.map_err(|e| e.to_string())?;
    match rolled_out(ports, &set, rollout, ward).await? {
        Ended::Done(_) => Ok(()),
        Ended::Bad(why) | Ended::Late(why) => Err(format!("it is taken back, and the rollout does not end: {why}")),
    }
}

async fn rolled_out<C, K: Manifests>(
    ports: &Ports<C, K>,
    set: &ObjectKey,
    rollout: Rollout,
    ward: &Ward,
) -> Result<Ended, String> {
    let stands = |going: &Going| {
        // The same words all the while: who waits is not told of each pod.
        let text = format!("the {} pods of {set} to be renewed with a fix", going.desired);
        *ward.stands.borrow_mut() = Some(text.into());
    };
    let ended = follow((&*ports.cluster, set), rollout, ports.clock, || ward.pods.borrow().clone(), stands).await;
    *ward.stands.borrow_mut() = None;
    ended.map_err(|e| e.to_string())
}
