//! Keeping the derived state up: what became dirty is derived anew, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{GroupName, InstanceId, NodeName, Target, Uid};
use crate::plan::ActionKey;
use crate::plan::candidates::{Judge, group_hold, has_moved};
use crate::policy::Policy;

use super::derived::{Derived, GroupView};
use super::snapshot::{RotationRecord, Snapshot};

/// What changed since the last refresh.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Dirty {
    /// Everything.
    pub(super) all: bool,
    /// The groups' own records.
    pub(super) groups: bool,
    /// Every node that is judged by the gate.
    pub(super) gates: bool,
    /// Instances.
    pub(super) instances: BTreeSet<InstanceId>,
    /// Nodes.
    pub(super) nodes: BTreeSet<NodeName>,
    /// Something that a plan reads straight from the records.
    pub(super) relevant: bool,
}

/// What the last refresh was made for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    policy: Option<Policy>,
    rotation: Option<Arc<RotationRecord>>,
    in_flight: BTreeSet<ActionKey>,
    refusals: BTreeMap<Uid, u32>,
}

impl Snapshot {
    /// Derives anew what has changed; `false` where nothing that a plan reads has.
    ///
    /// A node that is not in hand costs nothing when its pods come and go, unless one of them could hold it.
    pub fn refresh(&mut self, policy: &Policy) -> bool {
        let mut dirty = std::mem::take(&mut self.dirty);
        if self.seen.policy.as_ref() != Some(policy) {
            self.seen.policy = Some(policy.clone());
            dirty.all = true;
        }
        self.compare_rotation(&mut dirty);
        self.compare_in_flight(&mut dirty);
        self.compare_refusals(&mut dirty);

        let mut derived = std::mem::take(&mut self.derived);
        if dirty.groups && !dirty.all {
            dirty.all = !self.update_groups(policy, &mut derived);
        }
        let relevant = if dirty.all {
            derived = self.derive(policy);
            true
        } else {
            self.update_members(policy, &mut derived, &dirty)
        };
        self.derived = derived;
        relevant || dirty.relevant || dirty.groups
    }

    /// What a plan reads, as of the last [`Snapshot::refresh`].
    pub fn derived(&self) -> &Derived {
        &self.derived
    }

    fn compare_rotation(&mut self, dirty: &mut Dirty) {
        if self.seen.rotation == self.rotation {
            return;
        }
        dirty.relevant = true;
        match (&self.seen.rotation, &self.rotation) {
            (Some(old), Some(new)) if old.started == new.started && old.targets == new.targets => {
                dirty.nodes.extend(changed_keys(&old.skipped, &new.skipped));
                dirty.instances.extend(changed_keys(&old.failed, &new.failed));
                dirty.instances.extend(changed_keys(&old.protection, &new.protection));
            }
            _ => dirty.all = true,
        }
        self.seen.rotation = self.rotation.clone();
    }

    fn compare_in_flight(&mut self, dirty: &mut Dirty) {
        let seen = &self.seen.in_flight;
        if seen.len() == self.in_flight.len() && seen.iter().all(|k| self.in_flight.contains_key(k)) {
            return;
        }
        dirty.relevant |= seen.iter().any(|k| !self.in_flight.contains_key(k));
        self.seen.in_flight = self.in_flight.keys().cloned().collect();
    }

    /// A refused eviction shows that what we know of its budget is out of date: until the budget is observed
    /// again, nothing is taken from it.
    fn compare_refusals(&mut self, dirty: &mut Dirty) {
        if self.refusals.is_empty() && self.seen.refusals.is_empty() {
            return;
        }
        let now: BTreeMap<Uid, u32> = self.refusals.iter().map(|(uid, r)| (uid.clone(), r.attempts)).collect();
        for uid in changed_keys(&self.seen.refusals, &now) {
            dirty.relevant = true;
            let Some(pod) = self.pods.get(&uid).filter(|_| now.contains_key(&uid)) else { continue };
            let over: Vec<_> = self.budgets_over(pod).map(|b| (b.key.clone(), b.allowed.max(0) as u32)).collect();
            for (budget, allowed) in over {
                let spent = self.spent.entry(budget).or_default();
                *spent = (*spent).max(allowed);
            }
        }
        self.seen.refusals = now;
    }

    /// The target that members of a group are compared with.
    fn fixed_target<'a>(&'a self, group: &GroupName, now: &'a Target) -> &'a Target {
        self.rotation.as_ref().and_then(|r| r.targets.get(group)).unwrap_or(now)
    }

    /// Brings the groups' own facts up to date; `false` where a change reaches all members.
    fn update_groups(&self, policy: &Policy, derived: &mut Derived) -> bool {
        let in_scope = |name: &GroupName| policy.scope.groups.is_empty() || policy.scope.groups.contains(name);
        if !self.groups.keys().filter(|g| in_scope(g)).eq(derived.groups.keys()) {
            return false;
        }
        for (name, view) in &mut derived.groups {
            let Some(group) = self.groups.get(name) else { return false };
            view.hold = group_hold(&self.cluster, group);
            view.target_moved = has_moved(self.fixed_target(name, &group.target), &group.target);
        }
        true
    }

    fn update_members(&self, policy: &Policy, derived: &mut Derived, dirty: &Dirty) -> bool {
        let mut ids = dirty.instances.clone();
        let instance_of = |name: &NodeName| self.nodes.get(name).and_then(|n| n.instance.clone());
        ids.extend(dirty.nodes.iter().filter_map(instance_of));
        if dirty.gates {
            ids.extend(derived.groups.values().flat_map(|g| g.young.keys().cloned()));
        }
        if ids.is_empty() {
            return false;
        }
        let judge = Judge { policy, snapshot: self, started: self.started() };
        let mut changed = false;
        for id in &ids {
            let member = self.instances.get(id).and_then(|instance| {
                derived.groups.get(&instance.group)?;
                let group = self.groups.get(&instance.group)?;
                Some(judge.member(group, instance, self.joined(id)))
            });
            changed |= derived.put(id, member);
        }
        changed
    }

    fn started(&self) -> jiff::Timestamp {
        self.rotation.as_ref().map(|r| r.started).or(self.groups_read).unwrap_or(jiff::Timestamp::MAX)
    }

    /// Derives everything.
    pub(super) fn derive(&self, policy: &Policy) -> Derived {
        let mut groups = BTreeMap::new();
        for (name, group) in &self.groups {
            if policy.scope.groups.is_empty() || policy.scope.groups.contains(name) {
                let hold = group_hold(&self.cluster, group);
                let target_moved = has_moved(self.fixed_target(name, &group.target), &group.target);
                groups.insert(name.clone(), GroupView { hold, target_moved, ..GroupView::default() });
            }
        }
        let judge = Judge { policy, snapshot: self, started: self.started() };
        // Both are in the order of the ids: joined by going along, not by look-ups.
        let mut nodes = self.index.nodes_of_instance.iter().peekable();
        let mut members = Vec::with_capacity(self.instances.len());
        for (id, instance) in &self.instances {
            while nodes.next_if(|(of, _)| *of < id).is_some() {}
            let joined = nodes.next_if(|(of, _)| *of == id).and_then(|(_, nodes)| nodes.last());
            let group = self.groups.get(&instance.group).filter(|group| groups.contains_key(&group.name));
            if let Some(group) = group {
                members.push((id.clone(), Arc::new(judge.member(group, instance, joined))));
            }
        }
        Derived::of(groups, members)
    }
}

fn changed_keys<K: Ord + Clone, V: PartialEq>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> Vec<K> {
    let gone = old.keys().filter(|k| !new.contains_key(k));
    let changed = new.iter().filter(|(k, v)| old.get(k) != Some(v)).map(|(k, _)| k);
    gone.chain(changed).cloned().collect()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::cloud::GroupState;
    use crate::cluster::{Fact, Kind};
    use crate::model::*;
    use jiff::Timestamp;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    /// A fact about one of a few objects, so that they are changed, lose and find each other again and again.
    fn fact(rng: &mut ChaCha8Rng) -> Fact {
        let some = |rng: &mut ChaCha8Rng, n: u32| rng.random_range(0..n);
        let node = NodeName::from(format!("n{}", some(rng, 6)));
        let pod = Uid::from(format!("p{}", some(rng, 12)));
        match some(rng, 14) {
            0..=3 => Fact::Node(random_node(rng, node)),
            4 => Fact::NodeGone(node),
            5..=8 => Fact::Pod(random_pod(rng, pod, node)),
            9 => Fact::PodGone(pod),
            10 => {
                let key = ObjectKey::new(NAMESPACES[some(rng, 2) as usize], &format!("b{}", some(rng, 3)));
                let selector = random_selector(rng);
                let (desired, expected) = (some(rng, 3) as i32, some(rng, 3) as i32);
                let (allowed, healthy) = (some(rng, 2) as i32, 2);
                let (observed, unhealthy_always) = (true, rng.random_bool(0.2));
                Fact::Budget(Budget { key, selector, allowed, healthy, desired, expected, observed, unhealthy_always })
            }
            11 => Fact::BudgetGone(ObjectKey::new(NAMESPACES[some(rng, 2) as usize], &format!("b{}", some(rng, 3)))),
            12 => Fact::VolumeAttachment(VolumeAttachment {
                name: format!("v{}", some(rng, 4)).into(),
                node,
                volume: None,
                attached: true,
            }),
            _ => Fact::VolumeAttachmentGone(format!("v{}", some(rng, 4)).into()),
        }
    }

    const NAMESPACES: [&str; 2] = ["default", "shop"];

    fn random_labels(rng: &mut ChaCha8Rng) -> Labels {
        let values = ["", "x", "y"];
        let labels = ["app", "tier"].map(|key| (key, values[rng.random_range(0..values.len())]));
        let given = labels.into_iter().filter(|(_, value)| !value.is_empty());
        given.map(|(key, value)| (key.into(), value.into())).collect()
    }

    /// None, one of everything, or requirements of which the first may be one that finds pods by a label.
    fn random_selector(rng: &mut ChaCha8Rng) -> Option<Selector> {
        let requirement = |key: &str, operator, values: &[&str]| Requirement {
            key: key.into(),
            operator,
            values: values.iter().map(|v| (*v).into()).collect(),
        };
        let all = [
            requirement("app", Operator::In, &["x"]),
            requirement("app", Operator::In, &["x", "y"]),
            requirement("tier", Operator::NotIn, &["x"]),
            requirement("tier", Operator::Exists, &[]),
        ];
        let chosen = all.into_iter().filter(|_| rng.random_bool(0.3)).collect();
        rng.random_bool(0.9).then_some(Selector(chosen))
    }

    fn random_node(rng: &mut ChaCha8Rng, name: NodeName) -> Node {
        let mut annotations = std::collections::BTreeMap::new();
        let marks = ["draining", "replacement", "failed", "skipped", "", ""];
        let mark = marks[rng.random_range(0..marks.len())];
        if !mark.is_empty() {
            annotations.insert(marks::STATE.into(), mark.into());
        }
        let status = if rng.random_bool(0.7) { ConditionStatus::True } else { ConditionStatus::False };
        let ready = Condition { status, reason: "r".into(), message: None, since: Some(at(5)) };
        let taint = Taint { key: marks::OUTDATED_TAINT.into(), value: None, effect: TaintEffect::PreferNoSchedule };
        Node {
            uid: name.text().clone().as_ref().into(),
            name,
            instance: rng.random_bool(0.9).then(|| format!("i-{}", rng.random_range(0..6)).into()),
            labels: Labels::new(),
            annotations,
            taints: if rng.random_bool(0.5) { vec![taint] } else { vec![] },
            unschedulable: rng.random_bool(0.3),
            conditions: [("Ready".into(), ready)].into(),
            kubelet: "v1".into(),
            allocatable: std::collections::BTreeMap::new(),
            created: at(rng.random_range(-100..100)),
            deleting: false,
        }
    }

    fn random_pod(rng: &mut ChaCha8Rng, uid: Uid, node: NodeName) -> Pod {
        let kind = if rng.random_bool(0.3) { "DaemonSet" } else { "ReplicaSet" };
        let owner = Arc::new(Owner { kind: kind.into(), name: "o".into(), uid: "ds".into() });
        Pod {
            key: ObjectKey::new(NAMESPACES[usize::from(uid.as_str() > "p5")], uid.as_str()),
            uid,
            node: rng.random_bool(0.9).then_some(node),
            phase: if rng.random_bool(0.8) { Phase::Running } else { Phase::Succeeded },
            deleting: rng.random_bool(0.2).then(|| at(1)),
            owner: rng.random_bool(0.9).then_some(owner),
            labels: Arc::new(random_labels(rng)),
            flags: PodFlags {
                empty_dir: rng.random_bool(0.1),
                claims: rng.random_bool(0.3),
                not_safe_to_evict: rng.random_bool(0.1),
                ready: rng.random_bool(0.8),
                ..PodFlags::default()
            },
            containers: vec![Container {
                name: "main".into(),
                init: false,
                restarts: rng.random_range(0..3),
                ready: true,
                state: ContainerState::Running(rng.random_bool(0.8).then(|| at(rng.random_range(0..9)))),
                last: None,
            }],
            revision: None,
            cpu: 1,
            memory: 1,
            tolerates_cordon: rng.random_bool(0.1),
            unschedulable: None,
            created: at(0),
            scheduled: None,
            initialized: None,
            ready_since: None,
        }
    }

    fn reading(rng: &mut ChaCha8Rng) -> Vec<GroupState> {
        let version = if rng.random_bool(0.8) { "4" } else { "5" };
        let template = TemplateRef { id: "lt".into(), version: version.into(), resolved: None, image: None };
        let group = |name: &str, protected: bool| NodeGroup {
            zones: vec!["a".into(), "b".into()],
            target: Target::Template(template.clone()),
            new_instances_protected: protected,
            ..NodeGroup::plain(name, 4)
        };
        let states = ["InService", "InService", "InService", "Pending", "Terminating", "Standby", "Warmed:Stopped"];
        let mut groups = vec![
            GroupState { group: group("g0", false), instances: vec![] },
            GroupState { group: group("g1", rng.random_bool(0.1)), instances: vec![] },
        ];
        for n in 0..6 {
            if rng.random_bool(0.2) {
                continue;
            }
            let (of, name) = if n % 2 == 0 { (0, "g0") } else { (1, "g1") };
            groups[of].instances.push(Instance {
                id: format!("i-{n}").into(),
                group: name.into(),
                zone: if rng.random_bool(0.5) { "a".into() } else { "b".into() },
                instance_type: "m5".into(),
                lifecycle: Lifecycle::parse(states[rng.random_range(0..states.len())]),
                healthy: true,
                protected: rng.random_bool(0.2),
                source: LaunchSource::Template {
                    id: "lt".into(),
                    version: if rng.random_bool(0.6) { "3".into() } else { "4".into() },
                },
                launched_at: Some(at(rng.random_range(-100..100))),
                image: None,
            });
        }
        groups
    }

    const LISTED: [Kind; 3] = [Kind::Pod, Kind::Budget, Kind::Node];

    #[test]
    fn what_is_kept_up_equals_what_is_derived_anew() {
        let policy = Policy::default();
        for seed in 0..150 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut snapshot = Snapshot::default();
            snapshot.apply_groups(reading(&mut rng), at(0));
            if rng.random_bool(0.8) {
                let targets = snapshot.groups.iter().map(|(n, g)| (n.clone(), g.target.clone())).collect();
                snapshot.rotation = Some(Arc::new(RotationRecord {
                    id: "r".into(),
                    started: at(0),
                    targets,
                    protection: BTreeMap::new(),
                    skipped: BTreeMap::new(),
                    failed: BTreeMap::new(),
                    ending: None,
                    mended: Default::default(),
                }));
            }
            snapshot.refresh(&policy);
            for step in 0..120 {
                match rng.random_range(0..12) {
                    0 => snapshot.apply_groups(reading(&mut rng), at(step)),
                    1 => {
                        if let Some(record) = snapshot.rotation.as_mut().map(Arc::make_mut) {
                            record.skipped.insert(format!("n{}", rng.random_range(0..6)).into(), "why".into());
                            record.failed.insert(format!("i-{}", rng.random_range(0..6)).into(), "why".into());
                        }
                    }
                    2 => snapshot.apply(Fact::Relisting(LISTED[rng.random_range(0..3)])),
                    3 => snapshot.apply(Fact::Synced(LISTED[rng.random_range(0..3)])),
                    _ => snapshot.apply(fact(&mut rng)),
                }
                snapshot.refresh(&policy);
                let mut anew = snapshot.clone();
                anew.reindex();
                assert_eq!(snapshot.index, anew.index, "seed {seed}, step {step}");
                assert_eq!(snapshot.derived, anew.derive(&policy), "seed {seed}, step {step}");
            }
        }
    }

    #[test]
    fn a_pod_that_cannot_matter_is_no_reason_to_plan() {
        let policy = Policy::default();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut snapshot = Snapshot::default();
        snapshot.apply_groups(reading(&mut rng), at(0));
        let mut node = random_node(&mut rng, "n0".into());
        node.annotations.clear();
        let pod = Pod {
            flags: PodFlags::default(),
            owner: Some(Arc::new(Owner { kind: "ReplicaSet".into(), name: "o".into(), uid: "o".into() })),
            tolerates_cordon: false,
            ..random_pod(&mut rng, "p0".into(), "n0".into())
        };
        snapshot.apply(Fact::Node(node.clone()));
        assert!(snapshot.refresh(&policy));
        snapshot.apply(Fact::Pod(pod.clone()));
        assert!(!snapshot.refresh(&policy));
        snapshot.apply(Fact::Node(node));
        assert!(!snapshot.refresh(&policy), "the same node again");
        snapshot.apply(Fact::Pod(Pod { owner: None, ..pod }));
        assert!(snapshot.refresh(&policy), "an unmanaged pod holds its node");
    }
}
