//! Why a node is slow to become functional, or never does: from evidence, named by signatures that are data.
//!
//! ```text
//!   snapshot --> suspects --> gather (ports, bounded) --> diagnose (pure) --> findings
//!                   ^                                        ^
//!                 specs                       config/diagnostics.toml
//! ```
//!
//! - `catalogue`: the signatures
//! - `suspects`: which nodes lack something, whose logs are worth reading, which instances never joined
//! - `gather`: reads what the ports give, within limits; what could not be read is said
//! - `logs`, `states`, `instances`: where a signature matches
//! - `remarks`: what limits a diagnosis
//! - `fold`: symptoms left out, the same finding of many nodes told once

mod catalogue;
mod fold;
mod gather;
mod instances;
mod logs;
mod remarks;
mod states;
mod suspects;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use catalogue::{Catalogue, CatalogueError, Confidence, DIAGNOSTICS, Signature};
pub use gather::{Ask, Gathered, autopsy, gather};
pub use remarks::remarks;
pub use suspects::{Scope, Sick, SuspectPod, Suspects, suspects};

use crate::cluster::evidence::{EventRecord, LogLine, LogRun};
use crate::model::{Activity, GroupName, InstanceId, NodeName, ObjectKey, Text};
use crate::observe::Snapshot;

/// Which log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogOf {
    /// The pod.
    pub pod: ObjectKey,
    /// The container.
    pub container: Text,
    /// The run.
    pub run: LogRun,
}

/// What was gathered beyond the snapshot. Whatever is missing here was not asked for or could not be read.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Logs.
    pub logs: BTreeMap<LogOf, Vec<LogLine>>,
    /// Warnings.
    pub warnings: Vec<EventRecord>,
    /// DaemonSets, whole.
    pub specs: BTreeMap<ObjectKey, Value>,
    /// The address of Service `default/kubernetes`.
    pub service: Option<Text>,
    /// kube-proxy's mode, as its ConfigMap has it.
    pub proxy_mode: Option<Text>,
    /// That ConfigMap names each node (`hostnameOverride`): one name for all of them is nearly none.
    pub proxy_name: bool,
    /// Recent activities of groups that are short of instances, newest first.
    pub activities: BTreeMap<GroupName, Vec<Activity>>,
    /// EC2's state of instances that never joined.
    pub states: BTreeMap<InstanceId, Text>,
    /// Their console output.
    pub consoles: BTreeMap<InstanceId, String>,
    /// Their IAM roles.
    pub roles: BTreeMap<InstanceId, Text>,
    /// Who may reach the cluster: ARNs in access entries and in aws-auth.
    pub principals: Option<BTreeSet<Text>>,
    /// Free addresses by subnet.
    pub free_addresses: BTreeMap<Text, u32>,
    /// What could not be read, and why: sentences.
    pub missing: Vec<Text>,
}

/// A line of evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Clue {
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// Where it was found: `log of kube-proxy-x1/kube-proxy`, `event of Node ip-10-0-0-1`, `console of i-0abc`.
    pub source: Text,
    /// The very line.
    pub text: Text,
}

/// Something that is wrong, with its evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The signature's name.
    pub signature: Text,
    /// What it is, one clause.
    pub what: Text,
    /// How sure that is.
    pub confidence: Confidence,
    /// Why it happens.
    pub cause: Text,
    /// What helps.
    pub help: Text,
    /// The fix in fastnode's catalogue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<Text>,
    /// The DaemonSet it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daemonset: Option<ObjectKey>,
    /// The nodes it was seen on.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub nodes: BTreeSet<NodeName>,
    /// Further nodes on which the same DaemonSet was late or restarted, and whose logs of it were not read.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub alike: BTreeSet<NodeName>,
    /// The instances without a Node it was seen on.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub instances: BTreeSet<InstanceId>,
    /// The groups it is about.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<GroupName>,
    /// The evidence, of one node.
    pub evidence: Vec<Clue>,
    /// What it costs a node now, in seconds: the mean over the nodes that show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_s: Option<f64>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.daemonset {
            // Some say it themselves.
            Some(set) if !self.what.starts_with(&*set.name) => write!(f, "{}: {}", set.name, self.what),
            _ => f.write_str(&self.what),
        }
    }
}

/// A place where a signature matches.
#[derive(Clone, Debug)]
struct Match<'a> {
    signature: &'a Signature,
    confidence: Confidence,
    /// Whether the fix helps: not where the DaemonSet has it already.
    fixable: bool,
    set: Option<ObjectKey>,
    node: Option<NodeName>,
    instance: Option<InstanceId>,
    group: Option<GroupName>,
    clues: Vec<Clue>,
    cost_s: Option<f64>,
}

impl<'a> Match<'a> {
    fn of(signature: &'a Signature) -> Self {
        Self {
            signature,
            confidence: signature.confidence,
            fixable: true,
            set: None,
            node: None,
            instance: None,
            group: None,
            clues: Vec::new(),
            cost_s: None,
        }
    }
}

/// What is judged: the world, whom it suspects, and what was gathered of them.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The world.
    pub snapshot: &'a Snapshot,
    /// The suspects.
    pub suspects: &'a Suspects,
    /// What was gathered of them.
    pub evidence: &'a Evidence,
    /// The time it is judged at.
    pub now: Timestamp,
}

/// Judges: every signature that matches, symptoms left out. Pure.
pub fn diagnose(catalogue: &Catalogue, case: Case<'_>) -> Vec<Finding> {
    let mut matches = Vec::new();
    for signature in &catalogue.signatures {
        logs::find(signature, case, &mut matches);
        states::find(signature, case, &mut matches);
        instances::find(signature, case, &mut matches);
    }
    fold::fold(catalogue, case, matches)
}

/// Seconds from one time to another; `None` where they are the wrong way round.
fn seconds_between(from: Timestamp, to: Timestamp) -> Option<f64> {
    let seconds = to.duration_since(from).as_secs_f64();
    (seconds >= 0.0).then_some(seconds)
}
