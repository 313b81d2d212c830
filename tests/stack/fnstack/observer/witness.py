"""The observer: start it before a run, ask it for the verdict after."""
from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..aws.identity import Principal
from ..fleet import Fleet, client
from ..kube import Kube
from . import checks, logs
from .recorder import Recorder


@dataclass(frozen=True)
class Promise:
    """What the run was told to keep to."""

    unavailable: int = 0
    # Outdated instances that may stay (skipped nodes); all others must go.
    may_stay: frozenset[str] = frozenset()
    # How many instances besides the outdated ones may be ended (failed replacements, a
    # surge that only a replacement can give back).
    extra_ends: int = 0
    # How many instances the groups may end by themselves: somebody else scaled them in.
    taken: int = 0
    # The group may end unbalanced: then AZRebalance stays suspended, and tagged as ours.
    unbalanced: bool = False
    # Desired at the end, where somebody else has changed it; else as before.
    desired: dict[str, int] = field(default_factory=dict)
    moved_twice_percent: float = 5.0
    # False where the run ended before its end: what it left is judged elsewhere.
    restored: bool = True
    rotates: bool = True


@dataclass
class Verdict:
    """`clauses`: name -> violations (none = held). `figures`: every number."""

    clauses: dict[str, list[str]] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    timeline: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not any(self.clauses.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "clauses": [{"name": n, "ok": not v, "violations": v} for n, v in self.clauses.items()],
            "figures": self.figures,
        }

    def summary(self) -> str:
        lines = []
        for name, violations in self.clauses.items():
            lines.append(f"  {'held  ' if not violations else 'BROKEN'} {name}")
            lines += [f"           {v}" for v in violations[:5]]
            if len(violations) > 5:
                lines.append(f"           and {len(violations) - 5} more")
        flat = {k: v for k, v in self.figures.items() if not isinstance(v, dict)}
        lines.append("  " + ", ".join(f"{k} {v}" for k, v in flat.items()))
        return "\n".join(lines)


class Witness:
    """Reads the API server as an administrator and AWS under a name of its own."""

    def __init__(
        self,
        kube: Kube,
        observer: Principal,
        fleet: Fleet,
        subject: Principal,
        folder: Path,
        user: str | None = None,
        renewed: frozenset[str] = frozenset(),
    ) -> None:
        self._kube = kube
        self._scaling = client(fleet.aws, observer, "autoscaling")
        self._names = list(fleet.names)
        self._subject = subject
        self._user = user or subject.arn
        self._audit = folder / "audit.jsonl"
        self._aws_log = fleet.aws.log_path
        self._engine_log = fleet.aws.engine_log_path
        self._groups: dict[str, str] = {}
        daemonsets = {d["metadata"]["name"] for d in kube.list("DaemonSet", "kube-system")}
        self.recorder = Recorder(kube, daemonsets, self.group_of, renewed)

    def group_of(self, instance: str) -> str | None:
        group = self._groups.get(instance)
        if group is None and instance:
            rows = self._scaling.describe_auto_scaling_instances(InstanceIds=[instance])["AutoScalingInstances"]
            if rows:
                group = self._groups[instance] = rows[0]["AutoScalingGroupName"]
        return group if group in self._names else None

    def _describe(self) -> dict[str, dict[str, Any]]:
        rows = self._scaling.describe_auto_scaling_groups(AutoScalingGroupNames=self._names)
        return {g["AutoScalingGroupName"]: g for g in rows["AutoScalingGroups"]}

    def start(self, outdated: set[str]) -> None:
        self.before = self._describe()
        self.outdated = set(outdated)
        self.recorder.start()
        self.started = time.time()

    def finish(self, promise: Promise) -> Verdict:
        ended = time.time()
        after = self._describe()
        nodes = self._kube.list("Node")
        system = [
            (kind, item["metadata"]["name"])
            for kind in ("Lease", "ConfigMap")
            for item in self._kube.list(kind, "kube-system")
        ]
        time.sleep(0.3)  # the last watch events and log lines of the run
        self.recorder.stop()
        return self._judge(promise, ended, after, nodes, system)

    def _judge(
        self,
        promise: Promise,
        ended: float,
        after: dict[str, dict[str, Any]],
        nodes: list[dict[str, Any]],
        system: list[tuple[str, str]],
    ) -> Verdict:
        record, start = self.recorder, self.started
        calls = logs.aws_calls(self._aws_log, self._subject.access_key, start)
        everyone = logs.kube_requests(self._audit, start)
        mine = [r for r in everyone if r.user == self._user]
        pods = list(record.pods.values())
        ends = checks.pod_ends(pods, everyone)
        gone = checks.terminations(calls)
        evicted = checks.evicted_pods(pods, mine, ends)
        moved, twice = checks.moves(evicted, start)
        verdict = Verdict(timeline=record.timeline)
        clause = verdict.clauses
        clause["no instance terminated with pods left on it"] = checks.undrained(gone, record.names, pods, ends)
        events = logs.engine_events(self._engine_log, start)
        taken = checks.taken_by_group(events, set(self._names))
        clause["no instance taken by its group undrained"] = list(taken.values()) if len(taken) > promise.taken else []
        expected = self.outdated - promise.may_stay - set(taken) if promise.rotates else set()
        clause["exactly the outdated instances terminated"] = checks.wrong_instances(
            gone, expected, promise.may_stay, promise.extra_ends, self.outdated
        )
        for name, uncordoned in (("functional", False), ("functional and uncordoned", True)):
            clause[f"never fewer {name} nodes than promised"] = self._dips(promise, ended, uncordoned)
        percent = 100.0 * twice / moved if moved else 0.0
        limit = promise.moved_twice_percent
        clause[f"at most {limit:g} % of pods moved twice"] = (
            [f"{twice} of {moved} moved pods moved again ({percent:.1f} %)"] if percent > limit else []
        )
        if promise.restored:
            clause["groups as they were"] = [
                v
                for name, group in self.before.items()
                for v in checks.group_changes(
                    {**group, "DesiredCapacity": promise.desired.get(name, group["DesiredCapacity"])}, after[name]
                )
            ]
            uneven = [v for group in after.values() for v in checks.unbalanced(group)]
            if promise.unbalanced and uneven:
                kept = ("fastnode:suspended was None, is ('AZRebalance'", "suspended processes were [], are ['AZRebalance']")
                clause["groups as they were"] = [v for v in clause["groups as they were"] if not any(k in v for k in kept)]
            clause["zones balanced"] = [] if promise.unbalanced else uneven
            # The Node of an instance on its way out keeps its cordon and goes with it.
            staying = {
                i["InstanceId"]
                for group in after.values()
                for i in group["Instances"]
                if not i["LifecycleState"].startswith("Terminating")
            }
            kept = [n for n in nodes if n["spec"].get("providerID", "").rsplit("/", 1)[-1] in staying]
            clause["nothing left behind in the cluster"] = checks.leftovers(kept, system)
        self._figures(verdict, calls, mine, len(gone), moved, twice, len(evicted), ended)
        left: dict[str, int] = {}
        for pod in evicted:
            left[pod.node] = left.get(pod.node, 0) + 1
        verdict.figures["evicted_from"] = left
        return verdict

    def _dips(self, promise: Promise, ended: float, uncordoned: bool) -> list[str]:
        found = []
        for name, group in self.before.items():
            floor = group["DesiredCapacity"] - promise.unavailable
            for at, seconds, low in checks.dips(
                self.recorder.capacity.get(name, []), floor, self.started, ended, uncordoned
            ):
                found.append(f"{name}: {low} of {floor} for {seconds:.1f} s, {at - self.started:.1f} s into the run")
        return found

    def _figures(
        self,
        verdict: Verdict,
        calls: list[logs.AwsCall],
        mine: list[logs.KubeRequest],
        rotated: int,
        moved: int,
        twice: int,
        evicted: int,
        ended: float,
    ) -> None:
        charged = logs.chargeable(mine, evicted)
        operations: dict[str, int] = {}
        for call in calls:
            operations[call.operation] = operations.get(call.operation, 0) + 1
        lows = {
            name: checks.lowest(self.recorder.capacity.get(name, []), self.started, ended, uncordoned=True)
            for name in self.before
        }
        verdict.figures = {
            "seconds": round(ended - self.started, 1),
            "instances_terminated": rotated,
            "pods_moved": moved,
            "pods_moved_twice": twice,
            "kube_requests": len(mine),
            "kube_requests_charged": charged,
            "kube_requests_per_node": round(charged / rotated, 2) if rotated else None,
            "kube_writes": sum(r.writes for r in mine),
            "aws_calls": len(calls),
            "aws_calls_per_node": round(len(calls) / rotated, 2) if rotated else None,
            "aws_writes": sum(c.writes for c in calls),
            "aws_errors": sum(c.status >= 400 for c in calls),
            "lowest_uncordoned": lows,
            "kube_by_kind": logs.tally(mine),
            "aws_by_operation": dict(sorted(operations.items())),
        }


def write(verdict: Verdict, folder: Path, name: str) -> Path:
    """The verdict and its timeline as files of the run."""
    path = folder / f"{name}.verdict.json"
    path.write_text(json.dumps(verdict.to_json(), indent=1))
    (folder / f"{name}.timeline.jsonl").write_text("".join(json.dumps(t) + "\n" for t in verdict.timeline))
    return path
