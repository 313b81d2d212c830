"""Which DaemonSets should run where: the real controller's answer beside fastnode's."""
from __future__ import annotations

import json
import os
import random
import subprocess
import time

from ..bridge import ready_conditions
from ..kube import Object
from ..process import wait_until
from ..stack import REPOSITORY
from .bench import Bench, expect

NODES, SETS = 24, 40
NAMESPACE = "expected"
LABELS = {"pool": ("web", "batch", "gpu"), "arch": ("amd64", "arm64"), "rank": ("1", "5", "9"), "spot": ("true",)}
TAINTS = ("dedicated", "gpu", "team")
EFFECTS = ("NoSchedule", "NoExecute", "PreferNoSchedule")


def _maybe(draw: random.Random, share: float) -> bool:
    return draw.random() < share


def _node(draw: random.Random, n: int) -> Object:
    name = f"expected-{n:02d}.internal"
    labels = {key: draw.choice(values) for key, values in LABELS.items() if _maybe(draw, 0.6)}
    taints = [
        {"key": key, "effect": draw.choice(EFFECTS), **({"value": draw.choice(("a", "b"))} if _maybe(draw, 0.6) else {})}
        for key in TAINTS
        if _maybe(draw, 0.35)
    ]
    pressure = "DiskPressure" if _maybe(draw, 0.15) else None
    capacity = {"cpu": "8", "memory": "32Gi", "pods": "200"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}},
        "spec": {"taints": taints, "unschedulable": _maybe(draw, 0.2)},
        "status": {"capacity": capacity, "allocatable": capacity, "conditions": ready_conditions(pressure)},
    }


def _expression(draw: random.Random) -> Object:
    key = draw.choice(list(LABELS))
    operator = draw.choice(("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"))
    if operator in ("Exists", "DoesNotExist"):
        return {"key": key, "operator": operator}
    if operator in ("Gt", "Lt"):
        return {"key": "rank", "operator": operator, "values": [draw.choice(("0", "1", "5", "9"))]}
    values = draw.sample(LABELS[key], draw.randint(1, len(LABELS[key])))
    return {"key": key, "operator": operator, "values": values}


def _term(draw: random.Random, nodes: list[str]) -> Object:
    term: Object = {}
    if _maybe(draw, 0.8):
        term["matchExpressions"] = [_expression(draw) for _ in range(draw.randint(1, 2))]
    if _maybe(draw, 0.3):
        operator = draw.choice(("In", "NotIn"))
        term["matchFields"] = [{"key": "metadata.name", "operator": operator, "values": [draw.choice(nodes)]}]
    return term  # now and then empty, which matches nothing


def _toleration(draw: random.Random) -> Object:
    if _maybe(draw, 0.15):
        return {"operator": "Exists", **({"effect": draw.choice(EFFECTS)} if _maybe(draw, 0.3) else {})}
    toleration: Object = {"key": draw.choice(TAINTS)}
    if _maybe(draw, 0.5):
        toleration["operator"] = "Exists"
    else:
        toleration["value"] = draw.choice(("a", "b"))
    if _maybe(draw, 0.6):
        toleration["effect"] = draw.choice(EFFECTS)
    return toleration


def _daemonset(draw: random.Random, n: int, nodes: list[str]) -> Object:
    spec: Object = {
        "containers": [{"name": "main", "image": "registry.example.com/agent:1"}],
        "tolerations": [_toleration(draw) for _ in range(draw.randint(0, 3))],
        "hostNetwork": _maybe(draw, 0.3),
        "terminationGracePeriodSeconds": 0,
    }
    if _maybe(draw, 0.35):
        key = draw.choice(list(LABELS))
        spec["nodeSelector"] = {key: draw.choice(LABELS[key])}
    if _maybe(draw, 0.5):
        terms = [_term(draw, nodes) for _ in range(draw.randint(1, 2))]
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
        spec["affinity"] = {"nodeAffinity": required}
    if _maybe(draw, 0.08):
        spec["nodeName"] = draw.choice(nodes)
    labels = {"app": f"set-{n:02d}"}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": f"set-{n:02d}", "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def _node_of(pod: Object) -> str:
    """The node a DaemonSet's pod was made for, bound or not."""
    if pod["spec"].get("nodeName"):
        return pod["spec"]["nodeName"]
    affinity = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return affinity["nodeSelectorTerms"][0]["matchFields"][0]["values"][0]


def _made(bench: Bench) -> dict[str, list[str]] | None:
    """The nodes of each DaemonSet's pods; None while the controller is still at work."""
    admin = bench.stack.plane.admin
    sets = admin.list("DaemonSet", NAMESPACE)
    pods = [pod for pod in admin.list("Pod", NAMESPACE) if not pod["metadata"].get("deletionTimestamp")]
    found: dict[str, list[str]] = {f"{NAMESPACE}/{one['metadata']['name']}": [] for one in sets}
    for pod in pods:
        found[f"{NAMESPACE}/{pod['metadata']['ownerReferences'][0]['name']}"].append(_node_of(pod))
    for one in sets:
        status, name = one.get("status", {}), one["metadata"]["name"]
        done = status.get("observedGeneration") == one["metadata"]["generation"]
        if not done or status.get("desiredNumberScheduled", 0) != len(found[f"{NAMESPACE}/{name}"]):
            return None
    return {name: sorted(nodes) for name, nodes in found.items()}


def _settled(bench: Bench) -> dict[str, list[str]]:
    """The same once it has stayed so for a while."""
    last: list[dict[str, list[str]] | None] = [None]
    since = [time.monotonic()]

    def quiet() -> bool:
        now = _made(bench)
        if now is None or now != last[0]:
            last[0], since[0] = now, time.monotonic()
        return last[0] is not None and time.monotonic() - since[0] > 4

    wait_until("every DaemonSet is where it should be", quiet, 120, 0.5)
    return last[0] or {}


def _asked(bench: Bench) -> dict[str, list[str]]:
    """What fastnode says of the same cluster, through its own adapter."""
    out, log = bench.folder / "expected.json", bench.folder / "expected.txt"
    kubeconfig = bench.folder / "expected.kubeconfig"
    bench.stack.plane.admin.write_kubeconfig(kubeconfig)
    more = {"FASTNODE_EXPECTED_KUBECONFIG": str(kubeconfig), "FASTNODE_EXPECTED_OUT": str(out)}
    command = ["cargo", "test", "--locked", "--test", "expected", "--", "--ignored"]
    with log.open("w") as stream:
        ended = subprocess.run(
            command, cwd=REPOSITORY, env={**os.environ, **more}, stdout=stream, stderr=subprocess.STDOUT, timeout=900
        )
    expect(ended.returncode == 0, f"exit code {ended.returncode} ({log})")
    return {name: sorted(nodes) for name, nodes in json.loads(out.read_text()).items()}


def expected_daemonsets(bench: Bench) -> None:
    """Random DaemonSets on random nodes: where the real controller puts their pods, fastnode expects them."""
    bench.drop_small()
    admin = bench.stack.plane.admin
    draw = random.Random(20261123)
    nodes = [_node(draw, n) for n in range(NODES)]
    names = [node["metadata"]["name"] for node in nodes]
    admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    try:
        for node in nodes:
            admin.create(node)
        starting = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")

        def started() -> bool:
            taints = [t["key"] for node in admin.list("Node") for t in node["spec"].get("taints") or []]
            return not any(key in starting for key in taints)

        wait_until("the nodes' startup taints are gone", started, 60, 0.3)
        for n in range(SETS):
            admin.create(_daemonset(draw, n, names))
        made = _settled(bench)
        expect(started(), "a node lost its readiness meanwhile")
        expected = {name: nodes for name, nodes in _asked(bench).items() if name in made}
        pairs = len(made) * NODES
        count = sum(len(nodes) for nodes in made.values())
        expect(pairs >= 200 and 0.05 < count / pairs < 0.95, f"{count} of {pairs} say too little")
        wrong = [
            f"{name} on {node}: the controller {'has' if node in made[name] else 'has no'} pod there"
            for name in made
            for node in sorted(set(made[name]) ^ set(expected.get(name, [])))
        ]
        expect(not wrong, f"{len(wrong)} of {pairs} differ:\n    " + "\n    ".join(wrong[:10]))
        bench.say(f"{pairs} pairs of {len(made)} DaemonSets and {NODES} nodes, {count} with a pod: all as expected")
    finally:
        admin.delete("Namespace", NAMESPACE)
        for name in names:
            admin.delete("Node", name)
        wait_until("nodes gone", lambda: not admin.list("Node"), 60, 0.2)
