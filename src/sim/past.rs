//! How the nodes came up that were there before the scenario began: by the same causes as those that come later.
//!
//! A few new nodes of each group are launched in a world of their own, in which there is nothing else and nothing goes
//! wrong but what the scenario's DaemonSets do to each other. The old nodes then show what these showed, at the time
//! at which they were new: their Node's Ready, their pods' containers, restarts and logs.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::model::{Condition, Container, ContainerState, LastRun, Pod};

use super::Faults;
use super::scenario::Scenario;
use super::start::Startup;
use super::workloads::{Origin, PodState};
use super::world::{ORIGIN, World};

/// Nodes of a group that are launched to see how its nodes come up.
const NODES: u32 = 6;
/// So long they may take, microseconds; what is not up by then was never up on an old node either.
const LIMIT: u64 = 3_600_000_000;
/// The world's seed is changed so, to have other numbers than the nodes that come later.
const OTHER: u64 = 0x7061_7374;

/// How a node came up.
#[derive(Debug)]
pub(super) struct Came {
    /// From its instance's launch to its Node's creation.
    pub(super) joined: SignedDuration,
    /// Its Node's creation.
    created: Timestamp,
    /// Its Ready condition.
    ready: Condition,
    /// Its DaemonSet pods by DaemonSet.
    daemons: BTreeMap<usize, (Pod, Startup)>,
}

/// How the nodes of each group came up, by the group's place; empty where they do not come up by themselves.
pub(super) type Past = Vec<Vec<Came>>;

impl World {
    /// Lets new nodes of a scenario's groups come up.
    pub(super) fn past(scenario: &Scenario, seed: u64) -> Past {
        if scenario.groups.iter().all(|g| g.nodes + g.standby + g.detaching == 0) {
            return Vec::new();
        }
        let mut early = Scenario { faults: Faults::default(), workloads: Vec::new(), ..scenario.clone() };
        for group in &mut early.groups {
            (group.nodes, group.standby, group.detaching, group.warm) = (0, 0, 0, 0);
            group.min = 0;
            group.suspended.clear();
        }
        let mut world = Self::new(&early, seed ^ OTHER);
        for group in 0..world.groups.len() {
            world.groups[group].record.desired = NODES;
            world.reconcile(group);
        }
        world.advance(LIMIT);
        (0..world.groups.len()).map(|group| world.came(group)).collect()
    }

    /// How those nodes of a group came up that have all that is critical.
    fn came(&self, group: usize) -> Vec<Came> {
        let nodes = self.nodes.iter().filter(|n| n.group == group && n.functional);
        let came = nodes.filter_map(|node| {
            let pods = node.daemons.iter().filter_map(|(daemon, pod)| {
                let state = self.pods[*pod as usize].as_ref().filter(|p| p.record.flags.ready)?;
                Some((*daemon, (state.record.clone(), state.startup.as_deref()?.clone())))
            });
            Some(Came {
                joined: node.record.created.duration_since(self.instances[node.instance].launched),
                created: node.record.created,
                ready: node.record.conditions.get("Ready")?.clone(),
                daemons: pods.collect(),
            })
        });
        came.collect()
    }

    /// Gives a node that was there before the scenario began, and its DaemonSet pods, a start like this one's.
    pub(super) fn relive(&mut self, node: usize, came: &Came) {
        let record = &mut self.nodes[node].record;
        let later = record.created.duration_since(came.created);
        let since = came.ready.since.map(|since| since + later);
        record.conditions.insert("Ready".into(), Condition { since, ..came.ready.clone() });
        for pod in self.nodes[node].daemons.values() {
            let Some(state) = self.pods[*pod as usize].as_mut() else { continue };
            let Origin::Daemon(daemon) = state.origin else { continue };
            if let Some(like) = came.daemons.get(&daemon) {
                relive_pod(state, like, later);
            }
        }
    }
}

fn relive_pod(state: &mut PodState, (pod, startup): &(Pod, Startup), later: SignedDuration) {
    let then = |at: Option<Timestamp>| at.map(|at| at + later);
    let record = &mut state.record;
    record.phase = pod.phase;
    record.flags.ready = pod.flags.ready;
    record.created = pod.created + later;
    record.scheduled = then(pod.scheduled);
    record.initialized = then(pod.initialized);
    record.ready_since = then(pod.ready_since);
    let run = |run: &LastRun| LastRun { started: then(run.started), finished: then(run.finished), ..run.clone() };
    let container = |c: &Container| Container {
        state: match &c.state {
            ContainerState::Running(since) => ContainerState::Running(then(*since)),
            ContainerState::Terminated(last) => ContainerState::Terminated(run(last)),
            waiting @ ContainerState::Waiting(_) => waiting.clone(),
        },
        last: c.last.as_ref().map(run),
        ..c.clone()
    };
    record.containers = pod.containers.iter().map(container).collect();
    let mut startup = Box::new(startup.clone());
    startup.begin = ORIGIN + later;
    state.startup = Some(startup);
}
