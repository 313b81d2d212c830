//! Scenario files: a cluster, its workloads, and what goes wrong with them.

mod faults;
mod workload;

pub use faults::{Faults, Flapping, NeverJoins, NoCapacity, Restarts, Retarget, Scale, SlowBoots};
pub use workload::{BudgetSpec, Count, DaemonSpec, OptOut, WorkloadKind, WorkloadSpec, ZoneSpread};

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::model::Process;
use crate::policy::{Amount, Policy, Surge, Timeout, parse_duration};

/// The scenarios in the binary, by name.
pub const BUILT_IN: [(&str, &str); 8] = [
    ("demo", include_str!("../../config/scenarios/demo.toml")),
    ("small", include_str!("../../config/scenarios/small.toml")),
    ("canary-restarts", include_str!("../../config/scenarios/canary-restarts.toml")),
    ("stuck-budget", include_str!("../../config/scenarios/stuck-budget.toml")),
    ("no-capacity", include_str!("../../config/scenarios/no-capacity.toml")),
    ("never-joins", include_str!("../../config/scenarios/never-joins.toml")),
    ("target-changes", include_str!("../../config/scenarios/target-changes.toml")),
    ("article", include_str!("../../config/scenarios/article.toml")),
];

/// A scenario that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// Neither a built-in name nor a file that can be read.
    #[error(
        "failed to read scenario {name:?}: neither a readable file nor one of the built-in scenarios ({})",
        built_in_names()
    )]
    Unknown {
        /// What was asked for.
        name: String,
        /// Why the file could not be read.
        source: std::io::Error,
    },
    /// Not TOML, or not of this shape.
    #[error("failed to read scenario {file}: {detail}")]
    Malformed {
        /// The file, or the built-in name.
        file: String,
        /// Line, key, and what was expected there.
        detail: String,
    },
    /// A value that makes no cluster.
    #[error("failed to read scenario {file}: {key} is {value}, expected {expected}")]
    Value {
        /// The file, or the built-in name.
        file: String,
        /// The key, `groups[1].zones`.
        key: String,
        /// Its value.
        value: String,
        /// What would be right.
        expected: String,
    },
}

fn built_in_names() -> String {
    BUILT_IN.map(|(name, _)| name).join(", ")
}

/// Seconds with a mean and a deviation, written `[90.0, 10.0]`: normal, cut at three deviations and at 10 ms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "(f64, f64)", into = "(f64, f64)")]
pub struct Spread {
    /// Mean, seconds.
    pub mean: f64,
    /// Standard deviation, seconds.
    pub deviation: f64,
}

impl From<(f64, f64)> for Spread {
    fn from((mean, deviation): (f64, f64)) -> Self {
        Self { mean, deviation }
    }
}

impl From<Spread> for (f64, f64) {
    fn from(spread: Spread) -> Self {
        (spread.mean, spread.deviation)
    }
}

const fn spread(mean: f64, deviation: f64) -> Spread {
    Spread { mean, deviation }
}

/// How long things take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Times {
    /// From a change of desired, or a termination, to the group's launch.
    pub reaction_s: Spread,
    /// From the launch to `InService`.
    pub in_service_s: Spread,
    /// From the launch to the kubelet's start.
    pub boot_s: Spread,
    /// From the kubelet's start to the Node's registration.
    pub join_s: Spread,
    /// From the network's agent being ready to the Node's `Ready`.
    pub node_ready_s: Spread,
    /// From the terminate call to the instance gone.
    pub terminate_s: Spread,
    /// From the instance gone to its Node deleted.
    pub node_gone_s: Spread,
    /// From a workload pod's eviction to its end.
    pub grace_s: Spread,
    /// From a workload pod's binding to its containers running.
    pub start_s: Spread,
    /// From its containers running to ready.
    pub ready_s: Spread,
    /// To attach a volume.
    pub attach_s: Spread,
    /// To detach a volume.
    pub detach_s: Spread,
    /// From one look of the kubelet at a pod to its next: below 1.35 it restarts a container whose back-off has passed
    /// only then (60 to 90 s: `syncFrequency` 1m, jitter 0.5).
    pub sync_s: Spread,
    /// An update of an EKS add-on.
    pub addon_s: Spread,
    /// How long an AWS call takes, milliseconds, least and most.
    pub aws_ms: (f64, f64),
    /// How long a Kubernetes request takes, milliseconds, least and most.
    pub kube_ms: (f64, f64),
}

impl Default for Times {
    fn default() -> Self {
        Self {
            reaction_s: spread(4.0, 1.0),
            in_service_s: spread(14.0, 3.0),
            boot_s: spread(52.0, 6.0),
            join_s: spread(6.0, 1.0),
            node_ready_s: spread(0.6, 0.15),
            terminate_s: spread(48.0, 8.0),
            node_gone_s: spread(3.0, 0.7),
            grace_s: spread(6.0, 2.5),
            start_s: spread(3.0, 0.9),
            ready_s: spread(6.0, 2.0),
            attach_s: spread(4.0, 1.0),
            detach_s: spread(5.0, 1.5),
            sync_s: spread(75.0, 5.0),
            addon_s: spread(25.0, 4.0),
            aws_ms: (50.0, 300.0),
            kube_ms: (1.0, 20.0),
        }
    }
}

/// Instances of one kind in a group, at most.
const MOST: u32 = 10_000;

/// What a group can be kept from (Amazon EC2 Auto Scaling, "Suspend and resume processes").
const PROCESSES: [&str; 9] = [
    Process::LAUNCH,
    Process::TERMINATE,
    Process::AZ_REBALANCE,
    "AddToLoadBalancer",
    "AlarmNotification",
    "HealthCheck",
    "InstanceRefresh",
    "ReplaceUnhealthy",
    "ScheduledActions",
];

/// An Auto Scaling group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    /// Its name.
    pub name: String,
    /// Desired capacity when the scenario begins; 1 to 10000.
    pub nodes: u32,
    /// Minimum; default 0.
    #[serde(default)]
    pub min: u32,
    /// Maximum; default twice the nodes and 10.
    pub max: Option<u32>,
    /// Its zones.
    pub zones: Vec<String>,
    /// How many of its nodes are on an earlier template version; default all.
    pub outdated: Option<u32>,
    /// What the group says: `$Latest`, `$Default` or `number`.
    #[serde(default = "latest")]
    pub version: String,
    /// Instance types; more than one makes it a mixed-instances policy.
    #[serde(default = "instance_types")]
    pub instance_types: Vec<String>,
    /// Launches from a launch configuration instead of a template.
    #[serde(default)]
    pub configuration: bool,
    /// Allocatable CPU of a node, millicores.
    #[serde(default = "cpu_m")]
    pub cpu_m: u64,
    /// Allocatable memory of a node, MiB.
    #[serde(default = "memory_mib")]
    pub memory_mib: u64,
    /// Pods a node takes.
    #[serde(default = "pods")]
    pub pods: u64,
    /// Startup taints, `key:NoSchedule`, that a DaemonSet takes off.
    #[serde(default)]
    pub startup_taints: Vec<String>,
    /// `NewInstancesProtectedFromScaleIn`; the first instances are protected too.
    #[serde(default)]
    pub protected: bool,
    /// Instances in a warm pool.
    #[serde(default)]
    pub warm: u32,
    /// Instances in Standby, over and above the nodes.
    #[serde(default)]
    pub standby: u32,
    /// Instances being detached, over and above the nodes.
    #[serde(default)]
    pub detaching: u32,
    /// A lifecycle hook on launches, which somebody completes after so long.
    pub launch_hook_s: Option<Spread>,
    /// A lifecycle hook on terminations, which somebody completes after so long.
    pub terminate_hook_s: Option<Spread>,
    /// The EKS managed node group that owns it.
    pub managed_by: Option<String>,
    /// An instance refresh is under way.
    #[serde(default)]
    pub refreshing: bool,
    /// A target group is attached, whose deregistration delay is so many seconds; 0 to 3600.
    pub deregistration_s: Option<u32>,
    /// Processes suspended from the start.
    #[serde(default)]
    pub suspended: Vec<String>,
    /// When a zone has no capacity, wait for it instead of launching elsewhere.
    #[serde(default)]
    pub balanced_only: bool,
}

fn latest() -> String {
    "$Latest".to_owned()
}
fn instance_types() -> Vec<String> {
    vec!["c6a.2xlarge".to_owned()]
}
const fn cpu_m() -> u64 {
    7_910
}
const fn memory_mib() -> u64 {
    14_800
}
const fn pods() -> u64 {
    58
}

/// What of the policy the scenario sets; the rest is the default, and flags override both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyChoice {
    /// As `--surge`.
    pub surge: Option<String>,
    /// As `--unavailable`.
    pub unavailable: Option<String>,
    /// As `--drains`.
    pub drains: Option<String>,
    /// As `--max-drains`.
    pub max_drains: Option<u32>,
    /// As `--canary`.
    pub canary: Option<u32>,
    /// As `--soak`.
    pub soak: Option<String>,
    /// As `--drain-timeout`.
    pub drain_timeout: Option<String>,
    /// As `--join-timeout`.
    pub join_timeout: Option<String>,
    /// As `--gate-timeout`.
    pub gate_timeout: Option<String>,
    /// As `--failure-budget`.
    pub failure_budget: Option<u32>,
    /// As `--delete-emptydir-data`.
    pub delete_emptydir_data: bool,
    /// As `--force-unmanaged`.
    pub force_unmanaged: bool,
    /// As `--ignore-opt-outs`.
    pub ignore_opt_outs: bool,
    /// As `--raise-max`.
    pub raise_max: bool,
}

/// A scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it shows, a sentence.
    pub about: String,
    /// The cluster's name.
    pub cluster: String,
    /// The control plane's version.
    #[serde(default = "version")]
    pub version: String,
    /// The domain that DHCP gives the hosts: their names then end in it, and the Nodes' do not. Where left out, a Node
    /// has its host's name.
    pub dhcp_domain: Option<String>,
    /// Keys of kube-proxy's configuration file: `mode`, `hostnameOverride`.
    #[serde(default)]
    pub proxy_config: BTreeMap<String, String>,
    /// What of the policy it sets.
    #[serde(default)]
    pub policy: PolicyChoice,
    /// How long things take.
    #[serde(default)]
    pub times: Times,
    /// Its Auto Scaling groups.
    pub groups: Vec<GroupSpec>,
    /// Its DaemonSets; those of a stock cluster if left out.
    #[serde(default = "workload::stock_daemonsets")]
    pub daemonsets: Vec<DaemonSpec>,
    /// Its workloads.
    #[serde(default)]
    pub workloads: Vec<WorkloadSpec>,
    /// What goes wrong.
    #[serde(default)]
    pub faults: Faults,
}

fn version() -> String {
    "v1.36.3".to_owned()
}

impl Scenario {
    /// Reads a built-in scenario by its name, or a file by its path.
    ///
    /// # Errors
    /// If there is neither, or a key or value in it is wrong: the file, the key, the value and what would be
    /// right are named.
    pub fn load(name_or_path: &str) -> Result<Self, ScenarioError> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| *name == name_or_path) {
            return Self::parse(text, name);
        }
        let text = std::fs::read_to_string(Path::new(name_or_path))
            .map_err(|source| ScenarioError::Unknown { name: name_or_path.to_owned(), source })?;
        Self::parse(&text, name_or_path)
    }

    /// Reads a scenario's text; `file` is named in errors.
    ///
    /// # Errors
    /// As [`Scenario::load`].
    pub fn parse(text: &str, file: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|e| ScenarioError::Malformed {
            file: file.to_owned(),
            detail: e.to_string().trim_end().to_owned(),
        })?;
        scenario.check().map_err(|Wrong { key, value, expected }| ScenarioError::Value {
            file: file.to_owned(),
            key,
            value,
            expected: expected.to_owned(),
        })?;
        Ok(scenario)
    }

    /// The default policy with what the scenario sets.
    pub fn policy(&self) -> Policy {
        // `check` has read every one of these already.
        self.policy.apply(Policy::default()).unwrap_or_default()
    }

    fn check(&self) -> Result<(), Wrong> {
        self.policy.apply(Policy::default())?;
        self.times.check()?;
        if self.groups.is_empty() {
            return Err(wrong("groups", "empty", "at least one group"));
        }
        let mut names = BTreeSet::new();
        for (at, group) in self.groups.iter().enumerate() {
            group.check().map_err(|w| w.under(&format!("groups[{at}]")))?;
            if !names.insert(group.name.as_str()) {
                return Err(wrong(&format!("groups[{at}].name"), &group.name, "a name no other group has"));
            }
        }
        let mut sets = BTreeSet::new();
        for (at, set) in self.daemonsets.iter().enumerate() {
            set.check(&self.daemonsets, &names).map_err(|w| w.under(&format!("daemonsets[{at}]")))?;
            if !sets.insert(set.name.as_str()) {
                return Err(wrong(&format!("daemonsets[{at}].name"), &set.name, "a name no other DaemonSet has"));
            }
        }
        let mut keys = BTreeSet::new();
        for (at, workload) in self.workloads.iter().enumerate() {
            workload.check(&names).map_err(|w| w.under(&format!("workloads[{at}]")))?;
            if !keys.insert((workload.namespace.as_str(), workload.name.as_str())) {
                return Err(wrong(&format!("workloads[{at}].name"), &workload.name, "a name no other workload has"));
            }
        }
        let zones = self.groups.iter().flat_map(|g| &g.zones).map(String::as_str).collect();
        self.faults.check(&names, &zones, &sets).map_err(|w| w.under("faults"))
    }
}

impl GroupSpec {
    /// The maximum, the default applied.
    pub fn maximum(&self) -> u32 {
        self.max.unwrap_or(self.nodes * 2 + 10)
    }

    fn check(&self) -> Result<(), Wrong> {
        let max = self.maximum();
        if self.name.is_empty() {
            return Err(wrong("name", "empty", "a name"));
        }
        if !(1..=MOST).contains(&self.nodes) {
            return Err(wrong("nodes", self.nodes, "1 to 10000"));
        }
        if self.min > self.nodes {
            return Err(wrong("min", self.min, "no more than the group's nodes"));
        }
        if max < self.nodes {
            return Err(wrong("max", max, "no less than the group's nodes"));
        }
        let distinct: BTreeSet<_> = self.zones.iter().collect();
        if self.zones.is_empty() || self.zones.len() > 6 || distinct.len() != self.zones.len() {
            return Err(wrong("zones", self.zones.join(", "), "1 to 6 different zones"));
        }
        if self.outdated.is_some_and(|o| o > self.nodes) {
            return Err(wrong("outdated", self.outdated.unwrap_or(0), "no more than the group's nodes"));
        }
        if !["$Latest", "$Default", "number"].contains(&self.version.as_str()) {
            return Err(wrong("version", &self.version, "$Latest, $Default or number"));
        }
        if self.instance_types.is_empty() {
            return Err(wrong("instance_types", "empty", "at least one instance type"));
        }
        for (key, hook) in [("launch_hook_s", self.launch_hook_s), ("terminate_hook_s", self.terminate_hook_s)] {
            hook.map_or(Ok(()), |hook| check_spread(key, hook))?;
        }
        if self.deregistration_s.is_some_and(|s| s > 3600) {
            return Err(wrong("deregistration_s", self.deregistration_s.unwrap_or(0), "0 to 3600"));
        }
        if self.cpu_m == 0 || self.memory_mib == 0 || self.pods == 0 {
            return Err(wrong("cpu_m, memory_mib or pods", 0, "above 0"));
        }
        for (key, count) in [("warm", self.warm), ("standby", self.standby), ("detaching", self.detaching)] {
            if count > MOST {
                return Err(wrong(key, count, "0 to 10000"));
            }
        }
        if let Some(process) = self.suspended.iter().find(|p| !PROCESSES.contains(&p.as_str())) {
            return Err(wrong(
                "suspended",
                process,
                "processes of an Auto Scaling group, such as Launch or AZRebalance",
            ));
        }
        for taint in &self.startup_taints {
            let key = taint.strip_suffix(":NoSchedule").or_else(|| taint.strip_suffix(":NoExecute"));
            if key.is_none_or(str::is_empty) {
                return Err(wrong("startup_taints", taint, "key:NoSchedule or key:NoExecute"));
            }
        }
        Ok(())
    }
}

impl Times {
    fn check(&self) -> Result<(), Wrong> {
        let spreads = [
            ("reaction_s", self.reaction_s),
            ("in_service_s", self.in_service_s),
            ("boot_s", self.boot_s),
            ("join_s", self.join_s),
            ("node_ready_s", self.node_ready_s),
            ("terminate_s", self.terminate_s),
            ("node_gone_s", self.node_gone_s),
            ("grace_s", self.grace_s),
            ("start_s", self.start_s),
            ("ready_s", self.ready_s),
            ("attach_s", self.attach_s),
            ("detach_s", self.detach_s),
            ("sync_s", self.sync_s),
            ("addon_s", self.addon_s),
        ];
        for (key, spread) in spreads {
            check_spread(key, spread).map_err(|w| w.under("times"))?;
        }
        for (key, (low, high)) in [("aws_ms", self.aws_ms), ("kube_ms", self.kube_ms)] {
            if !(low >= 0.0 && high >= low && high <= 60_000.0) {
                let expected = "[least, most] in milliseconds, 0 to 60000, least first";
                return Err(wrong(key, format!("[{low}, {high}]"), expected).under("times"));
            }
        }
        Ok(())
    }
}

impl PolicyChoice {
    fn apply(&self, mut policy: Policy) -> Result<Policy, Wrong> {
        let amount = |key: &str, text: &Option<String>, old: Amount| match text {
            Some(text) => {
                text.parse().map_err(|_| wrong(key, text, "a number such as \"3\", or a percentage up to \"100%\""))
            }
            None => Ok(old),
        };
        let timeout = |key: &str, text: &Option<String>, old: Timeout| match text {
            Some(text) => {
                text.parse().map_err(|_| wrong(key, text, "a duration above 0 such as \"15m\", or \"never\""))
            }
            None => Ok(old),
        };
        let within = |w: Wrong| w.under("policy");
        if let Some(text) = &self.surge {
            policy.surge = text
                .parse::<Surge>()
                .map_err(|_| within(wrong("surge", text, "a number, a percentage or \"auto\"")))?;
        }
        policy.unavailable = amount("unavailable", &self.unavailable, policy.unavailable).map_err(within)?;
        policy.drains = amount("drains", &self.drains, policy.drains).map_err(within)?;
        policy.max_drains = self.max_drains.or(policy.max_drains);
        policy.canary = self.canary.unwrap_or(policy.canary);
        if let Some(text) = &self.soak {
            policy.soak =
                parse_duration(text).map_err(|_| within(wrong("soak", text, "a duration such as \"10s\"")))?;
        }
        policy.drain_timeout = timeout("drain_timeout", &self.drain_timeout, policy.drain_timeout).map_err(within)?;
        policy.join_timeout = timeout("join_timeout", &self.join_timeout, policy.join_timeout).map_err(within)?;
        policy.gate_timeout = timeout("gate_timeout", &self.gate_timeout, policy.gate_timeout).map_err(within)?;
        policy.failure_budget = self.failure_budget.unwrap_or(policy.failure_budget);
        policy.delete_emptydir_data |= self.delete_emptydir_data;
        policy.force_unmanaged |= self.force_unmanaged;
        policy.ignore_opt_outs |= self.ignore_opt_outs;
        policy.raise_max |= self.raise_max;
        debug_assert!(policy.soak >= SignedDuration::ZERO);
        Ok(policy)
    }
}

/// A wrong value: its key, the value, what would be right.
#[derive(Debug)]
struct Wrong {
    key: String,
    value: String,
    expected: &'static str,
}

fn wrong(key: &str, value: impl ToString, expected: &'static str) -> Wrong {
    Wrong { key: key.to_owned(), value: value.to_string(), expected }
}

impl Wrong {
    fn under(mut self, prefix: &str) -> Self {
        self.key = format!("{prefix}.{}", self.key);
        self
    }
}

fn check_spread(key: &str, spread: Spread) -> Result<(), Wrong> {
    let Spread { mean, deviation } = spread;
    if mean.is_finite() && (0.0..=86_400.0).contains(&mean) && (0.0..=86_400.0).contains(&deviation) {
        return Ok(());
    }
    Err(wrong(key, format!("[{mean}, {deviation}]"), "[mean, deviation] in seconds, each 0 to 86400"))
}

fn check_share(key: &str, share: f64) -> Result<(), Wrong> {
    if (0.0..=1.0).contains(&share) { Ok(()) } else { Err(wrong(key, share, "a share from 0.0 to 1.0")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_scenario_reads() {
        for (name, _) in BUILT_IN {
            let scenario = Scenario::load(name).unwrap();
            assert_eq!(scenario.name, name);
        }
    }

    #[test]
    fn errors_name_file_key_value_and_what_would_be_right() {
        let base = "name='x'\nabout='x'\ncluster='x'\n";
        let group = |rest: &str| format!("{base}[[groups]]\nname='g'\nnodes=3\nzones=['a']\n{rest}");
        let cases = [
            (group("min=4\n"), "x.toml: groups[0].min is 4, expected no more than the group's nodes"),
            (group("zone='a'\n"), "unknown field `zone`"),
            (group("version='7'\n"), "groups[0].version is 7, expected $Latest, $Default or number"),
            (group("[policy]\nunavailable='120%'\n"), "policy.unavailable is 120%, expected a number such as"),
            (group("[times]\nboot_s=[-1.0, 0.0]\n"), "times.boot_s is [-1, 0], expected [mean, deviation]"),
            (group("[[workloads]]\nname='w'\nreplicas=1\ngroups=['h']\n"), "workloads[0].groups is h, expected"),
            (group("[[faults.restarts]]\ndaemonset='dns'\nnode=1\ntimes=1\n"), "faults.restarts[0].daemonset is dns"),
            (group("[faults]\nthrottle=1.5\n"), "faults.throttle is 1.5, expected a share from 0.0 to 1.0"),
            (group("warm=4000000000\n"), "groups[0].warm is 4000000000, expected 0 to 10000"),
            (
                group("suspended=['Lunch']\n"),
                "groups[0].suspended is Lunch, expected processes of an Auto Scaling group",
            ),
            (group("startup_taints=[':NoSchedule']\n"), "groups[0].startup_taints is :NoSchedule, expected key:"),
            (
                group("[[faults.no_capacity]]\nzone='b'\n"),
                "faults.no_capacity[0].zone is b, expected a zone of a group",
            ),
            (
                group("[[faults.no_capacity]]\nfrom_s=9.0\nuntil_s=3.0\n"),
                "faults.no_capacity[0].until_s is 3, expected no earlier than from_s",
            ),
            (
                group("[[faults.never_joins]]\nlaunches=[0]\n"),
                "faults.never_joins[0].launches is 0, expected 1 or more",
            ),
            (base.to_owned() + "groups=[]\n", "groups is empty, expected at least one group"),
        ];
        for (text, expected) in cases {
            let error = Scenario::parse(&text, "x.toml").unwrap_err().to_string();
            assert!(error.contains(expected), "{error}\n--- does not contain\n{expected}");
        }
        let missing = Scenario::load("no-such-scenario").unwrap_err().to_string();
        assert!(missing.contains("demo, small"), "{missing}");
    }
}
