//! The plan as a table for people and as JSON for programs: groups, what is outdated and why, the policy in
//! numbers, how long it takes, and what stands in the way.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::Serialize;

use super::page::Page;
use super::text::{Paint, clip, count, grouped, seconds, wrap};
use crate::model::{GroupName, Text};
use crate::plan::{Finding, GroupPreview, Preview, Subject};
use crate::preflight::Preflight;

/// Lines of a list before the rest is counted.
const LISTED: usize = 12;

/// Widest name of a group in the table.
const WIDEST_NAME: usize = 32;

/// Outdated nodes in scope, held ones included.
pub fn outdated(preview: &Preview) -> u32 {
    preview.groups.values().map(|g| g.progress.outdated).sum()
}

/// Outdated nodes that nothing holds.
pub fn candidates(preview: &Preview) -> u32 {
    preview.groups.values().map(|g| g.candidates).sum()
}

/// The plan as one JSON object.
///
/// # Errors
/// If it cannot be written as JSON, which it always can be.
pub fn json(preview: &Preview, preflight: &Preflight) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Both<'a> {
        v: u32,
        preview: &'a Preview,
        preflight: &'a Preflight,
    }
    let both = Both { v: crate::event::VERSION, preview, preflight };
    Ok(serde_json::to_string_pretty(&both)? + "\n")
}

/// The plan for a terminal of this width.
pub fn text(cluster: &str, preview: &Preview, preflight: &Preflight, width: usize, paint: Paint) -> String {
    let nodes: u32 = preview.groups.values().map(|g| g.progress.outdated + g.progress.current).sum();
    let outdated = outdated(preview);
    let groups = count(preview.groups.len() as u64, "group");
    let head = match preview.finding {
        Finding::NothingToDo if !preflight.faults.is_empty() => format!("{cluster}: cannot be rotated so"),
        Finding::NothingToDo => {
            format!("{cluster}: nothing to do, {} in {groups}, all current", count(nodes.into(), "node"))
        }
        Finding::Held if outdated == 0 => {
            format!(
                "{cluster}: nothing that can be rotated, {} in {groups}: what is outdated is in other hands",
                count(nodes.into(), "node")
            )
        }
        Finding::Work if outdated == 0 => format!("{cluster}: an earlier rotation has to be put back"),
        Finding::Work | Finding::Held => {
            format!("{cluster}: {} of {} outdated in {groups}", grouped(outdated.into()), count(nodes.into(), "node"))
        }
    };
    let mut out = Page::new(&head, width, paint);
    if outdated > 0 {
        out.table(&preview.groups);
        out.reasons(&preview.groups);
        out.surges(&preview.groups);
    }
    if preview.finding == Finding::Work && preview.expected_s > 0.0 {
        let bound = seconds(preview.lower_bound_s);
        out.section(
            "time",
            [format!("about {}; at least about {bound} ({})", seconds(preview.expected_s), preview.bottleneck)],
        );
    }
    let held = preview.blocks.iter().map(|b| match &b.subject {
        Subject::Node(node) => format!("{}: {}", super::text::short(node.as_str()), b.reason),
        subject => format!("{subject}: {}", b.reason),
    });
    out.section("left alone", held);
    out.section("note", preflight.warnings.iter().map(ToString::to_string));
    out.faults(&preflight.faults);
    out.text
}

impl Page {
    /// A name at the left and lines beside it; a longer list is cut and counted.
    fn section(&mut self, name: &str, lines: impl IntoIterator<Item = String>) {
        let lines: Vec<_> = lines.into_iter().collect();
        let more = lines.len().saturating_sub(LISTED);
        let cut = (more > 0).then(|| format!("… and {} more", grouped(more as u64)));
        let mut name = name;
        for text in lines.iter().take(LISTED).chain(&cut) {
            for (n, part) in wrap(text, self.width.saturating_sub(16)).iter().enumerate() {
                let hang = if n > 0 { "  " } else { "" };
                let label = self.paint.dim(&format!("{name:<11}"));
                self.line(&format!("  {label} {hang}{part}"));
                name = "";
            }
        }
    }

    fn table(&mut self, groups: &BTreeMap<GroupName, GroupPreview>) {
        let widest = groups.keys().map(|n| n.as_str().chars().count()).max().unwrap_or(0).clamp(5, WIDEST_NAME);
        let name = widest.min(self.width.saturating_sub(48).max(8));
        let head = format!(
            "  {:<name$} {:>8} {:>6} {:>6} {:>11} {:>6} {:>7}",
            "group", "outdated", "nodes", "surge", "unavailable", "drains", "alone"
        );
        self.line(&self.paint.dim(&clip(&head, self.width)).clone());
        for (group, g) in groups {
            let nodes = g.progress.outdated + g.progress.current;
            let time = if g.expected_s > 0.0 { seconds(g.expected_s) } else { String::new() };
            let row = format!(
                "  {:<name$} {:>8} {nodes:>6} {:>6} {:>11} {:>6} {time:>7}",
                clip(group.as_str(), name),
                g.progress.outdated,
                g.limits.surge,
                g.limits.unavailable,
                g.limits.drains,
            );
            self.line(&row);
        }
    }

    fn reasons(&mut self, groups: &BTreeMap<GroupName, GroupPreview>) {
        let mut all: BTreeMap<&Text, u32> = BTreeMap::new();
        for (reason, n) in groups.values().flat_map(|g| &g.reasons) {
            *all.entry(reason).or_default() += n;
        }
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_by_key(|(reason, n)| (std::cmp::Reverse(*n), *reason));
        self.section("why", all.iter().map(|(reason, n)| format!("{}: {reason}", grouped(u64::from(*n)))));
    }

    /// Why the surges are what they are: one line for each reason, with the groups it holds for.
    fn surges(&mut self, groups: &BTreeMap<GroupName, GroupPreview>) {
        let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, group) in groups.iter().filter(|(_, g)| g.progress.outdated > 0) {
            all.entry(&group.limits.why).or_default().push(name.as_str());
        }
        let one = all.len() == 1;
        let line = |(why, groups): (&&str, &Vec<&str>)| match one {
            true => (*why).to_owned(),
            false => format!("{}: {why}", groups.join(", ")),
        };
        self.section("surge", all.iter().map(line).collect::<Vec<_>>());
    }

    fn faults(&mut self, faults: &[impl Display]) {
        for fault in faults {
            for (n, part) in wrap(&fault.to_string(), self.width.saturating_sub(16)).iter().enumerate() {
                let label = if n > 0 { "  ".to_owned() + &" ".repeat(11) } else { self.paint.red("  in the way ") };
                self.line(&format!("{label} {part}"));
            }
        }
    }
}
