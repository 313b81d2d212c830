//! What the terminal shows while a rotation runs, as lines of text: one bar a group, one line for each node
//! in hand, and a last line for the whole. A fold over events; [`super::progress`] only draws it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::text::{Paint, clip, clock, count, short};
use super::words;
use crate::event::{Event, EventKind};
use crate::model::{GroupName, Text};
use crate::plan::{InHand, Progress, Stage, Subject, Wait};

/// Lines that there is room for in the lowest terminal.
const FEWEST: usize = 4;
/// Names wider than this are cut.
const WIDEST_NAME: usize = 28;

#[derive(Debug)]
struct Bar {
    /// Nodes to be rotated when it was first seen.
    total: u32,
    progress: Progress,
    /// When the first node was done, and how many were then: the pace is counted from there.
    first: Option<(Timestamp, u32)>,
    /// When the last one was done.
    last: Option<Timestamp>,
}

impl Bar {
    fn done(&self) -> u32 {
        self.total.saturating_sub(self.progress.outdated + self.progress.skipped)
    }

    /// Seconds left at the pace so far, from the last node done on; `None` before there is a pace.
    fn eta(&self, now: Timestamp) -> Option<f64> {
        let ((since, at), last) = (self.first?, self.last?);
        let (done, left) = (self.done(), self.progress.outdated);
        let pace = last.duration_since(since).as_secs_f64() / f64::from(done.checked_sub(at).filter(|n| *n > 0)?);
        let idle = now.duration_since(last).as_secs_f64();
        Some((pace * f64::from(left) - idle).max(0.0))
    }
}

/// The fold. [`View::lines`] says how it looks now.
#[derive(Debug, Default)]
pub struct View {
    bars: BTreeMap<GroupName, Bar>,
    in_hand: Vec<InHand>,
    waits: Vec<Wait>,
    began: Option<Timestamp>,
    now: Option<Timestamp>,
    expected_s: f64,
    paused: bool,
    ending: bool,
}

impl View {
    /// Takes in one event.
    pub fn fold(&mut self, event: &Event) {
        self.now = Some(event.time);
        match &event.kind {
            EventKind::RotationPlanned { expected_s, groups, .. } => {
                self.expected_s = *expected_s;
                self.take(event.time, groups);
            }
            EventKind::RotationStarted { .. } => self.began = Some(event.time),
            EventKind::RotationPaused => self.paused = true,
            EventKind::RotationResumed => self.paused = false,
            EventKind::RotationEnding { .. } => self.ending = true,
            EventKind::Progress { groups, in_hand, waits } => {
                self.take(event.time, groups);
                self.in_hand.clone_from(in_hand);
                self.waits.clone_from(waits);
            }
            EventKind::RotationFinished(_) => {
                self.in_hand.clear();
                self.waits.clear();
            }
            _ => {}
        }
    }

    fn take(&mut self, now: Timestamp, groups: &BTreeMap<GroupName, Progress>) {
        for (name, progress) in groups {
            let total = progress.outdated + progress.skipped;
            let bar = self.bars.entry(name.clone()).or_insert_with(|| Bar {
                total,
                progress: progress.clone(),
                first: None,
                last: None,
            });
            let before = bar.done();
            bar.progress.clone_from(progress);
            // A group may grow outdated nodes: named late, or launched by others from an older template.
            bar.total = bar.total.max(total);
            if bar.done() > before {
                bar.last = Some(now);
                bar.first.get_or_insert((now, bar.done()));
            }
        }
    }

    /// The lines for a terminal of this width and height: never wider than `width`, and at most half of `height`.
    /// A terminal that becomes narrower wraps them before they can be drawn anew; were there more, the first
    /// would scroll out of reach.
    pub fn lines(&self, width: usize, height: usize, paint: Paint) -> Vec<String> {
        let Some(now) = self.now else { return Vec::new() };
        let shown: Vec<_> = self.bars.iter().filter(|(_, bar)| bar.total > 0).collect();
        let room = (height / 2).max(FEWEST);
        let bars = shown.len().min(room / 2);
        let name_width = shown.iter().map(|(n, _)| n.as_str().chars().count()).max().unwrap_or(0).min(WIDEST_NAME);
        let name_width = name_width.min(width / 3);
        let mut lines: Vec<String> =
            shown.iter().take(bars).map(|(name, bar)| bar_line(name, bar, now, name_width, width, paint)).collect();
        if shown.len() > bars {
            let more = count((shown.len() - bars) as u64, "more group");
            lines.push(paint.dim(&clip(&format!("… and {more}"), width)));
        }
        lines.extend(self.hand_lines(now, width, room.saturating_sub(lines.len() + 1), paint));
        lines.push(self.last_line(now, width, paint));
        lines
    }

    fn hand_lines(&self, now: Timestamp, width: usize, room: usize, paint: Paint) -> Vec<String> {
        let mut order: Vec<&InHand> = self.in_hand.iter().collect();
        // What is drained first, then what is to come, then what only has to go; the longest in its stage first.
        order.sort_by_key(|h| {
            let rank = if h.stage == Stage::Terminating { 2 } else { u8::from(words::is_new(h.stage)) };
            (rank, h.since.unwrap_or(Timestamp::MAX))
        });
        let fits = if order.len() > room { room.saturating_sub(1) } else { order.len() };
        let mut lines: Vec<String> = order.iter().take(fits).map(|h| self.hand_line(h, now, width, paint)).collect();
        if order.len() > fits && room > 0 {
            let more = count((order.len() - fits) as u64, "more node");
            lines.push(paint.dim(&clip(&format!("  … and {more} in hand"), width)));
        }
        lines
    }

    fn hand_line(&self, hand: &InHand, now: Timestamp, width: usize, paint: Paint) -> String {
        let new = words::is_new(hand.stage);
        let name = match (&hand.node, &hand.instance) {
            (Some(node), _) => short(node.as_str()),
            (None, Some(instance)) => instance.as_str(),
            (None, None) => hand.group.as_str(),
        };
        let time = hand.since.map(|s| clock(now.duration_since(s))).unwrap_or_default();
        let wait = self.waits.iter().find(|w| match &w.subject {
            Subject::Node(node) => hand.node.as_ref() == Some(node),
            Subject::Instance(instance) => hand.instance.as_ref() == Some(instance),
            _ => false,
        });
        let what = match wait {
            Some(wait) => wait.reason.to_string(),
            None if hand.pods_left > 0 => format!("{} left", count(u64::from(hand.pods_left), "pod")),
            None => String::new(),
        };
        let name_width = if width < 100 { 19 } else { 24 };
        let sign = if new { "+" } else { "-" };
        let fixed =
            format!("  {sign} {:<name_width$} {:<11} {time:>6}", clip(name, name_width), words::stage(hand.stage));
        let fixed = clip(&fixed, width);
        let left = width.saturating_sub(fixed.chars().count() + 2);
        let fixed = if new { paint.green(&fixed) } else { paint.yellow(&fixed) };
        if left == 0 {
            return fixed;
        }
        format!("{fixed}  {}", clip(&what, left)).trim_end().to_owned()
    }

    fn last_line(&self, now: Timestamp, width: usize, paint: Paint) -> String {
        let total: u32 = self.bars.values().map(|b| b.total).sum();
        let done: u32 = self.bars.values().map(Bar::done).sum();
        let elapsed = self.began.map_or(SignedDuration::ZERO, |b| now.duration_since(b));
        let left: u32 = self.bars.values().map(|b| b.progress.outdated).sum();
        let eta =
            self.bars.values().filter(|b| b.progress.outdated > 0).map(|b| b.eta(now)).collect::<Option<Vec<_>>>();
        let left = match eta {
            _ if left == 0 || self.ending => "putting things back".to_owned(),
            Some(each) => format!("about {} left", left_text(each.into_iter().fold(0.0, f64::max))),
            None => format!("about {} left", left_text(self.expected_s - elapsed.as_secs_f64())),
        };
        let mut text = format!("{done} of {} rotated in {}, {left}", count(u64::from(total), "node"), clock(elapsed));
        if self.paused {
            text.push_str("; paused");
        }
        if let Some(wait) = self.waits.iter().find(|w| matches!(w.subject, Subject::Rotation | Subject::Group(_))) {
            let group = match &wait.subject {
                Subject::Group(group) => Text::from(format!("{group} waits for ")),
                _ => "waits for ".into(),
            };
            text.push_str(&format!("; {group}{}", wait.reason));
        }
        paint.bold(&clip(&text, width))
    }
}

fn left_text(seconds: f64) -> String {
    clock(SignedDuration::from_secs(seconds.max(0.0).round() as i64))
}

fn bar_line(name: &GroupName, bar: &Bar, now: Timestamp, name_width: usize, width: usize, paint: Paint) -> String {
    let (done, total) = (bar.done(), bar.total);
    let digits = total.to_string().len();
    let left = match bar.eta(now) {
        _ if bar.progress.outdated == 0 => "done".to_owned(),
        Some(eta) => format!("{} left", left_text(eta)),
        None => String::new(),
    };
    let skipped = if bar.progress.skipped > 0 { format!(" {} skipped", bar.progress.skipped) } else { String::new() };
    let tail = format!(" {done:>digits$}/{total} {left:>11}{skipped}");
    let track = width.saturating_sub(name_width + 1 + tail.chars().count()).min(60);
    let filled = (track as u64 * u64::from(done)).checked_div(u64::from(total)).unwrap_or(0) as usize;
    let name = format!("{:<name_width$} ", clip(name.as_str(), name_width));
    let full = paint.green(&"━".repeat(filled));
    let rest = if paint.color { paint.dim(&"━".repeat(track - filled)) } else { "·".repeat(track - filled) };
    let line = format!("{name}{full}{rest}");
    // Where even the numbers do not fit, they matter more than the bar.
    let tail = clip(&tail, width.saturating_sub(name_width + 1 + track));
    format!("{line}{tail}").trim_end().to_owned()
}
