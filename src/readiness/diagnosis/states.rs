//! Signatures in what the cluster says of itself: restarts, taints, conditions, Events, evictions.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::catalogue::{Eviction, RestartRule, Signature, SpecRule};
use super::suspects::{delay, restarted_early, restarted_within};
use super::{Case, Clue, Match, SuspectPod, logs};
use crate::cluster::ErrorKind;
use crate::cluster::evidence::EventRecord;
use crate::model::{ConditionStatus, Node, NodeName, ObjectKey, Pod, Text};
use crate::readiness::pods::{is_kube_proxy, restart_words};
use crate::readiness::restarted;

/// Pods that are named as evidence of one finding.
const NAMED: usize = 5;

/// Adds a match for each node the signature is found on.
pub(super) fn find<'a>(signature: &'a Signature, case: Case<'a>, matches: &mut Vec<Match<'a>>) {
    let nodes = || case.suspects.judged.iter().filter_map(|name| case.snapshot.nodes.get(name));
    if let Some(rule) = &signature.restart {
        nodes().for_each(|node| by_restart(signature, rule, node, case, matches));
    }
    if let Some(rule) = signature.spec.as_ref().filter(|_| signature.is_of_spec()) {
        by_spec(signature, rule, case, matches);
    }
    if let Some(rule) = &signature.taint {
        for node in nodes().filter(|node| is_past(case.now, node.created, rule.for_s)) {
            for taint in node.taints.iter().filter(|taint| rule.names(&taint.key)) {
                let text = format!("taint {} is on {} after the Node's creation", taint.key, age(case, node));
                matches.push(at_node(signature, node, vec![said_of_node(node, None, text)]));
            }
        }
    }
    for rule in &signature.condition {
        for node in nodes() {
            let Some(condition) = node.conditions.get(&rule.kind) else { continue };
            let text = condition.message.as_deref().unwrap_or_default();
            let lasts = condition.since.is_some_and(|since| is_past(case.now, since, rule.for_s));
            if condition.status != ConditionStatus::True && lasts && rule.messages.iter().any(|p| p.finds(text)) {
                let text = format!("{} is {}: {text}", rule.kind, condition.reason);
                matches.push(at_node(signature, node, vec![said_of_node(node, condition.since, text)]));
            }
        }
    }
    if !signature.events.is_empty() {
        by_events(signature, case, matches);
    }
    if let Some(rule) = &signature.eviction {
        by_evictions(signature, rule.kind, case, matches);
    }
    if let Some(rule) = &signature.unmet {
        for sick in &case.suspects.sick {
            let Some(node) = case.snapshot.nodes.get(&sick.node) else { continue };
            if is_past(case.now, node.created, rule.after_s) {
                let clues = sick.lacks.iter().map(|lack| said_of_node(node, None, lack.to_string()));
                matches.push(at_node(signature, node, clues.collect()));
            }
        }
    }
}

fn is_past(now: Timestamp, since: Timestamp, seconds: u32) -> bool {
    now.duration_since(since) >= SignedDuration::from_secs(i64::from(seconds))
}

fn age(case: Case<'_>, node: &Node) -> String {
    crate::units::clock(case.now.duration_since(node.created))
}

fn at_node<'a>(signature: &'a Signature, node: &Node, clues: Vec<Clue>) -> Match<'a> {
    Match { node: Some(node.name.clone()), clues, ..Match::of(signature) }
}

fn said_of_node(node: &Node, time: Option<Timestamp>, text: String) -> Clue {
    Clue { time, source: format!("Node {}", node.name).into(), text: text.into() }
}

fn by_restart<'a>(
    signature: &'a Signature,
    rule: &RestartRule,
    node: &Node,
    case: Case<'a>,
    matches: &mut Vec<Match<'a>>,
) {
    let limit = SignedDuration::from_secs(i64::from(rule.within_s));
    for pod in case.snapshot.pods_on(&node.name).filter(|p| p.is_daemon()) {
        let Some(set) = pod.owner.as_ref().and_then(|o| case.snapshot.daemonsets.get(&o.uid)) else { continue };
        let early: Vec<_> = restarted(pod).filter(|c| restarted_within(node, pod, c, limit)).collect();
        let Some(first) = early.first() else { continue };
        let suspect = suspect(case, pod, &set.key, node);
        let mut clues = Vec::new();
        for container in &early {
            let words = logs::last_words(case, &suspect, container);
            let proxy = case.snapshot.pods_on(&node.name).find(|p| is_kube_proxy(case.snapshot, p) && p.uid != pod.uid);
            let text = restart_words(container, words.map(|line| &*line.text), proxy);
            let time = container.last.as_ref().and_then(|run| run.finished);
            clues.push(Clue { time, source: format!("pod {}", pod.key.name).into(), text: text.into() });
            clues.extend(words.map(|line| logs::quote(&suspect, container, line)));
        }
        let confidence = if first.restarts > 1 { signature.confidence.lower() } else { signature.confidence };
        let cost_s = delay(node, pod);
        let mut found = Match { set: Some(set.key.clone()), confidence, cost_s, ..at_node(signature, node, clues) };
        logs::weigh_by_spec(signature, &set.key, case, &mut found);
        matches.push(found);
    }
}

/// Where a DaemonSet lacks a flag, the nodes on which something beside it was restarted at the start.
fn by_spec<'a>(signature: &'a Signature, rule: &SpecRule, case: Case<'a>, matches: &mut Vec<Match<'a>>) {
    let named = case.evidence.specs.iter().filter(|(set, _)| set.name == rule.set);
    for (set, spec) in named.filter(|(set, spec)| logs::lacks(case.evidence, set, spec, &rule.lacks)) {
        for node in case.suspects.judged.iter().filter_map(|name| case.snapshot.nodes.get(name)) {
            // What its log shows, or does not, is known better.
            let read = |s: &&SuspectPod| s.set == *set && s.node == node.name;
            let read = case.suspects.pods.iter().find(read);
            if read.is_some_and(|s| case.evidence.logs.keys().any(|log| log.pod == s.pod)) {
                continue;
            }
            let mut pods = case.snapshot.pods_on(&node.name).filter(|p| p.is_daemon());
            let early = pods.find_map(|pod| {
                let container = restarted(pod).find(|c| restarted_early(node, pod, c))?;
                Some((pod, container))
            });
            let Some((pod, container)) = early else { continue };
            let spec = logs::lacking(spec, &rule.lacks).into();
            let clues = vec![
                Clue { time: None, source: format!("spec of {set}").into(), text: spec },
                Clue {
                    time: container.last.as_ref().and_then(|run| run.finished),
                    source: format!("pod {}", pod.key.name).into(),
                    text: restart_words(container, None, None).into(),
                },
            ];
            matches.push(Match { set: Some(set.clone()), ..at_node(signature, node, clues) });
        }
    }
}

fn suspect(case: Case<'_>, pod: &Pod, set: &ObjectKey, node: &Node) -> SuspectPod {
    let known = case.suspects.pods.iter().find(|s| s.pod == pod.key).cloned();
    known.unwrap_or_else(|| SuspectPod {
        pod: pod.key.clone(),
        set: set.clone(),
        node: node.name.clone(),
        containers: Vec::new(),
    })
}

fn by_events<'a>(signature: &'a Signature, case: Case<'a>, matches: &mut Vec<Match<'a>>) {
    for event in &case.evidence.warnings {
        let found = signature.events.iter().any(|rule| {
            let named = rule.reasons.is_empty() || rule.reasons.contains(&event.reason);
            let said = rule.messages.is_empty() || rule.messages.iter().any(|p| p.finds(&event.message));
            let lasted = match (event.first, event.last) {
                (Some(first), Some(last)) => is_past(last, first, rule.for_s),
                _ => rule.for_s == 0,
            };
            named && said && lasted
        });
        // One of a pod that is gone tells of a trouble that is over.
        if let Some((node, set)) = subject(event, case).filter(|_| found) {
            let times = if event.count > 1 { format!(" ({}x)", event.count) } else { String::new() };
            let clue = Clue {
                time: event.last.or(event.first),
                source: format!("event of {} {}", event.kind, event.about.name).into(),
                text: format!("{}: {}{times}", event.reason, event.message).into(),
            };
            matches.push(Match { set, node: Some(node), clues: vec![clue], ..Match::of(signature) });
        }
    }
}

/// The node, and the DaemonSet where it is one's pod, that an Event is about.
fn subject(event: &EventRecord, case: Case<'_>) -> Option<(NodeName, Option<ObjectKey>)> {
    let judged = |node: &NodeName| case.suspects.judged.contains(node);
    match &*event.kind {
        "Node" => Some(NodeName::from(event.about.name.clone())).filter(judged).map(|node| (node, None)),
        "Pod" => {
            let pod = case.snapshot.pods.get(event.uid.as_ref()?)?;
            let set = pod.owner.as_ref().and_then(|o| case.snapshot.daemonsets.get(&o.uid));
            Some((pod.node.clone().filter(judged)?, set.map(|set| set.key.clone())))
        }
        _ => None,
    }
}

fn by_evictions<'a>(signature: &'a Signature, kind: Eviction, case: Case<'a>, matches: &mut Vec<Match<'a>>) {
    let asked = |pod: &Pod| pod.node.as_ref().is_some_and(|node| case.suspects.judged.contains(node));
    let refused = |kind: ErrorKind| {
        let refusals = case.snapshot.refusals.iter().filter(move |(_, refusal)| refusal.kind == kind);
        refusals.filter_map(|(uid, refusal)| Some((case.snapshot.pods.get(uid)?, refusal))).filter(|(p, _)| asked(p))
    };
    let mut clues: BTreeMap<&ObjectKey, (Option<Timestamp>, Text)> = BTreeMap::new();
    match kind {
        Eviction::Exhausted => {
            let found = refused(ErrorKind::BudgetExhausted);
            clues.extend(found.map(|(pod, refusal)| (&pod.key, (Some(refusal.at), refusal.message.as_str().into()))));
        }
        Eviction::Overlap => {
            for pod in case.snapshot.pods.values().filter(|pod| !pod.is_daemon() && asked(pod)) {
                let over: Vec<String> = case.snapshot.budgets_over(pod).map(|b| b.key.to_string()).collect();
                if over.len() > 1 {
                    clues.insert(&pod.key, (None, format!("covered by {}", over.join(" and ")).into()));
                }
            }
            let found = refused(ErrorKind::SeveralBudgets);
            clues.extend(found.map(|(pod, refusal)| (&pod.key, (Some(refusal.at), refusal.message.as_str().into()))));
        }
    }
    if clues.is_empty() {
        return;
    }
    let more = clues.len().saturating_sub(NAMED);
    let clue = |(pod, (time, text)): (&ObjectKey, (Option<Timestamp>, Text))| Clue {
        time,
        source: format!("pod {pod}").into(),
        text,
    };
    let mut named: Vec<Clue> = clues.into_iter().take(NAMED).map(clue).collect();
    if more > 0 {
        let text = format!("and {}", crate::units::count(more as u64, "further pod"));
        named.push(Clue { time: None, source: "pods".into(), text: text.into() });
    }
    matches.push(Match { clues: named, ..Match::of(signature) });
}
