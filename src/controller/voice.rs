//! Events on their way out: folded into the report's summary first, so that no reporter can lose one.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::Ports;
use crate::cloud::Cloud;
use crate::cluster::Cluster;
use crate::event::{About, Event, EventKind, Report, Sink};
use crate::model::{InstanceId, NodeName, Text};
use crate::plan::{Plan, Preview, Verdict};
use crate::policy::Policy;
use crate::readiness::stages::Launch;
use crate::report::{Closing, Limits, Summary};

/// Bars are told where everything stands no more often than this.
const PROGRESS_EVERY: SignedDuration = SignedDuration::from_secs(1);

pub(super) struct Voice {
    sink: Sink,
    summary: Summary,
    told: Timestamp,
    stale: bool,
}

impl Voice {
    pub(super) fn new(sink: Sink, now: Timestamp) -> Self {
        Self { sink, summary: Summary::new(now), told: now, stale: false }
    }

    /// Sends an event; waits while the reporter is behind, and goes on without one that is gone.
    pub(super) async fn say(&mut self, time: Timestamp, kind: EventKind) {
        let event = Event { time, kind };
        self.summary.fold(&event);
        // The rotation does not end because nobody looks on.
        let _ = self.sink.send(event).await;
    }

    /// Tells of the skipped nodes of a report that no event has told of: those that were held from the start.
    pub(super) async fn tell_skipped(&mut self, time: Timestamp, report: &Report, about: impl Fn(&NodeName) -> About) {
        let held = report.nodes_skipped.iter().filter(|(node, _)| !self.summary.is_skipped(node));
        let held: Vec<_> = held.map(|(node, why)| (about(node), why.clone())).collect();
        for (about, why) in held {
            self.say(time, EventKind::NodeSkipped { about, why }).await;
        }
    }

    /// There is something new to see for the bars.
    pub(super) fn stir(&mut self) {
        self.stale = true;
    }

    /// Shows the bars where everything stands, if that is new to them and not too soon.
    pub(super) fn show(&mut self, plan: &Plan, now: Timestamp) {
        if !self.stale || now.duration_since(self.told) < PROGRESS_EVERY {
            return;
        }
        self.stale = false;
        self.told = now;
        let (groups, in_hand, waits) = (plan.progress.clone(), plan.in_hand.clone(), plan.waits.clone());
        self.hint(now, EventKind::Progress { groups, in_hand, waits });
    }

    /// Time passed.
    pub(super) fn tick(&mut self, now: Timestamp) {
        self.hint(now, EventKind::Tick);
    }

    /// What only bars read is dropped when they are behind.
    fn hint(&mut self, time: Timestamp, kind: EventKind) {
        let event = Event { time, kind };
        self.summary.fold(&event);
        let _ = self.sink.try_send(event);
    }

    /// The new nodes whose starts are known.
    pub(super) fn started(&self) -> impl Iterator<Item = &InstanceId> {
        self.summary.started()
    }

    /// Takes in what AWS tells of their launches.
    pub(super) fn launched(&mut self, launches: &BTreeMap<InstanceId, Launch>) {
        self.summary.launched(launches);
    }

    /// The report so far.
    pub(super) fn report<C: Cloud, K: Cluster>(
        &self,
        outcome: Verdict,
        finished: Timestamp,
        preview: &Preview,
        policy: &Policy,
        ports: &Ports<C, K>,
        left_behind: Vec<Text>,
    ) -> Report {
        let limits = preview.groups.iter().map(|(name, group)| {
            let of = &group.limits;
            let (surge, unavailable, drains) = (of.surge, of.unavailable, of.drains);
            (name.clone(), Limits { surge, unavailable, drains, canary: policy.canary })
        });
        self.summary.report(Closing {
            outcome,
            finished,
            limits: limits.collect(),
            max_drains: policy.max_drains,
            aws_calls: ports.cloud.calls(),
            kube_requests: ports.cluster.requests(),
            left_behind,
        })
    }
}
