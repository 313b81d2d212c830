"""Calls a node, and the time from a fact to the call that follows, one node at a time."""
from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..fleet import FleetSpec
from ..observer import checks, logs
from ..observer.recorder import PodRecord
from ..observer.witness import Promise, Witness, write
from ..scenarios.bench import Bench
from ..stack import Settings, Stack
from ..workloads import DAEMONS, Workload, standard
from . import reactions

_NODES = 20
_ONE_BY_ONE = ("--surge", "1", "--drains", "1")
# The last DaemonSet to be ready is what makes a node functional, and nothing else is
# waited for: the soak counts from conditions' times, which are whole seconds.
_AT_ONCE = (*_ONE_BY_ONE, "--soak", "0s", "--gate", ",".join(d.name for d in DAEMONS))
# Two pods a node, one of which may be away: evictions wait until it is back.
_NARROW = Workload("narrow", 2 * _NODES, {"maxUnavailable": 1})


def measure(settings: Settings, binary: Path, say: Callable[[str], None]) -> None:
    # The AWS endpoint answers from this process: while it collects garbage, every call looks late.
    gc.disable()
    try:
        _measure(settings, binary, say)
    finally:
        gc.enable()


def _measure(settings: Settings, binary: Path, say: Callable[[str], None]) -> None:
    with Stack(settings) as stack:
        bench = Bench(stack, binary, stack.folder)
        with _rotated(bench, "calls", standard(_NODES), _ONE_BY_ONE, say) as (witness, figures):
            say(f"Kubernetes requests a node: {figures['kube_requests_per_node']} (target 10)")
            say(f"AWS calls a node: {figures['aws_calls_per_node']} (target 5)")
            say(f"of them: {_kinds(figures['kube_by_kind'])}; {_kinds(figures['aws_by_operation'])}")
            emptied = _pairs(stack, witness)["emptied"]
        with _rotated(bench, "reactions", [_NARROW], _AT_ONCE, say) as (witness, _):
            pairs = _pairs(stack, witness)
            pairs["emptied"] += emptied
    for name, words in _WORDS.items():
        say(f"{words}: {_summary(pairs[name])}")
    say(f"all: {_summary([s for seconds in pairs.values() for s in seconds])} (target: p99 100 ms)")


@contextmanager
def _rotated(
    bench: Bench, name: str, loads: list[Workload], flags: tuple[str, ...], say: Callable[[str], None]
) -> Iterator[tuple[Witness, dict[str, Any]]]:
    """A fleet that has just been rotated, with its witness and the verdict's figures."""
    spec = FleetSpec(nodes=_NODES, groups=2, zones=3)
    with bench.fleet(name, spec, loads) as fleet, bench.witnessed(fleet) as witness:
        bench.rotate(fleet.cluster, *flags)
        verdict = witness.finish(Promise())
        write(verdict, bench.folder, name)
        broken = [clause for clause, found in verdict.clauses.items() if found]
        say(f"{verdict.figures['instances_terminated']} nodes; {'; '.join(broken) or 'all clauses held'}")
        yield witness, verdict.figures


def _kinds(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda i: -i[1]))


# Lifts the not-ready taint, up to 5 s after the Node is Ready.
_LIFTS_TAINTS = "system:serviceaccount:kube-system:node-controller"
_WORDS = {
    "emptied": "a node's last pod gone -> Terminate",
    "functional": "a replacement functional -> its group's next cordon",
    "opened": "a budget opens -> the eviction that waited for it",
}


def _pairs(stack: Stack, witness: Witness) -> dict[str, list[float]]:
    record, start = witness.recorder, witness.started
    pods = list(record.pods.values())
    everyone = logs.kube_requests(stack.plane.audit_log, start)
    mine = [r for r in everyone if r.user == stack.fastnode.arn]
    calls = logs.aws_calls(stack.aws.log_path, stack.fastnode.access_key, start)
    writes = reactions.status_writes(stack.plane.audit_log, start)
    groups = {node: witness.group_of(instance) or "" for instance, node in record.names.items()}
    new = {node for instance, node in record.names.items() if instance not in witness.outdated}
    # A budget bears its workload's name, and so do the workload's pods.
    budget_of = {(p.namespace, p.name): f"{p.name.split('-')[0]}-budget" for p in pods}
    node_of = {(p.namespace, p.name): p.node for p in pods}
    cordons = _cordons(record.timeline, mine)
    lifted = [r for r in everyone if r.resource == "nodes" and r.user == _LIFTS_TAINTS]
    # A new node is compared with the old ones, whose volumes have a driver.
    registered = [r for r in everyone if r.resource == "csinodes" and r.verb == "create"]
    functional = _functional(writes, lifted + registered, pods, new)
    return {
        "emptied": reactions.emptied_to_terminate(calls, record.names, pods, checks.pod_ends(pods, everyone)),
        "functional": reactions.functional_to_cordon(functional, cordons, groups),
        "opened": reactions.opened_to_eviction(writes, mine, budget_of, node_of, cordons),
    }


def _summary(seconds: list[float]) -> str:
    if not seconds:
        return "never seen"
    p50, p99 = (reactions.percentile(seconds, p) * 1000 for p in (50, 99))
    return f"p50 {p50:.0f} ms, p99 {p99:.0f} ms of {len(seconds)}"


def _functional(
    writes: list[reactions.StatusWrite], others: list[logs.KubeRequest], pods: list[PodRecord], nodes: set[str]
) -> dict[str, float]:
    """node -> the last of: Ready itself, a DaemonSet's pod there is, its taint is lifted, its driver registers."""
    place = {(p.namespace, p.name): p.node for p in pods if p.owner_kind == "DaemonSet" and p.node in nodes}
    found: dict[str, float] = {}
    for request in others:
        if request.name in nodes:
            found[request.name] = max(found.get(request.name, 0.0), request.time)
    for done in writes:
        if not done.ready:
            continue
        node = done.name if done.resource == "nodes" else place.get((done.namespace, done.name))
        if node in nodes:
            found[node] = max(found.get(node, 0.0), done.time)
    return found


def _cordons(timeline: list[dict[str, Any]], mine: list[logs.KubeRequest]) -> dict[str, float]:
    """node -> the request that cordoned it: the last before it was first seen cordoned."""
    found: dict[str, float] = {}
    for seen in timeline:
        if seen["what"] != "node" or not seen["cordoned"] or seen["node"] in found:
            continue
        asked = [r.time for r in mine if r.resource == "nodes" and r.writes and r.name == seen["node"]]
        before = [t for t in asked if t <= seen["time"]]
        if before:
            found[seen["node"]] = max(before)
    return found
