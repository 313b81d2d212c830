//! From settings to the two ports: the real ones, or the simulator's.

use std::ffi::OsString;
use std::rc::Rc;

use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::LocalSet;
use toml::{Table, Value};

use super::exit::Exit;
use super::failure::{Failure, chain};
use super::signals;
use crate::clock::Clock;
use crate::cloud::Cloud;
use crate::cloud::addons::Addons;
use crate::cloud::aws::{AwsCloud, AwsOptions};
use crate::cluster::Cluster;
use crate::cluster::access::{Access, Way};
use crate::cluster::kube::KubeCluster;
use crate::cluster::manifests::Manifests;
use crate::config::{self, Config, Speed};
use crate::controller::{Interrupt, Ports, Settings};
use crate::model::ObjectKey;
use crate::{cloud, cluster, sim};

/// What a verb does, whatever the world is.
#[expect(async_fn_in_trait, reason = "everything runs on one current-thread runtime; no future needs Send")]
pub trait Task {
    /// What it comes to.
    type Outcome;
    /// Does it.
    async fn run<C, K>(self, world: World<C, K>) -> Result<Self::Outcome, Failure>
    where
        C: Cloud + Addons + cloud::evidence::Evidence + 'static,
        K: Cluster + Manifests + cluster::evidence::Evidence + 'static;
}

/// A world to act on.
pub struct World<C, K> {
    /// The ports.
    pub ports: Ports<C, K>,
    /// The settings for the controller.
    pub settings: Settings,
    /// Ctrl-C and SIGTERM.
    pub interrupt: watch::Receiver<Option<Interrupt>>,
    /// Tells a simulation how long the run is expected to take, in seconds, so that it can be watched.
    pub pace: Box<dyn Fn(f64)>,
}

/// Runs `task` on the world that the settings name.
///
/// # Errors
/// What the task, or the way to the world, fails with.
pub fn run<T: Task>(config: Config, watched: bool, task: impl FnOnce(&Config) -> T) -> Result<T::Outcome, Failure> {
    match config.text("simulate")?.map(str::to_owned) {
        Some(scenario) => simulated(config, &scenario, watched, task),
        None => real(&config, task(&config)),
    }
}

fn real<T: Task>(config: &Config, task: T) -> Result<T::Outcome, Failure> {
    let Some(cluster) = config.text("cluster")? else {
        return Err(Failure::new(Exit::Usage, "failed to tell which cluster is meant")
            .hint("name it with --cluster NAME, or try --simulate for a simulated one"));
    };
    // The only error is that a provider is installed already: then one is there.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    drive(runtime, async {
        let interrupt = signals::listen()?;
        let clock = Clock::wall();
        let settings = settings(config, cluster, clock.now().as_nanosecond() as u64)?;
        let ports = tokio::select! {
            biased;
            signal = signals::received(interrupt.clone()) => {
                return Err(Failure::new(signal.into(), "interrupted: nothing was changed"));
            }
            ports = connect(config, cluster, clock, settings.seed) => ports?,
        };
        task.run(World { ports, settings, interrupt, pace: Box::new(|_| {}) }).await
    })
}

/// Runs `work` and what it spawns to the end of `work`.
fn drive<T>(runtime: Runtime, work: impl Future<Output = T>) -> T {
    let tasks = LocalSet::new();
    let outcome = tasks.block_on(&runtime, work);
    // The tasks that are left hold connections, which ask for the runtime as they are dropped.
    let inside = runtime.enter();
    drop(tasks);
    drop(inside);
    // A question nobody answers must not hold the end up.
    runtime.shutdown_background();
    outcome
}

async fn connect(
    config: &Config,
    name: &str,
    clock: Clock,
    seed: u64,
) -> Result<Ports<AwsCloud, KubeCluster>, Failure> {
    check_endpoints(std::env::vars_os())?;
    let text = |key| config.text(key).map(|text| text.map(str::to_owned));
    let options = AwsOptions { region: text("region")?, profile: text("profile")?, ..AwsOptions::new(clock) };
    let cloud = AwsCloud::connect(options).await?;
    let path = text("kubeconfig")?.map(std::path::PathBuf::from);
    let context = text("context")?;
    // KUBECONFIG may be a list of files, which only kube's own rules can read: it counts as named, not as a path.
    let by_variable = std::env::var_os("KUBECONFIG").is_some_and(|v| !v.is_empty());
    let way = match (&path, by_variable) {
        (None, true) => Way::Kubeconfig { path: None, context },
        _ => Way::choose(path.as_deref(), context.as_deref(), Way::in_pod()),
    };
    let access = match way {
        Way::Eks => Access::Eks { cluster: cloud.cluster(name).await?, tokens: Rc::new(cloud.token_source(name)) },
        Way::Kubeconfig { path, context } => Access::Kubeconfig { path, context },
        Way::InCluster => Access::InCluster,
    };
    let cluster = KubeCluster::new(access.connect().await?, seed);
    Ok(Ports { cloud: Rc::new(cloud), cluster: Rc::new(cluster), clock })
}

/// `AWS_ENDPOINT_URL` and those of single services: the SDK would name a wrong one by its own innards.
fn check_endpoints(variables: impl Iterator<Item = (OsString, OsString)>) -> Result<(), Failure> {
    for (name, value) in variables {
        let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
        let url: Option<http::Uri> = value.parse().ok();
        let is_url = url.is_some_and(|u| matches!(u.scheme_str(), Some("http" | "https")) && u.host().is_some());
        if name.starts_with("AWS_ENDPOINT_URL") && !value.is_empty() && !is_url {
            let message = format!("failed to read {name}: {value:?} is not a URL such as https://eks.example.com");
            return Err(Failure::new(Exit::Usage, message));
        }
    }
    Ok(())
}

fn simulated<T: Task>(
    config: Config,
    scenario: &str,
    watched: bool,
    task: impl FnOnce(&Config) -> T,
) -> Result<T::Outcome, Failure> {
    let mut scenario = sim::Scenario::load(scenario).map_err(|e| Failure::new(Exit::Usage, chain(&e)))?;
    let choices = Table::try_from(&scenario.policy).map_err(|e| Failure::new(Exit::Unexpected, chain(&e)))?;
    // A switch that a scenario leaves off is no choice of its own.
    let choices = choices.into_iter().filter(|(_, v)| *v != Value::Boolean(false));
    let config = config.with_scenario(&scenario.name, choices.map(|(k, v)| (k.replace('_', "-"), v)).collect());
    // The simulated cluster answers to the name that the user gives it.
    if let Some(cluster) = config.text("cluster")? {
        cluster.clone_into(&mut scenario.cluster);
    }
    if scenario.faults.crash_at.is_some() {
        let why = "faults.crash_at is for tests, which start fastnode again: expected a scenario without it";
        return Err(Failure::new(Exit::Usage, why));
    }
    let seed = config.number("seed", 0_u64)?;
    let speed = config.speed()?;
    let task = task(&config);
    let runtime = sim::runtime()?;
    drive(runtime, async {
        let interrupt = signals::listen()?;
        let simulation = Rc::new(sim::World::start(&scenario, seed));
        let settings = Settings {
            // The same bytes each time: nothing of this machine or process.
            identity: "simulation".to_owned(),
            ..settings(&config, &scenario.cluster, seed)?
        };
        let ports = Ports {
            cloud: Rc::new(simulation.cloud.clone()),
            cluster: Rc::new(simulation.cluster.clone()),
            clock: simulation.clock,
        };
        let paced = Rc::clone(&simulation);
        let pace = move |expected_s| match speed {
            Speed::Times(factor) => paced.pace(sim::Speed::Times(factor)),
            Speed::Auto if watched => paced.pace(sim::Speed::Auto { expected_s }),
            Speed::Auto | Speed::Max => paced.pace(sim::Speed::Max),
        };
        task.run(World { ports, settings, interrupt, pace: Box::new(pace) }).await
    })
}

fn settings(config: &Config, cluster: &str, seed: u64) -> Result<Settings, Failure> {
    Ok(Settings {
        cluster: cluster.into(),
        policy: config.policy()?,
        namespace: config.state_namespace()?,
        identity: identity(),
        own_node: variable(config::NODE_VARIABLE).map(Into::into),
        own_pod: own_pod(),
        seed,
    })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// The pod we run in: as the downward API tells it, else by its host name and its service account's namespace.
fn own_pod() -> Option<ObjectKey> {
    let by_account = || std::fs::read_to_string(config::NAMESPACE_FILE).ok().map(|n| n.trim().to_owned());
    let namespace = variable(config::NAMESPACE_VARIABLE).or_else(by_account)?;
    let name = variable(config::POD_VARIABLE).or_else(|| variable("HOSTNAME"))?;
    Some(ObjectKey::new(&namespace, &name))
}

/// `user@host/pid`; in a pod the host is the pod's name.
fn identity() -> String {
    let user = variable("USER").or_else(|| variable("LOGNAME")).unwrap_or_else(|| "fastnode".to_owned());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|h| h.trim().to_owned());
    let host = host.or_else(|| variable("HOSTNAME")).unwrap_or_else(|| "localhost".to_owned());
    format!("{user}@{host}/{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::runtime::{Builder, Handle};

    use super::*;

    /// Notes whether there is a runtime as it is dropped: hyper's connections begin a task then.
    struct Connection(Rc<Cell<Option<bool>>>);

    impl Drop for Connection {
        fn drop(&mut self) {
            self.0.set(Some(Handle::try_current().is_ok()));
        }
    }

    #[test]
    fn what_tasks_hold_is_dropped_while_the_runtime_is_there() {
        let seen = Rc::new(Cell::new(None));
        let connection = Connection(Rc::clone(&seen));
        drive(Builder::new_current_thread().enable_all().build().unwrap(), async move {
            tokio::task::spawn_local(async move {
                std::future::pending::<()>().await;
                drop(connection);
            });
            tokio::task::yield_now().await;
        });
        assert_eq!(seen.get(), Some(true));
    }
}
