//! Evictions, each one POST under the pod's UID, and deletions past a budget.
//!
//! A refused eviction is not sent again here: the refusal goes into the snapshot, and the planner sends it
//! again when the budget opens or its back-off is over ([`crate::controller`] keeps that).

use super::{Effect, FENCED_DEADLINE, Fault, Tools, retry};
use crate::cloud::Cloud;
use crate::cluster::{Cluster, ErrorKind};
use crate::model::{ObjectKey, Uid};

/// Whether the answer says that the pod goes, or is gone, by itself.
fn is_leaving(fault: &Fault) -> bool {
    matches!(fault, Fault::Cluster(e)
        if matches!(e.kind, ErrorKind::NotFound | ErrorKind::Conflict | ErrorKind::NamespaceTerminating))
}

pub(super) async fn evict<C: Cloud, K: Cluster>(
    tools: &Tools<C, K>,
    pod: &ObjectKey,
    uid: &Uid,
    effects: &mut Vec<Effect>,
) -> Result<(), Fault> {
    settle(retry::within(FENCED_DEADLINE, tools.cluster.evict(pod, uid)).await, uid, effects)
}

pub(super) async fn delete<C: Cloud, K: Cluster>(
    tools: &Tools<C, K>,
    pod: &ObjectKey,
    uid: &Uid,
    grace_seconds: u32,
    effects: &mut Vec<Effect>,
) -> Result<(), Fault> {
    let call = || tools.cluster.delete_pod(pod, uid, grace_seconds);
    settle(retry::repeat(&tools.jitter, || tools.locked(), call).await, uid, effects)
}

fn settle(result: Result<(), Fault>, uid: &Uid, effects: &mut Vec<Effect>) -> Result<(), Fault> {
    match result {
        Ok(()) => effects.push(Effect::PodAccepted),
        Err(fault) if is_leaving(&fault) => effects.push(Effect::PodLeaving(uid.clone())),
        Err(fault) => return Err(fault),
    }
    Ok(())
}
