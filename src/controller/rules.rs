//! Stand-ins while the rules themselves are being written.
#![allow(missing_docs)]
use super::Ports;
use crate::cloud::Cloud;
use crate::cluster::Cluster;
use crate::model::{GroupName, Text};
use crate::observe::Snapshot;
use crate::plan::{Block, Plan, Progress, Verdict};
use crate::policy::Policy;
pub use crate::plan::plan;
pub use crate::preflight::{Preflight, check as preflight};
use crate::report::summary::Closing;
pub(super) use crate::report::summary::Summary;
use jiff::Timestamp;
use std::collections::BTreeMap;

pub struct Preview {
    pub progress: BTreeMap<GroupName, Progress>,
    pub blocks: Vec<Block>,
    pub expected_s: f64,
    pub lower_bound_s: f64,
    pub bottleneck: Text,
}
impl Preview {
    pub fn has_work(&self) -> bool {
        self.progress.values().any(|p| p.outdated > 0)
    }
}
#[derive(Debug)]
pub struct Violation {
    pub rule: &'static str,
    pub subject: String,
    pub detail: String,
}
pub fn preview(policy: &Policy, snapshot: &Snapshot, now: Timestamp) -> Preview {
    let plan = crate::plan::plan(policy, snapshot, now);
    Preview {
        progress: plan.progress,
        blocks: plan.blocks,
        expected_s: 0.0,
        lower_bound_s: 0.0,
        bottleneck: "".into(),
    }
}
pub fn check(_: &Policy, _: &Snapshot, _: &Plan, _: Timestamp) -> Result<(), Violation> {
    Ok(())
}
pub fn closing<C: Cloud, K: Cluster>(
    outcome: Verdict,
    finished: Timestamp,
    _: &Preview,
    policy: &Policy,
    ports: &Ports<C, K>,
    left_behind: Vec<Text>,
) -> Closing {
    Closing {
        outcome,
        finished,
        limits: BTreeMap::new(),
        max_drains: policy.max_drains,
        aws_calls: ports.cloud.calls(),
        kube_requests: ports.cluster.requests(),
        left_behind,
    }
}
pub fn left_behind(_: &Block) -> Option<Text> {
    None
}
