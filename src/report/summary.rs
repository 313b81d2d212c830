//! The final report of a rotation: a fold over its events, and the same in words.
//!
//! The bound is computed from the run's own means, so it answers "how fast could *this* run have been"; the
//! difference is charged to what was waited for while less was draining than could have been.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::repairs::Repairs;
use super::words;
use crate::bound::{self, Bottleneck, GroupLoad, Limit, Measured};
use crate::event::{About, Chosen, Event, EventKind, Percentiles, Report, TimeLost};
use crate::model::{GroupName, InstanceId, NodeName, Text};
use crate::plan::{Block, BlockReason, Progress, Subject, Verdict, Wait, WaitReason};
use crate::readiness::stages::{Figures, Launch, NodeStart, Stage};
use crate::units;

/// From the first eviction to nothing evictable left.
pub const DRAIN: &str = "drain";
/// From the terminate call to the instance gone.
pub const TERMINATE: &str = "terminate";

/// The stages that the world shows of a start by itself.
const START: [Stage; 3] = [Stage::Ready, Stage::Functional, Stage::Start];

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
    group: Option<GroupName>,
    /// When it was first seen to be launching; a while after it was requested.
    began: Option<Timestamp>,
    /// Its Node was seen to register, so that the time from there to Ready is the start's.
    joined: bool,
    /// From the Node's creation to Ready, seconds.
    ready: Option<f64>,
    /// When it counted as functional, soak included: whatever is told of it later is no stage any more.
    functional: Option<Timestamp>,
}

/// Sums and counts of one group's stages.
#[derive(Debug, Default)]
struct Means {
    rotated: u32,
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
    /// Somebody scaled it,
    scaled: bool,
    /// or even in: its instances went by another way than ours.
    shrunk: bool,
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
    /// It goes on with what an earlier run began.
    resumed: bool,
    last: Timestamp,
    arrivals: BTreeMap<InstanceId, Arrival>,
    /// Outdated nodes that were drained to the end.
    drained: BTreeSet<InstanceId>,
    failed: BTreeMap<Text, Text>,
    /// What passed the gate though it is worth a look, by how many new nodes.
    remarks: BTreeMap<Text, u32>,
    /// The plan's lower bound and what decides it.
    planned: (f64, Text),
    skipped: BTreeMap<NodeName, Text>,
    /// Outdated nodes that the plan held back and that were never taken on.
    held: BTreeMap<NodeName, Text>,
    groups: BTreeMap<GroupName, Means>,
    sizes: BTreeMap<GroupName, Sizes>,
    stages: BTreeMap<&'static str, Vec<f64>>,
    /// How replacements started, their DaemonSets' own parts left out.
    starts: Vec<NodeStart>,
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
    repairs: Repairs,
}

impl Summary {
    /// A summary of a rotation that is looked at from `started` on; it begins with its own event.
    pub fn new(started: Timestamp) -> Self {
        Self {
            started,
            resumed: false,
            last: started,
            arrivals: BTreeMap::new(),
            drained: BTreeSet::new(),
            failed: BTreeMap::new(),
            remarks: BTreeMap::new(),
            planned: (0.0, "".into()),
            skipped: BTreeMap::new(),
            held: BTreeMap::new(),
            groups: BTreeMap::new(),
            sizes: BTreeMap::new(),
            stages: BTreeMap::new(),
            starts: Vec::new(),
            culprits: BTreeMap::new(),
            slowest: BTreeMap::new(),
            evictions: 0,
            again: 0,
            charge: None,
            lost: BTreeMap::new(),
            spending: None,
            spent: BTreeMap::new(),
            repairs: Repairs::default(),
        }
    }

    /// Takes in one event.
    pub fn fold(&mut self, event: &Event) {
        self.pass_time(event.time);
        self.repairs.fold(&event.kind);
        match &event.kind {
            EventKind::RotationPlanned { blocks, lower_bound_s, bottleneck, .. } => {
                self.held = held(blocks);
                self.planned = (*lower_bound_s, bottleneck.clone());
            }
            // What a person took to say yes is no part of it.
            EventKind::RotationStarted { resumed, .. } => (self.started, self.resumed) = (event.time, *resumed),
            EventKind::NodeSelected { about, .. } => self.taken_on(about),
            EventKind::ReplacementLaunching { about } => self.arriving(about, |a| a.began = Some(event.time)),
            EventKind::ReplacementJoined { about } => self.arriving(about, |a| a.joined = true),
            EventKind::ReplacementReady { about, seconds } => {
                self.arriving(about, |a| a.ready = a.joined.then_some(*seconds));
            }
            EventKind::ReplacementFunctional { about, seconds, start, tolerated, differs } => {
                self.functional(about, event.time, *seconds, start.as_deref());
                // Without its times, which differ from node to node.
                let tolerated = tolerated.iter().map(|said| words::gist(said));
                for remark in tolerated.chain(differs.iter().map(|said| &**said)) {
                    *self.remarks.entry(remark.into()).or_default() += 1;
                }
            }
            // What is given back has no part in how long the drain of an old node takes.
            EventKind::NodeDrained { about, seconds, reason: Chosen::Outdated } => {
                self.drained.extend(about.instance.clone());
                self.sample(DRAIN, *seconds);
                if let Some(means) = self.group(about) {
                    means.drain.add(*seconds);
                }
            }
            EventKind::ReplacementFailed { about, diagnosis } => {
                let node = about.node.as_ref().map(|n| Text::from(n.as_str()));
                let name = node.or_else(|| about.instance.as_ref().map(|i| i.text().clone()));
                self.failed.extend(name.map(|name| (name, diagnosis.clone())));
            }
            EventKind::NodeGone { about, seconds, by_others } => {
                self.taken_on(about);
                // What others take is none of this run's times.
                if !by_others {
                    self.gone(about, *seconds);
                }
            }
            EventKind::NodeSkipped { about, why } => {
                self.drained.retain(|id| about.instance.as_ref() != Some(id));
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
                    sizes.scaled |= own != sizes.first;
                    sizes.shrunk |= own < sizes.largest;
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

    /// Whether a node was given up, and has not been taken on again since.
    pub fn is_skipped(&self, node: &NodeName) -> bool {
        self.skipped.contains_key(node)
    }

    /// Whatever held a node, or had it given up, does so no more.
    fn taken_on(&mut self, about: &About) {
        if let Some(node) = &about.node {
            self.held.remove(node);
            self.skipped.remove(node);
        }
    }

    fn group(&mut self, about: &About) -> Option<&mut Means> {
        about.group.as_ref().map(|g| self.groups.entry(g.clone()).or_default())
    }

    fn sample(&mut self, stage: &'static str, seconds: f64) {
        self.stages.entry(stage).or_default().push(seconds);
    }

    /// A replacement on its way went further.
    fn arriving(&mut self, about: &About, note: impl FnOnce(&mut Arrival)) {
        let Some(instance) = &about.instance else { return };
        let arrival = self.arrivals.entry(instance.clone()).or_default();
        if arrival.functional.is_none() {
            note(arrival);
        }
    }

    /// What the world itself shows of a start is exact; else it is what was seen of it.
    fn functional(&mut self, about: &About, now: Timestamp, whole: f64, start: Option<&NodeStart>) {
        let Some(instance) = &about.instance else { return };
        let arrival = self.arrivals.entry(instance.clone()).or_default();
        if arrival.functional.is_some() {
            return;
        }
        arrival.functional = Some(now);
        arrival.group.clone_from(&about.group);
        let seen = arrival.ready;
        let shown = start.map(|start| START.map(|stage| start.moments.seconds(stage)));
        let times = match (shown, seen) {
            (Some([Some(ready), Some(functional), Some(whole)]), _) => Some([ready, functional, whole]),
            (_, Some(ready)) => Some([ready.min(whole), (whole - ready).max(0.0), whole]),
            _ => None,
        };
        for (stage, seconds) in START.into_iter().zip(times.into_iter().flatten()) {
            self.sample(stage.name(), seconds);
        }
        self.starts.extend(start.map(|start| NodeStart { daemonsets: Vec::new(), ..start.clone() }));
        if let Some(name) = about.node.as_ref().and_then(|n| self.culprits.remove(n)) {
            *self.slowest.entry(name).or_default() += 1;
        }
    }

    /// The instances whose starts are known, to ask AWS for their launches.
    pub fn started(&self) -> impl Iterator<Item = &InstanceId> {
        self.starts.iter().filter_map(|start| start.instance.as_ref())
    }

    /// Takes in what AWS tells of the replacements' launches, once they are all there.
    pub fn launched(&mut self, launches: &BTreeMap<InstanceId, Launch>) {
        for start in &mut self.starts {
            if let Some(launch) = start.instance.as_ref().and_then(|id| launches.get(id)) {
                start.launched(launch);
            }
        }
    }

    /// The samples of a stage that AWS's times are part of.
    fn launches(&self, stage: Stage) -> Vec<f64> {
        self.starts.iter().filter_map(|start| start.moments.seconds(stage)).collect()
    }

    /// From request to functional, soak included, of each group's replacements: by AWS's times, else from when they
    /// were first seen: a launch that an earlier run, or somebody else, asked for is no room that this run was given.
    fn arrivals(&self) -> BTreeMap<&GroupName, Mean> {
        let exact: BTreeMap<_, _> = self.starts.iter().map(|s| (s.instance.as_ref(), &s.moments)).collect();
        let mut means: BTreeMap<&GroupName, Mean> = BTreeMap::new();
        for (instance, arrival) in &self.arrivals {
            let Some(group) = &arrival.group else { continue };
            let scaled = self.sizes.get(group).is_some_and(|sizes| sizes.scaled);
            let known = exact.get(&Some(instance)).and_then(|m| m.requested.or(m.provisioned));
            let known = known.filter(|at| !self.resumed && !scaled && *at >= self.started);
            if let (Some(began), Some(functional)) = (known.or(arrival.began), arrival.functional) {
                means.entry(group).or_default().add(seconds_between(began, functional));
            }
        }
        means
    }

    fn gone(&mut self, about: &About, seconds: f64) {
        self.sample(TERMINATE, seconds);
        let Some(instance) = &about.instance else { return };
        let old = self.drained.remove(instance);
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
            // Whatever others did to get it done is no run of ours.
            0 if self.planned.0 == 0.0 || closing.outcome != Verdict::Done => self.planned.clone(),
            // Somebody scaled the groups in, and how much room that left when is not known.
            _ if bound.bottleneck.limit == Limit::Nothing => (bound.seconds, "not known".into()),
            _ => {
                // What would have made a run faster that was cut short is not known.
                let whole = matches!(closing.outcome, Verdict::Done | Verdict::Incomplete);
                let relaxed = bound.bottleneck.relaxed.clone().filter(|_| whole);
                (bound.seconds, Bottleneck { relaxed, ..bound.bottleneck.clone() }.to_string().into())
            }
        };
        let time_lost = match rotated {
            0 => explained(&self.spent, duration_s),
            _ => explained(&self.lost, duration_s - bound.seconds),
        };
        Report {
            outcome: closing.outcome,
            nodes_rotated: rotated,
            replacements_failed: self.failed.clone(),
            remarks: self.remarks.clone(),
            nodes_skipped: self.held.iter().chain(&self.skipped).map(|(n, why)| (n.clone(), why.clone())).collect(),
            duration_s,
            lower_bound_s,
            bottleneck,
            evictions: self.evictions,
            pods_moved: self.evictions - self.again,
            pods_moved_twice: self.again,
            aws_calls: closing.aws_calls,
            kube_requests: closing.kube_requests,
            stages: self.all_stages(),
            critical_path: self.critical_path(),
            fixes: self.repairs.report(),
            time_lost,
            left_behind: closing.left_behind,
        }
    }

    fn loads(&self, closing: &Closing) -> Vec<Measured> {
        let arrivals = self.arrivals();
        let load = |(name, limits): (&GroupName, &Limits)| {
            let means = self.groups.get(name).filter(|m| m.rotated > 0)?;
            let sizes = self.sizes.get(name).copied().unwrap_or_default();
            // How much room somebody's scale-in left, and when, is not known: it has no bound.
            if sizes.shrunk {
                return None;
            }
            let none = Mean::default();
            let arrive = arrivals.get(name).unwrap_or(&none);
            let load = GroupLoad {
                group: name.clone(),
                canary: limits.canary,
                chain: None,
                nodes: means.rotated,
                surge: sizes.grown(limits.surge).max(sizes.surge),
                unavailable: sizes.grown(limits.unavailable),
                drains: sizes.grown(limits.drains),
                b: arrive.get().unwrap_or_default(),
                d: means.drain.get().unwrap_or_default(),
                x: means.terminate.get().unwrap_or_default(),
            };
            let least = |mean: &Mean| mean.least.unwrap_or_default();
            Some(Measured {
                load,
                launches: arrive.count,
                least_b: least(arrive),
                least_d: least(&means.drain),
                least_x: least(&means.terminate),
            })
        };
        closing.limits.iter().filter_map(load).collect()
    }

    fn all_stages(&self) -> BTreeMap<Text, Percentiles> {
        let launches = [Stage::Provisioned, Stage::Joined, Stage::Total].map(|s| (s.name(), self.launches(s)));
        let launches = launches.iter().filter(|(_, samples)| !samples.is_empty()).map(|(name, s)| (*name, s));
        let all = self.stages.iter().map(|(name, samples)| (*name, samples)).chain(launches);
        all.map(|(name, samples)| (name.into(), Percentiles::of(samples))).collect()
    }

    /// What a new node waited for, in order, with the mean of it; where starts do not show that, the stages, and the
    /// DaemonSet that was most often the last.
    fn critical_path(&self) -> Vec<Text> {
        let figures = Figures::of(&self.starts);
        let shares = figures.critical_path.iter().map(|share| (super::measure::step(share), share.mean_s));
        let slowest = self.slowest.iter().max_by_key(|(_, n)| **n).map(|(name, _)| name);
        let stages = [Stage::Ready, Stage::Functional].into_iter().filter(|_| figures.paths == 0);
        let stages = stages.filter_map(|stage| Some((stage, mean(self.stages.get(stage.name())?))));
        let stages = stages.map(|(stage, s)| match slowest {
            Some(daemonset) if stage == Stage::Functional => (format!("{}: {daemonset}", stage.name()), s),
            _ => (stage.name().to_owned(), s),
        });
        let told = shares.chain(stages).filter(|(_, s)| *s >= 0.05);
        told.map(|(what, s)| format!("{what}, {}", units::seconds(s)).into()).collect()
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
        // What others have in hand is left alone; only what they have put aside is still to be rotated.
        (_, BlockReason::Lifecycle { state }) if &**state != "Standby" => None,
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
            WaitReason::Mending { .. } => Some("new nodes being looked into and mended".into()),
            WaitReason::AwsBusy { .. } => Some("AWS was busy with something else".into()),
            WaitReason::Launch { failure: Some(_), .. } => Some("launches that failed".into()),
            WaitReason::Capacity { .. } => Some("no functional replacement yet".into()),
            WaitReason::ZoneBalance { zone } => Some(format!("balance over the zones, {zone}").into()),
            _ => None,
        }),
    }
}

fn mean(samples: &[f64]) -> f64 {
    samples.iter().sum::<f64>() / samples.len().max(1) as f64
}

/// Seconds from `a` to `b`; 0 if `b` is earlier.
fn seconds_between(a: Timestamp, b: Timestamp) -> f64 {
    b.duration_since(a).as_secs_f64().max(0.0)
}
