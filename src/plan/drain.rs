//! Draining a cordoned node: which pods to evict now, what is waited for, and when nothing is left.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::group::Group;
use super::pass::{Pass, after};
use super::{Action, ActionKey, ActionReason, BlockReason, Stage, Subject, WaitReason};
use super::{canary, changes, deadlines, deregister, terminate};
use crate::cluster::ErrorKind;
use crate::model::{InstanceId, Node, NodeMark, Text, marks};
use crate::observe::{Drain, DrainPod, Member};
use crate::policy::OnStuck;
use crate::units;

/// How long an accepted eviction is taken to be on its way though its pod does not show it.
const SETTLES: SignedDuration = SignedDuration::from_secs(30);
/// The grace a pod is given that is deleted past its budget, in seconds.
const PAST_BUDGET_GRACE: u32 = 30;
/// Past budgets, what is deleted has as long again as the drain had to be gone, and at least so long.
const DELETED_WITHIN: SignedDuration = SignedDuration::from_mins(5);

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

/// Nodes of the group that hold a drain slot: those with something left on them, replacements on their way back
/// included.
pub(super) fn slots(pass: &Pass<'_>, group: &Group<'_>) -> u32 {
    let derived = pass.derived;
    let busy = |m: &Member| m.drain.as_ref().is_none_or(|d| !d.pods.is_empty() || d.volumes > 0);
    let in_hand = derived.select(&group.view.draining).chain(derived.select(&group.view.returning));
    in_hand.filter(|(_, m)| busy(m)).count() as u32
}

/// Drains the group's old nodes in hand, those in `let_go` aside, and terminates those that are drained.
pub(super) fn old<'a>(pass: &mut Pass<'a>, group: &mut Group<'a>, let_go: &BTreeSet<InstanceId>) {
    let derived = pass.derived;
    for (id, member) in derived.select(&group.view.draining).filter(|(id, _)| !let_go.contains(*id)) {
        let Some(node) = node_of(pass, member) else { continue };
        let since = began(node);
        if pass.in_flight(&ActionKey::Instance(id.clone())) {
            // Its termination was asked for, and may be refused.
            pass.show(id, member, deregister::left(group), since);
            continue;
        }
        match work(pass, node, member) {
            Standing::Drained => {
                if !deregister::is_excluded(pass, group, node, member) {
                    pass.show(id, member, Stage::Drained, since);
                    deadlines::drain(
                        pass,
                        group,
                        (node, member),
                        &"its load balancers wait for a functional node".into(),
                    );
                } else if deregister::is_over(pass, group, node) {
                    pass.show(id, member, deregister::left(group), since);
                    terminate::drained(pass, group, id, node);
                } else {
                    pass.show(id, member, Stage::Deregistering, since);
                }
            }
            Standing::Busy { culprit } => {
                pass.show(id, member, Stage::Draining, since);
                terminate::foresee(pass, group, id);
                deregister::is_excluded(pass, group, node, member);
                deadlines::drain(pass, group, (node, member), &culprit);
            }
        }
    }
}

/// Failed replacements that are given back: as far as the confirmed surge reaches, while their drain has time.
pub(super) fn returns_failed(pass: &Pass<'_>, group: &Group<'_>) -> BTreeSet<InstanceId> {
    if pass.policy.keep_failed || group.surge() == 0 || group.fault.is_some() {
        return BTreeSet::new();
    }
    let failed = pass.derived.select(&group.view.failed).filter(|(id, _)| watched_until(pass, group, id).is_none());
    let in_time = |m: &Member| {
        let awaited = |until: Timestamp| until > pass.now;
        node_of(pass, m).is_none_or(|node| {
            !has_run_out(pass, node, m) && (!m.pending || in_service_by(pass, m).is_none_or(awaited))
        })
    };
    failed.filter(|(_, m)| in_time(m)).map(|(id, _)| id.clone()).collect()
}

/// Failed replacements that are replaced where no surge could take them back: what they failed for was mended since,
/// so what is launched in their place is not the same again. As long as their drain has time, which begins when it is
/// mended.
pub(super) fn replaced_failed(pass: &Pass<'_>, group: &Group<'_>) -> BTreeSet<InstanceId> {
    let stays = pass.policy.keep_failed || group.surge() > 0 || group.fault.is_some() || !group.goes_on(pass);
    if stays || group.retargets {
        return BTreeSet::new();
    }
    let in_time = |m: &Member| {
        let since = node_of(pass, m).and_then(began).max(pass.snapshot.mending.ended);
        let waits = pass.policy.on_stuck == OnStuck::Wait || pass.policy.past_budgets;
        waits || pass.deadline(since, pass.policy.drain_timeout).is_none_or(|until| until > pass.now)
    };
    let failed = pass.derived.select(&group.view.failed);
    let excused = failed.filter(|(id, m)| pass.rotation.mended.excused.contains(*id) && m.counted && in_time(m));
    excused.map(|(id, _)| id.clone()).collect()
}

/// By when a failed replacement goes that stays for now, to be seen coming up; `None` of one that does not stay.
fn watched_until(pass: &Pass<'_>, group: &Group<'_>, id: &InstanceId) -> Option<Timestamp> {
    let until = pass.snapshot.mending.watched.get(id).copied();
    until.filter(|until| *until > pass.now && !group.winds_down(pass))
}

/// Drains failed replacements and gives them back; those that stay are named.
pub(super) fn failed<'a>(pass: &mut Pass<'a>, group: &mut Group<'a>) {
    let derived = pass.derived;
    let returns = returns_failed(pass, group);
    let replaced = replaced_failed(pass, group);
    for (id, member) in derived.select(&group.view.failed) {
        let subject = super::candidates::subject(id, member);
        let why = pass.rotation.failed.get(id).cloned().unwrap_or_else(|| "failed its gate".into());
        let node = node_of(pass, member);
        // One that registered after its time had run out is cordoned and marked like all others.
        let marked = |n: &Node| n.annotation(marks::STATE).and_then(NodeMark::parse) == Some(NodeMark::Failed);
        if let Some(late) = node.filter(|n| !marked(n)) {
            pass.show(id, member, Stage::Failed, None);
            let action = changes::fail(late, &pass.rotation.id, &why, pass.now);
            pass.act(action, ActionReason::ReplacementFailed { diagnosis: why.clone() });
            continue;
        }
        if let Some(until) = watched_until(pass, group, id) {
            let what = "its pods to be Ready, restarts and all".into();
            pass.wait_until(subject, WaitReason::Mending { what }, None, Some(until));
            continue;
        }
        if replaced.contains(id) {
            pass.working = true;
            if pass.in_flight(&ActionKey::Instance(id.clone())) || canary::is_mended(pass, group) {
                continue;
            }
            if node.is_none_or(|node| work(pass, node, member) == Standing::Drained) {
                terminate::mended(pass, group, (id, member), node, why);
            }
            continue;
        }
        if !returns.contains(id) {
            pass.show(id, member, Stage::Failed, None);
            pass.incomplete = true;
            pass.block(subject, BlockReason::FailedStays { why });
            continue;
        }
        let standing = node.map(|node| work(pass, node, member));
        let stage = match standing {
            None => Stage::Failed,
            Some(Standing::Drained) => Stage::Drained,
            Some(Standing::Busy { .. }) => Stage::Draining,
        };
        pass.show(id, member, stage, node.and_then(began));
        if matches!(stage, Stage::Failed | Stage::Drained) {
            if node.is_some() && member.pending {
                await_service(pass, id, member);
                continue;
            }
            let diagnosis = ActionReason::ReplacementFailed { diagnosis: why };
            terminate::shrink(pass, group, id, node, diagnosis);
        }
    }
}

/// Until when an instance that has a Node is waited for to be put into service by its group.
fn in_service_by(pass: &Pass<'_>, member: &Member) -> Option<Timestamp> {
    pass.deadline(member.born, pass.policy.join_timeout)
}

/// Its node is there before its group has put it into service, held by a lifecycle hook: until then it is not
/// terminated.
pub(super) fn await_service(pass: &mut Pass<'_>, id: &InstanceId, member: &Member) {
    let reason = WaitReason::AwsBusy { what: "an instance is being put into service".into() };
    let until = in_service_by(pass, member);
    pass.wait_until(super::candidates::subject(id, member), reason, member.born, until);
}

/// Plans what one drain does now.
pub(super) fn work(pass: &mut Pass<'_>, node: &Node, member: &Member) -> Standing {
    let nothing = Drain::default();
    let drain = member.drain.as_ref().unwrap_or(&nothing);
    if !node.unschedulable {
        pass.act(changes::cordon_again(node), ActionReason::NotCordoned);
        return Standing::Busy { culprit: "it is not cordoned".into() };
    }
    let held = drain.pods.iter().find(|pod| pod.hold.is_some());
    // Nothing is deleted past its budget for a node that will not be drained.
    let past = pass.policy.past_budgets && held.is_none() && deadline(pass, node).is_some_and(|d| d <= pass.now);
    let deadline = gives_up_at(pass, node, member);
    let wave = drain.pods.iter().any(|p| !p.critical);
    let mut first: Option<WaitReason> = None;
    let mut culprit: Option<Text> = None;
    for pod in drain.pods.iter().filter(|p| !(wave && p.critical)) {
        let Some((why, reason)) = evict(pass, node, pod, past) else { continue };
        let to_blame = culprit.is_none() || held.is_some_and(|held| held.uid == pod.uid);
        if to_blame {
            (culprit, first) = (Some(why), Some(reason));
        }
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
        return Standing::Busy {
            culprit: format!("{} still attached", units::count(drain.volumes.into(), "volume")).into(),
        };
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
        return match hold {
            BlockReason::NeverFrees { budget, .. } => blocked(budget.to_string().into()),
            BlockReason::SeveralBudgets { budgets, .. } => {
                blocked(budgets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ").into())
            }
            other => {
                let why: Text = other.to_string().into();
                Some((why.clone(), WaitReason::Held { pod: pod.key.clone(), why }))
            }
        };
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
            // No budget is to blame for what the server would have refused of any request.
            if refusing.is_none() && matches!(refusal.kind, ErrorKind::Throttled | ErrorKind::Unavailable) {
                let message: Text = refusal.message.as_str().into();
                let why = format!("the eviction of pod {} is put off by the API server: {message}", pod.key).into();
                return Some((why, WaitReason::ServerBusy { pod: pod.key.clone(), message }));
            }
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

/// When the drain began.
pub(super) fn began(node: &Node) -> Option<Timestamp> {
    node.annotation(marks::SINCE).and_then(|since| since.parse().ok())
}

/// Whether the time of a drain is over, and the policy waits no longer.
pub(super) fn has_run_out(pass: &Pass<'_>, node: &Node, member: &Member) -> bool {
    pass.policy.on_stuck != OnStuck::Wait && gives_up_at(pass, node, member).is_some_and(|d| d <= pass.now)
}

/// When a drain has had its time. Past budgets, pods are deleted once it has run out, and what they leave behind is
/// waited for once more; but no deletion takes off a pod that must not be evicted at all.
pub(super) fn gives_up_at(pass: &Pass<'_>, node: &Node, member: &Member) -> Option<Timestamp> {
    let runs_out = deadline(pass, node)?;
    let is_held = member.drain.iter().flat_map(|drain| &drain.pods).any(|pod| pod.hold.is_some());
    if !pass.policy.past_budgets || is_held {
        return Some(runs_out);
    }
    let again = pass.policy.drain_timeout.limit()?.max(DELETED_WITHIN);
    after(runs_out, again)
}

/// When the drain's own time runs out.
fn deadline(pass: &Pass<'_>, node: &Node) -> Option<Timestamp> {
    pass.deadline(began(node), pass.policy.drain_timeout)
}

pub(super) fn node_of<'a>(pass: &Pass<'a>, member: &Member) -> Option<&'a Node> {
    member.node.as_ref().and_then(|n| pass.snapshot.nodes.get(n))
}

/// The sentence for a drain that ran out.
pub(super) fn ran_out(pass: &Pass<'_>, culprit: &Text) -> Text {
    format!("not drained within {}: {culprit}", canary::limit(pass.policy.drain_timeout)).into()
}
