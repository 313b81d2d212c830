//! A small cluster rotated by the production controller on the simulator, every time a constant.

use std::fmt::Write as _;
use std::time::Duration;

use fastnode::controller::{self, Settings};
use fastnode::event::{Event, Report};
use fastnode::plan::Verdict;
use fastnode::sim::{self, Scenario, World};
use tokio::sync::{mpsc, watch};

use super::runs::{ports, settings};
use super::search::{Case, Group};

/// No rotation here takes so long.
const TOO_LONG: Duration = Duration::from_secs(12 * 3600);
/// Part of B.
const SOAK: u32 = 10;

/// The scenario of a case, as TOML.
pub fn scenario(case: &Case) -> String {
    let first = &case.groups[0];
    let surge = case.groups.iter().map(|g| g.surge).max().unwrap_or(0);
    let unavailable = case.groups.iter().map(|g| g.unavailable).max().unwrap_or(0);
    let mut text = format!(
        "name = 'small'\nabout = 'constants'\ncluster = 'small'\n\
         [policy]\nsurge = '{surge}'\nunavailable = '{unavailable}'\ndrains = '{}'\ncanary = {}\nsoak = '{SOAK}s'\n\
         drain_timeout = 'never'\njoin_timeout = '2h'\ngate_timeout = '2h'\n",
        first.drains, first.canary
    );
    if let Some(max) = case.max_drains {
        let _ = writeln!(text, "max_drains = {max}");
    }
    let zero = "[0.0, 0.0]";
    let _ = writeln!(text, "[times]\nterminate_s = [{}.0, 0.0]\naws_ms = [0.0, 0.0]\nkube_ms = [0.0, 0.0]", first.x);
    for key in ["reaction", "in_service", "boot", "join", "node_ready", "node_gone", "start", "ready"] {
        let _ = writeln!(text, "{key}_s = {zero}");
    }
    for (n, group) in case.groups.iter().enumerate() {
        let _ = writeln!(
            text,
            "[[groups]]\nname = 'g{n}'\nnodes = {}\nmax = {}\nzones = ['a']",
            group.nodes,
            group.nodes + surge
        );
    }
    // The network's agent takes what a launch of its group takes, the soak aside.
    for (n, group) in case.groups.iter().enumerate() {
        let _ = writeln!(
            text,
            "[[daemonsets]]\nname = 'agent-{n}'\ngroups = ['g{n}']\nmakes_ready = true\nready_s = {zero}\n\
             start_s = [{}.0, 0.0]",
            group.b - SOAK
        );
    }
    for (n, group) in case.groups.iter().enumerate() {
        text += &workloads(n, group);
    }
    text
}

fn workloads(n: usize, group: &Group) -> String {
    let workload = |name: &str, replicas: u32, more: &str| {
        format!(
            "[[workloads]]\nname = '{name}-{n}'\nreplicas = {replicas}\ncpu_m = 10\ngroups = ['g{n}']\n\
             grace_s = [{}.0, 0.0]\n{more}",
            group.d
        )
    };
    let mut text = String::new();
    if let Some(budget) = group.budget {
        let more = format!("ready_s = [{}.0, 0.0]\nbudgets = [{{ max_unavailable = 1 }}]\n", budget.recovers);
        text += &workload("bound", budget.nodes, &more);
    }
    // Enough that each node has one.
    text + &workload("free", group.nodes * 3, "")
}

async fn rotate(case: &Case, seed: u64, tell: bool) -> Result<Report, String> {
    let scenario = Scenario::parse(&scenario(case), "the case").map_err(|e| e.to_string())?;
    let simulation = World::start(&scenario, seed);
    let settings = Settings { seed, ..settings(&scenario.cluster, scenario.policy()) };
    let (sink, mut events) = mpsc::channel::<Event>(256);
    let (_stop, interrupt) = watch::channel(None);
    let listen = async {
        while let Some(event) = events.recv().await {
            let line = serde_json::to_string(&event).unwrap();
            if tell && !line.contains("\"kind\":\"tick\"") && !line.contains("\"kind\":\"progress\"") {
                println!("{line}");
            }
        }
    };
    let act = async {
        let rotation = controller::rotate(ports(&simulation), settings, async |_, _, _| true, sink, interrupt);
        match tokio::time::timeout(TOO_LONG, rotation).await {
            Err(_) => Err("it goes on for ever".to_owned()),
            Ok(result) => result.map_err(|e| e.to_string()),
        }
    };
    let (report, ()) = tokio::join!(act, listen);
    match report? {
        report if report.outcome == Verdict::Done => Ok(report),
        report => Err(format!("fastnode ended {:?}", report.outcome)),
    }
}

fn on_virtual_time<F: Future>(test: F) -> F::Output {
    let runtime = sim::runtime().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test)
}

/// How long fastnode takes; what went wrong, if it did not go all the way.
pub fn seconds(case: &Case, seed: u64) -> Result<f64, String> {
    on_virtual_time(rotate(case, seed, false)).map(|report| report.duration_s)
}

/// Prints every event of the rotation.
pub fn tell(case: &Case, seed: u64) {
    println!("{:#?}", on_virtual_time(rotate(case, seed, true)));
}
