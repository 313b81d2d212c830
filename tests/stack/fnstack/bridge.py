"""Turns instances into Nodes, and back into nothing: kubelet and cloud controller.

    instance running --(boot)--> Node (NotReady: no CNI) --(aws-node Ready)--> Ready
    instance shutting down --> Node NotReady --(terminated)--> Node and pods deleted

kwok plays the pods and renews the leases; a Node's status is written here alone,
since only here is it known that Ready must wait for that node's own aws-node pod.
"""
from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from .aws.engine import Engine
from .aws.model import Instance
from .kube import Cache, Kube, KubeError, Object, now_rfc3339

CNI_DAEMONSET = "aws-node"
_OVERLOOKED = 1.5  # seconds; kwok takes a pod up within 0.3
_NO_CNI = (
    "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
    "message:Network plugin returns error: cni plugin not initialized"
)
# The kubelet writes its conditions in this order; some clients read only the last.
_PRESSURES = (
    ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
)


@dataclass
class BridgeOptions:
    kubelet_port: int
    region: str = "us-west-2"
    # image id -> kubelet version: what an AMI carries
    kubelets: dict[str, str] = field(default_factory=dict)
    default_kubelet: str = "v1.36.3-eks-3abbec1"
    # taint (key=value:effect without value) -> DaemonSet whose pod's readiness lifts it
    startup_taints: dict[str, str] = field(default_factory=dict)
    cni: bool = True
    ready_lag: float = 0.3  # aws-node Ready -> the kubelet's next status


@dataclass
class _Tracked:
    instance: Instance
    name: str
    joined_at: float
    ready: bool = False
    cni_since: float | None = None
    csi: bool = False
    shutting_down: bool = False
    taints: dict[str, str] = field(default_factory=dict)


class Bridge:
    """One thread; looks at the engine's instances ten times a second."""

    def __init__(self, engine: Engine, kube: Kube, options: BridgeOptions) -> None:
        self._engine = engine
        self._kube = kube
        self.options = options
        self._pods = Cache(kube, "Pod")
        self._nodes: dict[str, _Tracked] = {}
        self._finished: set[str] = set()
        self._waiting: dict[str, float] = {}  # pod uid -> bound, not yet taken up by kwok
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bridge", daemon=True)
        self.on_join: list[Callable[[str, Instance], None]] = []

    def start(self) -> None:
        self._pods.start().wait()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._pods.stop()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            try:
                self._once()
            except Exception:  # the API server may be going down; anything else must be seen
                if not self._stop.is_set():
                    traceback.print_exc()

    def _once(self) -> None:
        with self._engine.lock:
            instances = [i for i in self._engine.instances() if i.id not in self._finished]
        now = time.time()
        ready_daemons = self._ready_daemons()
        self._nudge(now)
        for instance in instances:
            tracked = self._nodes.get(instance.id)
            if instance.ec2 == "terminated":
                self._gone(instance, tracked)
            elif instance.ec2 == "shutting-down":
                if tracked and not tracked.shutting_down:
                    tracked.shutting_down = True
                    self._set_ready(tracked, False, "KubeletNotReady", "node is shutting down")
            elif tracked is None:
                due = instance.running_at is not None and now >= instance.running_at + instance.boot_seconds
                if due and instance.joins:
                    self._join(instance, now)
            else:
                self._progress(tracked, now, ready_daemons.get(tracked.name, set()))

    def _ready_daemons(self) -> dict[str, set[str]]:
        """node -> names of the DaemonSets whose pod there is Ready."""
        found: dict[str, set[str]] = {}
        for pod in self._pods.all():
            owners = pod["metadata"].get("ownerReferences") or []
            node = pod["spec"].get("nodeName")
            if node and owners and owners[0]["kind"] == "DaemonSet" and pod_ready(pod):
                found.setdefault(node, set()).add(owners[0]["name"])
        return found

    def _nudge(self, now: float) -> None:
        """Touches pods that kwok overlooked, so that it sees them again.

        kwok drops events of pods whose node it does not hold yet; a pod bound in the
        instant in which it takes the node over is lost until its watch ends, minutes later.
        """
        waiting: dict[str, float] = {}
        for pod in self._pods.all():
            meta, status = pod["metadata"], pod.get("status", {})
            if not pod["spec"].get("nodeName") or status.get("podIP") or status.get("phase") != "Pending":
                continue
            since = self._waiting.get(meta["uid"], now)
            if now - since > _OVERLOOKED:
                body = {"metadata": {"annotations": {"play.fnstack.dev/nudged": now_rfc3339()}}}
                self._quietly(lambda m=meta: self._kube.patch("Pod", m["name"], body, m["namespace"]))
                since = now
            waiting[meta["uid"]] = since
        self._waiting = waiting

    # -- a node's life -------------------------------------------------------------

    def _join(self, instance: Instance, now: float) -> None:
        name = instance.private_dns(self.options.region)
        tracked = _Tracked(instance, name, now, taints=dict(self.options.startup_taints))
        # Before its DaemonSets' pods are made, which may be before this call comes back.
        for listener in self.on_join:
            listener(name, instance)
        try:
            self._kube.create(self._node(instance, name, tracked.taints))
        except KubeError as error:
            if error.status != 409:
                raise
        self._nodes[instance.id] = tracked

    def _progress(self, node: _Tracked, now: float, daemons: set[str]) -> None:
        if not node.ready:
            if self.options.cni and CNI_DAEMONSET not in daemons:
                node.cni_since = None
                return
            node.cni_since = node.cni_since or now
            if now - node.cni_since >= self.options.ready_lag:
                self._set_ready(node, True, "KubeletReady", "kubelet is posting ready status")
                node.ready = True
        if not node.csi and "ebs-csi-node" in daemons:
            self._register_csi(node)
            node.csi = True
        for taint, daemon in list(node.taints.items()):
            if daemon in daemons:
                self._lift_taint(node, taint)
                del node.taints[taint]

    def _gone(self, instance: Instance, tracked: _Tracked | None) -> None:
        """The cloud's node lifecycle: no instance, no Node; then its pods go."""
        self._finished.add(instance.id)
        if tracked is None:
            return
        del self._nodes[instance.id]
        self._kube.delete("Node", tracked.name)
        for pod in self._pods.all():
            if pod["spec"].get("nodeName") == tracked.name:
                meta = pod["metadata"]
                self._kube.delete("Pod", meta["name"], meta["namespace"], grace=0)

    # -- what is written -------------------------------------------------------------

    def ready_node(self, instance: Instance) -> Object:
        """The Node of an instance as it is once all of it has come up."""
        node = self._node(instance, instance.private_dns(self.options.region), {})
        node["status"]["conditions"] = _conditions(True, "KubeletReady", "kubelet is posting ready status")
        return node

    def _node(self, instance: Instance, name: str, taints: dict[str, str]) -> Object:
        image = instance.image_id
        kubelet = self.options.kubelets.get(image, self.options.default_kubelet)
        capacity = {
            "cpu": "2",
            "memory": "7910Mi",
            "pods": "29",  # m5.large with the VPC CNI
            "ephemeral-storage": "80Gi",
        }
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": {
                    "kubernetes.io/hostname": name,
                    "kubernetes.io/os": "linux",
                    "kubernetes.io/arch": "amd64",
                    "beta.kubernetes.io/os": "linux",
                    "beta.kubernetes.io/arch": "amd64",
                    "node.kubernetes.io/instance-type": instance.type,
                    "beta.kubernetes.io/instance-type": instance.type,
                    "topology.kubernetes.io/zone": instance.zone,
                    "topology.kubernetes.io/region": self.options.region,
                    "failure-domain.beta.kubernetes.io/zone": instance.zone,
                    "failure-domain.beta.kubernetes.io/region": self.options.region,
                },
                "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
            },
            "spec": {
                "providerID": f"aws:///{instance.zone}/{instance.id}",
                "taints": [_parse_taint(t) for t in taints],
            },
            "status": {
                "capacity": capacity,
                "allocatable": {**capacity, "cpu": "1930m", "memory": "7220Mi"},
                "conditions": _conditions(False, "KubeletNotReady", _NO_CNI),
                "addresses": [
                    {"type": "InternalIP", "address": instance.private_ip},
                    {"type": "InternalDNS", "address": name},
                    {"type": "Hostname", "address": name},
                    # Where kwok's kubelet listens; the API server is told to prefer it.
                    {"type": "ExternalIP", "address": "127.0.0.1"},
                ],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": self.options.kubelet_port}},
                "nodeInfo": {
                    "machineID": instance.id,
                    "systemUUID": instance.id,
                    "bootID": instance.id,
                    "kernelVersion": "6.12.40-63.114.amzn2023.x86_64",
                    "osImage": "Amazon Linux 2023",
                    "containerRuntimeVersion": "containerd://2.1.4",
                    "kubeletVersion": kubelet,
                    "kubeProxyVersion": kubelet,
                    "operatingSystem": "linux",
                    "architecture": "amd64",
                },
            },
        }

    def _set_ready(self, node: _Tracked, ready: bool, reason: str, message: str) -> None:
        body = {"status": {"conditions": _conditions(ready, reason, message)}}
        self._quietly(lambda: self._kube.patch("Node", node.name, body, subresource="status"))

    def _register_csi(self, node: _Tracked) -> None:
        made = self._kube.find("Node", node.name)
        if made is None:
            return
        body: Object = {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "CSINode",
            "metadata": {
                "name": node.name,
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Node", "name": node.name, "uid": made["metadata"]["uid"]}
                ],
            },
            "spec": {
                "drivers": [
                    {
                        "name": "ebs.csi.aws.com",
                        "nodeID": node.instance.id,
                        "topologyKeys": ["kubernetes.io/os", "topology.ebs.csi.aws.com/zone"],
                        "allocatable": {"count": 25},
                    }
                ]
            },
        }
        self._quietly(lambda: self._kube.create(body))

    def _lift_taint(self, node: _Tracked, taint: str) -> None:
        """Read, then replace under the resourceVersion: others write taints too."""
        wanted = _parse_taint(taint)
        for _ in range(5):
            current = self._kube.find("Node", node.name)
            if current is None:
                return
            before = current["spec"].get("taints") or []
            after = [t for t in before if (t["key"], t["effect"]) != (wanted["key"], wanted["effect"])]
            body = {
                "metadata": {"resourceVersion": current["metadata"]["resourceVersion"]},
                "spec": {"taints": after},
            }
            try:
                self._kube.patch("Node", node.name, body)
                return
            except KubeError as error:
                if error.status != 409:
                    raise

    @staticmethod
    def _quietly(call: Callable[[], object]) -> None:
        """Someone may have deleted or made the object meanwhile: both are fine."""
        try:
            call()
        except KubeError as error:
            if error.status not in (404, 409):
                raise

    def joined(self) -> dict[str, str]:
        """instance id -> node name, of those that have joined."""
        return {i: n.name for i, n in self._nodes.items()}


def pod_ready(pod: Object) -> bool:
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = pod.get("status", {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def node_ready(node: Object) -> bool:
    conditions = node.get("status", {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _conditions(ready: bool, reason: str, message: str) -> list[Object]:
    now = now_rfc3339()
    rows = [(kind, "False", why, text) for kind, why, text in _PRESSURES]
    rows.append(("Ready", "True" if ready else "False", reason, message))
    return [
        {
            "type": kind,
            "status": status,
            "reason": why,
            "message": text,
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        for kind, status, why, text in rows
    ]


def ready_conditions(pressure: str | None = None) -> list[Object]:
    """The conditions of a Node that is Ready, under one pressure or none."""
    rows = _conditions(True, "KubeletReady", "kubelet is posting ready status")
    return [{**row, "status": "True"} if row["type"] == pressure else row for row in rows]


def _parse_taint(text: str) -> dict[str, str]:
    key, effect = text.rsplit(":", 1)
    key, _, value = key.partition("=")
    return {"key": key, "effect": effect, **({"value": value} if value else {})}
