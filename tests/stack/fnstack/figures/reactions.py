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
    cordon of the group came between. A group's first cordon is left out: it waits for
    the canaries of all groups and for the soft taints.
    """
    found = []
    for node, cordoned in cordons.items():
        group = group_of.get(node)
        known = [t for n, t in functional.items() if group is not None and group_of.get(n) == group and t < cordoned]
        others = [t for n, t in cordons.items() if n != node and group_of.get(n) == group and t < cordoned]
        if known and others and max(known) > max(others):
            found.append(cordoned - max(known))
    return found


def opened_to_eviction(
    writes: list[StatusWrite],
    requests: list[KubeRequest],
    budget_of: dict[tuple[str, str], str],
    node_of: dict[tuple[str, str], str],
    cordons: dict[str, float],
) -> list[float]:
    """A budget that was used up allows an eviction again -> the next one it covers.

    Counted where that pod's node was draining before, so that the budget was what was
    waited for; whether in between a try was refused makes no difference. Pods are
    named by namespace and name.
    """
    found = []
    for key in {(w.namespace, w.name) for w in writes if w.resource == "poddisruptionbudgets"}:
        openings = _openings([w for w in writes if (w.namespace, w.name) == key])
        tries = [
            (r.time, cordons.get(node_of.get((r.namespace, r.name), "")))
            for r in requests
            if r.resource == "pods/eviction" and (r.namespace, budget_of.get((r.namespace, r.name))) == key
        ]
        for opened, until in zip(openings, [*openings[1:], math.inf]):
            time, cordoned = min((t for t in tries if opened < t[0] < until), default=(0.0, None))
            if cordoned is not None and cordoned < opened:
                found.append(time - opened)
    return found


def _openings(writes: list[StatusWrite]) -> list[float]:
    """When one budget's status went from none allowed to some."""
    found, shut = [], False
    for write in sorted((w for w in writes if w.resource == "poddisruptionbudgets"), key=lambda w: w.time):
        allowed = write.status.get("disruptionsAllowed", 0) > 0
        if allowed and shut:
            found.append(write.time)
        shut = not allowed
    return found


def percentile(values: list[float], percent: float) -> float:
    """The nearest rank's, so that it is one of the values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]
