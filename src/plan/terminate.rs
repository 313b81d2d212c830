//! Terminating what is drained to the end, and shrinking the group by our surge.
//!
//! As long as more old nodes are left than we have surge, a termination keeps desired and the group launches
//! the next replacement. The last ones take the surge with them: one at a time, nothing being launched, and
//! every instance protected from scale-in, because a decrement can race with a launch and cost an arbitrary one.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::group::Group;
use super::pass::Pass;
use super::{Action, ActionKey, ActionReason, BlockReason, Stage, WaitReason, candidates, standstill, zones};
use crate::model::{Instance, InstanceId, Ledger, Lifecycle, Node, Process, Step, Text, marks};
use crate::observe::{Member, Snapshot};
use crate::policy::OnStuck;

/// Terminates an old node that is drained to the end, if nothing forbids it now.
pub(super) fn drained(pass: &mut Pass<'_>, group: &mut Group<'_>, id: &InstanceId, node: &Node) {
    let surge = group.surge();
    let needed = group.remaining > group.spare(pass) || zones::is_needed_for_balance(pass, group, id);
    if !group.winds_down(pass) && needed {
        let action = Action::Terminate {
            instance: id.clone(),
            group: group.name.clone(),
            node: Some((node.name.clone(), node.uid.clone())),
            decrement: None,
        };
        // Not while a decrement is under way: it must not race with the launch that follows this.
        if !pass.is_free(&group.key()) {
            pass.wait(group.subject(), WaitReason::AwsBusy { what: "a change of the group is under way".into() });
        } else if pass.act(action, ActionReason::Drained) {
            group.remaining -= 1;
            group.in_drain -= 1;
            group.missing += 1;
        }
    } else if let Some(why) = standstill::overdue(pass, group).filter(|_| !group.winds_down(pass)) {
        standstill::let_go(pass, group, node, &why);
    } else if surge > 0 {
        let reason = ActionReason::DrainedLast { surge: surge - 1 };
        shrink(pass, group, id, Some(node), reason);
    }
}

/// Terminates a failed replacement whose fault is mended: its group launches another.
pub(super) fn mended(
    pass: &mut Pass<'_>,
    group: &mut Group<'_>,
    (id, member): (&InstanceId, &Member),
    node: Option<&Node>,
    why: Text,
) {
    if node.is_some() && member.pending {
        return super::drain::await_service(pass, id, member);
    }
    if !pass.is_free(&group.key()) {
        return pass.wait(group.subject(), WaitReason::AwsBusy { what: "a change of the group is under way".into() });
    }
    let action = Action::Terminate {
        instance: id.clone(),
        group: group.name.clone(),
        node: node.map(|n| (n.name.clone(), n.uid.clone())),
        decrement: None,
    };
    if pass.act(action, ActionReason::ReplacementFailed { diagnosis: why }) {
        group.missing += 1;
    }
}

/// Terminates an instance with decrement, as soon as the group is at rest and protected.
pub(super) fn shrink(
    pass: &mut Pass<'_>,
    group: &mut Group<'_>,
    id: &InstanceId,
    node: Option<&Node>,
    reason: ActionReason,
) {
    if group.fault.is_some() || group.surge() == 0 {
        return;
    }
    if !pass.is_free(&group.key()) {
        return pass.wait(group.subject(), WaitReason::AwsBusy { what: "a change of the group is under way".into() });
    }
    let pending = group.view.pending - u32::from(pass.snapshot.instances.get(id).is_some_and(is_pending));
    if group.missing > 0 || pending > 0 {
        let reason = WaitReason::Launch { missing: group.missing + pending, failure: None };
        let since = standstill::short_since(pass, group);
        let deadline = pass.deadline(since, pass.policy.join_timeout);
        return pass.wait_until(group.subject(), reason, since, deadline);
    }
    if !protected(pass, group, Some(id)) {
        return;
    }
    let desired = group.record.desired;
    let to = desired.saturating_sub(1);
    let step = Step { from: desired, to, instance: Some(id.clone()), at: pass.now };
    let before = Ledger { step: Some(step), ..Ledger::settled(group.ledger.confirmed) };
    let after = Ledger::settled(group.ledger.confirmed - 1);
    let action = Action::Terminate {
        instance: id.clone(),
        group: group.name.clone(),
        node: node.map(|n| (n.name.clone(), n.uid.clone())),
        decrement: Some(Box::new((before, after))),
    };
    pass.act(action, reason);
}

/// While a node drains whose termination is to shrink the group: protects every instance ahead of it, the draining
/// one too, so that nobody else's scale-in takes it with pods left on it.
pub(super) fn foresee(pass: &mut Pass<'_>, group: &Group<'_>, id: &InstanceId) {
    let last = pass.ending.is_some() || group.remaining <= group.surge();
    let settled = group.fault.is_none() && group.surge() > 0 && group.ledger.step.is_none();
    let at_rest = group.missing == 0 && group.view.pending == 0 && pass.is_free(&group.key());
    if last && settled && at_rest && !zones::is_needed_for_balance(pass, group, id) {
        protected(pass, group, None);
    }
}

fn is_pending(instance: &Instance) -> bool {
    instance.lifecycle == Lifecycle::Pending
}

/// Protects every instance but `victim` from scale-in, what was before written down first; whether all are.
pub(super) fn protected(pass: &mut Pass<'_>, group: &Group<'_>, victim: Option<&InstanceId>) -> bool {
    let bare: Vec<InstanceId> = pass
        .snapshot
        .instances_of(group.name)
        .filter(|i| i.lifecycle == Lifecycle::InService && !i.protected && Some(&i.id) != victim)
        .map(|i| i.id.clone())
        .collect();
    if bare.is_empty() {
        return true;
    }
    let unrecorded: BTreeMap<_, _> =
        bare.iter().filter(|id| !pass.rotation.protection.contains_key(*id)).map(|id| (id.clone(), false)).collect();
    pass.working = true;
    if !unrecorded.is_empty() {
        pass.entries.protection.extend(unrecorded);
    } else if !group.record.tags.contains_key(marks::TAG_PROTECTED) {
        let tags = BTreeMap::from([(marks::TAG_PROTECTED.into(), "true".into())]);
        pass.act(Action::TagGroup { group: group.name.clone(), tags }, ActionReason::Shrinking);
    } else {
        let action = Action::Protect { group: group.name.clone(), instances: bare, protected: true };
        pass.act(action, ActionReason::Shrinking);
    }
    false
}

/// A change of desired by our surge; `None` while a step is in hand or the ledger cannot be read.
pub(super) fn resize(pass: &Pass<'_>, group: &Group<'_>, by: i64) -> Option<Action> {
    if group.fault.is_some() || group.ledger.step.is_some() {
        return None;
    }
    let from = group.record.desired;
    let to = u32::try_from(i64::from(from) + by).ok()?;
    let confirmed = u32::try_from(i64::from(group.ledger.confirmed) + by).ok()?;
    let before = Ledger {
        step: Some(Step { from, to, instance: None, at: pass.now }),
        ..Ledger::settled(group.ledger.confirmed)
    };
    Some(Action::Resize { group: group.name.clone(), from, to, before, after: Ledger::settled(confirmed) })
}

/// Takes back surge that was never launched: nothing may launch any more, every instance is protected, then
/// desired is lowered by no more than is missing. Whether that is under way.
pub(super) fn take_back_unlaunched(pass: &mut Pass<'_>, group: &Group<'_>) -> bool {
    let missing = group.record.desired.saturating_sub(group.view.counted).min(group.surge());
    if missing == 0 || group.fault.is_some() {
        return false;
    }
    // At a regular end the missing one is a replacement that is wanted, until it is overdue.
    let since = pass.snapshot.short_since.get(group.name).copied();
    let deadline = pass.deadline(since, pass.policy.join_timeout);
    if pass.ending.is_none() && deadline.is_none_or(|d| d > pass.now) {
        let reason = WaitReason::Launch { missing, failure: None };
        pass.wait_until(group.subject(), reason, since, deadline);
        return true;
    }
    let tag = group.record.tags.get(marks::TAG_SUSPENDED).map_or("", |t| &**t);
    let ours: BTreeSet<&str> = tag.split(',').filter(|p| !p.is_empty()).chain([Process::LAUNCH]).collect();
    if !group.record.is_suspended(Process::LAUNCH) {
        let action = if tag.split(',').any(|p| p == Process::LAUNCH) {
            let processes = BTreeSet::from([Process(Process::LAUNCH.into())]);
            Action::Suspend { group: group.name.clone(), processes }
        } else {
            let value = ours.into_iter().collect::<Vec<_>>().join(",");
            let tags = BTreeMap::from([(marks::TAG_SUSPENDED.into(), value.into())]);
            Action::TagGroup { group: group.name.clone(), tags }
        };
        pass.act(action, ActionReason::PuttingBack);
        return true;
    }
    let activities = pass.snapshot.activities.get(group.name);
    let busy = activities.is_some_and(|a| a.iter().any(|a| a.status == crate::model::ActivityStatus::InProgress));
    if group.view.pending > 0 || busy {
        pass.wait(group.subject(), WaitReason::AwsBusy { what: "a scaling activity is in progress".into() });
    } else if protected(pass, group, None)
        && let Some(action) = resize(pass, group, -i64::from(missing))
    {
        pass.act(action, ActionReason::PuttingBack);
    }
    true
}

/// Shows instances on their way out; what takes too long is named and not waited for any longer.
pub(super) fn watch(pass: &mut Pass<'_>, group: &Group<'_>) {
    let derived = pass.derived;
    for (id, member) in derived.select(&group.view.leaving) {
        // Its Node, and with it our marks, may go before the instance does.
        if member.outdated.is_empty() && !member.marked && !pass.snapshot.marked_before.contains(id) {
            continue;
        }
        let since = leaving_since(pass.snapshot, id);
        let deadline = pass.deadline(since, pass.policy.terminate_timeout);
        pass.show(id, member, Stage::Terminating, since);
        let subject = candidates::subject(id, member);
        if is_overdue(pass, id) {
            let limit = super::canary::limit(pass.policy.terminate_timeout);
            pass.incomplete = true;
            pass.block(subject, BlockReason::Skipped { why: format!("not gone within {limit}").into() });
        } else {
            pass.wait_until(subject, WaitReason::Termination, since, deadline);
        }
    }
}

/// Since when an instance is on its way out.
fn leaving_since(snapshot: &Snapshot, id: &InstanceId) -> Option<Timestamp> {
    snapshot.leaving_since.get(id).copied()
}

/// Whether an instance on its way out has taken too long, and is not waited for any longer.
pub(super) fn is_overdue(pass: &Pass<'_>, id: &InstanceId) -> bool {
    let deadline = pass.deadline(leaving_since(pass.snapshot, id), pass.policy.terminate_timeout);
    deadline.is_some_and(|d| d <= pass.now) && pass.policy.on_stuck != OnStuck::Wait
}

/// Whether nothing about this instance is under way.
pub(super) fn is_idle(pass: &Pass<'_>, id: &InstanceId) -> bool {
    pass.is_free(&ActionKey::Instance(id.clone()))
}
