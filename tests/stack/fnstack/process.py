"""Child processes that cannot outlive the harness.

Every child gets a parent-death signal (prctl(2), PR_SET_PDEATHSIG), so that not
even a SIGKILL of the harness leaves one running. Children are started from the
main thread: the signal is bound to the thread that forked, not to the process.
"""
from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """For `preexec_fn`."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago; all are held at once so none repeats."""
    sockets = []
    for _ in range(count):
        s = socket.socket()
        s.bind(("127.0.0.1", 0))
        sockets.append(s)
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Child:
    """One running program, its log in a file."""

    def __init__(self, name: str, argv: list[str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as out:
            # A session of its own: Ctrl-C reaches the harness alone, which then
            # stops its children in the right order.
            self._popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
                env={"PATH": os.environ.get("PATH", ""), "HOME": str(log.parent)},
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def exited(self) -> int | None:
        return self._popen.poll()

    def tail(self, lines: int = 15) -> str:
        text = self.log.read_text(errors="replace").splitlines()
        return "\n".join(text[-lines:])

    def signal(self, number: int) -> None:
        if self._popen.poll() is None:
            self._popen.send_signal(number)

    def wait(self, seconds: float) -> bool:
        try:
            self._popen.wait(seconds)
            return True
        except subprocess.TimeoutExpired:
            return False


def stop_in_order(children: list[Child], grace: float) -> None:
    """Stops one after the other: SIGTERM, `grace` seconds, then SIGKILL.

    The API server waits for open watches when asked to stop, so its clients
    must come first in the list.
    """
    for child in children:
        child.signal(signal.SIGTERM)
        if not child.wait(grace):
            child.signal(signal.SIGKILL)
            child.wait(5)


def wait_until(what: str, ready, seconds: float, step: float = 0.1) -> None:
    """Polls `ready` until it is true; raises TimeoutError naming `what`."""
    deadline = time.monotonic() + seconds
    while True:
        if ready():
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(step)
