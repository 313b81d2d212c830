//! How long a node of the simulated world takes to become functional, and why.

use std::collections::BTreeMap;

use fastnode::cloud::Cloud;
use fastnode::policy::{Gate, Policy, Restarts};
use fastnode::readiness;
use fastnode::sim::{Scenario, World};

use crate::harness::{Watch, on_virtual_time};

/// How the new nodes of a scenario came up.
#[derive(Debug)]
struct Starts {
    /// Seconds from a Node's creation to functional, sorted.
    seconds: Vec<f64>,
    /// Restarts of each DaemonSet on a node, at most.
    restarts: BTreeMap<String, u32>,
}

impl Starts {
    fn median(&self) -> f64 {
        self.seconds[self.seconds.len() / 2]
    }

    fn restarts_of(&self, daemonset: &str) -> u32 {
        self.restarts.get(daemonset).copied().unwrap_or(0)
    }

    fn all_within(&self, seconds: f64, by: f64) {
        assert!(self.seconds.iter().all(|s| (s - seconds).abs() <= by), "{seconds} s expected: {self:?}");
    }
}

/// Twelve new nodes of a scenario, and an hour to come up in.
fn starts(scenario: &Scenario) -> Starts {
    on_virtual_time(async || {
        let sim = World::start(scenario, 3);
        let mut watch = Watch::begin(&sim).await;
        let before: Vec<_> = watch.snapshot.nodes.keys().cloned().collect();
        let group = sim.cloud.groups(&scenario.cluster).await.unwrap().remove(0).group;
        sim.cloud.set_desired(&group.name, group.desired + 12).await.unwrap();
        watch.follow(3_600).await;
        let policy = Policy { gate: Gate::Auto, restarts: Restarts::Warn, ..scenario.policy() };
        let (mut seconds, mut restarts) = (Vec::new(), BTreeMap::new());
        for node in watch.snapshot.nodes.values().filter(|n| !before.contains(&n.name)) {
            let judgement = readiness::judge(&policy, &watch.snapshot, node);
            let since = judgement.since.unwrap_or_else(|| panic!("{}: {:?}", node.name, judgement.unmet));
            seconds.push(since.duration_since(node.created).as_secs_f64());
            for pod in watch.snapshot.pods_on(&node.name).filter(|p| p.is_daemon()) {
                let most: &mut u32 = restarts.entry(pod.owner.as_ref().unwrap().name.to_string()).or_default();
                *most = (*most).max(pod.containers.iter().map(|c| c.restarts).sum());
            }
        }
        assert_eq!(seconds.len(), 12);
        seconds.sort_by(f64::total_cmp);
        Starts { seconds, restarts }
    })
}

/// The article's cluster with these of its faults mended.
fn article(override_there: bool, waits: bool) -> Scenario {
    let mut scenario = Scenario::load("article").unwrap();
    scenario.groups[0].nodes = 3;
    scenario.workloads.clear();
    scenario.daemonsets[0].hostname_override = override_there;
    scenario.daemonsets[1].waits = waits;
    scenario
}

#[test]
fn the_articles_three_figures_come_out_by_their_causes() {
    let both = starts(&article(false, false));
    println!("{both:?}");
    let one = starts(&article(true, false));
    println!("{one:?}");
    let none = starts(&article(true, true));
    println!("{none:?}");
    both.all_within(212.0, 10.0);
    one.all_within(110.0, 10.0);
    none.all_within(31.0, 3.0);
    assert!(none.restarts.values().all(|n| *n == 0), "{none:?}");
    assert_eq!((one.restarts_of("aws-node"), one.restarts_of("kiam-agent")), (2, 0), "{one:?}");
    assert!(both.restarts_of("kiam-agent") >= 3 && both.restarts_of("kube-proxy") == 0, "{both:?}");
    assert!((both.median() - none.median()) * 100.0 > 4.7 * 3600.0);
}
