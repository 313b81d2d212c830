"""A kubelet's share of a start: containers in their order, restarts with back-off, the pod's status, its logs.

    bound --> init containers, one after the other --> containers --(readiness)--> Ready
                 |  ^                                     |  ^
                 +--+ exits: at once, then 10, 20, 40 s --+--+
"""
from __future__ import annotations

import threading
import time
import traceback
from dataclasses import dataclass, field
from datetime import datetime, timezone

from ..kube import Cache, Kube, KubeError, Object
from ..pki import KeyPair
from .logs import Line, LogServer, NoLog
from .programs import START_ERROR, Exit, Machine, Process, program

# Of a DaemonSet's template: its pods are played here, and kwok leaves them alone.
MARK = {"play.fnstack.dev/starts": "by-causes"}
# Between a container's exit and the kubelet's next look at its runtime.
_RELIST = 0.5
_BACK_OFF, _BACK_OFF_LIMIT = 10.0, 300.0


@dataclass(frozen=True)
class Causes:
    """What the nodes are like. Seconds are those of real life, and are played `pace` times as long."""

    pace: float = 0.2
    # The domain that the VPC's DHCP options give to hosts; None: a host has its Node's name.
    domain: str | None = "corp.example"
    # image -> until it has been pulled to a new node, all of them at the same time; others `pull`.
    pulls: dict[str, float] = field(default_factory=lambda: {"amazon-k8s-cni": 3.0, "kube-proxy": 7.0})
    pull: float = 1.0


class _Gone(Exception):
    """The pod is going: nothing of it goes on."""


class _Clock:
    def __init__(self, pace: float, gone: threading.Event) -> None:
        self._pace, self._gone = pace, gone

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        if self._gone.wait(seconds * self._pace):
            raise _Gone


@dataclass
class Run:
    """A container's run."""

    started: float
    ended: float | None = None
    code: int = 0
    served: bool = False
    lines: list[Line] = field(default_factory=list)

    def terminated(self) -> Object:
        reason = {0: "Completed", START_ERROR: "StartError"}.get(self.code, "Error")
        times = {"startedAt": _rfc3339(self.started), "finishedAt": _rfc3339(self.ended or self.started)}
        return {"terminated": {"exitCode": self.code, "reason": reason, **times}}


@dataclass
class Container:
    """A container of a pod, with its runs so far."""

    spec: Object
    init: bool
    waits: str = "PodInitializing"  # why no run of it goes on
    runs: list[Run] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        run = self.runs[-1] if self.runs else None
        if run is None or self.init:
            return run is not None and run.ended is not None and run.code == 0
        return run.ended is None and (run.served or "readinessProbe" not in self.spec)

    def status(self) -> Object:
        """As the kubelet writes it."""
        run = self.runs[-1] if self.runs else None
        before = self.runs[-2] if len(self.runs) > 1 else None
        if run is not None and run.ended is None:
            state: Object = {"running": {"startedAt": _rfc3339(run.started)}}
        elif self.waits:
            state, before = {"waiting": {"reason": self.waits}}, run
        else:
            assert run is not None  # what does not wait has run
            state = run.terminated()
        return {
            "name": self.spec["name"],
            "image": self.spec["image"],
            "imageID": "",
            "ready": self.ready,
            "started": run is not None and run.ended is None,
            "restartCount": max(0, len(self.runs) - 1),
            "state": state,
            "lastState": before.terminated() if before else {},
        }


class _Pod:
    """One pod from its binding to its end, in threads of its own."""

    def __init__(self, kubelet: Kubelet, body: Object) -> None:
        self._kubelet, self.body = kubelet, body
        self._lock = threading.Lock()
        self._times: dict[str, tuple[str, str]] = {}  # condition -> its status, since when
        self.gone = threading.Event()
        self.clock = _Clock(kubelet.causes.pace, self.gone)
        spec = body["spec"]
        self.inits = [Container(c, True) for c in spec.get("initContainers", [])]
        self.works = [Container(c, False) for c in spec["containers"]]
        if not self.inits:
            for each in self.works:
                each.waits = "ContainerCreating"
        self._started = time.time()

    def run(self) -> None:
        try:
            self.machine, self._pulled = self._kubelet.machine(self.body["spec"]["nodeName"])
            self._write()
            for container in self.inits:
                self._supervise(container)
            for container in self.works:
                container.waits = "ContainerCreating"
            for container in self.works:
                threading.Thread(target=self._quietly, args=(container,), daemon=True).start()
        except _Gone:
            pass
        except Exception:  # a thread's end must be seen
            traceback.print_exc()

    def _quietly(self, container: Container) -> None:
        try:
            self._supervise(container)
        except _Gone:
            pass
        except Exception:
            traceback.print_exc()

    def _supervise(self, container: Container) -> None:
        """Starts a container, again after each exit; an init container until it ends well."""
        image, causes = container.spec["image"], self._kubelet.causes
        if image not in self._pulled:
            self.clock.sleep(causes.pulls.get(image.rpartition("/")[2].partition(":")[0], causes.pull))
            self._pulled.add(image)
        back_off = 0.0
        while True:
            run = Run(time.time())
            with self._lock:
                container.waits = ""
                container.runs.append(run)
            self._write()
            code = self._execute(container, run)
            with self._lock:
                run.ended, run.code = time.time(), code
                # The first is started again at once.
                container.waits = "CrashLoopBackOff" if back_off and (code or not container.init) else ""
            self._write()
            self.clock.sleep(_RELIST)
            if container.init and code == 0:
                return
            self.clock.sleep(back_off)
            back_off = min(2 * back_off or _BACK_OFF, _BACK_OFF_LIMIT)

    def _execute(self, container: Container, run: Run) -> int:
        def say(text: str) -> None:
            run.lines.append((time.time(), text))

        def serve() -> None:
            run.served = True
            self._write()

        me = Process(container.spec, self.machine.ip, self.machine, self.clock, say, serve)
        try:
            program(container.spec, container.init)(me)
        except Exit as end:
            return end.code
        # It goes on until the pod goes.
        self.gone.wait()
        raise _Gone

    def status(self) -> Object:
        """The pod's status as it is now."""
        initialized = all(c.ready for c in self.inits)
        ready = initialized and all(c.ready for c in self.works)
        running = any(c.runs for c in self.works)
        conditions = []
        facts = {
            "Initialized": (initialized, "ContainersNotInitialized"),
            "Ready": (ready, "ContainersNotReady"),
            "ContainersReady": (ready, "ContainersNotReady"),
        }
        for kind, (holds, reason) in facts.items():
            value = "True" if holds else "False"
            if self._times.get(kind, ("", ""))[0] != value:
                self._times[kind] = (value, _rfc3339(time.time()))
            row = {"type": kind, "status": value, "lastTransitionTime": self._times[kind][1]}
            conditions.append({**row, "reason": None if holds else reason})
        return {
            "phase": "Running" if running else "Pending",
            "startTime": _rfc3339(self._started),
            "hostIP": self.machine.ip,
            "hostIPs": [{"ip": self.machine.ip}],
            "podIP": self.machine.ip,
            "podIPs": [{"ip": self.machine.ip}],
            "conditions": conditions,
            "initContainerStatuses": [c.status() for c in self.inits],
            "containerStatuses": [c.status() for c in self.works],
        }

    def _write(self) -> None:
        meta = self.body["metadata"]
        with self._lock:
            if self.gone.is_set():
                return
            body = {"metadata": {"uid": meta["uid"]}, "status": self.status()}
            try:
                self._kubelet.kube.patch("Pod", meta["name"], body, meta["namespace"], "status", strategic=True)
            except KubeError as error:
                # Deleted meanwhile; the watch will tell.
                if error.status not in (404, 409):
                    raise

    def lines(self, container: str, previous: bool) -> list[Line]:
        name = self.body["metadata"]["name"]
        found = next((c for c in [*self.inits, *self.works] if c.spec["name"] == container), None)
        runs = found.runs if found else []
        if previous and found and found.waits == "CrashLoopBackOff":
            # What is waited after is the run before.
            return list(runs[-1].lines)
        if len(runs) < (2 if previous else 1):
            why = f'container "{container}" in pod "{name}" is waiting to start: {found.waits if found else "unknown"}'
            raise NoLog(400, f'previous terminated container "{container}" in pod "{name}" not found' if previous else why)
        return list(runs[-2 if previous else -1].lines)


class Kubelet:
    """Plays the marked pods of every node; `port` is where the API server finds their logs."""

    def __init__(self, kube: Kube, causes: Causes, pair: KeyPair) -> None:
        self.kube, self.causes = kube, causes
        self._lock = threading.Lock()
        self._machines: dict[str, tuple[Machine, set[str]]] = {}  # Node's uid -> it, and the images on it
        self._pods: dict[str, _Pod] = {}
        self._logs = LogServer(pair, self._read)
        self._cache = Cache(kube, "Pod", self._event)
        self._stopped = False
        self.port = self._logs.port

    def start(self) -> None:
        self._logs.start()
        self._cache.start().wait()

    def stop(self) -> None:
        self._stopped = True
        self._cache.stop()
        with self._lock:
            for pod in self._pods.values():
                pod.gone.set()
        self._logs.stop()

    def machine(self, name: str) -> tuple[Machine, set[str]]:
        """The node of that name, and what images it has."""
        node = self.kube.get("Node", name)
        service = self.kube.get("Service", "kubernetes", "default")["spec"]["clusterIP"]
        address = next(a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")
        host = f"{name.split('.')[0]}.{self.causes.domain}" if self.causes.domain else name
        with self._lock:
            made = Machine(name, host, address, service, lambda asked: self.kube.find("Node", asked) is not None)
            return self._machines.setdefault(node["metadata"]["uid"], (made, set()))

    def _event(self, kind: str, body: Object) -> None:
        meta = body["metadata"]
        if MARK.items() - (meta.get("annotations") or {}).items() or not body["spec"].get("nodeName"):
            return
        with self._lock:
            pod = self._pods.get(meta["uid"])
            if kind == "DELETED" or meta.get("deletionTimestamp"):
                if pod:
                    pod.gone.set()
                if kind == "DELETED":
                    self._pods.pop(meta["uid"], None)
                return
            if pod or self._stopped:
                return
            pod = self._pods[meta["uid"]] = _Pod(self, body)
        threading.Thread(target=pod.run, name=f"kubelet-{meta['name']}", daemon=True).start()

    def _read(self, namespace: str, name: str, container: str, previous: bool) -> list[Line]:
        with self._lock:
            pods = list(self._pods.values())
        for pod in pods:
            meta = pod.body["metadata"]
            if (meta["namespace"], meta["name"]) == (namespace, name):
                return pod.lines(container, previous)
        # kwok's pods write nothing.
        return []


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
