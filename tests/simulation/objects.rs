//! What diagnosis and fixes ask: whole objects, logs, warnings, add-ons, consoles.

use std::collections::BTreeSet;

use fastnode::cloud::Cloud;
use fastnode::cloud::ErrorKind as CloudError;
use fastnode::cloud::addons::{AddonChange, AddonUpdate, Addons};
use fastnode::cloud::evidence::Evidence as CloudEvidence;
use fastnode::cluster::ErrorKind;
use fastnode::cluster::evidence::{Evidence, LogRun};
use fastnode::cluster::manifests::{Manifests, Sending};
use fastnode::model::{Lifecycle, ObjectKey, Pod};
use fastnode::sim::{Scenario, Simulation, World};
use serde_json::{Value, json};

use crate::harness::{Watch, group, instances, on_virtual_time, world};

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("kube-system", name)
}

fn article(nodes: u32) -> Scenario {
    let mut scenario = Scenario::load("article").unwrap();
    scenario.cluster = "test".to_owned();
    scenario.groups[0].nodes = nodes;
    scenario.workloads.clear();
    scenario
}

const POD: &str = "/spec/template/spec";

/// What a fix of aws-node applies: an init container of ours.
fn waiter() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": "aws-node", "namespace": "kube-system" },
        "spec": { "template": { "spec": { "initContainers": [{
            "name": "fastnode-wait-service", "image": "registry.example.com/fastnode:0.1.0",
            "args": ["await", "tcp", "$(KUBERNETES_SERVICE_HOST):443"],
        }] } } },
    })
}

/// The DaemonSet pod of this name on the newest node.
fn newest_pod(watch: &Watch, set: &str) -> Pod {
    let node = watch.snapshot.nodes.values().max_by_key(|n| n.created).unwrap();
    let mut pods = watch.snapshot.pods_on(&node.name);
    let mine = |p: &&Pod| p.owner.as_ref().is_some_and(|o| &*o.name == set);
    pods.find(mine).unwrap().clone()
}

async fn join_one(sim: &Simulation, watch: &mut Watch, seconds: u64) {
    let group = group(&sim.cloud).await.group;
    sim.cloud.set_desired(&group.name, group.desired + 1).await.unwrap();
    watch.follow(seconds).await;
}

async fn log(sim: &Simulation, pod: &Pod, container: &str, run: LogRun) -> String {
    let lines = sim.cluster.logs(&pod.key, container, run).await.unwrap();
    assert!(lines.is_sorted_by_key(|l| l.time));
    lines.iter().map(|l| &*l.text).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_manifest_shows_its_owners_and_is_changed_under_its_version() {
    on_virtual_time(async || {
        let mut scenario = article(4);
        scenario.daemonsets[0].addon = true;
        let sim = World::start(&scenario, 1);
        let proxy = sim.cluster.daemonset(&key("kube-proxy")).await.unwrap().unwrap();
        assert_eq!(proxy.pointer(&format!("{POD}/containers/0/command/0")).unwrap(), "kube-proxy");
        assert_eq!(proxy["metadata"]["managedFields"][0]["manager"], "eks");
        assert_eq!(proxy["status"]["desiredNumberScheduled"], 4);
        let node = sim.cluster.daemonset(&key("aws-node")).await.unwrap().unwrap();
        assert_eq!(node["metadata"]["managedFields"][0]["manager"], "kubectl-client-side-apply");
        assert!(sim.cluster.daemonset(&key("cilium")).await.unwrap().is_none());

        let command = json!({ "apiVersion": "apps/v1", "kind": "DaemonSet", "spec": { "template": { "spec": {
            "containers": [{ "name": "kube-proxy", "command": ["kube-proxy", "--hostname-override=$(NODE_NAME)"] }],
        } } } });
        let plain = Sending::default();
        let refused = sim.cluster.apply_daemonset(&key("kube-proxy"), &command, plain).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Conflict);
        let path = r#"conflict with "eks": .spec.template.spec.containers[name="kube-proxy"].command"#;
        assert!(refused.message.contains(path), "{}", refused.message);
        let dry = Sending { dry_run: true, force: true };
        let judged = sim.cluster.apply_daemonset(&key("kube-proxy"), &command, dry).await.unwrap();
        assert_eq!(judged.pointer(&format!("{POD}/containers/0/command")).unwrap().as_array().unwrap().len(), 2);
        assert_eq!(sim.cluster.daemonset(&key("kube-proxy")).await.unwrap().unwrap()["spec"], proxy["spec"]);

        let version = proxy["metadata"]["resourceVersion"].clone();
        let patch = json!([{ "op": "test", "path": "/metadata/resourceVersion", "value": version },
            { "op": "add", "path": format!("{POD}/containers/0/command/-"), "value": "--v=4" }]);
        let after = sim.cluster.patch_daemonset(&key("kube-proxy"), &patch, plain).await.unwrap();
        assert_ne!(after["metadata"]["resourceVersion"], version);
        assert_eq!(after["metadata"]["generation"], 2);
        let again = sim.cluster.patch_daemonset(&key("kube-proxy"), &patch, plain).await.unwrap_err();
        assert_eq!(again.kind, ErrorKind::Conflict);
        let mut no_image = waiter();
        no_image["spec"]["template"]["spec"]["initContainers"][0]["image"] = json!("");
        let invalid = sim.cluster.apply_daemonset(&key("aws-node"), &no_image, plain).await.unwrap_err();
        assert_eq!(invalid.kind, ErrorKind::Invalid);
        assert!(invalid.message.contains("initContainers[1].image: Required value"), "{}", invalid.message);
        let service = sim.cluster.service(&ObjectKey::new("default", "kubernetes")).await.unwrap().unwrap();
        assert_eq!((service.address.as_deref(), &service.ports[..]), (Some("172.20.0.1"), &[443][..]));
        let config = sim.cluster.config_map(&key("kube-proxy-config")).await.unwrap().unwrap();
        assert!(config["config"].contains("mode: \"iptables\""));
    });
}

#[test]
fn a_changed_template_rolls_as_its_strategy_says_and_taken_back_rolls_back() {
    on_virtual_time(async || {
        let mut scenario = article(20);
        scenario.daemonsets[0].hostname_override = true;
        let sim = World::start(&scenario, 1);
        let mut watch = Watch::begin(&sim).await;
        let before = sim.cluster.daemonset(&key("aws-node")).await.unwrap().unwrap();
        let whole = |watch: &Watch| {
            let pods = watch.snapshot.pods.values();
            let mine = pods.filter(|p| p.owner.as_ref().is_some_and(|o| &*o.name == "aws-node"));
            mine.filter(|p| p.flags.ready && p.deleting.is_none()).count()
        };
        sim.cluster.apply_daemonset(&key("aws-node"), &waiter(), Sending::default()).await.unwrap();
        let mut least = 20;
        for _ in 0..600 {
            watch.follow(1).await;
            least = least.min(whole(&watch));
        }
        assert_eq!(least, 18, "10% of twenty at a time");
        let rolled = sim.cluster.daemonset(&key("aws-node")).await.unwrap().unwrap();
        assert_eq!(
            (&rolled["status"]["updatedNumberScheduled"], &rolled["status"]["numberReady"]),
            (&json!(20), &json!(20))
        );
        join_one(&sim, &mut watch, 300).await;
        let new = newest_pod(&watch, "aws-node");
        assert_eq!(new.containers[0].name.as_ref(), "aws-vpc-cni-init");
        assert!(new.flags.ready && new.containers.iter().all(|c| c.restarts == 0), "{new:?}");

        let nothing = json!({ "apiVersion": "apps/v1", "kind": "DaemonSet" });
        let back = sim.cluster.apply_daemonset(&key("aws-node"), &nothing, Sending::default()).await.unwrap();
        assert_eq!(back["spec"], before["spec"]);

        // OnDelete: what runs stays, what comes is new.
        let on_delete = json!([{ "op": "replace", "path": "/spec/updateStrategy", "value": { "type": "OnDelete" } }]);
        watch.follow(600).await;
        sim.cluster.patch_daemonset(&key("aws-node"), &on_delete, Sending::default()).await.unwrap();
        sim.cluster.apply_daemonset(&key("aws-node"), &waiter(), Sending::default()).await.unwrap();
        watch.follow(300).await;
        let status = sim.cluster.daemonset(&key("aws-node")).await.unwrap().unwrap()["status"].clone();
        assert_eq!(status["updatedNumberScheduled"], 0);
        join_one(&sim, &mut watch, 300).await;
        assert_eq!(newest_pod(&watch, "aws-node").containers.iter().map(|c| c.restarts).sum::<u32>(), 0);
        assert_eq!(sim.verdict(), Vec::<String>::new());
    });
}

#[test]
fn logs_tell_what_the_causes_did_in_the_words_of_their_versions() {
    on_virtual_time(async || {
        let sim = World::start(&article(3), 2);
        let mut watch = Watch::begin(&sim).await;
        join_one(&sim, &mut watch, 400).await;
        let proxy = newest_pod(&watch, "kube-proxy");
        let told = log(&sim, &proxy, "kube-proxy", LogRun::Current).await;
        let looked = told.matches("Failed to retrieve node info: nodes \"ip-10-").count();
        assert_eq!(looked, 6, "{told}");
        assert!(told.contains(".corp.example\" not found"), "{told}");
        assert!(told.contains("can't determine this node's IP, assuming 127.0.0.1"), "{told}");
        assert_eq!(log(&sim, &proxy, "kube-proxy", LogRun::Previous).await, "");
        let cni = newest_pod(&watch, "aws-node");
        let last = log(&sim, &cni, "aws-node", LogRun::Current).await;
        let before = log(&sim, &cni, "aws-node", LogRun::Previous).await;
        assert!(before.contains("dial tcp 172.20.0.1:443: i/o timeout"), "{before}");
        assert!(
            !before.contains("Successfully copied") && last.contains("Successfully copied CNI plugin binary"),
            "{last}"
        );
        let container = cni.containers.iter().find(|c| !c.init).unwrap();
        let run = container.last.clone().unwrap();
        assert_eq!((container.restarts, run.exit_code), (2, 1));
        let lasted = run.finished.unwrap().duration_since(run.started.unwrap()).as_secs_f64();
        assert!((lasted - 5.0).abs() < 0.5, "its own time-out: {lasted} s");
        let warnings = sim.cluster.warnings().await.unwrap();
        let mine = |e: &&fastnode::cluster::evidence::EventRecord| e.about == cni.key;
        let back_off = warnings.iter().find(mine).unwrap();
        assert_eq!(&*back_off.reason, "BackOff");
        assert!(back_off.message.starts_with("Back-off restarting failed container aws-node in pod aws-node-"));
        assert!(sim.cluster.logs(&key("nobody"), "x", LogRun::Current).await.is_err());
    });
    on_virtual_time(async || {
        let mut scenario = article(3);
        scenario.daemonsets[0].version = Some("v1.34.0-eksbuild.2".to_owned());
        scenario.daemonsets[1].waits = true;
        let sim = World::start(&scenario, 2);
        let mut watch = Watch::begin(&sim).await;
        join_one(&sim, &mut watch, 400).await;
        let told = log(&sim, &newest_pod(&watch, "kube-proxy"), "kube-proxy", LogRun::Current).await;
        assert!(told.contains("\"Timed out waiting for node to exist\""), "{told}");
        assert!(told.contains("Can't determine this node's IP, assuming loopback"), "{told}");
        let waiter = log(&sim, &newest_pod(&watch, "aws-node"), "fastnode-wait-service", LogRun::Current).await;
        assert!(waiter.contains("a connection to 172.20.0.1:443: there after"), "{waiter}");
    });
}

#[test]
fn a_pod_without_a_network_warns_of_it_and_what_is_denied_is_refused() {
    on_virtual_time(async || {
        let mut scenario = article(3);
        scenario.faults.denied.insert("get pods/log".to_owned());
        let sim = World::start(&scenario, 2);
        let mut watch = Watch::begin(&sim).await;
        let nodes = watch.snapshot.nodes.len();
        join_one(&sim, &mut watch, 20).await;
        while watch.snapshot.nodes.len() == nodes {
            watch.follow(1).await;
        }
        watch.follow(20).await;
        let waits = newest_pod(&watch, "ebs-csi-node");
        let warnings = sim.cluster.warnings().await.unwrap();
        let event = warnings.iter().find(|e| e.about == waits.key).unwrap();
        assert_eq!(&*event.reason, "NetworkNotReady");
        assert!(event.message.contains("NetworkReady=false reason:NetworkPluginNotReady"), "{}", event.message);
        let refused = sim.cluster.logs(&waits.key, "ebs-csi-node", LogRun::Current).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Forbidden);
        assert_eq!(&*refused.verb, "get pods/log");
    });
}

#[test]
fn an_addon_takes_what_its_schema_allows_and_leaves_what_others_own() {
    on_virtual_time(async || {
        let mut scenario = article(3);
        scenario.daemonsets[0].addon = true;
        scenario.daemonsets[1].addon = true;
        let sim = World::start(&scenario, 1);
        let update = async |name: &str, change: AddonChange| {
            let id = sim.cloud.update_addon("test", name, &change).await?;
            for _ in 0..60 {
                match sim.cloud.addon_update("test", name, &id).await? {
                    AddonUpdate::InProgress => tokio::time::sleep(std::time::Duration::from_secs(5)).await,
                    done => return Ok(done),
                }
            }
            Ok::<_, fastnode::cloud::Error>(AddonUpdate::InProgress)
        };
        let cni = sim.cloud.addon("test", "vpc-cni").await.unwrap().unwrap();
        assert_eq!((&*cni.version, &*cni.status), ("v1.7.10-eksbuild.1", "ACTIVE"));
        assert!(sim.cloud.addon("test", "coredns").await.unwrap().is_none());
        let closed = AddonChange { configuration: Some(r#"{"env":{"NOBODYS":"1"}}"#.into()), version: None };
        let refused = update("vpc-cni", closed).await.unwrap_err();
        assert_eq!(refused.kind, CloudError::Refused);
        assert!(refused.message.contains("'NOBODYS' is not defined in the schema"), "{}", refused.message);
        let schema = sim.cloud.addon_schema("kube-proxy", "v1.21.2-eksbuild.2").await.unwrap().unwrap();
        let keys: Vec<_> = schema["properties"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["ipvs", "mode", "podAnnotations", "podLabels", "resources"]);

        sim.cluster.apply_daemonset(&key("aws-node"), &waiter(), Sending::default()).await.unwrap();
        let endpoint = json!({ "env": { "CLUSTER_ENDPOINT": "https://x.eks.amazonaws.com" } }).to_string();
        let change = AddonChange { configuration: Some(endpoint.as_str().into()), version: None };
        assert_eq!(update("vpc-cni", change).await.unwrap(), AddonUpdate::Successful);
        let after = sim.cluster.daemonset(&key("aws-node")).await.unwrap().unwrap();
        let env = after.pointer(&format!("{POD}/containers/0/env")).unwrap().to_string();
        assert!(env.contains("CLUSTER_ENDPOINT") && env.contains("WARM_ENI_TARGET"), "{env}");
        assert!(after.pointer(&format!("{POD}/initContainers/1/name")).unwrap() == "fastnode-wait-service");
        assert_eq!(
            sim.cloud.addon("test", "vpc-cni").await.unwrap().unwrap().configuration.as_deref(),
            Some(&*endpoint)
        );

        let newer = AddonChange { version: Some("v1.25.16-eksbuild.1".into()), configuration: None };
        assert_eq!(update("kube-proxy", newer).await.unwrap(), AddonUpdate::Successful);
        let proxy = sim.cluster.daemonset(&key("kube-proxy")).await.unwrap().unwrap();
        let command = proxy.pointer(&format!("{POD}/containers/0/command")).unwrap().to_string();
        assert!(command.contains("--hostname-override=$(NODE_NAME)"), "{command}");
        let versions = sim.cloud.addon_versions("kube-proxy", "1.36").await.unwrap();
        assert_eq!(versions.iter().filter(|v| v.default).count(), 1);
    });
}

#[test]
fn an_instance_that_never_joined_leaves_its_console_and_its_role() {
    on_virtual_time(async || {
        let fault = "[[faults.never_joins]]\nlaunches=[1]\n";
        let sim = world(&format!("[[groups]]\nname='g'\nnodes=3\nzones=['a','b','c']\n{fault}"), 1);
        let mut watch = Watch::begin(&sim).await;
        let before: Vec<_> = instances(&sim.cloud, Lifecycle::InService).await.into_iter().map(|i| i.id).collect();
        join_one(&sim, &mut watch, 30).await;
        let all = group(&sim.cloud).await.instances;
        let new = all.iter().find(|i| !before.contains(&i.id)).unwrap().id.clone();
        assert_eq!(sim.cloud.console(&new).await.unwrap(), None, "not within the first minute");
        watch.follow(120).await;
        let console = sim.cloud.console(&new).await.unwrap().unwrap();
        assert!(console.contains("Unauthorized"), "{console}");
        assert!(!sim.cloud.console(&before[0]).await.unwrap().unwrap().contains("Unauthorized"));
        let role = sim.cloud.roles(std::slice::from_ref(&new)).await.unwrap()[&new].clone();
        assert!(!sim.cloud.principals("test").await.unwrap().contains(&role));
        let subnets = BTreeSet::from(["subnet-a".into()]);
        assert_eq!(sim.cloud.free_addresses(&subnets).await.unwrap().len(), 1);
    });
}
