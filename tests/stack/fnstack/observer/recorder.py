"""Records nodes and pods as the API server tells them, with times; judges nothing."""
from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from ..bridge import node_ready, pod_ready
from ..kube import Cache, Kube, Object


# Load balancer controllers deregister a node that carries this label.
_EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"


@dataclass
class PodRecord:
    uid: str
    namespace: str
    name: str
    owner_kind: str
    owner_name: str
    mirror: bool
    created: float
    node: str = ""
    bound: float | None = None
    finished: float | None = None  # Succeeded or Failed seen
    gone: float | None = None  # DELETED seen
    grace_zero: bool = False

    @property
    def evictable(self) -> bool:
        """What a drain has to move: not a DaemonSet's and not a mirror pod."""
        return self.owner_kind != "DaemonSet" and not self.mirror


@dataclass
class NodeState:
    ready: bool = False
    cordoned: bool = False
    excluded: bool = False  # out of its load balancers
    instance: str = ""
    daemons: dict[str, bool] = field(default_factory=dict)  # pod uid -> Ready
    seen: set[str] = field(default_factory=set)  # DaemonSets that have had a Ready pod here


@dataclass(frozen=True)
class Capacity:
    """How many nodes of a group were functional at a moment, and from when."""

    time: float
    functional: int
    uncordoned: int


def creation(body: Object) -> float:
    from datetime import datetime

    stamp = body["metadata"]["creationTimestamp"]
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


class Recorder:
    """Own watches on Nodes and Pods. `group_of` maps an instance id to its group.

    Pods of the `renewed` DaemonSets may be replaced in place: what a first one has set up on its node stays.
    """

    def __init__(
        self, kube: Kube, daemonsets: set[str], group_of: Any, renewed: frozenset[str] = frozenset()
    ) -> None:
        self._lock = threading.Lock()
        self._daemonsets = daemonsets
        self._group_of = group_of
        self._renewed = renewed
        self.pods: dict[str, PodRecord] = {}
        self.nodes: dict[str, NodeState] = {}
        self.names: dict[str, str] = {}  # instance id -> node name, for good
        self.timeline: list[dict[str, Any]] = []
        self.capacity: dict[str, list[Capacity]] = {}
        self._pods = Cache(kube, "Pod", self._pod)
        self._nodes = Cache(kube, "Node", self._node)

    def start(self) -> None:
        self._nodes.start().wait()
        self._pods.start().wait()

    def stop(self) -> None:
        self._nodes.stop()
        self._pods.stop()

    def _note(self, what: str, **more: Any) -> None:
        self.timeline.append({"time": time.time(), "what": what, **more})

    # -- events -------------------------------------------------------------------

    def _node(self, kind: str, body: Object) -> None:
        name = body["metadata"]["name"]
        with self._lock:
            if kind == "DELETED":
                self.nodes.pop(name, None)
                self._note("node.deleted", node=name)
            else:
                state = self.nodes.setdefault(name, NodeState())
                before = (state.ready, state.cordoned)
                state.instance = body["spec"].get("providerID", "").rsplit("/", 1)[-1]
                self.names[state.instance] = name
                state.ready = node_ready(body)
                state.cordoned = bool(body["spec"].get("unschedulable"))
                if before != (state.ready, state.cordoned):
                    self._note("node", node=name, ready=state.ready, cordoned=state.cordoned)
                excluded = _EXCLUDED in (body["metadata"].get("labels") or {})
                if excluded != state.excluded:
                    state.excluded = excluded
                    serving = sum(map(self._functional, self.nodes.values()))
                    self._note("node.excluded", node=name, excluded=excluded, functional=serving)
            self._count()

    def _pod(self, kind: str, body: Object) -> None:
        now, meta = time.time(), body["metadata"]
        owners = meta.get("ownerReferences") or [{"kind": "", "name": ""}]
        with self._lock:
            pod = self.pods.get(meta["uid"])
            if pod is None:
                pod = PodRecord(
                    uid=meta["uid"],
                    namespace=meta["namespace"],
                    name=meta["name"],
                    owner_kind=owners[0]["kind"],
                    owner_name=owners[0]["name"],
                    mirror="kubernetes.io/config.mirror" in (meta.get("annotations") or {}),
                    created=creation(body),
                )
                self.pods[pod.uid] = pod
            if not pod.node and body["spec"].get("nodeName"):
                pod.node, pod.bound = body["spec"]["nodeName"], now
            if body.get("status", {}).get("phase") in ("Succeeded", "Failed"):
                pod.finished = pod.finished or now
            if kind == "DELETED":
                pod.gone = now
                if pod.evictable:
                    self._note("pod.gone", pod=f"{pod.namespace}/{pod.name}", node=pod.node)
            self._daemon(kind, pod, body)

    def _daemon(self, kind: str, pod: PodRecord, body: Object) -> None:
        if pod.owner_kind != "DaemonSet" or pod.node not in self.nodes:
            return
        daemons = self.nodes[pod.node].daemons
        if kind == "DELETED":
            daemons.pop(pod.uid, None)
        else:
            daemons[pod.uid] = pod_ready(body)
            if daemons[pod.uid]:
                self.nodes[pod.node].seen.add(pod.owner_name)
        self._count()

    # -- capacity ---------------------------------------------------------------------

    def _functional(self, state: NodeState) -> bool:
        """Our own definition: Ready, and a Ready pod of every DaemonSet."""
        ready = {self.pods[uid].owner_name for uid, ok in state.daemons.items() if ok}
        return state.ready and self._daemonsets <= ready | (state.seen & self._renewed)

    def _count(self) -> None:
        counts: dict[str, list[int]] = {group: [0, 0] for group in self.capacity}
        for state in self.nodes.values():
            group = self._group_of(state.instance)
            if group is None:
                continue
            count = counts.setdefault(group, [0, 0])
            if self._functional(state):
                count[0] += 1
                count[1] += not state.cordoned
        now = time.time()
        for group, (functional, uncordoned) in counts.items():
            series = self.capacity.setdefault(group, [])
            if not series or (series[-1].functional, series[-1].uncordoned) != (functional, uncordoned):
                series.append(Capacity(now, functional, uncordoned))
