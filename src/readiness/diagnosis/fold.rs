//! From matches to findings: symptoms left out, the same thing on many nodes told once.
//!
//! Logs are read of a few nodes only. Where they show why a DaemonSet was late, and it was late on further nodes
//! whose logs were not read, these are told with it, apart from those on which it was seen.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::{Catalogue, Signature};
use super::{Case, Clue, Finding, Match};
use crate::model::{InstanceId, NodeName, ObjectKey, Text};

/// Lines of evidence a finding carries; of more, the first and the last.
const LINES: usize = 8;

/// A DaemonSet on a node, or an instance, and a signature that was found there.
type Place = (Option<ObjectKey>, Option<NodeName>, Option<InstanceId>, Text);

/// A signature's place in the catalogue, and the DaemonSet it was found in.
type Kind = (usize, Option<ObjectKey>);

/// Findings in the catalogue's order.
pub(super) fn fold(catalogue: &Catalogue, case: Case<'_>, matches: Vec<Match<'_>>) -> Vec<Finding> {
    let place = |name: &Text| catalogue.signatures.iter().position(|s| s.name == *name).unwrap_or(usize::MAX);
    let mut by: BTreeMap<Kind, Vec<Match<'_>>> = BTreeMap::new();
    for found in without_symptoms(matches) {
        by.entry((place(&found.signature.name), found.set.clone())).or_default().push(found);
    }
    let mut alike = alike(&mut by, case, place);
    let finding = |(kind, matches)| {
        let alike = alike.remove(&kind).unwrap_or_default();
        finding(kind.1, matches, alike)
    };
    by.into_iter().filter_map(finding).collect()
}

/// Takes out what a finding of the same DaemonSet on other nodes explains, of nodes whose logs of it were not read;
/// the nodes by what explains them.
fn alike(
    by: &mut BTreeMap<Kind, Vec<Match<'_>>>,
    case: Case<'_>,
    place: impl Fn(&Text) -> usize,
) -> BTreeMap<Kind, BTreeSet<NodeName>> {
    let read: BTreeSet<(&ObjectKey, &NodeName)> = {
        let logs: BTreeSet<&ObjectKey> = case.evidence.logs.keys().map(|log| &log.pod).collect();
        let pods = case.suspects.pods.iter().filter(|suspect| logs.contains(&suspect.pod));
        pods.map(|suspect| (&suspect.set, &suspect.node)).collect()
    };
    let kinds: BTreeSet<Kind> = by.keys().cloned().collect();
    let mut alike: BTreeMap<Kind, BTreeSet<NodeName>> = BTreeMap::new();
    for ((_, set), matches) in by.iter_mut() {
        let Some(set) = set else { continue };
        matches.retain(|found| {
            let Some(node) = found.node.as_ref().filter(|node| !read.contains(&(set, *node))) else { return true };
            let causes = found.signature.explained_by.iter().map(|name| (place(name), Some(set.clone())));
            let Some(cause) = causes.filter(|cause| kinds.contains(cause)).min() else { return true };
            alike.entry(cause).or_default().insert(node.clone());
            false
        });
    }
    by.retain(|_, matches| !matches.is_empty());
    alike
}

fn without_symptoms(matches: Vec<Match<'_>>) -> Vec<Match<'_>> {
    let mut on_node: BTreeMap<NodeName, BTreeSet<Text>> = BTreeMap::new();
    let mut on_set: BTreeSet<Place> = BTreeSet::new();
    for found in &matches {
        if let Some(node) = &found.node {
            on_node.entry(node.clone()).or_default().insert(found.signature.name.clone());
        }
        let name = found.signature.name.clone();
        on_set.insert((found.set.clone(), found.node.clone(), found.instance.clone(), name));
    }
    let is_symptom = |found: &Match<'_>| {
        let others = found.node.as_ref().and_then(|node| on_node.get(node));
        let caused = others.is_some_and(|others| !others.is_disjoint(&found.signature.symptom_of));
        let explained = found.signature.explained_by.iter().any(|name| {
            on_set.contains(&(found.set.clone(), found.node.clone(), found.instance.clone(), name.clone()))
        });
        // What lacks any explanation is told only where there is none.
        let last = found.signature.unmet.is_some() && others.is_some_and(|others| others.len() > 1);
        caused || explained || last
    };
    let symptoms: Vec<bool> = matches.iter().map(is_symptom).collect();
    matches.into_iter().zip(symptoms).filter(|(_, symptom)| !symptom).map(|(found, _)| found).collect()
}

fn finding(set: Option<ObjectKey>, mut matches: Vec<Match<'_>>, alike: BTreeSet<NodeName>) -> Option<Finding> {
    // The surest match, and of those the one with the most to show, is the evidence.
    matches.sort_by_key(|m| std::cmp::Reverse((m.confidence, m.clues.len())));
    let costs: Vec<f64> = matches.iter().filter_map(|m| m.cost_s).collect();
    let mean = costs.iter().sum::<f64>() / costs.len() as f64;
    let nodes: BTreeSet<NodeName> = matches.iter().filter_map(|m| m.node.clone()).collect();
    let alike = alike.difference(&nodes).cloned().collect();
    let instances = matches.iter().filter_map(|m| m.instance.clone()).collect();
    let groups = matches.iter().filter_map(|m| m.group.clone()).collect();
    let Match { signature, confidence, fixable, clues, .. } = matches.into_iter().next()?;
    let Signature { name, what, cause, help, .. } = signature;
    let fix = signature.fix_for(set.as_ref().map(|set| &*set.name)).filter(|_| fixable).cloned();
    Some(Finding {
        signature: name.clone(),
        what: what.clone(),
        confidence,
        cause: cause.clone(),
        help: help.clone(),
        fix,
        daemonset: set,
        nodes,
        alike,
        instances,
        groups,
        evidence: shorten(clues),
        cost_s: (!costs.is_empty()).then_some((mean * 10.0).round() / 10.0),
    })
}

fn shorten(mut clues: Vec<Clue>) -> Vec<Clue> {
    if clues.len() > LINES {
        let last = clues.split_off(clues.len() - LINES / 2);
        clues.truncate(LINES - last.len());
        clues.extend(last);
    }
    clues
}
