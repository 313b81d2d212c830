"""A small Kubernetes client: JSON over HTTPS with a client certificate.

Small on purpose. The harness reads a lot (watches) and writes a little, and what
it sends must be plain to see when the subject of a test is who wrote what.
"""
from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import yaml

Object = dict[str, Any]

# kind -> (API prefix, plural, namespaced)
KINDS: dict[str, tuple[str, str, bool]] = {
    "Namespace": ("/api/v1", "namespaces", False),
    "Node": ("/api/v1", "nodes", False),
    "Pod": ("/api/v1", "pods", True),
    "ConfigMap": ("/api/v1", "configmaps", True),
    "Service": ("/api/v1", "services", True),
    "ServiceAccount": ("/api/v1", "serviceaccounts", True),
    "Event": ("/api/v1", "events", True),
    "Lease": ("/apis/coordination.k8s.io/v1", "leases", True),
    "ControllerRevision": ("/apis/apps/v1", "controllerrevisions", True),
    "DaemonSet": ("/apis/apps/v1", "daemonsets", True),
    "Deployment": ("/apis/apps/v1", "deployments", True),
    "ReplicaSet": ("/apis/apps/v1", "replicasets", True),
    "StatefulSet": ("/apis/apps/v1", "statefulsets", True),
    "Job": ("/apis/batch/v1", "jobs", True),
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets", True),
    "CSINode": ("/apis/storage.k8s.io/v1", "csinodes", False),
    "VolumeAttachment": ("/apis/storage.k8s.io/v1", "volumeattachments", False),
    "Role": ("/apis/rbac.authorization.k8s.io/v1", "roles", True),
    "RoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "rolebindings", True),
    "ClusterRole": ("/apis/rbac.authorization.k8s.io/v1", "clusterroles", False),
    "ClusterRoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings", False),
}


class KubeError(Exception):
    """An answer of the API server that is not a success."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Credentials:
    server: str
    ca: Path
    cert: Path
    key: Path


class Kube:
    """Calls against one API server; safe to share between threads."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self._local = threading.local()

    def _session(self) -> requests.Session:
        session = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.verify = str(self.credentials.ca)
            session.cert = (str(self.credentials.cert), str(self.credentials.key))
            session.trust_env = False
            self._local.session = session
        return session

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        params: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Any:
        data = None if body is None else json.dumps(body)
        answer = self._session().request(
            method,
            self.credentials.server + path,
            data=data,
            params=params,
            headers={"Content-Type": content_type, "Accept": "application/json"},
            timeout=(5, 60),
        )
        if answer.status_code >= 400:
            try:
                status = answer.json()
            except ValueError:
                status = {}
            raise KubeError(
                answer.status_code, status.get("reason", ""), status.get("message", answer.text[:300])
            )
        return answer.json() if "json" in answer.headers.get("Content-Type", "") else answer.text

    @staticmethod
    def path(kind: str, namespace: str | None = None, name: str | None = None) -> str:
        prefix, plural, namespaced = KINDS[kind]
        path = prefix
        if namespaced and namespace:
            path += f"/namespaces/{namespace}"
        path += f"/{plural}"
        return f"{path}/{name}" if name else path

    def ready(self) -> bool:
        try:
            return self.request("GET", "/readyz") == "ok"
        except (requests.RequestException, KubeError):
            return False

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object:
        return self.request("GET", self.path(kind, namespace, name))

    def find(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        try:
            return self.get(kind, name, namespace)
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    def list(self, kind: str, namespace: str | None = None, **params: str) -> list[Object]:
        return self.request("GET", self.path(kind, namespace), params=params)["items"]

    def create(self, body: Object) -> Object:
        meta = body["metadata"]
        return self.request("POST", self.path(body["kind"], meta.get("namespace")), body)

    def apply(self, body: Object) -> Object:
        """Server-side apply, forced: the harness owns what it makes."""
        meta = body["metadata"]
        path = self.path(body["kind"], meta.get("namespace"), meta["name"])
        return self.request(
            "PATCH",
            path,
            body,
            params={"fieldManager": "fnstack", "force": "true"},
            content_type="application/apply-patch+yaml",
        )

    def patch(
        self,
        kind: str,
        name: str,
        body: Any,
        namespace: str | None = None,
        subresource: str = "",
        strategic: bool = False,
    ) -> Object:
        path = self.path(kind, namespace, name) + (f"/{subresource}" if subresource else "")
        flavour = "strategic-merge-patch" if strategic else "merge-patch"
        return self.request("PATCH", path, body, content_type=f"application/{flavour}+json")

    def delete(
        self, kind: str, name: str, namespace: str | None = None, grace: int | None = None
    ) -> bool:
        params = {} if grace is None else {"gracePeriodSeconds": str(grace)}
        try:
            self.request("DELETE", self.path(kind, namespace, name), params=params)
            return True
        except KubeError as error:
            if error.status == 404:
                return False
            raise

    def watch(self, kind: str, version: str, stop: threading.Event) -> Iterator[Object]:
        """Events from `version` on, until the server ends the stream or `stop` is set."""
        params = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true"}
        with self._session().get(
            self.credentials.server + self.path(kind), params=params, stream=True, timeout=(5, 300)
        ) as answer:
            if answer.status_code >= 400:
                raise KubeError(answer.status_code, "", answer.text[:300])
            for line in answer.iter_lines(chunk_size=None):
                if stop.is_set():
                    return
                if line:
                    yield json.loads(line)

    def write_kubeconfig(self, path: Path) -> None:
        c = self.credentials
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "stack", "cluster": {"server": c.server, "certificate-authority": str(c.ca)}}
            ],
            "users": [
                {
                    "name": "stack",
                    "user": {"client-certificate": str(c.cert), "client-key": str(c.key)},
                }
            ],
            "contexts": [{"name": "stack", "context": {"cluster": "stack", "user": "stack"}}],
            "current-context": "stack",
        }
        path.write_text(yaml.safe_dump(config))


class Cache:
    """All objects of one kind, kept current by a watch in a thread of its own.

    `on_event(type, object)` runs in that thread, also for the first list
    (type ADDED) and for what a relist finds gone (DELETED).
    """

    def __init__(
        self, kube: Kube, kind: str, on_event: Callable[[str, Object], None] | None = None
    ) -> None:
        self._kube = kube
        self._kind = kind
        self._on_event = on_event
        self._lock = threading.Lock()
        self._objects: dict[tuple[str, str], Object] = {}
        self._stop = threading.Event()
        self._synced = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch-{kind}", daemon=True)

    def start(self) -> Cache:
        self._thread.start()
        return self

    def wait(self, seconds: float = 10) -> Cache:
        if not self._synced.wait(seconds):
            raise TimeoutError(f"watch on {self._kind}: not synced within {seconds:.0f} s")
        return self

    def stop(self) -> None:
        self._stop.set()

    def all(self) -> list[Object]:
        with self._lock:
            return list(self._objects.values())

    def get(self, name: str, namespace: str = "") -> Object | None:
        with self._lock:
            return self._objects.get((namespace, name))

    @staticmethod
    def _key(body: Object) -> tuple[str, str]:
        meta = body["metadata"]
        return (meta.get("namespace", ""), meta["name"])

    def _emit(self, kind: str, body: Object) -> None:
        with self._lock:
            if kind == "DELETED":
                self._objects.pop(self._key(body), None)
            else:
                self._objects[self._key(body)] = body
        if self._on_event:
            self._on_event(kind, body)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._once()
            except (requests.RequestException, KubeError, ValueError):
                # The server went away or the version is too old: list again.
                self._stop.wait(0.3)

    def _once(self) -> None:
        listing = self._kube.request("GET", self._kube.path(self._kind), params={"resourceVersion": "0"})
        found = {self._key(item): item for item in listing["items"]}
        with self._lock:
            before = dict(self._objects)
        for key, item in before.items():
            if key not in found:
                self._emit("DELETED", item)
        for key, item in found.items():
            old = before.get(key)
            if old is None:
                self._emit("ADDED", item)
            elif old["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
                self._emit("MODIFIED", item)
        version = listing["metadata"]["resourceVersion"]
        self._synced.set()
        while not self._stop.is_set():
            for event in self._kube.watch(self._kind, version, self._stop):
                if event["type"] == "ERROR":
                    raise ValueError(event["object"].get("message", "watch error"))
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    self._emit(event["type"], event["object"])


def load_documents(path: Path) -> list[Object]:
    return [d for d in yaml.safe_load_all(path.read_text()) if d]


def now_rfc3339() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
