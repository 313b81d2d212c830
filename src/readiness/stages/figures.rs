//! Percentiles over nodes: of the stages, of each DaemonSet's steps, and how often what was on the path.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{NodeStart, Stage, Step, seconds};
use crate::event::Percentiles;
use crate::model::{ObjectKey, Text};

/// Percentiles, and of how many nodes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampled {
    /// Nodes that show it.
    pub nodes: u32,
    /// Seconds.
    #[serde(flatten)]
    pub seconds: Percentiles,
}

/// A DaemonSet over nodes; times are from the Node's creation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetFigures {
    /// Nodes wait for it.
    pub gated: bool,
    /// Nodes that show its first-generation pod.
    pub nodes: u32,
    /// To its pod's being bound.
    pub scheduled: Option<Sampled>,
    /// To its init containers' end.
    pub initialized: Option<Sampled>,
    /// To the last start of its containers.
    pub started: Option<Sampled>,
    /// To its pod's being Ready.
    pub ready: Option<Sampled>,
    /// Restarts of its containers, over all of these nodes.
    pub restarts: u32,
    /// Nodes on which it was restarted.
    pub restarted_on: u32,
}

/// A step's share in the critical paths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathShare {
    /// The DaemonSet; `None` for the node itself.
    pub daemonset: Option<ObjectKey>,
    /// Which of its steps.
    pub step: Step,
    /// Nodes whose path it is on.
    pub nodes: u32,
    /// Seconds a node, the mean over *all* nodes whose path is known.
    pub mean_s: f64,
}

/// Figures over some nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// How many nodes.
    pub nodes: u32,
    /// Each stage that at least one of them shows.
    pub stages: BTreeMap<Stage, Sampled>,
    /// Restarts of gated containers, over all of them.
    pub restarts: u32,
    /// Nodes with at least one.
    pub restarted_nodes: u32,
    /// Each DaemonSet.
    pub daemonsets: BTreeMap<Text, SetFigures>,
    /// Nodes whose critical path is known.
    pub paths: u32,
    /// What the paths are made of, in the order of a start.
    pub critical_path: Vec<PathShare>,
}

impl Figures {
    /// The figures of these nodes.
    pub fn of<'a>(starts: impl IntoIterator<Item = &'a NodeStart> + Clone) -> Self {
        let all = || starts.clone().into_iter();
        let stage = |stage| {
            let samples: Vec<f64> = all().filter_map(|s| s.moments.seconds(stage)).collect();
            Some((stage, sampled(&samples)?))
        };
        Self {
            nodes: all().count() as u32,
            stages: Stage::ALL.into_iter().filter_map(stage).collect(),
            restarts: all().map(NodeStart::restarts).sum(),
            restarted_nodes: all().filter(|s| s.restarts() > 0).count() as u32,
            daemonsets: sets(all()),
            paths: all().filter(|s| !s.path.is_empty()).count() as u32,
            critical_path: shares(all()),
        }
    }

    /// What each DaemonSet has of the critical paths altogether: seconds a node.
    pub fn waits(&self) -> BTreeMap<&ObjectKey, f64> {
        let mut waits: BTreeMap<&ObjectKey, f64> = BTreeMap::new();
        for share in &self.critical_path {
            if let Some(daemonset) = &share.daemonset {
                *waits.entry(daemonset).or_default() += share.mean_s;
            }
        }
        waits
    }

    /// The median of a stage, seconds.
    pub fn median(&self, stage: Stage) -> Option<f64> {
        self.stages.get(&stage).map(|s| s.seconds.p50)
    }
}

fn sampled(samples: &[f64]) -> Option<Sampled> {
    (!samples.is_empty()).then(|| Sampled { nodes: samples.len() as u32, seconds: Percentiles::of(samples) })
}

fn sets<'a>(starts: impl Iterator<Item = &'a NodeStart>) -> BTreeMap<Text, SetFigures> {
    #[derive(Default)]
    struct Samples {
        gated: bool,
        nodes: u32,
        steps: [Vec<f64>; 4],
        restarts: u32,
        restarted_on: u32,
    }
    let mut sets: BTreeMap<&ObjectKey, Samples> = BTreeMap::new();
    for start in starts {
        for chain in &start.daemonsets {
            let set = sets.entry(&chain.daemonset).or_default();
            set.gated = chain.gated;
            set.nodes += 1;
            let moments = [chain.scheduled, chain.initialized, chain.started, chain.ready];
            for (samples, at) in set.steps.iter_mut().zip(moments) {
                samples.extend(at.map(|at| seconds(start.moments.joined, at)));
            }
            set.restarts += chain.restarts.unwrap_or(0);
            set.restarted_on += u32::from(chain.restarts.is_some_and(|n| n > 0));
        }
    }
    let figures = |(key, samples): (&ObjectKey, Samples)| {
        let [scheduled, initialized, started, ready] = samples.steps.map(|s| sampled(&s));
        let Samples { gated, nodes, restarts, restarted_on, .. } = samples;
        let set = SetFigures { gated, nodes, scheduled, initialized, started, ready, restarts, restarted_on };
        (Text::from(key.to_string()), set)
    };
    sets.into_iter().map(figures).collect()
}

/// In the order in which the steps begin, by their mean.
fn shares<'a>(starts: impl Iterator<Item = &'a NodeStart>) -> Vec<PathShare> {
    #[derive(Default)]
    struct Sum {
        nodes: u32,
        seconds: f64,
        begins: f64,
    }
    let mut paths = 0_u32;
    let mut sums: BTreeMap<(Option<&ObjectKey>, Step), Sum> = BTreeMap::new();
    for start in starts.filter(|s| !s.path.is_empty()) {
        paths += 1;
        for segment in &start.path {
            let sum = sums.entry((segment.daemonset.as_ref(), segment.step)).or_default();
            sum.nodes += 1;
            sum.seconds += segment.seconds();
            // Signed: what is before the Node's creation comes first.
            sum.begins += segment.from.duration_since(start.moments.joined).as_secs_f64();
        }
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    let mean = |sum: &Sum| sum.begins / f64::from(sum.nodes.max(1));
    sums.sort_by(|(_, a), (_, b)| mean(a).total_cmp(&mean(b)));
    let share = |((daemonset, step), sum): ((Option<&ObjectKey>, Step), Sum)| PathShare {
        daemonset: daemonset.cloned(),
        step,
        nodes: sum.nodes,
        mean_s: sum.seconds / f64::from(paths.max(1)),
    };
    sums.into_iter().map(share).collect()
}
