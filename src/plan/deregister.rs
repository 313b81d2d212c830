//! Out of the load balancers: when a node may leave them, and how long they take to let go of it.
//!
//! ```text
//!   Draining --(label, once a successor serves)--> Drained --> Deregistering --(delay over)--> Terminating
//! ```
//!
//! The label starts the deregistration while the drain goes on. What is left of the delay when the node is
//! drained is waited out, in a state that holds no drain slot. A group without attachments waits for nothing.

use jiff::{SignedDuration, Timestamp};

use super::group::Group;
use super::pass::{Pass, after};
use super::{ActionReason, Stage, Subject, WaitReason, changes, drain};
use crate::model::{Attachment, Node, NodeGroup, NodeMark, marks};
use crate::observe::{Member, Snapshot};

/// Takes the node out of its load balancers once a functional replacement of its zone serves (or one of the
/// group, where its zone is getting none); whether it is out, or in none.
///
/// Without a surge the drain itself was allowed by `unavailable`, and the replacement is launched only after the
/// termination: waiting for one would be waiting for ever. It is enough that another node of the group serves.
pub(super) fn is_excluded(pass: &mut Pass<'_>, group: &Group<'_>, node: &Node, member: &Member) -> bool {
    if is_out(group, node) {
        return true;
    }
    // One that was proven and does not serve any more takes nothing over.
    let adopted = group.view.adopted.iter().filter_map(|(_, id)| pass.derived.members.get(id)).filter(|m| m.serves);
    let zones: Vec<_> = adopted.map(|m| &m.zone).collect();
    let proven = zones.iter().filter(|zone| ***zone == member.zone).count() as u32;
    let here = proven + group.functional_in.get(&member.zone).copied().unwrap_or(0);
    let anywhere = zones.len() as u32 + group.functional;
    let coming = pass.derived.select(&group.view.young).any(|(_, m)| m.zone == member.zone);
    let by_unavailable = group.limits.surge == 0 && group.surge() == 0 && group.serving() > 0;
    if here > 0 || (anywhere > 0 && !coming) || by_unavailable {
        pass.act(changes::exclude_from_load_balancers(node, pass.now), ActionReason::ReplacementServes);
    } else {
        pass.wait(Subject::Node(node.name.clone()), WaitReason::Successor);
    }
    false
}

/// The same for a replacement that is given back: it was chosen because the others are enough. They may have ceased to
/// serve since.
pub(super) fn is_given_back(pass: &mut Pass<'_>, group: &Group<'_>, node: &Node) -> bool {
    if is_out(group, node) {
        return true;
    }
    if group.serving() > 0 {
        pass.act(changes::exclude_from_load_balancers(node, pass.now), ActionReason::GivingBack);
    } else {
        pass.wait(Subject::Node(node.name.clone()), WaitReason::Successor);
    }
    false
}

/// Where a drained node stands that waits for nothing any more: no stage is shown that it has left behind.
pub(super) fn left(group: &Group<'_>) -> Stage {
    if group.record.attachments.is_empty() { Stage::Drained } else { Stage::Deregistering }
}

fn is_out(group: &Group<'_>, node: &Node) -> bool {
    group.record.attachments.is_empty() || node.labels.contains_key(marks::EXCLUDE_FROM_LB)
}

/// Whether the load balancers have let go of a drained node; else the wait is named, and the node marked.
pub(super) fn is_over(pass: &mut Pass<'_>, group: &Group<'_>, node: &Node) -> bool {
    let Some((of, delay_s)) = longest(pass.snapshot, group.record) else { return true };
    let Some(until) = since(node).and_then(|s| after(s, SignedDuration::from_secs(delay_s.into()))) else {
        return true;
    };
    if until <= pass.now {
        return true;
    }
    if node.annotation(marks::STATE).and_then(NodeMark::parse) == Some(NodeMark::Draining) {
        pass.act(changes::drained(node), ActionReason::NothingLeft);
    }
    let reason = WaitReason::Deregistration { of: of.clone(), delay_s, until };
    pass.wait_until(Subject::Node(node.name.clone()), reason, since(node), Some(until));
    false
}

/// The attachment that takes longest to let go.
pub(super) fn longest<'a>(snapshot: &Snapshot, group: &'a NodeGroup) -> Option<(&'a Attachment, u32)> {
    let delay = |of: &'a Attachment| (of, snapshot.delays.get(of).copied().unwrap_or(Attachment::DEFAULT_DELAY_S));
    group.attachments.iter().map(delay).max_by_key(|(_, delay)| *delay)
}

/// Since when the label is on. One that somebody else put on has no date; it was there when the drain began, or
/// came later by other hands.
fn since(node: &Node) -> Option<Timestamp> {
    let noted = node.annotation(marks::EXCLUDED_SINCE).and_then(|since| since.parse().ok());
    noted.or_else(|| drain::began(node))
}
