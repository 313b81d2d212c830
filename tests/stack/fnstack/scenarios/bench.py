"""What a scenario has in its hands: the stack, the binary, and ways to be sure."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..aws.identity import Principal
from ..fleet import Fleet, FleetSpec
from ..observer import logs
from ..observer.witness import Promise, Verdict, Witness, write
from ..stack import REGION, Stack
from ..workloads import Workload


class Failed(Exception):
    """A scenario's expectation that did not hold."""


def expect(condition: object, message: str) -> None:
    if not condition:
        raise Failed(message)


@dataclass
class Result:
    """One run of the binary."""

    arguments: list[str]
    code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def events(self) -> list[dict[str, Any]]:
        found = []
        for line in self.stdout.splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return [e for e in found if isinstance(e, dict)]

    @property
    def text(self) -> str:
        return self.stdout + self.stderr

    def expect_code(self, allowed: tuple[int, ...]) -> None:
        tail = "\n    ".join(self.text.strip().splitlines()[-8:])
        expect(self.code in allowed, f"exit code {self.code}, expected {' or '.join(map(str, allowed))}:\n    {tail}")


@dataclass
class Bench:
    stack: Stack
    binary: Path
    folder: Path
    verbose: bool = False
    _numbers: dict[str, int] = field(default_factory=dict)
    _small: Fleet | None = None

    def name(self, stem: str) -> str:
        """A cluster name that no other scenario of this run has."""
        self._numbers[stem] = self._numbers.get(stem, 0) + 1
        return f"{stem}-{self._numbers[stem]}"

    def say(self, text: str) -> None:
        print("    " + text.replace("\n", "\n    "), flush=True)

    # -- fleets ------------------------------------------------------------------

    @contextmanager
    def fleet(self, stem: str, spec: FleetSpec, loads: list[Workload]) -> Iterator[Fleet]:
        """An outdated fleet of its own, taken away afterwards."""
        self.drop_small()
        began = time.monotonic()
        fleet = self.stack.fleet(self.name(stem), spec, loads)
        self.say(f"{spec.nodes} nodes and their workloads ready after {time.monotonic() - began:.1f} s")
        try:
            yield fleet
        finally:
            self.stack.remove(fleet)

    def small(self) -> Fleet:
        """A few outdated nodes that the scenarios which must change nothing share."""
        if self._small is None:
            spec = FleetSpec(nodes=3, groups=1)
            self._small = self.stack.fleet(self.name("small"), spec, [Workload("web", 3, {"maxUnavailable": 1})])
        return self._small

    def drop_small(self) -> None:
        if self._small is not None:
            fleet, self._small = self._small, None
            self.stack.remove(fleet)

    # -- the binary --------------------------------------------------------------

    def run(self, *arguments: str, who: Principal | None = None, timeout: float = 120) -> Result:
        """No kubeconfig, no AWS files, no terminal: AWS credentials and nothing else."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(home),
            "RUST_BACKTRACE": "1",
            **self.stack.environment(who or self.stack.fastnode),
        }
        number = self._numbers["run"] = self._numbers.get("run", 0) + 1
        out, err = self.folder / f"run-{number:02d}.stdout", self.folder / f"run-{number:02d}.stderr"
        began = time.monotonic()
        with out.open("w") as stdout, err.open("w") as stderr:
            process = subprocess.Popen(
                [str(self.binary), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=environment,
                cwd=home,
                start_new_session=True,
            )
            try:
                code = process.wait(timeout)
            except BaseException as error:
                # The session is its own: whatever it started goes with it.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if isinstance(error, subprocess.TimeoutExpired):
                    tail = "\n    ".join(out.read_text().splitlines()[-3:] + err.read_text().splitlines()[-5:])
                    raise Failed(f"no end after {timeout:.0f} s: {' '.join(arguments)}\n    {tail}") from error
                raise
        result = Result(list(arguments), code, out.read_text(), err.read_text(), time.monotonic() - began)
        self.say(f"$ fastnode {' '.join(arguments)}  -> {code} after {result.seconds:.1f} s ({out.name})")
        return result

    def rotate(self, cluster: str, *more: str, who: Principal | None = None, timeout: float = 600) -> Result:
        return self.run(
            "rotate", "--cluster", cluster, "--region", REGION, "--yes", "-o", "json", *more, who=who, timeout=timeout
        )

    # -- being sure ----------------------------------------------------------------

    @contextmanager
    def witnessed(self, fleet: Fleet, who: Principal | None = None) -> Iterator[Witness]:
        observer = self.stack.aws.identities.add(f"observer-{fleet.cluster}")
        subject = who or self.stack.fastnode
        witness = Witness(self.stack.plane.observer, observer, fleet, subject, self.stack.folder)
        witness.start(set(fleet.instances()))
        try:
            yield witness
        finally:
            witness.recorder.stop()

    def judge(self, witness: Witness, promise: Promise, name: str) -> Verdict:
        """Prints and stores the verdict; a broken clause fails the scenario."""
        verdict = witness.finish(promise)
        path = write(verdict, self.folder, name)
        self.say(verdict.summary())
        broken = [clause for clause, violations in verdict.clauses.items() if violations]
        expect(verdict.ok, f"broken: {'; '.join(broken)} ({path})")
        return verdict

    def writes_since(self, since: float, who: Principal | None = None) -> list[str]:
        """Everything the subject changed, or tried to change, in AWS or Kubernetes."""
        subject = who or self.stack.fastnode
        time.sleep(0.2)  # the audit log's last line
        calls = logs.aws_calls(self.stack.aws.log_path, subject.access_key, since)
        requests = logs.kube_requests(self.stack.plane.audit_log, since)
        found = [f"AWS {c.operation}" for c in calls if c.writes]
        found += [f"{r.verb} {r.resource} {r.namespace}/{r.name}" for r in requests if r.user == subject.arn and r.writes]
        return found
