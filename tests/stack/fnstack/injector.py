"""Faults inside the cluster, by annotations that kwok's stages read (stages.yaml).

A rule sees each new DaemonSet pod and may answer annotations for it; they are on
the pod before its containers start (stages wait at least 400 ms).
"""
from __future__ import annotations

from collections.abc import Callable

from .kube import Cache, Kube, KubeError, Object

# (pod, its DaemonSet's name, its node, how many nodes joined since the rule was armed)
Rule = Callable[[Object, str, str, int], dict[str, str]]


def target_node(pod: Object) -> str:
    """The node a DaemonSet pod is made for, known before it is bound."""
    if pod["spec"].get("nodeName"):
        return pod["spec"]["nodeName"]
    affinity = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {})
    for term in required.get("nodeSelectorTerms", []):
        for match in term.get("matchFields", []):
            if match["key"] == "metadata.name":
                return match["values"][0]
    return ""


class Injector:
    """Watches pods and applies the rules that are armed."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._rules: list[Rule] = []
        self._new_nodes: list[str] = []
        self._cache = Cache(kube, "Pod", self._event)

    def start(self) -> None:
        self._cache.start().wait()

    def stop(self) -> None:
        self._cache.stop()

    def node_joined(self, name: str) -> None:
        if name not in self._new_nodes:
            self._new_nodes.append(name)

    def arm(self, *rules: Rule) -> None:
        """From now on nodes count as new from the next one that joins."""
        self._new_nodes.clear()
        self._rules = list(rules)

    def disarm(self) -> None:
        self._rules = []

    def _event(self, kind: str, pod: Object) -> None:
        owners = pod["metadata"].get("ownerReferences") or []
        if kind != "ADDED" or not self._rules or not owners or owners[0]["kind"] != "DaemonSet":
            return
        node = target_node(pod)
        if node not in self._new_nodes:
            return
        ordinal = self._new_nodes.index(node) + 1
        annotations: dict[str, str] = {}
        for rule in self._rules:
            annotations |= rule(pod, owners[0]["name"], node, ordinal)
        if annotations:
            meta = pod["metadata"]
            try:
                self._kube.patch("Pod", meta["name"], {"metadata": {"annotations": annotations}}, meta["namespace"])
            except KubeError as error:
                if error.status != 404:
                    raise


def restart_on(daemon: str, ordinal: int, count: int = 1) -> Rule:
    """`daemon`'s pod on the ordinal-th new node comes up with restarts."""

    def rule(pod: Object, name: str, node: str, number: int) -> dict[str, str]:
        hit = name == daemon and number == ordinal
        return {"play.fnstack.dev/restarts": str(count)} if hit else {}

    return rule
