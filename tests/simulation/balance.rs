//! What is told of nodes, held against itself: whatever happens, each has one story, and the report is its sum.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Steps of a node that goes, in their order.
const LEAVING: [&str; 5] = ["node.selected", "node.draining", "node.drained", "node.terminating", "node.gone"];
/// Steps of a new node, in their order.
const ARRIVING: [&str; 5] = [
    "replacement.launching",
    "replacement.running",
    "replacement.joined",
    "replacement.ready",
    "replacement.functional",
];
const FAILED: &str = "replacement.failed";

/// What has been told of an instance.
#[derive(Default)]
struct Story {
    node: Option<String>,
    /// How far it has come, counted from 1.
    arrived: usize,
    left: usize,
    failed: bool,
    /// It was drained as an outdated node.
    rotated: bool,
    by_others: bool,
}

impl Story {
    /// Takes in a step; what is wrong with it. What an earlier run had in hand may begin anywhere.
    fn step(&mut self, event: &Value, resumed: bool) -> Option<String> {
        let kind = event["kind"].as_str().unwrap();
        let anew = resumed && self.arrived + self.left == 0 && !self.failed;
        let place = |steps: &[&str]| steps.iter().position(|step| *step == kind).map(|at| at + 1);
        let before = (self.arrived, self.left, self.failed);
        let wrong = if let Some(at) = place(&ARRIVING) {
            let follows = at == self.arrived + 1 && self.left == 0 && !self.failed;
            self.arrived = at;
            !follows && !anew
        } else if kind == FAILED {
            std::mem::replace(&mut self.failed, true) || self.left > 0
        } else if kind == "node.skipped" {
            let again = self.left > 3;
            (self.left, self.rotated) = (0, false);
            again
        } else {
            let at = place(&LEAVING)?;
            let others = event["by_others"] == true;
            let follows = match kind {
                // Without a Node there is nothing to drain.
                "node.terminating" if others => self.left < 3,
                "node.terminating" => self.left == 3 || (self.left == 0 && self.failed),
                "node.gone" => self.left == 4 && self.by_others == others,
                _ => at == self.left + 1,
            };
            if kind == "node.drained" {
                self.rotated = event["reason"] == "outdated";
            }
            self.by_others |= others;
            self.left = at;
            !(follows || anew && kind != "node.gone")
        };
        wrong.then(|| format!("{kind} after (arrived, left, failed) {before:?}: {event}"))
    }
}

/// What is wrong with one run's events, which may have been cut short.
fn of_a_run(events: &[Value]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut stories: BTreeMap<&str, Story> = BTreeMap::new();
    let mut skipped: BTreeSet<&str> = BTreeSet::new();
    let resumed = events.iter().any(|event| event["kind"] == "rotation.started" && event["resumed"] == true);
    for event in events {
        let node = event["node"].as_str();
        match (event["kind"].as_str(), node) {
            (Some("node.skipped"), Some(node)) => _ = skipped.insert(node),
            (Some("node.selected" | "node.gone"), Some(node)) => _ = skipped.remove(node),
            _ => {}
        }
        // A termination that AWS refused has not begun.
        if let Some(refused) = event["message"].as_str().filter(|m| m.starts_with("failed to terminate"))
            && refused.contains("Rate exceeded")
        {
            let told = stories.iter().filter(|(id, story)| story.left == 4 && refused.contains(**id));
            faults.extend(told.map(|(id, _)| format!("{id} was told terminating before {refused:?}")));
        }
        if let Some(instance) = event["instance"].as_str() {
            let story = stories.entry(instance).or_default();
            story.node = node.map(str::to_owned).or(story.node.take());
            faults.extend(story.step(event, resumed));
        }
    }
    let Some(report) = events.iter().find(|event| event["kind"] == "rotation.finished") else { return faults };
    if matches!(report["outcome"].as_str(), Some("failed" | "interrupted")) {
        return faults;
    }
    for (instance, story) in &stories {
        if (1..=3).contains(&story.left) {
            faults.push(format!("{instance} was told {}, and never what came of it", LEAVING[story.left - 1]));
        }
        // What others take at the very end is not waited for.
        if story.left == 4 && !story.by_others && report["outcome"] == "done" {
            faults.push(format!("{instance} was told terminating, and never gone"));
        }
    }
    let rotated = stories.values().filter(|story| story.rotated && story.left == 5).count();
    if report["nodes_rotated"] != rotated {
        faults.push(format!("the report says {} rotated, the events {rotated}", report["nodes_rotated"]));
    }
    let named: BTreeSet<&str> = report["nodes_skipped"].as_object().unwrap().keys().map(String::as_str).collect();
    if named != skipped {
        faults.push(format!("the report says skipped {named:?}, the events {skipped:?}"));
    }
    faults
}

/// What is wrong with the events of some runs, one after the other, as lines of JSON.
pub fn faults(lines: &[String]) -> Vec<String> {
    let events: Vec<Value> =
        lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].take()).collect();
    let runs = events.chunk_by(|_, next| next["kind"] != "rotation.planned");
    runs.flat_map(of_a_run).collect()
}
