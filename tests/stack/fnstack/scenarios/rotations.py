"""Scenarios in which nodes are, or must not be, rotated."""
from __future__ import annotations

import time

from ..fleet import FleetSpec
from ..injector import restart_on
from ..observer.witness import Promise
from ..workloads import never_frees, standard
from .bench import Bench, expect
from .codes import EXPECTED


def rotate_20(bench: Bench) -> None:
    """20 outdated nodes in two groups and three zones, by AWS credentials alone; then again."""
    spec = FleetSpec(nodes=20, groups=2, zones=3)
    with bench.fleet("rotate", spec, standard(spec.nodes)) as fleet:
        with bench.witnessed(fleet) as witness:
            result = bench.rotate(fleet.cluster)
            result.expect_code(EXPECTED["rotate-20"])
            bench.judge(witness, Promise(), "rotate-20")
        kinds = [e.get("kind") for e in result.events]
        expect("rotation.finished" in kinds, f"no rotation.finished among {len(kinds)} JSON lines")
        finished = next(e for e in result.events if e.get("kind") == "rotation.finished")
        told = {**finished, **finished.get("report", {})}.get("nodes_rotated")
        expect(told == spec.nodes, f"rotation.finished tells nodes_rotated {told}, {spec.nodes} were")
        since = time.time()
        again = bench.rotate(fleet.cluster, timeout=120)
        again.expect_code(EXPECTED["rotate-20 again"])
        writes = bench.writes_since(since)
        expect(not writes, f"the second run had nothing to do and wrote: {', '.join(writes[:5])}")


def canary_restarts(bench: Bench) -> None:
    """aws-node restarts once on the first new node: it stops before any old node is touched."""
    spec = FleetSpec(nodes=6, groups=1, zones=3)
    with bench.fleet("canary", spec, standard(spec.nodes)) as fleet:
        bench.stack.injector.arm(restart_on("aws-node", 1))
        old = set(bench.stack.bridge.joined().values())
        with bench.witnessed(fleet) as witness:
            # A restart cannot be taken back: nothing is left to wait for, least of all the
            # gate's own timeout of 5 min.
            result = bench.rotate(fleet.cluster, timeout=90)
            result.expect_code(EXPECTED["canary-restarts"])
            promise = Promise(rotates=False, extra_ends=spec.headroom)
            verdict = bench.judge(witness, promise, "canary-restarts")
        cordoned = [t["node"] for t in verdict.timeline if t["what"] == "node" and t["cordoned"] and t["node"] in old]
        expect(not cordoned, f"old nodes were cordoned: {', '.join(cordoned)}")
        drained = old & set(verdict.figures["evicted_from"])
        expect(not drained, f"pods were evicted from old nodes: {', '.join(sorted(drained))}")
        expect("aws-node" in result.text, "the output does not name aws-node")


def budget_never_frees(bench: Bench) -> None:
    """A budget that never allows a disruption: its node is skipped and named, the others go."""
    # One zone: where the skipped node may be in the way of balance is another matter.
    spec = FleetSpec(nodes=6, groups=2, zones=1)
    loads = [*standard(spec.nodes), never_frees()]
    with bench.fleet("stuck", spec, loads) as fleet:
        pod = next(
            p
            for p in bench.stack.plane.admin.list("Pod", fleet.cluster)
            if p["metadata"]["labels"].get("app") == "stuck"
        )
        joined = {node: instance for instance, node in bench.stack.bridge.joined().items()}
        stays = joined[pod["spec"]["nodeName"]]
        with bench.witnessed(fleet) as witness:
            result = bench.rotate(fleet.cluster, "--drain-timeout", "20s")
            result.expect_code(EXPECTED["budget-never-frees"])
            # Where only the skipped node is left, a replacement gives the surge back,
            # and its pods move again.
            promise = Promise(
                may_stay=frozenset({stays}), extra_ends=spec.headroom, moved_twice_percent=100
            )
            bench.judge(witness, promise, "budget-never-frees")
        expect(stays in fleet.instances(), f"{stays} holds a pod whose budget never frees and was terminated")
        uid_now = bench.stack.plane.admin.get("Pod", pod["metadata"]["name"], fleet.cluster)["metadata"]["uid"]
        expect(uid_now == pod["metadata"]["uid"], "the pod behind the budget was replaced")
        name = pod["metadata"]["name"]
        expect(name in result.text, f"the output does not name the pod {name}")
        expect("stuck-budget" in result.text, "the output does not name the PodDisruptionBudget stuck-budget")
