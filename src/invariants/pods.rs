//! Evictions and deletions of pods.

use jiff::Timestamp;

use crate::model::{Node, NodeMark, NodeName, ObjectKey, Pod, Uid, marks};
use crate::plan::Subject;
use crate::policy::Timeout;

use super::world::{World, must_leave};
use super::{Violation, rule, violation};

pub(super) fn evict(world: &World<'_>, node: &NodeName, pod: &ObjectKey, uid: &Uid) -> Result<(), Violation> {
    may_go(world, node, pod, uid).map(drop)
}

pub(super) fn delete(
    world: &World<'_>,
    node: &NodeName,
    pod: &ObjectKey,
    uid: &Uid,
    grace_seconds: u32,
) -> Result<(), Violation> {
    let broken = |what: &str| Err(violation(rule::PAST_BUDGETS, Subject::Pod(pod.clone()), what.to_owned()));
    if !world.policy.past_budgets {
        return broken("it would be deleted past its budget, which nobody allowed");
    }
    if grace_seconds == 0 {
        return broken("it would be deleted without grace");
    }
    let node = may_go(world, node, pod, uid)?;
    if drain_time_is_over(world, node) {
        Ok(())
    } else {
        broken("it would be deleted past its budget before the drain time-out")
    }
}

fn drain_time_is_over(world: &World<'_>, node: &Node) -> bool {
    let since = node.annotation(marks::SINCE).and_then(|text| text.parse::<Timestamp>().ok());
    match (world.policy.drain_timeout, since) {
        (Timeout::After(limit), Some(since)) => since.checked_add(limit).is_ok_and(|until| until <= world.now),
        _ => false,
    }
}

/// The node, if this pod on it may be made to go.
fn may_go<'a>(world: &World<'a>, name: &NodeName, key: &ObjectKey, uid: &Uid) -> Result<&'a Node, Violation> {
    let broken = |rule, what: String| Err(violation(rule, Subject::Pod(key.clone()), what));
    let Some(pod) = world.snapshot.pods.get(uid).filter(|p| p.key == *key) else {
        return broken(rule::IDENTITY, format!("there is no such pod of UID {uid}"));
    };
    if pod.node.as_ref() != Some(name) {
        return broken(rule::IDENTITY, format!("it is not on {name}"));
    }
    let Some(node) = world.snapshot.nodes.get(name) else {
        return broken(rule::IDENTITY, format!("there is no Node {name}"));
    };
    if let Some(instance) = world.instance_of(node) {
        world.group(&instance.group, false)?;
    }
    let draining = matches!(world.mark(node), Some(NodeMark::Draining | NodeMark::Failed));
    if !(draining && world.is_in_hand(node)) {
        return broken(rule::EVICTABLE, format!("it would be evicted from {name}, which we are not draining"));
    }
    match why_it_stays(world, pod) {
        Some(why) => broken(rule::EVICTABLE, why.to_owned()),
        None => Ok(node),
    }
}

fn why_it_stays(world: &World<'_>, pod: &Pod) -> Option<&'static str> {
    let policy = world.policy;
    if pod.is_finished() {
        return None;
    }
    if !must_leave(pod) {
        return Some("it would be evicted, and stays with its node");
    }
    if pod.owner.is_none() && !policy.force_unmanaged {
        return Some("it would be evicted, and nothing would make it again");
    }
    if pod.flags.empty_dir && !policy.delete_emptydir_data {
        return Some("it would be evicted with its emptyDir data");
    }
    let opts_out = pod.flags.not_safe_to_evict || pod.flags.do_not_disrupt;
    (opts_out && !policy.ignore_opt_outs).then_some("it would be evicted, and opts out of it")
}
