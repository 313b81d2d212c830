"""Scenarios in which fastnode itself is ended, or is there twice."""
from __future__ import annotations

import signal
import time

from ..fleet import FleetSpec
from ..observer.witness import Promise
from ..stack import REGION
from . import sights
from .bench import Bench, Subject, expect
from .codes import EXPECTED
from .trouble import FAST, QUICK, light

_LEASE_SECONDS = 15
_SIGNAL_SECONDS = 10
# An eviction whose caller is gone may count against its budget without having been carried out: the
# disruption controller waits so long for the pod to go before it lets another one.
_LOST_EVICTION_SECONDS = 120


def killed_twice(bench: Bench) -> None:
    """kill -9 just after desired was raised, and again in a drain: the third run finishes, no instance too many."""
    spec = FleetSpec(nodes=6, groups=1, zones=3)
    flags = ("--surge", "1", *QUICK)
    with bench.fleet("killed", spec, light(spec.nodes), FAST) as fleet, bench.witnessed(fleet) as witness:
        with bench.rotating(fleet.cluster, *flags) as subject, bench.stack.aws.after("SetDesiredCapacity", subject.kill):
            subject.gone(60)
        expect(sights.desired(fleet) == {fleet.names[0]: spec.nodes + 1}, "it was not killed in the middle of the surge")
        with bench.rotating(fleet.cluster, *flags) as subject:
            _waits_out_the_lock(bench, subject)
            subject.until("pods were on their way", lambda: sights.leaving(bench, fleet))
            subject.kill()
        with bench.rotating(fleet.cluster, *flags) as subject:
            _waits_out_the_lock(bench, subject)
            result = bench.ended(subject, 120 + _LOST_EVICTION_SECONDS)
        result.expect_code(EXPECTED["killed-twice"])
        bench.judge(witness, Promise(), "killed-twice")
        launched = sights.launched(bench, fleet, witness.started)
        expect(len(launched) == spec.nodes, f"{len(launched)} instances were launched for {spec.nodes} old ones")


def _waits_out_the_lock(bench: Bench, subject: Subject) -> None:
    """A dead holder's lock is taken only after a whole lease of silence, and nothing is written before."""
    began, dead = time.time(), sights.holder(bench)
    expect(dead, "the killed process has left no lock")
    early: list[str] = []

    def taken() -> bool:
        writes = bench.writes_since(began)
        took = sights.holder(bench) not in ("", dead)
        early.extend([] if took else writes)
        return took

    subject.until("it took the lock over", taken, 40)
    waited = time.time() - began
    expect(waited >= _LEASE_SECONDS, f"it took the lock of a holder that had been silent for {waited:.1f} s only")
    expect(not early, f"it wrote before it held the lock: {', '.join(early[:3])}")


def terminated(bench: Bench) -> None:
    """SIGTERM in a drain: exit 143 within 10 s, lock free, node uncordoned, surge left; the next run finishes."""
    spec = FleetSpec(nodes=6, groups=1, zones=3)
    flags = ("--surge", "1", *QUICK)
    with bench.fleet("signal", spec, light(spec.nodes), FAST) as fleet, bench.witnessed(fleet) as witness:
        with bench.rotating(fleet.cluster, *flags) as subject:
            subject.until("a drain was under way", lambda: sights.marked(bench, "draining"))
            subject.send(signal.SIGTERM)
            began = time.monotonic()
            result = bench.ended(subject, 30)
        took = time.monotonic() - began
        result.expect_code(EXPECTED["terminated"])
        expect(took <= _SIGNAL_SECONDS, f"it took {took:.1f} s to end after the signal")
        expect(not sights.holder(bench), f"{sights.holder(bench)} still holds the lock")
        expect(not sights.cordoned(bench), f"still cordoned: {', '.join(sights.cordoned(bench))}")
        expect(sights.desired(fleet) == {fleet.names[0]: spec.nodes + 1}, "the surge was given back")
        expect("fastnode:surge" in sights.tags(fleet), "the surge is not in the tags any more")
        again = bench.rotate(fleet.cluster, *flags, timeout=120)
        again.expect_code(EXPECTED["terminated again"])
        bench.judge(witness, Promise(), "terminated")
        launched = sights.launched(bench, fleet, witness.started)
        expect(len(launched) == spec.nodes, f"{len(launched)} instances were launched for {spec.nodes} old ones")


def two_at_once(bench: Bench) -> None:
    """A second rotation of the same cluster: exit 6, the holder named, the first goes on undisturbed."""
    spec = FleetSpec(nodes=4, groups=1, zones=2)
    flags = ("--surge", "1", *QUICK)
    with bench.fleet("twice", spec, light(spec.nodes), FAST) as fleet, bench.witnessed(fleet) as witness:
        with bench.rotating(fleet.cluster, *flags) as subject:
            subject.until("it held the lock", lambda: sights.holder(bench))
            second = bench.rotate(fleet.cluster, *flags, timeout=60)
            second.expect_code(EXPECTED["two-at-once"])
            expect(str(subject.pid) in second.text, f"the holder is not named: {second.text.strip()[-300:]}")
            result = bench.ended(subject, 120)
        result.expect_code(EXPECTED["two-at-once first"])
        bench.judge(witness, Promise(), "two-at-once")


def aborted(bench: Bench) -> None:
    """abort in a drain: nothing new is begun, the surge is given back, all else put back; the rotation ends with 5."""
    spec = FleetSpec(nodes=6, groups=1, zones=3)
    flags = ("--surge", "1", *QUICK)
    with bench.fleet("abort", spec, light(spec.nodes), FAST) as fleet, bench.witnessed(fleet) as witness:
        with bench.rotating(fleet.cluster, *flags) as subject:
            subject.until("a drain was under way", lambda: sights.marked(bench, "draining"))
            asked = bench.run("abort", "--cluster", fleet.cluster, "--region", REGION, timeout=120)
            asked.expect_code(EXPECTED["aborted asked"])
            result = bench.ended(subject, 120)
        result.expect_code(EXPECTED["aborted"])
        promise = Promise(may_stay=frozenset(witness.outdated), extra_ends=1)
        bench.judge(witness, promise, "aborted")
        outcome = sights.finished(result.events).get("outcome")
        expect(outcome == "aborted", f"the report tells {outcome}")
        gone = sights.ended(bench, witness.started)
        expect(gone < spec.nodes, "it rotated everything in spite of it")
