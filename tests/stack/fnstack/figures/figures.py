"""`tests/stack/run --bench`: all figures, one after the other."""
from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

from ..stack import Settings
from . import memory, pace


def _say(text: str) -> None:
    print("    " + text.replace("\n", "\n    "), flush=True)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """0 once everything was measured; what the figures say is for the reader."""
    binary = arguments.fastnode
    if not binary.exists():
        print(f"no binary at {binary}: build it, or name one with --fastnode")
        return 2
    chosen = arguments.scenarios or ["memory", "pace"]
    unknown = [name for name in chosen if name not in ("memory", "pace")]
    if unknown:
        print(f"no figures named {', '.join(unknown)}; there are: memory, pace")
        return 2
    folder = settings.folder or Path(tempfile.mkdtemp(prefix="fastnode-figures-"))
    print(f"logs and verdicts: {folder}", flush=True)
    if "memory" in chosen:
        print("\nmemory: what `fastnode plan`, `measure` and `doctor` hold and spend on a big cluster", flush=True)
        memory.measure(
            dataclasses.replace(settings, folder=folder / "memory", controllers=False), binary.resolve(), _say
        )
    if "pace" in chosen:
        print("\npace: calls a node and answers to what is seen, one by one", flush=True)
        pace.measure(dataclasses.replace(settings, folder=folder / "pace"), binary.resolve(), _say)
    return 0
