//! Autopsies of nodes that started badly on the simulated world, from what its ports tell and nothing else.

use fastnode::cloud::Cloud;
use fastnode::cluster::Cluster;
use fastnode::cluster::evidence::{Evidence, LOG_LINES};
use fastnode::controller::observe;
use fastnode::model::{InstanceId, Text};
use fastnode::observe::Snapshot;
use fastnode::policy::Policy;
use fastnode::readiness::diagnosis::{Ask, Finding, Scope, autopsy, gather};
use fastnode::readiness::stages::{Boots, Measurement};
use fastnode::sim::{Scenario, Simulation, World};

use crate::harness::{group, on_virtual_time, seconds};
use crate::runs::{ports, settings};

async fn observed(sim: &Simulation) -> Snapshot {
    observe(&ports(sim), &settings("test", Policy::default())).await.unwrap()
}

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
        let snapshot = observed(&sim).await;
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

#[test]
fn a_diagnosis_of_a_hundred_nodes_reads_twenty_pods_logs_and_lists_each_kind_once() {
    on_virtual_time(async || {
        let scenario = Scenario::load("article").unwrap();
        let sim = World::start(&scenario, 1);
        let snapshot = observed(&sim).await;
        let policy = Policy::default();
        let limit = std::time::Duration::from_secs(60);
        let ask = Ask { cluster: "article", policy: &policy, scope: Scope::Policy, pods: 20, limit };
        let gathered = gather((&sim.cloud, &sim.cluster, sim.clock), &ask, &snapshot).await;
        assert_eq!((gathered.suspects.pods.len(), gathered.pods_read), (500, 20));
        let requests = sim.cluster.requests();
        let lists: Vec<_> = requests.iter().filter(|(verb, _)| verb.starts_with("list ")).collect();
        assert!(lists.iter().any(|(verb, _)| &***verb == "list events") && lists.len() > 4, "{requests:?}");
        assert!(lists.iter().all(|(_, times)| **times == 1), "{requests:?}");
        // Two runs of those that were restarted, one of the others; init containers that did their work aside.
        let logs = requests[&Text::from("get pods/log")];
        assert!((20..=40).contains(&logs), "{logs}");
        assert!(gathered.evidence.logs.values().all(|lines| lines.len() <= LOG_LINES as usize));
        // A spec each of kube-proxy and aws-node, the Service, kube-proxy's ConfigMap; nothing else for each node.
        assert!(requests.iter().all(|(verb, times)| *times <= 2 || &**verb == "get pods/log"), "{requests:?}");
        assert_eq!(sim.cloud.calls().get("autoscaling:DescribeScalingActivities"), None);
    });
}

#[test]
fn a_measurement_asks_once_for_all_nodes_whatever_their_number() {
    on_virtual_time(async || {
        let mut scenario = Scenario::load("demo").unwrap();
        scenario.workloads.clear();
        let sim = World::start(&scenario, 1);
        let snapshot = observed(&sim).await;
        let measured = Measurement::of(&Policy::default(), &snapshot, &Boots::new(), sim.clock.now());
        assert_eq!((measured.nodes, measured.usable), (500, 500));
        sim.cloud.instances(&snapshot.instances.keys().cloned().collect::<Vec<_>>()).await.unwrap();
        sim.cluster.starts().await.unwrap();
        assert!(sim.cluster.requests().values().all(|times| *times == 1), "{:?}", sim.cluster.requests());
    });
}
