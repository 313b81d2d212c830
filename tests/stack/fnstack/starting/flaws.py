"""kube-proxy and aws-node as somebody has carried them along by hand for years: with both faults of node startup.

kube-proxy is not told its Node's name, and aws-node waits for nothing; their versions still suffer from it.
"""
from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import yaml

from ..kube import Object
from ..workloads import DAEMONS, daemonset, install_daemons
from .kubelet import MARK

if TYPE_CHECKING:
    from ..stack import Stack

NAMES = ("kube-proxy", "aws-node")
_NAMESPACE = "kube-system"
_OVERRIDE = "--hostname-override="
# As EKS's manifests have them; the kubelet that plays them goes by whether there is one.
_HEALTHZ = {"httpGet": {"path": "/healthz", "port": 10256}, "periodSeconds": 10}
_PROBE = {"exec": {"command": ["/app/grpc-health-probe", "-addr=:50051"]}, "periodSeconds": 10}


def manifests() -> list[Object]:
    """Both DaemonSets, half of their pods to be renewed at a time."""
    known = {daemon.name: daemon for daemon in DAEMONS}
    registry = known["kube-proxy"].image.partition("/")[0]
    proxy = replace(known["kube-proxy"], image=f"{registry}/eks/kube-proxy:v1.32.9-minimal-eksbuild.2")
    network = replace(known["aws-node"], image=f"{registry}/amazon-k8s-cni:v1.10.4-eksbuild.1", containers=("aws-node",))
    found = []
    for daemon, probe in ((proxy, _HEALTHZ), (network, _PROBE)):
        body = daemonset(daemon)
        body["metadata"]["labels"].pop("app.kubernetes.io/managed-by")
        body["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] = "50%"
        template = body["spec"]["template"]
        template["metadata"]["annotations"] = {**MARK, "play.fnstack.dev/stop-delay": "300ms"}
        container = template["spec"]["containers"][0]
        container["readinessProbe"] = probe
        container.pop("env", None)
        if "command" in container:
            container["command"] = [word for word in container["command"] if not word.startswith(_OVERRIDE)]
        found.append(body)
    return found


def bring(stack: Stack) -> None:
    """In the place of the sound ones, by `kubectl apply`: nobody's server-side apply owns them."""
    for name in NAMES:
        stack.plane.admin.delete("DaemonSet", name, _NAMESPACE)
    kubectl = [str(stack.settings.bin / "kubectl"), "--kubeconfig", str(stack.folder / "admin.kubeconfig")]
    body = yaml.safe_dump_all(manifests())
    subprocess.run([*kubectl, "apply", "-f", "-"], input=body, text=True, check=True, capture_output=True)


def take_away(stack: Stack) -> None:
    """The sound ones again."""
    for name in NAMES:
        stack.plane.admin.delete("DaemonSet", name, _NAMESPACE)
    install_daemons(stack.plane.admin)
