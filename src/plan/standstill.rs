//! A group in which nothing happens by itself any more.
//!
//! A rotation acts, waits for something that has a deadline, or ends. What is under way (a launch, a gate, a
//! drain, a termination) has its own deadline; here is what remains: old nodes that may not go, and nothing under
//! way that could change that. Who is to blame is named, and the policy's answer to what is stuck decides.

use jiff::Timestamp;

use super::group::Group;
use super::pass::Pass;
use super::{Subject, Verdict, WaitReason, canary, candidates, deadlines, drain};
use crate::model::{ActivityStatus, Node, Text, marks};
use crate::observe::Member;
use crate::policy::OnStuck;

/// Old nodes may not go now: waits for whoever is to blame, or gives them up.
pub(super) fn check(pass: &mut Pass<'_>, group: &mut Group<'_>) {
    let changing = !pass.is_free(&group.key()) || group.ledger.step.is_some() || !group.is_idle();
    if changing {
        return;
    }
    if group.missing > 0 {
        if let Some(why) = overdue(pass, group) {
            give_up(pass, group, &why);
        }
        return;
    }
    // What comes of a failed replacement that is still looked into is not known.
    let goes = !drain::returns_failed(pass, group).is_empty() || !drain::replaced_failed(pass, group).is_empty();
    if goes || canary::is_examined(pass, group) {
        return;
    }
    if let Some(why) = kept(pass, group) {
        return give_up(pass, group, &why);
    }
    let since = latest_change(pass, group);
    let deadline = pass.deadline(Some(since), pass.policy.drain_timeout);
    let (subject, why) = culprit(pass, group);
    if deadline.is_some_and(|d| d <= pass.now) {
        let limit = canary::limit(pass.policy.drain_timeout);
        return give_up(pass, group, &format!("nothing of its group could be drained for {limit}: {why}").into());
    }
    pass.wait_until(subject, WaitReason::Standstill { why }, Some(since), deadline);
}

/// Why no instance was launched in time, where none was.
pub(super) fn overdue(pass: &Pass<'_>, group: &Group<'_>) -> Option<Text> {
    let deadline = pass.deadline(short_since(pass, group), pass.policy.join_timeout)?;
    (group.missing > 0 && deadline <= pass.now).then(|| {
        let limit = canary::limit(pass.policy.join_timeout);
        match launch_failure(pass, group) {
            Some(failure) => format!("its group launched nothing within {limit}: {failure}").into(),
            None => format!("its group launched nothing within {limit}").into(),
        }
    })
}

/// Since when instances are missing.
pub(super) fn short_since(pass: &Pass<'_>, group: &Group<'_>) -> Option<Timestamp> {
    pass.snapshot.short_since.get(group.name).copied()
}

/// What AWS said of the last launch, where it failed.
pub(super) fn launch_failure(pass: &Pass<'_>, group: &Group<'_>) -> Option<Text> {
    let activities = pass.snapshot.activities.get(group.name)?;
    let last = activities.iter().find(|a| a.description.starts_with("Launching"))?;
    last.message.clone().filter(|_| last.status == ActivityStatus::Failed)
}

/// A failed replacement that stays takes the place of one that works.
fn kept(pass: &Pass<'_>, group: &Group<'_>) -> Option<Text> {
    let (id, member) = pass.derived.select(&group.view.failed).find(|(_, m)| m.counted)?;
    let who = candidates::subject(id, member);
    Some(match pass.policy.keep_failed && group.ledger.confirmed > 0 {
        true => format!("the failed replacement {who} is kept and takes the room of its surge (--keep-failed)").into(),
        false => format!("the failed replacement {who} stays in its group, which has no surge to take it back").into(),
    })
}

/// When the world last showed a change of the group.
fn latest_change(pass: &Pass<'_>, group: &Group<'_>) -> Timestamp {
    let stamps = pass.snapshot.instances_of(group.name).flat_map(|instance| {
        let node = pass.snapshot.node_of(&instance.id);
        let ready = node.and_then(|n| n.conditions.get("Ready")).and_then(|c| c.since);
        let marked = node.and_then(|n| n.annotation(marks::SINCE)).and_then(|since| since.parse().ok());
        [instance.launched_at, node.map(|n| n.created), ready, marked]
    });
    stamps.flatten().fold(pass.rotation.started, Timestamp::max)
}

/// The node that does not serve, and why; the group where all do.
fn culprit(pass: &Pass<'_>, group: &Group<'_>) -> (Subject, Text) {
    let idle = |m: &&Member| m.counted && !m.serves && !m.pending;
    let members = pass.snapshot.instances_of(group.name).filter_map(|i| pass.derived.member(&i.id));
    let Some(node) = members.filter(idle).find_map(|m| drain::node_of(pass, m)) else {
        let (functional, promised) = (group.serving(), group.promised());
        return (group.subject(), format!("{functional} nodes serve, {promised} are promised").into());
    };
    let why = match node.conditions.get("Ready") {
        _ if node.unschedulable => format!("{} is cordoned, not by fastnode", node.name),
        Some(condition) => format!("{} is not serving, {}", node.name, condition.reason),
        None => format!("{} is not serving", node.name),
    };
    (Subject::Node(node.name.clone()), why.into())
}

/// The policy's answer to a drained node that cannot go because its group launches nothing.
pub(super) fn let_go(pass: &mut Pass<'_>, group: &mut Group<'_>, node: &Node, why: &Text) {
    match pass.policy.on_stuck {
        OnStuck::Wait => pass.wait(group.subject(), WaitReason::Standstill { why: why.clone() }),
        // The end takes back what was not launched, and lets the node go.
        OnStuck::Stop => pass.end(Verdict::Stuck),
        OnStuck::Skip => deadlines::skip(pass, group, node, why, why.clone()),
    }
}

/// The policy's answer to old nodes that nothing will let go.
fn give_up(pass: &mut Pass<'_>, group: &mut Group<'_>, why: &Text) {
    match pass.policy.on_stuck {
        OnStuck::Wait => pass.wait(group.subject(), WaitReason::Standstill { why: why.clone() }),
        OnStuck::Stop => pass.end(Verdict::Stuck),
        OnStuck::Skip => {
            let derived = pass.derived;
            let candidates = group.view.zones.values().flat_map(|z| &z.candidates);
            let nodes = candidates.filter_map(|rank| derived.member(&rank.3)?.node.clone());
            pass.entries.skipped.extend(nodes.map(|node| (node, why.clone())));
            pass.incomplete = true;
        }
    }
}
