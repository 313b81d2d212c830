//! What a diagnosis cannot see, or does not look for here.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;

use super::{Case, logs};
use crate::model::{Node, NodeName, ObjectKey, Text};
use crate::readiness::stages;
use crate::units::{count, seconds};

/// A node's clock may be so far off before its times are not to be trusted.
const SKEW: SignedDuration = SignedDuration::from_secs(30);
/// Nodes that lack something and are younger are still starting.
const STARTING: SignedDuration = SignedDuration::from_mins(5);
/// Names in one sentence.
const NAMED: usize = 3;

/// Sentences on what limits the diagnosis, or explains why less is looked for. Pure.
pub fn remarks(case: Case<'_>) -> Vec<Text> {
    let Case { suspects, evidence, snapshot, now } = case;
    let mut said = Vec::new();
    if suspects.left_out > 0 {
        said.push(format!("{} left out: Windows or Fargate", count(suspects.left_out as u64, "node")));
    }
    if !suspects.has_proxy {
        said.push(
            "no DaemonSet kube-proxy here (Cilium and others replace it): its signatures do not apply".to_owned(),
        );
    }
    if let Some(mode) = evidence.proxy_mode.as_deref().filter(|mode| !matches!(*mode, "" | "iptables")) {
        said.push(format!("kube-proxy runs in {mode} mode: wait for an address, not for an iptables rule"));
    }
    let young = |name: &&NodeName| {
        let node = snapshot.nodes.get(*name);
        node.is_some_and(|node| now.duration_since(node.created) < STARTING)
    };
    let starting: Vec<&NodeName> = suspects.sick.iter().map(|sick| &sick.node).filter(young).collect();
    if !starting.is_empty() {
        said.push(format!("{} still starting: {}", count(starting.len() as u64, "node"), names(&starting)));
    }
    said.extend(waits(case));
    let skewed: BTreeSet<&NodeName> = skewed(case).chain(off(case)).collect();
    if !skewed.is_empty() {
        let skewed: Vec<&NodeName> = skewed.into_iter().collect();
        let whose = names(&skewed);
        said.push(format!("the clock of {whose} is off by more than {} s: its times may mislead", SKEW.as_secs()));
    }
    said.into_iter().map(Text::from).chain(evidence.missing.iter().cloned()).collect()
}

fn names(nodes: &[&NodeName]) -> String {
    let mut named: Vec<&str> = nodes.iter().take(NAMED).map(|node| node.as_str()).collect();
    let more = nodes.len().saturating_sub(NAMED);
    let rest = format!("{more} more");
    if more > 0 {
        named.push(&rest);
    }
    named.join(", ")
}

/// A sentence on each DaemonSet that came to be ready by trying again, where others are restarted.
fn waits(case: Case<'_>) -> impl Iterator<Item = String> {
    let mut by_set: BTreeMap<&ObjectKey, Vec<(&NodeName, f64)>> = BTreeMap::new();
    for (suspect, waited) in logs::waits(case) {
        by_set.entry(&suspect.set).or_default().push((&suspect.node, waited));
    }
    by_set.into_iter().map(|(set, waits)| {
        let nodes: Vec<&NodeName> = waits.iter().map(|(node, _)| *node).collect();
        let longest = waits.iter().map(|(_, waited)| *waited).fold(0.0, f64::max);
        let up_to = if nodes.len() > 1 { "up to " } else { "" };
        let (name, longest, nodes) = (&set.name, seconds(longest), names(&nodes));
        format!(
            "{name} waited {up_to}{longest} for the service rules and was not restarted, so it needs no fix: {nodes}"
        )
    })
}

/// Nodes whose own stamps are of another clock than the API server's.
fn off<'a>(case: Case<'a>) -> impl Iterator<Item = &'a NodeName> {
    let node = move |name: &'a NodeName| Some((name, case.snapshot.nodes.get(name)?));
    let by = move |node: &'a Node| stages::clock_differs(case.snapshot, node);
    let nodes = case.suspects.judged.iter().filter_map(node);
    nodes.filter(move |(_, node)| by(node).is_some_and(|by| by.abs() > SKEW.as_secs())).map(|(name, _)| name)
}

/// Nodes whose logs tell of a time before their pod was made, or of one that has not come.
fn skewed<'a>(case: Case<'a>) -> impl Iterator<Item = &'a NodeName> {
    case.suspects.pods.iter().filter_map(move |suspect| {
        let made = case.snapshot.pods_on(&suspect.node).find(|pod| pod.key == suspect.pod)?.created;
        let mut times =
            case.evidence.logs.iter().filter(|(log, _)| log.pod == suspect.pod).flat_map(|(_, lines)| lines);
        let off = times.any(|line| made.duration_since(line.time) > SKEW || line.time.duration_since(case.now) > SKEW);
        off.then_some(&suspect.node)
    })
}
