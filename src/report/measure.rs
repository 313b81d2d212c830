//! A measurement as a table for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::page::Page;
use super::text::{Paint, clip, count, grouped, seconds, wrap};
use crate::model::Text;
use crate::readiness::stages::{Comparison, Figures, Lever, Measurement, PathShare, Sampled, Stage, Worth};

/// Lines of a list before the rest is counted.
const LISTED: usize = 12;

/// Widest name in a table.
const WIDEST_NAME: usize = 40;

/// What can be done where no node shows how it started.
const NONE_NEW: &str = "A start shows only on a node that still has a DaemonSet pod it started with: DaemonSets \
    that were updated since have new pods. Launch a node, or rotate one (fastnode rotate --node NAME), and measure again.";

/// The measurement for a terminal of this width.
pub fn text(measured: &Measurement, width: usize, paint: Paint) -> String {
    let Measurement { cluster, nodes, usable, .. } = measured;
    let head = match (*nodes, *usable) {
        (0, _) => format!("{cluster}: no node is in scope"),
        (nodes, 0) => {
            format!("{cluster}: no new node to measure; none of {} shows how it started", count_of(nodes, "node"))
        }
        (nodes, usable) if usable == nodes => format!("{cluster}: how {} started", count_of(nodes, "node")),
        (nodes, usable) => format!("{cluster}: how {} of {} started", grouped(usable.into()), count_of(nodes, "node")),
    };
    let mut page = Page::new(&head, width, paint);
    page.left_out(&measured.left_out);
    for note in &measured.notes {
        page.row("note", note);
    }
    if *usable == 0 {
        if *nodes > 0 {
            page.paragraph(NONE_NEW);
        }
        return page.text;
    }
    page.stages(&measured.all);
    page.unknown(measured);
    for (what, figures) in [
        ("group", &measured.groups),
        ("zone", &measured.zones),
        ("instance type", &measured.instance_types),
        ("launched from", &measured.templates),
    ] {
        page.split(what, figures);
    }
    page.daemonsets(&measured.all);
    page.path(&measured.all);
    if let Some(lever) = &measured.lever {
        page.lever(lever);
    }
    if let Some(compared) = &measured.compared {
        page.compared(compared, measured);
    }
    page.text
}

/// A step of the critical path in words: `kube-system/aws-node: restarts`.
pub fn step(share: &PathShare) -> String {
    share.step.of(share.daemonset.as_ref())
}

/// What some seconds a node are worth: `14h of the 38h that a rotation of 100 nodes takes with surge 1, 3m05s of
/// 1h10m with surge auto`.
pub fn worth(worth: &[Worth]) -> String {
    let mut out = String::new();
    for (n, worth) in worth.iter().enumerate() {
        let (saved, whole) = (seconds(worth.saved_s()), seconds(worth.slower_s));
        let _ = match n {
            0 => write!(
                out,
                "{saved} of the {whole} that a rotation of {} takes with surge {}",
                count_of(worth.nodes, "node"),
                worth.surge
            ),
            _ => write!(out, ", {saved} of {whole} with surge {}", worth.surge),
        };
    }
    out
}

fn count_of(n: u32, one: &str) -> String {
    count(n.into(), one)
}

impl Page {
    fn head(&mut self, line: &str) {
        let line = self.paint.dim(clip(line, self.width).trim_end());
        self.line(&line);
    }

    fn paragraph(&mut self, text: &str) {
        for line in wrap(text, self.width.saturating_sub(2)) {
            self.line(&format!("  {line}"));
        }
    }

    /// A name at the left and text beside it.
    fn row(&mut self, name: &str, text: &str) {
        let mut label = self.paint.dim(&format!("{name:<11}"));
        for part in wrap(text, self.width.saturating_sub(16)) {
            self.line(&format!("  {label} {part}"));
            label = " ".repeat(13);
        }
    }

    /// Reasons with how many nodes each, and the node where it is one.
    fn left_out(&mut self, left_out: &BTreeMap<crate::model::NodeName, Text>) {
        let mut reasons: BTreeMap<&Text, Vec<&str>> = BTreeMap::new();
        for (node, why) in left_out {
            reasons.entry(why).or_default().push(super::text::short(node.as_str()));
        }
        let mut reasons: Vec<_> = reasons.into_iter().collect();
        reasons.sort_by_key(|(why, nodes)| (std::cmp::Reverse(nodes.len()), *why));
        let more = reasons.len().saturating_sub(LISTED);
        for (n, (why, nodes)) in reasons.into_iter().take(LISTED).enumerate() {
            let name = if n == 0 { "left out" } else { "" };
            match nodes.as_slice() {
                [node] => self.row(name, &format!("{node}: {why}")),
                nodes => self.row(name, &format!("{} nodes: {why}", grouped(nodes.len() as u64))),
            }
        }
        if more > 0 {
            self.row("", &format!("… and {more} reasons more"));
        }
    }

    fn stages(&mut self, all: &Figures) {
        self.head(&format!(
            "  {:<12} {:<24} {:>6} {:>7} {:>7} {:>7} {:>7}",
            "stage", "from … to", "nodes", "p50", "p90", "p99", "max"
        ));
        for stage in Stage::ALL {
            let (name, meaning) = (stage.name(), stage.meaning());
            let Some(sampled) = all.stages.get(&stage) else {
                let row = format!("  {name:<12} {meaning:<24} {:>6} {:>7}", 0, "unknown");
                let row = self.paint.dim(&clip(&row, self.width));
                self.line(&row);
                continue;
            };
            let p = sampled.seconds;
            let [p50, p90, p99, max] = [p.p50, p.p90, p.p99, p.max].map(seconds);
            let nodes = grouped(sampled.nodes.into());
            let row = format!("  {name:<12} {meaning:<24} {nodes:>6} {p50:>7} {p90:>7} {p99:>7} {max:>7}");
            let row = clip(&row, self.width);
            let row = if stage == Stage::Start { self.paint.bold(&row) } else { row };
            self.line(&row);
        }
        if all.restarts > 0 {
            let (restarts, on) = (count_of(all.restarts, "restart"), count_of(all.restarted_nodes, "node"));
            self.row("restarts", &format!("{restarts} of gated DaemonSets' containers on {on} while they started"));
        }
    }

    /// Why nodes that are usable do not show Ready or functional.
    fn unknown(&mut self, measured: &Measurement) {
        let mut reasons: BTreeMap<&Text, u32> = BTreeMap::new();
        for why in measured.starts.iter().flat_map(|s| &s.unknown) {
            *reasons.entry(why).or_default() += 1;
        }
        let mut reasons: Vec<_> = reasons.into_iter().collect();
        reasons.sort_by_key(|(why, n)| (std::cmp::Reverse(*n), *why));
        for (n, (why, nodes)) in reasons.into_iter().take(LISTED).enumerate() {
            let name = if n == 0 { "unknown" } else { "" };
            self.row(name, &format!("on {}: {why}", count_of(nodes, "node")));
        }
    }

    /// Figures by something, where there are at least two of it.
    fn split(&mut self, what: &str, figures: &BTreeMap<Text, Figures>) {
        if figures.len() < 2 {
            return;
        }
        let widest = figures.keys().map(|n| n.chars().count()).max().unwrap_or(0).clamp(13, WIDEST_NAME);
        let name = widest.min(self.width.saturating_sub(49).max(13));
        self.head(&format!(
            "  {what:<name$} {:>6} {:>7} {:>7} {:>7} {:>7} {:>7}",
            "nodes", "joined", "start", "p90", "p99", "restart"
        ));
        for (key, figures) in figures.iter().take(LISTED) {
            let start = figures.stages.get(&Stage::Start).map(|s| s.seconds);
            let cell = |s: Option<f64>| s.map_or_else(|| "?".to_owned(), seconds);
            let row = format!(
                "  {:<name$} {:>6} {:>7} {:>7} {:>7} {:>7} {:>7}",
                clip(key, name),
                grouped(figures.nodes.into()),
                cell(figures.median(Stage::Joined)),
                cell(start.map(|p| p.p50)),
                cell(start.map(|p| p.p90)),
                cell(start.map(|p| p.p99)),
                grouped(figures.restarts.into()),
            );
            self.line(&clip(&row, self.width));
        }
        if figures.len() > LISTED {
            self.line(&format!("  … and {} more", figures.len() - LISTED));
        }
    }

    fn daemonsets(&mut self, all: &Figures) {
        let name = all.daemonsets.keys().map(|n| n.chars().count()).max().unwrap_or(0).clamp(9, WIDEST_NAME);
        let name = name.min(self.width.saturating_sub(47).max(13));
        self.head(&format!(
            "  {:<name$} {:>6} {:>6} {:>6} {:>7} {:>7} {:>7}",
            "DaemonSet", "bound", "init", "start", "Ready", "p90", "restart"
        ));
        let mut sets: Vec<_> = all.daemonsets.iter().collect();
        let ready = |s: Option<Sampled>| s.map_or(-1.0, |s| s.seconds.p50);
        sets.sort_by(|a, b| b.1.gated.cmp(&a.1.gated).then(ready(b.1.ready).total_cmp(&ready(a.1.ready))));
        for (key, set) in sets.iter().take(LISTED) {
            let p50 = |s: Option<Sampled>| s.map_or_else(|| "?".to_owned(), |s| seconds(s.seconds.p50));
            let row = format!(
                "  {:<name$} {:>6} {:>6} {:>6} {:>7} {:>7} {:>7}",
                clip(key, name),
                p50(set.scheduled),
                p50(set.initialized),
                p50(set.started),
                p50(set.ready),
                set.ready.map_or_else(|| "?".to_owned(), |s| seconds(s.seconds.p90)),
                grouped(set.restarts.into()),
            );
            let row = clip(&row, self.width);
            let row = if set.gated { row } else { self.paint.dim(&row) };
            self.line(&row);
        }
        if sets.len() > LISTED {
            self.line(&format!("  … and {} more", sets.len() - LISTED));
        }
    }

    fn path(&mut self, all: &Figures) {
        if all.critical_path.is_empty() {
            return;
        }
        self.head(&format!("  critical path: what a node waits for, the mean of {}", count_of(all.paths, "node")));
        for share in all.critical_path.iter().filter(|s| s.mean_s >= 0.05) {
            let on = match share.nodes {
                n if n == all.paths => String::new(),
                n => format!(" (on {} of them)", grouped(n.into())),
            };
            let line = format!("  {:>8}  {}{on}", seconds(share.mean_s), step(share));
            self.line(&clip(&line, self.width));
        }
    }

    fn lever(&mut self, lever: &Lever) {
        let Lever { daemonset, seconds: s, worth: w } = lever;
        self.row("worth", &format!("{daemonset} is {} a node: {}", seconds(*s), worth(w)));
    }

    fn compared(&mut self, compared: &Comparison, measured: &Measurement) {
        let Comparison { measured: when, cluster, usable, .. } = compared;
        let when = when.strftime("%Y-%m-%d %H:%M:%SZ");
        let of = if *cluster == measured.cluster { String::new() } else { format!(" of {cluster}") };
        self.head(&format!("  before: {when}{of}, {}", count_of(*usable, "node")));
        let change = |before: f64, now: f64| match now - before {
            d if d.abs() < 0.05 => "the same".to_owned(),
            d if d < 0.0 => format!("{} less", seconds(-d)),
            d => format!("{} more", seconds(d)),
        };
        let lines =
            compared.stages.iter().map(|(stage, (a, b))| (stage.name().to_owned(), *a, *b, *stage == Stage::Start));
        let groups = compared.groups.iter().filter(|_| compared.groups.len() > 1);
        let lines: Vec<_> = lines.chain(groups.map(|(name, (a, b))| (name.to_string(), *a, *b, false))).collect();
        for (name, before, now, strong) in lines {
            let line = format!(
                "  {:<24} {:>7} -> {:>7}  {}",
                clip(&name, 24),
                seconds(before),
                seconds(now),
                change(before, now)
            );
            let line = clip(&line, self.width);
            let line = if strong { self.paint.bold(&line) } else { line };
            self.line(&line);
        }
        let (before, now) = compared.restarts;
        self.line(&format!("  {:<24} {before:>7.1} -> {now:>7.1}", "restarts a node"));
        if let Some((before, now)) = compared.stages.get(&Stage::Start).filter(|_| !compared.worth.is_empty()) {
            let word = if now < before { "saves" } else { "costs" };
            let a_node = seconds((before - now).abs());
            self.row("worth", &format!("{a_node} a node {word} {}", worth(&compared.worth)));
        }
    }
}
