//! The report of a rotation in words.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::summary::{DRAIN, TERMINATE};
use super::text::{Paint, count, grouped, seconds, short, wrap};
use super::{repairs, words};
use crate::event::Report;
use crate::model::Text;
use crate::plan::Verdict;
use crate::readiness::stages::Stage;

/// Lines of a list before the rest is counted.
const LISTED: usize = 10;

/// The report for a terminal of this width.
pub fn text(report: &Report, cluster: &str, width: usize, paint: Paint) -> String {
    let mut out = String::new();
    let nothing = report.nodes_rotated == 0 && report.nodes_skipped.is_empty();
    if report.outcome == Verdict::Done && nothing && report.evictions == 0 {
        let _ = writeln!(out, "{}", paint.green(&format!("{cluster}: nothing to do, every node is current")));
        return out;
    }
    headline(&mut out, report, cluster, width, paint);
    let mut row = |name: &str, value: &str| {
        let mut lines = wrap(value, width.saturating_sub(16)).into_iter();
        let _ = writeln!(out, "  {} {}", paint.dim(&format!("{name:<13}")), lines.next().unwrap_or_default());
        for line in lines {
            let _ = writeln!(out, "{:16}{line}", "");
        }
    };
    if report.lower_bound_s > 0.0 {
        let over = (report.duration_s / report.lower_bound_s - 1.0) * 100.0;
        let bound = seconds(report.lower_bound_s);
        let how = if report.nodes_rotated == 0 { "for all that was planned".to_owned() } else { percent_over(over) };
        row("lower bound", &format!("{bound}, {how}; {}", report.bottleneck));
    }
    if report.evictions > 0 {
        let twice = match report.pods_moved_twice {
            0 => "none of them twice".to_owned(),
            n => format!("{} of them twice", grouped(n)),
        };
        row("pods moved", &format!("{}, {twice}", grouped(report.pods_moved)));
    }
    let nodes = report.nodes_rotated;
    if let Some(calls) = calls(&report.aws_calls, nodes) {
        row("AWS calls", &calls);
    }
    if let Some(requests) = calls(&report.kube_requests, nodes) {
        row("Kubernetes", &requests);
    }
    if !report.critical_path.is_empty() {
        row("a new node", &format!("waits for {}", report.critical_path.join("; ")));
    }
    stages(&mut out, report, paint);
    list(
        &mut out,
        if report.nodes_rotated == 0 { "where the time went" } else { "time over the bound" },
        paint,
        report.time_lost.iter().map(|l| format!("{:>7}  {}", seconds(l.seconds), l.what)),
        width,
    );
    list(&mut out, "fixes", paint, report.fixes.iter().map(|fix| repairs::line(fix, cluster)), width);
    list(
        &mut out,
        "skipped",
        paint,
        report.nodes_skipped.iter().map(|(node, why)| format!("{}: {why}", short(node.as_str()))),
        width,
    );
    list(
        &mut out,
        "failed replacements",
        paint,
        report.replacements_failed.iter().map(|(name, why)| format!("{}: {why}", short(name))),
        width,
    );
    let on = |(what, nodes): (&Text, &u32)| format!("{what}: on {}", count(u64::from(*nodes), "new node"));
    list(&mut out, "let pass", paint, report.remarks.iter().map(on), width);
    list(&mut out, "left behind", paint, report.left_behind.iter().map(ToString::to_string), width);
    out
}

fn headline(out: &mut String, report: &Report, cluster: &str, width: usize, paint: Paint) {
    let rotated = count(u64::from(report.nodes_rotated), "node");
    let line =
        format!("{cluster}: {}; {rotated} rotated in {}", words::verdict(report.outcome), seconds(report.duration_s));
    for line in wrap(&line, width) {
        let line = match report.outcome {
            Verdict::Done => paint.green(&line),
            Verdict::Incomplete | Verdict::TargetChanged | Verdict::Aborted | Verdict::Interrupted => {
                paint.yellow(&line)
            }
            Verdict::CanaryFailed | Verdict::FailureBudget | Verdict::Stuck | Verdict::Failed => paint.red(&line),
        };
        let _ = writeln!(out, "{}", paint.bold(&line));
    }
}

fn percent_over(percent: f64) -> String {
    match percent {
        p if p < 0.05 => "reached".to_owned(),
        p if p < 9.95 => format!("{p:.1}% over it"),
        p => format!("{p:.0}% over it"),
    }
}

/// All of them, a node, and the three most frequent.
fn calls(calls: &BTreeMap<Text, u64>, nodes: u32) -> Option<String> {
    let all: u64 = calls.values().sum();
    if all == 0 {
        return None;
    }
    let mut text = grouped(all);
    if nodes > 0 {
        let _ = write!(text, ", {:.1} a node", all as f64 / f64::from(nodes));
    }
    let mut most: Vec<_> = calls.iter().collect();
    most.sort_by_key(|(name, n)| (std::cmp::Reverse(**n), *name));
    let most: Vec<_> = most.iter().take(3).map(|(name, n)| format!("{name} {}", grouped(**n))).collect();
    let _ = write!(text, " ({})", most.join(", "));
    Some(text)
}

fn stages(out: &mut String, report: &Report, paint: Paint) {
    if report.stages.is_empty() {
        return;
    }
    let head = format!("  {:<13} {:>8} {:>8} {:>8} {:>8}", "stage", "p50", "p90", "p99", "max");
    let _ = writeln!(out, "{}", paint.dim(&head));
    for name in Stage::ALL.map(Stage::name).into_iter().chain([DRAIN, TERMINATE]) {
        let Some(p) = report.stages.get(name) else { continue };
        let cells = [p.p50, p.p90, p.p99, p.max].map(seconds);
        let [p50, p90, p99, max] = cells;
        let _ = writeln!(out, "  {name:<13} {p50:>8} {p90:>8} {p99:>8} {max:>8}");
    }
}

fn list(out: &mut String, name: &str, paint: Paint, lines: impl ExactSizeIterator<Item = String>, width: usize) {
    let all = lines.len();
    if all == 0 {
        return;
    }
    let _ = writeln!(out, "  {}", paint.dim(name));
    for line in lines.take(LISTED) {
        for (n, part) in wrap(&line, width.saturating_sub(6)).iter().enumerate() {
            let _ = writeln!(out, "    {}{part}", if n > 0 { "  " } else { "" });
        }
    }
    if all > LISTED {
        let _ = writeln!(out, "    … and {} more", all - LISTED);
    }
}
