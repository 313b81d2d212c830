//! What happens when a drain runs out of time.

use super::group::Group;
use super::pass::Pass;
use super::{ActionReason, Verdict, changes, drain};
use crate::model::{Node, Text};
use crate::policy::OnStuck;

/// Gives up a node whose drain has run out, by the policy's answer.
pub(super) fn drain(pass: &mut Pass<'_>, group: &mut Group<'_>, node: &Node, culprit: &Text) {
    let Some(deadline) = drain::deadline(pass, node) else { return };
    if deadline > pass.now {
        return pass.wake(deadline);
    }
    match pass.policy.on_stuck {
        // Past budgets, pods are deleted from now on: there is nothing to give up.
        _ if pass.policy.past_budgets => {}
        OnStuck::Wait => {}
        OnStuck::Stop if pass.ending.is_none() => pass.end(Verdict::Stuck),
        OnStuck::Stop | OnStuck::Skip => {
            let why = drain::ran_out(pass, culprit);
            skip(pass, group, node, culprit, why);
        }
    }
}

/// Lets an old node in hand go, for good.
pub(super) fn skip(pass: &mut Pass<'_>, group: &mut Group<'_>, node: &Node, culprit: &Text, why: Text) {
    let action = changes::skip(node, &pass.rotation.id, &why, pass.now);
    if pass.act(action, ActionReason::TimedOut { culprit: culprit.clone() }) {
        pass.entries.skipped.insert(node.name.clone(), why);
        pass.incomplete = true;
        group.in_drain = group.in_drain.saturating_sub(1);
        group.remaining = group.remaining.saturating_sub(1);
    }
}
