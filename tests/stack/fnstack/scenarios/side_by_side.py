"""Several control planes at once: most of a scenario is waiting, so they share the cores well.

Each is a process of its own, since moto and an API server are one a process; its output
comes whole when it has ended. What must have the machine for itself comes afterwards.
"""
from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Set
from pathlib import Path

from ..process import die_with_parent

_USUAL = 60.0


def shares(names: list[str], weights: Mapping[str, float], count: int) -> list[list[str]]:
    """The longest first, each to whoever has least; in a share the given order stays."""
    parts: list[list[str]] = [[] for _ in range(count)]
    loads = [0.0] * count
    for name in sorted(names, key=lambda n: -weights.get(n, _USUAL)):
        least = loads.index(min(loads))
        loads[least] += weights.get(name, _USUAL)
        parts[least].append(name)
    return [sorted(part, key=names.index) for part in parts if part]


def run(
    names: list[str], alone: Set[str], weights: Mapping[str, float], arguments: argparse.Namespace, folder: Path
) -> list[Path]:
    """The folders of the shares, once all of them have ended."""
    parts = shares([name for name in names if name not in alone], weights, arguments.jobs)
    last = [name for name in names if name in alone]
    # What a share must not take over: which scenarios, how many shares, and where its files go.
    passed_on = [a for a in sys.argv[1:] if a not in names]
    folders = [folder / f"share-{number}" for number in range(1, len(parts) + bool(last) + 1)]
    _together(parts, passed_on, folders)
    _together([last] if last else [], passed_on, folders[len(parts) :])
    return folders


def _together(parts: list[list[str]], passed_on: list[str], folders: list[Path]) -> None:
    running = []
    for part, own in zip(parts, folders):
        own.mkdir(parents=True)
        log = (own / "output").open("w+")
        command = [sys.executable, "-m", "fnstack", *passed_on, "--jobs", "1", "--dir", str(own), *part]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, preexec_fn=die_with_parent)
        running.append((process, log))
    try:
        for process, _ in running:
            process.wait()
    except BaseException:
        for process, _ in running:
            process.terminate()
        for process, _ in running:
            process.wait()
        raise
    for _, log in running:
        log.seek(0)
        print(log.read(), flush=True)
