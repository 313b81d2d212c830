//! DaemonSets, workloads and their budgets, as a scenario file describes them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Spread, Wrong, check_spread, spread, wrong};

/// A number of pods, or a percentage of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Count {
    /// So many.
    Number(u32),
    /// `"50%"`.
    Percent(String),
}

impl Count {
    /// Of so many pods, rounded up, as the budget's controller rounds both fields.
    pub fn of(&self, pods: u32) -> u32 {
        match self {
            Self::Number(n) => *n,
            Self::Percent(text) => {
                let percent: u32 = text.trim_end_matches('%').parse().unwrap_or(100);
                (pods * percent).div_ceil(100)
            }
        }
    }

    fn check(&self, key: &str) -> Result<(), Wrong> {
        let Self::Percent(text) = self else { return Ok(()) };
        match text.strip_suffix('%').and_then(|p| p.parse::<u32>().ok()) {
            Some(0..=100) => Ok(()),
            _ => Err(wrong(key, text, "a number of pods, or a percentage from \"0%\" to \"100%\"")),
        }
    }
}

/// A PodDisruptionBudget over one workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetSpec {
    /// `minAvailable`.
    pub min_available: Option<Count>,
    /// `maxUnavailable`.
    pub max_unavailable: Option<Count>,
    /// `unhealthyPodEvictionPolicy: AlwaysAllow`.
    #[serde(default)]
    pub unhealthy_always: bool,
}

/// What keeps a workload's pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkloadKind {
    /// A Deployment: a replacement is made as soon as a pod is being deleted.
    #[default]
    Deployment,
    /// A StatefulSet: the same name again, once the old pod is gone.
    StatefulSet,
    /// A Job.
    Job,
    /// Nobody: an evicted pod is gone for good.
    Bare,
}

/// How a workload spreads over zones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ZoneSpread {
    /// Wherever there is room.
    None,
    /// Evenly where it can (`ScheduleAnyway`).
    #[default]
    Soft,
    /// At most one apart (`DoNotSchedule`).
    Hard,
}

/// How a workload opts out of disruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptOut {
    /// `cluster-autoscaler.kubernetes.io/safe-to-evict: "false"`.
    NotSafeToEvict,
    /// `karpenter.sh/do-not-disrupt: "true"`.
    DoNotDisrupt,
}

/// A workload, or many alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadSpec {
    /// Its name; with `copies`, each has a number after it.
    pub name: String,
    /// Its namespace.
    #[serde(default = "namespace")]
    pub namespace: String,
    /// What keeps its pods.
    #[serde(default)]
    pub kind: WorkloadKind,
    /// How many workloads like this; default 1.
    #[serde(default = "one")]
    pub copies: u32,
    /// Pods.
    pub replicas: u32,
    /// CPU a pod requests, millicores.
    #[serde(default = "cpu_m")]
    pub cpu_m: u64,
    /// Memory a pod requests, MiB.
    #[serde(default = "memory_mib")]
    pub memory_mib: u64,
    /// Runs on nodes of these groups only; empty is anywhere.
    #[serde(default)]
    pub groups: Vec<String>,
    /// How it spreads over zones.
    #[serde(default)]
    pub spread: ZoneSpread,
    /// Each pod has a volume, bound to the zone it is first placed in.
    #[serde(default)]
    pub volume: bool,
    /// Its pods have `emptyDir` data.
    #[serde(default)]
    pub empty_dir: bool,
    /// It opts out of disruption.
    pub opt_out: Option<OptOut>,
    /// Its budgets; more than one makes every eviction answer 500.
    #[serde(default)]
    pub budgets: Vec<BudgetSpec>,
    /// From an eviction to the pod's end; default the scenario's.
    pub grace_s: Option<Spread>,
    /// From binding to running; default the scenario's.
    pub start_s: Option<Spread>,
    /// From running to ready; default the scenario's.
    pub ready_s: Option<Spread>,
    /// Its pods end well after so long (Jobs).
    pub run_s: Option<Spread>,
}

fn namespace() -> String {
    "default".to_owned()
}
const fn one() -> u32 {
    1
}
const fn cpu_m() -> u64 {
    100
}
const fn memory_mib() -> u64 {
    128
}

impl WorkloadSpec {
    /// A Deployment of this name and size, everything else at its default.
    pub fn deployment(name: &str, replicas: u32) -> Self {
        Self {
            name: name.to_owned(),
            namespace: namespace(),
            kind: WorkloadKind::Deployment,
            copies: 1,
            replicas,
            cpu_m: cpu_m(),
            memory_mib: memory_mib(),
            groups: Vec::new(),
            spread: ZoneSpread::Soft,
            volume: false,
            empty_dir: false,
            opt_out: None,
            budgets: Vec::new(),
            grace_s: None,
            start_s: None,
            ready_s: None,
            run_s: None,
        }
    }

    pub(super) fn check(&self, groups: &BTreeSet<&str>) -> Result<(), Wrong> {
        if self.name.is_empty() {
            return Err(wrong("name", "empty", "a name"));
        }
        if !(1..=10_000).contains(&self.copies) {
            return Err(wrong("copies", self.copies, "1 to 10000"));
        }
        if self.replicas > 100_000 {
            return Err(wrong("replicas", self.replicas, "0 to 100000"));
        }
        if let Some(unknown) = self.groups.iter().find(|g| !groups.contains(g.as_str())) {
            return Err(wrong("groups", unknown, "names of groups in this scenario"));
        }
        if self.volume && self.kind != WorkloadKind::StatefulSet {
            return Err(wrong("volume", true, "false, or kind = \"statefulset\""));
        }
        for (at, budget) in self.budgets.iter().enumerate() {
            let key = |field: &str| format!("budgets[{at}].{field}");
            match (&budget.min_available, &budget.max_unavailable) {
                (Some(min), None) => min.check(&key("min_available"))?,
                (None, Some(max)) => max.check(&key("max_unavailable"))?,
                _ => {
                    return Err(wrong(
                        &format!("budgets[{at}]"),
                        "both or neither",
                        "min_available or max_unavailable",
                    ));
                }
            }
        }
        let spreads =
            [("grace_s", self.grace_s), ("start_s", self.start_s), ("ready_s", self.ready_s), ("run_s", self.run_s)];
        spreads.into_iter().try_for_each(|(key, s)| s.map_or(Ok(()), |s| check_spread(key, s)))
    }
}

/// A DaemonSet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DaemonSpec {
    /// Its name.
    pub name: String,
    /// Its namespace.
    #[serde(default = "kube_system")]
    pub namespace: String,
    /// Runs on nodes of these groups only; empty is all.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Priority `system-node-critical`.
    #[serde(default)]
    pub critical: bool,
    /// On the host's network.
    #[serde(default)]
    pub host_network: bool,
    /// CPU it requests, millicores.
    #[serde(default = "daemon_cpu_m")]
    pub cpu_m: u64,
    /// Memory it requests, MiB.
    #[serde(default = "daemon_memory_mib")]
    pub memory_mib: u64,
    /// From the moment it may start to its containers running.
    #[serde(default = "daemon_start_s")]
    pub start_s: Spread,
    /// From its containers running to ready.
    #[serde(default = "daemon_ready_s")]
    pub ready_s: Spread,
    /// DaemonSets whose pod must be ready on the node before the kubelet can start this one.
    #[serde(default)]
    pub after: Vec<String>,
    /// A DaemonSet without whose work its own containers fail (kube-proxy's service rules).
    pub needs: Option<String>,
    /// Its manifest has an init container that waits for what it needs; otherwise it starts, times out and restarts.
    #[serde(default)]
    pub waits: bool,
    /// How long its container lasts without what it needs, where its version exits at all.
    #[serde(default = "needs_timeout_s")]
    pub needs_timeout_s: Spread,
    /// Its container dials anew so often while it lasts, seconds; where left out its one dial, once begun too
    /// early, lasts for the whole time-out (its connection keeps to the way it was first sent).
    pub redial_s: Option<f64>,
    /// kube-proxy's manifest has `--hostname-override` with the Node's name; without it, it looks its Node up under
    /// its host name, which is another one where the scenario has a `dhcp_domain`.
    #[serde(default = "yes")]
    pub hostname_override: bool,
    /// The tag of its image, `v1.21.2-eksbuild.2`; what kube-proxy and aws-node do depends on it.
    pub version: Option<String>,
    /// EKS manages it as an add-on.
    #[serde(default)]
    pub addon: bool,
    /// `updateStrategy.rollingUpdate.maxUnavailable`.
    #[serde(default = "max_unavailable")]
    pub max_unavailable: Count,
    /// The Node is not Ready before it is: the network's agent.
    #[serde(default)]
    pub makes_ready: bool,
    /// The startup taint it takes off its node once ready.
    pub clears_taint: Option<String>,
    /// The CSI driver it registers once ready.
    pub csi_driver: Option<String>,
    /// Replaces its pods only when they are deleted.
    #[serde(default)]
    pub on_delete: bool,
}

fn kube_system() -> String {
    "kube-system".to_owned()
}
const fn daemon_cpu_m() -> u64 {
    50
}
const fn daemon_memory_mib() -> u64 {
    64
}
const fn daemon_start_s() -> Spread {
    spread(1.8, 0.5)
}
const fn daemon_ready_s() -> Spread {
    spread(1.5, 0.4)
}
const fn needs_timeout_s() -> Spread {
    spread(10.0, 1.0)
}
const fn yes() -> bool {
    true
}
fn max_unavailable() -> Count {
    Count::Percent("10%".to_owned())
}

impl DaemonSpec {
    /// A DaemonSet of this name, everything else at its default.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            namespace: kube_system(),
            groups: Vec::new(),
            critical: false,
            host_network: false,
            cpu_m: daemon_cpu_m(),
            memory_mib: daemon_memory_mib(),
            start_s: daemon_start_s(),
            ready_s: daemon_ready_s(),
            after: Vec::new(),
            needs: None,
            waits: false,
            needs_timeout_s: needs_timeout_s(),
            redial_s: None,
            hostname_override: true,
            version: None,
            addon: false,
            max_unavailable: max_unavailable(),
            makes_ready: false,
            clears_taint: None,
            csi_driver: None,
            on_delete: false,
        }
    }

    pub(super) fn check(&self, sets: &[Self], groups: &BTreeSet<&str>) -> Result<(), Wrong> {
        if self.name.is_empty() {
            return Err(wrong("name", "empty", "a name"));
        }
        let before: BTreeSet<_> = sets.iter().take_while(|s| s.name != self.name).map(|s| s.name.as_str()).collect();
        if let Some(unknown) = self.after.iter().chain(&self.needs).find(|n| !before.contains(n.as_str())) {
            let key = if self.after.contains(unknown) { "after" } else { "needs" };
            return Err(wrong(key, unknown, "a DaemonSet that is listed before this one"));
        }
        if let Some(unknown) = self.groups.iter().find(|g| !groups.contains(g.as_str())) {
            return Err(wrong("groups", unknown, "names of groups in this scenario"));
        }
        if let Some(redial) = self.redial_s.filter(|r| !(0.1..=3600.0).contains(r)) {
            return Err(wrong("redial_s", redial, "0.1 to 3600.0 seconds"));
        }
        self.max_unavailable.check("max_unavailable")?;
        let spreads = [("start_s", self.start_s), ("ready_s", self.ready_s), ("needs_timeout_s", self.needs_timeout_s)];
        spreads.into_iter().try_for_each(|(key, s)| check_spread(key, s))
    }
}

/// The DaemonSets of a stock cluster: the node agents of EKS, a DNS cache and a log shipper.
pub(super) fn stock_daemonsets() -> Vec<DaemonSpec> {
    let host = |name: &str| DaemonSpec { critical: true, host_network: true, ..DaemonSpec::named(name) };
    let aws_node = "aws-node".to_owned();
    vec![
        host("kube-proxy"),
        DaemonSpec {
            needs: Some("kube-proxy".to_owned()),
            waits: true,
            makes_ready: true,
            start_s: spread(2.5, 0.6),
            ready_s: spread(4.0, 0.8),
            ..host("aws-node")
        },
        DaemonSpec {
            csi_driver: Some("ebs.csi.aws.com".to_owned()),
            after: vec![aws_node.clone()],
            ..DaemonSpec { host_network: false, start_s: spread(3.0, 0.7), ..host("ebs-csi-node") }
        },
        host("eks-pod-identity-agent"),
        host("node-local-dns"),
        DaemonSpec { namespace: "monitoring".to_owned(), host_network: true, ..DaemonSpec::named("node-exporter") },
        DaemonSpec {
            namespace: "logging".to_owned(),
            after: vec![aws_node],
            start_s: spread(5.0, 1.5),
            ..DaemonSpec::named("fluent-bit")
        },
    ]
}
