"""What `fastnode plan`, `measure` and `doctor` cost against an API server that holds a big cluster."""
from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from ..fleet import FleetSpec
from ..stack import REGION, Settings, Stack
from . import crowd

NODES, PODS, SIZE = 500, 15_000, 8_192
_RUNS = 3
# By verb: what it may exit with, and the most it may hold, in MiB.
_VERBS = {"plan": ((10,), 40), "measure": ((0,), 60), "doctor": ((0, 11), 60)}
_CLUSTER = "crowd"


def measure(settings: Settings, binary: Path, say: Callable[[str], None]) -> None:
    with Stack(settings) as stack:
        _fill(stack, say)
        for verb, (codes, target) in _VERBS.items():
            peaks, times, spent = [], [], []
            for number in range(_RUNS):
                code, peak, seconds, own = _run(stack, binary, settings.folder, verb, number)
                say(
                    f"fastnode {verb} -> {code} ({' or '.join(map(str, codes))} expected) after {seconds:.2f} s, "
                    f"{own:.2f} s of them on a processor, peak {peak / 1024:.1f} MiB resident"
                )
                peaks.append(peak / 1024)
                times.append(seconds)
                spent.append(own)
            say(
                f"{verb}, {NODES} nodes, {PODS} pods: peak {max(peaks):.1f} MiB (target {target}), "
                f"{median(times):.2f} s, {median(spent):.2f} s of its own"
            )


def _fill(stack: Stack, say: Callable[[str], None]) -> None:
    began, admin = time.monotonic(), stack.plane.admin
    stack.cluster(_CLUSTER)
    fleet = stack.launch(_CLUSTER, FleetSpec(nodes=NODES, groups=4, zones=3))
    with stack.aws.engine.lock:
        instances = list(stack.aws.engine.instances())
    nodes = crowd.settle_nodes(admin, stack.bridge, instances)
    daemons = crowd.settle_daemons(admin, len(nodes))
    crowd.install(admin)
    fleet.outdate()
    say(f"{len(nodes)} nodes of {len(fleet.names)} groups after {time.monotonic() - began:.0f} s")
    crowd.settle_pods(admin, crowd.pods(nodes, PODS, SIZE, daemons))
    page = admin.request("GET", "/api/v1/pods", params={"limit": "500"})
    total = len(page["items"]) + page["metadata"].get("remainingItemCount", 0)
    size = sum(len(json.dumps(p, separators=(",", ":"))) for p in page["items"]) / len(page["items"])
    say(f"{total} pods of {size / 1024:.1f} KiB after {time.monotonic() - began:.0f} s")


def _run(stack: Stack, binary: Path, folder: Path, verb: str, number: int) -> tuple[int, int, float, float]:
    """(exit code, peak in KiB, seconds, seconds of its own: user and system)."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(home), **stack.environment(stack.fastnode)}
    began, before = time.monotonic(), _processor()
    with (folder / f"{verb}-{number}.out").open("w") as out:
        process = subprocess.Popen(
            [str(binary), verb, "--cluster", _CLUSTER, "--region", REGION],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=home,
            start_new_session=True,
        )
        try:
            peak = _peak(process, began + 120)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    return process.returncode, peak, time.monotonic() - began, _processor() - before


def _processor() -> float:
    """Seconds that children which have ended spent on a processor."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _peak(process: subprocess.Popen[bytes], deadline: float) -> int:
    """Its VmHWM as last read, in KiB.

    Not ru_maxrss: that of a child starts at what its parent, this harness, held when
    it forked.
    """
    peak, status = 0, Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{process.args[1]} did not end within 120 s")
        try:
            for line in status.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    # Until the exec it is the harness's own memory that is seen.
                    peak = int(line.split()[1]) if _is_self(process) else 0
        except OSError:
            break
        time.sleep(0.002)
    process.wait()
    return peak


def _is_self(process: subprocess.Popen[bytes]) -> bool:
    return os.readlink(f"/proc/{process.pid}/exe") == str(Path(str(process.args[0])).resolve())
