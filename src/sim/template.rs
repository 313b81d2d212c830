//! The manifest of a scenario's DaemonSet, as `kubectl get daemonset -o json` would show it.
//!
//! `hostname_override`, `waits` and `version` of a scenario shape what is written here and nothing else: what a pod
//! then does is read back from the manifest, whoever wrote it last (see `behaviour`).

use serde_json::{Map, Value, json};

use super::scenario::{Count, DaemonSpec};

/// Where EKS keeps its images.
const REGISTRY: &str = "602401143452.dkr.ecr.us-west-2.amazonaws.com/eks";
/// What the waiter's init container is called.
const WAITER: &str = "fastnode-wait-service";

/// The tag of a DaemonSet's image on a cluster of this version (`v1.36.3`).
pub(super) fn tag(spec: &DaemonSpec, cluster: &str) -> String {
    match (&spec.version, spec.name.as_str()) {
        (Some(version), _) => version.clone(),
        (None, "kube-proxy") => format!("{cluster}-eksbuild.2"),
        (None, "aws-node") => "v1.20.4-eksbuild.2".to_owned(),
        (None, _) => "v1.9.3".to_owned(),
    }
}

/// The whole manifest but for `metadata.managedFields`, `resourceVersion` and `status`, which the server writes.
pub(super) fn manifest(spec: &DaemonSpec, cluster: &str, uid: &str, created: &str) -> Value {
    let labels = json!({ "k8s-app": spec.name });
    let strategy = if spec.on_delete {
        json!({ "type": "OnDelete" })
    } else {
        let unavailable = match &spec.max_unavailable {
            Count::Number(n) => json!(n),
            Count::Percent(text) => json!(text),
        };
        json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 0, "maxUnavailable": unavailable } })
    };
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": spec.name,
            "namespace": spec.namespace,
            "uid": uid,
            "creationTimestamp": created,
            "generation": 1,
            "labels": labels,
            "annotations": { "deprecated.daemonset.template.generation": "1" },
        },
        "spec": {
            "revisionHistoryLimit": 10,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": pod_spec(spec, cluster) },
            "updateStrategy": strategy,
        },
    })
}

fn pod_spec(spec: &DaemonSpec, cluster: &str) -> Value {
    let tag = tag(spec, cluster);
    let (main, mut inits, volumes) = match spec.name.as_str() {
        "kube-proxy" => kube_proxy(&tag, spec.hostname_override),
        "aws-node" => aws_node(&tag),
        name => {
            let image = format!("registry.example.com/{name}:{tag}");
            (json!({ "name": name, "image": image, "imagePullPolicy": "IfNotPresent" }), Vec::new(), Vec::new())
        }
    };
    if spec.waits {
        inits.insert(
            0,
            json!({
                "name": WAITER,
                "image": "registry.example.com/fastnode:0.1.0",
                "args": ["await", "tcp", "$(KUBERNETES_SERVICE_HOST):$(KUBERNETES_SERVICE_PORT)"],
            }),
        );
    }
    let mut main = main;
    main["resources"] = json!({
        "requests": { "cpu": format!("{}m", spec.cpu_m), "memory": format!("{}Mi", spec.memory_mib) },
    });
    let mut tolerations = vec![json!({ "operator": "Exists" })];
    if !spec.critical {
        tolerations = vec![json!({ "operator": "Exists", "effect": "NoSchedule" })];
    }
    let mut pod = Map::from_iter([
        ("containers".to_owned(), json!([main])),
        ("dnsPolicy".to_owned(), json!("ClusterFirst")),
        ("restartPolicy".to_owned(), json!("Always")),
        ("schedulerName".to_owned(), json!("default-scheduler")),
        ("serviceAccountName".to_owned(), json!(spec.name)),
        ("terminationGracePeriodSeconds".to_owned(), json!(if spec.name == "aws-node" { 10 } else { 30 })),
        ("tolerations".to_owned(), Value::Array(tolerations)),
    ]);
    if !inits.is_empty() {
        pod.insert("initContainers".to_owned(), Value::Array(inits));
    }
    if !volumes.is_empty() {
        pod.insert("volumes".to_owned(), Value::Array(volumes));
    }
    if spec.host_network {
        pod.insert("hostNetwork".to_owned(), json!(true));
    }
    if spec.critical {
        pod.insert("priorityClassName".to_owned(), json!("system-node-critical"));
    }
    if !spec.groups.is_empty() {
        let term = json!({ "key": super::kubelet::GROUP_LABEL, "operator": "In", "values": spec.groups });
        pod.insert(
            "affinity".to_owned(),
            json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{ "matchExpressions": [term] }],
            } } }),
        );
    }
    Value::Object(pod)
}

/// kube-proxy's command as EKS writes it; its flags live in `command`.
pub(super) fn kube_proxy_command(with_override: bool) -> Value {
    let mut command = vec!["kube-proxy", "--v=2", "--config=/var/lib/kube-proxy-config/config"];
    if with_override {
        command.push("--hostname-override=$(NODE_NAME)");
    }
    json!(command)
}

/// The downward-API variable that goes with the override.
pub(super) fn node_name_variable() -> Value {
    json!({ "name": "NODE_NAME", "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": "spec.nodeName" } } })
}

fn kube_proxy(tag: &str, with_override: bool) -> (Value, Vec<Value>, Vec<Value>) {
    let mut container = json!({
        "name": "kube-proxy",
        "image": format!("{REGISTRY}/kube-proxy:{tag}"),
        "imagePullPolicy": "IfNotPresent",
        "command": kube_proxy_command(with_override),
        "securityContext": { "privileged": true },
        "volumeMounts": [
            { "name": "lib-modules", "mountPath": "/lib/modules", "readOnly": true },
            { "name": "kubeconfig", "mountPath": "/var/lib/kube-proxy/" },
            { "name": "config", "mountPath": "/var/lib/kube-proxy-config/" },
        ],
    });
    if with_override {
        container["env"] = json!([node_name_variable()]);
    }
    let volumes = vec![
        json!({ "name": "lib-modules", "hostPath": { "path": "/lib/modules", "type": "" } }),
        json!({ "name": "kubeconfig", "configMap": { "name": "kube-proxy", "defaultMode": 420 } }),
        json!({ "name": "config", "configMap": { "name": "kube-proxy-config", "defaultMode": 420 } }),
    ];
    (container, Vec::new(), volumes)
}

fn aws_node(tag: &str) -> (Value, Vec<Value>, Vec<Value>) {
    let probe = |delay: u32| {
        json!({
            "exec": { "command": ["/app/grpc-health-probe", "-addr=:50051", "-connect-timeout=5s", "-rpc-timeout=5s"] },
            "initialDelaySeconds": delay, "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 3,
        })
    };
    let container = json!({
        "name": "aws-node",
        "image": format!("{REGISTRY}/amazon-k8s-cni:{tag}"),
        "imagePullPolicy": "IfNotPresent",
        "env": [
            { "name": "AWS_VPC_K8S_CNI_LOGLEVEL", "value": "DEBUG" },
            { "name": "AWS_VPC_K8S_CNI_LOG_FILE", "value": "/host/var/log/aws-routed-eni/ipamd.log" },
            { "name": "ENABLE_POD_ENI", "value": "false" },
            { "name": "MY_NODE_NAME",
              "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": "spec.nodeName" } } },
            { "name": "VPC_CNI_VERSION", "value": tag.split('-').next().unwrap_or(tag) },
            { "name": "WARM_ENI_TARGET", "value": "1" },
        ],
        "ports": [{ "name": "metrics", "containerPort": 61678, "protocol": "TCP" }],
        "readinessProbe": probe(1),
        "livenessProbe": probe(60),
        "securityContext": { "capabilities": { "add": ["NET_ADMIN"] } },
        "volumeMounts": [
            { "name": "cni-bin-dir", "mountPath": "/host/opt/cni/bin" },
            { "name": "cni-net-dir", "mountPath": "/host/etc/cni/net.d" },
        ],
    });
    let init = json!({
        "name": "aws-vpc-cni-init",
        "image": format!("{REGISTRY}/amazon-k8s-cni-init:{tag}"),
        "imagePullPolicy": "IfNotPresent",
        "env": [{ "name": "DISABLE_TCP_EARLY_DEMUX", "value": "false" }],
        "securityContext": { "privileged": true },
        "volumeMounts": [{ "name": "cni-bin-dir", "mountPath": "/host/opt/cni/bin" }],
    });
    let volumes = vec![
        json!({ "name": "cni-bin-dir", "hostPath": { "path": "/opt/cni/bin", "type": "" } }),
        json!({ "name": "cni-net-dir", "hostPath": { "path": "/etc/cni/net.d", "type": "" } }),
    ];
    (container, vec![init], volumes)
}
