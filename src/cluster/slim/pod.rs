//! Pods.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Record;
use super::core::{Str, TextMap, TolerationJson, null_default};
use super::intern::Interner;
use super::meta::Meta;
use crate::cluster::Fact;
use crate::model::pod::tolerates_cordon;
use crate::model::{Container, ContainerState, LastRun, NodeName, Phase, Pod, PodFlags, Toleration, quantity};

const ZONE_KEYS: [&str; 2] = ["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"];

#[derive(Deserialize)]
pub(super) struct PodJson<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
    #[serde(borrow)]
    spec: Spec<'a>,
    #[serde(borrow, default)]
    status: Status<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(borrow)]
    node_name: Option<Str<'a>>,
    #[serde(default)]
    host_network: bool,
    #[serde(borrow)]
    priority_class_name: Option<Str<'a>>,
    #[serde(default, deserialize_with = "null_default")]
    volumes: Vec<Volume>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    topology_spread_constraints: Vec<Spread<'a>>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    tolerations: Vec<TolerationJson<'a>>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    containers: Vec<ContainerSpec<'a>>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    init_containers: Vec<ContainerSpec<'a>>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    overhead: TextMap<'a>,
    #[serde(borrow)]
    resources: Option<Resources<'a>>,
}

/// A generic `ephemeral` volume is a claim of the pod's own.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Volume {
    empty_dir: Option<IgnoredAny>,
    persistent_volume_claim: Option<IgnoredAny>,
    ephemeral: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spread<'a> {
    #[serde(borrow)]
    topology_key: Str<'a>,
    #[serde(borrow)]
    when_unsatisfiable: Str<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerSpec<'a> {
    #[serde(borrow)]
    restart_policy: Option<Str<'a>>,
    #[serde(borrow)]
    resources: Option<Resources<'a>>,
}

#[derive(Deserialize)]
struct Resources<'a> {
    #[serde(borrow, default, deserialize_with = "null_default")]
    requests: TextMap<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    #[serde(borrow, default, deserialize_with = "null_default")]
    phase: Str<'a>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    conditions: Vec<ConditionJson<'a>>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    container_statuses: Vec<ContainerStatus<'a>>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    init_container_statuses: Vec<ContainerStatus<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConditionJson<'a> {
    #[serde(borrow, rename = "type")]
    name: Str<'a>,
    #[serde(borrow)]
    status: Str<'a>,
    #[serde(borrow)]
    reason: Option<Str<'a>>,
    #[serde(borrow)]
    message: Option<Str<'a>>,
    last_transition_time: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerStatus<'a> {
    #[serde(borrow)]
    name: Str<'a>,
    #[serde(default)]
    restart_count: u32,
    #[serde(default)]
    ready: bool,
    #[serde(borrow, default, deserialize_with = "null_default")]
    state: State<'a>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    last_state: State<'a>,
}

#[derive(Default, Deserialize)]
struct State<'a> {
    #[serde(borrow)]
    waiting: Option<Waiting<'a>>,
    running: Option<Running>,
    #[serde(borrow)]
    terminated: Option<Terminated<'a>>,
}

#[derive(Deserialize)]
struct Waiting<'a> {
    #[serde(borrow, default, deserialize_with = "null_default")]
    reason: Str<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Running {
    started_at: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Terminated<'a> {
    #[serde(default)]
    exit_code: i32,
    #[serde(borrow, default, deserialize_with = "null_default")]
    reason: Str<'a>,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
}

impl<'a> Record<'a> for PodJson<'a> {
    fn meta(&self) -> &Meta<'a> {
        &self.metadata
    }

    fn fact(self, strings: &mut Interner) -> Option<Fact> {
        let Self { metadata, spec, status } = self;
        let owner = metadata.controller(strings);
        let ready = status.condition("Ready");
        let daemon = owner.as_ref().is_some_and(|o| &*o.kind == "DaemonSet");
        let containers = if daemon {
            let inits = status.init_container_statuses.iter().map(|c| (c, true));
            let mains = status.container_statuses.iter().map(|c| (c, false));
            inits.chain(mains).map(|(c, init)| c.model(init, strings)).collect()
        } else {
            Vec::new()
        };
        let labels = metadata.labels.to_labels(strings);
        let (cpu, memory) = spec.requests();
        let tolerations: Vec<Toleration> = spec.tolerations.iter().filter_map(|t| t.model(strings)).collect();
        Some(Fact::Pod(Pod {
            uid: metadata.owned_uid(),
            key: metadata.key(strings),
            node: spec.node_name.as_ref().filter(|n| !n.is_empty()).map(|n| NodeName::from(strings.text(n))),
            phase: phase(&status.phase),
            deleting: metadata.deletion_timestamp,
            owner,
            labels: strings.labels(labels),
            flags: PodFlags { ready: ready.is_some_and(|c| c.status.as_str() == "True"), ..flags(&metadata, &spec) },
            containers,
            revision: metadata.label("controller-revision-hash").map(|hash| strings.text(hash)),
            cpu,
            memory,
            tolerates_cordon: tolerates_cordon(&tolerations),
            unschedulable: status.unschedulable().map(|why| strings.text(why)),
            created: metadata.created(),
            scheduled: status.since("PodScheduled"),
            initialized: daemon.then(|| status.since("Initialized")).flatten(),
            ready_since: ready.and_then(|c| c.last_transition_time),
        }))
    }
}

fn phase(word: &str) -> Phase {
    match word {
        "Pending" => Phase::Pending,
        "Running" => Phase::Running,
        "Succeeded" => Phase::Succeeded,
        "Failed" => Phase::Failed,
        _ => Phase::Unknown,
    }
}

/// Everything but `ready`.
fn flags(metadata: &Meta<'_>, spec: &Spec<'_>) -> PodFlags {
    PodFlags {
        mirror: metadata.annotations.get("kubernetes.io/config.mirror").is_some(),
        empty_dir: spec.volumes.iter().any(|v| v.empty_dir.is_some()),
        host_network: spec.host_network,
        claims: spec.volumes.iter().any(|v| v.persistent_volume_claim.is_some() || v.ephemeral.is_some()),
        hard_zone_spread: spec
            .topology_spread_constraints
            .iter()
            .any(|s| ZONE_KEYS.contains(&s.topology_key.as_str()) && s.when_unsatisfiable.as_str() == "DoNotSchedule"),
        not_safe_to_evict: metadata.annotations.get("cluster-autoscaler.kubernetes.io/safe-to-evict") == Some("false"),
        // The value may be a duration as well as `true`; whatever is not a plain no counts.
        do_not_disrupt: metadata
            .annotations
            .get("karpenter.sh/do-not-disrupt")
            .is_some_and(|v| !v.is_empty() && v != "false"),
        ready: false,
        critical: spec
            .priority_class_name
            .as_ref()
            .is_some_and(|p| matches!(p.as_str(), "system-node-critical" | "system-cluster-critical")),
    }
}

impl Spec<'_> {
    /// CPU in millicores and memory in bytes, by `k8s.io/component-helpers/resource` `PodRequests`:
    /// containers and sidecars together, at least what any init container needs beside the sidecars before
    /// it, replaced by pod-level requests, plus the overhead.
    fn requests(&self) -> (u64, u64) {
        let mut total = Amounts::default();
        for container in &self.containers {
            total = total.plus(Amounts::of(container.resources.as_ref()));
        }
        let (mut sidecars, mut peak) = (Amounts::default(), Amounts::default());
        for container in &self.init_containers {
            let own = Amounts::of(container.resources.as_ref());
            if container.restart_policy.as_ref().is_some_and(|p| p.as_str() == "Always") {
                total = total.plus(own);
                sidecars = sidecars.plus(own);
                peak = peak.max(sidecars);
            } else {
                peak = peak.max(sidecars.plus(own));
            }
        }
        total = total.max(peak);
        if let Some(pod_level) = &self.resources {
            total.cpu = quantity_of(&pod_level.requests, "cpu").unwrap_or(total.cpu);
            total.memory = quantity_of(&pod_level.requests, "memory").unwrap_or(total.memory);
        }
        total = total.plus(Amounts::from_map(&self.overhead));
        (total.cpu, total.memory)
    }
}

#[derive(Clone, Copy, Default)]
struct Amounts {
    cpu: u64,
    memory: u64,
}

impl Amounts {
    fn of(resources: Option<&Resources<'_>>) -> Self {
        resources.map(|r| Self::from_map(&r.requests)).unwrap_or_default()
    }

    fn from_map(map: &TextMap<'_>) -> Self {
        Self {
            cpu: quantity_of(map, "cpu").unwrap_or_default(),
            memory: quantity_of(map, "memory").unwrap_or_default(),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self { cpu: self.cpu.saturating_add(other.cpu), memory: self.memory.saturating_add(other.memory) }
    }

    fn max(self, other: Self) -> Self {
        Self { cpu: self.cpu.max(other.cpu), memory: self.memory.max(other.memory) }
    }
}

fn quantity_of(map: &TextMap<'_>, name: &str) -> Option<u64> {
    let (_, text) = map.0.iter().find(|(key, _)| key.as_str() == name)?;
    if name == "cpu" { quantity::milli_cpu(text) } else { quantity::units(text) }
}

impl<'a> Status<'a> {
    fn condition(&self, name: &str) -> Option<&ConditionJson<'a>> {
        self.conditions.iter().find(|c| c.name.as_str() == name)
    }

    /// When a condition that is true became so.
    fn since(&self, name: &str) -> Option<Timestamp> {
        self.condition(name).filter(|c| c.status.as_str() == "True").and_then(|c| c.last_transition_time)
    }

    /// The scheduler's words, where it found no node.
    fn unschedulable(&self) -> Option<&str> {
        let scheduled = self.condition("PodScheduled")?;
        let refused = scheduled.status.as_str() == "False"
            && scheduled.reason.as_ref().is_some_and(|r| r.as_str() == "Unschedulable");
        refused.then(|| scheduled.message.as_ref().map_or("", |m| m.as_str()))
    }
}

impl ContainerStatus<'_> {
    fn model(&self, init: bool, strings: &mut Interner) -> Container {
        let state = match &self.state {
            State { running: Some(running), .. } => ContainerState::Running(running.started_at),
            State { terminated: Some(terminated), .. } => ContainerState::Terminated(terminated.model(strings)),
            // An empty state means waiting (`ContainerState` in k8s.io/api/core/v1).
            State { waiting, .. } => {
                ContainerState::Waiting(strings.text(waiting.as_ref().map_or("", |w| w.reason.as_str())))
            }
        };
        Container {
            name: strings.text(&self.name),
            init,
            restarts: self.restart_count,
            ready: self.ready,
            state,
            last: self.last_state.terminated.as_ref().map(|t| t.model(strings)),
        }
    }
}

impl Terminated<'_> {
    fn model(&self, strings: &mut Interner) -> LastRun {
        LastRun {
            exit_code: self.exit_code,
            reason: strings.text(&self.reason),
            started: self.started_at,
            finished: self.finished_at,
        }
    }
}
