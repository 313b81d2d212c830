"""Runs scenarios one after another on one control plane; ends with a line for each and the counts."""
from __future__ import annotations

import argparse
import json
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from ..stack import REPOSITORY, Stack
from . import balancers, expected, faults, fixes, interruptions, job, refusals, rotations, side_by_side, trouble, twins
from .bench import Bench, Failed

SCENARIOS: dict[str, Callable[[Bench], None]] = {
    "unknown-cluster": refusals.unknown_cluster,
    "no-permission": refusals.no_permission,
    "no-access-entry": refusals.no_access_entry,
    "expired-credentials": refusals.expired_credentials,
    "unreachable-api": refusals.unreachable_api,
    "wrong-ca": refusals.wrong_ca,
    "no-terminal": refusals.no_terminal,
    "canary-restarts": rotations.canary_restarts,
    "budget-never-frees": rotations.budget_never_frees,
    "third-restarts": trouble.third_restarts,
    "template-changes": trouble.template_changes,
    "zone-without-capacity": trouble.zone_without_capacity,
    "no-capacity": trouble.no_capacity,
    "desired-moves": trouble.desired_moves,
    "never-joins": trouble.never_joins,
    "target-group": balancers.target_group,
    "expected-daemonsets": expected.expected_daemonsets,
    "killed-twice": interruptions.killed_twice,
    "terminated": interruptions.terminated,
    "two-at-once": interruptions.two_at_once,
    "aborted": interruptions.aborted,
    "own-node": job.own_node,
    "fixes": fixes.fixes,
    "faults": faults.faults,
    "faults-lookalike": faults.faults_lookalike,
    "rotate-20": rotations.rotate_20,
    **twins.SCENARIOS,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of: {', '.join(SCENARIOS)}; default all")
    parser.add_argument(
        "--fastnode", type=Path, default=REPOSITORY / "target/release/fastnode", help="the binary; default %(default)s"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="control planes side by side, save for scenarios that compare durations"
    )


# Seconds of those that take much longer or shorter than the others (60): only for sharing them out.
WEIGHTS = {
    **dict.fromkeys(["unknown-cluster", "no-permission", "no-access-entry", "expired-credentials"], 4),
    **dict.fromkeys(["unreachable-api", "wrong-ca", "no-terminal"], 4),
    "rotate-20": 150,
    "killed-twice": 80,
    "fixes": 90,
    "faults": 140,
    "faults-lookalike": 20,
}
# What compares durations, or waits for states that pass, has the machine for itself.
ALONE = frozenset(twins.SCENARIOS)

_RESULTS = "results.json"


@dataclass
class Ended:
    """How a scenario ended; `error` is its first line where it failed."""

    name: str
    seconds: float
    error: str | None = None


def results(folder: Path) -> list[Ended]:
    """What a run that kept its files in `folder` has ended so far."""
    path = folder / _RESULTS
    return [Ended(**entry) for entry in json.loads(path.read_text())] if path.exists() else []


def conclude(ended: list[Ended], chosen: list[str], began: float) -> int:
    """A line for each of `chosen`, the counts, and the exit code; what has not ended has failed."""
    found = {one.name: one for one in ended}
    print()
    failed = 0
    for name in chosen:
        one = found.get(name) or Ended(name, 0.0, "it never ran to its end")
        failed += one.error is not None
        print(f"{name:24} {one.seconds:6.1f} s  {'passed' if one.error is None else f'FAILED: {one.error}'}")
    print(f"\n{len(chosen) - failed} passed, {failed} failed, {time.monotonic() - began:.0f} s in all", flush=True)
    return 1 if failed else 0


def run(arguments: argparse.Namespace, settings) -> int:
    chosen = arguments.scenarios or list(SCENARIOS)
    unknown = [name for name in chosen if name not in SCENARIOS]
    if unknown:
        print(f"no scenario {', '.join(unknown)}; there are: {', '.join(SCENARIOS)}")
        return 2
    if not arguments.fastnode.exists():
        print(f"no binary at {arguments.fastnode}: build it, or name one with --fastnode")
        return 2
    folder = arguments.dir or Path(tempfile.mkdtemp(prefix="fastnode-scenarios-"))
    print(f"output of the runs and verdicts: {folder}", flush=True)
    began = time.monotonic()
    if arguments.jobs > 1 and len(chosen) > 1:
        folders = side_by_side.run(chosen, ALONE, WEIGHTS, arguments, folder)
        return conclude([one for own in folders for one in results(own)], chosen, began)
    settings.folder = settings.folder or folder / "stack"
    ended: list[Ended] = []
    with Stack(settings) as stack:
        print(f"control plane up after {time.monotonic() - began:.1f} s, role from {stack.rbac}", flush=True)
        bench = Bench(stack, arguments.fastnode.resolve(), folder)
        for name in chosen:
            ended.append(_one(bench, name))
            (folder / _RESULTS).write_text(json.dumps([asdict(one) for one in ended]))
    return conclude(ended, chosen, began)


def _one(bench: Bench, name: str) -> Ended:
    scenario = SCENARIOS[name]
    print(f"\n{name}: {(scenario.__doc__ or '').strip()}", flush=True)
    began = time.monotonic()
    error = None
    try:
        scenario(bench)
    except Failed as failure:
        error = str(failure)
    except Exception:  # the harness itself: as loud as a failure of the subject
        traceback.print_exc()
        error = "the harness broke"
    seconds = time.monotonic() - began
    print(f"  passed after {seconds:.1f} s" if error is None else f"  FAILED after {seconds:.1f} s: {error}", flush=True)
    return Ended(name, seconds, error and error.splitlines()[0])
