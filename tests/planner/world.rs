//! An ideal world, a step at a time: whatever the planner wants happens at once, and what follows from it
//! (boot, join, a pod's end) after a fixed time. No faults but those a story asks for. Each step is told in a
//! line, and judged by rules that share nothing with the planner.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use fastnode::cloud::GroupState;
use fastnode::cluster::{Fact, Kind};
use fastnode::invariants;
use fastnode::model::*;
use fastnode::observe::{RotationRecord, Snapshot};
use fastnode::plan::{self, Action, NodePurpose, Plan, Verdict};
use fastnode::policy::Policy;
use jiff::{SignedDuration, Timestamp};

use crate::group::plain_group;

/// What becomes of a launch.
#[derive(Clone, Copy, PartialEq)]
pub enum Fate {
    Joins,
    NeverJoins,
    Restarts,
}

enum Next {
    InService(InstanceId),
    Join(InstanceId, Fate),
    Ready(InstanceId, Fate),
    Gone(InstanceId),
    PodGone(Uid),
    PodReady(Uid),
    Story(Box<dyn FnOnce(&mut World)>),
}

pub struct World {
    pub snapshot: Snapshot,
    pub policy: Policy,
    pub now: Timestamp,
    start: Timestamp,
    next: BTreeMap<(Timestamp, u32), Next>,
    count: u32,
    launches: u32,
    pub fates: BTreeMap<u32, Fate>,
    /// The image that launches get, where it is known.
    pub image: Option<Text>,
    /// An instance that hangs on its way out.
    pub linger: Option<InstanceId>,
    /// A node whose pods never end.
    pub hanging: Option<NodeName>,
    /// Groups that launch nothing for now.
    pub no_capacity: bool,
    lines: String,
    told: BTreeSet<String>,
    moves: BTreeMap<Text, u32>,
    /// For a pod that has moved, another new node that could have taken it.
    alternatives: BTreeMap<Text, NodeName>,
    /// Second moves of pods that such a node, still there, could have taken the first time.
    pub avoidable: u32,
    pub own: BTreeMap<GroupName, u32>,
    /// Stop when an action's words contain this, with its effect but not its fold: a crash.
    pub crash_at: Option<&'static str>,
    /// Checks capacity after each step.
    pub promise: bool,
    pub touched: BTreeSet<NodeName>,
}

pub fn template(version: &str) -> Target {
    let version: Text = version.into();
    Target::Template(TemplateRef { id: "lt-1".into(), version: version.clone(), resolved: Some(version), image: None })
}

pub fn group(name: &str, zones: &[&str], desired: u32, max: u32) -> NodeGroup {
    NodeGroup { target: template("4"), ..plain_group(name, zones, desired, max) }
}

fn seconds(n: i64) -> SignedDuration {
    SignedDuration::from_secs(n)
}

impl World {
    pub fn new(policy: Policy) -> Self {
        let start: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let mut snapshot = Snapshot::default();
        (snapshot.cluster, snapshot.version) = ("prod".into(), "v1.36.3".into());
        snapshot.synced.kinds = Kind::ALL.into_iter().collect();
        snapshot.synced.groups = true;
        snapshot.groups_read = Some(start);
        let mut world = Self {
            snapshot,
            policy,
            now: start,
            start,
            next: BTreeMap::new(),
            count: 0,
            launches: 0,
            fates: BTreeMap::new(),
            image: None,
            linger: None,
            hanging: None,
            no_capacity: false,
            lines: String::new(),
            told: BTreeSet::new(),
            moves: BTreeMap::new(),
            alternatives: BTreeMap::new(),
            avoidable: 0,
            own: BTreeMap::new(),
            crash_at: None,
            promise: true,
            touched: BTreeSet::new(),
        };
        world.snapshot.apply(Fact::DaemonSet(aws_node()));
        let revision = Revision { owner: "ds".into(), uid: "rev".into(), number: 1, hash: "1".into() };
        world.snapshot.apply(Fact::Revision(revision));
        world
    }

    /// A group of old nodes: so many in each zone, each with so many pods of `web`.
    pub fn with_group(mut self, name: &str, zones: &[(&str, u32)], pods: u32) -> Self {
        let total = zones.iter().map(|z| z.1).sum();
        let names: Vec<&str> = zones.iter().map(|z| z.0).collect();
        let record = group(name, &names, total, total + 5);
        self.own.insert(record.name.clone(), total);
        let mut states = self.states();
        let mut joins = Vec::new();
        let mut instances = Vec::new();
        for (zone, nodes) in zones {
            for n in 1..=*nodes {
                let id = InstanceId::from(format!("i-{name}-{zone}{n}"));
                instances.push(instance(&id, name, zone, "3", self.start - seconds(90 * 24 * 3600 - i64::from(n))));
                joins.push((id, format!("{name}-{zone}{n}")));
            }
        }
        states.push(GroupState { group: record, instances });
        self.snapshot.apply_groups(states, self.now);
        for (id, node) in joins {
            self.join(&id, &node, self.start - seconds(90 * 24 * 3600));
            self.ready(&id, Fate::Joins);
            for _ in 0..pods {
                self.add_pod("web", Some(&NodeName::from(node.as_str())), |_| {});
            }
        }
        self
    }

    pub fn change_group(&mut self, name: &str, change: impl FnOnce(&mut NodeGroup)) {
        let mut states = self.states();
        let group = &mut states.iter_mut().find(|s| s.group.name.as_str() == name).unwrap().group;
        change(group);
        let refreshing = group.refreshing;
        self.snapshot.apply_groups(states, self.now);
        // Another call tells it, and a reading of the groups keeps it.
        self.snapshot.change_group(&name.into(), |group| group.refreshing = refreshing);
    }

    pub fn change_instance(&mut self, id: &str, change: impl FnOnce(&mut Instance)) {
        let mut states = self.states();
        change(states.iter_mut().flat_map(|s| &mut s.instances).find(|i| i.id.as_str() == id).unwrap());
        self.snapshot.apply_groups(states, self.now);
    }

    pub fn at(&mut self, after: i64, story: impl FnOnce(&mut World) + 'static) {
        self.later(after, Next::Story(Box::new(story)));
    }

    /// `min` pods of `app` must stay healthy.
    pub fn budget(&mut self, app: &str, min: i32) {
        self.budget_named(&format!("{app}-pdb"), app, min);
    }

    pub fn budget_named(&mut self, name: &str, app: &str, min: i32) {
        let selector =
            Selector(vec![Requirement { key: "app".into(), operator: Operator::In, values: vec![app.into()] }]);
        let budget = Budget {
            key: ObjectKey::new("default", name),
            selector: Some(selector),
            allowed: 0,
            healthy: 0,
            desired: min,
            expected: 0,
            observed: true,
            unhealthy_always: false,
        };
        self.snapshot.apply(Fact::Budget(budget));
        self.judge_budgets();
    }

    /// The last pod of `web` is unready from then until then, in seconds.
    pub fn sick(&mut self, from: i64, until: i64) {
        let is_web = |p: &&Arc<Pod>| p.owner.as_ref().is_some_and(|o| &*o.name == "web");
        let uid = self.snapshot.pods.values().rfind(is_web).unwrap().uid.clone();
        for (at, ready) in [(from, false), (until, true)] {
            let uid = uid.clone();
            self.at(at, move |world| {
                let Some(mut pod) = world.snapshot.pods.get(&uid).map(|p| (**p).clone()) else { return };
                world.tell(&format!("{} is {}", pod.key.name, if ready { "well again" } else { "sick" }));
                pod.flags.ready = ready;
                world.snapshot.apply(Fact::Pod(pod));
                world.judge_budgets();
            });
        }
    }

    /// A node's kubelet has stopped.
    pub fn not_ready(&mut self, name: &str) {
        let mut node = self.snapshot.nodes[&NodeName::from(name)].clone();
        let condition = node.conditions.get_mut("Ready").unwrap();
        (condition.status, condition.reason) = (ConditionStatus::Unknown, "NodeStatusUnknown".into());
        self.snapshot.apply(Fact::Node(node));
    }

    pub fn add_pod(&mut self, app: &str, node: Option<&NodeName>, change: impl FnOnce(&mut Pod)) -> Uid {
        self.count += 1;
        let uid = Uid::from(format!("pod-{:04}", self.count));
        let mut pod = Pod {
            uid: uid.clone(),
            key: ObjectKey::new("default", &format!("{app}-{}", self.count)),
            node: node.cloned(),
            phase: Phase::Running,
            deleting: None,
            owner: Some(Arc::new(Owner { kind: "ReplicaSet".into(), name: app.into(), uid: app.into() })),
            labels: Arc::new(BTreeMap::from([("app".into(), app.into())])),
            flags: PodFlags { ready: true, ..PodFlags::default() },
            containers: Vec::new(),
            revision: None,
            cpu: 100,
            memory: 1 << 20,
            tolerates_cordon: false,
            unschedulable: None,
            created: self.now,
            scheduled: Some(self.now),
            initialized: None,
            ready_since: Some(self.now),
        };
        change(&mut pod);
        self.snapshot.apply(Fact::Pod(pod));
        self.judge_budgets();
        uid
    }

    pub fn begin(&mut self) {
        let targets = self.snapshot.groups.iter().map(|(n, g)| (n.clone(), g.target.clone())).collect();
        self.snapshot.rotation = Some(Arc::new(RotationRecord {
            id: "r1".into(),
            started: self.now,
            targets,
            protection: BTreeMap::new(),
            skipped: BTreeMap::new(),
            failed: BTreeMap::new(),
            ending: None,
            mended: Default::default(),
        }));
    }

    /// Plays on until the planner gives a verdict, or it crashes; the verdict.
    pub fn play(&mut self) -> Option<Verdict> {
        for _ in 0..5_000 {
            self.snapshot.refresh(&self.policy);
            let plan = plan::plan(&self.policy, &self.snapshot, self.now);
            self.tell_plan(&plan);
            if let Err(violation) = invariants::check(&self.policy, &self.snapshot, &plan, self.now) {
                panic!("{violation}\n{}", self.lines);
            }
            if let Some(verdict) = plan.verdict {
                assert!(plan.actions.is_empty(), "a verdict with actions: {plan:?}");
                self.line(&format!("=> {verdict}"));
                return Some(verdict);
            }
            if plan.actions.is_empty() {
                let event = self.next.first_key_value().map(|(at, _)| at.0);
                let until = [event, plan.wake].into_iter().flatten().min();
                let until = until.unwrap_or_else(|| panic!("nothing will ever happen: {plan:?}\n{}", self.lines));
                self.now = self.now.max(until);
            } else if self.act_all(plan) {
                return None;
            }
            self.happen();
            self.check();
        }
        panic!("no end\n{}", self.lines);
    }

    /// All that was told.
    pub fn story(mut self) -> String {
        let twice = self.moves.values().filter(|m| **m > 1).count();
        let moved = self.moves.len();
        let avoidable = self.avoidable;
        let twice = if twice > 0 { format!("{twice}, avoidably {avoidable}") } else { "0".to_owned() };
        let _ = writeln!(self.lines, "\npods moved: {moved}, more than once: {twice}");
        for group in self.snapshot.groups.values() {
            let zones: Vec<String> = group
                .zones
                .iter()
                .map(|z| {
                    let there = |i: &&Instance| i.zone == *z && i.lifecycle == Lifecycle::InService;
                    format!("{z} {}", self.snapshot.instances_of(&group.name).filter(there).count())
                })
                .collect();
            let tags: Vec<String> =
                group.tags.keys().filter(|k| k.starts_with("fastnode:")).map(ToString::to_string).collect();
            let left = if tags.is_empty() { "nothing".into() } else { tags.join(" ") };
            let _ = writeln!(
                self.lines,
                "{}: desired {}, {}; tags left: {left}",
                group.name,
                group.desired,
                zones.join(", ")
            );
        }
        self.lines
    }

    pub fn tell(&mut self, text: &str) {
        self.line(&format!("        {text}"));
    }

    fn line(&mut self, text: &str) {
        let at = self.now.duration_since(self.start).as_secs();
        let _ = writeln!(self.lines, "{:02}:{:02}:{:02}  {text}", at / 3600, at / 60 % 60, at % 60);
    }

    fn tell_plan(&mut self, plan: &Plan) {
        for block in &plan.blocks {
            let text = format!("held: {}: {}", block.subject, block.reason);
            if self.told.insert(text.clone()) {
                self.line(&text);
            }
        }
        for wait in &plan.waits {
            if let plan::WaitReason::Deregistration { .. } = &wait.reason {
                let text = format!("{} waits for {}", wait.subject, wait.reason);
                if self.told.insert(text.clone()) {
                    self.line(&text);
                }
            }
            if let plan::WaitReason::Standstill { why } = &wait.reason {
                let text = format!("{} waits for a change: {why}", wait.subject);
                if self.told.insert(text.clone()) {
                    self.line(&text);
                }
            }
            if let plan::WaitReason::Budget { pod, budget } = &wait.reason {
                let text = format!(
                    "{} waits for budget {budget} to let {} go",
                    wait.subject,
                    pod.name.split('-').next().unwrap()
                );
                if self.told.insert(text.clone()) {
                    self.line(&text);
                }
            }
        }
    }

    /// Does everything a plan wants; whether it crashed.
    fn act_all(&mut self, plan: Plan) -> bool {
        // Evictions of a node, and marks of one kind, are told in one line each.
        let mut evictions: BTreeMap<NodeName, u32> = BTreeMap::new();
        let mut marks: BTreeMap<(NodePurpose, String), Vec<String>> = BTreeMap::new();
        for planned in &plan.actions {
            match &planned.action {
                Action::Evict { node, .. } => *evictions.entry(node.clone()).or_default() += 1,
                Action::ChangeNode { node, purpose, .. } if *purpose != NodePurpose::Cordon => {
                    marks.entry((*purpose, planned.reason.to_string())).or_default().push(node.to_string());
                }
                action => {
                    let zone = match action {
                        Action::ChangeNode { node, .. } => format!(" ({})", self.zone(node)),
                        _ => String::new(),
                    };
                    self.line(&format!("{action}{zone}: {}", planned.reason));
                }
            }
        }
        for (node, n) in evictions {
            self.line(&format!("evict {n} pods from {node}"));
        }
        for ((purpose, reason), nodes) in marks {
            self.line(&format!("{purpose} {}: {reason}", nodes.join(", ")));
        }
        for planned in plan.actions {
            if self.act(&planned.action) {
                return true;
            }
        }
        false
    }

    fn act(&mut self, action: &Action) -> bool {
        if let Some(words) = self.crash_at
            && action.to_string().contains(words)
        {
            self.crash_at = None;
            self.line("fastnode crashes: the call took effect, its ledger still shows the step in hand");
            self.snapshot.took_effect(action, self.now);
            let (group, before) = match action {
                Action::Resize { group, before, .. } => (group, before.clone()),
                Action::Terminate { group, decrement: Some(ledgers), .. } => (group, ledgers.0.clone()),
                other => panic!("no ledger in {other}"),
            };
            self.snapshot.took_effect(&Action::SettleLedger { group: group.clone(), ledger: before }, self.now);
            self.after_terminate(action);
            // What survives is what AWS and Kubernetes hold: a snapshot read from scratch.
            let text = serde_json::to_string(&self.snapshot).unwrap();
            self.snapshot = serde_json::from_str(&text).unwrap();
            self.snapshot.reindex();
            return true;
        }
        match action {
            Action::ChangeNode { node, uid, change, purpose } => {
                if matches!(purpose, NodePurpose::Cordon) {
                    self.touched.insert(node.clone());
                }
                let mut node = self.snapshot.nodes[node].clone();
                assert_eq!(node.uid, *uid);
                if let Some(unschedulable) = change.unschedulable {
                    node.unschedulable = unschedulable;
                }
                apply(&mut node.labels, &change.labels);
                apply(&mut node.annotations, &change.annotations);
                if let Some(key) = &change.remove_taint {
                    node.taints.retain(|t| t.key != *key);
                }
                node.taints.extend(change.add_taint.clone());
                self.snapshot.apply(Fact::Node(node));
                return false;
            }
            Action::Evict { pod, uid, .. } => {
                let record = self.snapshot.pods[uid].clone();
                assert!(record.deleting.is_none(), "evicting {pod} twice");
                let refusing = self.snapshot.budgets_over(&record).find(|b| record.flags.ready && b.allowed <= 0);
                if let Some(budget) = refusing {
                    panic!("{} would refuse {pod}\n{}", budget.key, self.lines);
                }
            }
            Action::Terminate { node: Some((node, _)), .. } => {
                let record = &self.snapshot.nodes[node];
                assert!(record.unschedulable, "{node} is terminated uncordoned");
                let left: Vec<_> = self.snapshot.pods_on(node).filter(|p| !p.is_daemon() && !p.is_finished()).collect();
                assert!(left.is_empty(), "{node} is terminated with {left:?}");
            }
            _ => {}
        }
        self.snapshot.took_effect(action, self.now);
        if let Action::Evict { uid, .. } | Action::DeletePod { uid, .. } = action {
            let mut pod = (*self.snapshot.pods[uid]).clone();
            pod.deleting = Some(self.now + seconds(10));
            let pod_node = pod.node.clone();
            self.snapshot.apply(Fact::Pod(pod));
            if pod_node.is_none() || pod_node != self.hanging {
                self.later(10, Next::PodGone(uid.clone()));
            }
            self.judge_budgets();
        }
        self.after_terminate(action);
        false
    }

    fn after_terminate(&mut self, action: &Action) {
        if let Action::Terminate { instance, .. } = action
            && self.linger.as_ref() != Some(instance)
        {
            self.later(30, Next::Gone(instance.clone()));
        }
    }

    /// What is due now, and what the groups launch by themselves.
    fn happen(&mut self) {
        while let Some(entry) = self.next.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            match entry.remove() {
                Next::InService(id) => self.change_instance(id.as_str(), |i| i.lifecycle = Lifecycle::InService),
                Next::Join(id, fate) => {
                    let name = id.as_str().trim_start_matches("i-").to_owned();
                    self.join(&id, &name, self.now);
                    self.later(5, Next::Ready(id, fate));
                }
                Next::Ready(id, fate) => {
                    self.ready(&id, fate);
                    let node = self.snapshot.node_of(&id).unwrap().name.clone();
                    let how = if fate == Fate::Restarts { "Ready, but aws-node has restarted" } else { "Ready" };
                    self.tell(&format!("{node} is {how}"));
                }
                Next::Gone(id) => self.gone(&id),
                Next::PodGone(uid) => self.pod_gone(&uid),
                Next::PodReady(uid) => {
                    let mut pod = (*self.snapshot.pods[&uid]).clone();
                    (pod.phase, pod.flags.ready, pod.ready_since) = (Phase::Running, true, Some(self.now));
                    self.snapshot.apply(Fact::Pod(pod));
                    self.judge_budgets();
                }
                Next::Story(story) => story(self),
            }
        }
        let names: Vec<GroupName> = self.snapshot.groups.keys().cloned().collect();
        names.iter().for_each(|name| self.launch(name));
        // A reading of the groups: what is missing, and what leaves, is so from now on.
        let states = self.states();
        self.snapshot.apply_groups(states, self.now);
    }

    fn launch(&mut self, name: &GroupName) {
        loop {
            let group = self.snapshot.groups[name].clone();
            let counted = |i: &&Instance| i.lifecycle.counts_in_desired();
            let there: Vec<&Instance> = self.snapshot.instances_of(name).filter(counted).collect();
            if self.no_capacity || group.is_suspended(Process::LAUNCH) || there.len() as u32 >= group.desired {
                return;
            }
            let zone = group.zones.iter().min_by_key(|z| there.iter().filter(|i| i.zone == **z).count()).unwrap();
            self.launches += 1;
            let id = InstanceId::from(format!("i-new-{zone}{}", self.launches));
            let fate = self.fates.get(&self.launches).copied().unwrap_or(Fate::Joins);
            let version = match &group.target {
                Target::Template(t) => t.resolved.clone().unwrap(),
                _ => "4".into(),
            };
            let mut new = instance(&id, name.as_str(), zone.as_str(), &version, self.now);
            new.lifecycle = Lifecycle::Pending;
            new.image = self.image.clone();
            let mut states = self.states();
            states.iter_mut().find(|s| s.group.name == *name).unwrap().instances.push(new);
            self.snapshot.apply_groups(states, self.now);
            self.tell(&format!("{name} launches {id} in {zone}"));
            self.later(25, Next::InService(id.clone()));
            if fate != Fate::NeverJoins {
                self.later(40, Next::Join(id, fate));
            }
        }
    }

    pub fn join(&mut self, id: &InstanceId, name: &str, created: Timestamp) {
        let node = Node {
            name: name.into(),
            uid: format!("uid-{name}").into(),
            instance: Some(id.clone()),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            taints: Vec::new(),
            unschedulable: false,
            conditions: BTreeMap::new(),
            kubelet: "v1.36.3".into(),
            allocatable: BTreeMap::from([("cpu".into(), 4000), ("memory".into(), 1 << 34)]),
            created,
            deleting: false,
        };
        self.snapshot.apply(Fact::Node(node));
    }

    pub fn ready(&mut self, id: &InstanceId, fate: Fate) {
        let mut node = self.snapshot.node_of(id).unwrap().clone();
        let since = Some(self.now.max(node.created));
        let condition =
            Condition { status: ConditionStatus::True, reason: "KubeletReady".into(), message: None, since };
        node.conditions.insert("Ready".into(), condition);
        let name = node.name.clone();
        self.snapshot.apply(Fact::Node(node));
        let restarts = u32::from(fate == Fate::Restarts);
        self.add_pod("aws-node", Some(&name), |pod| {
            pod.owner = Some(Arc::new(Owner { kind: "DaemonSet".into(), name: "aws-node".into(), uid: "ds".into() }));
            pod.key = ObjectKey::new("kube-system", &pod.key.name);
            pod.revision = Some("1".into());
            pod.flags.critical = true;
            pod.tolerates_cordon = true;
            let state = ContainerState::Running(since);
            let name = "aws-node".into();
            pod.containers = vec![Container { name, init: false, restarts, ready: true, state, last: None }];
        });
    }

    pub fn gone(&mut self, id: &InstanceId) {
        self.tell(&format!("{id} is gone"));
        if let Some(node) = self.snapshot.node_of(id).map(|n| n.name.clone()) {
            let pods: Vec<Uid> = self.snapshot.pods_on(&node).map(|p| p.uid.clone()).collect();
            pods.into_iter().for_each(|uid| self.snapshot.apply(Fact::PodGone(uid)));
            self.snapshot.apply(Fact::NodeGone(node));
        }
        let mut states = self.states();
        states.iter_mut().for_each(|s| s.instances.retain(|i| i.id != *id));
        self.snapshot.apply_groups(states, self.now);
    }

    fn pod_gone(&mut self, uid: &Uid) {
        let Some(old) = self.snapshot.pods.get(uid).cloned() else { return };
        self.snapshot.apply(Fact::PodGone(uid.clone()));
        let app = old.owner.as_ref().unwrap().name.clone();
        // The scheduler: not where it is cordoned, rather not where it is soft-tainted, else where it is emptiest.
        let fits = |n: &&Node| n.ready() == ConditionStatus::True && !n.unschedulable;
        let load = |n: &&Node| (!n.taints.is_empty(), self.snapshot.pods_on(&n.name).count(), n.name.clone());
        let node = self.snapshot.nodes.values().filter(fits).min_by_key(load).map(|n| n.name.clone());
        let origin: Text = old.labels.get("origin").cloned().unwrap_or_else(|| old.key.name.clone());
        *self.moves.entry(origin.clone()).or_default() += 1;
        let known = self.alternatives.remove(&origin).and_then(|n| self.snapshot.nodes.get(&n));
        self.avoidable += u32::from(known.is_some_and(|n| fits(&n) && self.is_current(n)));
        let new = |n: &&Node| fits(n) && self.is_current(n);
        let other = self.snapshot.nodes.values().filter(new).find(|n| Some(&n.name) != node.as_ref());
        if let Some(other) = other.map(|n| n.name.clone()) {
            self.alternatives.insert(origin.clone(), other);
        }
        let new = self.add_pod(&app, node.as_ref(), |pod| {
            let mut labels = (*pod.labels).clone();
            labels.insert("origin".into(), origin);
            pod.labels = Arc::new(labels);
            (pod.phase, pod.flags.ready) = (Phase::Pending, false);
        });
        self.later(5, Next::PodReady(new));
    }

    /// Whether a node was launched from what its group launches now.
    fn is_current(&self, node: &Node) -> bool {
        let instance = node.instance.as_ref().and_then(|id| self.snapshot.instances.get(id));
        instance.is_some_and(|i| match (&self.snapshot.groups[&i.group].target, &i.source) {
            (Target::Template(target), LaunchSource::Template { version, .. }) => {
                target.resolved.as_ref() == Some(version)
            }
            _ => false,
        })
    }

    /// What the disruption controller counts.
    fn judge_budgets(&mut self) {
        for mut budget in self.snapshot.budgets.values().cloned().collect::<Vec<_>>() {
            let over = |p: &&Arc<Pod>| {
                p.key.namespace == budget.key.namespace && budget.selector.as_ref().unwrap().matches(&p.labels)
            };
            let pods: Vec<&Arc<Pod>> =
                self.snapshot.pods.values().filter(over).filter(|p| p.deleting.is_none()).collect();
            let healthy = pods.iter().filter(|p| p.flags.ready).count() as i32;
            let expected = self.snapshot.pods.values().filter(over).count() as i32;
            let allowed = (healthy - budget.desired).max(0);
            if (budget.healthy, budget.expected, budget.allowed) != (healthy, expected, allowed) {
                (budget.healthy, budget.expected, budget.allowed) = (healthy, expected, allowed);
                self.snapshot.apply(Fact::Budget(budget));
            }
        }
    }

    /// Functional nodes of a group never fall below what the policy promises.
    fn check(&self) {
        if !self.promise {
            return;
        }
        for (name, own) in &self.own {
            let serves = |i: &&Instance| {
                i.lifecycle == Lifecycle::InService
                    && self
                        .snapshot
                        .node_of(&i.id)
                        .is_some_and(|n| n.ready() == ConditionStatus::True && !n.unschedulable)
            };
            let serving = self.snapshot.instances_of(name).filter(serves).count() as u32;
            let promised = own - self.policy.unavailable.of_down(*own);
            assert!(serving >= promised, "{name}: {serving} serve, {promised} are promised\n{}", self.lines);
        }
    }

    fn zone(&self, node: &NodeName) -> String {
        let id = self.snapshot.nodes.get(node).and_then(|n| n.instance.as_ref());
        id.and_then(|id| self.snapshot.instances.get(id)).map_or_else(String::new, |i| i.zone.to_string())
    }

    fn states(&self) -> Vec<GroupState> {
        let of = |g: &NodeGroup| GroupState {
            group: g.clone(),
            instances: self.snapshot.instances_of(&g.name).cloned().collect(),
        };
        self.snapshot.groups.values().map(of).collect()
    }

    fn later(&mut self, after: i64, next: Next) {
        self.count += 1;
        self.next.insert((self.now + seconds(after), self.count), next);
    }
}

fn apply(have: &mut BTreeMap<Text, Text>, changes: &BTreeMap<Text, Option<Text>>) {
    for (key, value) in changes {
        match value {
            Some(value) => have.insert(key.clone(), value.clone()),
            None => have.remove(key),
        };
    }
}

fn instance(id: &InstanceId, group: &str, zone: &str, version: &str, launched: Timestamp) -> Instance {
    Instance {
        id: id.clone(),
        group: group.into(),
        zone: zone.into(),
        instance_type: "m5.large".into(),
        lifecycle: Lifecycle::InService,
        healthy: true,
        protected: false,
        source: LaunchSource::Template { id: "lt-1".into(), version: version.into() },
        launched_at: Some(launched),
        image: None,
    }
}

fn aws_node() -> DaemonSet {
    DaemonSet {
        uid: "ds".into(),
        key: ObjectKey::new("kube-system", "aws-node"),
        labels: BTreeMap::new(),
        strategy: UpdateStrategy::RollingUpdate,
        node_name: None,
        node_selector: BTreeMap::new(),
        affinity: Vec::new(),
        has_affinity: false,
        tolerations: vec![Toleration { key: None, exists: true, value: None, effect: None }],
        host_network: true,
        priority_class: Some("system-node-critical".into()),
        deleting: false,
        fixes: Default::default(),
    }
}
