//! DaemonSets: their manifests, and the controller that replaces pods when a template changes.

use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;

use crate::cluster::Fact;
use crate::model::{
    DaemonSet, Labels, NodeSelectorTerm, ObjectKey, Operator, Owner, Requirement, Revision, TaintEffect, Text,
    Toleration, Uid, UpdateStrategy, fix_marks,
};

use super::behaviour::{Role, roles};
use super::fields::Fields;
use super::kubelet::GROUP_LABEL;
use super::scenario::{DaemonSpec, Scenario};
use super::template;
use super::world::{Event, ORIGIN, World};

/// A DaemonSet.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) record: DaemonSet,
    pub(super) revision: Revision,
    pub(super) spec: DaemonSpec,
    /// DaemonSets that must be ready on a node before this one's containers can start.
    pub(super) after: Vec<usize>,
    pub(super) needs: Option<usize>,
    pub(super) pod_labels: Arc<Labels>,
    pub(super) owner: Arc<Owner>,
    /// As the API shows it, `managedFields`, `resourceVersion` and `status` aside.
    pub(super) manifest: Value,
    pub(super) fields: Fields,
    pub(super) resource_version: u64,
    /// What the containers of the pods made from now on do.
    pub(super) roles: Rc<[Role]>,
    /// The tag of their image.
    pub(super) tag: Text,
    /// `configurationValues` of its add-on.
    pub(super) configuration: Option<Text>,
}

fn record(spec: &DaemonSpec, uid: &Uid) -> DaemonSet {
    let groups: Vec<Text> = spec.groups.iter().map(|g| g.as_str().into()).collect();
    let term = |values: Vec<Text>| NodeSelectorTerm {
        labels: vec![Requirement { key: GROUP_LABEL.into(), operator: Operator::In, values }],
        fields: Vec::new(),
    };
    let everything = Toleration {
        key: None,
        exists: true,
        value: None,
        effect: (!spec.critical).then_some(TaintEffect::NoSchedule),
    };
    DaemonSet {
        uid: uid.clone(),
        key: ObjectKey::new(&spec.namespace, &spec.name),
        labels: [("k8s-app".into(), spec.name.as_str().into())].into(),
        strategy: if spec.on_delete { UpdateStrategy::OnDelete } else { UpdateStrategy::RollingUpdate },
        node_name: None,
        node_selector: Labels::new(),
        has_affinity: !groups.is_empty(),
        affinity: if groups.is_empty() { Vec::new() } else { vec![term(groups)] },
        tolerations: vec![everything],
        host_network: spec.host_network,
        priority_class: spec.critical.then(|| "system-node-critical".into()),
        deleting: false,
        fixes: Default::default(),
    }
}

fn revision(at: usize, owner: &Uid, number: i64) -> Revision {
    let n = number as u64;
    Revision {
        owner: owner.clone(),
        uid: Uid::from(format!("c0000000-0000-4000-8000-{:012x}", (n - 1) << 32 | at as u64)),
        number,
        hash: format!("{:09x}", 0x5f37_59df_u64 ^ at as u64 ^ (n - 1) << 16).into(),
    }
}

/// The tag of the first container's image.
fn tag(manifest: &Value) -> Text {
    let image = manifest["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
    image.rsplit_once(':').map_or("", |(_, tag)| tag).into()
}

fn pod_labels(record: &DaemonSet, revision: &Revision) -> Arc<Labels> {
    let mut labels = record.labels.clone();
    labels.insert("controller-revision-hash".into(), revision.hash.clone());
    labels.into()
}

impl World {
    pub(super) fn add_daemonsets(&mut self, scenario: &Scenario) {
        let created = ORIGIN.to_string();
        for (at, spec) in scenario.daemonsets.iter().enumerate() {
            let named = |name: &String| scenario.daemonsets.iter().position(|s| s.name == *name);
            let uid = Uid::from(format!("d5000000-0000-4000-8000-{at:012x}"));
            let record = record(spec, &uid);
            let revision = revision(at, &uid, 1);
            let manifest = template::manifest(spec, &self.version, uid.text(), &created);
            let (manager, operation) =
                if spec.addon { ("eks", "Apply") } else { ("kubectl-client-side-apply", "Update") };
            self.daemons.push(Daemon {
                spec: spec.clone(),
                after: spec.after.iter().filter_map(named).collect(),
                needs: spec.needs.as_ref().and_then(named),
                pod_labels: pod_labels(&record, &revision),
                owner: Arc::new(Owner { kind: "DaemonSet".into(), name: spec.name.as_str().into(), uid }),
                fields: Fields::all_of(&manifest, manager, operation),
                roles: roles(&manifest, spec, self.dhcp_domain.is_some()).into(),
                tag: tag(&manifest),
                record,
                revision,
                manifest,
                resource_version: 900 + at as u64,
                configuration: None,
            });
        }
    }

    /// A DaemonSet's manifest is another one: a changed template makes a new revision, which its pods follow.
    pub(super) fn put_daemonset(&mut self, at: usize, mut manifest: Value, fields: Fields) {
        self.resource_version += 1;
        let version = self.resource_version;
        let other_names = self.dhcp_domain.is_some();
        let set = &mut self.daemons[at];
        let changed = set.manifest["spec"] != manifest["spec"];
        let template_changed = set.manifest["spec"]["template"] != manifest["spec"]["template"];
        if changed {
            let generation = manifest["metadata"]["generation"].as_i64().unwrap_or(0);
            manifest["metadata"]["generation"] = (generation + 1).into();
        }
        let on_delete = manifest["spec"]["updateStrategy"]["type"] == "OnDelete";
        set.manifest = manifest;
        set.fields = fields;
        set.resource_version = version;
        let annotations = set.manifest["metadata"]["annotations"].as_object();
        let annotations = annotations.into_iter().flatten().filter_map(|(key, value)| Some((&**key, value.as_str()?)));
        set.record.fixes = fix_marks(annotations);
        set.record.strategy = if on_delete { UpdateStrategy::OnDelete } else { UpdateStrategy::RollingUpdate };
        if template_changed {
            set.revision = revision(at, &set.record.uid, set.revision.number + 1);
            set.pod_labels = pod_labels(&set.record, &set.revision);
            set.roles = roles(&set.manifest, &set.spec, other_names).into();
            set.tag = tag(&set.manifest);
        }
        self.tell(|| Fact::DaemonSet(self.daemons[at].record.clone()));
        if template_changed {
            self.tell(|| Fact::Revision(self.daemons[at].revision.clone()));
        }
        if changed {
            let delay = self.random.control.micros(20.0, 120.0);
            self.after(delay, Event::Roll(at));
        }
    }

    /// Its pods, by node: whether each is of the newest revision, and ready.
    fn pods_of(&self, daemon: usize) -> impl Iterator<Item = (u32, bool, bool)> {
        let newest = &self.daemons[daemon].revision.hash;
        let there = self.nodes.iter().filter(|n| !n.gone).filter_map(move |n| n.daemons.get(&daemon));
        there.filter_map(move |id| {
            let pod = &self.pods[*id as usize].as_ref()?.record;
            let whole = pod.flags.ready && pod.deleting.is_none();
            Some((*id, pod.revision.as_ref() == Some(newest), whole))
        })
    }

    /// A pod has become ready: the next ones may be replaced.
    pub(super) fn go_on_rolling(&mut self, daemon: usize) {
        if self.daemons[daemon].revision.number > 1 {
            self.after(10_000, Event::Roll(daemon));
        }
    }

    /// The DaemonSet controller: pods of earlier revisions are deleted while no more than `maxUnavailable` are missing
    /// or not ready; what is not ready anyway goes first.
    pub(super) fn roll(&mut self, daemon: usize) {
        let set = &self.daemons[daemon];
        if set.record.strategy == UpdateStrategy::OnDelete {
            return;
        }
        let pods: Vec<_> = self.pods_of(daemon).collect();
        let limit = match &set.manifest["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] {
            Value::String(text) => super::scenario::Count::Percent(text.clone()).of(pods.len() as u32),
            Value::Number(n) => n.as_u64().unwrap_or(1) as u32,
            _ => 1,
        };
        let missing = pods.iter().filter(|(_, _, whole)| !whole).count();
        let mut room = (limit.max(1) as usize).saturating_sub(missing);
        let old = |pod: &&(u32, bool, bool)| !pod.1;
        let broken: Vec<u32> = pods.iter().filter(old).filter(|p| !p.2).map(|p| p.0).collect();
        let mut going = broken;
        for (id, _, _) in pods.iter().filter(old).filter(|p| p.2) {
            if room == 0 {
                break;
            }
            room -= 1;
            going.push(*id);
        }
        for id in going {
            self.delete_pod(id, None);
        }
    }

    /// `status` of a DaemonSet.
    pub(super) fn daemonset_status(&self, daemon: usize) -> Value {
        let set = &self.daemons[daemon];
        let pods: Vec<_> = self.pods_of(daemon).collect();
        let count = |of: fn(&(u32, bool, bool)) -> bool| pods.iter().filter(|p| of(p)).count();
        let (updated, ready) = (count(|p| p.1), count(|p| p.2));
        serde_json::json!({
            "observedGeneration": set.manifest["metadata"]["generation"],
            "currentNumberScheduled": pods.len(),
            "desiredNumberScheduled": pods.len(),
            "numberMisscheduled": 0,
            "updatedNumberScheduled": updated,
            "numberReady": ready,
            "numberAvailable": ready,
            "numberUnavailable": pods.len() - ready,
        })
    }
}
