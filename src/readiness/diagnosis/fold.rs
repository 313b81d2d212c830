//! From matches to findings: symptoms left out, the same thing on many nodes told once.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::{Catalogue, Signature};
use super::{Clue, Finding, Match};
use crate::model::{InstanceId, NodeName, ObjectKey, Text};

/// Lines of evidence a finding carries; of more, the first and the last.
const LINES: usize = 8;

/// A DaemonSet on a node, or an instance, and a signature that was found there.
type Place = (Option<ObjectKey>, Option<NodeName>, Option<InstanceId>, Text);

/// Findings in the catalogue's order.
pub(super) fn fold(catalogue: &Catalogue, matches: Vec<Match<'_>>) -> Vec<Finding> {
    let kept = without_symptoms(matches);
    let mut by: BTreeMap<(usize, Option<ObjectKey>), Vec<Match<'_>>> = BTreeMap::new();
    for found in kept {
        let place = catalogue.signatures.iter().position(|s| s.name == found.signature.name);
        by.entry((place.unwrap_or(usize::MAX), found.set.clone())).or_default().push(found);
    }
    by.into_iter().filter_map(|((_, set), matches)| finding(set, matches)).collect()
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

fn finding(set: Option<ObjectKey>, mut matches: Vec<Match<'_>>) -> Option<Finding> {
    // The surest match, and of those the one with the most to show, is the evidence.
    matches.sort_by_key(|m| std::cmp::Reverse((m.confidence, m.clues.len())));
    let costs: Vec<f64> = matches.iter().filter_map(|m| m.cost_s).collect();
    let mean = costs.iter().sum::<f64>() / costs.len() as f64;
    let nodes = matches.iter().filter_map(|m| m.node.clone()).collect();
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
