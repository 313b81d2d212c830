//! Words that several faces share; the planner's reasons have their own in [`crate::plan`].

use std::fmt::Write;

use crate::event::About;
use crate::model::Text;
use crate::plan::{Outdated, Stage, Verdict};

/// Reasons of one instance, or `current`.
pub fn all_outdated(reasons: &[Outdated]) -> String {
    if reasons.is_empty() {
        return "current".to_owned();
    }
    reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A stage in one word.
pub fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Launching => "launching",
        Stage::Running => "running",
        Stage::Joined => "joined",
        Stage::Ready => "ready",
        Stage::Functional => "functional",
        Stage::Failed => "failed",
        Stage::Selected => "selected",
        Stage::Draining => "draining",
        Stage::Drained => "drained",
        Stage::Deregistering => "leaving LBs",
        Stage::Terminating => "terminating",
        Stage::Skipped => "skipped",
    }
}

/// Whether a stage is one of a replacement.
pub fn is_new(stage: Stage) -> bool {
    matches!(
        stage,
        Stage::Launching | Stage::Running | Stage::Joined | Stage::Ready | Stage::Functional | Stage::Failed
    )
}

/// How a rotation ended, and what follows from it.
pub fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Done => "done",
        Verdict::Incomplete => "incomplete; run it again to go on",
        Verdict::TargetChanged => "ended because a group's target changed; run it again for the new one",
        Verdict::CanaryFailed => "stopped: the canary failed, nothing else was drained",
        Verdict::FailureBudget => "stopped: too many replacements failed",
        Verdict::Stuck => "stopped: something took longer than allowed",
        Verdict::Aborted => "aborted, everything put back",
        Verdict::Interrupted => "interrupted; the next run goes on from here",
        Verdict::Failed => "cut short by an error",
    }
}

/// What was let pass, without the times that follow: `aws-node: container aws-node restarted 1x`.
pub fn gist(said: &str) -> &str {
    said.split([',', ';']).next().unwrap_or(said)
}

/// Who an event is about: the Node, else the instance, else the group.
pub fn who(about: &About) -> Text {
    let node = about.node.as_ref().map(|n| Text::from(super::text::short(n.as_str())));
    node.or_else(|| about.instance.as_ref().map(|i| i.text().clone()))
        .or_else(|| about.group.as_ref().map(|g| format!("an instance of {g}").into()))
        .unwrap_or_else(|| "?".into())
}

/// `(web-a, us-west-2a)`, as far as known and not said already.
pub fn place(about: &About) -> String {
    let mut out = String::new();
    let named = about.node.is_some() || about.instance.is_some();
    let parts = [about.group.as_ref().filter(|_| named).map(|g| g.as_str()), about.zone.as_ref().map(|z| z.as_str())];
    for part in parts.into_iter().flatten() {
        let _ = write!(out, "{}{part}", if out.is_empty() { " (" } else { ", " });
    }
    if !out.is_empty() {
        out.push(')');
    }
    out
}
