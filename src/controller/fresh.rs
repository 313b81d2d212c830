//! Whether what a call stands on was read a moment ago: the groups, and what they would launch.
//!
//! A termination keeps desired, so its group launches at once, and from whatever its template says then. A
//! version `$Latest` or `$Default`, or an image behind a parameter, moves without a trace in the group itself:
//! before each act that makes a group launch, such a target is resolved anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::engine::Engine;
use super::prepare;
use crate::cloud::Cloud;
use crate::cluster::Cluster;
use crate::model::{GroupName, InstanceId, Target, TemplateRef};
use crate::observe::Snapshot;
use crate::plan::{Action, Plan, Stage};
use crate::policy::Policy;

/// The groups that a change of desired or of the maximum stands on were read no longer ago than this.
const FRESH: Duration = Duration::from_secs(5);
/// A termination that keeps desired has the instance's id as its precondition: the groups may have been read, and
/// the target resolved, while the last pod was still on its way out.
const FRESH_ENOUGH: Duration = Duration::from_secs(10);
/// Launches so close together stand on one answer; the next one asks again.
const TOGETHER: Duration = Duration::from_secs(1);

/// How long nothing waits for a Node that has just registered: it is to stay functional for a while first, which
/// Kubernetes tells in whole seconds.
pub(super) fn unhurried(policy: &Policy) -> Duration {
    Duration::try_from(policy.soak).unwrap_or_default().saturating_sub(Duration::from_secs(1))
}

/// When each group's target was asked for, and when the last answer that came was asked for.
#[derive(Debug, Default)]
pub(super) struct Targets {
    asked: BTreeMap<GroupName, Instant>,
    known: BTreeMap<GroupName, Instant>,
    /// When a launch first stood on what is known.
    used: BTreeMap<GroupName, Instant>,
}

impl Targets {
    /// The targets of these groups were asked for then, and answered.
    pub(super) fn resolved(groups: impl Iterator<Item = GroupName>, at: Instant) -> Self {
        Self { known: groups.map(|group| (group, at)).collect(), ..Self::default() }
    }

    /// Whether the group's target was resolved no longer ago than `age`.
    pub(super) fn is_known(&self, group: &GroupName, now: Instant, age: Duration) -> bool {
        self.known.get(group).is_some_and(|at| now.saturating_duration_since(*at) <= age)
    }

    /// Whether a launch may stand on what is known of the group's target.
    fn is_fresh(&self, group: &GroupName, now: Instant) -> bool {
        let used = self.used.get(group).is_some_and(|at| now.saturating_duration_since(*at) > TOGETHER);
        !used && self.is_known(group, now, FRESH_ENOUGH)
    }

    /// A launch stands on what is known.
    fn stand_on(&mut self, group: &GroupName, now: Instant) {
        self.used.entry(group.clone()).or_insert(now);
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
            self.used.remove(group);
        }
    }

    /// A question failed, and it does not say which.
    pub(super) fn failed(&mut self) {
        self.asked.clear();
    }
}

/// Old nodes whose every pod is on its way out: a termination is to come, mostly within seconds, and what it stands on
/// is worth reading now. Each is told twice: then, and when its last pod is left, which may be much later.
#[derive(Debug, Default)]
pub(super) struct Foreseen(BTreeSet<(InstanceId, bool)>);

impl Foreseen {
    /// The groups in which a termination has come near since it was last asked.
    pub(super) fn groups(&mut self, plan: &Plan, snapshot: &Snapshot) -> Vec<GroupName> {
        let draining = plan.in_hand.iter().filter(|n| n.stage == Stage::Draining);
        let mut near = BTreeSet::new();
        let mut groups = Vec::new();
        for (node, id) in draining.filter_map(|n| Some((n, n.instance.as_ref()?))) {
            let drain = snapshot.derived().members.get(id).and_then(|m| m.drain.as_ref());
            if drain.is_some_and(|d| d.volumes == 0 && d.pods.iter().all(|p| p.going)) {
                let one = (id.clone(), node.pods_left <= 1);
                if !self.0.contains(&one) {
                    groups.push(node.group.clone());
                }
                near.insert(one);
            }
        }
        self.0 = near;
        groups
    }
}

impl<C: Cloud + 'static, K: Cluster + 'static> Engine<'_, C, K> {
    /// Whether what an action stands on was read a moment ago; what was not, is read now.
    pub(super) fn is_read(&mut self, action: &Action, now: Instant) -> bool {
        let groups = stands_on_groups(action).is_none_or(|age| self.source.pace.is_fresh(now, age));
        if !groups {
            self.source.pace.now(now);
        }
        // Both are read side by side.
        let target = launches(action).is_none_or(|group| self.is_resolved(group, now));
        if groups && target {
            launches(action).into_iter().for_each(|group| self.targets.stand_on(group, now));
        }
        groups && target
    }

    /// Whether what a group would launch was resolved a moment ago; else it is asked for now.
    fn is_resolved(&mut self, group: &GroupName, now: Instant) -> bool {
        let Some(group) = self.snapshot.groups.get(group).filter(|g| may_move(&g.target)) else { return true };
        if self.targets.is_fresh(&group.name, now) {
            return true;
        }
        if self.targets.ask(&group.name, now) {
            let unresolved = prepare::unresolved(&group.target);
            self.source.read_targets(BTreeMap::from([(group.name.clone(), unresolved)]));
        }
        false
    }

    /// Reads ahead what the next terminations will stand on.
    pub(super) fn read_ahead(&mut self, now: Instant) {
        for group in self.foreseen.groups(&self.plan, &self.snapshot) {
            if !self.source.pace.is_fresh(now, FRESH) {
                self.source.pace.now(now);
            }
            self.is_resolved(&group, now);
        }
    }
}

/// How old a reading of the groups may be that this action stands on, if it stands on one.
fn stands_on_groups(action: &Action) -> Option<Duration> {
    match action {
        Action::Terminate { decrement: None, .. } => Some(FRESH_ENOUGH),
        Action::Terminate { .. } | Action::Resize { .. } | Action::SetMax { .. } => Some(FRESH),
        _ => None,
    }
}

/// The group that launches after this action.
fn launches(action: &Action) -> Option<&GroupName> {
    match action {
        Action::Terminate { group, decrement: None, .. } => Some(group),
        Action::Resize { group, from, to, .. } if to > from => Some(group),
        _ => None,
    }
}

/// Whether a target can move without the group itself being changed.
fn may_move(target: &Target) -> bool {
    let floats = |t: &TemplateRef| t.version.starts_with('$') || t.image.is_some();
    match target {
        Target::Template(t) => floats(t),
        Target::Mixed { base, overrides } => {
            floats(base) || overrides.iter().filter_map(|o| o.template.as_ref()).any(floats)
        }
        Target::Configuration(_) | Target::None => false,
    }
}
