//! The two ports, driven directly.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fastnode::cloud::{Cloud, ErrorKind as CloudError};
use fastnode::cluster::{Cluster, ConfigRecord, ErrorKind, LeaseRecord, NodeChange};
use fastnode::model::{ConditionStatus, Lifecycle, NodeName, ObjectKey, Pod, Process, Taint, TaintEffect, Uid, marks};
use fastnode::sim::{Scenario, World};
use jiff::Timestamp;

use crate::harness::{Watch, group, instances, name, on_virtual_time, seconds, world};

const GROUP: &str = "[[groups]]\nname='g'\nnodes=3\nmin=2\nmax=5\nzones=['a','b','c']\n";

fn workload_pods(watch: &Watch) -> Vec<Arc<Pod>> {
    watch.snapshot.pods.values().filter(|p| !p.is_daemon()).cloned().collect()
}

fn node_and_uid(watch: &Watch, node: usize) -> (NodeName, Uid) {
    let node = watch.snapshot.nodes.values().nth(node).unwrap();
    (node.name.clone(), node.uid.clone())
}

#[test]
fn a_raised_desired_launches_in_the_emptiest_zone_and_the_node_becomes_ready() {
    on_virtual_time(async || {
        let sim = world(GROUP, 1);
        let mut watch = Watch::begin(&sim).await;
        let before: BTreeSet<_> = watch.snapshot.nodes.keys().cloned().collect();
        assert_eq!(before.len(), 3);
        sim.cloud.set_desired(&name(), 5).await.unwrap();
        watch.follow(10).await;
        let pending = instances(&sim.cloud, Lifecycle::Pending).await;
        let zones: Vec<_> = pending.iter().map(|i| i.zone.to_string()).collect();
        assert_eq!(zones, ["a", "b"], "one each in the first two of three equally full zones");
        watch.follow(120).await;
        assert_eq!(instances(&sim.cloud, Lifecycle::InService).await.len(), 5);
        let new: Vec<_> = watch.snapshot.nodes.values().filter(|n| !before.contains(&n.name)).collect();
        assert_eq!(new.len(), 2);
        for node in new {
            assert_eq!(node.ready(), ConditionStatus::True);
            assert!(node.taints.is_empty());
            let mut pods = watch.snapshot.pods_on(&node.name).filter(|p| p.is_daemon());
            assert!(pods.all(|p| p.flags.ready && p.containers.iter().all(|c| c.restarts == 0)));
            assert_eq!(watch.snapshot.csi_nodes[&node.name].drivers, ["ebs.csi.aws.com".into()]);
        }
        let activities = sim.cloud.activities(&name(), Timestamp::MIN).await.unwrap();
        assert!(activities[0].cause.contains("changing the desired capacity from 3 to 5"), "{}", activities[0].cause);
        assert!(activities[0].description.starts_with("Launching a new EC2 instance: i-0"));
    });
}

#[test]
fn aws_node_starts_after_kube_proxy_and_the_node_is_ready_after_aws_node() {
    on_virtual_time(async || {
        let sim = world(GROUP, 3);
        let mut watch = Watch::begin(&sim).await;
        sim.cloud.set_desired(&name(), 4).await.unwrap();
        watch.follow(180).await;
        let node = watch.snapshot.nodes.values().max_by_key(|n| n.created).unwrap();
        let ready = |set: &str| {
            let mut pods = watch.snapshot.pods_on(&node.name);
            pods.find(|p| p.owner.as_ref().is_some_and(|o| &*o.name == set)).unwrap().ready_since.unwrap()
        };
        assert!(ready("kube-proxy") < ready("aws-node"));
        assert!(ready("aws-node") < node.conditions["Ready"].since.unwrap());
        assert!(ready("aws-node") < ready("ebs-csi-node"));
    });
}

#[test]
fn a_termination_is_replaced_in_its_zone_and_with_decrement_it_is_not() {
    on_virtual_time(async || {
        let sim = world(GROUP, 1);
        let old = instances(&sim.cloud, Lifecycle::InService).await;
        let activity = sim.cloud.terminate(&old[1].id, false).await.unwrap();
        assert!(activity.cause.ends_with("was taken out of service in response to a user request."));
        assert_eq!(instances(&sim.cloud, Lifecycle::Terminating).await.len(), 1);
        seconds(10).await;
        assert_eq!(instances(&sim.cloud, Lifecycle::InService).await.len(), 2);
        let launched = instances(&sim.cloud, Lifecycle::Pending).await;
        assert_eq!(launched.iter().map(|i| i.zone.clone()).collect::<Vec<_>>(), [old[1].zone.clone()]);
        seconds(120).await;
        let activity = sim.cloud.terminate(&old[0].id, true).await.unwrap();
        assert!(activity.cause.contains("shrinking the capacity from 3 to 2"), "{}", activity.cause);
        seconds(120).await;
        assert_eq!(group(&sim.cloud).await.group.desired, 2);
        assert_eq!(group(&sim.cloud).await.instances.len(), 2);
    });
}

#[test]
fn limits_are_refused_in_the_words_of_aws() {
    on_virtual_time(async || {
        let sim = world(GROUP, 1);
        let above = sim.cloud.set_desired(&name(), 6).await.unwrap_err();
        assert_eq!(above.kind, CloudError::Refused);
        assert!(
            above.message.contains("New SetDesiredCapacity value 6 is above max value 5 for the AutoScalingGroup.")
        );
        sim.cloud.set_desired(&name(), 2).await.unwrap();
        let old = instances(&sim.cloud, Lifecycle::InService).await;
        let below = sim.cloud.terminate(&old[0].id, true).await.unwrap_err();
        assert_eq!(below.kind, CloudError::Refused);
        assert!(below.message.contains("Currently, desiredSize equals minSize (2). Terminating instance without"));
        let unknown = sim.cloud.terminate(&"i-0".into(), false).await.unwrap_err();
        assert_eq!(unknown.kind, CloudError::NotFound);
        sim.cloud.terminate(&old[0].id, false).await.unwrap();
        let again = sim.cloud.terminate(&old[0].id, false).await.unwrap_err();
        assert_eq!(again.kind, CloudError::Busy);
        assert!(sim.verdict().iter().any(|v| v.contains("a second time")), "{:?}", sim.verdict());
    });
}

#[test]
fn suspended_processes_do_nothing_and_scaling_in_spares_the_protected() {
    on_virtual_time(async || {
        let sim = world(GROUP, 2);
        let launch = BTreeSet::from([Process(Process::LAUNCH.into())]);
        sim.cloud.suspend(&name(), &launch).await.unwrap();
        sim.cloud.set_desired(&name(), 4).await.unwrap();
        seconds(60).await;
        assert_eq!(group(&sim.cloud).await.instances.len(), 3);
        sim.cloud.resume(&name(), &launch).await.unwrap();
        seconds(60).await;
        assert_eq!(group(&sim.cloud).await.instances.len(), 4);
        let all = instances(&sim.cloud, Lifecycle::InService).await;
        let (spared, taken) = all.split_at(3);
        let ids: Vec<_> = spared.iter().map(|i| i.id.clone()).collect();
        sim.cloud.protect(&name(), &ids, true).await.unwrap();
        sim.cloud.set_desired(&name(), 2).await.unwrap();
        seconds(15).await;
        let leaving: Vec<_> = instances(&sim.cloud, Lifecycle::Terminating).await.into_iter().map(|i| i.id).collect();
        assert_eq!(leaving, [taken[0].id.clone()]);
    });
}

#[test]
fn resuming_az_rebalance_on_an_unbalanced_group_terminates_behind_our_back() {
    on_virtual_time(async || {
        let sim = world("[[groups]]\nname='g'\nnodes=4\nzones=['a','b']\nsuspended=['AZRebalance']\n", 5);
        for instance in instances(&sim.cloud, Lifecycle::InService).await.iter().filter(|i| i.zone.as_str() == "b") {
            sim.cloud.terminate(&instance.id, true).await.unwrap();
        }
        seconds(120).await;
        assert_eq!(group(&sim.cloud).await.instances.len(), 2);
        let before = sim.verdict().len();
        sim.cloud.resume(&name(), &BTreeSet::from([Process(Process::AZ_REBALANCE.into())])).await.unwrap();
        seconds(200).await;
        let zones: Vec<_> = group(&sim.cloud).await.instances.iter().map(|i| i.zone.to_string()).collect();
        assert_eq!(zones, ["a", "b"]);
        assert!(
            sim.verdict()[before..].iter().any(|v| v.contains("the group itself terminated")),
            "{:?}",
            sim.verdict()
        );
    });
}

#[test]
fn a_zone_without_capacity_leaves_failed_activities_until_it_has_some() {
    on_virtual_time(async || {
        let fault = "balanced_only=true\n[[faults.no_capacity]]\nzone='a'\nuntil_s=300.0\n";
        let sim = world(&format!("{GROUP}{fault}"), 1);
        sim.cloud.set_desired(&name(), 4).await.unwrap();
        seconds(120).await;
        let failed = sim.cloud.activities(&name(), Timestamp::MIN).await.unwrap();
        assert!(failed[0].message.as_ref().unwrap().contains("do not have sufficient c6a.2xlarge capacity"));
        assert_eq!(group(&sim.cloud).await.instances.len(), 3);
        seconds(300).await;
        assert_eq!(instances(&sim.cloud, Lifecycle::InService).await.len(), 4);
    });
}

#[test]
fn versions_resolve_at_launch_and_a_new_one_makes_the_old_outdated() {
    on_virtual_time(async || {
        let fault = "outdated=0\n[[faults.retarget]]\nat_s=60.0\ngroup='g'\n";
        let sim = world(&format!("{GROUP}{fault}"), 1);
        let target = |version: &'static str| {
            let sim = &sim;
            async move {
                let target = sim.cloud.resolve(&group(&sim.cloud).await.group.target).await.unwrap();
                assert!(format!("{target:?}").contains(&format!("resolved: Some(\"{version}\")")), "{target:?}");
            }
        };
        target("2").await;
        assert!(sim.outdated().is_empty());
        seconds(60).await;
        target("3").await;
        assert_eq!(sim.outdated().len(), 3);
    });
}

#[test]
fn an_eviction_is_answered_as_the_api_server_does() {
    on_virtual_time(async || {
        let workloads = "
            [[workloads]]\nname='web'\nreplicas=4\nbudgets=[{max_unavailable=1}]
            [[workloads]]\nname='two'\nreplicas=2\nbudgets=[{max_unavailable=1},{min_available=0}]";
        let sim = world(&format!("{GROUP}{workloads}"), 1);
        let mut watch = Watch::begin(&sim).await;
        let of = |app: &str| {
            let pods = workload_pods(&watch);
            pods.into_iter()
                .filter(|p| &*p.labels["app"] == app)
                .map(|p| (p.key.clone(), p.uid.clone()))
                .collect::<Vec<_>>()
        };
        let (web, two) = (of("web"), of("two"));
        let kind = |result: fastnode::cluster::Result<()>| result.unwrap_err().kind;
        let evict = async |(key, uid): &(ObjectKey, Uid)| sim.cluster.evict(key, uid).await;
        assert_eq!(kind(evict(&(web[0].0.clone(), Uid::from("other"))).await), ErrorKind::Conflict);
        assert_eq!(kind(evict(&(ObjectKey::new("default", "no"), web[0].1.clone())).await), ErrorKind::NotFound);
        assert_eq!(kind(evict(&two[0]).await), ErrorKind::SeveralBudgets);
        evict(&web[0]).await.unwrap();
        evict(&web[0]).await.unwrap();
        let refused = evict(&web[1]).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::BudgetExhausted);
        assert!(refused.message.contains("The disruption budget web needs 3 healthy pods and has"), "{refused}");
        watch.follow(60).await;
        assert_eq!(workload_pods(&watch).len(), 6, "the evicted pod is gone and its replacement is there");
        assert!(!watch.snapshot.pods.contains_key(&web[0].1));
        let budget = &watch.snapshot.budgets[&ObjectKey::new("default", "web")];
        assert_eq!((budget.allowed, budget.healthy, budget.desired, budget.expected), (1, 4, 3, 4));
        evict(&web[1]).await.unwrap();
        assert_eq!(sim.counts().evictions, 2);
    });
}

#[test]
fn pods_avoid_cordoned_nodes_and_prefer_those_without_the_soft_taint() {
    on_virtual_time(async || {
        let sim = world(&format!("{GROUP}[[workloads]]\nname='web'\nreplicas=6\nspread='none'\n"), 1);
        let mut watch = Watch::begin(&sim).await;
        let (first, first_uid) = node_and_uid(&watch, 0);
        let (second, second_uid) = node_and_uid(&watch, 1);
        let (third, _) = node_and_uid(&watch, 2);
        let cordon = NodeChange { unschedulable: Some(true), ..NodeChange::default() };
        sim.cluster.change_node(&first, &first_uid, &cordon).await.unwrap();
        let taint = Taint { key: marks::OUTDATED_TAINT.into(), value: None, effect: TaintEffect::PreferNoSchedule };
        let soft = NodeChange { add_taint: Some(taint), ..NodeChange::default() };
        sim.cluster.change_node(&second, &second_uid, &soft).await.unwrap();
        let wrong = sim.cluster.change_node(&second, &first_uid, &soft).await.unwrap_err();
        assert_eq!(wrong.kind, ErrorKind::Conflict);
        watch.follow(1).await;
        assert!(watch.snapshot.nodes[&first].has_taint(marks::UNSCHEDULABLE_TAINT));
        for pod in watch.snapshot.pods_on(&first).filter(|p| !p.is_daemon()) {
            sim.cluster.evict(&pod.key, &pod.uid).await.unwrap();
        }
        watch.follow(60).await;
        let on = |node: &NodeName| watch.snapshot.pods_on(node).filter(|p| !p.is_daemon()).count();
        assert_eq!((on(&first), on(&second), on(&third)), (0, 2, 4));
        assert!(sim.verdict().iter().any(|v| v.contains("2 functional nodes, 3 promised")), "{:?}", sim.verdict());
    });
}

#[test]
fn a_volume_follows_its_pod_within_its_zone() {
    on_virtual_time(async || {
        let workload = "[[workloads]]\nname='db'\nkind='statefulset'\nreplicas=2\nvolume=true\nspread='none'\n";
        let sim = world(&format!("[[groups]]\nname='g'\nnodes=4\nzones=['a','b']\n{workload}"), 1);
        let mut watch = Watch::begin(&sim).await;
        let pod = workload_pods(&watch).into_iter().find(|p| &*p.key.name == "db-0").unwrap();
        let node = watch.snapshot.nodes[pod.node.as_ref().unwrap()].clone();
        let volume = watch.snapshot.attachments_on(&node.name).next().unwrap().volume.clone();
        let cordon = NodeChange { unschedulable: Some(true), ..NodeChange::default() };
        sim.cluster.change_node(&node.name, &node.uid, &cordon).await.unwrap();
        sim.cluster.evict(&pod.key, &pod.uid).await.unwrap();
        watch.follow(90).await;
        let moved = workload_pods(&watch).into_iter().find(|p| &*p.key.name == "db-0").unwrap();
        assert_ne!(moved.uid, pod.uid);
        assert!(moved.flags.ready);
        let new = &watch.snapshot.nodes[moved.node.as_ref().unwrap()];
        assert_ne!(new.name, node.name);
        assert_eq!(new.labels["topology.kubernetes.io/zone"], node.labels["topology.kubernetes.io/zone"]);
        assert!(watch.snapshot.attachments_on(&new.name).any(|a| a.volume == volume && a.attached));
        assert!(!watch.snapshot.attachments_on(&node.name).any(|a| a.volume == volume));
    });
}

#[test]
fn a_scripted_restart_and_the_articles_faults_show_in_the_pods() {
    on_virtual_time(async || {
        let fault = "[[faults.restarts]]\ndaemonset='aws-node'\nnode=1\ntimes=2\n";
        let sim = world(&format!("{GROUP}{fault}"), 1);
        let mut watch = Watch::begin(&sim).await;
        sim.cloud.set_desired(&name(), 5).await.unwrap();
        watch.follow(200).await;
        let mut restarts: Vec<u32> =
            watch.snapshot.pods.values().flat_map(|p| &p.containers).map(|c| c.restarts).collect();
        restarts.retain(|r| *r > 0);
        assert_eq!(restarts, [2], "one container on one node, twice");
    });
    let to_ready = |scenario: Scenario| {
        on_virtual_time(async || {
            let sim = World::start(&scenario, 1);
            let mut watch = Watch::begin(&sim).await;
            sim.cloud.set_desired(&"workers".into(), 101).await.unwrap();
            watch.follow(400).await;
            let node = watch.snapshot.nodes.values().max_by_key(|n| n.created).unwrap();
            let pods = watch.snapshot.pods_on(&node.name);
            let restarts: u32 = pods.filter(|p| p.is_daemon()).flat_map(|p| &p.containers).map(|c| c.restarts).sum();
            ((node.conditions["Ready"].since.unwrap() - node.created).get_seconds(), restarts)
        })
    };
    let broken = Scenario::load("article").unwrap();
    let mut fixed = broken.clone();
    for set in &mut fixed.daemonsets {
        set.hostname_override = true;
        set.waits = true;
    }
    let ((slow, restarted), (fast, clean)) = (to_ready(broken), to_ready(fixed));
    assert!(slow >= 25 + fast && restarted >= 3, "{slow} s and {restarted} restarts against {fast} s");
    assert_eq!(clean, 0);
}

#[test]
fn leases_and_configmaps_are_written_under_their_version() {
    on_virtual_time(async || {
        let sim = world(GROUP, 1);
        let key = ObjectKey::new("kube-system", "fastnode");
        let lease = LeaseRecord {
            holder: Some("me".to_owned()),
            duration_seconds: 15,
            acquired: None,
            renewed: None,
            transitions: 0,
            annotations: BTreeMap::new(),
            version: None,
        };
        assert_eq!(sim.cluster.lease(&key).await.unwrap(), None);
        let written = sim.cluster.put_lease(&key, &lease).await.unwrap();
        assert_eq!(sim.cluster.put_lease(&key, &lease).await.unwrap_err().kind, ErrorKind::Conflict);
        let renewed = sim.cluster.put_lease(&key, &written).await.unwrap();
        assert_ne!(renewed.version, written.version);
        assert_eq!(sim.cluster.put_lease(&key, &written).await.unwrap_err().kind, ErrorKind::Conflict);
        assert_eq!(sim.left_behind().len(), 1);

        let config = ConfigRecord { name: "fastnode-x".to_owned(), ..ConfigRecord::default() };
        let made = sim.cluster.put_config("kube-system", "x", &config).await.unwrap();
        assert!(made.version.is_some() && made.created.is_some());
        assert_eq!(sim.cluster.put_config("kube-system", "x", &config).await.unwrap_err().kind, ErrorKind::Conflict);
        assert_eq!(sim.cluster.configs("kube-system").await.unwrap(), std::slice::from_ref(&made));
        sim.cluster.delete_config("kube-system", "fastnode-x").await.unwrap();
        let gone = sim.cluster.put_config("kube-system", "x", &made).await.unwrap_err();
        assert_eq!(gone.kind, ErrorKind::NotFound);
        assert_eq!(sim.cluster.requests()["update leases"], 2);
    });
}

#[test]
fn tags_hold_what_a_ledger_needs_and_no_more() {
    on_virtual_time(async || {
        let sim = world(GROUP, 1);
        let tag = |value: String| BTreeMap::from([(marks::TAG_SURGE.into(), value.into())]);
        sim.cloud.tag(&name(), &tag("{}".to_owned())).await.unwrap();
        assert_eq!(&*group(&sim.cloud).await.group.tags[marks::TAG_SURGE], "{}");
        assert_eq!(sim.cloud.tag(&name(), &tag("x".repeat(257))).await.unwrap_err().kind, CloudError::Refused);
        assert!(sim.left_behind()[0].contains("tags differ"));
        sim.cloud.untag(&name(), &BTreeSet::from([marks::TAG_SURGE.into()])).await.unwrap();
        assert!(sim.left_behind().is_empty());
        assert_eq!(sim.cloud.calls()["autoscaling:CreateOrUpdateTags"], 2);
    });
}

#[test]
fn a_lost_reply_has_had_its_effect_and_throttling_has_not() {
    on_virtual_time(async || {
        let sim = world(&format!("{GROUP}[faults]\nlost_replies=1.0\n"), 1);
        assert_eq!(sim.cloud.set_desired(&name(), 4).await.unwrap_err().kind, CloudError::UnknownOutcome);
        assert_eq!(group(&sim.cloud).await.group.desired, 4);
        let sim = world(&format!("{GROUP}[faults]\nthrottle=1.0\n"), 1);
        assert_eq!(sim.cloud.set_desired(&name(), 4).await.unwrap_err().kind, CloudError::Throttled);
        assert!(sim.left_behind().is_empty());
    });
}

#[test]
fn a_process_that_dies_hangs_and_the_next_one_finds_the_world_as_it_is() {
    on_virtual_time(async || {
        let mut sim = world(&format!("{GROUP}[faults]\ncrash_at=2\n"), 1);
        let cloud = sim.cloud.clone();
        let dies = async {
            cloud.set_desired(&name(), 4).await.unwrap();
            cloud.set_desired(&name(), 5).await.unwrap();
        };
        tokio::select! {
            biased;
            () = dies => panic!("it went on after its death"),
            () = sim.crashed() => {}
        }
        sim.revive();
        let desired = group(&sim.cloud).await.group.desired;
        assert!([4, 5].contains(&desired));
        let hung = tokio::time::timeout(std::time::Duration::from_secs(60), cloud.groups("test")).await;
        assert!(hung.is_err(), "the dead process still gets answers");
    });
}

#[test]
fn the_judge_sees_an_undrained_termination() {
    on_virtual_time(async || {
        let sim = world(&format!("{GROUP}[[workloads]]\nname='web'\nreplicas=6\n"), 1);
        let old = instances(&sim.cloud, Lifecycle::InService).await;
        sim.cloud.terminate(&old[0].id, false).await.unwrap();
        let verdict = sim.verdict().join("\n");
        for expected in ["with 2 evictable pods left on it", "was open to pods"] {
            assert!(verdict.contains(expected), "{verdict}");
        }
        seconds(120).await;
        let sim = world(&format!("{GROUP}outdated=0\n"), 1);
        let mut watch = Watch::begin(&sim).await;
        let (node, uid) = node_and_uid(&watch, 0);
        let instance = watch.snapshot.nodes[&node].instance.clone().unwrap();
        let cordon = NodeChange { unschedulable: Some(true), ..NodeChange::default() };
        sim.cluster.change_node(&node, &uid, &cordon).await.unwrap();
        watch.follow(1).await;
        sim.cloud.terminate(&instance, false).await.unwrap();
        assert!(sim.verdict().iter().any(|v| v.contains("which is on the target, was terminated")));
    });
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
    let run = |seed| {
        on_virtual_time(async || {
            let sim = World::start(&Scenario::load("small").unwrap(), seed);
            let mut watch = Watch::begin(&sim).await;
            sim.cloud.set_desired(&"general".into(), 4).await.unwrap();
            let pods = workload_pods(&watch);
            for pod in pods.iter().take(12) {
                // A refusal is a result like any other here.
                let _ = sim.cluster.evict(&pod.key, &pod.uid).await;
            }
            watch.follow(300).await;
            watch.lines.push(format!("{:?}", sim.cloud.groups("small").await.unwrap()));
            watch.lines.join("\n")
        })
    };
    let first = run(7);
    assert!(first.lines().count() > 100);
    assert_eq!(first, run(7));
    assert_ne!(first, run(8));
}

#[test]
fn the_demo_has_500_nodes_and_15000_pods_all_running() {
    on_virtual_time(async || {
        let sim = World::start(&Scenario::load("demo").unwrap(), 1);
        let watch = Watch::begin(&sim).await;
        assert_eq!(watch.snapshot.nodes.len(), 500);
        let pods = workload_pods(&watch);
        assert_eq!(pods.len(), 15_000);
        assert!(pods.iter().all(|p| p.node.is_some() && p.flags.ready));
        assert!(watch.snapshot.budgets.values().all(|b| b.allowed > 0));
        assert_eq!(sim.outdated().len(), 500);
    });
}

#[test]
fn random_scenarios_are_valid_and_their_pods_all_have_a_place() {
    for seed in 0..100 {
        let scenario = Scenario::random(seed);
        let text = toml::to_string(&scenario).unwrap();
        assert_eq!(Scenario::parse(&text, "random").unwrap(), scenario, "seed {seed}");
        on_virtual_time(async || {
            let sim = World::start(&scenario, seed);
            let watch = Watch::begin(&sim).await;
            assert!(workload_pods(&watch).iter().all(|p| p.flags.ready), "seed {seed}");
        });
    }
}
