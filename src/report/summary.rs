//! The final report of a rotation: a fold over its events, and the same in words.
//!
//! The bound is computed from the run's own means, so it answers "how fast could *this* run have been"; the
//! difference is charged to what was waited for while less was draining than could have been.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::bound::{self, GroupLoad, Measured};
use crate::event::{About, Chosen, Event, EventKind, Percentiles, Report, TimeLost};
use crate::model::{GroupName, InstanceId, NodeName, Text};
use crate::plan::{Block, BlockReason, Progress, Subject, Verdict, Wait, WaitReason};

/// From the request for a new instance to the instance running.
pub const LAUNCH: &str = "launch";
/// From the instance running to its Node's registration.
pub const JOIN: &str = "join";
/// From the Node's registration to Ready.
pub const READY: &str = "ready";
/// From Ready to functional, soak included.
pub const FUNCTIONAL: &str = "functional";
/// From the first eviction to nothing evictable left.
pub const DRAIN: &str = "drain";
/// From the terminate call to the instance gone.
pub const TERMINATE: &str = "terminate";

/// The stages of a new node, in their order.
const ARRIVAL: [&str; 4] = [LAUNCH, JOIN, READY, FUNCTIONAL];

/// The resolved numbers of one group, which the bound needs beside the run's own times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Instances above the group's own desired.
    pub surge: u32,
    /// Functional nodes below it.
    pub unavailable: u32,
    /// Old nodes draining at once.
    pub drains: u32,
    /// Canary nodes; 0 is none.
    pub canary: u32,
}

/// What only the controller knows at the end.
#[derive(Clone, Debug)]
pub struct Closing {
    /// How it ended.
    pub outcome: Verdict,
    /// When the last thing was put back.
    pub finished: Timestamp,
    /// The numbers each group was rotated with.
    pub limits: BTreeMap<GroupName, Limits>,
    /// Old nodes draining at once over the cluster.
    pub max_drains: Option<u32>,
    /// AWS requests by operation.
    pub aws_calls: BTreeMap<Text, u64>,
    /// Kubernetes requests by `verb resource`.
    pub kube_requests: BTreeMap<Text, u64>,
    /// What could not be put back, and how to.
    pub left_behind: Vec<Text>,
}

#[derive(Debug, Default)]
struct Arrival {
    began: Option<Timestamp>,
    last: Option<Timestamp>,
    /// It is functional: whatever is told of it later is no stage any more.
    over: bool,
}

/// Sums and counts of one group's stages.
#[derive(Debug, Default)]
struct Means {
    rotated: u32,
    arrive: Mean,
    drain: Mean,
    terminate: Mean,
}

#[derive(Debug, Default)]
struct Mean {
    sum: f64,
    count: u32,
    least: Option<f64>,
}

impl Mean {
    fn add(&mut self, seconds: f64) {
        self.sum += seconds;
        self.count += 1;
        self.least = Some(self.least.map_or(seconds, |least| least.min(seconds)));
    }

    fn get(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }
}

/// How large a group was: others may scale it meanwhile, and a percentage is then of more.
#[derive(Clone, Copy, Debug, Default)]
struct Sizes {
    first: u32,
    largest: u32,
    /// The largest surge.
    surge: u32,
}

impl Sizes {
    /// A limit that was resolved at first, if it was a percentage, as it may have become.
    fn grown(&self, limit: u32) -> u32 {
        if self.largest <= self.first {
            return limit;
        }
        let grown = u64::from(limit) * u64::from(self.largest);
        u32::try_from(grown.div_ceil(u64::from(self.first.max(1)))).unwrap_or(u32::MAX)
    }
}

/// The fold. Feed it every event in order; ask for the report at the end.
#[derive(Debug)]
pub struct Summary {
    started: Timestamp,
    last: Timestamp,
    arrivals: BTreeMap<InstanceId, Arrival>,
    drained: BTreeSet<InstanceId>,
    /// Replacements that were chosen to go again.
    returned: BTreeSet<InstanceId>,
    failed: BTreeMap<Text, Text>,
    /// The plan's lower bound and what decides it.
    planned: (f64, Text),
    skipped: BTreeMap<NodeName, Text>,
    /// Outdated nodes that the plan held back and that were never taken on.
    held: BTreeMap<NodeName, Text>,
    groups: BTreeMap<GroupName, Means>,
    sizes: BTreeMap<GroupName, Sizes>,
    stages: BTreeMap<&'static str, Vec<f64>>,
    /// The DaemonSet each arriving node waited for last.
    culprits: BTreeMap<NodeName, Text>,
    slowest: BTreeMap<Text, u32>,
    evictions: u64,
    again: u64,
    /// Whom the time from `last` on is charged to.
    charge: Option<Text>,
    lost: BTreeMap<Text, f64>,
    /// The same where no node is rotated, so that no bound explains any of it.
    spending: Option<Text>,
    spent: BTreeMap<Text, f64>,
}

impl Summary {
    /// A summary of a rotation that is looked at from `started` on; it begins with its own event.
    pub fn new(started: Timestamp) -> Self {
        Self {
            started,
            last: started,
            arrivals: BTreeMap::new(),
            drained: BTreeSet::new(),
            returned: BTreeSet::new(),
            failed: BTreeMap::new(),
            planned: (0.0, "".into()),
            skipped: BTreeMap::new(),
            held: BTreeMap::new(),
            groups: BTreeMap::new(),
            sizes: BTreeMap::new(),
            stages: BTreeMap::new(),
            culprits: BTreeMap::new(),
            slowest: BTreeMap::new(),
            evictions: 0,
            again: 0,
            charge: None,
            lost: BTreeMap::new(),
            spending: None,
            spent: BTreeMap::new(),
        }
    }

    /// Takes in one event.
    pub fn fold(&mut self, event: &Event) {
        self.pass_time(event.time);
        match &event.kind {
            EventKind::RotationPlanned { blocks, lower_bound_s, bottleneck, .. } => {
                self.held = held(blocks);
                self.planned = (*lower_bound_s, bottleneck.clone());
            }
            // What a person took to say yes is no part of it.
            EventKind::RotationStarted { .. } => self.started = event.time,
            EventKind::NodeSelected { about, reason, .. } => {
                if *reason != Chosen::Outdated {
                    self.returned.extend(about.instance.clone());
                }
                if let Some(node) = &about.node {
                    self.held.remove(node);
                }
            }
            EventKind::ReplacementLaunching { about } => self.arrival(about, event.time, None),
            EventKind::ReplacementRunning { about } => self.arrival(about, event.time, Some(LAUNCH)),
            EventKind::ReplacementJoined { about } => self.arrival(about, event.time, Some(JOIN)),
            EventKind::ReplacementReady { about, .. } => self.arrival(about, event.time, Some(READY)),
            EventKind::ReplacementFunctional { about, .. } => self.functional(about, event.time),
            // What is given back has no part in how long the drain of an old node takes.
            EventKind::NodeDrained { about, .. } if self.is_returned(about) => {}
            EventKind::NodeDrained { about, seconds } => {
                self.drained.extend(about.instance.clone());
                self.sample(DRAIN, *seconds);
                if let Some(means) = self.group(about) {
                    means.drain.add(*seconds);
                }
            }
            EventKind::ReplacementFailed { about, diagnosis } => {
                let node = about.node.as_ref().map(|n| Text::from(n.as_str()));
                let name = node.or_else(|| about.instance.as_ref().map(|i| i.0.clone()));
                self.failed.extend(name.map(|name| (name, diagnosis.clone())));
            }
            EventKind::NodeGone { about, seconds } => self.gone(about, *seconds),
            EventKind::NodeSkipped { about, why } => {
                if let Some(node) = &about.node {
                    self.skipped.insert(node.clone(), why.clone());
                }
            }
            EventKind::PodEvicted { moved_before, .. } => {
                self.evictions += 1;
                self.again += u64::from(*moved_before);
            }
            EventKind::Wait(wait) => self.waiting(wait),
            EventKind::Progress { groups, waits, .. } => {
                for (name, progress) in groups {
                    let own = progress.own_desired;
                    let first = Sizes { first: own, ..Sizes::default() };
                    let sizes = self.sizes.entry(name.clone()).or_insert(first);
                    sizes.largest = sizes.largest.max(own);
                    sizes.surge = sizes.surge.max(progress.surge);
                }
                self.charge = charge(groups, waits);
                self.spending = spending(waits);
            }
            _ => {}
        }
    }

    fn pass_time(&mut self, now: Timestamp) {
        let seconds = seconds_between(self.last, now);
        for (what, sums) in [(&self.charge, &mut self.lost), (&self.spending, &mut self.spent)] {
            let Some(what) = what.as_ref().filter(|_| seconds > 0.0) else { continue };
            match sums.get_mut(what) {
                Some(sum) => *sum += seconds,
                None => drop(sums.insert(what.clone(), seconds)),
            }
        }
        self.last = self.last.max(now);
    }

    fn is_returned(&self, about: &About) -> bool {
        about.instance.as_ref().is_some_and(|i| self.returned.contains(i))
    }

    fn group(&mut self, about: &About) -> Option<&mut Means> {
        about.group.as_ref().map(|g| self.groups.entry(g.clone()).or_default())
    }

    fn sample(&mut self, stage: &'static str, seconds: f64) {
        self.stages.entry(stage).or_default().push(seconds);
    }

    /// A replacement went one stage further; `passed` is the stage it has behind it.
    fn arrival(&mut self, about: &About, now: Timestamp, passed: Option<&'static str>) {
        let Some(instance) = &about.instance else { return };
        let arrival = self.arrivals.entry(instance.clone()).or_default();
        if arrival.over {
            return;
        }
        arrival.over = passed == Some(FUNCTIONAL);
        // A stage is measured only if its beginning was seen: a resumed run meets nodes in the middle.
        let before = arrival.last.replace(now);
        if passed.is_none() {
            arrival.began = Some(now);
        }
        if let (Some(stage), Some(before)) = (passed, before) {
            self.sample(stage, seconds_between(before, now));
        }
    }

    fn functional(&mut self, about: &About, now: Timestamp) {
        if about.instance.as_ref().and_then(|i| self.arrivals.get(i)).is_some_and(|a| a.over) {
            return;
        }
        self.arrival(about, now, Some(FUNCTIONAL));
        let began = about.instance.as_ref().and_then(|i| self.arrivals.get(i)).and_then(|a| a.began);
        if let Some(name) = about.node.as_ref().and_then(|n| self.culprits.remove(n)) {
            *self.slowest.entry(name).or_default() += 1;
        }
        if let (Some(began), Some(means)) = (began, self.group(about)) {
            means.arrive.add(seconds_between(began, now));
        }
    }

    fn gone(&mut self, about: &About, seconds: f64) {
        self.sample(TERMINATE, seconds);
        let Some(instance) = &about.instance else { return };
        let old = self.drained.remove(instance) && !self.arrivals.contains_key(instance) && !self.is_returned(about);
        if let Some(means) = self.group(about) {
            means.terminate.add(seconds);
            means.rotated += u32::from(old);
        }
    }

    fn waiting(&mut self, wait: &Wait) {
        if let (Subject::Node(node), WaitReason::DaemonSet { daemonset, .. }) = (&wait.subject, &wait.reason) {
            self.culprits.insert(node.clone(), daemonset.to_string().into());
        }
    }

    /// The report: what was folded, and `closing`.
    pub fn report(&self, closing: Closing) -> Report {
        let bound = bound::measured(&self.loads(&closing), closing.max_drains);
        let duration_s = seconds_between(self.started, closing.finished);
        let rotated: u32 = self.groups.values().map(|g| g.rotated).sum();
        let (lower_bound_s, bottleneck) = match rotated {
            0 => self.planned.clone(),
            _ => (bound.seconds, bound.bottleneck.to_string().into()),
        };
        let time_lost = match rotated {
            0 => explained(&self.spent, duration_s),
            _ => explained(&self.lost, duration_s - bound.seconds),
        };
        Report {
            outcome: closing.outcome,
            nodes_rotated: rotated,
            replacements_failed: self.failed.clone(),
            nodes_skipped: self.held.iter().chain(&self.skipped).map(|(n, why)| (n.clone(), why.clone())).collect(),
            duration_s,
            lower_bound_s,
            bottleneck,
            evictions: self.evictions,
            pods_moved: self.evictions - self.again,
            pods_moved_twice: self.again,
            aws_calls: closing.aws_calls,
            kube_requests: closing.kube_requests,
            stages: self.stages.iter().map(|(name, samples)| (Text::from(*name), percentiles(samples))).collect(),
            critical_path: self.critical_path(),
            fixes: Vec::new(),
            time_lost,
            left_behind: closing.left_behind,
        }
    }

    fn loads(&self, closing: &Closing) -> Vec<Measured> {
        let load = |(name, limits): (&GroupName, &Limits)| {
            let means = self.groups.get(name).filter(|m| m.rotated > 0)?;
            let sizes = self.sizes.get(name).copied().unwrap_or_default();
            let load = GroupLoad {
                group: name.clone(),
                canary: limits.canary,
                chain: None,
                nodes: means.rotated,
                surge: sizes.grown(limits.surge).max(sizes.surge),
                unavailable: sizes.grown(limits.unavailable),
                drains: sizes.grown(limits.drains),
                b: means.arrive.get().unwrap_or_default(),
                d: means.drain.get().unwrap_or_default(),
                x: means.terminate.get().unwrap_or_default(),
            };
            let least = |mean: &Mean| mean.least.unwrap_or_default();
            Some(Measured {
                load,
                launches: means.arrive.count,
                least_b: least(&means.arrive),
                least_d: least(&means.drain),
                least_x: least(&means.terminate),
            })
        };
        closing.limits.iter().filter_map(load).collect()
    }

    /// The stages a new node went through, the last with the DaemonSet that was most often the last one.
    fn critical_path(&self) -> Vec<Text> {
        let slowest = self.slowest.iter().max_by_key(|(_, n)| **n).map(|(name, _)| name);
        let seen = ARRIVAL.into_iter().filter(|stage| self.stages.contains_key(stage));
        let name = |stage| match slowest {
            Some(daemonset) if stage == FUNCTIONAL => format!("{stage}: {daemonset}").into(),
            _ => Text::from(stage),
        };
        seen.map(name).collect()
    }
}

/// Largest first, cut so that no more is explained than was lost; what is left has no name.
fn explained(charges: &BTreeMap<Text, f64>, lost: f64) -> Vec<TimeLost> {
    let mut left = lost.max(0.0);
    let mut charges: Vec<_> = charges.iter().filter(|(_, s)| **s >= 1.0).collect();
    charges.sort_by(|a, b| b.1.total_cmp(a.1));
    let mut explained = Vec::new();
    for (what, seconds) in charges {
        let seconds = seconds.min(left);
        left -= seconds;
        if seconds >= 1.0 {
            explained.push(TimeLost { what: what.clone(), seconds });
        }
    }
    if left >= 1.0 {
        explained.push(TimeLost { what: "differences between nodes, and not told apart".into(), seconds: left });
    }
    explained
}

/// What a run that rotates no node spends its time on: the furthest of what is waited for.
fn spending(waits: &[Wait]) -> Option<Text> {
    let named = waits.iter().filter_map(|w| {
        Some(match &w.reason {
            WaitReason::DaemonSet { daemonset, .. } => (0, format!("DaemonSet {daemonset} on a new node")),
            WaitReason::StartupTaint { taint } => (1, format!("startup taint {taint} of a new node")),
            WaitReason::Budget { budget, .. } => (2, format!("disruption budget {budget}")),
            WaitReason::Paused => (3, "paused".to_owned()),
            WaitReason::NodeReady { .. } | WaitReason::NodeLacks { .. } => (4, "a new node to be Ready".to_owned()),
            WaitReason::Join => (5, "a new node to register".to_owned()),
            WaitReason::Soak { .. } => (6, "a new node to stay functional".to_owned()),
            WaitReason::Launch { failure: Some(why), .. } => (7, format!("launches that failed: {why}")),
            WaitReason::Launch { .. } => (8, "an instance to be launched".to_owned()),
            WaitReason::PodTermination { .. } | WaitReason::VolumeDetach { .. } => (9, "pods to end".to_owned()),
            WaitReason::Termination => (10, "an instance to be gone".to_owned()),
            _ => return None,
        })
    });
    named.min().map(|(_, what)| what.into())
}

/// The nodes that blocks hold, those of others aside.
pub(crate) fn held(blocks: &[Block]) -> BTreeMap<NodeName, Text> {
    let node = |block: &Block| match (&block.subject, &block.reason) {
        (_, BlockReason::NotOurs { .. }) => None,
        (Subject::Node(node), reason) => Some((node.clone(), reason.to_string().into())),
        _ => None,
    };
    blocks.iter().filter_map(node).collect()
}

/// Whom time passing now is charged to: nobody while something drains unhindered, or where the bound itself
/// waits (for the canary).
fn charge(groups: &BTreeMap<GroupName, Progress>, waits: &[Wait]) -> Option<Text> {
    let draining = groups.values().any(|g| g.draining > 0);
    let left = groups.values().any(|g| g.outdated > g.draining + g.leaving);
    let budget = || {
        waits.iter().find_map(|w| match &w.reason {
            WaitReason::Budget { budget, .. } => Some(format!("disruption budget {budget}").into()),
            WaitReason::Deregistration { of, .. } => Some(format!("{of} letting go of drained nodes").into()),
            _ => None,
        })
    };
    match (draining, left) {
        (true, _) => budget(),
        (false, false) => None,
        (false, true) => waits.iter().find_map(|w| match &w.reason {
            WaitReason::Paused => Some("paused".into()),
            WaitReason::AwsBusy { .. } => Some("AWS was busy with something else".into()),
            WaitReason::Launch { failure: Some(_), .. } => Some("launches that failed".into()),
            WaitReason::Capacity { .. } => Some("no functional replacement yet".into()),
            WaitReason::ZoneBalance { zone } => Some(format!("balance over the zones, {zone}").into()),
            _ => None,
        }),
    }
}

/// Seconds from `a` to `b`; 0 if `b` is earlier.
fn seconds_between(a: Timestamp, b: Timestamp) -> f64 {
    b.duration_since(a).as_secs_f64().max(0.0)
}

/// Percentiles by nearest rank.
fn percentiles(samples: &[f64]) -> Percentiles {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = |p: usize| {
        let index = (sorted.len() * p).div_ceil(100).saturating_sub(1);
        sorted.get(index).copied().unwrap_or_default()
    };
    Percentiles { p50: rank(50), p90: rank(90), p99: rank(99), max: rank(100) }
}
