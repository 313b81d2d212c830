//! How a run ends: the summary, or everything left so that the next run goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, timeout, timeout_at};

use super::engine::Engine;
use super::voice::Voice;
use super::{Settings, history};
use crate::cloud::Cloud;
use crate::cluster::{Cluster, NodeChange};
use crate::event::{About, EventKind, Report};
use crate::execute::Fault;
use crate::lock::Lock;
use crate::model::marks::{CORDONED_BEFORE, EXCLUDE_FROM_LB, EXCLUDED_SINCE, REASON, ROTATION, SINCE, STATE};
use crate::model::{Node, NodeMark, NodeName, Text};
use crate::observe::{InFlight, Role, Snapshot};
use crate::plan::{Action, ActionReason, Block, BlockReason, NodePurpose, Planned, Preview, Subject, Verdict};
use crate::readiness::stages::{self, Launch};
use crate::report::summary::held;

/// On a signal: acts in flight are awaited so long at most, and uncordoning takes so long at most. Together with
/// the Lease's release they stay within the 10 s that a signal promises.
const WIND_DOWN: Duration = Duration::from_secs(3);

impl<C: Cloud + 'static, K: Cluster + 'static> Engine<'_, C, K> {
    /// Awaits what is in flight, for a short time.
    pub(super) async fn let_acts_end(&mut self) {
        let end = Instant::now() + WIND_DOWN;
        // Those whose pause after a failure is not over are in no flight.
        for (_, key) in self.pauses.pending() {
            self.snapshot.in_flight.remove(&key);
        }
        while !self.snapshot.in_flight.is_empty() {
            let Ok(Some(outcome)) = timeout_at(end, self.outcomes.recv()).await else { return };
            let now = self.ports.clock.now();
            let mut events = Vec::new();
            let key = outcome.key.clone();
            // Whatever ends the run has been decided already.
            let _ = self.came_back(outcome, now, &mut events);
            self.snapshot.in_flight.remove(&key);
            for event in events {
                self.voice.say(now, event).await;
            }
        }
    }

    /// After a signal: nothing new but to undo our cordons of nodes that are not fully drained.
    pub(super) async fn wind_down(&mut self) {
        self.let_acts_end().await;
        let actions: Vec<Planned> = self.snapshot.nodes.values().filter_map(uncordon).collect();
        let now = self.ports.clock.now();
        for planned in actions {
            let (key, what) = (planned.action.key(), planned.action.to_string());
            self.snapshot.in_flight.insert(key, InFlight { since: now });
            self.voice.say(now, EventKind::Action { what, reason: planned.reason }).await;
            self.executor.begin(planned.action);
        }
        self.let_acts_end().await;
    }

    /// The report as it stands now.
    pub(super) fn report(&self, verdict: Verdict, preview: &Preview) -> Report {
        let now = self.ports.clock.now();
        let left: Vec<Text> = self.plan.blocks.iter().filter_map(left_behind).collect();
        let mut report = self.voice.report(verdict, now, preview, self.policy, self.ports, left);
        // What came to be held only on the way is named as well.
        for (node, why) in held(&self.plan.blocks).into_iter().chain(with_group(&self.snapshot, &self.plan.blocks)) {
            report.nodes_skipped.entry(node).or_insert(why);
        }
        report
    }

    /// When the new nodes were launched, in one call. It is for the report alone: what EC2 does not tell within a few
    /// seconds stays unknown. When a group asked for them, a second before, is not worth a call for each group.
    async fn ask_launches(&mut self) {
        let ids: Vec<_> = self.voice.started().cloned().collect();
        if ids.is_empty() {
            return;
        }
        let mut launches: BTreeMap<_, Launch> = BTreeMap::new();
        match timeout(WIND_DOWN, self.ports.cloud.instances(&ids)).await {
            Ok(Ok(details)) => {
                for detail in details {
                    launches.entry(detail.id).or_default().provisioned = detail.launched_at;
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "the report lacks times of launches"),
            Err(_) => {}
        }
        for (id, at) in stages::requests(&self.snapshot) {
            launches.entry(id.clone()).or_default().requested = Some(at);
        }
        self.voice.launched(&launches);
    }

    pub(super) async fn finish(&mut self, verdict: Verdict, preview: &Preview, settings: &Settings) -> Report {
        self.ask_launches().await;
        let now = self.ports.clock.now();
        let mut report = self.report(verdict, preview);
        let closed = async {
            history::close(&self.record, &report, now).await?;
            Ok::<_, Fault>(history::trim(&self.ports.cluster, &settings.namespace, &settings.cluster).await?)
        };
        let failed = match timeout(WIND_DOWN, closed).await {
            Ok(Ok(())) => None,
            Ok(Err(fault)) => Some(fault),
            Err(_) => Some(Fault::Deadline),
        };
        if let Some(fault) = failed {
            let message = format!("failed to write the summary: {fault}");
            self.voice.say(now, EventKind::Error { message, fatal: false }).await;
        }
        report.kube_requests = self.ports.cluster.requests();
        report
    }
}

/// Gives the lock back.
pub(super) async fn release<K: Cluster + 'static>(lock: Lock<K>, resumed: bool, voice: &mut Voice, now: Timestamp) {
    if let Err(e) = lock.release(resumed).await {
        voice.say(now, EventKind::Error { message: e.to_string(), fatal: false }).await;
    }
}

/// Undoes our cordon of a node that is not fully drained.
fn uncordon(node: &Node) -> Option<Planned> {
    (NodeMark::parse(node.annotation(STATE)?)? == NodeMark::Draining).then(|| {
        let marks = [STATE, REASON, SINCE, CORDONED_BEFORE, EXCLUDED_SINCE];
        // Without our date the label is somebody else's.
        let excluded = node.annotation(EXCLUDED_SINCE).map(|_| EXCLUDE_FROM_LB);
        let change = NodeChange {
            // Somebody else's cordon from before stays.
            unschedulable: node.annotation(CORDONED_BEFORE).is_none().then_some(false),
            labels: [Some(ROTATION), excluded].into_iter().flatten().map(|k| (k.into(), None)).collect(),
            annotations: marks.into_iter().map(|k| (k.into(), None)).collect(),
            add_taint: None,
            remove_taint: None,
        };
        let (name, uid) = (node.name.clone(), node.uid.clone());
        let action = Action::ChangeNode { node: name, uid, purpose: NodePurpose::Uncordon, change };
        Planned { action, reason: ActionReason::Interrupted }
    })
}

/// A node and where it belongs.
pub(super) fn about(snapshot: &Snapshot, name: &NodeName) -> About {
    let instance = snapshot.nodes.get(name).and_then(|n| snapshot.instances.get(n.instance.as_ref()?));
    About {
        group: instance.map(|i| i.group.clone()),
        zone: instance.map(|i| i.zone.clone()),
        instance: instance.map(|i| i.id.clone()),
        node: Some(name.clone()),
    }
}

/// Outdated nodes that stay because their whole group is held, with the reason. What belongs to somebody else is
/// rotated by its owner.
pub(super) fn with_group(snapshot: &Snapshot, blocks: &[Block]) -> Vec<(NodeName, Text)> {
    let owned = |why: &BlockReason| matches!(why, BlockReason::ManagedNodeGroup { .. } | BlockReason::Operator { .. });
    let groups = blocks.iter().filter_map(|block| match &block.subject {
        Subject::Group(name) if !owned(&block.reason) => Some((name, &block.reason)),
        _ => None,
    });
    let mut nodes = Vec::new();
    for (group, why) in groups {
        let members = snapshot.instances_of(group).filter_map(|i| snapshot.derived().member(&i.id));
        let stays =
            members.filter(|m| matches!(m.role, Role::Candidate | Role::Held(_))).filter_map(|m| m.node.clone());
        nodes.extend(stays.map(|node| (node, format!("its group is held: {why}").into())));
    }
    nodes
}

/// What is held at the end because it could not be put back.
fn left_behind(block: &Block) -> Option<Text> {
    let left = matches!(
        block.reason,
        BlockReason::Unbalanced { .. } | BlockReason::Ledger { .. } | BlockReason::FailedStays { .. }
    );
    left.then(|| format!("{}: {}", block.subject, block.reason).into())
}
