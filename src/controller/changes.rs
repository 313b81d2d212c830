//! Events by the difference of two plans: the world tells where everything stands, not what happened.
//!
//! What has been told of an instance is kept here and nowhere else, until it is gone:
//!
//! ```text
//!  launching -> running -> joined -> ready -> functional    failed: instead of any of these, or after it
//!  selected -> draining -> drained -> terminating -> gone   skipped: after any of the first three, and back to none
//! ```
//!
//! Each is told once and in this order. What a new node must have passed between two plans is told with what it has
//! come to. A node that goes was not drained because it is gone: somebody else may have taken it, and that is told.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::waits::Waits;
use crate::event::{About, Chosen, EventKind};
use crate::model::marks::REASON;
use crate::model::{InstanceId, Lifecycle, NodeName, ObjectKey, Pod, Text, Uid};
use crate::observe::{Role, Snapshot};
use crate::plan::{Action, ActionKey, InHand, NodePurpose, Plan, Stage, Subject, WaitReason};
use crate::policy::Policy;
use crate::readiness::{self, stages};

/// What has been told of an instance.
#[derive(Debug, Default)]
struct Life {
    about: About,
    /// The last of [`ARRIVING`].
    arrived: Option<Stage>,
    failed: bool,
    /// The last of [`LEAVING`].
    left: Option<Stage>,
    /// What it was chosen as.
    chosen: Option<Chosen>,
    skipped: bool,
    gone: bool,
    draining: Timestamp,
    terminating: Timestamp,
    /// Its termination has been planned: whether with decrement.
    terminates: Option<bool>,
    /// It goes undrained, by others.
    by_others: bool,
    /// Its cordon is being undone, for this reason.
    released: Option<Text>,
}

/// How a plan showed an instance: most look the same for long.
#[derive(Debug)]
struct Shown {
    /// The last comparison whose plan held it; 0 where it is to be looked at anew.
    at: u64,
    stage: Stage,
    node: Option<NodeName>,
}

/// Tells events from successive plans.
#[derive(Debug, Default)]
pub(super) struct Changes {
    lives: BTreeMap<InstanceId, Life>,
    /// Those of whom more may be to be told.
    open: BTreeMap<InstanceId, Shown>,
    waits: Waits,
    evicted: BTreeMap<Uid, (ObjectKey, NodeName)>,
    /// Pods whose eviction was asked for, and whose answer was lost.
    unanswered: BTreeMap<Uid, (ObjectKey, NodeName)>,
    blocked: BTreeSet<(NodeName, ObjectKey)>,
    /// Comparisons so far.
    compared: u64,
    /// The first plan of a rotation that goes on says where everything stands, not how it got there.
    taken_up: bool,
}

const ARRIVING: [Stage; 5] = [Stage::Launching, Stage::Running, Stage::Joined, Stage::Ready, Stage::Functional];
/// A node that leaves its load balancers is drained: a pause between two events, shown by the bars alone.
const LEAVING: [Stage; 4] = [Stage::Selected, Stage::Draining, Stage::Drained, Stage::Terminating];

/// The plan, the world it was made from, and when.
type Seen<'a> = (&'a Plan, &'a Snapshot, Timestamp);

impl Changes {
    /// The events between the plan before and this one.
    pub(super) fn compare(&mut self, plan: &Plan, snapshot: &Snapshot, now: Timestamp, out: &mut Vec<EventKind>) {
        self.compared += 1;
        let seen = (plan, snapshot, now);
        for node in &plan.in_hand {
            if let Some(id) = &node.instance {
                self.follow(id, node, seen, out);
            }
        }
        let others = self.open.iter().filter(|(_, shown)| shown.at != self.compared);
        let others: Vec<_> = others.map(|(id, _)| id.clone()).collect();
        for id in others {
            if self.lives.get_mut(&id).is_some_and(|life| !life.left_alone(&id, seen, out)) {
                self.open.remove(&id);
            }
        }
        self.note(plan, snapshot);
        self.held_back(plan, out);
        self.waits.follow(&plan.waits, now, out);
        self.taken_up = true;
    }

    /// Remembers what the plan does to nodes in hand, for the events about them.
    fn note(&mut self, plan: &Plan, snapshot: &Snapshot) {
        for planned in &plan.actions {
            match &planned.action {
                Action::Terminate { instance, decrement, .. } => {
                    if let Some(life) = self.lives.get_mut(instance) {
                        life.terminates = Some(decrement.is_some());
                    }
                }
                Action::ChangeNode { node, purpose: NodePurpose::Uncordon, .. } => {
                    let instance = snapshot.nodes.get(node).and_then(|n| n.instance.as_ref());
                    if let Some(shown) = instance.and_then(|id| self.open.get_mut(id)) {
                        shown.at = 0;
                    }
                    if let Some(life) = instance.and_then(|id| self.lives.get_mut(id)) {
                        let why = given_up(node, plan, snapshot);
                        life.released =
                            Some(why.unwrap_or_else(|| "let go, since its group goes no further for now".into()));
                    }
                }
                _ => {}
            }
        }
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

    /// An instance that the plan shows.
    fn follow(&mut self, id: &InstanceId, node: &InHand, seen: Seen<'_>, out: &mut Vec<EventKind>) {
        if let Some(shown) = self.open.get_mut(id) {
            let held = std::mem::replace(&mut shown.at, self.compared) + 1 == self.compared;
            if held && shown.stage == node.stage && shown.node == node.node {
                return;
            }
        }
        let known = self.taken_up || self.lives.contains_key(id);
        let life = self.lives.entry(id.clone()).or_default();
        if life.gone {
            return;
        }
        self.open.insert(id.clone(), Shown { at: self.compared, stage: node.stage, node: node.node.clone() });
        life.about = About {
            group: Some(node.group.clone()),
            zone: node.zone.clone(),
            instance: Some(id.clone()),
            node: node.node.clone().or(life.about.node.take()),
        };
        match node.stage {
            Stage::Failed => life.fails(id, seen, out),
            Stage::Skipped => life.skips(given_up_or_marked(id, life.about.node.as_ref(), seen), out),
            Stage::Terminating => life.terminates(known, seen.2, out),
            Stage::Deregistering => life.leaves(id, (node, Stage::Drained), known, seen, out),
            Stage::Selected | Stage::Draining | Stage::Drained => life.leaves(id, (node, node.stage), known, seen, out),
            _ => life.arrives(id, node, known, seen, out),
        }
    }

    /// The waits that have stood for long enough to be told.
    pub(super) fn waits(&mut self, plan: &Plan, now: Timestamp, out: &mut Vec<EventKind>) {
        self.waits.grown(&plan.waits, now, out);
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

impl Life {
    /// The steps from the last one told to `to`; where nothing is `known` of what came before, `to` alone.
    fn steps(way: &[Stage], last: Option<Stage>, to: Stage, known: bool) -> Vec<Stage> {
        let place = |stage: Stage| way.iter().position(|s| *s == stage);
        let from = last.and_then(place).map_or(0, |at| at + 1);
        let Some(to) = place(to).filter(|to| *to >= from) else { return Vec::new() };
        way[if known { from } else { to }..=to].to_vec()
    }

    /// It is a new node on its way.
    fn arrives(
        &mut self,
        id: &InstanceId,
        node: &InHand,
        known: bool,
        (_, snapshot, now): Seen<'_>,
        out: &mut Vec<EventKind>,
    ) {
        // The end takes the marks off a replacement, and a node may flap: neither makes it arrive once more.
        if self.failed || self.left.is_some() {
            if let Some(why) = self.released.take() {
                self.skips(Some(why), out);
            }
            return;
        }
        let created = snapshot.node_of(id).map_or(now, |n| n.created);
        for stage in Self::steps(&ARRIVING, self.arrived, node.stage, known) {
            self.arrived = Some(stage);
            let about = self.about.clone();
            out.push(match stage {
                Stage::Launching => EventKind::ReplacementLaunching { about },
                Stage::Running => EventKind::ReplacementRunning { about },
                Stage::Joined => EventKind::ReplacementJoined { about },
                Stage::Ready => EventKind::ReplacementReady { about, seconds: seconds(created, now) },
                _ => {
                    let seconds = seconds(created, node.since.unwrap_or(now));
                    EventKind::ReplacementFunctional { about, seconds, start: None, tolerated: vec![], differs: vec![] }
                }
            });
        }
    }

    fn fails(&mut self, id: &InstanceId, seen: Seen<'_>, out: &mut Vec<EventKind>) {
        if std::mem::replace(&mut self.failed, true) || self.left.is_some() {
            return;
        }
        let (plan, snapshot, _) = seen;
        let record = snapshot.rotation.as_ref().and_then(|r| r.failed.get(id));
        let recording = || {
            plan.actions.iter().find_map(|planned| match &planned.action {
                Action::Record { failed, .. } => failed.get(id),
                _ => None,
            })
        };
        let why = record.or_else(recording).cloned().or_else(|| marked(id, snapshot));
        out.push(EventKind::ReplacementFailed { about: self.about.clone(), diagnosis: why.unwrap_or_default() });
    }

    fn skips(&mut self, why: Option<Text>, out: &mut Vec<EventKind>) {
        (self.left, self.chosen, self.terminates, self.released) = (None, None, None, None);
        if !std::mem::replace(&mut self.skipped, true) {
            out.push(EventKind::NodeSkipped { about: self.about.clone(), why: why.unwrap_or_default() });
        }
    }

    /// It has been chosen to go, and came as far as `to`.
    fn leaves(
        &mut self,
        id: &InstanceId,
        (node, to): (&InHand, Stage),
        known: bool,
        seen: Seen<'_>,
        out: &mut Vec<EventKind>,
    ) {
        let (_, snapshot, now) = seen;
        let member = snapshot.derived().member(id);
        let chosen = *self.chosen.get_or_insert_with(|| match member.map(|m| &m.role) {
            Some(Role::Failed) => Chosen::Failed,
            Some(Role::Returning | Role::Adopted | Role::Young) => Chosen::Surge,
            _ => Chosen::Outdated,
        });
        if chosen == Chosen::Failed {
            self.fails(id, seen, out);
        }
        for stage in Self::steps(&LEAVING, self.left, to, known) {
            if self.left.is_none() {
                self.draining = now;
            }
            (self.left, self.skipped) = (Some(stage), false);
            let about = self.about.clone();
            out.push(match stage {
                Stage::Selected => {
                    let why = member.filter(|_| chosen == Chosen::Outdated).map(|m| m.outdated.clone());
                    EventKind::NodeSelected { about, reason: chosen, outdated: why.unwrap_or_default() }
                }
                Stage::Draining => {
                    self.draining = now;
                    EventKind::NodeDraining { about, pods: node.pods_left }
                }
                _ => EventKind::NodeDrained { about, seconds: seconds(self.draining, now), reason: chosen },
            });
        }
    }

    /// It is on its way out.
    fn terminates(&mut self, known: bool, now: Timestamp, out: &mut Vec<EventKind>) {
        if self.left == Some(Stage::Terminating) {
            return;
        }
        let drained = self.left == Some(Stage::Drained);
        self.by_others = known && !drained && self.terminates.is_none();
        (self.left, self.terminating) = (Some(Stage::Terminating), now);
        let (about, by_others) = (self.about.clone(), self.by_others);
        out.push(EventKind::NodeTerminating { about, decrement: self.terminates == Some(true), by_others });
    }

    /// The plan does not hold it any more; whether more may be to be told of it.
    fn left_alone(&mut self, id: &InstanceId, seen: Seen<'_>, out: &mut Vec<EventKind>) -> bool {
        let (_, snapshot, now) = seen;
        let node = self.about.node.clone();
        // While its cordon is under way a node is neither chosen any more nor draining yet.
        if node.is_some_and(|n| snapshot.in_flight.contains_key(&ActionKey::Node(n))) {
            return true;
        }
        let lifecycle = snapshot.instances.get(id).map(|i| &i.lifecycle);
        if matches!(lifecycle, None | Some(Lifecycle::Terminated)) {
            self.goes(now, out);
            return false;
        }
        if lifecycle == Some(&Lifecycle::Terminating) {
            // Its Node, and with it our marks, goes before the instance does.
            self.terminates(true, now, out);
            return true;
        }
        let role = snapshot.derived().member(id).map(|m| &m.role);
        if matches!(role, Some(Role::Draining | Role::Returning | Role::Failed | Role::Leaving)) {
            return true;
        }
        if self.left.is_none() {
            // One that has arrived is followed again once a plan holds it.
            return role == Some(&Role::Young) && self.arrived != Some(Stage::Functional);
        }
        let why = match role {
            Some(Role::Skipped) => given_up_or_marked(id, self.about.node.as_ref(), seen),
            _ => self.released.take(),
        };
        let is_let_go = why.is_some();
        if is_let_go {
            self.skips(why, out);
        }
        !is_let_go
    }

    /// Its instance is gone.
    fn goes(&mut self, now: Timestamp, out: &mut Vec<EventKind>) {
        self.gone = true;
        let arriving = self.arrived.is_some_and(|stage| stage != Stage::Functional);
        if arriving && self.left.is_none() && self.terminates.is_none() {
            if !std::mem::replace(&mut self.failed, true) {
                let diagnosis = "its instance is gone".into();
                out.push(EventKind::ReplacementFailed { about: self.about.clone(), diagnosis });
            }
            return;
        }
        self.terminates(true, now, out);
        let (about, by_others) = (self.about.clone(), self.by_others);
        out.push(EventKind::NodeGone { about, seconds: seconds(self.terminating, now), by_others });
    }
}

/// Why a node is given up, as it is written down or about to be.
fn given_up(node: &NodeName, plan: &Plan, snapshot: &Snapshot) -> Option<Text> {
    let record = snapshot.rotation.as_ref().and_then(|r| r.skipped.get(node));
    let recording = || {
        plan.actions.iter().find_map(|planned| match &planned.action {
            Action::Record { skipped, .. } => skipped.get(node),
            _ => None,
        })
    };
    record.or_else(recording).cloned()
}

fn given_up_or_marked(id: &InstanceId, node: Option<&NodeName>, (plan, snapshot, _): Seen<'_>) -> Option<Text> {
    node.and_then(|node| given_up(node, plan, snapshot)).or_else(|| marked(id, snapshot))
}

/// The reason that our mark on its Node names.
fn marked(id: &InstanceId, snapshot: &Snapshot) -> Option<Text> {
    snapshot.node_of(id).and_then(|n| n.annotation(REASON)).map(Text::from)
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

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Wait;

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
        told_of(changes, &Snapshot::default(), plans)
    }

    fn told_of(changes: &mut Changes, snapshot: &Snapshot, plans: &[Plan]) -> Vec<String> {
        let mut out = Vec::new();
        for (second, plan) in plans.iter().enumerate() {
            changes.compare(plan, snapshot, at(second as i64), &mut out);
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

    /// A snapshot that shows the instance in service.
    fn in_service() -> Snapshot {
        let instance = crate::model::Instance {
            id: "i-1".into(),
            group: "g".into(),
            zone: "a".into(),
            instance_type: "m5".into(),
            lifecycle: Lifecycle::InService,
            healthy: true,
            protected: false,
            source: crate::model::LaunchSource::Unknown,
            launched_at: None,
            image: None,
        };
        let mut snapshot = Snapshot::default();
        snapshot.instances.insert("i-1".into(), instance);
        snapshot
    }

    #[test]
    fn a_replacement_arrives_once() {
        let mut changes = Changes::default();
        changes.afresh();
        let flaps = [plan(Stage::Ready), plan(Stage::Joined)];
        assert_eq!(told_of(&mut changes, &in_service(), &flaps).len(), 4);
        let plans = [plan(Stage::Functional), Plan::default(), plan(Stage::Ready), plan(Stage::Functional)];
        assert_eq!(told_of(&mut changes, &in_service(), &plans), ["replacement.functional"]);
    }

    #[test]
    fn what_others_take_was_not_drained() {
        let mut changes = Changes::default();
        changes.afresh();
        let taken = [plan(Stage::Draining), plan(Stage::Terminating), Plan::default()];
        let stages = ["selected", "draining", "terminating", "gone"];
        assert_eq!(told(&mut changes, &taken), stages.map(|s| format!("node.{s}")));
        let (mut changes, mut out) = (Changes::default(), Vec::new());
        changes.afresh();
        changes.compare(&plan(Stage::Terminating), &in_service(), at(0), &mut out);
        assert!(matches!(out[..], [EventKind::NodeTerminating { by_others: true, .. }]), "{out:?}");
        let (mut changes, mut out) = (Changes::default(), Vec::new());
        changes.afresh();
        for (second, stage) in [Stage::Drained, Stage::Terminating].into_iter().enumerate() {
            changes.compare(&plan(stage), &in_service(), at(second as i64), &mut out);
        }
        assert!(matches!(out.last(), Some(EventKind::NodeTerminating { by_others: false, .. })), "{out:?}");
    }

    #[test]
    fn no_stage_is_told_twice_while_the_plan_does_not_show_it() {
        let mut changes = Changes::default();
        changes.afresh();
        let plans = [plan(Stage::Drained), plan(Stage::Draining), plan(Stage::Selected), plan(Stage::Drained)];
        assert_eq!(told(&mut changes, &plans), ["selected", "draining", "drained"].map(|s| format!("node.{s}")));
    }
}
