//! Fixes for people and programs: how targets stand, what would change, how it went.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Value, json};

use super::text::{Paint, count, wrap};
use crate::fixes::bootstrap::Snippet;
use crate::fixes::{Catalogue, Proposal, Start, State};

/// The catalogue: a fix a line.
pub fn catalogue(all: &Catalogue, width: usize, paint: Paint) -> String {
    let mut out = String::new();
    for fix in all.iter() {
        let target = if fix.target.daemonset == "any" {
            format!("any DaemonSet: {}:NAME", fix.fix)
        } else {
            fix.target.daemonset.clone()
        };
        let _ = writeln!(out, "{}  {}", paint.bold(&fix.fix), paint.dim(&target));
        for line in wrap(&format!("{}. {}", fix.summary, fix.reason), width.saturating_sub(4)) {
            let _ = writeln!(out, "    {line}");
        }
    }
    out
}

/// The catalogue for programs.
pub fn catalogue_json(all: &Catalogue) -> Value {
    json!({ "v": crate::event::VERSION, "fixes": all.iter().collect::<Vec<_>>() })
}

/// How a target stands to a fix, and what the fix would change; `standing` is what nodes have shown of one in place.
pub fn proposal(proposal: &Proposal, standing: Option<&str>, width: usize, paint: Paint) -> String {
    let mut out = String::new();
    let Proposal { remedial, state, way, .. } = proposal;
    let colour: fn(Paint, &str) -> String = match state {
        State::Missing => Paint::yellow,
        State::Present(_) | State::Applied(_) => Paint::green,
        State::Unfit(_) => Paint::dim,
    };
    let word = stands(state);
    let _ = writeln!(out, "{}  {}", paint.bold(&remedial.name), remedial.daemonset);
    let mut line = |mark: &str, text: &str| {
        for (i, part) in wrap(text, width.saturating_sub(4)).iter().enumerate() {
            let mark = if i == 0 { mark } else { " " };
            let _ = writeln!(out, "  {mark} {part}");
        }
    };
    line("-", &colour(paint, &word));
    if let Some(standing) = standing {
        line("-", standing);
    }
    if way.is_some() && *state == State::Missing {
        line("-", &remedial.fix.reason);
    }
    if let Some(way) = way {
        line("-", &way.to_string());
    }
    if proposal.is_open() && proposal.pods > 0 {
        let pods = count(u64::from(proposal.pods), "pod");
        line("-", &format!("restarts {pods}, {}", proposal.at_a_time));
    }
    for note in &proposal.notes {
        line("!", note);
    }
    for Snippet { place, text } in &proposal.snippets {
        let _ = writeln!(out, "  + {place}:");
        for line in text.lines() {
            let _ = writeln!(out, "        {line}");
        }
    }
    out + &coloured(&proposal.diff, paint)
}

/// How a target stands to a fix.
fn stands(state: &State) -> String {
    match state {
        State::Missing => "missing".to_owned(),
        State::Present(form) => format!("already there: {form}"),
        State::Applied(record) => format!("applied {:.0}", record.at),
        State::Unfit(why) => format!("does not apply: {why}"),
    }
}

/// Why there is nothing to do about a fix, or nothing can be done.
pub fn closed(proposal: &Proposal) -> String {
    proposal.way.as_ref().map_or_else(|| stands(&proposal.state), ToString::to_string)
}

/// That no new node has shown yet what a fix is worth, and with what it will be compared.
pub fn unproved(before: Option<(Start, usize)>) -> String {
    let Some((Start { seconds, restarts }, nodes)) = before else {
        return "it cannot be verified: no node shows any more how it started".to_owned();
    };
    let nodes = count(nodes as u64, "node");
    let restarts = count(u64::from(restarts), "restart");
    format!("not verified yet: the next new node shows whether it helps; {nodes} before it: {seconds:.0} s, {restarts}")
}

/// A unified diff, coloured as git does it.
pub fn coloured(diff: &str, paint: Paint) -> String {
    let mut out = String::new();
    for line in diff.lines() {
        let line = match line.chars().next() {
            Some('+') => paint.green(line),
            Some('-') => paint.red(line),
            Some('@') => paint.cyan(line),
            _ => line.to_owned(),
        };
        let _ = writeln!(out, "{line}");
    }
    out
}

/// What became of a fix.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// `shown`, `applied`, `settled`, `reverted`, `rolled back`, `harmful` (and still in place), `late` or `nothing to do`.
    pub outcome: &'static str,
    /// More of it, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A fix for programs.
pub fn json(proposal: &Proposal, outcome: &Outcome) -> Value {
    let Proposal { remedial, state, way, diff, notes, pods, .. } = proposal;
    let mut found = json!({
        "fix": remedial.name,
        "daemonset": remedial.daemonset.to_string(),
        "summary": remedial.fix.summary,
        "target": state,
        "change": way,
        "diff": diff,
        "notes": notes,
        "restarts_pods": if proposal.is_open() { *pods } else { 0 },
        "outcome": outcome.outcome,
    });
    if !proposal.snippets.is_empty() {
        found["by_hand"] = json!(proposal.snippets);
    }
    if let Some(why) = &outcome.why {
        found["why"] = json!(why);
    }
    found
}
