"""fastnode as a Job's process on a node that it rotates. The harness plays the kubelet for that Job's pods."""
from __future__ import annotations

import base64
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from ..controlplane import SERVICE_ACCOUNT
from ..fleet import Fleet, FleetSpec
from ..kube import KubeError, Object, load_documents
from ..observer.witness import Promise
from ..stack import REPOSITORY
from . import sights
from .bench import Bench, expect
from .codes import EXPECTED
from .trouble import FAST, QUICK, light

_NAMESPACE, _ACCOUNT = SERVICE_ACCOUNT.split(":")[-2:]
_USER = SERVICE_ACCOUNT
_CRONJOB = REPOSITORY / "config/deploy/cronjob.yaml"


def _manifest(name: str) -> Object:
    """The Job that the shipped CronJob would make; its pod runs as long as the harness says."""
    cronjob = next(d for d in load_documents(_CRONJOB) if d["kind"] == "CronJob")
    spec = cronjob["spec"]["jobTemplate"]["spec"]
    meta = spec["template"].setdefault("metadata", {})
    meta.setdefault("annotations", {})["play.fnstack.dev/run-time"] = "3600s"
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": _NAMESPACE},
        "spec": spec,
    }


class Kubelet:
    """Runs the process of each of the Job's pods, and tells the API server how it ended."""

    def __init__(self, bench: Bench, fleet: Fleet, job: str) -> None:
        self._bench, self._fleet, self._job = bench, fleet, job
        self._kube = bench.stack.plane.admin
        self._config = bench.folder / f"{job}.kubeconfig"
        self._seen: set[str] = set()
        self._write_kubeconfig()

    def _write_kubeconfig(self) -> None:
        path = f"/api/v1/namespaces/{_NAMESPACE}/serviceaccounts/{_ACCOUNT}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        token = self._kube.request("POST", path, body)["status"]["token"]
        plane = self._bench.stack.plane
        authority = base64.b64encode(plane.authority.pem()).decode()
        self._config.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [
                        {"name": "pod", "cluster": {"server": plane.server, "certificate-authority-data": authority}}
                    ],
                    "users": [{"name": "pod", "user": {"token": token}}],
                    "contexts": [{"name": "pod", "context": {"cluster": "pod", "user": "pod"}}],
                    "current-context": "pod",
                }
            )
        )

    def environment(self, pod: Object) -> dict[str, str]:
        """What the pod's container would find, the service account by a kubeconfig."""
        return {
            "KUBECONFIG": str(self._config),
            "FASTNODE_NODE_NAME": pod["spec"]["nodeName"],
            "FASTNODE_POD_NAME": pod["metadata"]["name"],
            "FASTNODE_POD_NAMESPACE": _NAMESPACE,
        }

    def pod(self, seconds: float = 60) -> Object:
        """The Job's next pod, as soon as it runs."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for pod in self._kube.list("Pod", _NAMESPACE, labelSelector=f"job-name={self._job}"):
                fresh = pod["metadata"]["uid"] not in self._seen and not pod["metadata"].get("deletionTimestamp")
                if fresh and pod.get("status", {}).get("phase") == "Running":
                    self._seen.add(pod["metadata"]["uid"])
                    return pod
            time.sleep(0.1)
        expect(False, f"the Job {self._job} has no new running pod after {seconds:.0f} s")
        raise AssertionError

    def leaves(self, pod: Object) -> bool:
        """Whether the pod is to end: what its process gets a SIGTERM for."""
        now = self._kube.find("Pod", pod["metadata"]["name"], _NAMESPACE)
        return now is None or bool(now["metadata"].get("deletionTimestamp"))

    def ended(self, pod: Object, code: int) -> None:
        """The container's end, as the kubelet writes it into the pod's status."""
        state = {"terminated": {"exitCode": code, "reason": "Completed" if code == 0 else "Error"}}
        status = {
            "phase": "Succeeded" if code == 0 else "Failed",
            "containerStatuses": [
                {"name": "fastnode", "image": "fastnode", "imageID": "", "ready": False, "restartCount": 0, "state": state}
            ],
        }
        try:
            self._kube.patch("Pod", pod["metadata"]["name"], {"status": status}, _NAMESPACE, "status", strategic=True)
        except KubeError as error:
            if error.status != 404:
                raise


@contextmanager
def _job(bench: Bench, fleet: Fleet) -> Iterator[Kubelet]:
    kube, name = bench.stack.plane.admin, f"rotate-{fleet.cluster}"
    for document in load_documents(bench.stack.rbac):
        kube.apply(document)
    kube.apply(_manifest(name))
    try:
        yield Kubelet(bench, fleet, name)
    finally:
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        kube.request("DELETE", kube.path("Job", _NAMESPACE, name), options)


def own_node(bench: Bench) -> None:
    """As a Job's pod on an old node: that one goes last, the pod evicts itself, the Job's next pod finishes it."""
    spec = FleetSpec(nodes=6, groups=1, zones=3)
    flags = ("--surge", "1", *QUICK)
    with bench.fleet("job", spec, light(spec.nodes), FAST) as fleet, _job(bench, fleet) as kubelet:
        with bench.witnessed(fleet, user=_USER) as witness:
            pod = kubelet.pod()
            node = pod["spec"]["nodeName"]
            with bench.rotating(fleet.cluster, *flags, environment=kubelet.environment(pod)) as subject:
                subject.until("its own pod was evicted", lambda: kubelet.leaves(pod), 150)
                expect(sights.marked(bench, "draining") == [node], f"{node} is not the last: {sights.marked(bench, 'draining')}")
                expect(not sights.holder(bench), "it evicted itself with the lock in hand")
                subject.send(signal.SIGTERM)
                signalled = time.time()
                result = bench.ended(subject, 20)
            result.expect_code(EXPECTED["own-node"])
            _nothing_more(bench, node, signalled)
            _stops_on(bench, fleet, kubelet.environment(pod), flags)
            kubelet.ended(pod, result.code)
            after = kubelet.pod()
            expect(after["spec"]["nodeName"] != node, f"the Job's next pod is on {node} again")
            with bench.rotating(fleet.cluster, *flags, environment=kubelet.environment(after)) as subject:
                result = bench.ended(subject, 120)
            result.expect_code(EXPECTED["own-node next"])
            kubelet.ended(after, result.code)
            # That one goes last, whichever zone the others' replacements were launched in: where its zone is not
            # the fullest then, it is replaced too, and one of the fullest gives the surge back.
            bench.judge(witness, Promise(extra_ends=1), "own-node")
        _succeeds(bench, f"rotate-{fleet.cluster}")


def _nothing_more(bench: Bench, node: str, since: float) -> None:
    writes = bench.writes_since(since, user=_USER)
    expect(not writes, f"it wrote after the signal: {', '.join(writes)}")
    expect(node in sights.cordoned(bench), f"{node} is not cordoned any more")


def _stops_on(bench: Bench, fleet: Fleet, environment: dict[str, str], flags: tuple[str, ...]) -> None:
    """A pod that finds itself on the cordoned node has nothing to do there, and says so."""
    since = time.time()
    with bench.rotating(fleet.cluster, *flags, environment=environment) as subject:
        result = bench.ended(subject, 30)
    result.expect_code(EXPECTED["own-node there again"])
    expect(environment["FASTNODE_NODE_NAME"] in result.text, f"it does not name the node: {result.text[-300:]}")
    writes = bench.writes_since(since, user=_USER)
    expect(not writes, f"it wrote: {', '.join(writes)}")


def _succeeds(bench: Bench, job: str) -> None:
    kube, deadline = bench.stack.plane.admin, time.monotonic() + 30
    status: dict[str, Any] = {}
    while time.monotonic() < deadline:
        status = kube.get("Job", job, _NAMESPACE).get("status", {})
        if any(c["type"] == "Complete" and c["status"] == "True" for c in status.get("conditions") or []):
            return
        time.sleep(0.2)
    expect(False, f"the Job has not succeeded: {status}")
