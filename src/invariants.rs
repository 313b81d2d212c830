//! The independent checker: no plan is carried out that breaks one of these rules.
//!
//! It looks at what a plan *does*, counts for itself from the raw records of the snapshot, and shares no code
//! with the planner or the gate: what both get wrong must be wrong twice. It is weaker than the planner where
//! being right would mean to plan; where it is sure, a violation stops the rotation (exit 4).
//!
//! It costs nothing where a plan does nothing: an action is checked by what it touches, capacity once for each
//! group in which the plan cordons. `docs/safety.md` says what each rule promises and which test holds it.

mod capacity;
mod deregistration;
mod groups;
mod nodes;
mod pods;
mod terminate;
mod world;

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;

use crate::observe::Snapshot;
use crate::plan::{Action, ActionKey, NodePurpose, Plan, Subject};
use crate::policy::Policy;

use world::World;

/// The rules, by the name a [`Violation`] carries.
pub mod rule {
    /// Nothing is done before every source has been heard in full, and under a rotation's record.
    pub const SYNCED: &str = "synced";
    /// No two actions about one thing, and none about a thing that has one in flight.
    pub const ONE_AT_A_TIME: &str = "one-at-a-time";
    /// Groups of others, and those out of scope, are left alone.
    pub const SCOPE: &str = "scope";
    /// An action names what the snapshot knows, UID for UID.
    pub const IDENTITY: &str = "identity";
    /// Only nodes that carry this rotation's marks are let go of, and only our keys are written.
    pub const OWN_MARKS: &str = "own-marks";
    /// Only what is outdated is drained, or a replacement that gives the surge back.
    pub const OUTDATED: &str = "outdated";
    /// Nothing old is drained before the canary has proved the target.
    pub const CANARY: &str = "canary";
    /// Only what we cordoned and drained to the end is terminated.
    pub const DRAINED: &str = "drained";
    /// What serves behind load balancers is terminated only when they have let go of it.
    pub const DEREGISTRATION: &str = "deregistration";
    /// Only pods on a node we are draining, and only those the policy allows to move, are evicted.
    pub const EVICTABLE: &str = "evictable";
    /// Nothing goes past a budget unasked.
    pub const PAST_BUDGETS: &str = "past-budgets";
    /// Desired changes by our surge alone, announced in the ledger first.
    pub const LEDGER: &str = "ledger";
    /// Desired stays within the group's minimum and maximum.
    pub const LIMITS: &str = "limits";
    /// The surge stays within the policy.
    pub const SURGE: &str = "surge";
    /// A group shrinks by one, with nothing being launched and all others protected.
    pub const SHRINK: &str = "shrink";
    /// A termination without decrement launches a replacement that is wanted.
    pub const REPLACEMENT: &str = "replacement";
    /// A group keeps the serving nodes the policy promises.
    pub const CAPACITY: &str = "capacity";
    /// So does each of its zones.
    pub const ZONE: &str = "zone";
    /// No more nodes drain at once than the policy says.
    pub const DRAINS: &str = "drains";
    /// Only our own tags are written, and taken off only when what they say is put back.
    pub const TAGS: &str = "tags";
    /// Only processes that we suspended are resumed, AZRebalance only on a balanced group.
    pub const PROCESSES: &str = "processes";
    /// Another target is recorded only where the policy says so, and with nothing in hand.
    pub const TARGET: &str = "target";
    /// Protection is changed only where its former state is recorded, and put back to that.
    pub const PROTECTION: &str = "protection";

    /// All of them.
    pub const ALL: [&str; 23] = [
        SYNCED,
        ONE_AT_A_TIME,
        SCOPE,
        IDENTITY,
        OWN_MARKS,
        OUTDATED,
        CANARY,
        DRAINED,
        DEREGISTRATION,
        EVICTABLE,
        PAST_BUDGETS,
        LEDGER,
        LIMITS,
        SURGE,
        SHRINK,
        REPLACEMENT,
        CAPACITY,
        ZONE,
        DRAINS,
        TAGS,
        PROCESSES,
        TARGET,
        PROTECTION,
    ];
}

/// A plan that breaks a rule. It is not carried out, none of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{subject}: {detail} (invariant {rule})")]
pub struct Violation {
    /// The rule, one of [`rule::ALL`].
    pub rule: &'static str,
    /// Who the action is about.
    pub subject: Subject,
    /// What the action would do, and what speaks against it.
    pub detail: String,
}

/// Checks what `plan` would do to the world that `snapshot` shows.
///
/// # Errors
/// The first violation.
pub fn check(policy: &Policy, snapshot: &Snapshot, plan: &Plan, now: Timestamp) -> Result<(), Violation> {
    if plan.actions.is_empty() {
        return Ok(());
    }
    let broken = |detail: &str| violation(rule::SYNCED, Subject::Rotation, detail.to_owned());
    if !snapshot.is_synced() {
        return Err(broken("it acts before every source has been heard in full"));
    }
    let Some(record) = &snapshot.rotation else {
        return Err(broken("it acts without a rotation's record"));
    };
    let world = World { policy, snapshot, record, now };

    check_keys(snapshot, plan)?;
    for planned in &plan.actions {
        check_action(&world, plan, &planned.action)?;
    }
    capacity::check(&world, plan)
}

fn check_keys(snapshot: &Snapshot, plan: &Plan) -> Result<(), Violation> {
    let mut keys: BTreeSet<ActionKey> = BTreeSet::new();
    for planned in &plan.actions {
        let key = planned.action.key();
        let broken = |what: &str| violation(rule::ONE_AT_A_TIME, Subject::Rotation, format!("{key} {what}"));
        if snapshot.in_flight.contains_key(&key) {
            return Err(broken("has an action in flight already"));
        }
        if keys.contains(&key) {
            return Err(broken("has two actions in one plan"));
        }
        keys.insert(key);
    }
    Ok(())
}

fn check_action(world: &World<'_>, plan: &Plan, action: &Action) -> Result<(), Violation> {
    match action {
        Action::TagGroup { group, tags } => groups::tag(world, group, tags),
        Action::UntagGroup { group, keys } => groups::untag(world, group, keys),
        Action::Suspend { group, processes } => groups::suspend(world, group, processes),
        Action::Resume { group, processes } => groups::resume(world, group, processes),
        Action::SetMax { group, from, to } => groups::set_max(world, group, *from, *to),
        Action::Resize { group, from, to, before, after } => {
            groups::resize(world, group, (*from, *to), (before, after))
        }
        Action::SettleLedger { group, ledger } => groups::settle(world, group, ledger),
        Action::Protect { group, instances, protected } => groups::protect(world, plan, group, instances, *protected),
        Action::ChangeNode { node, uid, purpose, change } => nodes::change(world, node, uid, *purpose, change),
        Action::Evict { node, pod, uid } => pods::evict(world, node, pod, uid),
        Action::DeletePod { node, pod, uid, grace_seconds } => pods::delete(world, node, pod, uid, *grace_seconds),
        Action::Terminate { instance, group, node, decrement } => {
            terminate::check(world, instance, group, node.as_ref(), decrement.as_deref())
        }
        Action::Record { targets, .. } => groups::retarget(world, targets),
    }
}

/// Whether a change of a node lets go of it: allowed wherever our marks are.
fn lets_go(purpose: NodePurpose) -> bool {
    matches!(purpose, NodePurpose::Skip | NodePurpose::Uncordon | NodePurpose::Release)
}

fn violation(rule: &'static str, subject: Subject, detail: String) -> Violation {
    Violation { rule, subject, detail }
}
