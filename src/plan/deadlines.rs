//! What happens when a drain runs out of time.

use super::group::Group;
use super::pass::Pass;
use super::{ActionReason, BlockReason, Verdict, WaitReason, candidates, changes, drain};
use crate::model::{Node, Text};
use crate::observe::{Member, Role};
use crate::policy::OnStuck;

/// Gives up a node whose drain has run out, by the policy's answer.
pub(super) fn drain(pass: &mut Pass<'_>, group: &mut Group<'_>, (node, member): (&Node, &Member), culprit: &Text) {
    let Some(deadline) = drain::gives_up_at(pass, node, member) else { return };
    if deadline > pass.now {
        return pass.wake(deadline);
    }
    match pass.policy.on_stuck {
        OnStuck::Wait => {}
        OnStuck::Stop if pass.ending.is_none() => pass.end(Verdict::Stuck),
        OnStuck::Stop | OnStuck::Skip => {
            let why = drain::ran_out(pass, culprit);
            skip(pass, group, node, culprit, why);
        }
    }
}

/// Nodes whose pods no budget will ever let go, under a policy that does not skip them: they end the rotation, or
/// it waits for them. Whether it does; one that ends waits for none of them.
pub(super) fn never_freed(pass: &mut Pass<'_>, group: &Group<'_>) -> bool {
    let mut waits = false;
    for (id, member) in pass.derived.select(&group.view.held) {
        let (pod, budget) = match &member.role {
            Role::Held(BlockReason::NeverFrees { pod, budget }) => (pod, budget.to_string()),
            Role::Held(BlockReason::SeveralBudgets { pod, budgets }) => {
                (pod, budgets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "))
            }
            _ => continue,
        };
        match pass.policy.on_stuck {
            OnStuck::Skip => return false,
            // While pods move, a budget may count fewer than there will be, and seem never to free.
            OnStuck::Stop if !pass.moving => pass.end(Verdict::Stuck),
            OnStuck::Stop => {}
            OnStuck::Wait if pass.ending.is_some() => {}
            OnStuck::Wait => {
                waits = true;
                let reason = WaitReason::Budget { pod: pod.clone(), budget: budget.into() };
                pass.wait(candidates::subject(id, member), reason);
            }
        }
    }
    waits
}

/// Lets an old node in hand go, for good.
pub(super) fn skip(pass: &mut Pass<'_>, group: &mut Group<'_>, node: &Node, culprit: &Text, why: Text) {
    let action = changes::skip(node, &pass.rotation.id, &why, pass.now);
    if pass.act(action, ActionReason::TimedOut { culprit: culprit.clone() }) {
        pass.entries.skipped.insert(node.name.clone(), why);
        pass.incomplete = true;
        // Until it is open again it is in hand: no other takes its place in this very pass.
        group.remaining = group.remaining.saturating_sub(1);
    }
}
