"""How soon a call follows the fact it answers to, from the logs of both servers.

A fact's time is when the API server received the write that made it true, so that
each figure holds the server's own part too: it is never too good.
"""
from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..observer import checks
from ..observer.logs import AwsCall, KubeRequest, lines
from ..observer.recorder import PodRecord


@dataclass(frozen=True)
class StatusWrite:
    """A status that somebody wrote, as the audit log has it."""

    time: float
    resource: str  # plural: pods, nodes, poddisruptionbudgets
    namespace: str
    name: str
    status: dict[str, Any]

    @property
    def ready(self) -> bool:
        conditions = self.status.get("conditions") or []
        return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def status_writes(audit: Path, since: float) -> list[StatusWrite]:
    found = []
    for row in lines(audit):
        ref, body = row.get("objectRef") or {}, row.get("requestObject")
        if row.get("stage") != "ResponseComplete" or ref.get("subresource") != "status":
            continue
        if not isinstance(body, dict) or (row.get("responseStatus") or {}).get("code", 0) >= 400:
            continue
        at = datetime.fromisoformat(row["requestReceivedTimestamp"].replace("Z", "+00:00")).timestamp()
        if at >= since:
            name, status = ref.get("name", ""), body.get("status") or {}
            found.append(StatusWrite(at, ref["resource"], ref.get("namespace", ""), name, status))
    return found


def emptied_to_terminate(
    calls: list[AwsCall], node_of: dict[str, str], pods: Iterable[PodRecord], ends: dict[str, float]
) -> list[float]:
    """The last pod that a drain moves is gone -> its instance's Terminate call."""
    last: dict[str, float] = {}
    for pod in pods:
        if pod.evictable and pod.uid in ends:
            last[pod.node] = max(last.get(pod.node, 0.0), ends[pod.uid])
    found = []
    for call in checks.terminations(calls):
        empty = last.get(node_of.get(call.params.get("InstanceId", ""), ""))
        if empty is not None:
            found.append(call.time - empty)
    return found


def functional_to_cordon(
    functional: dict[str, float], cordons: dict[str, float], group_of: dict[str, str]
) -> list[float]:
    """A replacement is functional -> its group's next cordon.

    Each replacement is paired with the first cordon after it, unless another
    replacement of the group came between: then that is what the cordon answers to.
    """
    found = []
    for node, cordoned in cordons.items():
        group = group_of.get(node)
        known = [t for n, t in functional.items() if group is not None and group_of.get(n) == group and t < cordoned]
        others = [t for n, t in cordons.items() if n != node and group_of.get(n) == group and t < cordoned]
        if known and max(known) > max(others, default=0.0):
            found.append(cordoned - max(known))
    return found


def opened_to_retry(
    writes: list[StatusWrite], requests: list[KubeRequest], budget_of: dict[tuple[str, str], str]
) -> list[float]:
    """A budget that had refused an eviction allows one again -> the next try.

    `budget_of` maps a pod's namespace and name to its budget's name.
    """
    tries: dict[tuple[str, str], list[KubeRequest]] = {}
    for request in requests:
        budget = budget_of.get((request.namespace, request.name))
        if request.resource == "pods/eviction" and budget:
            tries.setdefault((request.namespace, budget), []).append(request)
    found = []
    for key, asked in tries.items():
        asked.sort(key=lambda r: r.time)
        opened = sorted(
            w.time
            for w in writes
            if (w.resource, w.namespace, w.name) == ("poddisruptionbudgets", *key)
            and w.status.get("disruptionsAllowed", 0) > 0
        )
        for before, after in zip(asked, asked[1:]):
            first = next((t for t in opened if before.time < t), None)
            if before.status == 429 and first is not None and first < after.time:
                found.append(after.time - first)
    return found


def percentile(values: list[float], percent: float) -> float:
    """The nearest rank's, so that it is one of the values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]
