//! A measurement as it is written and read again: the stable schema of `fastnode measure -o json`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Boots, Figures, LeftOut, NodeStart, Stage, Worth, in_scope, requests, start_of, worth};
use crate::model::{Node, NodeName, ObjectKey, Text};
use crate::observe::Snapshot;
use crate::plan::estimate;
use crate::policy::Policy;

/// Version of the schema. It rises when a field changes its meaning or goes, not when one is added.
pub const VERSION: u32 = 1;

/// How the nodes of a cluster started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// [`VERSION`].
    pub v: u32,
    /// The cluster.
    pub cluster: Text,
    /// When it was measured.
    pub measured: Timestamp,
    /// Nodes in scope.
    pub nodes: u32,
    /// Of these, the ones that show how they started.
    pub usable: u32,
    /// The others, by why they do not.
    pub left_out: BTreeMap<NodeName, Text>,
    /// Why times are missing that have nothing to do with single nodes.
    #[serde(default)]
    pub notes: Vec<Text>,
    /// Over all usable nodes.
    pub all: Figures,
    /// By Auto Scaling group.
    pub groups: BTreeMap<Text, Figures>,
    /// By zone.
    pub zones: BTreeMap<Text, Figures>,
    /// By instance type.
    pub instance_types: BTreeMap<Text, Figures>,
    /// By what they were launched from.
    pub templates: BTreeMap<Text, Figures>,
    /// What the slowest DaemonSet on the critical path costs.
    pub lever: Option<Lever>,
    /// The difference from an earlier measurement.
    #[serde(default)]
    pub compared: Option<Comparison>,
    /// Each usable node.
    pub starts: Vec<NodeStart>,
}

/// A DaemonSet whose share in the critical path is the largest, and what the time is worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lever {
    /// The DaemonSet.
    pub daemonset: ObjectKey,
    /// Its share, seconds a node.
    pub seconds: f64,
    /// What it is worth.
    pub worth: Vec<Worth>,
}

/// What changed since an earlier measurement; medians, seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// When the earlier one was measured.
    pub measured: Timestamp,
    /// Its cluster.
    pub cluster: Text,
    /// Its usable nodes.
    pub usable: u32,
    /// Before and now, of each stage that both have.
    pub stages: BTreeMap<Stage, (f64, f64)>,
    /// The same, registered to functional, of each group that both have.
    pub groups: BTreeMap<Text, (f64, f64)>,
    /// Restarts a node, before and now.
    pub restarts: (f64, f64),
    /// What the difference from launch (or, where that is unknown, registration) to functional is worth; empty
    /// where there is none.
    pub worth: Vec<Worth>,
}

/// Why an earlier measurement cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is no measurement.
    #[error("expected what `fastnode measure -o json` has written")]
    NotOne(#[source] serde_json::Error),
    /// Of another version.
    #[error("it has version {0} of the measurement's schema: expected {VERSION}")]
    Version(u32),
}

impl Measurement {
    /// Measures the nodes that the policy's scope names; `boots` is when kubelets started, as far as that is known.
    /// The order of nodes is that in which they joined.
    pub fn of(policy: &Policy, snapshot: &Snapshot, boots: &Boots, now: Timestamp) -> Self {
        let requests = requests(snapshot);
        let nodes: Vec<&Node> = snapshot.nodes.values().filter(|n| in_scope(&policy.scope, snapshot, n)).collect();
        let mut left_out: BTreeMap<NodeName, LeftOut> = BTreeMap::new();
        let mut starts = Vec::new();
        for node in &nodes {
            match start_of(policy, snapshot, node, &requests) {
                Ok(mut start) => {
                    start.booted(boots.get(&node.name).map_or(&[], Vec::as_slice));
                    starts.push(start);
                }
                Err(why) => _ = left_out.insert(node.name.clone(), why),
            }
        }
        starts.sort_by(|a, b| (a.moments.joined, &a.node).cmp(&(b.moments.joined, &b.node)));
        let all = Figures::of(&starts);
        let lever = lever(policy, snapshot, &all);
        Self {
            v: VERSION,
            cluster: snapshot.cluster.clone(),
            measured: now,
            nodes: nodes.len() as u32,
            usable: starts.len() as u32,
            left_out: left_out.into_iter().map(|(node, why)| (node, why.to_string().into())).collect(),
            notes: Vec::new(),
            groups: by(&starts, |s| s.group.as_ref().map(|g| g.text().clone())),
            zones: by(&starts, |s| s.zone.as_ref().map(|z| z.text().clone())),
            instance_types: by(&starts, |s| s.instance_type.clone()),
            templates: by(&starts, |s| s.template.clone()),
            all,
            lever,
            compared: None,
            starts,
        }
    }

    /// Reads what `fastnode measure -o json` has written.
    ///
    /// # Errors
    /// If it is something else, or of another version.
    pub fn read(json: &[u8]) -> Result<Self, ReadError> {
        #[derive(Deserialize)]
        struct Versioned {
            v: u32,
        }
        let versioned: Versioned = serde_json::from_slice(json).map_err(ReadError::NotOne)?;
        match versioned.v {
            VERSION => serde_json::from_slice(json).map_err(ReadError::NotOne),
            other => Err(ReadError::Version(other)),
        }
    }

    /// Adds the difference from an earlier measurement.
    pub fn compare(&mut self, earlier: &Self, policy: &Policy, snapshot: &Snapshot) {
        let both = |a: &Figures, b: &Figures, stage| Some((a.median(stage)?, b.median(stage)?));
        let stages: BTreeMap<Stage, (f64, f64)> =
            Stage::ALL.into_iter().filter_map(|s| Some((s, both(&earlier.all, &self.all, s)?))).collect();
        let group =
            |(name, now): (&Text, &Figures)| Some((name.clone(), both(earlier.groups.get(name)?, now, Stage::Start)?));
        let a_node = |m: &Self| f64::from(m.all.restarts) / f64::from(m.usable.max(1));
        let start = stages.get(&Stage::Start);
        let worth = start.filter(|(before, now)| before != now).map(|(before, now)| {
            let launch = launch(policy, snapshot, &self.all);
            let earlier = (launch + before - now).max(0.0);
            worth(policy, snapshot, earlier.max(launch), earlier.min(launch))
        });
        self.compared = Some(Comparison {
            measured: earlier.measured,
            cluster: earlier.cluster.clone(),
            usable: earlier.usable,
            groups: self.groups.iter().filter_map(group).collect(),
            restarts: (a_node(earlier), a_node(self)),
            worth: worth.unwrap_or_default(),
            stages,
        });
    }
}

fn by(starts: &[NodeStart], key: impl Fn(&NodeStart) -> Option<Text>) -> BTreeMap<Text, Figures> {
    let mut groups: BTreeMap<Text, Vec<&NodeStart>> = BTreeMap::new();
    for start in starts {
        if let Some(key) = key(start) {
            groups.entry(key).or_default().push(start);
        }
    }
    groups.into_iter().map(|(key, starts)| (key, Figures::of(starts.iter().copied()))).collect()
}

/// From launch to functional: the median, else what is expected of the launch.
fn launch(policy: &Policy, snapshot: &Snapshot, figures: &Figures) -> f64 {
    let expected = || estimate::measured(policy, snapshot).launch_s - policy.soak.as_secs_f64();
    figures.median(Stage::Total).unwrap_or_else(expected)
}

/// The DaemonSet that takes most of the paths, where it takes a second of each or more.
fn lever(policy: &Policy, snapshot: &Snapshot, figures: &Figures) -> Option<Lever> {
    let longest = figures.waits().into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
    let (daemonset, seconds) = longest.filter(|(_, seconds)| *seconds >= 1.0)?;
    let launch = launch(policy, snapshot, figures);
    let worth = worth(policy, snapshot, launch, (launch - seconds).max(0.0));
    Some(Lever { daemonset: daemonset.clone(), seconds, worth })
}
