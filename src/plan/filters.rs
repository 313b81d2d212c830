//! Which pods a drain evicts, leaves, or refuses to touch: kubectl's filters in kubectl's order
//! (`k8s.io/kubectl` pkg/drain/filters.go), then the opt-outs other tools honour, then budgets.

use super::BlockReason;
use crate::model::{Budget, Pod};
use crate::observe::Snapshot;
use crate::policy::Policy;

/// What a drain does with a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing: a DaemonSet's, a mirror, or finished.
    Leave,
    /// It is on its way out already: wait until it is gone.
    Going,
    /// Evict it.
    Evict,
    /// It must not be evicted.
    Hold(BlockReason),
}

/// Whether a pod could hold its node by itself, whatever the policy. A budget may hold it all the same.
pub(crate) fn may_hold(pod: &Pod) -> bool {
    let flags = &pod.flags;
    let plain = pod.owner.is_some()
        && !(flags.empty_dir || flags.not_safe_to_evict || flags.do_not_disrupt || pod.tolerates_cordon);
    !plain && !pod.is_daemon()
}

/// What a drain does with `pod`.
pub(crate) fn judge(policy: &Policy, snapshot: &Snapshot, pod: &Pod) -> Verdict {
    if pod.is_daemon() || pod.flags.mirror || pod.is_finished() {
        return Verdict::Leave;
    }
    if pod.deleting.is_some() {
        return Verdict::Going;
    }
    match hold(policy, snapshot, pod) {
        Some(reason) => Verdict::Hold(reason),
        None => Verdict::Evict,
    }
}

fn hold(policy: &Policy, snapshot: &Snapshot, pod: &Pod) -> Option<BlockReason> {
    let name = || pod.key.clone();
    if pod.flags.empty_dir && !policy.delete_emptydir_data {
        return Some(BlockReason::EmptyDir { pod: name() });
    }
    if pod.owner.is_none() && !policy.force_unmanaged {
        return Some(BlockReason::Unmanaged { pod: name() });
    }
    if !policy.ignore_opt_outs {
        let opt_out = if pod.flags.not_safe_to_evict {
            Some("cluster-autoscaler.kubernetes.io/safe-to-evict")
        } else if pod.flags.do_not_disrupt {
            Some("karpenter.sh/do-not-disrupt")
        } else {
            None
        };
        if let Some(annotation) = opt_out {
            return Some(BlockReason::OptOut { pod: name(), annotation: annotation.into() });
        }
    }
    if pod.tolerates_cordon {
        return Some(BlockReason::ToleratesCordon { pod: name() });
    }
    if policy.past_budgets || bypasses_budgets(pod) {
        return None;
    }
    let mut over = snapshot.budgets_over(pod);
    let first = over.next()?;
    if let Some(second) = over.next() {
        let budgets = [first, second].into_iter().chain(over).map(|b| b.key.clone()).collect();
        return Some(BlockReason::SeveralBudgets { pod: name(), budgets });
    }
    (first.never_frees() && needs_token(pod.flags.ready, first))
        .then(|| BlockReason::NeverFrees { pod: name(), budget: first.key.clone() })
}

/// Whether an eviction of this pod asks no budget at all (pkg/registry/core/pod/storage/eviction.go
/// `canIgnorePDB`).
pub(crate) fn bypasses_budgets(pod: &Pod) -> bool {
    pod.is_finished() || pod.phase == crate::model::Phase::Pending || pod.deleting.is_some()
}

/// Whether evicting a pod takes one of what `budget` allows: an unready pod goes without, where the budget's
/// `unhealthyPodEvictionPolicy` says so, or where the budget has as many healthy pods as it wants.
pub(crate) fn needs_token(ready: bool, budget: &Budget) -> bool {
    ready || !(budget.unhealthy_always || (budget.desired > 0 && budget.healthy >= budget.desired))
}
