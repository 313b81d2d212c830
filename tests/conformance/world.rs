//! The two worlds behind one port.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastnode::clock::Clock;
use fastnode::cloud::aws::{AwsCloud, AwsOptions};
use fastnode::cloud::{Cloud, Error, GroupState, InstanceDetail, Result};
use fastnode::model::{Activity, GroupName, Instance, InstanceId, Lifecycle, Process, Target, Text};
use fastnode::sim::{self, Scenario, SimCloud, Simulation};
use jiff::Timestamp;

use crate::making::Setup;

/// Longer than anything here takes that is going to happen.
const SOON: Duration = Duration::from_secs(60);
/// Longer than a group takes to act, so that what has not happened by then was not going to.
const QUIET: Duration = Duration::from_secs(4);

enum Port {
    Simulated(Box<SimCloud>),
    Engine(Box<AwsCloud>),
}

/// A world with the one group of a case in it.
pub struct World {
    port: Port,
    _simulation: Option<Simulation>,
    pub group: GroupName,
    warm: Vec<InstanceId>,
}

macro_rules! ask {
    ($world:expr, $method:ident($($argument:expr),*)) => {
        match &$world.port {
            Port::Simulated(cloud) => cloud.$method($($argument),*).await,
            Port::Engine(cloud) => cloud.$method($($argument),*).await,
        }
    };
}

/// Runs a case in the world that the environment names.
pub fn on(setup: Setup, case: impl AsyncFnOnce(&World)) {
    let on_engine = std::env::var_os("FASTNODE_CONFORMANCE").is_some();
    let runtime = if on_engine {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    } else {
        sim::runtime().unwrap()
    };
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let world = if on_engine { World::on_engine(&setup).await } else { World::simulated(&setup) };
        case(&world).await;
    });
}

impl World {
    fn simulated(setup: &Setup) -> Self {
        let scenario = Scenario::parse(&setup.scenario(), setup.name).unwrap();
        let simulation = sim::World::start(&scenario, 1);
        Self {
            port: Port::Simulated(Box::new(simulation.cloud.clone())),
            _simulation: Some(simulation),
            group: setup.name.into(),
            warm: Vec::new(),
        }
    }

    async fn on_engine(setup: &Setup) -> Self {
        let endpoint = std::env::var("AWS_ENDPOINT_URL").expect("AWS_ENDPOINT_URL is the engine's endpoint");
        let warm = setup.make(&endpoint);
        let cloud = AwsCloud::connect(AwsOptions::new(Clock::wall())).await.unwrap();
        Self { port: Port::Engine(Box::new(cloud)), _simulation: None, group: setup.name.into(), warm }
    }

    // -- what the port shows -------------------------------------------------------------

    pub async fn state(&self) -> GroupState {
        let mut groups = ask!(self, groups(self.group.as_str())).unwrap();
        assert_eq!(groups.len(), 1, "one group is tagged for this cluster: {groups:?}");
        groups.remove(0)
    }

    pub async fn groups_of(&self, cluster: &str) -> Vec<GroupState> {
        ask!(self, groups(cluster)).unwrap()
    }

    /// Newest first.
    pub async fn activities(&self) -> Vec<Activity> {
        ask!(self, activities(&self.group, Timestamp::UNIX_EPOCH)).unwrap()
    }

    pub async fn activities_of(&self, group: &str) -> Result<Vec<Activity>> {
        ask!(self, activities(&group.into(), Timestamp::UNIX_EPOCH))
    }

    pub async fn detail(&self, id: &InstanceId) -> Option<InstanceDetail> {
        ask!(self, instances(std::slice::from_ref(id))).unwrap().into_iter().next()
    }

    pub async fn resolve(&self, target: &Target) -> Target {
        ask!(self, resolve(target)).unwrap()
    }

    /// Warm instances: listed with the group, or apart.
    pub async fn warm(&self) -> Vec<InstanceId> {
        let listed = self.state().await.instances.into_iter().filter(|i| i.lifecycle == Lifecycle::Warmed);
        listed.map(|i| i.id).chain(self.warm.iter().cloned()).collect()
    }

    // -- what it does ----------------------------------------------------------------------

    pub async fn try_desired(&self, desired: u32) -> Result<()> {
        ask!(self, set_desired(&self.group, desired))
    }

    pub async fn desired(&self, desired: u32) {
        self.try_desired(desired).await.unwrap();
    }

    pub async fn desired_of(&self, group: &str, desired: u32) -> Result<()> {
        ask!(self, set_desired(&group.into(), desired))
    }

    pub async fn try_max(&self, max: u32) -> Result<()> {
        ask!(self, set_max(&self.group, max))
    }

    pub async fn try_terminate(&self, id: &InstanceId, decrement: bool) -> Result<Activity> {
        ask!(self, terminate(id, decrement))
    }

    pub async fn terminate(&self, id: &InstanceId) -> Activity {
        self.try_terminate(id, false).await.unwrap()
    }

    pub async fn decrement(&self, id: &InstanceId) -> Activity {
        self.try_terminate(id, true).await.unwrap()
    }

    pub async fn try_protect(&self, ids: &[InstanceId], protected: bool) -> Result<()> {
        ask!(self, protect(&self.group, ids, protected))
    }

    pub async fn protect(&self, ids: &[InstanceId], protected: bool) {
        self.try_protect(ids, protected).await.unwrap();
    }

    pub async fn suspend(&self, process: &str) {
        ask!(self, suspend(&self.group, &processes(process))).unwrap();
    }

    pub async fn resume(&self, process: &str) {
        ask!(self, resume(&self.group, &processes(process))).unwrap();
    }

    pub async fn tag(&self, key: &str, value: &str) -> Result<()> {
        ask!(self, tag(&self.group, &BTreeMap::from([(Text::from(key), Text::from(value))])))
    }

    pub async fn untag(&self, key: &str) {
        ask!(self, untag(&self.group, &BTreeSet::from([Text::from(key)]))).unwrap();
    }

    // -- waiting ---------------------------------------------------------------------------

    /// The group once it is so; fails where that does not come.
    pub async fn until(&self, what: &str, is_so: impl Fn(&GroupState) -> bool) -> GroupState {
        let end = tokio::time::Instant::now() + SOON;
        loop {
            let state = self.state().await;
            if is_so(&state) {
                return state;
            }
            assert!(tokio::time::Instant::now() < end, "it never came that {what}: {}", told(&state));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The group after so long that whatever was going to happen has.
    pub async fn quiet(&self) -> GroupState {
        tokio::time::sleep(QUIET).await;
        self.state().await
    }

    /// The group with all of desired in service and nothing on its way.
    pub async fn settled(&self) -> GroupState {
        self.until("it is settled", |state| {
            let serving = in_service(state).len() as u32;
            let moving = |i: &Instance| matches!(i.lifecycle, Lifecycle::Pending | Lifecycle::Terminating);
            serving == state.group.desired && !state.instances.iter().any(moving)
        })
        .await
    }
}

fn processes(name: &str) -> BTreeSet<Process> {
    BTreeSet::from([Process(name.into())])
}

/// Instances and where they stand, for a message.
fn told(state: &GroupState) -> String {
    let each = state.instances.iter().map(|i| format!("{} {:?} in {}", i.id, i.lifecycle, i.zone));
    format!("desired {}, {}", state.group.desired, each.collect::<Vec<_>>().join(", "))
}

/// Ids in service, the longest-serving first in neither world's order.
pub fn in_service(state: &GroupState) -> Vec<InstanceId> {
    of(state, &Lifecycle::InService)
}

pub fn of(state: &GroupState, lifecycle: &Lifecycle) -> Vec<InstanceId> {
    state.instances.iter().filter(|i| i.lifecycle == *lifecycle).map(|i| i.id.clone()).collect()
}

/// Instances that count in desired, by zone.
pub fn per_zone(state: &GroupState) -> BTreeMap<&str, u32> {
    let mut zones: BTreeMap<&str, u32> = state.group.zones.iter().map(|z| (z.as_str(), 0)).collect();
    for instance in state.instances.iter().filter(|i| i.lifecycle.counts_in_desired()) {
        *zones.entry(instance.zone.as_str()).or_default() += 1;
    }
    zones
}

pub fn counted(state: &GroupState) -> u32 {
    per_zone(state).values().sum()
}

pub fn instance<'a>(state: &'a GroupState, id: &InstanceId) -> Option<&'a Instance> {
    state.instances.iter().find(|i| i.id == *id)
}

/// Ids in service in a zone.
pub fn in_zone(state: &GroupState, zone: &str) -> Vec<InstanceId> {
    let there = state.instances.iter().filter(|i| *i.zone.as_str() == *zone && i.lifecycle == Lifecycle::InService);
    there.map(|i| i.id.clone()).collect()
}

/// Asserts that an error is of a kind and says these words.
pub fn says(error: &Error, kind: fastnode::cloud::ErrorKind, words: &str) {
    assert_eq!(error.kind, kind, "{error}");
    assert!(error.to_string().contains(words), "{error}\n--- does not say\n{words}");
}
