//! Events by the difference of two plans: the world tells where everything stands, not what happened.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::event::{About, Chosen, EventKind};
use crate::model::marks::REASON;
use crate::model::{GroupName, InstanceId, Lifecycle, NodeName, ObjectKey, Pod, Text, Uid};
use crate::observe::{Role, Snapshot};
use crate::plan::{
    Action, ActionKey, ActionReason, InHand, NodePurpose, Outdated, Plan, Planned, Stage, Subject, Wait, WaitReason,
};
use crate::policy::Policy;
use crate::readiness::{self, stages};

/// What has been told of a node in hand.
#[derive(Debug)]
struct Told {
    stage: Stage,
    about: About,
    draining: Timestamp,
    terminating: Timestamp,
    /// The last comparison whose plan held it.
    held: u64,
}

/// Tells events from successive plans. An instance is followed from the first plan that holds it.
#[derive(Debug, Default)]
pub(super) struct Changes {
    told: BTreeMap<InstanceId, Told>,
    /// Instances that have been told to be functional: once a rotation.
    arrived: BTreeSet<InstanceId>,
    waits: Waits,
    evicted: BTreeMap<Uid, (ObjectKey, NodeName)>,
    /// Pods whose eviction was asked for, and whose answer was lost.
    unanswered: BTreeMap<Uid, (ObjectKey, NodeName)>,
    blocked: BTreeSet<(NodeName, ObjectKey)>,
    chosen: BTreeMap<NodeName, Vec<Outdated>>,
    decrements: BTreeSet<InstanceId>,
    /// Comparisons so far.
    compared: u64,
    /// Instances that have been told to have failed.
    failed: BTreeSet<InstanceId>,
    /// Nodes whose cordon is undone.
    released: BTreeSet<NodeName>,
    /// The first plan of a rotation that goes on says where everything stands, not how it got there.
    taken_up: bool,
}

/// What kind of wait it is, and the name of who is to blame.
type Culprit = (&'static str, Option<Text>, Option<ObjectKey>);

/// A wait's subject and who is to blame.
type WaitKey = (Subject, Culprit);

/// What is waited for, since when it is seen here, and whether that has been told.
#[derive(Debug, Default)]
struct Waits {
    seen: BTreeMap<WaitKey, (Timestamp, bool)>,
    last: Vec<Wait>,
    untold: bool,
}

/// What is over sooner is not told: a plan waits a moment for most of its own actions.
const WORTH_TELLING: SignedDuration = SignedDuration::from_secs(1);

const ARRIVING: [Stage; 5] = [Stage::Launching, Stage::Running, Stage::Joined, Stage::Ready, Stage::Functional];
const LEAVING: [Stage; 5] =
    [Stage::Selected, Stage::Draining, Stage::Drained, Stage::Deregistering, Stage::Terminating];

impl Changes {
    /// Remembers why nodes were chosen and how instances are terminated, for the events about them.
    pub(super) fn note(&mut self, action: &Planned) {
        match (&action.action, &action.reason) {
            (
                Action::ChangeNode { node, purpose: NodePurpose::Cordon, .. },
                ActionReason::Drain { outdated, .. }
                | ActionReason::DrainFullest { outdated, .. }
                | ActionReason::DrainUnavailable { outdated },
            ) => _ = self.chosen.insert(node.clone(), outdated.clone()),
            (Action::ChangeNode { node, purpose: NodePurpose::Uncordon, .. }, _) => {
                _ = self.released.insert(node.clone())
            }
            (Action::Terminate { instance, decrement: Some(_), .. }, _) => _ = self.decrements.insert(instance.clone()),
            _ => {}
        }
    }

    /// The events between the plan before and this one.
    pub(super) fn compare(&mut self, plan: &Plan, snapshot: &Snapshot, now: Timestamp, out: &mut Vec<EventKind>) {
        self.compared += 1;
        for node in &plan.in_hand {
            if let Some(id) = &node.instance {
                self.follow(id, node, plan, snapshot, now, out);
            }
        }
        self.let_go(snapshot, now, out);
        self.held_back(plan, out);
        self.waits.follow(&plan.waits, now, out);
        self.taken_up = true;
    }

    /// Pods whose eviction is not posted because a budget is known to refuse it, each told once.
    fn held_back(&mut self, plan: &Plan, out: &mut Vec<EventKind>) {
        for wait in &plan.waits {
            if let (Subject::Node(node), WaitReason::Budget { pod, budget }) = (&wait.subject, &wait.reason)
                && self.blocked.insert((node.clone(), pod.clone()))
            {
                out.push(EventKind::PodBlocked { pod: pod.clone(), node: node.clone(), by: budget.clone() });
            }
        }
    }

    /// A rotation that begins afresh tells of every stage from its first plan on.
    pub(super) fn afresh(&mut self) {
        self.taken_up = true;
    }

    fn follow(
        &mut self,
        id: &InstanceId,
        node: &InHand,
        plan: &Plan,
        snapshot: &Snapshot,
        now: Timestamp,
        out: &mut Vec<EventKind>,
    ) {
        let before = self.told.get_mut(id).map(|told| {
            told.held = self.compared;
            told.stage
        });
        if before == Some(node.stage) {
            return;
        }
        // The end takes the marks off a replacement: the next plan may see it arrive once more.
        let arriving = ARRIVING.contains(&node.stage);
        if arriving && self.arrived.contains(id) {
            return;
        }
        match node.stage {
            Stage::Functional => _ = self.arrived.insert(id.clone()),
            Stage::Failed => _ = self.failed.insert(id.clone()),
            _ => {}
        }
        let chosen = self.chosen_as(snapshot, id);
        let about = About {
            group: Some(node.group.clone()),
            zone: node.zone.clone(),
            instance: Some(id.clone()),
            node: node.node.clone(),
        };
        let held = self.compared;
        let told = self.told.entry(id.clone()).or_insert(Told {
            stage: node.stage,
            about,
            draining: now,
            terminating: now,
            held,
        });
        told.stage = node.stage;
        told.about.node = node.node.clone().or(told.about.node.take());
        let way = [&ARRIVING, &LEAVING].into_iter().find(|way| way.contains(&node.stage));
        let skips_ahead = before.is_some() || self.taken_up;
        let from = match way {
            // What lies between two plans has happened all the same.
            Some(way) if skips_ahead => {
                let passed = before.and_then(|b| way.iter().position(|s| *s == b)).map_or(0, |at| at + 1);
                &way[passed.min(way.len())..]
            }
            _ => &[],
        };
        let steps: Vec<Stage> = from.iter().copied().take_while(|s| *s != node.stage).chain([node.stage]).collect();
        for stage in steps {
            match stage {
                Stage::Draining => told.draining = now,
                Stage::Terminating => told.terminating = now,
                _ => {}
            }
            out.extend(step(stage, node, told, (chosen, &self.chosen), &self.decrements, (plan, snapshot), now));
        }
    }

    /// What a node that goes is to the rotation.
    fn chosen_as(&self, snapshot: &Snapshot, id: &InstanceId) -> Chosen {
        let recorded = snapshot.rotation.as_ref().is_some_and(|r| r.failed.contains_key(id));
        match snapshot.derived().member(id).map(|m| &m.role) {
            _ if recorded || self.failed.contains(id) => Chosen::Failed,
            Some(Role::Returning | Role::Adopted | Role::Young) => Chosen::Surge,
            _ if self.arrived.contains(id) => Chosen::Surge,
            _ => Chosen::Outdated,
        }
    }

    /// Instances that are no longer in hand: gone, or let go.
    fn let_go(&mut self, snapshot: &Snapshot, now: Timestamp, out: &mut Vec<EventKind>) {
        let left = self.told.iter().filter(|(_, told)| told.held != self.compared);
        let left: Vec<InstanceId> = left.map(|(id, _)| id.clone()).collect();
        for id in left {
            // While its cordon is under way a node is neither chosen any more nor draining yet.
            let node = self.told.get(&id).and_then(|t| t.about.node.clone());
            if node.is_some_and(|n| snapshot.in_flight.contains_key(&ActionKey::Node(n))) {
                continue;
            }
            // Its Node, and with it our marks, goes before the instance does.
            let goes = snapshot.instances.get(&id).is_some_and(|i| i.lifecycle == Lifecycle::Terminating);
            if goes && self.told.get(&id).is_some_and(|t| t.stage == Stage::Terminating) {
                continue;
            }
            let Some(told) = self.told.remove(&id) else { continue };
            self.decrements.remove(&id);
            let released = told.about.node.as_ref().is_some_and(|node| {
                self.chosen.remove(node);
                self.released.remove(node)
            });
            let gone = snapshot.instances.get(&id).is_none_or(|i| i.lifecycle == Lifecycle::Terminated);
            let about = told.about;
            if gone && LEAVING.contains(&told.stage) {
                out.push(EventKind::NodeGone { about, seconds: seconds(told.terminating, now) });
            } else if gone && ARRIVING.contains(&told.stage) && !self.arrived.contains(&id) {
                out.push(EventKind::ReplacementFailed { about, diagnosis: "its instance is gone".into() });
            } else if released && LEAVING.contains(&told.stage) {
                out.push(EventKind::NodeSkipped { about, why: "let go, since the rotation ends".into() });
            }
        }
    }

    /// The waits that have stood for long enough to be told.
    pub(super) fn waits(&mut self, plan: &Plan, now: Timestamp, out: &mut Vec<EventKind>) {
        if self.waits.untold {
            self.waits.follow(&plan.waits, now, out);
        }
    }

    /// A pod's eviction was accepted.
    pub(super) fn evicted(&mut self, pod: &Pod, node: &NodeName) {
        self.unanswered.remove(&pod.uid);
        self.evicted.insert(pod.uid.clone(), (pod.key.clone(), node.clone()));
    }

    /// Nobody knows whether this pod's eviction was accepted: that it goes will tell.
    pub(super) fn unanswered(&mut self, uid: &Uid, pod: &ObjectKey, node: &NodeName) {
        self.unanswered.insert(uid.clone(), (pod.clone(), node.clone()));
    }

    /// A pod that is on its way out, or gone: whether it was evicted by a request whose answer was lost, as what it is
    /// told then.
    pub(super) fn pod_goes(&mut self, uid: &Uid, moved_before: bool) -> Option<EventKind> {
        let (pod, node) = self.unanswered.remove(uid)?;
        self.evicted.insert(uid.clone(), (pod.clone(), node.clone()));
        Some(EventKind::PodEvicted { pod, node, moved_before })
    }

    /// A pod is gone.
    pub(super) fn pod_gone(&mut self, uid: &Uid) -> Option<EventKind> {
        self.evicted.remove(uid).map(|(pod, node)| EventKind::PodGone { pod, node })
    }

    /// After a full list, which names those that are gone by leaving them out.
    pub(super) fn pods_listed(&mut self, snapshot: &Snapshot) -> Vec<EventKind> {
        let followed = self.evicted.keys().chain(self.unanswered.keys());
        let gone: Vec<Uid> = followed.filter(|uid| !snapshot.pods.contains_key(uid)).cloned().collect();
        gone.iter().flat_map(|uid| [self.pod_goes(uid, false), self.pod_gone(uid)]).flatten().collect()
    }
}

impl Waits {
    fn follow(&mut self, waits: &[Wait], now: Timestamp, out: &mut Vec<EventKind>) {
        if !self.untold && self.last.len() == waits.len() && self.last.iter().zip(waits).all(|(a, b)| is_same(a, b)) {
            return;
        }
        let mut before = std::mem::take(&mut self.seen);
        self.untold = false;
        for wait in waits {
            let (what, who, which) = culprit(&wait.reason);
            let key = (wait.subject.clone(), (what, who.cloned(), which.cloned()));
            if self.seen.contains_key(&key) {
                continue;
            }
            let (since, mut told) = before.remove(&key).unwrap_or((now, false));
            if !told && now.duration_since(since) >= WORTH_TELLING {
                out.push(EventKind::Wait(wait.clone()));
                told = true;
            }
            self.untold |= !told;
            self.seen.insert(key, (since, told));
        }
        self.last = waits.to_vec();
    }
}

fn step(
    stage: Stage,
    node: &InHand,
    told: &Told,
    (reason, chosen): (Chosen, &BTreeMap<NodeName, Vec<Outdated>>),
    decrements: &BTreeSet<InstanceId>,
    (plan, snapshot): (&Plan, &Snapshot),
    now: Timestamp,
) -> Option<EventKind> {
    let about = told.about.clone();
    let id = node.instance.as_ref()?;
    let record = snapshot.rotation.as_ref();
    // What is given up in this very plan is on its way into the record.
    let recording = plan.actions.iter().find_map(|p| match &p.action {
        Action::Record { skipped, failed, .. } => Some((skipped, failed)),
        _ => None,
    });
    let marked = || snapshot.node_of(id).and_then(|n| n.annotation(REASON)).map(Text::from);
    let created = snapshot.node_of(id).map_or(now, |n| n.created);
    Some(match stage {
        Stage::Launching => EventKind::ReplacementLaunching { about },
        Stage::Running => EventKind::ReplacementRunning { about },
        Stage::Joined => EventKind::ReplacementJoined { about },
        Stage::Ready => EventKind::ReplacementReady { about, seconds: seconds(created, now) },
        Stage::Functional => {
            let since = node.since.filter(|_| node.stage == Stage::Functional).unwrap_or(now);
            let seconds = seconds(created, since);
            EventKind::ReplacementFunctional { about, seconds, start: None, tolerated: vec![], differs: vec![] }
        }
        Stage::Failed => {
            let diagnosis = record.and_then(|r| r.failed.get(id)).or_else(|| recording?.1.get(id)).cloned();
            EventKind::ReplacementFailed { about, diagnosis: diagnosis.or_else(marked).unwrap_or_default() }
        }
        Stage::Selected => {
            let outdated = about.node.as_ref().and_then(|n| chosen.get(n)).cloned().unwrap_or_default();
            EventKind::NodeSelected { about, reason, outdated }
        }
        Stage::Draining => EventKind::NodeDraining { about, pods: node.pods_left },
        Stage::Drained => EventKind::NodeDrained { about, seconds: seconds(told.draining, now) },
        // A pause between two events, shown by the bars alone.
        Stage::Deregistering => return None,
        Stage::Terminating => EventKind::NodeTerminating { about, decrement: decrements.contains(id) },
        Stage::Skipped => {
            let name = about.node.as_ref();
            let why = name.and_then(|n| record.and_then(|r| r.skipped.get(n)).or_else(|| recording?.0.get(n))).cloned();
            EventKind::NodeSkipped { about, why: why.or_else(marked).unwrap_or_default() }
        }
    })
}

/// Adds to the events of new nodes how these started, as far as the world shows it, and what the gate let pass. The
/// soak is no part of a start.
pub(super) fn show_starts(policy: &Policy, snapshot: &Snapshot, events: &mut [EventKind]) {
    for event in events {
        if let EventKind::ReplacementFunctional { about, start, seconds: took, tolerated, differs } = event
            && let Some(node) = about.node.as_ref().and_then(|name| snapshot.nodes.get(name))
        {
            *start = stages::start_of(policy, snapshot, node, &stages::requests(snapshot)).ok().map(Box::new);
            let judgement = readiness::judge(policy, snapshot, node);
            *took = judgement.since.map_or(*took, |since| seconds(node.created, since));
            *tolerated = judgement.tolerated.into_iter().map(|unmet| unmet.sentence).collect();
            *differs = judgement.differs;
        }
    }
}

/// Two waits of a subject with the same one to blame are the same wait, however its numbers move.
fn is_same(a: &Wait, b: &Wait) -> bool {
    a.subject == b.subject && culprit(&a.reason) == culprit(&b.reason)
}

/// What kind of wait it is, and who is to blame.
fn culprit(reason: &WaitReason) -> (&'static str, Option<&Text>, Option<&ObjectKey>) {
    fn text<'a>(what: &'static str, who: &'a Text) -> (&'static str, Option<&'a Text>, Option<&'a ObjectKey>) {
        (what, Some(who), None)
    }
    let alone = |what: &'static str| (what, None, None);
    match reason {
        WaitReason::StartupTaint { taint } => text("startup taint", taint),
        WaitReason::DaemonSet { daemonset, .. } => ("daemonset", None, Some(daemonset)),
        WaitReason::Budget { budget, .. } => text("budget", budget),
        WaitReason::ZoneBalance { zone } => text("zone balance", zone.text()),
        WaitReason::AwsBusy { what } => text("aws", what),
        WaitReason::Launch { failure: Some(failure), .. } => text("launch", failure),
        WaitReason::Launch { failure: None, .. } => alone("launch"),
        WaitReason::Join => alone("join"),
        WaitReason::NodeReady { .. } => alone("ready"),
        WaitReason::NodeLacks { .. } => alone("lacks"),
        WaitReason::Soak { .. } => alone("soak"),
        WaitReason::Canary { .. } => alone("canary"),
        WaitReason::Mending { what } => text("mending", what),
        WaitReason::Capacity { .. } => alone("capacity"),
        WaitReason::Standstill { why } => text("standstill", why),
        WaitReason::DrainSlot { .. } => alone("drain slot"),
        WaitReason::ServerBusy { .. } => alone("server"),
        WaitReason::PodTermination { .. } => alone("pods"),
        WaitReason::VolumeDetach { .. } => alone("volumes"),
        WaitReason::Successor => alone("successor"),
        WaitReason::Deregistration { of, .. } => text("deregistration", &of.0),
        WaitReason::Termination => alone("termination"),
        WaitReason::Paused => alone("paused"),
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

/// The subject's group, where the wait is a group's.
pub(super) fn group_of(wait: &Wait) -> Option<&GroupName> {
    match &wait.subject {
        Subject::Group(group) => Some(group),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(stage: Stage) -> Plan {
        let node = InHand {
            group: "g".into(),
            zone: None,
            instance: Some("i-1".into()),
            node: Some("n".into()),
            stage,
            since: None,
            pods_left: 3,
        };
        Plan { in_hand: vec![node], ..Plan::default() }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    /// The kinds of the events between successive plans, a second apart.
    fn told(changes: &mut Changes, plans: &[Plan]) -> Vec<String> {
        let snapshot = Snapshot::default();
        let mut out = Vec::new();
        for (second, plan) in plans.iter().enumerate() {
            changes.compare(plan, &snapshot, at(second as i64), &mut out);
        }
        let kind = |e: &EventKind| serde_json::to_value(e).unwrap()["kind"].as_str().unwrap().to_owned();
        out.iter().map(kind).collect()
    }

    #[test]
    fn stages_that_passed_between_two_plans_are_told_in_their_order() {
        let mut changes = Changes::default();
        changes.afresh();
        let arriving = told(&mut changes, &[plan(Stage::Running), plan(Stage::Running), plan(Stage::Functional)]);
        let stages = ["launching", "running", "joined", "ready", "functional"];
        assert_eq!(arriving, stages.map(|s| format!("replacement.{s}")));
    }

    #[test]
    fn a_rotation_that_goes_on_says_where_everything_stands_not_how_it_got_there() {
        let mut changes = Changes::default();
        assert_eq!(told(&mut changes, &[plan(Stage::Drained)]), ["node.drained"]);
        assert_eq!(told(&mut changes, &[plan(Stage::Terminating)]), ["node.terminating"]);
        assert_eq!(told(&mut changes, &[Plan::default()]), ["node.gone"]);
    }

    #[test]
    fn a_drain_is_timed_from_its_first_eviction() {
        let mut changes = Changes::default();
        let snapshot = Snapshot::default();
        let mut out = Vec::new();
        changes.afresh();
        for (second, stage) in [(0, Stage::Selected), (10, Stage::Draining), (40, Stage::Drained)] {
            changes.compare(&plan(stage), &snapshot, at(second), &mut out);
        }
        assert!(matches!(out.last(), Some(EventKind::NodeDrained { seconds, .. }) if *seconds == 30.0), "{out:?}");
    }

    #[test]
    fn a_wait_is_told_when_it_begins_and_when_its_culprit_changes() {
        let wait = |reason| Plan {
            waits: vec![Wait { subject: Subject::Node("n".into()), reason, since: None, until: None }],
            ..Plan::default()
        };
        let pods = |left| wait(WaitReason::PodTermination { pod: ObjectKey::new("ns", "p"), left });
        let budget = |name: &str| wait(WaitReason::Budget { pod: ObjectKey::new("ns", "p"), budget: name.into() });
        let plans = [pods(3), pods(2), pods(1), budget("a"), budget("a"), budget("b"), pods(1), pods(1)];
        let mut changes = Changes::default();
        let out = told(&mut changes, &plans);
        let waits = out.iter().filter(|kind| *kind == "wait").count();
        assert_eq!(waits, 3, "budget b is over before it is worth telling: {out:?}");
        let blocked = out.iter().filter(|kind| *kind == "pod.blocked").count();
        assert_eq!(blocked, 1, "a pod that is held back is told once: {out:?}");
    }

    #[test]
    fn a_node_is_selected_once_though_its_cordon_takes_a_while() {
        let mut changes = Changes::default();
        changes.afresh();
        let mut snapshot = Snapshot::default();
        let mut out = Vec::new();
        changes.compare(&plan(Stage::Selected), &snapshot, at(0), &mut out);
        snapshot.in_flight.insert(ActionKey::Node("n".into()), crate::observe::InFlight { since: at(0) });
        changes.compare(&Plan::default(), &snapshot, at(1), &mut out);
        snapshot.in_flight.clear();
        changes.compare(&plan(Stage::Draining), &snapshot, at(2), &mut out);
        assert_eq!(out.len(), 2, "{out:?}");
    }

    #[test]
    fn a_replacement_arrives_once() {
        let mut changes = Changes::default();
        changes.afresh();
        let plans = [plan(Stage::Functional), Plan::default(), plan(Stage::Ready), plan(Stage::Functional)];
        assert_eq!(told(&mut changes, &plans).len(), 5);
    }
}
