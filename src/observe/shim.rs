//! Readiness as far as the derived state needs it.

use jiff::Timestamp;

use crate::model::{ConditionStatus, Node};
use crate::observe::Snapshot;
use crate::plan::WaitReason;
use crate::policy::Policy;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    pub reason: WaitReason,
    pub sentence: crate::model::Text,
}
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    pub unmet: Vec<Unmet>,
    pub since: Option<Timestamp>,
}
pub fn serves(node: &Node) -> bool {
    node.ready() == ConditionStatus::True && !node.unschedulable && !node.deleting
}
pub fn judge(_: &Policy, snapshot: &Snapshot, node: &Node) -> Judgement {
    let mut judgement = Judgement::default();
    if !serves(node) {
        let why: crate::model::Text = "not Ready".into();
        judgement.unmet.push(Unmet { reason: WaitReason::NodeReady { why: why.clone() }, sentence: why });
    }
    for pod in snapshot.pods_on(&node.name).filter(|p| p.is_daemon()) {
        if pod.containers.iter().any(|c| c.restarts > 0) || !pod.flags.ready {
            let why: crate::model::Text = format!("{} restarted or not ready", pod.key.name).into();
            let reason = WaitReason::DaemonSet { daemonset: pod.key.clone(), why: why.clone() };
            judgement.unmet.push(Unmet { reason, sentence: why });
        }
    }
    if judgement.unmet.is_empty() {
        judgement.since = node.conditions.get("Ready").and_then(|c| c.since);
    }
    judgement
}
