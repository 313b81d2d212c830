//! Draining a cordoned node: which pods to evict now, what is waited for, and when nothing is left.

use jiff::{SignedDuration, Timestamp};

use super::group::Group;
use super::pass::{Pass, after};
use super::{Action, ActionKey, ActionReason, BlockReason, Stage, Subject, WaitReason};
use super::{canary, changes, deadlines, terminate};
use crate::cluster::ErrorKind;
use crate::model::{Node, Text, marks};
use crate::observe::{Drain, DrainPod, Member};

/// How long an accepted eviction is taken to be on its way though its pod does not show it.
const SETTLES: SignedDuration = SignedDuration::from_secs(30);
/// The grace a pod is given that is deleted past its budget, in seconds.
const PAST_BUDGET_GRACE: u32 = 30;

/// How a drain stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing of what had to go is left.
    Drained,
    /// Pods or volumes are left; who is to blame.
    Busy {
        /// One clause.
        culprit: Text,
    },
}

/// Nodes of the group that hold a drain slot: those with something left on them.
pub(super) fn slots(pass: &Pass<'_>, group: &Group<'_>) -> u32 {
    let derived = pass.derived;
    let busy = |m: &Member| m.drain.as_ref().is_none_or(|d| !d.pods.is_empty() || d.volumes > 0);
    derived.select(&group.view.draining).filter(|(_, m)| busy(m)).count() as u32
}

/// Drains the group's old nodes in hand, the first `most` of them, and terminates those that are drained.
pub(super) fn old<'a>(pass: &mut Pass<'a>, group: &mut Group<'a>, most: u32) {
    let derived = pass.derived;
    for (id, member) in derived.select(&group.view.draining).take(most as usize) {
        if pass.in_flight(&ActionKey::Instance(id.clone())) {
            pass.show(id, member, Stage::Terminating, None);
            continue;
        }
        let Some(node) = node_of(pass, member) else { continue };
        let since = began(node);
        match work(pass, node, member) {
            Standing::Drained => {
                pass.show(id, member, Stage::Drained, since);
                if is_out_of_service(pass, group, node, member) {
                    terminate::drained(pass, group, id, node);
                } else {
                    deadlines::drain(pass, group, node, &"its load balancers wait for a functional node".into());
                }
            }
            Standing::Busy { culprit } => {
                pass.show(id, member, Stage::Draining, since);
                terminate::foresee(pass, group, id);
                is_out_of_service(pass, group, node, member);
                deadlines::drain(pass, group, node, &culprit);
            }
        }
    }
}

/// Drains failed replacements and gives them back, as far as the confirmed surge reaches.
pub(super) fn failed<'a>(pass: &mut Pass<'a>, group: &mut Group<'a>) {
    let derived = pass.derived;
    for (id, member) in derived.select(&group.view.failed) {
        pass.show(id, member, Stage::Failed, None);
        let subject = super::candidates::subject(id, member);
        let why = pass.rotation.failed.get(id).cloned().unwrap_or_else(|| "failed its gate".into());
        if pass.policy.keep_failed || group.ledger.confirmed == 0 {
            pass.incomplete = true;
            pass.block(subject, BlockReason::Skipped { why });
            continue;
        }
        let node = node_of(pass, member);
        let drained = node.is_none_or(|node| work(pass, node, member) == Standing::Drained);
        if drained {
            let diagnosis = ActionReason::ReplacementFailed { diagnosis: why };
            terminate::shrink(pass, group, id, node, diagnosis);
        }
    }
}

/// Plans what one drain does now.
pub(super) fn work(pass: &mut Pass<'_>, node: &Node, member: &Member) -> Standing {
    let nothing = Drain::default();
    let drain = member.drain.as_ref().unwrap_or(&nothing);
    if !node.unschedulable {
        pass.act(changes::cordon_again(node), ActionReason::NotCordoned);
        return Standing::Busy { culprit: "it is not cordoned".into() };
    }
    let deadline = deadline(pass, node);
    let past = pass.policy.past_budgets && deadline.is_some_and(|d| d <= pass.now);
    let wave = drain.pods.iter().any(|p| !p.critical);
    let mut first: Option<WaitReason> = None;
    let mut culprit: Option<Text> = None;
    for pod in drain.pods.iter().filter(|p| !(wave && p.critical)) {
        let Some((why, reason)) = evict(pass, node, pod, past) else { continue };
        culprit.get_or_insert(why);
        first.get_or_insert(reason);
    }
    if let Some(pod) = drain.pods.first() {
        let left = drain.pods.len() as u32;
        let reason = first.unwrap_or_else(|| WaitReason::PodTermination { pod: pod.key.clone(), left });
        pass.wait_until(Subject::Node(node.name.clone()), reason, began(node), deadline);
        let culprit = culprit.unwrap_or_else(|| format!("pod {} does not end", pod.key).into());
        return Standing::Busy { culprit };
    }
    if drain.volumes > 0 {
        let reason = WaitReason::VolumeDetach { left: drain.volumes };
        pass.wait_until(Subject::Node(node.name.clone()), reason, began(node), deadline);
        return Standing::Busy { culprit: format!("{} volumes are still attached", drain.volumes).into() };
    }
    Standing::Drained
}

/// Evicts a pod if its time has come; else who keeps it, as a clause and as what is waited for.
fn evict(pass: &mut Pass<'_>, node: &Node, pod: &DrainPod, past: bool) -> Option<(Text, WaitReason)> {
    let snapshot = pass.snapshot;
    let on_its_way =
        snapshot.accepted.get(&pod.uid).is_some_and(|at| after(*at, SETTLES).is_some_and(|t| t > pass.now));
    if pod.going || on_its_way || pass.in_flight(&ActionKey::Pod(pod.uid.clone())) {
        if on_its_way && let Some(at) = snapshot.accepted.get(&pod.uid).and_then(|at| after(*at, SETTLES)) {
            pass.wake(at);
        }
        return None;
    }
    let blocked = |by: Text| {
        let why = format!("pod {} is held by {by}", pod.key).into();
        Some((why, WaitReason::Budget { pod: pod.key.clone(), budget: by }))
    };
    if let Some(hold) = &pod.hold {
        return blocked(hold.to_string().into());
    }
    let refusal = snapshot.refusals.get(&pod.uid);
    let due = refusal.is_none_or(|r| r.retry_at <= pass.now);
    let refusing = pass.tokens.refusing(snapshot, pod);
    if past && (refusing.is_some() || refusal.is_some()) {
        let action = Action::DeletePod {
            node: node.name.clone(),
            pod: pod.key.clone(),
            uid: pod.uid.clone(),
            grace_seconds: PAST_BUDGET_GRACE,
        };
        pass.act(action, ActionReason::PastBudget);
        return None;
    }
    if let Some(refusal) = refusal.filter(|_| !due) {
        // A budget that has opened since overrides the back-off; what the server refuses for itself does not.
        let by_budget = matches!(refusal.kind, ErrorKind::BudgetExhausted | ErrorKind::BudgetUnobserved);
        if !by_budget || refusing.is_some() || pod.budgets.is_empty() {
            pass.wake(refusal.retry_at);
            return blocked(refusing.map_or_else(|| refusal.message.as_str().into(), |b| b.to_string().into()));
        }
    }
    // After the back-off of a refusal it is tried once more, whatever our view of the budget says.
    if let Some(budget) = refusing.filter(|_| refusal.is_none() || !due) {
        return blocked(budget.to_string().into());
    }
    let reason = match refusal {
        Some(refusal) => ActionReason::EvictAgain { attempts: refusal.attempts },
        None => ActionReason::Evicting,
    };
    let action = Action::Evict { node: node.name.clone(), pod: pod.key.clone(), uid: pod.uid.clone() };
    if pass.act(action, reason) {
        pass.tokens.take(snapshot, pod);
    }
    None
}

/// Takes the node out of its load balancers once a functional replacement of its zone serves (or one of the
/// group, where its zone is getting none); whether it is out, or in none.
fn is_out_of_service(pass: &mut Pass<'_>, group: &Group<'_>, node: &Node, member: &Member) -> bool {
    if !group.record.load_balanced || node.labels.contains_key(marks::EXCLUDE_FROM_LB) {
        return true;
    }
    let adopted = group.view.zones.get(&member.zone).map_or(0, |z| z.adopted);
    let here = adopted + group.functional_in.get(&member.zone).copied().unwrap_or(0);
    let anywhere = group.view.adopted.len() + group.functional.len();
    let coming = pass.derived.select(&group.view.young).any(|(_, m)| m.zone == member.zone);
    if here > 0 || (anywhere > 0 && !coming) {
        pass.act(changes::exclude_from_load_balancers(node), ActionReason::ReplacementServes);
    } else {
        pass.wait(Subject::Node(node.name.clone()), WaitReason::Deregistration);
    }
    false
}

/// When the drain began.
pub(super) fn began(node: &Node) -> Option<Timestamp> {
    node.annotation(marks::SINCE).and_then(|since| since.parse().ok())
}

/// When the drain runs out.
pub(super) fn deadline(pass: &Pass<'_>, node: &Node) -> Option<Timestamp> {
    pass.deadline(began(node), pass.policy.drain_timeout)
}

pub(super) fn node_of<'a>(pass: &Pass<'a>, member: &Member) -> Option<&'a Node> {
    member.node.as_ref().and_then(|n| pass.snapshot.nodes.get(n))
}

/// The sentence for a drain that ran out.
pub(super) fn ran_out(pass: &Pass<'_>, culprit: &Text) -> Text {
    format!("not drained within {}: {culprit}", canary::limit(pass.policy.drain_timeout)).into()
}
