"""What a scenario has in its hands: the stack, the binary, and ways to be sure."""
from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..aws.identity import Principal
from ..aws.model import Timings
from ..fleet import Fleet, FleetSpec
from ..observer import logs
from ..observer.witness import Promise, Verdict, Witness, write
from ..stack import REGION, Stack
from ..workloads import Workload
from .subject import Failed, Result, Subject, expect

__all__ = ["Bench", "Failed", "Result", "Subject", "expect"]


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
    def fleet(
        self, stem: str, spec: FleetSpec, loads: list[Workload], timings: Timings | None = None
    ) -> Iterator[Fleet]:
        """An outdated fleet of its own, taken away afterwards; instances take `timings` meanwhile."""
        self.drop_small()
        usual = self.stack.aws.engine.timings
        self.stack.aws.engine.timings = timings or usual
        began = time.monotonic()
        fleet = self.stack.fleet(self.name(stem), spec, loads)
        self.say(f"{spec.nodes} nodes and their workloads ready after {time.monotonic() - began:.1f} s")
        try:
            yield fleet
        finally:
            self.stack.aws.engine.timings = usual
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

    def start(self, *arguments: str, who: Principal | None = None, more: dict[str, str] | None = None) -> Subject:
        """No kubeconfig, no AWS files, no terminal: AWS credentials and nothing else, save `more`."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(home),
            "RUST_BACKTRACE": "1",
            **self.stack.environment(who or self.stack.fastnode),
            **(more or {}),
        }
        number = self._numbers["run"] = self._numbers.get("run", 0) + 1
        out, err = self.folder / f"run-{number:02d}.stdout", self.folder / f"run-{number:02d}.stderr"
        return Subject(self.binary, list(arguments), environment, home, out, err)

    def ended(self, subject: Subject, timeout: float) -> Result:
        result = subject.wait(timeout)
        self.say(f"$ fastnode {' '.join(subject.arguments)}  -> {result.code} after {result.seconds:.1f} s ({subject.out.name})")
        return result

    def run(self, *arguments: str, who: Principal | None = None, timeout: float = 120) -> Result:
        return self.ended(self.start(*arguments, who=who), timeout)

    @staticmethod
    def rotation(cluster: str, *more: str) -> tuple[str, ...]:
        return ("rotate", "--cluster", cluster, "--region", REGION, "--yes", "-o", "json", *more)

    def rotate(self, cluster: str, *more: str, who: Principal | None = None, timeout: float = 600) -> Result:
        return self.run(*self.rotation(cluster, *more), who=who, timeout=timeout)

    @contextmanager
    def rotating(self, cluster: str, *more: str, environment: dict[str, str] | None = None) -> Iterator[Subject]:
        """A rotation that runs while the body does; killed where the body leaves it running."""
        subject = self.start(*self.rotation(cluster, *more), more=environment)
        try:
            yield subject
        finally:
            subject.kill()

    # -- being sure ----------------------------------------------------------------

    @contextmanager
    def witnessed(
        self,
        fleet: Fleet,
        who: Principal | None = None,
        user: str | None = None,
        renewed: frozenset[str] = frozenset(),
    ) -> Iterator[Witness]:
        """`user` is who the subject is to Kubernetes, where that is not its AWS identity.

        `renewed` are DaemonSets whose pods it may renew in place.
        """
        observer = self.stack.aws.identities.add(f"observer-{fleet.cluster}")
        subject = who or self.stack.fastnode
        witness = Witness(self.stack.plane.observer, observer, fleet, subject, self.stack.folder, user, renewed)
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

    def writes_since(self, since: float, who: Principal | None = None, user: str | None = None) -> list[str]:
        """Everything the subject changed, or tried to change, in AWS or Kubernetes."""
        subject = who or self.stack.fastnode
        time.sleep(0.2)  # the audit log's last line
        calls = logs.aws_calls(self.stack.aws.log_path, subject.access_key, since)
        requests = logs.kube_requests(self.stack.plane.audit_log, since)
        found = [f"AWS {c.operation}" for c in calls if c.writes]
        name = user or subject.arn
        found += [f"{r.verb} {r.resource} {r.namespace}/{r.name}" for r in requests if r.user == name and r.writes]
        return found
