"""A cluster with both faults of node startup: diagnosed, mended by a rotation, and given back as it was.

kube-proxy is not told its Node's name, and the hosts have others; aws-node does not wait for kube-proxy's rules.
What comes of that is played by causes (starting/), never scripted.
"""
from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .. import access
from ..aws.identity import Principal
from ..fleet import Fleet, FleetSpec
from ..kube import Object
from ..observer.witness import Promise
from ..stack import REGION, REPOSITORY
from ..starting import flaws
from ..starting.kubelet import Causes
from . import sights
from .bench import Bench, Result, expect
from .codes import EXPECTED
from .fixes import differs_by, read
from .subject import events
from .trouble import FAST, QUICK, light

_NAMESPACE = "kube-system"
_IMAGE = "registry.example.com/fastnode:0.1.0"
_PROXY, _WAIT = "kube-proxy-hostname-override", "aws-node-wait"
# The DaemonSet that each changes, in the order in which they are found.
_TARGETS = {_PROXY: "kube-proxy", _WAIT: "aws-node"}

_ONE_BY_ONE = ("--canary", "1", "--surge", "1", "--drains", "1")
_MENDING = ("--fixes", "apply", "--waiter-image", _IMAGE, "--restarts", "warn", *_ONE_BY_ONE)


@dataclass
class _Ward:
    bench: Bench
    fleet: Fleet
    who: Principal

    def run(self, verb: str, *more: str, timeout: float = 120) -> Result:
        arguments = (verb, *more, "--cluster", self.fleet.cluster, "--region", REGION)
        return self.bench.run(*arguments, who=self.who, timeout=timeout)

    def daemonsets(self) -> dict[str, Object]:
        return {name: read(self.bench, name) for name in _TARGETS.values()}


@contextmanager
def _ward(bench: Bench, stem: str, nodes: int, causes: Causes) -> Iterator[_Ward]:
    """Outdated nodes with the flawed DaemonSets, and somebody who may diagnose and mend them."""
    stack = bench.stack
    bench.drop_small()
    who = stack.principal("mender")
    for role in access.MENDING:
        access.grant(stack.plane.admin, REPOSITORY / role, "fnstack:mender")
    flaws.bring(stack)
    spec = FleetSpec(nodes=nodes, groups=1, zones=3)
    try:
        with stack.starts_by_causes(causes), bench.fleet(stem, spec, light(spec.nodes), FAST) as fleet:
            yield _Ward(bench, fleet, who)
    finally:
        flaws.take_away(stack)


def _written(body: Object) -> tuple[Any, ...]:
    """What anybody but the controllers has written of it."""
    meta = body["metadata"]
    return body["spec"], meta["generation"], meta["labels"], meta["annotations"]


def faults(bench: Bench) -> None:
    """Both faults of node startup: named from evidence, mended while nodes are rotated, proved, and taken back."""
    with _ward(bench, "faults", 6, Causes()) as ward:
        before = ward.daemonsets()
        _diagnosed(ward, *_TARGETS)
        faulty = _measured(ward, ward.fleet.spec.nodes)
        expect(faulty["restarted_nodes"] == faulty["nodes"], f"not every node with the faults restarts: {faulty}")
        _suggested(ward)
        for name, body in ward.daemonsets().items():
            expect(_written(body) == _written(before[name]), f"{name} was only looked at, and has changed")
        _harmful(ward, before)
        shown = _mended(ward)
        after = ward.daemonsets()
        for fix, name in _TARGETS.items():
            differs_by(before[name], after[name], shown[fix], fix)
        # Those that were launched with both; the others' pods are not their first any more.
        healthy = _measured(ward, ward.fleet.spec.nodes - 2)
        expect(healthy["restarts"] == 0, f"restarts with both: {healthy['restarts']}")
        slow, quick = (figures["stages"]["start"]["p50"] for figures in (faulty, healthy))
        expect(quick < slow, f"a start takes {quick} s with both fixes, {slow} s without")
        _taken_back(ward, before)


def faults_lookalike(bench: Bench) -> None:
    """Hosts that have their Nodes' names: no override is asked for where it would not help."""
    with _ward(bench, "lookalike", 3, Causes(domain=None)) as ward:
        found = _diagnosed(ward, _WAIT)
        named = {finding.get("fix") for finding in found}
        expect(named == {_WAIT}, f"doctor asks for {named}, and kube-proxy has found its node")


# What both programs wrote, by the fix that helps.
_EVIDENCE = {
    _PROXY: ("Failed to retrieve node info", ".corp.example", "not found"),
    _WAIT: ("dial tcp 10.100.0.1:443: i/o timeout",),
}


def _evident(findings: list[dict[str, Any]], fix: str, who: str) -> None:
    """One of the findings names the fix, with the very lines."""
    found = [f for f in findings if f.get("fix") == fix]
    expect(found, f"{who} does not name {fix}: {[(f['signature'], f.get('fix')) for f in findings]}")
    lines = [clue["text"] for f in found for clue in f["evidence"]]
    for words in _EVIDENCE[fix]:
        expect(any(words in line for line in lines), f"{who} shows no line with {words!r} for {fix}: {lines}")


def _diagnosed(ward: _Ward, *fixes: str) -> list[dict[str, Any]]:
    """What `doctor` finds; these fixes are among it."""
    result = ward.run("doctor", "-o", "json")
    result.expect_code(EXPECTED["faults doctor"])
    found = json.loads(result.stdout)["findings"]
    for fix in fixes:
        _evident(found, fix, "doctor")
    return found


def _measured(ward: _Ward, nodes: int) -> dict[str, Any]:
    """How at least so many nodes started, as `measure` tells it."""
    result = ward.run("measure", "-o", "json")
    result.expect_code(EXPECTED["faults"])
    measured = json.loads(result.stdout)
    expect(measured["usable"] >= nodes, f"{measured['usable']} nodes show how they started, {nodes} should")
    missing = {"joined", "ready", "functional", "start"} - set(measured["all"]["stages"])
    expect(not missing, f"measure tells nothing of {', '.join(sorted(missing))}")
    return measured["all"]


def _suggested(ward: _Ward) -> None:
    """The canary fails, and its autopsy names both with the command; no old node is touched."""
    flags = ("--fixes", "suggest", "--restarts", "zero", "--surge", "1", *QUICK)
    with ward.bench.witnessed(ward.fleet, ward.who) as witness:
        result = ward.run("rotate", "--yes", "-o", "json", *flags, timeout=90)
        result.expect_code(EXPECTED["faults suggested"])
        ward.bench.judge(witness, Promise(rotates=False, extra_ends=1), "faults-suggested")
    found = [e for e in result.events if e.get("kind") == "diagnosis"]
    commands = {e["fix"]: e["way"] for e in result.events if e.get("kind") == "fix.proposed"}
    for fix in _TARGETS:
        _evident(found, fix, "the canary's autopsy")
        command = f"fastnode fix --cluster {ward.fleet.cluster} {fix} --apply"
        expect(commands.get(fix) == command, f"not the command that mends it: {commands}")


def _harmful(ward: _Ward, before: dict[str, Object]) -> None:
    """An image that does not hold the waiter: the first pods cannot start, and it is taken back."""
    result = ward.run("fix", _WAIT, "--apply", "--yes", "--waiter-image", "registry.example.com/busybox:1")
    result.expect_code(EXPECTED["faults harmful"])
    expect("StartError" in result.text, f"not said what harm it did: {result.text}")
    after = read(ward.bench, "aws-node")
    expect(after["spec"] == before["aws-node"]["spec"], f"not taken back: {after['spec']}")


def _mended(ward: _Ward) -> dict[str, str]:
    """Rotated with --fixes apply; the diffs that were shown, by fix."""
    bench, log = ward.bench, ward.bench.folder / "faults.events.jsonl"
    log.unlink(missing_ok=True)
    renewed = frozenset(_TARGETS.values())
    with bench.witnessed(ward.fleet, ward.who, renewed=renewed) as witness:
        result = ward.run("rotate", "--yes", "--events", str(log), *_MENDING, *QUICK, timeout=240)
        result.expect_code(EXPECTED["faults"])
        bench.judge(witness, Promise(), "faults")
    told = events(log.read_text())
    order = [(e["kind"], e["fix"]) for e in told if e.get("kind", "").startswith("fix.")]
    wanted = [(f"fix.{what}", fix) for fix in _TARGETS for what in ("proposed", "applied", "verified")]
    expect(order == wanted, f"not one after the other, each proved: {order}")
    report = {fix["fix"]: fix for fix in sights.finished(told)["fixes"]}
    for fix in _TARGETS:
        expect(report[fix]["state"] == "verified", f"the report: {report[fix]}")
        before, after, restarts = (report[fix][field] for field in ("before_s", "after_s", "restarts"))
        expect(before > after, f"{fix} helped, and not sooner: {report[fix]}")
        words = f"verified: {before:.0f} s -> {after:.0f} s, {restarts} restart"
        expect(words in result.text, f"the text does not tell {words!r}: {result.stdout[-2000:]}")
    expect(report[_WAIT]["restarts"] == 0, f"restarts with both: {report[_WAIT]}")
    _calm(ward, told)
    return {e["fix"]: e["diff"] for e in told if e.get("kind") == "fix.proposed"}


def _calm(ward: _Ward, told: list[dict[str, Any]]) -> None:
    """Nothing that was started since both are in has been restarted, by the API server's word."""
    proved = next(i for i, e in enumerate(told) if e.get("kind") == "fix.verified" and e["fix"] == _WAIT)
    later = [e["node"] for e in told[proved:] if e.get("kind") == "replacement.functional"]
    expect(len(later) >= ward.fleet.spec.nodes - 3, f"only {later} became functional after both")
    untold = [e["node"] for e in told if e.get("kind") == "replacement.functional" and not e.get("start")]
    expect(not untold, f"not told how {', '.join(untold)} started")
    restarts = []
    for pod in ward.bench.stack.plane.admin.list("Pod", _NAMESPACE):
        status = pod["status"]
        for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
            if container["restartCount"]:
                restarts.append(f"{pod['metadata']['name']}/{container['name']} {container['restartCount']}x")
    expect(not restarts, f"restarted: {', '.join(restarts)}")


def _taken_back(ward: _Ward, before: dict[str, Object]) -> None:
    """Not where somebody has changed it since; then the spec as it was."""
    admin = ward.bench.stack.plane.admin

    def command(words: list[str]) -> None:
        container = {"name": "kube-proxy", "command": words}
        body = {"spec": {"template": {"spec": {"containers": [container]}}}}
        admin.patch("DaemonSet", "kube-proxy", body, _NAMESPACE, strategic=True)

    mended = read(ward.bench, "kube-proxy")["spec"]["template"]["spec"]["containers"][0]["command"]
    command([*mended, "--v=4"])
    changed = _written(read(ward.bench, "kube-proxy"))
    refused = ward.run("fix", _PROXY, "--revert", "--yes")
    refused.expect_code(EXPECTED["fixes refused"])
    expect("has been changed since" in refused.text, f"not said why: {refused.text}")
    expect(_written(read(ward.bench, "kube-proxy")) == changed, "what somebody changed was written over")
    command(mended)
    for fix in reversed(_TARGETS):
        ward.run("fix", fix, "--revert", "--yes").expect_code(EXPECTED["faults"])
        name = _TARGETS[fix]
        expect(read(ward.bench, name)["spec"] == before[name]["spec"], f"{fix}: the spec is not what it was")
