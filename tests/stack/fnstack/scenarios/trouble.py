"""Scenarios in which the world changes or fails while nodes are rotated."""
from __future__ import annotations

import time

from ..aws.model import Timings
from ..fleet import Fleet, FleetSpec
from ..injector import restart_on
from ..observer.witness import Promise
from ..workloads import Workload
from . import sights
from .bench import Bench, Subject, expect
from .codes import EXPECTED

# What takes time is somebody else's subject here.
FAST = Timings(launch=(0.3, 0.6), boot=(0.8, 1.6), shutdown=(0.8, 1.2), capacity_retry=2.0)
# As short as the soak may be without being none.
QUICK = ("--soak", "1s")


def light(nodes: int) -> list[Workload]:
    """Two pods a node, quick to come and to go; one budget roomy, one tight."""
    quick = {"play.fnstack.dev/stop-delay": "500ms"}
    return [
        Workload("web", nodes, {"maxUnavailable": "34%"}, start_ms=300, annotations=quick),
        Workload("ledger", max(3, nodes // 2), {"maxUnavailable": 1}, start_ms=300, annotations=quick),
    ]


def one_has_proved_itself(bench: Bench, subject: Subject) -> None:
    subject.until("a replacement was functional", lambda: sights.marked(bench, "replacement"))


def third_restarts(bench: Bench) -> None:
    """aws-node restarts on the third new node, two failures are allowed: that one goes, the rest is rotated."""
    spec = FleetSpec(nodes=6, groups=1, zones=3)
    with bench.fleet("third", spec, light(spec.nodes), FAST) as fleet:
        bench.stack.injector.arm(restart_on("aws-node", 3))
        with bench.witnessed(fleet) as witness:
            result = bench.rotate(fleet.cluster, "--surge", "1", "--failure-budget", "2", *QUICK, timeout=120)
            result.expect_code(EXPECTED["third-restarts"])
            bench.judge(witness, Promise(extra_ends=1), "third-restarts")
        failed = [e for e in result.events if e.get("kind") == "replacement.failed"]
        expect(len(failed) == 1, f"{len(failed)} replacements failed, one restarted")
        expect("aws-node" in str(failed), f"the failure does not name aws-node: {failed}")


def template_changes(bench: Bench) -> None:
    """Another launch template version in the middle: nothing is launched from it, exit 5, all put back."""
    spec = FleetSpec(nodes=6, groups=1, zones=3)
    with bench.fleet("moved", spec, light(spec.nodes), FAST) as fleet:
        with bench.witnessed(fleet) as witness, bench.rotating(fleet.cluster, "--surge", "1", *QUICK) as subject:
            subject.until("the first old node went", lambda: sights.ended(bench, witness.started))
            subject.until("its replacement came", lambda: len(sights.launched(bench, fleet, witness.started)) > 1)
            fleet.outdate()
            changed = time.time()
            result = bench.ended(subject, 90)
            result.expect_code(EXPECTED["template-changes"])
            others = frozenset(witness.outdated)
            bench.judge(witness, Promise(may_stay=others, extra_ends=spec.headroom), "template-changes")
        newer = sights.launched(bench, fleet, changed)
        expect("3" not in sights.versions(bench, newer), f"launched from the version nobody asked for: {newer}")
        outcome = sights.finished(result.events).get("outcome")
        expect(outcome == "target_changed", f"the report tells {outcome}")


def zone_without_capacity(bench: Bench) -> None:
    """One of three zones has no capacity: what can be rotated is, the rest is named, nothing is lost."""
    spec = FleetSpec(nodes=6, groups=1, zones=3)
    with bench.fleet("dry", spec, light(spec.nodes), FAST) as fleet:
        bench.stack.aws.engine.faults.no_capacity.add("us-west-2a")
        with bench.witnessed(fleet) as witness:
            result = bench.rotate(fleet.cluster, "--surge", "1", "--join-timeout", "10s", *QUICK, timeout=150)
            result.expect_code(EXPECTED["zone-without-capacity"])
            # What cannot end balanced leaves AZRebalance suspended, and says so.
            others = frozenset(witness.outdated)
            promise = Promise(may_stay=others, extra_ends=spec.headroom, restored=False)
            bench.judge(witness, promise, "zone-without-capacity")
        expect(sights.desired(fleet) == {fleet.names[0]: spec.nodes}, f"desired is {sights.desired(fleet)}")


def no_capacity(bench: Bench) -> None:
    """No capacity at all: the surge that never launched is taken back, no node is touched."""
    spec = FleetSpec(nodes=3, groups=1, zones=1)
    with bench.fleet("none", spec, light(spec.nodes), FAST) as fleet:
        bench.stack.aws.engine.faults.no_capacity.add("us-west-2a")
        with bench.witnessed(fleet) as witness:
            result = bench.rotate(fleet.cluster, "--join-timeout", "6s", *QUICK, timeout=90)
            result.expect_code(EXPECTED["no-capacity"])
            bench.judge(witness, Promise(rotates=False), "no-capacity")
        expect(not sights.launched(bench, fleet, witness.started), "something was launched")
        expect("capacity" in result.text, "the output does not say that there is no capacity")


def desired_moves(bench: Bench) -> None:
    """Somebody raises desired by two and lowers it by one in the middle: their one more stays."""
    spec = FleetSpec(nodes=6, groups=1, zones=3, headroom=6)
    with bench.fleet("scaled", spec, light(spec.nodes), FAST) as fleet:
        with bench.witnessed(fleet) as witness, bench.rotating(fleet.cluster, "--surge", "1", *QUICK) as subject:
            subject.until("the first old node went", lambda: sights.ended(bench, witness.started))
            _scale(fleet, 2)
            subject.until("the second went", lambda: sights.ended(bench, witness.started) > 1)
            _scale(fleet, -1)
            result = bench.ended(subject, 120)
            result.expect_code(EXPECTED["desired-moves"])
            promise = Promise(extra_ends=1, taken=1, desired={fleet.names[0]: spec.nodes + 1})
            bench.judge(witness, promise, "desired-moves")


def _scale(fleet: Fleet, by: int) -> None:
    name = fleet.names[0]
    scaling = fleet.client("autoscaling")
    scaling.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=sights.desired(fleet)[name] + by)


def never_joins(bench: Bench) -> None:
    """The second replacement never joins: it is given back after its time-out, and the rest is rotated."""
    spec = FleetSpec(nodes=6, groups=1, zones=3)
    with bench.fleet("absent", spec, light(spec.nodes), FAST) as fleet:
        with bench.witnessed(fleet) as witness:
            flags = ("--surge", "1", "--join-timeout", "10s", *QUICK)
            with bench.rotating(fleet.cluster, *flags) as subject:
                one_has_proved_itself(bench, subject)
                with bench.stack.aws.engine.lock:
                    bench.stack.aws.engine.faults.never_join.append({"group": None, "count": 1})
                result = bench.ended(subject, 120)
            result.expect_code(EXPECTED["never-joins"])
            bench.judge(witness, Promise(extra_ends=1), "never-joins")
        failed = [e for e in result.events if e.get("kind") == "replacement.failed"]
        expect(len(failed) == 1, f"{len(failed)} replacements failed, one never joined")
