//! How long a node of the simulated world takes to become functional, and why.

use std::collections::BTreeMap;

use fastnode::cloud::Cloud;
use fastnode::policy::{Gate, Policy, Restarts};
use fastnode::readiness;
use fastnode::sim::scenario::{DaemonSpec, Spread};
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
    starts_of(scenario, 3)
}

fn starts_of(scenario: &Scenario, seed: u64) -> Starts {
    on_virtual_time(async || {
        let sim = World::start(scenario, seed);
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
fn the_articles_three_figures_come_out_by_their_causes_whatever_the_seed() {
    for seed in 0..20 {
        let both = starts_of(&article(false, false), seed);
        let one = starts_of(&article(true, false), seed);
        let none = starts_of(&article(true, true), seed);
        both.all_within(212.0, 10.0);
        one.all_within(110.0, 10.0);
        none.all_within(31.0, 3.0);
        let saved = (both.median() - none.median()) * 100.0 / 3600.0;
        assert!((saved - 5.0).abs() < 0.3, "{saved} h over 100 nodes");
        assert_eq!(both.restarts_of("kube-proxy"), 0, "it is late, it does not fail: {both:?}");
        let restarted = |s: &Starts| ["aws-node", "node-local-dns", "kiam-agent"].map(|set| s.restarts_of(set));
        assert_eq!((restarted(&both), restarted(&one)), ([2, 2, 3], [2, 0, 0]));
        assert!(none.restarts.values().all(|n| *n == 0), "{none:?}");
    }
}

#[test]
fn todays_lookup_takes_as_long_and_a_host_name_that_is_the_nodes_takes_no_time() {
    let mut polls = article(false, false);
    polls.daemonsets[0].version = Some("v1.34.0-eksbuild.2".to_owned());
    starts(&polls).all_within(212.0, 10.0);
    let mut same_names = article(false, false);
    same_names.dhcp_domain = None;
    starts(&same_names).all_within(110.0, 10.0);
}

#[test]
fn a_slower_proxy_costs_more_and_one_that_nobody_needs_costs_nothing() {
    let mut slow = article(false, false);
    slow.daemonsets[0].ready_s.mean += 120.0;
    let slow = starts(&slow);
    assert!(slow.seconds[0] > 260.0, "{slow:?}");
    // No kube-proxy: somebody else writes the rules before the kubelet is up.
    let mut without = article(false, false);
    without.daemonsets.remove(0);
    without.daemonsets.iter_mut().filter(|s| s.needs.as_deref() == Some("kube-proxy")).for_each(|s| s.needs = None);
    let without = starts(&without);
    assert!(without.seconds[11] < 31.0 && without.restarts.values().all(|n| *n == 0), "{without:?}");
}

#[test]
fn a_third_dependent_in_the_chain_waits_for_the_second() {
    let mut scenario = article(false, false);
    let third = DaemonSpec {
        name: "mesh-agent".to_owned(),
        needs: Some("kiam-agent".to_owned()),
        redial_s: Some(1.0),
        needs_timeout_s: Spread { mean: 40.0, deviation: 0.2 },
        critical: true,
        host_network: true,
        ..DaemonSpec::named("mesh-agent")
    };
    let two = starts(&scenario);
    scenario.daemonsets.push(third);
    let three = starts(&scenario);
    assert!(three.median() > two.median() + 15.0, "{three:?} against {two:?}");
    assert!(three.restarts_of("mesh-agent") >= 3, "{three:?}");
    // Mended, the chain costs no more than what it does.
    scenario.daemonsets[0].hostname_override = true;
    scenario.daemonsets[1].waits = true;
    let mended = starts(&scenario);
    assert!(mended.seconds[11] < 40.0 && mended.restarts.values().all(|n| *n == 0), "{mended:?}");
}

#[test]
fn a_kubelet_that_wakes_when_the_back_off_has_passed_loses_less() {
    let old = starts(&article(false, false));
    let mut scenario = article(false, false);
    scenario.version = "v1.36.3".to_owned();
    let today = starts(&scenario);
    assert_eq!(today.restarts_of("kube-proxy"), 0);
    assert!(today.median() < old.median() - 60.0, "{today:?} against {old:?}");
}

#[test]
fn newer_network_agents_do_not_exit_and_an_endpoint_of_their_own_needs_no_proxy() {
    let mut scenario = article(true, false);
    scenario.daemonsets[1].version = Some("v1.11.4-eksbuild.1".to_owned());
    let retries = starts(&scenario);
    assert!(retries.restarts.values().all(|n| *n == 0) && retries.seconds[11] < 40.0, "{retries:?}");
    // With a proxy that never writes its rules in time, 1.20 goes on without: Ready is false comfort.
    let mut late = article(false, false);
    late.daemonsets[1].version = Some("v1.20.4-eksbuild.2".to_owned());
    let late = starts(&late);
    assert_eq!(late.restarts_of("aws-node"), 0);
    assert!(late.median() > 150.0, "its dependents lose all the same: {late:?}");
}

#[test]
fn a_waiter_that_finds_no_service_address_asks_to_be_started_over() {
    let mut scenario = article(true, true);
    scenario.faults.services_unread = vec![1, 2];
    let starts = starts(&scenario);
    assert_eq!(starts.restarts_of("aws-node"), 1, "{starts:?}");
    starts.all_within(31.0, 3.0);
}
