"""Fixes on the real API server: the diff that was shown and no more, the way back, and other people's fields."""
from __future__ import annotations

import difflib
import re
from collections import Counter
from typing import Any

import yaml

from .. import access
from ..kube import Object
from ..stack import REGION, REPOSITORY
from ..workloads import install_daemons
from .bench import Bench, Result, expect
from .codes import EXPECTED
from .managed import managed

_ROLE = REPOSITORY / "config/deploy/rbac-fix.yaml"
_NAMESPACE = "kube-system"
_IMAGE = "registry.example.com/fastnode:0.1.0"
# What the server alone writes, and kubectl's copy of the rest.
_KEPT = ("deprecated.daemonset.template.generation", "kubectl.kubernetes.io/last-applied-configuration")


def read(bench: Bench, name: str) -> Object:
    return bench.stack.plane.admin.get("DaemonSet", name, _NAMESPACE)


def _fix(bench: Bench, cluster: str, *more: str, code: str = "fixes") -> dict[str, Any]:
    """One run; what it says of its one fix."""
    arguments = ("fix", "--cluster", cluster, "--region", REGION, "-o", "json", "--waiter-image", _IMAGE)
    result: Result = bench.run(*arguments, *more)
    result.expect_code(EXPECTED[code])
    objects = [e for e in result.events if "fixes" in e]
    found = objects[-1]["fixes"][0] if objects else {}
    return {**found, "text": result.text}


def _essence(body: Object) -> str:
    """Labels, annotations and spec, as YAML."""
    meta = body["metadata"]
    annotations = {k: v for k, v in meta.get("annotations", {}).items() if k not in _KEPT}
    kept = {"labels": meta["labels"], **({"annotations": annotations} if annotations else {})}
    return yaml.safe_dump({"metadata": kept, "spec": body["spec"]}, sort_keys=True, width=1 << 30)


def _net(lines: list[str]) -> Counter[str]:
    """How many lines more there are of each after the diff than before, whatever the quotes."""
    net: Counter[str] = Counter()
    for line in lines:
        if line[:1] in "+-" and line[:3] not in ("+++", "---"):
            text = line[1:].replace('"', "").replace("'", "").replace("\\", "").strip()
            # What a fix came to is added to its record once it is known.
            text = re.sub(r"effect:\{[^}]*\},", "", text)
            net[text] += 1 if line[0] == "+" else -1
    return Counter({text: count for text, count in net.items() if count})


def differs_by(before: Object, after: Object, shown: str, what: str) -> None:
    real = difflib.unified_diff(_essence(before).splitlines(), _essence(after).splitlines(), lineterm="", n=0)
    made, told = _net(list(real)), _net(shown.splitlines())
    expect(made == told, f"{what}: made {made - told}, told {told - made}")


def _as_manager(bench: Bench, manager: str, body: Object, force: bool) -> Object:
    path = bench.stack.plane.admin.path("DaemonSet", _NAMESPACE, body["metadata"]["name"])
    params = {"fieldManager": manager, "force": str(force).lower()}
    return bench.stack.plane.admin.request("PATCH", path, body, params, "application/apply-patch+yaml")


def _command(command: list[str]) -> Object:
    container = {"name": "kube-proxy", "command": command}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "kube-proxy", "namespace": _NAMESPACE},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }


def _there_and_back(bench: Bench, cluster: str, fix: str, name: str, *more: str) -> None:
    """Applied by the diff that was shown, a second time nothing, and back to the same spec."""
    before = read(bench, name)
    told = _fix(bench, cluster, fix, "--apply", "--yes", *more)
    expect(told["outcome"] == "applied", f"{fix}: {told}")
    after = read(bench, name)
    differs_by(before, after, told["diff"], fix)
    again = _fix(bench, cluster, fix, "--apply", "--yes", *more)
    expect(again["outcome"] == "nothing to do", f"{fix} again: {again}")
    expect(read(bench, name)["metadata"]["generation"] == after["metadata"]["generation"], f"{fix}: written twice")
    back = _fix(bench, cluster, fix, "--revert", "--yes")
    expect(back["outcome"] == "reverted", f"{fix}: {back}")
    differs_by(after, read(bench, name), back["diff"], f"{fix} back")
    expect(read(bench, name)["spec"] == before["spec"], f"{fix}: the spec is not what it was")
    ours = [k for k in read(bench, name)["metadata"].get("annotations", {}) if k.startswith("fastnode.dev/")]
    expect(not ours, f"{fix}: {ours} left behind")
    managers = {entry["manager"] for entry in read(bench, name)["metadata"]["managedFields"]}
    expect("fastnode" not in managers, f"{fix}: fields are still ours: {managers}")


def fixes(bench: Bench) -> None:
    """Fixes on the real API server: exactly the shown diff, the same spec after --revert, nobody's fields taken."""
    cluster = bench.small().cluster
    admin = bench.stack.plane.admin
    denied = _fix(bench, cluster, "aws-node-wait", code="fixes without rights")
    expect("rbac-fix.yaml" in denied["text"], f"not said which rights: {denied['text']}")
    access.grant(admin, _ROLE, "fnstack:fastnode")
    original = read(bench, "kube-proxy")["spec"]["template"]["spec"]["containers"][0]["command"]

    # New keys of lists that somebody else owns.
    _there_and_back(bench, cluster, "aws-node-wait", "aws-node")
    _there_and_back(bench, cluster, "aws-node-wait-address", "aws-node")
    _there_and_back(bench, cluster, "cluster-endpoint", "aws-node")
    _there_and_back(bench, cluster, "wait-for:node-local-dns", "node-local-dns")

    # There already.
    told = _fix(bench, cluster, "kube-proxy-hostname-override", "--apply", "--yes")
    expect(told["target"]["state"] == "present", f"the override is there: {told}")

    # A list that EKS applies: not without leave, with it as a whole, and given back.
    flawed = [word for word in original if "hostname-override" not in word]
    _as_manager(bench, "eks", _command(flawed), force=True)
    bench.stack.plane.admin.patch(
        "DaemonSet", "kube-proxy", {"spec": {"template": {"spec": {"containers": [{"name": "kube-proxy", "env": [
            {"name": "NODE_NAME", "$patch": "delete"}]}]}}}}, _NAMESPACE, strategic=True
    )
    before = read(bench, "kube-proxy")
    refused = _fix(bench, cluster, "kube-proxy-hostname-override", "--apply", "--yes", code="fixes refused")
    for word in ("eks", "--take-ownership", ".command"):
        expect(word in refused["change"]["why"], f"the refusal does not say {word}: {refused}")
    expect(read(bench, "kube-proxy")["spec"] == before["spec"], "a refused fix changed something")
    _there_and_back(bench, cluster, "kube-proxy-hostname-override", "kube-proxy", "--take-ownership")
    _as_manager(bench, "eks", _command(flawed), force=False)  # its next apply meets nobody

    # New nodes alone, and the rest later.
    strategy = before["spec"]["updateStrategy"]
    _fix(bench, cluster, "aws-node-wait", "--apply", "--yes", "--on-new-nodes-only", "--take-ownership")
    expect(read(bench, "aws-node")["spec"]["updateStrategy"]["type"] == "OnDelete", "pods were restarted")
    told = _fix(bench, cluster, "aws-node-wait", "--apply", "--yes")
    expect(told["outcome"] == "settled", f"the strategy is not put back: {told}")
    expect(read(bench, "aws-node")["spec"]["updateStrategy"] == strategy, "another strategy than before")
    # By a patch it came, by a patch it goes.
    _fix(bench, cluster, "aws-node-wait", "--revert", "--yes")

    # Changed since: left alone.
    _fix(bench, cluster, "cluster-endpoint", "--apply", "--yes")
    admin.patch(
        "DaemonSet", "aws-node", {"spec": {"template": {"spec": {"containers": [{"name": "aws-node", "env": [
            {"name": "CLUSTER_ENDPOINT", "value": "https://elsewhere.test"}]}]}}}}, _NAMESPACE, strategic=True
    )
    changed = read(bench, "aws-node")["spec"]
    refused = _fix(bench, cluster, "cluster-endpoint", "--revert", "--yes", code="fixes refused")
    expect("has been changed since" in refused["text"], f"not said why: {refused['text']}")
    expect(read(bench, "aws-node")["spec"] == changed, "what somebody changed was written over")

    # Managed by EKS.
    managed(bench, cluster, lambda *more, **code: _fix(bench, cluster, *more, **code))

    # Back to the cluster that the other scenarios know.
    for name in ("aws-node", "kube-proxy", "node-local-dns"):
        admin.delete("DaemonSet", name, _NAMESPACE)
    bench.drop_small()
    install_daemons(admin)
