//! Full objects as an API server sends them, field by field.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::model::*;

fn read(kind: Kind, json: &Value) -> Object {
    item(kind, json.to_string().as_bytes(), &mut Interner::default()).unwrap()
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<Text, Text> {
    pairs.iter().map(|(k, v)| (Text::from(*k), Text::from(*v))).collect()
}

fn time(text: &str) -> jiff::Timestamp {
    text.parse().unwrap()
}

/// What every object carries and nobody reads.
fn metadata(name: &str, namespace: Option<&str>, uid: &str) -> Value {
    let mut metadata = json!({
        "name": name, "uid": uid, "resourceVersion": "4711", "generation": 2, "generateName": "x-",
        "creationTimestamp": "2026-11-01T10:00:00Z",
        "managedFields": [{"manager": "kubelet", "operation": "Update", "apiVersion": "v1", "time": "2026-11-01T10:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}}}],
    });
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    metadata
}

fn daemon_pod() -> Value {
    let mut meta = metadata("aws-node-x7k2p", Some("kube-system"), "pod-uid");
    meta["labels"] = json!({"app.kubernetes.io/name": "aws-node", "controller-revision-hash": "6d5b", "pod-template-generation": "3"});
    meta["annotations"] = json!({
        "karpenter.sh/do-not-disrupt": "30m",
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
        "kubectl.kubernetes.io/last-applied-configuration": "{\"kind\":\"DaemonSet\"}\n",
    });
    meta["deletionTimestamp"] = json!("2026-11-02T00:00:30Z");
    meta["ownerReferences"] = json!([
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "o"},
        {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "aws-node", "uid": "ds-uid", "controller": true, "blockOwnerDeletion": true},
    ]);
    json!({
        "metadata": meta,
        "spec": {
            "nodeName": "ip-10-0-0-1.ec2.internal", "hostNetwork": true, "priorityClassName": "system-node-critical",
            "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "persistentVolumeClaim": {"claimName": "c"}},
                {"name": "kube-api-access", "projected": {"sources": [{"serviceAccountToken": {"expirationSeconds": 3607}}]}}],
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}],
            "tolerations": [{"key": "CriticalAddonsOnly", "operator": "Exists"}, {"operator": "Exists", "effect": "NoSchedule"}],
            "initContainers": [
                {"name": "aws-vpc-cni-init", "image": "i", "resources": {"requests": {"cpu": "500m", "memory": "10Mi"}}},
                {"name": "agent", "restartPolicy": "Always", "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}}},
                {"name": "late", "resources": {"requests": {"cpu": "10m", "memory": "1Gi"}}},
            ],
            "containers": [
                {"name": "aws-node", "image": "j", "env": [{"name": "SECRET", "value": "never kept"}], "resources": {"requests": {"cpu": "25m"}}},
                {"name": "exporter", "resources": {"limits": {"cpu": "9"}}},
            ],
            "overhead": {"cpu": "5m"},
        },
        "status": {
            "phase": "Running",
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-01T10:00:01Z"},
                {"type": "Initialized", "status": "True", "lastTransitionTime": "2026-11-01T10:00:04Z"},
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-01T10:00:09Z", "lastProbeTime": null},
            ],
            "initContainerStatuses": [
                {"name": "aws-vpc-cni-init", "ready": true, "restartCount": 1,
                    "state": {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": "2026-11-01T10:00:02Z",
                        "finishedAt": null}}, "lastState": {"terminated": {"exitCode": 2}}},
            ],
            "containerStatuses": [
                {"name": "aws-node", "ready": true, "restartCount": 0, "image": "j",
                    "state": {"running": {"startedAt": "2026-11-01T10:00:05Z"}}, "lastState": {}},
                {"name": "exporter", "ready": false, "restartCount": 7,
                    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled",
                        "startedAt": "2026-11-01T10:00:06Z", "finishedAt": "2026-11-01T10:00:08Z"}}},
            ],
        },
    })
}

#[test]
fn a_daemon_pod_with_every_field() {
    let Some(Fact::Pod(pod)) = read(Kind::Pod, &daemon_pod()).fact else { panic!("no pod") };
    let container = |name: &str, init, restarts, ready, state, last| Container {
        name: name.into(),
        init,
        restarts,
        ready,
        state,
        last,
    };
    let ended = |exit_code| LastRun { exit_code, reason: "".into(), started: None, finished: None };
    let init = LastRun { reason: "Completed".into(), started: Some(time("2026-11-01T10:00:02Z")), ..ended(0) };
    let killed = LastRun {
        exit_code: 137,
        reason: "OOMKilled".into(),
        started: Some(time("2026-11-01T10:00:06Z")),
        finished: Some(time("2026-11-01T10:00:08Z")),
    };
    assert_eq!(
        pod,
        Pod {
            uid: "pod-uid".into(),
            key: ObjectKey::new("kube-system", "aws-node-x7k2p"),
            node: Some("ip-10-0-0-1.ec2.internal".into()),
            phase: Phase::Running,
            deleting: Some(time("2026-11-02T00:00:30Z")),
            owner: Some(Arc::new(Owner { kind: "DaemonSet".into(), name: "aws-node".into(), uid: "ds-uid".into() })),
            labels: Arc::new(texts(&[
                ("app.kubernetes.io/name", "aws-node"),
                ("controller-revision-hash", "6d5b"),
                ("pod-template-generation", "3"),
            ])),
            flags: PodFlags {
                mirror: false,
                empty_dir: true,
                host_network: true,
                claims: true,
                hard_zone_spread: true,
                not_safe_to_evict: true,
                do_not_disrupt: true,
                ready: true,
                critical: true,
            },
            containers: vec![
                container("aws-vpc-cni-init", true, 1, true, ContainerState::Terminated(init), Some(ended(2))),
                container(
                    "aws-node",
                    false,
                    0,
                    true,
                    ContainerState::Running(Some(time("2026-11-01T10:00:05Z"))),
                    None
                ),
                container(
                    "exporter",
                    false,
                    7,
                    false,
                    ContainerState::Waiting("CrashLoopBackOff".into()),
                    Some(killed)
                ),
            ],
            revision: Some("6d5b".into()),
            // The first init container alone (500m) is more than 25m + the sidecar's 50m; 5m of overhead.
            cpu: 505,
            // The last init container beside the sidecar.
            memory: (1024 + 64) << 20,
            tolerates_cordon: true,
            unschedulable: None,
            created: time("2026-11-01T10:00:00Z"),
            scheduled: Some(time("2026-11-01T10:00:01Z")),
            initialized: Some(time("2026-11-01T10:00:04Z")),
            ready_since: Some(time("2026-11-01T10:00:09Z")),
        }
    );
}

#[test]
fn a_pod_of_a_workload_keeps_no_container_statuses_and_no_flag_it_has_not() {
    let mut json = daemon_pod();
    json["metadata"]["ownerReferences"][1]["kind"] = json!("ReplicaSet");
    json["metadata"]["annotations"] =
        json!({"karpenter.sh/do-not-disrupt": "false", "kubernetes.io/config.mirror": "h"});
    json["metadata"]["deletionTimestamp"] = Value::Null;
    json["spec"] = json!({"containers": [{"name": "a", "resources": {}}], "tolerations": [
        {"key": "node.kubernetes.io/unschedulable", "operator": "Gt", "value": "1"},
        {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoExecute"}],
        "topologySpreadConstraints": [{"topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"},
            {"topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}]});
    json["status"] = json!({"phase": "Pending", "conditions": [{"type": "Initialized", "status": "True", "lastTransitionTime": "2026-11-01T10:00:04Z"},
        {"type": "PodScheduled", "status": "False", "lastTransitionTime": "2026-11-01T10:00:01Z",
        "reason": "Unschedulable", "message": "0/5 nodes are available: 5 Insufficient cpu."}]});
    let Some(Fact::Pod(pod)) = read(Kind::Pod, &json).fact else { panic!("no pod") };
    assert!(pod.containers.is_empty());
    assert_eq!(pod.flags, PodFlags { mirror: true, ..PodFlags::default() });
    assert_eq!((pod.phase, pod.node, pod.deleting, pod.tolerates_cordon), (Phase::Pending, None, None, false));
    assert_eq!(pod.unschedulable.as_deref(), Some("0/5 nodes are available: 5 Insufficient cpu."));
    assert_eq!((pod.cpu, pod.memory, pod.ready_since), (0, 0, None));
    assert_eq!((pod.scheduled, pod.initialized), (None, None), "a condition that is false since then");
}

#[test]
fn requests_of_the_pod_itself_replace_those_of_its_containers() {
    let mut json = daemon_pod();
    json["spec"]["resources"] = json!({"requests": {"cpu": "2"}});
    let Some(Fact::Pod(pod)) = read(Kind::Pod, &json).fact else { panic!("no pod") };
    assert_eq!((pod.cpu, pod.memory), (2005, (1024 + 64) << 20));
}

#[test]
fn two_pods_of_one_template_share_labels_names_and_owner() {
    let mut strings = Interner::default();
    let mut second = daemon_pod();
    second["metadata"]["name"] = json!("aws-node-zzzzz");
    second["metadata"]["uid"] = json!("other-uid");
    let mut pod = |json: &Value| match item(Kind::Pod, json.to_string().as_bytes(), &mut strings).unwrap().fact {
        Some(Fact::Pod(pod)) => pod,
        other => panic!("{other:?}"),
    };
    let (one, two) = (pod(&daemon_pod()), pod(&second));
    assert!(Arc::ptr_eq(&one.labels, &two.labels));
    assert!(Arc::ptr_eq(&one.key.namespace, &two.key.namespace));
    assert!(Arc::ptr_eq(one.node.unwrap().text(), two.node.unwrap().text()));
    assert!(Arc::ptr_eq(one.owner.unwrap().uid.text(), two.owner.unwrap().uid.text()));
    assert!(Arc::ptr_eq(&one.containers[0].name, &two.containers[0].name));
    assert_ne!(one.uid, two.uid);
}

fn node() -> Value {
    let mut meta = metadata("ip-10-0-0-1.ec2.internal", None, "node-uid");
    meta["labels"] = json!({"topology.kubernetes.io/zone": "us-west-2a", "quoted": "a"});
    meta["annotations"] = json!({
        "fastnode.dev/state": "draining", "fastnode.dev/reason": "says \"template\"",
        "cluster-autoscaler.kubernetes.io/scale-down-disabled": "true", "karpenter.sh/do-not-disrupt": "true",
        "csi.volume.kubernetes.io/nodeid": "{\"ebs.csi.aws.com\":\"i-0abc\"}", "node.alpha.kubernetes.io/ttl": "0",
    });
    json!({
        "metadata": meta,
        "spec": {
            "providerID": "aws:///us-west-2a/i-0abc", "unschedulable": true,
            "taints": [
                {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule", "timeAdded": "2026-11-02T00:00:00Z"},
                {"key": "dedicated", "value": "gpu", "effect": "NoExecute"},
            ],
        },
        "status": {
            "capacity": {"cpu": "4"},
            "allocatable": {"cpu": "3920m", "memory": "7Gi", "nvidia.com/gpu": "1", "pods": "58", "odd": "1x"},
            "conditions": [
                {"type": "MemoryPressure", "status": "False", "reason": "KubeletHasSufficientMemory", "message": "kubelet has sufficient memory",
                    "lastHeartbeatTime": "2026-11-02T00:00:00Z", "lastTransitionTime": "2026-11-01T10:00:00Z"},
                {"type": "Ready", "status": "Maybe", "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status.",
                    "lastTransitionTime": "2026-11-02T00:00:00Z"},
            ],
            "nodeInfo": {"kubeletVersion": "v1.36.3-eks-1", "osImage": "x"},
            "images": [{"names": ["a", "b"], "sizeBytes": 1}],
        },
    })
}

#[test]
fn a_node_with_every_field() {
    let object = read(Kind::Node, &node());
    let Some(Fact::Node(read)) = object.fact else { panic!("no node") };
    let taint =
        |key: &str, value: Option<&str>, effect| Taint { key: key.into(), value: value.map(Text::from), effect };
    let condition = |status, reason: &str, message: Option<&str>, since: &str| Condition {
        status,
        reason: reason.into(),
        message: message.map(Text::from),
        since: Some(time(since)),
    };
    assert_eq!(
        read,
        Node {
            name: "ip-10-0-0-1.ec2.internal".into(),
            uid: "node-uid".into(),
            instance: Some("i-0abc".into()),
            labels: texts(&[("topology.kubernetes.io/zone", "us-west-2a"), ("quoted", "a")]),
            annotations: texts(&[
                ("fastnode.dev/state", "draining"),
                ("fastnode.dev/reason", "says \"template\""),
                ("cluster-autoscaler.kubernetes.io/scale-down-disabled", "true"),
                ("karpenter.sh/do-not-disrupt", "true"),
            ]),
            taints: vec![
                taint("node.kubernetes.io/unschedulable", None, TaintEffect::NoSchedule),
                taint("dedicated", Some("gpu"), TaintEffect::NoExecute),
            ],
            unschedulable: true,
            conditions: BTreeMap::from([
                (
                    "MemoryPressure".into(),
                    condition(ConditionStatus::False, "KubeletHasSufficientMemory", None, "2026-11-01T10:00:00Z")
                ),
                (
                    "Ready".into(),
                    condition(
                        ConditionStatus::Unknown,
                        "NodeStatusUnknown",
                        Some("Kubelet stopped posting node status."),
                        "2026-11-02T00:00:00Z"
                    )
                ),
            ]),
            kubelet: "v1.36.3-eks-1".into(),
            allocatable: [("cpu", 3920), ("memory", 7 << 30), ("nvidia.com/gpu", 1), ("pods", 58)]
                .into_iter()
                .map(|(k, v)| (Text::from(k), v))
                .collect(),
            created: time("2026-11-01T10:00:00Z"),
            deleting: false,
        }
    );
    let (_, state) = object.node.unwrap();
    assert_eq!((state.version.as_str(), state.uid.as_str()), ("4711", "node-uid"));
    assert_eq!(json!(state.taints), node()["spec"]["taints"], "a field of somebody's taint is lost");
}

#[test]
fn a_node_that_has_only_just_registered() {
    let Some(Fact::Node(node)) = read(Kind::Node, &json!({"metadata": metadata("n", None, "u"), "spec": {}})).fact
    else {
        panic!("no node")
    };
    assert_eq!((node.instance, node.kubelet.as_ref(), node.conditions.len()), (None, "", 0));
}

#[test]
fn a_daemon_set_with_every_field() {
    let mut meta = metadata("node-local-dns", Some("kube-system"), "ds-uid");
    meta["labels"] = json!({"k8s-app": "node-local-dns"});
    let json = json!({"metadata": meta, "spec": {
        "selector": {"matchLabels": {"k8s-app": "x"}}, "updateStrategy": {"type": "OnDelete"}, "revisionHistoryLimit": 10,
        "template": {"metadata": {"creationTimestamp": null, "labels": {"k8s-app": "x"}}, "spec": {
            "nodeName": "n1", "nodeSelector": {"kubernetes.io/os": "linux"}, "hostNetwork": true, "priorityClassName": "system-node-critical",
            "containers": [{"name": "c"}],
            "affinity": {"podAntiAffinity": {}, "nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {}}],
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "arch", "operator": "In", "values": ["amd64", "arm64"]}, {"key": "fargate", "operator": "DoesNotExist"},
                        {"key": "gen", "operator": "Gt", "values": ["4"]}]},
                    {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n9"]}]}]}}},
            "tolerations": [{"operator": "Exists"}, {"key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 5}],
        }}},
        "status": {"currentNumberScheduled": 5}});
    let Some(Fact::DaemonSet(set)) = read(Kind::DaemonSet, &json).fact else { panic!("no set") };
    let requirement = |key: &str, operator, values: &[&str]| Requirement {
        key: key.into(),
        operator,
        values: values.iter().map(|v| Text::from(*v)).collect(),
    };
    assert_eq!(
        set,
        DaemonSet {
            uid: "ds-uid".into(),
            key: ObjectKey::new("kube-system", "node-local-dns"),
            labels: texts(&[("k8s-app", "node-local-dns")]),
            strategy: UpdateStrategy::OnDelete,
            node_name: Some("n1".into()),
            node_selector: texts(&[("kubernetes.io/os", "linux")]),
            affinity: vec![
                NodeSelectorTerm {
                    labels: vec![
                        requirement("arch", Operator::In, &["amd64", "arm64"]),
                        requirement("fargate", Operator::DoesNotExist, &[]),
                        requirement("gen", Operator::Gt, &["4"]),
                    ],
                    fields: vec![],
                },
                NodeSelectorTerm {
                    labels: vec![],
                    fields: vec![requirement("metadata.name", Operator::NotIn, &["n9"])]
                },
            ],
            has_affinity: true,
            tolerations: vec![
                Toleration { key: None, exists: true, value: None, effect: None },
                Toleration {
                    key: Some("a".into()),
                    exists: false,
                    value: Some("b".into()),
                    effect: Some(TaintEffect::NoExecute)
                },
            ],
            host_network: true,
            priority_class: Some("system-node-critical".into()),
            deleting: false,
            fixes: Default::default(),
        }
    );
}

#[test]
fn only_revisions_of_daemon_sets_are_told() {
    let mut meta = metadata("aws-node-6d5b", Some("kube-system"), "rev-uid");
    meta["labels"] = json!({"controller-revision-hash": "6d5b"});
    meta["ownerReferences"] = json!([{"kind": "DaemonSet", "name": "aws-node", "uid": "ds-uid", "controller": true}]);
    let mut json = json!({"metadata": meta, "data": {"spec": {"template": {"$patch": "replace"}}}, "revision": 7});
    assert_eq!(
        read(Kind::Revision, &json).fact,
        Some(Fact::Revision(Revision {
            owner: "ds-uid".into(),
            uid: "rev-uid".into(),
            number: 7,
            hash: "6d5b".into()
        }))
    );
    json["metadata"]["ownerReferences"][0]["kind"] = json!("StatefulSet");
    let other = read(Kind::Revision, &json);
    assert_eq!((other.fact, other.version.as_deref()), (None, Some("4711")));
}

#[test]
fn a_budget_is_observed_once_its_controller_has_seen_its_generation() {
    let mut json = json!({"metadata": metadata("api", Some("shop"), "u"),
        "spec": {"minAvailable": "50%", "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": {"app": "api"}, "matchExpressions": [{"key": "tier", "operator": "Exists"}]}},
        "status": {"observedGeneration": 2, "disruptionsAllowed": 1, "currentHealthy": 3, "desiredHealthy": 2, "expectedPods": 4,
            "conditions": [{"type": "DisruptionAllowed", "status": "True"}]}});
    let Some(Fact::Budget(budget)) = read(Kind::Budget, &json).fact else { panic!("no budget") };
    let selector = Selector(vec![
        Requirement { key: "app".into(), operator: Operator::In, values: vec!["api".into()] },
        Requirement { key: "tier".into(), operator: Operator::Exists, values: vec![] },
    ]);
    let expected = Budget {
        key: ObjectKey::new("shop", "api"),
        selector: Some(selector),
        allowed: 1,
        healthy: 3,
        desired: 2,
        expected: 4,
        observed: true,
        unhealthy_always: true,
    };
    assert_eq!(budget, expected);

    json["status"]["observedGeneration"] = json!(1);
    json["spec"] = json!({"maxUnavailable": 0});
    let Some(Fact::Budget(budget)) = read(Kind::Budget, &json).fact else { panic!("no budget") };
    assert_eq!(budget, Budget { observed: false, selector: None, unhealthy_always: false, ..expected });
}

#[test]
fn drivers_and_attachments() {
    let csi = json!({"metadata": metadata("n1", None, "u"), "spec": {"drivers": [
        {"name": "efs.csi.aws.com", "nodeID": "i-0", "topologyKeys": null}, {"name": "ebs.csi.aws.com", "nodeID": "i-0", "allocatable": {"count": 26}}]}});
    assert_eq!(
        read(Kind::CsiNode, &csi).fact,
        Some(Fact::CsiNode(CsiNode {
            node: "n1".into(),
            drivers: vec!["ebs.csi.aws.com".into(), "efs.csi.aws.com".into()]
        }))
    );
    let none = json!({"metadata": metadata("n1", None, "u"), "spec": {"drivers": null}});
    assert!(matches!(read(Kind::CsiNode, &none).fact, Some(Fact::CsiNode(csi)) if csi.drivers.is_empty()));

    let attachment = json!({"metadata": metadata("csi-1f", None, "u"), "spec": {"attacher": "ebs.csi.aws.com", "nodeName": "n1",
        "source": {"persistentVolumeName": "pv-7"}}, "status": {"attached": true, "attachmentMetadata": {"devicePath": "/dev/x"}}});
    assert_eq!(
        read(Kind::VolumeAttachment, &attachment).fact,
        Some(Fact::VolumeAttachment(VolumeAttachment {
            name: "csi-1f".into(),
            node: "n1".into(),
            volume: Some("pv-7".into()),
            attached: true
        }))
    );
}

#[test]
fn watch_lines() {
    let mut strings = Interner::default();
    let mut line = |kind, word: &str, object: Value| {
        event(kind, format!("{}\n", json!({"type": word, "object": object})).as_bytes(), &mut strings).unwrap()
    };
    assert!(matches!(
        line(Kind::Pod, "MODIFIED", daemon_pod()),
        Event::Change(Object { fact: Some(Fact::Pod(_)), .. })
    ));
    let Event::Gone(gone) = line(Kind::Pod, "DELETED", daemon_pod()) else { panic!("not gone") };
    assert_eq!((gone.fact, gone.version.as_deref()), (Some(Fact::PodGone("pod-uid".into())), Some("4711")));
    // As a bookmark for Pods really looks.
    let bookmark = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "12746", "creationTimestamp": null},
        "spec": {"containers": null}, "status": {}});
    assert!(matches!(line(Kind::Pod, "BOOKMARK", bookmark), Event::Bookmark(version) if version == "12746"));
    let status = json!({"kind": "Status", "status": "Failure", "message": "too old resource version: 1 (2)", "reason": "Expired", "code": 410});
    assert!(matches!(line(Kind::Pod, "ERROR", status), Event::Error(410, _)));
}

#[test]
fn every_kind_says_who_is_gone() {
    let object = json!({"metadata": metadata("name", Some("space"), "uid")});
    let gone = |kind| {
        let line = json!({"type": "DELETED", "object": object}).to_string();
        match event(kind, line.as_bytes(), &mut Interner::default()).unwrap() {
            Event::Gone(object) => object.fact.unwrap(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        Kind::ALL.map(gone),
        [
            Fact::NodeGone("name".into()),
            Fact::DaemonSetGone("uid".into()),
            Fact::RevisionGone("uid".into()),
            Fact::BudgetGone(ObjectKey::new("space", "name")),
            Fact::CsiNodeGone("name".into()),
            Fact::VolumeAttachmentGone("name".into()),
            Fact::PodGone("uid".into()),
        ]
    );
}

#[test]
fn an_object_without_its_identity_is_an_error_that_says_so() {
    let error = item(Kind::Pod, br#"{"metadata":{"name":"x"},"spec":{}}"#, &mut Interner::default()).unwrap_err();
    assert!(error.to_string().starts_with("failed to decode a Pod: missing field `uid`"), "{error}");
}
