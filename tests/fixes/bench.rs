//! A small cluster with both faults, and fixes at hand.

use std::cell::{Ref, RefCell};
use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use fastnode::cluster::Cluster;
use fastnode::cluster::manifests::Manifests;
use fastnode::fixes::rollout::Going;
use fastnode::fixes::{Catalogue, Error, Onlooker, Options, PodView, Proposal, Remedy, State};
use fastnode::model::ObjectKey;
use fastnode::observe::Snapshot;
use fastnode::sim::{self, Scenario, SimCloud, SimCluster, Simulation, World};
use serde_json::Value;
use tokio::sync::mpsc;

/// Both faults, by their causes: kube-proxy without its override, aws-node that does not wait.
pub const FAULTY: &str = "
version = 'v1.24.17'
dhcp_domain = 'corp.example'
[[groups]]
name = 'g'
nodes = 3
zones = ['us-west-2a']
[[daemonsets]]
name = 'kube-proxy'
critical = true
host_network = true
hostname_override = false
[[daemonsets]]
name = 'aws-node'
critical = true
host_network = true
needs = 'kube-proxy'
makes_ready = true
[[daemonsets]]
name = 'kiam-agent'
critical = true
needs = 'kube-proxy'
[[daemonsets]]
name = 'ebs-csi-node'
critical = true
";

/// A group beside it, and a DaemonSet of that group's nodes alone: what comes after it starts nowhere else.
const ELSEWHERE: &str = "
[[groups]]
name = 'elsewhere'
nodes = 1
zones = ['us-west-2a']
[[daemonsets]]
name = 'aside'
groups = ['elsewhere']
";

/// A cluster with that group, whose DaemonSet `aside` no node of another has.
pub fn with_elsewhere(scenario: &str) -> String {
    scenario.replacen("[[daemonsets]]", &format!("{ELSEWHERE}[[daemonsets]]"), 1)
}

/// The same with both managed by EKS.
pub fn managed() -> String {
    FAULTY
        .replace("name = 'kube-proxy'\n", "name = 'kube-proxy'\naddon = true\n")
        .replace("name = 'aws-node'\n", "name = 'aws-node'\naddon = true\n")
}

pub type SimRemedy = Remedy<SimCloud, SimCluster>;

pub struct Bench {
    pub sim: Simulation,
    pub remedy: SimRemedy,
}

impl Bench {
    /// With the shipped fixes and those of `mine`, files' texts.
    pub fn new(scenario: &str, mine: &[&str]) -> Self {
        let text = format!("name='test'\nabout='test'\ncluster='test'\n{scenario}");
        let sim = World::start(&Scenario::parse(&text, "test.toml").unwrap(), 7);
        let mut all = Catalogue::shipped().unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (number, fix) in mine.iter().enumerate() {
            let path = folder.path().join(format!("{number}.yaml"));
            std::fs::write(&path, fix).unwrap();
            all = all.with(Path::new(&path)).unwrap();
        }
        let (cloud, cluster) = (Rc::new(sim.cloud.clone()), Rc::new(sim.cluster.clone()));
        let waiter = Some("registry.example.com/fastnode:0.1.0".to_owned());
        let remedy = Remedy::new(cloud, cluster, sim.clock, "test".into(), all, waiter);
        Self { sim, remedy }
    }

    /// A DaemonSet of kube-system as it is.
    pub async fn read(&self, name: &str) -> Value {
        self.sim.cluster.daemonset(&key(name)).await.unwrap().unwrap()
    }

    /// What is proposed with no particular leave.
    pub async fn propose(&self, fix: &str) -> Proposal {
        self.remedy.propose(fix, &Options::default()).await.unwrap()
    }

    /// Proposes and applies.
    pub async fn apply(&self, fix: &str, options: Options) -> Proposal {
        let proposal = self.remedy.propose(fix, &options).await.unwrap();
        assert!(proposal.is_open(), "{fix}: {:?}, {:?}", proposal.state, proposal.way);
        self.remedy.apply(&proposal).await.unwrap();
        proposal
    }

    /// Takes a fix back.
    pub async fn revert(&self, fix: &str) {
        let undo = self.remedy.propose_revert(fix).await.unwrap();
        self.remedy.revert(&undo).await.unwrap();
    }

    /// Why a fix is not taken back.
    pub async fn no_way_back(&self, fix: &str) -> String {
        match self.remedy.propose_revert(fix).await.unwrap_err() {
            Error::Refused { why, .. } => why,
            other => panic!("{other}"),
        }
    }
}

/// The cluster as its watches show it, kept up.
pub struct Seen(Rc<RefCell<Snapshot>>);

impl Seen {
    pub async fn begin(sim: &Simulation) -> Self {
        let (sink, mut facts) = mpsc::channel(1024);
        let snapshot = Rc::new(RefCell::new(Snapshot::default()));
        let known = Rc::clone(&snapshot);
        tokio::task::spawn_local(async move {
            while let Some(fact) = facts.recv().await {
                known.borrow_mut().apply(fact);
            }
        });
        sim.cluster.watch(sink).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        Self(snapshot)
    }

    pub fn now(&self) -> Ref<'_, Snapshot> {
        self.0.borrow()
    }
}

impl Onlooker for Seen {
    async fn turn_to(&self, _: &ObjectKey) {}

    fn pods(&self, set: &ObjectKey) -> Vec<PodView> {
        PodView::all(&self.now(), set)
    }

    fn going(&self, _: &ObjectKey, _: &Going) {}
}

pub fn key(name: &str) -> ObjectKey {
    ObjectKey::new("kube-system", name)
}

pub fn is_applied(proposal: &Proposal) -> bool {
    matches!(proposal.state, State::Applied(_))
}

/// Runs a test on virtual time.
pub fn on_virtual_time<F: Future>(test: impl FnOnce() -> F) -> F::Output {
    let runtime = sim::runtime().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async { test().await })
}

/// Lines that a diff adds and takes away, without its head.
pub fn changes(diff: &str) -> Vec<&str> {
    let head = |line: &&str| line.starts_with("+++") || line.starts_with("---");
    diff.lines().filter(|line| line.starts_with(['+', '-']) && !head(line)).collect()
}
