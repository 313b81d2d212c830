//! A target that changes in the middle.
//!
//! ```text
//!  target moved -> stop:     the rotation ends, resumable
//!               -> recanary: drains in hand end, terminations take the surge along, nothing new is begun
//!                            -> surge given back -> the new target recorded -> its canary, and on
//! ```
//!
//! Whatever the policy, no termination launches what nothing has proved. Once the new target is recorded, the
//! replacements of the former one are outdated like all others.

use jiff::SignedDuration;

use super::group::Group;
use super::pass::{Pass, after};
use super::{Verdict, drain, ending};
use crate::policy::OnTargetChange;

/// How long a launch of something newer may go without the group's target being found changed.
const SHOWS: SignedDuration = SignedDuration::from_mins(15);
/// What is waited for until then.
const NOT_KNOWN: &str = "its group's new target is not known yet";

/// Whether the group's target has changed, and what follows from it.
pub(super) fn look(pass: &mut Pass<'_>, group: &mut Group<'_>) {
    let view = group.view;
    // What it would launch next has not proved itself, and is not what was asked for.
    let moved = view.target_moved || !view.newer.is_empty();
    if !moved || !(group.begun || group.remaining > 0) {
        return;
    }
    let newest = pass.derived.select(&view.newer).filter_map(|(_, m)| m.born).max();
    let undone = !view.target_moved && newest.and_then(|at| after(at, SHOWS)).is_some_and(|t| t <= pass.now);
    match pass.policy.on_target_change {
        // Launched from what the group names no more: there is no target to go on for.
        OnTargetChange::Recanary if !undone => group.retargets = true,
        OnTargetChange::Recanary | OnTargetChange::Stop => pass.end(Verdict::TargetChanged),
    }
}

/// Ends what is in hand and gives the surge back, so that the canary of the new target has room; then records it.
pub(super) fn wind_down<'a>(pass: &mut Pass<'a>, group: &mut Group<'a>) {
    pass.working = true;
    let busy = ending::settle_drains(pass, group);
    if group.ledger.confirmed > 0 {
        ending::give_back(pass, group);
    }
    drain::failed(pass, group);
    let surge = group.ledger.confirmed > 0 && !ending::cannot_give_back(pass, group);
    let changing = group.ledger.step.is_some() || !pass.is_free(&group.key());
    let arriving = group.arriving + group.failing + group.missing > 0;
    if busy || surge || changing || arriving || !group.picked.is_empty() {
        return;
    }
    if group.view.target_moved && !group.record.target.is_resolved() {
        // Recorded as it is, it would have moved again as soon as it is resolved.
        let reason = super::WaitReason::Standstill { why: NOT_KNOWN.into() };
        pass.wait(group.subject(), reason);
    } else if group.view.target_moved {
        pass.entries.targets.insert(group.name.clone(), group.record.target.clone());
    } else if let Some((id, at)) = group.view.newer.iter().find_map(|(id, member)| Some((id, member.born?))) {
        let subject = super::Subject::Instance(id.clone());
        let reason = super::WaitReason::Standstill { why: NOT_KNOWN.into() };
        pass.wait_until(subject, reason, Some(at), after(at, SHOWS));
    }
}
