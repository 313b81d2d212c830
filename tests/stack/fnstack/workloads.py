"""What runs on the nodes: EKS's DaemonSets, and applications with budgets."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .kube import Kube, Object

_REGISTRY = "602401143452.dkr.ecr.us-west-2.amazonaws.com"
_ANY_TAINT = [{"operator": "Exists"}]
_MANAGED_BY = {"app.kubernetes.io/managed-by": "fnstack"}


@dataclass(frozen=True)
class Daemon:
    name: str
    image: str
    host_network: bool = True
    critical: bool = True
    start_ms: int = 400
    init: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    args: tuple[str, ...] = ()


# As EKS installs them: network, critical priority and tolerations are the real ones'.
DAEMONS: tuple[Daemon, ...] = (
    Daemon(
        "aws-node",
        f"{_REGISTRY}/amazon-k8s-cni:v1.20.4",
        start_ms=600,
        init=("aws-vpc-cni-init",),
        containers=("aws-node", "aws-eks-nodeagent"),
    ),
    Daemon(
        "kube-proxy",
        f"{_REGISTRY}/eks/kube-proxy:v1.36.0-eksbuild.1",
        args=(
            "kube-proxy",
            "--v=2",
            "--config=/var/lib/kube-proxy-config/config",
            "--hostname-override=$(NODE_NAME)",
        ),
    ),
    Daemon(
        "ebs-csi-node",
        f"{_REGISTRY}/eks/aws-ebs-csi-driver:v1.50.1",
        host_network=False,
        start_ms=1200,
        containers=("ebs-plugin", "node-driver-registrar", "liveness-probe"),
    ),
    Daemon("eks-pod-identity-agent", f"{_REGISTRY}/eks/eks-pod-identity-agent:v0.1.34", start_ms=500),
    Daemon("node-local-dns", "registry.k8s.io/dns/k8s-dns-node-cache:1.26.7", start_ms=700),
    Daemon(
        "fluent-bit",
        "public.ecr.aws/aws-observability/aws-for-fluent-bit:3.0.0",
        host_network=False,
        critical=False,
        start_ms=900,
    ),
)


def daemonset(daemon: Daemon) -> Object:
    labels = {"k8s-app": daemon.name, **_MANAGED_BY}
    env = [{"name": "NODE_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}}}]
    spec: dict[str, Any] = {
        "hostNetwork": daemon.host_network,
        "tolerations": _ANY_TAINT,
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "terminationGracePeriodSeconds": 10,
        "containers": [
            {
                "name": name,
                "image": daemon.image,
                "resources": {"requests": {"cpu": "25m"}},
                **({"command": list(daemon.args), "env": env} if daemon.args else {}),
            }
            for name in (daemon.containers or (daemon.name,))
        ],
    }
    if daemon.init:
        spec["initContainers"] = [{"name": n, "image": daemon.image} for n in daemon.init]
    if daemon.critical:
        spec["priorityClassName"] = "system-node-critical"
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": daemon.name, "namespace": "kube-system", "labels": labels},
        "spec": {
            "selector": {"matchLabels": {"k8s-app": daemon.name}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}},
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {
                        "play.fnstack.dev/start-delay": f"{daemon.start_ms}ms",
                        "play.fnstack.dev/init-delay": "300ms",
                        "play.fnstack.dev/stop-delay": "500ms",
                    },
                },
                "spec": spec,
            },
        },
    }


@dataclass(frozen=True)
class Workload:
    """A Deployment or StatefulSet with a budget; `budget` is a PDB's spec without selector."""

    name: str
    replicas: int
    budget: dict[str, Any] | None = None
    kind: str = "Deployment"
    start_ms: int = 800
    annotations: dict[str, str] = field(default_factory=dict)
    cpu: str = "60m"


def standard(nodes: int) -> list[Workload]:
    """Roomy, tight and ordinal workloads, about three pods a node."""
    return [
        Workload("web", nodes, {"maxUnavailable": "20%"}),
        # Of four or more, so that 75 % rounded up leaves one to spare.
        Workload("api", max(4, nodes // 2), {"minAvailable": "75%"}),
        # Tight: one pod at a time may be away.
        Workload("ledger", 3, {"maxUnavailable": 1}),
        Workload("pair", 2, {"minAvailable": 1}),
        Workload("db", 3, {"maxUnavailable": 1}, kind="StatefulSet"),
        Workload("batchless", max(2, nodes // 4)),  # no budget at all
    ]


def never_frees() -> Workload:
    """One replica that must always be there: its node cannot be drained."""
    return Workload("stuck", 1, {"minAvailable": 1})


def manifests(namespace: str, workload: Workload) -> list[Object]:
    labels = {"app": workload.name, **_MANAGED_BY}
    selector = {"matchLabels": {"app": workload.name}}
    spread = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": selector,
        }
        for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
    ]
    template = {
        "metadata": {
            "labels": labels,
            "annotations": {"play.fnstack.dev/start-delay": f"{workload.start_ms}ms", **workload.annotations},
        },
        "spec": {
            "terminationGracePeriodSeconds": 30,
            "topologySpreadConstraints": spread,
            "containers": [
                {
                    "name": "app",
                    "image": "example.com/app:1",
                    "resources": {"requests": {"cpu": workload.cpu, "memory": "64Mi"}},
                }
            ],
        },
    }
    body: Object = {
        "apiVersion": "apps/v1",
        "kind": workload.kind,
        "metadata": {"name": workload.name, "namespace": namespace, "labels": labels},
        "spec": {"replicas": workload.replicas, "selector": selector, "template": template},
    }
    if workload.kind == "StatefulSet":
        body["spec"] |= {"serviceName": workload.name, "podManagementPolicy": "Parallel"}
    out = [body]
    if workload.budget is not None:
        out.append(
            {
                "apiVersion": "policy/v1",
                "kind": "PodDisruptionBudget",
                # A name of its own, so that an output that names it is told from one
                # that names the pod.
                "metadata": {"name": f"{workload.name}-budget", "namespace": namespace, "labels": labels},
                "spec": {**workload.budget, "selector": selector},
            }
        )
    return out


def install_daemons(kube: Kube, daemons: tuple[Daemon, ...] = DAEMONS) -> None:
    for daemon in daemons:
        kube.apply(daemonset(daemon))


def install(kube: Kube, namespace: str, workloads: list[Workload]) -> None:
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    for workload in workloads:
        for body in manifests(namespace, workload):
            kube.apply(body)


def settled(kube: Kube, namespace: str, workloads: list[Workload]) -> bool:
    """Every workload has all its replicas ready and every budget has been observed."""
    for workload in workloads:
        status = kube.get(workload.kind, workload.name, namespace).get("status", {})
        if status.get("readyReplicas", 0) != workload.replicas:
            return False
    for budget in kube.list("PodDisruptionBudget", namespace):
        status = budget.get("status", {})
        if status.get("observedGeneration") != budget["metadata"]["generation"]:
            return False
        if status.get("currentHealthy", 0) < status.get("expectedPods", 1):
            return False
    return True
