//! Signatures in logs.

use jiff::Timestamp;
use serde_json::Value;

use super::catalogue::{Cost, LogRule, Signature};
use super::suspects::{SuspectPod, delay};
use super::{Case, Clue, Evidence, LogOf, Match, seconds_between};
use crate::cluster::evidence::{LogLine, LogRun};
use crate::model::{Container, ContainerState, ObjectKey, Pod, Text};
use crate::readiness::gate::has_word;
use crate::readiness::pods::{not_ready, restart_words};

/// Adds a match for each suspected pod whose logs the signature is found in.
pub(super) fn find<'a>(signature: &'a Signature, case: Case<'a>, matches: &mut Vec<Match<'a>>) {
    if signature.logs.is_empty() {
        return;
    }
    for suspect in &case.suspects.pods {
        let found = signature.logs.iter().find_map(|rule| Some((rule, in_pod(rule, suspect, case)?)));
        let Some((rule, (log, lines))) = found else { continue };
        let place = pod_of(suspect, case);
        let container = place.and_then(|(_, pod)| pod.containers.iter().find(|c| c.name == log.container));
        let mut found = Match {
            set: Some(suspect.set.clone()),
            node: Some(suspect.node.clone()),
            clues: lines.iter().map(|line| clue(log, line)).collect(),
            ..Match::of(signature)
        };
        found.cost_s = match signature.cost {
            Some(Cost::Span) => span(&lines, begin(log, container, case)),
            Some(Cost::Delay) => place.and_then(|(node, pod)| delay(node, pod)),
            None => None,
        };
        // A start that did not come to its end may have failed for more than this.
        if signature.cost == Some(Cost::Delay) && place.is_some_and(|(_, pod)| !pod.flags.ready) {
            found.confidence = found.confidence.lower();
        }
        found.clues.extend(container.filter(|_| rule.ended).map(|container| end(suspect, container)));
        weigh_by_spec(signature, &suspect.set, case, &mut found);
        matches.push(found);
    }
}

/// Seconds from the first to the last line found. A program that tells only of the end of its tries began them when it
/// began.
fn span(lines: &[&LogLine], begin: Option<Timestamp>) -> Option<f64> {
    let (first, last) = (lines.first()?, lines.last()?);
    let told = seconds_between(first.time, last.time).filter(|seconds| *seconds > 0.0);
    told.or_else(|| seconds_between(begin?, last.time)).filter(|seconds| *seconds > 0.0)
}

/// When a run began, by its log and, of the run before this one, by what its container tells.
fn begin(log: &LogOf, container: Option<&Container>, case: Case<'_>) -> Option<Timestamp> {
    let logged = case.evidence.logs.get(log)?.first()?.time;
    let last = container.filter(|_| log.run == LogRun::Previous).and_then(|c| c.last.as_ref()?.started);
    Some(last.map_or(logged, |started| started.min(logged)))
}

/// That a container ended, as evidence.
fn end(suspect: &SuspectPod, container: &Container) -> Clue {
    let (time, text) = match &container.state {
        ContainerState::Terminated(run) if container.restarts == 0 => (run.finished, not_ready(container)),
        _ => (container.last.as_ref().and_then(|run| run.finished), restart_words(container, None, None)),
    };
    Clue { time, source: format!("pod {}", suspect.pod.name).into(), text: text.into() }
}

/// Whether this run of a container is over: one before another always is.
fn has_ended(log: &LogOf, pod: &Pod) -> bool {
    let stopped = |c: &Container| c.name == log.container && !matches!(c.state, ContainerState::Running(_));
    log.run == LogRun::Previous || pod.containers.iter().any(stopped)
}

/// Whether a pod is ready, and nothing in it was ever restarted.
fn is_well(pod: &Pod) -> bool {
    pod.flags.ready && pod.containers.iter().all(|container| container.restarts == 0)
}

/// Pods that are well, and how many seconds they tried in vain to reach the API server before they were ready.
pub(super) fn waits<'a>(case: Case<'a>) -> impl Iterator<Item = (&'a SuspectPod, f64)> {
    case.suspects.pods.iter().filter_map(move |suspect| {
        let (_, pod) = pod_of(suspect, case).filter(|(_, pod)| is_well(pod))?;
        let waits = pod.containers.iter().filter_map(|container| {
            let ContainerState::Running(since) = container.state else { return None };
            let name = container.name.clone();
            let log = LogOf { pod: suspect.pod.clone(), container: name, run: LogRun::Current };
            let lines = case.evidence.logs.get(&log)?;
            let early = |line: &LogLine| pod.ready_since.is_some_and(|ready| line.time <= ready);
            let last = lines.iter().rposition(|line| early(line) && is_in_vain(case.evidence, &line.text))?;
            // What it writes next it writes because it has got through.
            let until = lines.get(last + 1).or(lines.get(last))?.time;
            let from = since.into_iter().chain(lines.first().map(|line| line.time)).min()?;
            seconds_between(from, until)
        });
        Some((suspect, waits.reduce(f64::max)?))
    })
}

/// Whether a line tells of a vain try to reach the API server by its Service.
fn is_in_vain(evidence: &Evidence, text: &str) -> bool {
    let dialled = |service: &str| {
        let address = if service.contains(':') { format!("[{service}]") } else { service.to_owned() };
        text.contains(&format!("dial tcp {address}:443: i/o timeout"))
    };
    text.contains("Unable to reach API Server") || evidence.service.as_deref().is_some_and(dialled)
}

/// The run of a container in which the rule is found, and the lines it found. The earliest run tells of the start.
fn in_pod<'a>(rule: &LogRule, suspect: &SuspectPod, case: Case<'a>) -> Option<(&'a LogOf, Vec<&'a LogLine>)> {
    let name = &suspect.set.name;
    let named = |words: &[Text]| words.iter().any(|word| has_word(name, word));
    if (!rule.sets.is_empty() && !named(&rule.sets)) || named(&rule.except) {
        return None;
    }
    let mut logs: Vec<_> = case.evidence.logs.iter().filter(|(log, _)| log.pod == suspect.pod).collect();
    logs.sort_by_key(|(log, _)| log.run == LogRun::Current);
    let pod = pod_of(suspect, case).map(|(_, pod)| pod);
    if rule.unwell && pod.is_some_and(is_well) {
        return None;
    }
    let node = suspect.node.as_str();
    let any = |patterns: &[super::catalogue::Pattern], text: &str| patterns.iter().any(|p| p.finds_at(node, text));
    if logs.iter().flat_map(|(_, lines)| *lines).any(|line| any(&rule.without, &line.text)) {
        return None;
    }
    logs.retain(|(log, _)| !rule.ended || pod.is_some_and(|pod| has_ended(log, pod)));
    logs.into_iter().find_map(|(log, lines)| {
        // What it has got over it did not end for.
        let over = lines.iter().rposition(|line| any(&rule.overcome, &line.text)).map_or(0, |at| at + 1);
        let left = lines.get(over..).unwrap_or_default().iter();
        let found: Vec<&LogLine> = left.filter(|l| any(&rule.lines, &l.text) && !any(&rule.unless, &l.text)).collect();
        let age = case.now.duration_since(found.first()?.time).as_secs();
        let complete = rule.with.iter().all(|pattern| lines.iter().any(|line| pattern.finds_at(node, &line.text)));
        (complete && age >= i64::from(rule.for_s)).then_some((log, found))
    })
}

fn clue(log: &LogOf, line: &LogLine) -> Clue {
    let run = if log.run == LogRun::Previous { ", previous run" } else { "" };
    let source = format!("log of {}/{}{run}", log.pod.name, log.container);
    Clue { time: Some(line.time), source: source.into(), text: line.text.clone() }
}

fn pod_of<'a>(suspect: &SuspectPod, case: Case<'a>) -> Option<(&'a crate::model::Node, &'a Pod)> {
    let node = case.snapshot.nodes.get(&suspect.node)?;
    case.snapshot.pods_on(&suspect.node).find(|pod| pod.key == suspect.pod).map(|pod| (node, pod))
}

/// Weighs what was found in a DaemonSet by whether its spec has what would help.
pub(super) fn weigh_by_spec(signature: &Signature, set: &ObjectKey, case: Case<'_>, found: &mut Match<'_>) {
    let Some(rule) = signature.spec.as_ref().filter(|rule| rule.set == set.name) else { return };
    let Some(spec) = case.evidence.specs.get(set) else { return };
    let text = if lacks(case.evidence, set, spec, &rule.lacks) {
        if rule.certain {
            found.confidence = super::Confidence::Certain;
        }
        lacking(spec, &rule.lacks)
    } else {
        // It is there, and gives another name, or waits for something else: adding it cannot help.
        found.confidence = found.confidence.lower();
        found.fixable = false;
        let (_, name) = kind(&rule.lacks);
        format!("it has {name} already: look at what that gives")
    };
    found.clues.push(Clue { time: None, source: format!("spec of {set}").into(), text: text.into() });
}

/// What a rule looks for in a template.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Flag,
    Variable,
    Init,
}

fn kind(lacks: &str) -> (Kind, &str) {
    match (lacks.strip_prefix("env:"), lacks.strip_prefix("init:")) {
        (Some(name), _) => (Kind::Variable, name),
        (_, Some(prefix)) => (Kind::Init, prefix),
        _ => (Kind::Flag, lacks),
    }
}

/// A sentence on what a DaemonSet's spec lacks, with its images.
pub(super) fn lacking(spec: &Value, lacks: &str) -> String {
    match kind(lacks) {
        (Kind::Flag, flag) => format!("no container has {flag}"),
        (Kind::Variable, name) => format!("no container has {name} set; {}", images(spec)),
        (Kind::Init, _) => format!("no init container waits; {}", images(spec)),
    }
}

fn images(spec: &Value) -> String {
    let images = listed(spec, "containers").filter_map(|c| c.get("image")?.as_str());
    let short = images.map(|image| image.rsplit('/').next().unwrap_or(image)).collect::<Vec<_>>();
    format!("image {}", short.join(", "))
}

/// Whether a DaemonSet lacks a flag, its configuration file included, a variable or a waiting init container.
pub(super) fn lacks(evidence: &Evidence, set: &ObjectKey, spec: &Value, what: &str) -> bool {
    let by_file = what == "--hostname-override" && &*set.name == "kube-proxy" && evidence.proxy_name;
    let there = match kind(what) {
        (Kind::Flag, flag) => by_file || words(spec, "containers").any(|word| names(word, flag)),
        (Kind::Variable, name) => listed(spec, "containers").any(|container| has_variable(container, name)),
        // One that runs fastnode's waiter under another name waits all the same.
        (Kind::Init, prefix) => {
            let named = |c: &Value| c.get("name").and_then(Value::as_str).is_some_and(|n| n.starts_with(prefix));
            listed(spec, "initContainers").any(named) || words(spec, "initContainers").any(|word| word == "await")
        }
    };
    !there
}

/// The containers of a DaemonSet's template.
fn listed<'a>(spec: &'a Value, kind: &str) -> impl Iterator<Item = &'a Value> {
    let containers = spec.pointer("/spec/template/spec").and_then(|pod| pod.get(kind)?.as_array());
    containers.into_iter().flatten()
}

fn words<'a>(spec: &'a Value, kind: &str) -> impl Iterator<Item = &'a str> {
    let lists = |container: &'a Value| {
        ["command", "args"].into_iter().filter_map(|list| container.get(list)?.as_array()).flatten()
    };
    listed(spec, kind).flat_map(lists).filter_map(Value::as_str)
}

/// Whether a word, which may be a shell's whole line, holds a flag.
fn names(word: &str, flag: &str) -> bool {
    word.match_indices(flag).any(|(at, _)| {
        let after = word.as_bytes().get(at + flag.len());
        after.is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-')
    })
}

fn has_variable(container: &Value, name: &str) -> bool {
    let variables = container.get("env").and_then(Value::as_array);
    let set = |e: &Value| {
        let value = e.get("value").and_then(Value::as_str).is_some_and(|value| !value.is_empty());
        value || e.get("valueFrom").is_some()
    };
    variables.into_iter().flatten().any(|e| e.get("name").and_then(Value::as_str) == Some(name) && set(e))
}

/// A line of a container's run before this one, as evidence.
pub(super) fn quote(suspect: &SuspectPod, container: &Container, line: &LogLine) -> Clue {
    let log = LogOf { pod: suspect.pod.clone(), container: container.name.clone(), run: LogRun::Previous };
    clue(&log, line)
}

/// What a container's log says of why it ended: the last line of its run before this one that names an error.
pub(super) fn last_words<'a>(case: Case<'a>, suspect: &SuspectPod, container: &Container) -> Option<&'a LogLine> {
    let log = LogOf { pod: suspect.pod.clone(), container: container.name.clone(), run: LogRun::Previous };
    let lines = case.evidence.logs.get(&log)?;
    let telling = |line: &&LogLine| {
        let text = line.text.to_ascii_lowercase();
        ["error", "fail", "timeout", "timed out", "refused", "fatal", "panic", "unable"]
            .iter()
            .any(|w| text.contains(w))
    };
    lines.iter().rev().find(telling).or(lines.last())
}
