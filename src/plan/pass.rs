//! One pass of the planner: what it reads, and the plan as it grows.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::tokens::Tokens;
use super::{Action, ActionKey, ActionReason, Block, BlockReason, InHand, Plan, Planned, Stage, Subject, Verdict};
use super::{Wait, WaitReason, terminate};
use crate::model::{GroupName, InstanceId, NodeName, Target, Text};
use crate::observe::{Derived, GroupView, Member, RotationRecord, Snapshot};
use crate::policy::{Policy, Timeout};

/// What goes into the rotation's record at the end of the pass.
#[derive(Default)]
pub(super) struct Entries {
    pub(super) skipped: BTreeMap<NodeName, Text>,
    pub(super) failed: BTreeMap<InstanceId, Text>,
    pub(super) protection: BTreeMap<InstanceId, bool>,
    pub(super) targets: BTreeMap<GroupName, Target>,
}

/// A pass.
pub(super) struct Pass<'a> {
    pub(super) policy: &'a Policy,
    pub(super) snapshot: &'a Snapshot,
    pub(super) derived: &'a Derived,
    pub(super) rotation: &'a RotationRecord,
    pub(super) now: Timestamp,
    pub(super) plan: Plan,
    pub(super) tokens: Tokens,
    /// Nodes draining over the whole cluster, those planned in this pass included.
    pub(super) draining: u32,
    /// Why the rotation ends early, where it does.
    pub(super) ending: Option<Verdict>,
    /// Old nodes are being drained or are on their way out somewhere.
    pub(super) moving: bool,
    /// No old node is left but the one that fastnode itself runs on.
    pub(super) own_turn: bool,
    /// Something outdated stays, or something of ours cannot be put back.
    pub(super) incomplete: bool,
    /// Something is still to be done or waited for.
    pub(super) working: bool,
    pub(super) entries: Entries,
    planned: BTreeSet<ActionKey>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        policy: &'a Policy,
        snapshot: &'a Snapshot,
        rotation: &'a RotationRecord,
        now: Timestamp,
    ) -> Self {
        let mut pass = Self {
            policy,
            snapshot,
            derived: snapshot.derived(),
            rotation,
            now,
            plan: Plan::default(),
            tokens: Tokens::new(snapshot),
            draining: 0,
            moving: false,
            ending: rotation.ending,
            own_turn: false,
            // What was given up and is gone since, by whomever, is no unfinished business.
            incomplete: rotation.skipped.keys().any(|node| snapshot.nodes.contains_key(node)),
            working: false,
            entries: Entries::default(),
            planned: BTreeSet::new(),
        };
        let leaves = |id: &InstanceId| !terminate::is_overdue(&pass, id);
        let moves = |g: &GroupView| !g.draining.is_empty() || g.leaving.keys().any(leaves);
        pass.moving = pass.derived.groups.values().any(moves);
        pass
    }

    /// Whether nothing about `key` is in flight or planned already.
    pub(super) fn is_free(&self, key: &ActionKey) -> bool {
        !self.in_flight(key) && !self.planned.contains(key)
    }

    pub(super) fn in_flight(&self, key: &ActionKey) -> bool {
        self.snapshot.in_flight.contains_key(key)
    }

    /// Plans an action, unless something about the same key is in flight or planned; whether it was planned.
    pub(super) fn act(&mut self, action: Action, reason: ActionReason) -> bool {
        self.working = true;
        let key = action.key();
        if !self.is_free(&key) {
            return false;
        }
        self.planned.insert(key);
        self.plan.actions.push(Planned { action, reason });
        true
    }

    pub(super) fn wait(&mut self, subject: Subject, reason: WaitReason) {
        self.wait_until(subject, reason, None, None);
    }

    pub(super) fn wait_until(
        &mut self,
        subject: Subject,
        reason: WaitReason,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) {
        self.working = true;
        self.plan.waits.push(Wait { subject, reason, since, until });
        if let Some(until) = until {
            self.wake(until);
        }
    }

    pub(super) fn block(&mut self, subject: Subject, reason: BlockReason) {
        self.plan.blocks.push(Block { subject, reason });
    }

    /// Plans again at `at`, if that is still to come.
    pub(super) fn wake(&mut self, at: Timestamp) {
        if at > self.now {
            self.plan.wake = Some(self.plan.wake.map_or(at, |w| w.min(at)));
        }
    }

    /// When a wait that began at `since` runs out.
    pub(super) fn deadline(&self, since: Option<Timestamp>, timeout: Timeout) -> Option<Timestamp> {
        after(since?, timeout.limit()?)
    }

    pub(super) fn end(&mut self, verdict: Verdict) {
        self.ending = self.ending.or(Some(verdict));
    }

    pub(super) fn show(&mut self, id: &InstanceId, member: &Member, stage: Stage, since: Option<Timestamp>) {
        let left = member.drain.as_ref().map_or(0, |d| d.pods.len() as u32);
        self.plan.in_hand.push(InHand {
            group: member.group.clone(),
            zone: Some(member.zone.clone()),
            instance: Some(id.clone()),
            node: member.node.clone(),
            stage,
            since,
            pods_left: left,
        });
    }

    /// Closes the pass: the record's new entries and the verdict.
    pub(super) fn finish(mut self) -> Plan {
        let entries = std::mem::take(&mut self.entries);
        let news = !entries.skipped.is_empty()
            || !entries.failed.is_empty()
            || !entries.protection.is_empty()
            || !entries.targets.is_empty();
        let ends = self.ending.filter(|_| self.rotation.ending.is_none());
        if news || ends.is_some() {
            self.working = true;
            let record = Action::Record {
                skipped: entries.skipped,
                failed: entries.failed,
                protection: entries.protection,
                targets: entries.targets,
                ending: ends,
            };
            let key = record.key();
            if self.is_free(&key) {
                let reason = match ends {
                    Some(_) => ActionReason::PuttingBack,
                    None => ActionReason::Recorded,
                };
                // First: nothing that the record has to survive is begun before it is written.
                self.plan.actions.insert(0, Planned { action: record, reason });
            }
        }
        if !self.working {
            let whole = if self.incomplete { Verdict::Incomplete } else { Verdict::Done };
            self.plan.verdict = Some(self.ending.unwrap_or(whole));
        }
        self.plan
    }
}

/// `since` and `limit` later, unless that is beyond what a timestamp holds.
pub(super) fn after(since: Timestamp, limit: SignedDuration) -> Option<Timestamp> {
    since.checked_add(limit).ok()
}
