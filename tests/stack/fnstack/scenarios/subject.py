"""The binary under test as a process: started, watched, signalled, waited for."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..process import die_with_parent


class Failed(Exception):
    """A scenario's expectation that did not hold."""


def expect(condition: object, message: str) -> None:
    if not condition:
        raise Failed(message)


@dataclass
class Result:
    """One run of the binary that has ended."""

    arguments: list[str]
    code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def events(self) -> list[dict[str, Any]]:
        return events(self.stdout)

    @property
    def text(self) -> str:
        return self.stdout + self.stderr

    def expect_code(self, allowed: tuple[int, ...]) -> None:
        tail = "\n    ".join(self.text.strip().splitlines()[-8:])
        expect(self.code in allowed, f"exit code {self.code}, expected {' or '.join(map(str, allowed))}:\n    {tail}")


def events(text: str) -> list[dict[str, Any]]:
    """The JSON lines among the output's lines."""
    found = []
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [e for e in found if isinstance(e, dict)]


class Subject:
    """One run of the binary while it runs, in a session of its own."""

    def __init__(
        self, binary: Path, arguments: list[str], environment: dict[str, str], home: Path, out: Path, err: Path
    ) -> None:
        self.arguments, self.out, self.err = arguments, out, err
        self._began = time.monotonic()
        with out.open("w") as stdout, err.open("w") as stderr:
            self._process = subprocess.Popen(
                [str(binary), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=environment,
                cwd=home,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def events(self) -> list[dict[str, Any]]:
        return events(self.out.read_text())

    def send(self, number: int) -> None:
        """A signal to the process alone."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Ends it and whatever it started; nothing happens where it has ended."""
        if self.running:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def gone(self, seconds: float) -> None:
        """Waits until something else has ended it."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"it went on for {seconds:.0f} s:\n    {self.tail()}") from error

    def until(self, what: str, ready: Callable[[], object], seconds: float = 90) -> None:
        """Waits for the world to come to a point while it runs; that it ends before is a failure."""
        deadline = time.monotonic() + seconds
        while not ready():
            expect(self.running, f"it ended before {what}:\n    {self.tail()}")
            expect(time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s:\n    {self.tail()}")
            time.sleep(0.05)

    def wait(self, seconds: float) -> Result:
        try:
            code = self._process.wait(seconds)
        except BaseException as error:
            self.kill()
            if isinstance(error, subprocess.TimeoutExpired):
                raise Failed(f"no end after {seconds:.0f} s: {' '.join(self.arguments)}\n    {self.tail()}") from error
            raise
        return Result(
            self.arguments, code, self.out.read_text(), self.err.read_text(), time.monotonic() - self._began
        )

    def tail(self) -> str:
        return "\n    ".join(self.out.read_text().splitlines()[-3:] + self.err.read_text().splitlines()[-5:])
