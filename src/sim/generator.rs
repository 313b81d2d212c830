//! Random scenarios for property runs: small clusters whose rotation can finish.

use super::scenario::{
    BudgetSpec, Count, DaemonSpec, Faults, GroupSpec, NoCapacity, PolicyChoice, Scale, Scenario, SlowBoots, Times,
    WorkloadKind, WorkloadSpec, ZoneSpread,
};
use super::streams::Stream;
use crate::model::Process;

const ZONES: [&str; 3] = ["us-west-2a", "us-west-2b", "us-west-2c"];

impl Scenario {
    /// The scenario of a seed: 1 to 4 groups of 1 to 12 nodes in 1 to 3 zones, random workloads, budgets and
    /// policies, in a quarter of the seeds a fault that passes. Nothing in it keeps a rotation from finishing.
    pub fn random(seed: u64) -> Self {
        // A stream of its own, apart from those the world draws from.
        let mut draw = Stream::new(seed, 101);
        let mut groups: Vec<GroupSpec> = (0..draw.between(1, 4)).map(|n| random_group(&mut draw, n)).collect();
        let mut workloads = Vec::new();
        for (n, group) in groups.iter().enumerate() {
            for m in 0..draw.between(0, 4) {
                workloads.push(random_workload(&mut draw, &format!("work-{n}-{m}"), group));
            }
        }
        let daemonsets = random_daemonsets(&mut draw);
        let faults = random_faults(&mut draw);
        let text = |n: u32| Some(n.to_string());
        let surge = if draw.chance(0.4) { None } else { text(draw.between(1, 3)) };
        let policy = PolicyChoice {
            unavailable: text(u32::from(draw.chance(0.2))),
            drains: text(draw.between(1, 3)),
            canary: Some(u32::from(draw.chance(0.85))),
            surge,
            soak: Some(format!("{}s", draw.between(0, 15))),
            ..PolicyChoice::default()
        };
        // Drawn last, so that a scenario stays what it was but for this.
        for group in &mut groups {
            group.deregistration_s = draw.chance(0.25).then(|| draw.between(0, 300));
        }
        Self {
            name: format!("random-{seed}"),
            about: format!("the random scenario of seed {seed}"),
            cluster: "random".to_owned(),
            version: "v1.36.3".to_owned(),
            dhcp_domain: None,
            proxy_config: Default::default(),
            policy,
            times: Times::default(),
            groups,
            daemonsets,
            workloads,
            faults,
        }
    }

    /// The scenario of a seed with others at work and AWS at its worst: groups are scaled up and down, answers are
    /// lost, readings stale, processes suspended, and the policy is drawn from all there is. Such a rotation may end
    /// incomplete; it may not break a promise, nor end without a true reason.
    pub fn troubled(seed: u64) -> Self {
        let mut scenario = Self::random(seed);
        let mut draw = Stream::new(seed, 102);
        let faults = &mut scenario.faults;
        faults.scale = random_scaling(&mut draw, &scenario.groups);
        faults.lost_replies = [0.0, 0.0, 0.05, 0.3][draw.below(4)];
        faults.stale_reads = [0.0, 0.02, 0.1][draw.below(3)];
        faults.decrement_race = [0.0, 0.5][draw.below(2)];
        for group in &mut scenario.groups {
            group.suspended = [Process::LAUNCH, Process::TERMINATE, Process::AZ_REBALANCE]
                .into_iter()
                .filter(|_| draw.chance(0.04))
                .map(str::to_owned)
                .collect();
            group.protected = draw.chance(0.04);
            group.standby = u32::from(draw.chance(0.04));
        }
        let policy = &mut scenario.policy;
        let amounts = ["0", "1", "2", "3", "50%", "100%"];
        let amount = |draw: &mut Stream| draw.chance(0.5).then(|| amounts[draw.below(amounts.len())].to_owned());
        policy.surge = amount(&mut draw).or(policy.surge.take());
        policy.unavailable = ["0", "0", "1", "2", "50%"].map(str::to_owned).get(draw.below(5)).cloned();
        policy.drains = amount(&mut draw).filter(|d| d != "0").or(policy.drains.take());
        policy.max_drains = draw.chance(0.2).then(|| draw.between(1, 4));
        policy.canary = Some(draw.between(0, 2));
        policy.failure_budget = Some(draw.between(0, 3));
        policy.raise_max = draw.chance(0.3);
        policy.drain_timeout = draw.chance(0.3).then(|| format!("{}s", draw.between(20, 400)));
        policy.join_timeout = draw.chance(0.2).then(|| format!("{}s", draw.between(120, 400)));
        scenario.name = format!("troubled-{seed}");
        scenario.about = format!("the random scenario of seed {seed}, others at work");
        scenario
    }
}

/// Others that scale a few of the groups, up and down, while a rotation is likely to be on its way.
fn random_scaling(draw: &mut Stream, groups: &[GroupSpec]) -> Vec<Scale> {
    let one = |draw: &mut Stream| {
        let by = draw.between(1, 4) as i32;
        Scale {
            at_s: draw.uniform() * 1500.0,
            group: groups[draw.below(groups.len())].name.clone(),
            by: if draw.chance(0.5) { by } else { -by },
        }
    };
    (0..draw.between(0, 4)).map(|_| one(draw)).collect()
}

fn random_group(draw: &mut Stream, n: u32) -> GroupSpec {
    let nodes = draw.between(1, 12);
    let zones = draw.between(1, 3) as usize;
    let kinds = draw.between(1, 2) as usize;
    GroupSpec {
        name: format!("group-{n}"),
        nodes,
        min: draw.between(0, nodes),
        max: Some(nodes + draw.between(3, 8)),
        zones: ZONES[..zones].iter().map(|z| (*z).to_owned()).collect(),
        outdated: draw.chance(0.2).then(|| draw.between(0, nodes)),
        version: ["$Latest", "$Default", "number"][draw.below(3)].to_owned(),
        instance_types: ["c6a.2xlarge", "c6i.2xlarge"][..kinds].iter().map(|t| (*t).to_owned()).collect(),
        configuration: draw.chance(0.1),
        cpu_m: 7_910,
        memory_mib: 14_800,
        pods: 58,
        startup_taints: Vec::new(),
        // Protected instances are held, by default, and would keep the rotation from finishing.
        protected: false,
        warm: 0,
        standby: 0,
        detaching: 0,
        launch_hook_s: None,
        terminate_hook_s: None,
        managed_by: None,
        refreshing: false,
        deregistration_s: None,
        suspended: Vec::new(),
        balanced_only: true,
    }
}

fn random_workload(draw: &mut Stream, name: &str, group: &GroupSpec) -> WorkloadSpec {
    // At least two, so that a budget can let one go.
    let replicas = draw.between(2, (group.nodes * 5).max(3));
    let stateful = draw.chance(0.25);
    let budget = match draw.below(4) {
        0 => Some(BudgetSpec {
            min_available: Some(Count::Number(replicas - draw.between(1, replicas.div_ceil(3)))),
            max_unavailable: None,
            unhealthy_always: draw.chance(0.3),
        }),
        1 => Some(BudgetSpec {
            min_available: None,
            max_unavailable: Some(Count::Number(draw.between(1, 3))),
            unhealthy_always: false,
        }),
        2 => Some(BudgetSpec {
            min_available: None,
            max_unavailable: Some(Count::Percent(format!("{}%", draw.between(10, 50)))),
            unhealthy_always: false,
        }),
        _ => None,
    };
    WorkloadSpec {
        kind: if stateful { WorkloadKind::StatefulSet } else { WorkloadKind::Deployment },
        cpu_m: u64::from(draw.between(20, 250)),
        memory_mib: u64::from(draw.between(32, 512)),
        groups: vec![group.name.clone()],
        spread: if draw.chance(0.2) { ZoneSpread::None } else { ZoneSpread::Soft },
        // A volume's zone needs a second node to drain to.
        volume: stateful && group.nodes as usize >= group.zones.len() && draw.chance(0.6),
        budgets: budget.into_iter().collect(),
        ..WorkloadSpec::deployment(name, replicas)
    }
}

fn random_daemonsets(draw: &mut Stream) -> Vec<DaemonSpec> {
    let agent = |name: &str| DaemonSpec { critical: true, host_network: true, ..DaemonSpec::named(name) };
    let mut sets = vec![
        agent("kube-proxy"),
        DaemonSpec { needs: Some("kube-proxy".to_owned()), waits: true, makes_ready: true, ..agent("aws-node") },
    ];
    if draw.chance(0.7) {
        sets.push(DaemonSpec {
            csi_driver: Some("ebs.csi.aws.com".to_owned()),
            after: vec!["aws-node".to_owned()],
            critical: true,
            ..DaemonSpec::named("ebs-csi-node")
        });
    }
    if draw.chance(0.5) {
        sets.push(DaemonSpec { after: vec!["aws-node".to_owned()], ..DaemonSpec::named("fluent-bit") });
    }
    sets
}

fn random_faults(draw: &mut Stream) -> Faults {
    let mut faults = Faults::default();
    match draw.below(16) {
        0 => faults.throttle = 0.05,
        1 => faults.slow_boots = Some(SlowBoots { share: 0.3, factor: 2.0 }),
        2 => {
            faults.no_capacity = vec![NoCapacity {
                zone: Some(ZONES[draw.below(3)].to_owned()),
                group: None,
                from_s: 0.0,
                until_s: Some(f64::from(draw.between(60, 240))),
            }];
        }
        3 => faults.lost_answers = 0.03,
        _ => {}
    }
    faults
}
