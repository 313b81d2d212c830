//! Replacements: when each is functional or has failed, and when the target has proved itself.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use jiff::Timestamp;

use super::group::Group;
use super::pass::{Pass, after};
use super::{ActionReason, Stage, Subject, Verdict, WaitReason, candidates, changes, standstill};
use crate::model::{ConditionStatus, GroupName, InstanceId, Node, Text};
use crate::observe::{Member, Stray};
use crate::policy::{Policy, Timeout};

/// Functional replacements that prove the target in this group; no more than it will have: those on their way too
/// (one that failed is still in another's place), and one for each old node that does not go with the surge.
pub(super) fn wanted(group: &Group<'_>) -> u32 {
    let there = proved(group) + group.arriving + group.missing + group.failing + group.view.failed.len() as u32;
    group.canaries.min((group.remaining + there).saturating_sub(group.surge()))
}

fn proved(group: &Group<'_>) -> u32 {
    group.view.adopted.len() as u32 + group.functional
}

/// Whether the target has proved itself as the policy asks, whatever a fix made on the way has to prove since.
pub(super) fn has_passed(policy: &Policy, group: &Group<'_>) -> bool {
    group.proven || (group.canaries > policy.canary && proved(group) >= policy.canary.max(1))
}

/// Whether our surge reaches the canary and yet launches no more towards it: somebody scaled the group in as it was
/// raised, so that as many instances are there as desired says. The rest of the canary then needs drains, as without a
/// surge.
pub(super) fn is_cut_short(group: &Group<'_>) -> bool {
    let due = group.arriving + group.failing + group.missing + group.to_raise + group.view.pending > 0;
    let settled = !due && group.ledger.step.is_none() && group.view.failed.is_empty();
    settled && group.surge() > 0 && group.surge() >= group.limits.surge.min(wanted(group))
}

/// Whether anything works that the recorded target launched; with no canary wanted nothing has to.
pub(super) fn works(pass: &Pass<'_>, group: &Group<'_>) -> bool {
    let on_target = |id: &&InstanceId| pass.derived.members.get(*id).is_some_and(|m| m.stray == Stray::No);
    let functional = if group.begun { group.fresh.iter().filter(on_target).count() as u32 } else { group.functional };
    let adopted = group.view.adopted.iter().filter_map(|(_, id)| pass.derived.members.get(id));
    let astray = adopted.filter(|m| m.serves && m.stray != Stray::No).count() as u32;
    pass.policy.canary == 0 || group.view.serving_current.saturating_sub(astray) + functional > 0
}

/// Why no old node may be drained before the canary has passed. Where the surge does not reach the canary,
/// old nodes give way to the rest of it, never more at once than it wants.
pub(super) fn holds(group: &Group<'_>) -> Option<WaitReason> {
    if group.proven {
        // Proven once; but with a surge, nothing is drained while nothing on the target works.
        let works = group.view.serving_current + group.functional > 0;
        let needed = group.canaries > 0 && group.surge() > 0;
        return (needed && !works).then_some(WaitReason::Canary { functional: 0, wanted: 1 });
    }
    let wanted = wanted(group);
    let functional = proved(group);
    let picked: u32 = group.picked.values().sum();
    let under_way = functional + group.arriving + group.missing + group.in_drain + picked;
    let surged = functional >= group.limits.surge.min(wanted) || is_cut_short(group);
    (!surged || under_way >= wanted).then_some(WaitReason::Canary { functional, wanted })
}

/// Whether something is being done about new nodes, or found out of one that failed, in any group: nothing new is
/// begun before. It is named.
pub(super) fn is_mended(pass: &mut Pass<'_>, group: &Group<'_>) -> bool {
    if let Some(busy) = &pass.snapshot.mending.busy {
        let reason = WaitReason::Mending { what: busy.what.clone() };
        pass.wait_until(group.subject(), reason, Some(busy.since), Some(busy.until));
        return true;
    }
    let Some((id, until)) = in_question(pass, None).next() else { return false };
    pass.wait_until(group.subject(), examination(&id), None, until);
    true
}

/// Whether other groups wait for this one's canary: a failed canary anywhere ends the rotation before any old node
/// is touched, so nobody begins to drain before all have passed. One that cannot be launched in time is not waited
/// for, nor one that needs a drain itself.
pub(super) fn is_awaited(pass: &mut Pass<'_>, group: &Group<'_>) -> bool {
    let by_surge = wanted(group).min(group.limits.surge);
    if group.proven || proved(group) >= by_surge || is_cut_short(group) || !group.goes_on(pass) {
        return false;
    }
    let since = pass.snapshot.short_since.get(group.name).copied().filter(|_| group.missing > 0);
    let Some(deadline) = pass.deadline(since, pass.policy.join_timeout) else { return true };
    pass.wake(deadline);
    deadline > pass.now
}

/// Judges every replacement that has not proved itself: functional, on its way, or failed at a deadline.
pub(super) fn judge<'a>(pass: &mut Pass<'a>, group: &mut Group<'a>) {
    if !group.begun {
        return count(pass, group);
    }
    let derived = pass.derived;
    let mut failed: Vec<(&InstanceId, &Member, Text)> = Vec::new();
    for (id, member) in derived.select(&group.view.young) {
        // Most are functional and stay so: told from the member alone.
        let functional = functional_at(pass.policy, member).filter(|at| *at <= pass.now);
        let progress = match functional {
            Some(_) => Progress::Functional,
            None => stage(pass, id, member, member.node.as_ref().and_then(|n| pass.snapshot.nodes.get(n))),
        };
        if functional.is_some() {
            pass.show(id, member, Stage::Functional, functional);
        }
        match progress {
            Progress::Functional => {
                group.functional += 1;
                group.fresh.push(id.clone());
                *group.functional_in.entry(&member.zone).or_default() += 1;
            }
            Progress::Arriving => group.arriving += 1,
            Progress::Failed(why) => failed.push((id, member, why)),
        }
    }
    group.failing = failed.len() as u32;
    group.proven = proved(group) >= wanted(group);
    for (id, member, why) in failed {
        fail(pass, group, id, member, why);
    }
    await_examination(pass, group);
    if group.goes_on(pass) {
        adopt(pass, group);
    }
    if group.missing > 0 && group.remaining + group.surge() > 0 {
        launch_wait(pass, group);
    }
}

/// Of a group that is not in hand, or no more, only the numbers count.
fn count<'a>(pass: &Pass<'a>, group: &mut Group<'a>) {
    if let Ok(then) = pass.now.checked_sub(pass.policy.soak) {
        for (zone, view) in &group.view.zones {
            let functional = view.passed_by(then);
            if functional > 0 {
                group.functional += functional;
                group.functional_in.insert(zone, functional);
            }
        }
    }
    group.arriving = (group.view.young.len() as u32).saturating_sub(group.functional);
    group.proven = proved(group) >= wanted(group);
}

enum Progress {
    Functional,
    Arriving,
    Failed(Text),
}

/// When a member will have been functional for the soak time; `None` while it lacks something.
fn functional_at(policy: &Policy, member: &Member) -> Option<Timestamp> {
    let judgement = member.judgement.as_ref().filter(|j| j.is_met())?;
    after(judgement.since?, policy.soak)
}

/// Where one that is not functional stands.
fn stage(pass: &mut Pass<'_>, id: &InstanceId, member: &Member, node: Option<&Node>) -> Progress {
    let subject = candidates::subject(id, member);
    let Some(node) = node else {
        // One that had joined is on its way out, before AWS shows it; or it joins anew, and has as much time for it.
        let left = pass.snapshot.unregistered.get(id).copied();
        let since = left.or(member.born).or_else(|| pass.snapshot.first_seen.get(id).copied());
        let deadline = pass.deadline(since, pass.policy.join_timeout);
        if deadline.is_some_and(|d| d <= pass.now) {
            let limit = limit(pass.policy.join_timeout);
            let why = match left {
                Some(_) => format!("its Node went, and did not register again within {limit}"),
                None => format!("its Node did not register within {limit} of its launch"),
            };
            return Progress::Failed(why.into());
        }
        let stage = if member.pending { Stage::Launching } else { Stage::Running };
        pass.show(id, member, stage, since);
        pass.wait_until(subject, WaitReason::Join, since, deadline);
        return Progress::Arriving;
    };
    let Some(judgement) = &member.judgement else { return Progress::Arriving };
    let Some(unmet) = judgement.unmet.first() else {
        if let Some(at) = functional_at(pass.policy, member) {
            pass.show(id, member, Stage::Ready, judgement.since);
            let reason = WaitReason::Soak { left: at.duration_since(pass.now) };
            pass.wait_until(subject, reason, judgement.since, Some(at));
        }
        return Progress::Arriving;
    };
    if let Some(unmet) = judgement.unmet.iter().find(|u| u.lasting) {
        return Progress::Failed(unmet.sentence.clone());
    }
    // While the pods it waits for are renewed, that is no fault of its own: its time begins anew.
    let mending = &pass.snapshot.mending;
    let from = mending.ended.map_or(node.created, |ended| ended.max(node.created));
    let deadline = pass.deadline(Some(from), pass.policy.gate_timeout);
    let deadline = deadline.map(|at| mending.busy.as_ref().map_or(at, |busy| busy.until.max(at)));
    if deadline.is_some_and(|d| d <= pass.now) {
        let mut why = format!("not functional within {}: ", limit(pass.policy.gate_timeout));
        for (n, unmet) in judgement.unmet.iter().take(3).enumerate() {
            let _ = write!(why, "{}{}", if n > 0 { "; " } else { "" }, unmet.sentence);
        }
        return Progress::Failed(why.into());
    }
    let stage = if node.ready() == ConditionStatus::True { Stage::Ready } else { Stage::Joined };
    pass.show(id, member, stage, Some(node.created));
    pass.wait_until(subject, unmet.reason.clone(), Some(node.created), deadline);
    Progress::Arriving
}

/// Cordons a failed replacement, and writes it down.
fn fail(pass: &mut Pass<'_>, group: &Group<'_>, id: &InstanceId, member: &Member, why: Text) {
    pass.show(id, member, Stage::Failed, None);
    if let Some(node) = member.node.as_ref().and_then(|n| pass.snapshot.nodes.get(n)) {
        let action = changes::fail(node, &pass.rotation.id, &why, pass.now);
        pass.act(action, ActionReason::ReplacementFailed { diagnosis: why.clone() });
    }
    pass.entries.failed.insert(id.clone(), why);
    if !pass.snapshot.mending.awaited {
        end(pass, group);
    }
}

/// A failed canary ends the rotation; so does the Nth replacement that fails later. What failed for a cause that was
/// mended since is left out.
fn end(pass: &mut Pass<'_>, group: &Group<'_>) {
    let failed = pass.rotation.failed.keys().chain(pass.entries.failed.keys());
    let counted = failed.filter(|id| !pass.rotation.mended.excused.contains(*id));
    let failures = counted.collect::<BTreeSet<_>>().len() as u32;
    if !group.proven {
        pass.end(Verdict::CanaryFailed);
    } else if failures >= pass.policy.failure_budget.max(1) {
        pass.end(Verdict::FailureBudget);
    }
}

/// Where failures are looked into first: waits until each has been, then gives the verdict on it.
fn await_examination(pass: &mut Pass<'_>, group: &Group<'_>) {
    let open: Vec<InstanceId> = unsettled(pass, Some(group.name)).cloned().collect();
    for id in open {
        if is_due(pass, &id) {
            end(pass, group);
        } else if pass.ending.is_none() {
            let until = examined_by(pass, &id);
            pass.wait_until(Subject::Instance(id.clone()), examination(&id), None, until);
        }
    }
}

fn examination(id: &InstanceId) -> WaitReason {
    WaitReason::Mending { what: format!("what made {id} fail to be found").into() }
}

/// Whether a failed replacement of the group is to be looked into, and its verdict is still to come.
pub(super) fn is_examined(pass: &Pass<'_>, group: &Group<'_>) -> bool {
    in_question(pass, Some(group.name)).next().is_some()
}

/// Failed replacements, of one group or all, that are looked into before the verdict on them, and by when that is to
/// be expected: those that this pass has found, in whatever group, and those that the record names.
fn in_question<'a>(
    pass: &'a Pass<'a>,
    group: Option<&'a GroupName>,
) -> impl Iterator<Item = (InstanceId, Option<Timestamp>)> + use<'a> {
    let found = pass.entries.failed.keys().filter(|_| pass.snapshot.mending.awaited);
    let found = found.filter(|id| !pass.rotation.failed.contains_key(*id)).map(|id| (id.clone(), None));
    let open = unsettled(pass, group).filter(|id| !is_due(pass, id));
    found.chain(open.map(|id| (id.clone(), examined_by(pass, id))))
}

/// Failed replacements in the record on which no verdict has been given, where they are looked into first.
fn unsettled<'a>(pass: &Pass<'a>, group: Option<&'a GroupName>) -> impl Iterator<Item = &'a InstanceId> + use<'a> {
    let (snapshot, rotation) = (pass.snapshot, pass.rotation);
    let mending = &snapshot.mending;
    let here = move |id: &&InstanceId| {
        let known = mending.failures.get(*id).map(|failure| &failure.group);
        group.is_none() || known.or_else(|| snapshot.instances.get(*id).map(|i| &i.group)) == group
    };
    let open = move |id: &&InstanceId| !rotation.mended.excused.contains(*id) && !mending.settled.contains(*id);
    rotation.failed.keys().filter(|_| mending.awaited).filter(here).filter(open)
}

/// Whether a failed replacement has been looked into, or nobody does so in time.
fn is_due(pass: &Pass<'_>, id: &InstanceId) -> bool {
    let done = pass.snapshot.mending.examined.contains(id);
    done || examined_by(pass, id).is_none_or(|until| until <= pass.now)
}

/// By when a failed replacement has been looked into at the latest; `None` where nobody does.
fn examined_by(pass: &Pass<'_>, id: &InstanceId) -> Option<Timestamp> {
    let mending = &pass.snapshot.mending;
    let until = mending.failures.get(id)?.until;
    Some(mending.busy.as_ref().map_or(until, |busy| busy.until.max(until)))
}

/// Marks functional replacements: from then on a flapping node is no failed replacement, after a crash neither.
fn adopt(pass: &mut Pass<'_>, group: &Group<'_>) {
    let derived = pass.derived;
    for id in &group.fresh {
        let node = derived.members.get(id).and_then(|m| m.node.as_ref()).and_then(|n| pass.snapshot.nodes.get(n));
        if let Some(node) = node {
            pass.act(changes::adopt(node, &pass.rotation.id, pass.now), ActionReason::ReplacementFunctional);
        }
    }
}

fn launch_wait(pass: &mut Pass<'_>, group: &Group<'_>) {
    let (failure, since) = (standstill::launch_failure(pass, group), standstill::short_since(pass, group));
    let reason = WaitReason::Launch { missing: group.missing, failure };
    let deadline = pass.deadline(since, pass.policy.join_timeout);
    pass.wait_until(Subject::Group(group.name.clone()), reason, since, deadline);
}

/// A time-out in words.
pub(super) fn limit(timeout: Timeout) -> String {
    timeout.limit().map_or_else(
        || "ever".into(),
        |limit| humantime::format_duration(std::time::Duration::from_secs(limit.as_secs().unsigned_abs())).to_string(),
    )
}
