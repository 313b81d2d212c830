//! What serves behind load balancers is not terminated before they have let go of it.

use jiff::{SignedDuration, Timestamp};

use crate::model::{Node, NodeGroup, NodeMark, marks};

use super::world::{World, about_node};
use super::{Violation, rule, violation};

/// What AWS waits where nobody set another delay, in seconds.
const DEFAULT_S: u32 = 300;

/// A node of a group with attachments carries the label, and has for the longest of their delays. A failed
/// replacement never served.
pub(super) fn check(world: &World<'_>, group: &NodeGroup, node: &Node) -> Result<(), Violation> {
    let delays = group.attachments.iter().map(|a| *world.snapshot.delays.get(a).unwrap_or(&DEFAULT_S));
    let Some(delay) = delays.max().filter(|_| world.mark(node) != Some(NodeMark::Failed)) else { return Ok(()) };
    let broken = |what: String| Err(violation(rule::DEREGISTRATION, about_node(&node.name), what));
    if !node.labels.contains_key(marks::EXCLUDE_FROM_LB) {
        return broken("it would be terminated, and its load balancers still send it traffic".to_owned());
    }
    // Without a date of ours somebody else put the label on; the drain's beginning stands for it.
    let since = [marks::EXCLUDED_SINCE, marks::SINCE].iter().find_map(|key| node.annotation(key));
    let Some(since) = since.and_then(|s| s.parse::<Timestamp>().ok()) else { return Ok(()) };
    let age = world.now.duration_since(since);
    if age < SignedDuration::from_secs(delay.into()) {
        return broken(format!(
            "it would be terminated {}s after it left its load balancers, they take {delay}s",
            age.as_secs()
        ));
    }
    Ok(())
}
