"""Runs scenarios one after another on one control plane; ends with the counts."""
from __future__ import annotations

import argparse
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from ..stack import REPOSITORY, Stack
from . import interruptions, job, refusals, rotations, side_by_side, trouble, twins
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
    "killed-twice": interruptions.killed_twice,
    "terminated": interruptions.terminated,
    "two-at-once": interruptions.two_at_once,
    "aborted": interruptions.aborted,
    "own-node": job.own_node,
    "rotate-20": rotations.rotate_20,
    **twins.SCENARIOS,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of: {', '.join(SCENARIOS)}; default all")
    parser.add_argument(
        "--fastnode", type=Path, default=REPOSITORY / "target/release/fastnode", help="the binary; default %(default)s"
    )
    parser.add_argument("--jobs", type=int, default=1, help="control planes side by side, one scenario each at a time")


# Seconds of those that take much longer or shorter than the others (60): only for sharing them out.
WEIGHTS = {
    **dict.fromkeys(["unknown-cluster", "no-permission", "no-access-entry", "expired-credentials"], 4),
    **dict.fromkeys(["unreachable-api", "wrong-ca", "no-terminal"], 4),
    "rotate-20": 150,
    "killed-twice": 80,
}


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
    if arguments.jobs > 1 and len(chosen) > 1:
        return side_by_side.run(chosen, WEIGHTS, arguments, folder)
    settings.folder = settings.folder or folder / "stack"
    failed: list[str] = []
    began = time.monotonic()
    with Stack(settings) as stack:
        print(f"control plane up after {time.monotonic() - began:.1f} s, role from {stack.rbac}", flush=True)
        bench = Bench(stack, arguments.fastnode.resolve(), folder)
        for name in chosen:
            if not _one(bench, name):
                failed.append(name)
    print(f"\n{time.monotonic() - began:.0f} s in all" + (f"; failed: {', '.join(failed)}" if failed else ""))
    print(f"{len(chosen) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


def _one(bench: Bench, name: str) -> bool:
    scenario = SCENARIOS[name]
    print(f"\n{name}: {(scenario.__doc__ or '').strip()}", flush=True)
    began = time.monotonic()
    try:
        scenario(bench)
    except Failed as error:
        print(f"  FAILED after {time.monotonic() - began:.1f} s: {error}", flush=True)
        return False
    except Exception:  # the harness itself: as loud as a failure of the subject
        traceback.print_exc()
        print(f"  FAILED after {time.monotonic() - began:.1f} s: the harness broke", flush=True)
        return False
    print(f"  passed after {time.monotonic() - began:.1f} s", flush=True)
    return True
