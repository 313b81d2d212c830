"""Fixes of what EKS manages as add-ons: through its configuration values, by its update, or not at all."""
from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ..kube import Object
from ..workloads import DAEMONS, daemonset
from .bench import Bench, expect

_OVERRIDE = "--hostname-override"
_OLD, _NEW = "v1.24.10-eksbuild.2", "v1.36.0-eksbuild.1"
_CNI = "v1.20.4-eksbuild.2"
# JSON or YAML: EKS keeps it as it was given.
_VALUES = "env:\n  WARM_ENI_TARGET: \"1\"\n"

Fix = Callable[..., dict[str, Any]]


def _proxies() -> dict[str, Object]:
    """kube-proxy's manifest by version: that of Kubernetes 1.24 lacks the override."""
    proxy = next(daemon for daemon in DAEMONS if daemon.name == "kube-proxy")
    flawed = daemonset(proxy)
    container = flawed["spec"]["template"]["spec"]["containers"][0]
    container["command"] = [word for word in container["command"] if not word.startswith(_OVERRIDE)]
    container["env"] = []
    return {_NEW: daemonset(proxy), _OLD: flawed}


def managed(bench: Bench, cluster: str, fix: Fix) -> None:
    """`fix` is one run of `fastnode fix` against the cluster, by the fix and further flags."""
    admin, addons = bench.stack.plane.admin, bench.stack.aws.addons
    network = next(daemon for daemon in DAEMONS if daemon.name == "aws-node")
    for name in ("aws-node", "kube-proxy"):
        admin.delete("DaemonSet", name, "kube-system")
    addons.install(cluster, "vpc-cni", {_CNI: daemonset(network)}, _CNI, _VALUES)
    addons.install(cluster, "kube-proxy", _proxies(), _OLD)
    _configured(bench, cluster, fix)
    _updated(bench, cluster, fix)


def _variables(bench: Bench) -> dict[str, Any]:
    body = bench.stack.plane.admin.get("DaemonSet", "aws-node", "kube-system")
    variables = body["spec"]["template"]["spec"]["containers"][0].get("env", [])
    return {variable["name"]: variable.get("value") for variable in variables}


def _configured(bench: Bench, cluster: str, fix: Fix) -> None:
    """A value that the schema takes goes beside those that are there, and comes out again; others' fields stay."""
    admin, addon = bench.stack.plane.admin, bench.stack.aws.addons.find(cluster, "vpc-cni")
    other = {"spec": {"template": {"spec": {"containers": [{"name": "aws-node", "env": [
        {"name": "WARM_ENI_TARGET", "value": "7"}]}]}}}}
    admin.patch("DaemonSet", "aws-node", other, "kube-system", strategic=True)
    before = admin.get("DaemonSet", "aws-node", "kube-system")["spec"]
    _refused_by_eks(bench, fix)
    expect(admin.get("DaemonSet", "aws-node", "kube-system")["spec"] == before, "a refused fix changed something")
    told = fix("cluster-endpoint", "--apply", "--yes")
    expect(told["outcome"] == "applied", f"through EKS: {told}")
    endpoint = bench.stack.plane.server
    values = {"env": {"WARM_ENI_TARGET": "1", "CLUSTER_ENDPOINT": endpoint}}
    expect(json.loads(addon.configuration) == values, f"not merged: {addon.configuration}")
    for line in ("configuration of the add-on vpc-cni", f"+  CLUSTER_ENDPOINT: {endpoint}"):
        expect(line in told["diff"].replace('"', ""), f"the diff does not show {line!r}: {told['diff']}")
    found = _variables(bench)
    expect(found.get("CLUSTER_ENDPOINT") == endpoint, f"EKS has not applied it: {found}")
    expect(found["WARM_ENI_TARGET"] == "7", f"not PRESERVE: {found}")
    again = fix("cluster-endpoint", "--apply", "--yes")
    expect(again["outcome"] == "nothing to do", f"cluster-endpoint again: {again}")
    back = fix("cluster-endpoint", "--revert", "--yes")
    expect(back["outcome"] == "reverted", f"cluster-endpoint: {back}")
    expect(json.loads(addon.configuration) == {"env": {"WARM_ENI_TARGET": "1"}}, f"not taken out: {addon.configuration}")
    after = admin.get("DaemonSet", "aws-node", "kube-system")["spec"]
    expect(after == before, f"the spec is not what it was: {_variables(bench)}")


def _refused_by_eks(bench: Bench, fix: Fix) -> None:
    """EKS does not take the values, whatever its schema says: nothing is left half-applied."""
    why = "ConfigurationValue provided in request is not supported"
    fault = bench.stack.aws.faults.add(operation="UpdateAddon", code="InvalidParameterException", message=why, count=1)
    refused = fix("cluster-endpoint", "--apply", "--yes", code="fixes refused by eks")
    expect(fault.struck == 1 and why in refused["text"], f"not said why: {refused['text']}")
    body = bench.stack.plane.admin.get("DaemonSet", "aws-node", "kube-system")
    ours = [key for key in body["metadata"].get("annotations", {}) if key.startswith("fastnode.dev/")]
    expect(not ours, f"{ours} left behind by what EKS refused")


def _updated(bench: Bench, cluster: str, fix: Fix) -> None:
    """Where the schema takes it nowhere, the DaemonSet is left to EKS and its newer version brings the fix."""
    admin = bench.stack.plane.admin
    before = admin.get("DaemonSet", "kube-proxy", "kube-system")["spec"]
    refused = fix("kube-proxy-hostname-override", "--apply", "--yes", code="fixes refused")
    expect("add-on" in refused["change"]["why"], f"not said that EKS manages it: {refused}")
    expect(admin.get("DaemonSet", "kube-proxy", "kube-system")["spec"] == before, "a refused fix changed something")
    told = fix("addon-update:kube-proxy", "--apply", "--yes")
    expect(told["outcome"] == "applied", f"the add-on's update: {told}")
    expect(f"+version: {_NEW}" in told["diff"], f"the diff does not show the version: {told['diff']}")
    told = fix("kube-proxy-hostname-override", "--apply", "--yes")
    expect(told["target"]["state"] == "present", f"the newer version has the override: {told}")
