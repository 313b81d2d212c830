"""One scenario file in two worlds: `--simulate FILE`, and a cluster made after the same file.

What is compared: for the n-th old node that a group selects, and the n-th replacement it launches, the kinds of
events in their order; how it ended; and how long it took. The files are in tests/twins/.
"""
from __future__ import annotations

import os
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..aws.model import Timings
from ..fleet import FleetSpec
from ..injector import restart_on
from ..stack import REPOSITORY
from ..workloads import DAEMONS, Workload
from .bench import Bench, Result, expect

FILES = REPOSITORY / "tests/twins"
TOLERANCE = 0.10
# A machine that is busy with something else can only make a rotation longer: one that took too long
# is done once more. What happened, and in which order, must hold each time.
TRIES = 2
# What kwok adds by itself to the end of a pod, seconds.
_KWOK_STOPS = 0.1
# What comes over and over, or depends on where the scheduler put a pod, is no step of a node.
_STEPS = ("node.", "replacement.")

# Sequences of kinds by group and by how it was met: the n-th old node, the n-th replacement.
Steps = dict[str, list[tuple[str, ...]]]


def twin(name: str) -> Callable[[Bench], None]:
    """The scenario of one file."""

    def scenario(bench: Bench) -> None:
        path = FILES / f"{name}.toml"
        told = tomllib.loads(path.read_text())
        simulated = bench.run("rotate", "--simulate", str(path), "--yes", "-o", "json", "--speed", "max", timeout=60)
        expected = _finished(simulated)["duration_s"]
        for tried in range(1, TRIES + 1):
            real = _on_stack(bench, name, told)
            _compare(simulated, real)
            took = _finished(real)["duration_s"]
            apart = took / expected - 1
            times = f"{expected:.1f} s on the simulator, {took:.1f} s on the stack ({apart:+.1%}), try {tried} of {TRIES}"
            bench.say(times)
            if apart <= TOLERANCE:
                break
        expect(abs(apart) <= TOLERANCE, f"more than {TOLERANCE:.0%} apart: {times}")

    scenario.__doc__ = f"As the simulator plays it: {tomllib.loads((FILES / f'{name}.toml').read_text())['about']}."
    return scenario


# -- the stack after the file ---------------------------------------------------------


def _mean(spread: list[float]) -> float:
    return spread[0]


def _timings(times: dict[str, Any]) -> Timings:
    """The file's constants as the engine has them: it counts a node's boot from InService on."""
    launch = _mean(times["in_service_s"])
    joins = max(_mean(times["boot_s"]), launch) + _mean(times["join_s"])
    gone = _mean(times["terminate_s"])
    react = _mean(times["reaction_s"])
    return Timings(
        react=react, replace=react, launch=(launch, launch), boot=(joins - launch,) * 2, shutdown=(gone, gone)
    )


def _spec(groups: list[dict[str, Any]]) -> FleetSpec:
    """The fleet that is these groups; what a fleet cannot be is no twin."""
    first = groups[0]
    spec = FleetSpec(
        sum(g["nodes"] for g in groups), len(groups), len(first["zones"]), headroom=first["max"] - first["nodes"]
    )
    for index, group in enumerate(groups):
        size = spec.nodes // spec.groups
        made = {
            "name": f"workers-{index + 1}",
            "nodes": size,
            "min": size if index % 2 == 0 else max(1, size // 2),
            "max": size + spec.headroom,
            "zones": [f"us-west-2{letter}" for letter in "abcd"[: spec.zones]],
            "version": ["$Latest", "$Default"][index % 2],
        }
        asked = {key: group.get(key, "$Latest") for key in made}
        expect(asked == made, f"groups[{index}] is {asked}, the stack makes {made}")
    return spec


def _loads(told: dict[str, Any]) -> list[Workload]:
    times, loads = told["times"], []
    for load in told["workloads"]:
        budgets = load.get("budgets", [])
        budget = {_CAMEL[key]: value for key, value in budgets[0].items()} if budgets else None
        # The kubelet takes a pod up in about as long as it takes to be ready in the file.
        start, grace = (_mean(load.get(key, times[key])) for key in ("start_s", "grace_s"))
        loads.append(
            Workload(
                load["name"],
                load["replicas"],
                budget,
                start_ms=round(start * 1000),
                annotations={"play.fnstack.dev/stop-delay": f"{round((grace - _KWOK_STOPS) * 1000)}ms"},
                cpu=f"{load['cpu_m']}m",
            )
        )
    return loads


_CAMEL = {"max_unavailable": "maxUnavailable", "min_available": "minAvailable"}


def _flags(policy: dict[str, Any]) -> list[str]:
    return [word for key, value in policy.items() for word in (f"--{key.replace('_', '-')}", str(value))]


@contextmanager
def _faults(bench: Bench, faults: dict[str, Any]) -> Iterator[None]:
    """What the file says goes wrong, from now on."""
    known = {"restarts", "never_joins"}
    expect(set(faults) <= known, f"the stack plays {', '.join(sorted(known))}, not {', '.join(set(faults) - known)}")
    bench.stack.injector.arm(*(restart_on(f["daemonset"], f["node"], f["times"]) for f in faults.get("restarts", [])))
    engine = bench.stack.aws.engine
    launches = [launch for fault in faults.get("never_joins", []) for launch in fault["launches"]]
    with engine.lock:
        engine.faults.never_join = [{"after": launch - 1, "count": 1} for launch in launches]
    yield


def _on_stack(bench: Bench, name: str, told: dict[str, Any]) -> Result:
    daemons = {d["name"] for d in told["daemonsets"]}
    expect(daemons == {d.name for d in DAEMONS}, f"its DaemonSets are not the stack's: {', '.join(sorted(daemons))}")
    engine = bench.stack.aws.engine
    with bench.fleet(f"twin-{name}", _spec(told["groups"]), _loads(told)) as fleet:
        usual, engine.timings = engine.timings, _timings(told["times"])
        try:
            with _faults(bench, told.get("faults", {})):
                return bench.rotate(fleet.cluster, *_flags(told["policy"]), timeout=180)
        finally:
            engine.timings = usual


# -- the comparison -------------------------------------------------------------------------


def _group(name: str) -> str:
    """`twin-one-by-one-1-workers-2` and `workers-2` are the same group."""
    return name[name.index("workers-") :]


def steps(events: list[dict[str, Any]]) -> Steps:
    """Kinds of events by node, the nodes of a group in the order in which they are first met."""
    met: dict[tuple[str, str], list[str]] = {}
    for event in events:
        if event["kind"].startswith(_STEPS):
            role = event["kind"].partition(".")[0]
            step = event["kind"] + (" with decrement" if event.get("decrement") else "")
            met.setdefault((f"{_group(event['group'])} {role}", event["instance"]), []).append(step)
    found: Steps = {}
    for (group, _), kinds in met.items():
        found.setdefault(group, []).append(tuple(kinds))
    return found


def _finished(result: Result) -> dict[str, Any]:
    found = [e for e in result.events if e["kind"] == "rotation.finished"]
    expect(found, f"no rotation.finished: {result.text[-400:]}")
    return found[-1]


def _compare(simulated: Result, real: Result) -> None:
    """All but the time."""
    expect(simulated.code == real.code, f"the simulator ends with exit code {simulated.code}, the stack {real.code}")
    left, right = _finished(simulated), _finished(real)
    differences = []
    mine, theirs = steps(simulated.events), steps(real.events)
    for group in sorted(mine.keys() | theirs.keys()):
        ours, others = mine.get(group, []), theirs.get(group, [])
        if len(ours) != len(others):
            differences.append(f"{group}: {len(ours)} on the simulator, {len(others)} on the stack")
        for number, (one, other) in enumerate(zip(ours, others), 1):
            if one != other:
                differences.append(f"{group} {number}: {' > '.join(one)}\n      on the stack: {' > '.join(other)}")
    expect(not differences, "the order of events differs:\n    " + "\n    ".join(differences[:8]))
    expect(left["outcome"] == right["outcome"], f"outcomes {left['outcome']} and {right['outcome']}")


# -- the port -----------------------------------------------------------------------------------


def conformance(bench: Bench) -> None:
    """The suite over the Cloud port, on the engine through the real AWS adapter."""
    engine = bench.stack.aws.engine
    # Long enough that a busy machine sees each state.
    slow = Timings(react=0.3, replace=1.5, launch=(1.2, 1.8), shutdown=(2.5, 3.5), rebalance=1.5)
    usual, engine.timings = engine.timings, slow
    environment = {**os.environ, **bench.stack.environment(bench.stack.admin), "FASTNODE_CONFORMANCE": "1"}
    command = ["cargo", "test", "--locked", "--test", "conformance", "--", "--test-threads", "8"]
    out = bench.folder / "conformance.txt"
    try:
        with out.open("w") as log:
            ended = subprocess.run(
                command, cwd=REPOSITORY, env=environment, stdout=log, stderr=subprocess.STDOUT, timeout=1500
            )
    finally:
        engine.timings = usual
        _forget(bench)
    tail = "\n    ".join(out.read_text().splitlines()[-25:])
    expect(ended.returncode == 0, f"exit code {ended.returncode} ({out}):\n    {tail}")
    bench.say(next((line for line in out.read_text().splitlines() if line.startswith("test result")), ""))


def _forget(bench: Bench) -> None:
    """The suite's groups go at once: nobody waits for instances that no Node stands for."""
    engine = bench.stack.aws.engine
    with engine.lock:
        for name in [g.name for g in engine.groups.values() if not g.joins]:
            del engine.groups[name]
    bench.stack.aws.faults.clear()


NAMES = ("one-by-one", "surge-of-three", "tight-budget", "canary-fails", "never-joins")
SCENARIOS: dict[str, Callable[[Bench], None]] = {
    "conformance": conformance,
    **{f"twin-{name}": twin(name) for name in NAMES},
}
