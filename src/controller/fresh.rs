//! Whether what a call stands on was read a moment ago: the groups, and what they would launch.
//!
//! A termination keeps desired, so its group launches at once, and from whatever its template says then. A
//! version `$Latest` or `$Default`, or an image behind a parameter, moves without a trace in the group itself:
//! before each act that makes a group launch, such a target is resolved anew.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{GroupName, Target, TemplateRef};
use crate::plan::Action;

/// What a destructive call stands on was read no longer ago than this.
pub(super) const FRESH: Duration = Duration::from_secs(5);

/// When each group's target was asked for, and when the last answer that came was asked for.
#[derive(Debug, Default)]
pub(super) struct Targets {
    asked: BTreeMap<GroupName, Instant>,
    known: BTreeMap<GroupName, Instant>,
}

impl Targets {
    /// Whether the group's target was resolved no longer ago than `age`.
    pub(super) fn is_known(&self, group: &GroupName, now: Instant, age: Duration) -> bool {
        self.known.get(group).is_some_and(|at| now.saturating_duration_since(*at) <= age)
    }

    /// What was known may have changed.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    /// The group's target is to be asked for now; whether it is not on its way already.
    pub(super) fn ask(&mut self, group: &GroupName, now: Instant) -> bool {
        self.asked.insert(group.clone(), now).is_none()
    }

    /// The answer for a group has come.
    pub(super) fn answered(&mut self, group: &GroupName) {
        if let Some(at) = self.asked.remove(group) {
            self.known.insert(group.clone(), at);
        }
    }

    /// A question failed, and it does not say which.
    pub(super) fn failed(&mut self) {
        self.asked.clear();
    }
}

/// Actions whose precondition only a fresh reading of the groups gives.
pub(super) fn stands_on_groups(action: &Action) -> bool {
    matches!(action, Action::Terminate { .. } | Action::Resize { .. } | Action::SetMax { .. })
}

/// The group that launches after this action.
pub(super) fn launches(action: &Action) -> Option<&GroupName> {
    match action {
        Action::Terminate { group, decrement: None, .. } => Some(group),
        Action::Resize { group, from, to, .. } if to > from => Some(group),
        _ => None,
    }
}

/// Whether a target can move without the group itself being changed.
pub(super) fn may_move(target: &Target) -> bool {
    let floats = |t: &TemplateRef| t.version.starts_with('$') || t.image.is_some();
    match target {
        Target::Template(t) => floats(t),
        Target::Mixed { base, overrides } => {
            floats(base) || overrides.iter().filter_map(|o| o.template.as_ref()).any(floats)
        }
        Target::Configuration(_) | Target::None => false,
    }
}
