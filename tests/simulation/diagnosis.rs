//! Autopsies of nodes that started badly on the simulated world, from what its ports tell and nothing else.

use fastnode::cloud::Cloud;
use fastnode::controller::{self, Ports};
use fastnode::model::InstanceId;
use fastnode::observe::Snapshot;
use fastnode::policy::Policy;
use fastnode::readiness::diagnosis::{Finding, autopsy};
use fastnode::sim::{Scenario, World};
use std::rc::Rc;

use crate::harness::{group, on_virtual_time, seconds};

/// What an autopsy finds on a node that joined the scenario's world so many seconds ago.
fn findings(scenario: &Scenario, age: u64) -> Vec<Finding> {
    on_virtual_time(async || {
        let sim = World::start(scenario, 1);
        let (name, desired) = {
            let state = group(&sim.cloud).await;
            (state.group.name, state.group.desired)
        };
        sim.cloud.set_desired(&name, desired + 1).await.unwrap();
        seconds(age).await;
        let ports =
            Ports { cloud: Rc::new(sim.cloud.clone()), cluster: Rc::new(sim.cluster.clone()), clock: sim.clock };
        let settings = controller::Settings {
            cluster: "test".into(),
            policy: Policy::default(),
            namespace: "kube-system".to_owned(),
            identity: "test".to_owned(),
            own_node: None,
            own_pod: None,
            seed: 1,
        };
        let snapshot: Snapshot = controller::observe(&ports, &settings).await.unwrap();
        let newest = snapshot.instances.values().max_by_key(|i| i.launched_at).unwrap();
        let id: InstanceId = newest.id.clone();
        let policy = Policy::default();
        autopsy((&sim.cloud, &sim.cluster, sim.clock), ("test", &policy), &snapshot, &id).await.unwrap()
    })
}

fn article() -> Scenario {
    let mut scenario = Scenario::load("article").unwrap();
    scenario.cluster = "test".to_owned();
    scenario.groups[0].nodes = 3;
    scenario.workloads.clear();
    scenario
}

fn told(findings: &[Finding]) -> Vec<(&str, Option<&str>)> {
    findings.iter().map(|f| (&*f.signature, f.fix.as_deref())).collect()
}

#[test]
fn both_of_the_articles_faults_are_found_with_their_fixes() {
    let found = findings(&article(), 600);
    let told = told(&found);
    assert!(told.contains(&("kube-proxy-node-name", Some("kube-proxy-hostname-override"))), "{told:?}");
    assert!(told.contains(&("aws-node-before-service-rules", Some("aws-node-wait"))), "{told:?}");
    let proxy = found.iter().find(|f| &*f.signature == "kube-proxy-node-name").unwrap();
    // Six lookups with sleeps of 1, 2, 4, 8 and 16 s between them, each up to a fifth longer.
    let cost = proxy.cost_s.unwrap();
    assert!((31.0..38.0).contains(&cost), "{cost}");
    assert_eq!(proxy.evidence.len(), 8, "{:#?}", proxy.evidence);
}

#[test]
fn the_same_is_found_in_todays_words() {
    let mut scenario = article();
    scenario.daemonsets[0].version = Some("v1.36.0-eksbuild.1".to_owned());
    let found = findings(&scenario, 600);
    let told = told(&found);
    assert!(told.contains(&("kube-proxy-node-name", Some("kube-proxy-hostname-override"))), "{told:?}");
    let cost = found.iter().find(|f| &*f.signature == "kube-proxy-node-name").and_then(|f| f.cost_s).unwrap();
    assert!((29.0..32.0).contains(&cost), "{cost}");
}

#[test]
fn with_both_mended_nothing_is_found() {
    let mut scenario = article();
    scenario.daemonsets[0].hostname_override = true;
    for set in &mut scenario.daemonsets[1..] {
        set.waits = true;
    }
    assert_eq!(told(&findings(&scenario, 600)), []);
}
