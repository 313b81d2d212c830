//! Events as lines of text, for logs: what happens to nodes, and what takes long; no line a pod.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::mem::discriminant;

use jiff::{SignedDuration, Timestamp};

use super::text::{Paint, count, seconds, short, time_of_day};
use super::words;
use crate::event::{About, Chosen, Event, EventKind};
use crate::plan::{Subject, Wait};

/// A wait gets a line once it has lasted this long.
const WORTH_A_LINE: SignedDuration = SignedDuration::from_secs(60);

/// How much is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// Errors, and what was given up (`-q`).
    Quiet,
    /// What concerns the rotation; what stands above the bars.
    Notable,
    /// What happens to each node.
    Nodes,
    /// Every wait, pod and action (`-v`).
    Everything,
}

/// Writes events as lines; remembers waits until they are worth one.
#[derive(Debug)]
pub struct PlainLines {
    paint: Paint,
    detail: Detail,
    waiting: BTreeMap<Subject, Wait>,
    due: BTreeSet<(Timestamp, Subject)>,
}

impl PlainLines {
    /// Lines of this detail.
    pub fn new(detail: Detail, paint: Paint) -> Self {
        Self { paint, detail, waiting: BTreeMap::new(), due: BTreeSet::new() }
    }

    /// The lines of an event, none for most.
    pub fn lines(&mut self, event: &Event) -> Vec<String> {
        if let EventKind::Progress { waits, .. } = &event.kind {
            self.keep(waits);
        }
        let mut lines = self.overdue(event.time);
        match &event.kind {
            EventKind::Wait(wait) => lines.extend(self.remember(event.time, wait)),
            kind => {
                if let Some(about) = about(kind) {
                    self.forget(about);
                }
                lines.extend(self.line(event.time, kind));
            }
        }
        lines
    }

    /// Waits that have lasted long enough by `now`.
    fn overdue(&mut self, now: Timestamp) -> Vec<String> {
        let mut lines = Vec::new();
        while self.due.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, subject)) = self.due.pop_first() else { break };
            if let Some(wait) = self.waiting.get(&subject) {
                lines.push(self.wait_line(now, wait));
            }
        }
        lines
    }

    fn remember(&mut self, now: Timestamp, wait: &Wait) -> Option<String> {
        let begun = wait.since.unwrap_or(now);
        self.remove(&wait.subject);
        self.waiting.insert(wait.subject.clone(), wait.clone());
        if self.detail == Detail::Everything {
            return Some(self.wait_line(now, wait));
        }
        if self.detail >= Detail::Nodes {
            let due = begun.checked_add(WORTH_A_LINE).unwrap_or(Timestamp::MAX).max(now);
            self.due.insert((due, wait.subject.clone()));
        }
        None
    }

    /// Forgets what is not waited for any more.
    fn keep(&mut self, waits: &[Wait]) {
        if self.due.is_empty() {
            return;
        }
        let mut stay: BTreeMap<&Subject, Vec<_>> = BTreeMap::new();
        for wait in waits {
            stay.entry(&wait.subject).or_default().push(discriminant(&wait.reason));
        }
        self.waiting.retain(|who, wait| stay.get(who).is_some_and(|for_| for_.contains(&discriminant(&wait.reason))));
        self.due.retain(|(_, subject)| self.waiting.contains_key(subject));
    }

    fn remove(&mut self, subject: &Subject) {
        if self.waiting.remove(subject).is_some() {
            self.due.retain(|(_, s)| s != subject);
        }
    }

    fn forget(&mut self, about: &About) {
        if self.waiting.is_empty() {
            return;
        }
        if let Some(node) = &about.node {
            self.remove(&Subject::Node(node.clone()));
        }
        if let Some(instance) = &about.instance {
            self.remove(&Subject::Instance(instance.clone()));
        }
    }

    fn wait_line(&self, now: Timestamp, wait: &Wait) -> String {
        let subject = match &wait.subject {
            Subject::Node(node) => short(node.as_str()).to_owned(),
            other => other.to_string(),
        };
        let since = match wait.since {
            Some(since) if now > since => {
                format!(", for {} now", super::text::clock(now.duration_since(since)))
            }
            _ => String::new(),
        };
        let what = format!("{subject}: {}{since}", wait.reason);
        self.format(now, "waits for", &what, Paint::yellow)
    }

    fn format(&self, now: Timestamp, word: &str, rest: &str, paint: fn(Paint, &str) -> String) -> String {
        let time = self.paint.dim(&time_of_day(now));
        format!("{time} {} {rest}", paint(self.paint, &format!("{word:<12}"))).trim_end().to_owned()
    }

    fn line(&self, now: Timestamp, kind: &EventKind) -> Option<String> {
        let (detail, word, rest, paint) = describe(kind)?;
        (detail <= self.detail).then(|| self.format(now, word, &rest, paint))
    }
}

type Described = (Detail, &'static str, String, fn(Paint, &str) -> String);

fn describe(kind: &EventKind) -> Option<Described> {
    use Detail::{Everything, Nodes, Notable, Quiet};
    let plain: fn(Paint, &str) -> String = |_, text| text.to_owned();
    let of = |about: &About, rest: String| format!("{}{}{rest}", words::who(about), words::place(about));
    Some(match kind {
        EventKind::RotationPlanned { groups, expected_s, lower_bound_s, bottleneck, .. } => {
            let outdated = groups.values().map(|g| u64::from(g.outdated)).sum();
            let rest = format!(
                "{} outdated in {}: about {}, at least about {} ({bottleneck})",
                count(outdated, "node"),
                count(groups.values().filter(|g| g.outdated > 0).count() as u64, "group"),
                seconds(*expected_s),
                seconds(*lower_bound_s),
            );
            // The plan itself stands above, as a table.
            (Everything, "planned", rest, Paint::bold)
        }
        EventKind::RotationStarted { rotation, resumed, outdated } => {
            let word = if *resumed { "goes on" } else { "started" };
            let rest = format!("rotation {rotation}, {} outdated", count(u64::from(*outdated), "node"));
            (Notable, word, rest, Paint::bold)
        }
        EventKind::RotationPaused => (Notable, "paused", "until fastnode resume".to_owned(), Paint::yellow),
        EventKind::RotationResumed => (Notable, "resumed", String::new(), Paint::bold),
        EventKind::RotationEnding { why } => {
            (Notable, "ending", format!("{why}: nothing new is begun, what was changed is put back"), Paint::yellow)
        }
        EventKind::NodeSelected { about, reason, outdated } => {
            let why = match reason {
                Chosen::Outdated => words::all_outdated(outdated),
                Chosen::Surge => "goes with the surge".to_owned(),
                Chosen::Failed => "a failed replacement goes".to_owned(),
            };
            (Nodes, "selected", of(about, format!(": {why}")), plain)
        }
        EventKind::NodeDraining { about, pods } => {
            (Nodes, "draining", of(about, format!(", {}", count(u64::from(*pods), "pod"))), Paint::cyan)
        }
        EventKind::NodeDrained { about, seconds: s, .. } => {
            (Nodes, "drained", of(about, format!(" in {}", seconds(*s))), plain)
        }
        EventKind::NodeTerminating { about, decrement, by_others } => {
            let how = match (decrement, by_others) {
                (_, true) => ", by others, not drained",
                (true, false) => ", its place is not filled again",
                (false, false) => "",
            };
            (Nodes, "terminating", of(about, how.to_owned()), plain)
        }
        EventKind::NodeGone { about, seconds: s, .. } => {
            (Nodes, "gone", of(about, format!(" after {}", seconds(*s))), Paint::green)
        }
        EventKind::NodeSkipped { about, why } => (Quiet, "skipped", of(about, format!(": {why}")), Paint::red),
        EventKind::ReplacementLaunching { about } => (Nodes, "launching", of(about, String::new()), plain),
        EventKind::ReplacementRunning { about } => (Nodes, "running", of(about, String::new()), plain),
        EventKind::ReplacementJoined { about } => (Nodes, "joined", of(about, String::new()), plain),
        EventKind::ReplacementReady { about, seconds: s } => {
            (Nodes, "ready", of(about, format!(" after {}", seconds(*s))), plain)
        }
        EventKind::ReplacementFunctional { about, seconds: s, tolerated, differs, .. } => {
            let mut how = format!(" after {}", seconds(*s));
            let tolerated: Vec<&str> = tolerated.iter().map(|said| words::gist(said)).collect();
            let differs: Vec<&str> = differs.iter().map(|said| &**said).collect();
            for (what, said) in [("let pass", tolerated), ("differs", differs)] {
                if !said.is_empty() {
                    let _ = write!(how, "; {what}: {}", said.join("; "));
                }
            }
            (Nodes, "functional", of(about, how), Paint::green)
        }
        EventKind::ReplacementFailed { about, diagnosis } => {
            (Quiet, "failed", of(about, format!(": {diagnosis}")), Paint::red)
        }
        EventKind::PodEvicting { pod, node } => (Everything, "evicting", format!("{pod} from {node}"), plain),
        EventKind::PodEvicted { pod, node, .. } => (Everything, "evicted", format!("{pod} from {node}"), plain),
        EventKind::PodBlocked { pod, node, by } => {
            (Everything, "blocked", format!("{pod} on {node}: {by}"), Paint::yellow)
        }
        EventKind::PodGone { pod, node } => (Everything, "pod gone", format!("{pod} from {node}"), plain),
        EventKind::Action { what, .. } => (Everything, "action", what.clone(), Paint::dim),
        EventKind::Diagnosis { about, finding } => {
            let fix = finding.fix.as_ref().map_or(String::new(), |fix| format!(" (helps: {fix})"));
            (Notable, "finding", of(about, format!(": {finding}{fix}")), Paint::yellow)
        }
        EventKind::FixProposed { fix, way, .. } => (Notable, "fix", format!("{fix} would help: {way}"), Paint::cyan),
        EventKind::FixApplied { fix, daemonset, pods } => {
            let pods = count(u64::from(*pods), "pod");
            (Notable, "fixed", format!("{daemonset}: {fix}, {pods} restarted"), Paint::cyan)
        }
        EventKind::FixVerified { fix, effect, .. } => {
            let paint = if effect.helped { Paint::green } else { Paint::yellow };
            (Notable, "measured", format!("{fix}: {effect}"), paint)
        }
        EventKind::FixReverted { fix, daemonset, why } => {
            (Notable, "reverted", format!("{daemonset}: {fix}: {why}"), Paint::yellow)
        }
        EventKind::Error { message, fatal: false } => (Quiet, "error", message.clone(), Paint::red),
        // What ends the run is the program's last word: the report, and an error with what helps.
        EventKind::RotationFinished(_)
        | EventKind::Error { fatal: true, .. }
        | EventKind::Wait(_)
        | EventKind::Progress { .. }
        | EventKind::Tick => {
            return None;
        }
    })
}

/// Whom an event moved on, so that what it waited for is over.
fn about(kind: &EventKind) -> Option<&About> {
    match kind {
        EventKind::NodeSelected { about, .. }
        | EventKind::NodeDraining { about, .. }
        | EventKind::NodeDrained { about, .. }
        | EventKind::NodeTerminating { about, .. }
        | EventKind::NodeGone { about, .. }
        | EventKind::NodeSkipped { about, .. }
        | EventKind::ReplacementLaunching { about }
        | EventKind::ReplacementRunning { about }
        | EventKind::ReplacementJoined { about }
        | EventKind::ReplacementReady { about, .. }
        | EventKind::ReplacementFunctional { about, .. }
        | EventKind::ReplacementFailed { about, .. } => Some(about),
        _ => None,
    }
}
