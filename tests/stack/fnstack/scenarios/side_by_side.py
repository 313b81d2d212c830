"""Several control planes at once: most of a scenario is waiting, so they share the cores well.

Each is a process of its own, since moto and an API server are one a process; its output
comes whole when it has ended.
"""
from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping
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


def run(names: list[str], weights: Mapping[str, float], arguments: argparse.Namespace, folder: Path) -> int:
    """0 if every share passed."""
    began = time.monotonic()
    running = []
    # What one share must not take over: which scenarios, how many shares, and where its files go.
    passed_on = [a for a in sys.argv[1:] if a not in names]
    for number, part in enumerate(shares(names, weights, arguments.jobs), 1):
        own = folder / f"share-{number}"
        own.mkdir(parents=True)
        log = (own / "output").open("w+")
        command = [sys.executable, "-m", "fnstack", *passed_on, "--jobs", "1", "--dir", str(own), *part]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, preexec_fn=die_with_parent)
        running.append((process, log))
    try:
        codes = [process.wait() for process, _ in running]
    except BaseException:
        for process, _ in running:
            process.terminate()
        for process, _ in running:
            process.wait()
        raise
    for _, log in running:
        log.seek(0)
        print(log.read(), flush=True)
    print(f"{len(names)} scenarios in {time.monotonic() - began:.0f} s, {len(running)} side by side")
    return max(codes, default=0)
