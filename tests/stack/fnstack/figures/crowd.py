"""A big cluster that stands still: Nodes and pods written straight to the API server."""
from __future__ import annotations

import http.client
import json
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..bridge import Bridge
from ..aws.model import Instance
from ..kube import Credentials, Kube, KubeError, Object, now_rfc3339
from ..workloads import DAEMONS

NAMESPACE = "crowd"
_WRITERS = 6
_REVISION = "6d4cf56db6"
# What the API server adds, as measured: defaults, uid and, most of it, managedFields.
_ADDED, _ADDED_A_VARIABLE = 4000, 75


class _Writer:
    """One keep-alive connection. `Kube` costs four times as much a request, in time."""

    def __init__(self, credentials: Credentials) -> None:
        context = ssl.create_default_context(cafile=str(credentials.ca))
        context.load_cert_chain(str(credentials.cert), str(credentials.key))
        host = credentials.server.removeprefix("https://")
        self._connection = http.client.HTTPSConnection(host, context=context, timeout=60)

    def send(self, method: str, path: str, body: Any) -> Object:
        kind = "application/json" if method != "PATCH" else "application/merge-patch+json"
        self._connection.request(method, path, json.dumps(body), {"Content-Type": kind})
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status >= 400:
            raise KubeError(answer.status, answer.reason, data[:300].decode(errors="replace"))
        return json.loads(data)


def _in_parallel(credentials: Credentials, work: Iterable[Any], do: Callable[[_Writer, Any], None]) -> None:
    """Does everything of `work` over a few connections; the first failure ends it."""
    lock, failures = threading.Lock(), []
    queue: Iterator[Any] = iter(work)

    def take() -> None:
        writer = _Writer(credentials)
        while not failures:
            with lock:
                item = next(queue, None)
            if item is None:
                return
            try:
                do(writer, item)
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=take) for _ in range(_WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def settle_nodes(kube: Kube, bridge: Bridge, instances: list[Instance]) -> list[str]:
    """A Ready Node for each instance; answers the names."""
    names: list[str] = []

    def do(writer: _Writer, instance: Instance) -> None:
        node = bridge.ready_node(instance)
        name = node["metadata"]["name"]
        writer.send("POST", Kube.path("Node"), node)
        # Admission taints every new Node; the controller that lifts it does not run here.
        writer.send("PATCH", Kube.path("Node", None, name), {"spec": {"taints": None}})
        names.append(name)

    _in_parallel(kube.credentials, instances, do)
    return sorted(names)


def settle_daemons(kube: Kube, nodes: int) -> dict[str, Object]:
    """Revisions and status of the DaemonSets, as their controller would keep them."""
    found: dict[str, Object] = {}
    for daemon in DAEMONS:
        body = kube.get("DaemonSet", daemon.name, "kube-system")
        owner = _owner("DaemonSet", body)
        kube.create(
            {
                "apiVersion": "apps/v1",
                "kind": "ControllerRevision",
                "metadata": {
                    "name": f"{daemon.name}-{_REVISION}",
                    "namespace": "kube-system",
                    "labels": {"k8s-app": daemon.name, "controller-revision-hash": _REVISION},
                    "ownerReferences": [owner],
                },
                "revision": 1,
                "data": {"spec": {"template": {**body["spec"]["template"], "$patch": "replace"}}},
            }
        )
        status = {
            "currentNumberScheduled": nodes,
            "desiredNumberScheduled": nodes,
            "numberAvailable": nodes,
            "numberMisscheduled": 0,
            "numberReady": nodes,
            "observedGeneration": body["metadata"]["generation"],
            "updatedNumberScheduled": nodes,
        }
        kube.patch("DaemonSet", daemon.name, {"status": status}, "kube-system", subresource="status")
        found[daemon.name] = body
    return found


def settle_pods(kube: Kube, pods: Iterable[Object]) -> None:
    """Pods that run and are Ready, on the nodes they name."""

    def do(writer: _Writer, pod: Object) -> None:
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        writer.send("POST", Kube.path("Pod", namespace), pod)
        writer.send("PATCH", Kube.path("Pod", namespace, name) + "/status", {"status": _running(pod)})

    _in_parallel(kube.credentials, pods, do)


def pods(nodes: list[str], count: int, size: int, daemons: dict[str, Object]) -> Iterator[Object]:
    """`count` pods of `size` bytes each: every DaemonSet's, then ReplicaSets' with budgets."""
    each = count // len(nodes) - len(daemons)
    for number, node in enumerate(nodes):
        for name, body in daemons.items():
            labels = {"k8s-app": name, "controller-revision-hash": _REVISION, "pod-template-generation": "1"}
            spec = json.loads(json.dumps(body["spec"]["template"]["spec"]))
            yield _padded(f"{name}-{number:05d}", "kube-system", labels, spec, node, _owner("DaemonSet", body), size)
        for slot in range(each):
            app = f"app-{(number * each + slot) % 150:03d}"
            hash_ = f"7c9b8d{(number * each + slot) % 150:04x}"
            owner = {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": f"{app}-{hash_}",
                "uid": f"00000000-0000-4000-8000-{(number * each + slot) % 150:012d}",
                "controller": True,
                "blockOwnerDeletion": True,
            }
            labels = {"app": app, "pod-template-hash": hash_, "team": f"team-{slot % 12}"}
            spec = {"terminationGracePeriodSeconds": 30, "containers": [_container(app)]}
            yield _padded(f"{app}-{hash_}-{number:03d}{slot:02d}", NAMESPACE, labels, spec, node, owner, size)


def install(kube: Kube, apps: int = 150) -> None:
    """The namespace and a budget for each application."""
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    for number in range(apps):
        app = f"app-{number:03d}"
        kube.create(
            {
                "apiVersion": "policy/v1",
                "kind": "PodDisruptionBudget",
                "metadata": {"name": f"{app}-budget", "namespace": NAMESPACE},
                "spec": {"maxUnavailable": "10%", "selector": {"matchLabels": {"app": app}}},
            }
        )
        status = {"disruptionsAllowed": 8, "currentHealthy": 80, "desiredHealthy": 72, "expectedPods": 80}
        status |= {"observedGeneration": 1}
        kube.patch("PodDisruptionBudget", f"{app}-budget", {"status": status}, NAMESPACE, subresource="status")


def _container(name: str) -> Object:
    return {
        "name": name,
        "image": f"123456789012.dkr.ecr.us-west-2.amazonaws.com/{name}:2026.11.2",
        "ports": [{"containerPort": 8080, "name": "http"}, {"containerPort": 9090, "name": "metrics"}],
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 5},
        "livenessProbe": {"httpGet": {"path": "/live", "port": "http"}, "initialDelaySeconds": 20},
    }


def _owner(kind: str, body: Object) -> Object:
    meta = body["metadata"]
    flags = {"controller": True, "blockOwnerDeletion": True}
    return {"apiVersion": "apps/v1", "kind": kind, "name": meta["name"], "uid": meta["uid"], **flags}


def _padded(
    name: str, namespace: str, labels: dict[str, str], spec: Object, node: str, owner: Object, size: int
) -> Object:
    """Filled up to `size` bytes of JSON with what real pods carry: mounts, annotations, variables."""
    volumes: list[Object] = [
        {"name": f"config-{n}", "configMap": {"name": f"{name}-config-{n}", "defaultMode": 420}} for n in range(4)
    ]
    mounts = [{"name": v["name"], "mountPath": f"/etc/{v['name']}", "readOnly": True} for v in volumes]
    annotations = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "9090",
        "kubectl.kubernetes.io/restartedAt": now_rfc3339(),
    }
    spec = {**spec, "nodeName": node, "volumes": volumes}
    first = spec["containers"][0]
    first["volumeMounts"] = mounts
    environment = first.setdefault("env", [])
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner],
        },
        "spec": spec,
    }
    length = len(json.dumps({**pod, "status": _running(pod)})) + _ADDED
    number = 0
    while length < size:
        variable = {"name": f"SERVICE_SETTING_{number:03d}", "value": f"https://{name}.{namespace}.svc:{8000 + number}/v1"}
        environment.append(variable)
        length += len(json.dumps(variable)) + _ADDED_A_VARIABLE
        number += 1
    return pod


def _running(pod: Object) -> Object:
    now = now_rfc3339()
    kinds = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")

    def state(container: Object, init: bool) -> Object:
        done = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}}
        return {
            "name": container["name"],
            "image": container["image"],
            "imageID": container["image"] + "@sha256:" + "0123456789abcdef" * 4,
            "containerID": "containerd://" + "0123456789abcdef" * 4,
            "ready": True,
            "started": not init,
            "restartCount": 0,
            "state": done if init else {"running": {"startedAt": now}},
        }

    spec = pod["spec"]
    status = {
        "phase": "Running",
        "qosClass": "Burstable",
        "hostIP": "10.0.0.1",
        "podIP": "10.64.0.1",
        "startTime": now,
        "conditions": [{"type": k, "status": "True", "lastTransitionTime": now} for k in kinds],
        "containerStatuses": [state(c, False) for c in spec["containers"]],
    }
    if spec.get("initContainers"):
        status["initContainerStatuses"] = [state(c, True) for c in spec["initContainers"]]
    return status
