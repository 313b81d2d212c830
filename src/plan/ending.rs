//! How a group ends: the surge is given back one at a time, then everything else is put back.

use std::collections::BTreeSet;

use super::drain::{self, Standing};
use super::group::{self, Group};
use super::pass::Pass;
use super::zones;
use super::{
    Action, ActionKey, ActionReason, BlockReason, NodePurpose, Stage, WaitReason, canary, changes, deregister,
    terminate,
};
use crate::model::{InstanceId, Process, marks};
use crate::observe::Role;

/// Plans what is left to do for a group that begins nothing new.
pub(super) fn close<'a>(pass: &mut Pass<'a>, group: &mut Group<'a>) {
    if !group.begun && !group.is_tagged() && group.view.marked.is_empty() && group.view.failed.is_empty() {
        return;
    }
    let kept = settle_drains(pass, group);
    if pass.ending.is_none() && pass.moving && is_held_by_budget(pass, group) {
        // While pods move, a budget may count fewer than there will be, and seem never to free.
        pass.working = true;
        return;
    }
    let owed = group.surge() > 0 && group.fault.is_none();
    let before = (pass.plan.actions.len(), pass.plan.waits.len(), pass.working);
    if owed {
        give_back(pass, group);
    }
    let stays = owed && cannot_give_back(pass, group);
    if stays && pass.plan.actions.len() == before.0 {
        // What it looked for in vain will not come: nothing more is launched.
        pass.plan.waits.truncate(before.1);
        pass.working = before.2;
    }
    drain::failed(pass, group);
    if stays {
        let surge = group.surge();
        let why = match canary::works(pass, group) {
            true => format!("{} serve, {} are promised", group.serving(), group.promised()),
            false => "nothing that its recorded target launches works".to_owned(),
        };
        let why = format!("{surge} of the surge cannot be given back: {why}");
        pass.incomplete = true;
        pass.block(group.subject(), BlockReason::Ledger { why: why.into() });
    }
    let gives_back = owed && !stays;
    // A replacement on its way back that owes nothing any more is let go like all others.
    let moving = group.arriving > 0 || group.failing > 0 || (!gives_back && is_launching(pass, group));
    let waits = gives_back || kept || (moving && group.begun) || (group.waits_for_budget && pass.ending.is_none());
    pass.working |= waits;
    if !waits {
        put_back(pass, group);
    }
}

/// Whether the last old nodes' replacements are still to be launched: until they are functional, the group has fewer
/// than it had. One that does not come within the time to join is named, and not waited for any longer.
fn is_launching(pass: &mut Pass<'_>, group: &Group<'_>) -> bool {
    if !group.begun || group.missing == 0 || pass.ending.is_some() {
        return false;
    }
    let since = pass.snapshot.short_since.get(group.name).copied();
    let deadline = pass.deadline(since, pass.policy.join_timeout);
    if deadline.is_some_and(|d| d <= pass.now) {
        let limit = canary::limit(pass.policy.join_timeout);
        let why = format!("{} of its instances did not launch within {limit}", group.missing);
        pass.incomplete = true;
        pass.block(group.subject(), BlockReason::Skipped { why: why.into() });
        return false;
    }
    let reason = WaitReason::Launch { missing: group.missing, failure: None };
    pass.wait_until(group.subject(), reason, since, deadline);
    true
}

fn is_held_by_budget(pass: &Pass<'_>, group: &Group<'_>) -> bool {
    let by_budget = |role: &Role| matches!(role, Role::Held(BlockReason::NeverFrees { .. }));
    pass.derived.select(&group.view.held).any(|(_, m)| by_budget(&m.role))
}

/// Old nodes in hand: as many as the surge covers are drained to the end, the others are let go. Whether any
/// is still in hand.
pub(super) fn settle_drains<'a>(pass: &mut Pass<'a>, group: &mut Group<'a>) -> bool {
    let covered = if group::spares_old_nodes(pass) || group.fault.is_some() { 0 } else { group.surge() };
    let derived = pass.derived;
    // Those that are furthest go on.
    let mut in_hand: Vec<_> = derived.select(&group.view.draining).collect();
    in_hand.sort_by_key(|(id, m)| (m.drain.as_ref().map_or(0, |d| d.pods.len()), (*id).clone()));
    let let_go: BTreeSet<InstanceId> = in_hand.iter().skip(covered as usize).map(|(id, _)| (*id).clone()).collect();
    for (id, member) in derived.select(&group.view.draining).filter(|(id, _)| let_go.contains(*id)) {
        if let Some(node) = drain::node_of(pass, member)
            && terminate::is_idle(pass, id)
        {
            pass.act(changes::release(node, NodePurpose::Uncordon), ActionReason::PuttingBack);
        }
    }
    drain::old(pass, group, &let_go);
    !in_hand.is_empty()
}

/// Whether what is left of the surge cannot be given back: nothing is under way, and there is no replacement
/// that could go without taking the group below what is promised.
pub(super) fn cannot_give_back(pass: &Pass<'_>, group: &Group<'_>) -> bool {
    let view = group.view;
    let under_way = group.arriving + group.failing + group.missing > 0
        || !(view.draining.is_empty() && view.returning.is_empty() && group.picked.is_empty())
        || !drain::returns_failed(pass, group).is_empty();
    !under_way && (zones::surplus(pass, group).is_none() || group.serving() <= group.promised())
}

/// Gives back one instance of the surge: a failed one first; else one more old node makes way; else the newest
/// replacement goes.
pub(super) fn give_back<'a>(pass: &mut Pass<'a>, group: &mut Group<'a>) {
    // What is being given back at this moment is not given back once more.
    if group.ledger.step.is_some() || terminate::take_back_unlaunched(pass, group) {
        return;
    }
    let derived = pass.derived;
    for (id, member) in derived.select(&group.view.returning) {
        let Some(node) = drain::node_of(pass, member) else { continue };
        match drain::work(pass, node, member) {
            Standing::Drained if !deregister::is_given_back(pass, group, node) => {
                pass.show(id, member, Stage::Drained, drain::began(node));
            }
            Standing::Drained if !deregister::is_over(pass, group, node) => {
                pass.show(id, member, Stage::Deregistering, drain::began(node));
            }
            Standing::Drained => {
                pass.show(id, member, deregister::left(group), drain::began(node));
                terminate::shrink(pass, group, id, Some(node), ActionReason::GivingBack);
            }
            Standing::Busy { culprit } => {
                pass.show(id, member, Stage::Draining, drain::began(node));
                // Together with why: what is let go is not chosen once more.
                if drain::has_run_out(pass, node, member) && pass.is_free(&ActionKey::Record) {
                    let why = drain::ran_out(pass, &culprit);
                    pass.act(changes::release(node, NodePurpose::Uncordon), ActionReason::TimedOut { culprit });
                    pass.entries.skipped.insert(node.name.clone(), why);
                }
            }
        }
    }
    let failed = group.failing > 0 || !drain::returns_failed(pass, group).is_empty();
    if failed || group.arriving > 0 || !group.view.draining.is_empty() || !group.view.returning.is_empty() {
        return;
    }
    let old_go = group.winds_down(pass) && !group::spares_old_nodes(pass) && canary::works(pass, group);
    if old_go && group.view.candidates > 0 {
        let before = pass.plan.actions.len();
        let _ = group::select(pass, group, 1);
        if pass.plan.actions.len() > before || !group.picked.is_empty() {
            return;
        }
    }
    let Some(id) = zones::surplus(pass, group) else { return };
    let (functional, promised) = (group.serving(), group.promised());
    if functional <= promised {
        return;
    }
    let Some(member) = derived.members.get(&id) else { return };
    if member.pending {
        return drain::await_service(pass, &id, member);
    }
    if let Some(node) = drain::node_of(pass, member)
        && group::has_cluster_slot(pass, group)
    {
        let why = "the surge is given back";
        pass.draining += 1;
        pass.act(changes::cordon(node, &pass.rotation.id, why, pass.now), ActionReason::GivingBack);
    }
}

/// Protection, processes, maximum, marks, and at last the tags.
fn put_back(pass: &mut Pass<'_>, group: &Group<'_>) {
    // A failed replacement that could not be given back stays cordoned, for somebody to look at.
    let stays: BTreeSet<InstanceId> = group.view.failed.keys().cloned().collect();
    let clean = group::release_marks(pass, group, &stays);
    let tags = &group.record.tags;
    if !group.is_tagged() {
        return;
    }
    if tags.contains_key(marks::TAG_PROTECTED) {
        let ours = |i: &&crate::model::Instance| {
            i.protected && i.lifecycle.counts_in_desired() && pass.rotation.protection.get(&i.id) == Some(&false)
        };
        let instances: Vec<_> = pass.snapshot.instances_of(group.name).filter(ours).map(|i| i.id.clone()).collect();
        if !instances.is_empty() {
            let action = Action::Protect { group: group.name.clone(), instances, protected: false };
            pass.act(action, ActionReason::PuttingBack);
            return;
        }
    }
    let mut keep: BTreeSet<&str> = BTreeSet::new();
    if group.fault.is_some() || group.ledger.confirmed > 0 {
        keep.extend([marks::TAG_ROTATION, marks::TAG_SURGE]);
        pass.incomplete = true;
    }
    if let Some(ours) = tags.get(marks::TAG_SUSPENDED) {
        let mut processes: BTreeSet<Process> =
            ours.split(',').filter(|p| group.record.is_suspended(p)).map(|p| Process(p.into())).collect();
        let counts = group.record.zones.iter().map(|z| group.view.zones.get(z).map_or(0, |v| v.counted));
        let (max, min) = zones::spread(counts);
        if max - min > 1 && processes.remove(&Process(Process::AZ_REBALANCE.into())) {
            // Resumed, it would terminate undrained nodes behind our back.
            pass.incomplete = true;
            pass.block(group.subject(), BlockReason::Unbalanced { max, min });
            keep.insert(marks::TAG_SUSPENDED);
        }
        if !processes.is_empty() {
            pass.act(Action::Resume { group: group.name.clone(), processes }, ActionReason::PuttingBack);
            return;
        }
    }
    let former = tags.get(marks::TAG_MAX).and_then(|t| t.parse::<u32>().ok());
    let (max, desired) = (group.record.max, group.record.desired);
    if let Some(former) = former.filter(|former| *former < max) {
        if desired <= former {
            let action = Action::SetMax { group: group.name.clone(), from: max, to: former };
            pass.act(action, ActionReason::PuttingBack);
            return;
        }
        // Somebody has scaled the group meanwhile: it is for them to say what its maximum is to be.
        let why = format!("its maximum stays raised from {former} to {max}: its desired is {desired} by now");
        pass.incomplete = true;
        pass.block(group.subject(), BlockReason::Ledger { why: why.into() });
        keep.extend([marks::TAG_ROTATION, marks::TAG_MAX]);
    }
    let ours = tags.keys().filter(|k| k.starts_with("fastnode:") && !keep.contains(&***k));
    let keys: BTreeSet<_> = ours.cloned().collect();
    if clean && !keys.is_empty() {
        pass.act(Action::UntagGroup { group: group.name.clone(), keys }, ActionReason::PuttingBack);
    }
}
