"""Reads what was asked: the AWS call log, the engine's events, the audit log."""
from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

# Operations that only look (prefix), by AWS's own naming.
_READS = ("Describe", "List", "Get")


def lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a log; none where there is no log yet."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # the last line may be half written
    return found


@dataclass(frozen=True)
class AwsCall:
    time: float
    operation: str
    params: dict[str, Any]
    status: int
    error: str

    @property
    def writes(self) -> bool:
        return not self.operation.startswith(_READS)


def aws_calls(path: Path, key: str, since: float) -> list[AwsCall]:
    return [
        AwsCall(row["time"], row["operation"], row["params"], row["status"], row["error"])
        for row in lines(path)
        if row["key"] == key and row["time"] >= since
    ]


def engine_events(path: Path, since: float) -> list[dict[str, Any]]:
    return [row for row in lines(path) if row["time"] >= since]


@dataclass(frozen=True)
class KubeRequest:
    time: float  # received
    user: str
    verb: str
    resource: str  # with its subresource: pods/eviction
    namespace: str
    name: str
    status: int

    @property
    def writes(self) -> bool:
        # A review asks whether something may be done; it changes nothing.
        return self.verb not in ("get", "list", "watch") and not self.resource.startswith("selfsubject")


def kube_requests(path: Path, since: float) -> list[KubeRequest]:
    found = []
    for row in lines(path):
        if row.get("stage") not in ("ResponseComplete", "ResponseStarted"):
            continue
        if row["stage"] == "ResponseComplete" and row["verb"] == "watch":
            continue  # a watch has been counted when it started
        at = datetime.fromisoformat(row["requestReceivedTimestamp"].replace("Z", "+00:00")).timestamp()
        if at < since:
            continue
        ref = row.get("objectRef") or {}
        resource = ref.get("resource") or row["requestURI"].split("?")[0]
        if ref.get("subresource"):
            resource += "/" + ref["subresource"]
        found.append(
            KubeRequest(
                at,
                row["user"]["username"],
                row["verb"],
                resource,
                ref.get("namespace", ""),
                ref.get("name", ""),
                (row.get("responseStatus") or {}).get("code", 0),
            )
        )
    return found


def tally(requests: list[KubeRequest]) -> dict[str, int]:
    return dict(sorted(Counter(f"{r.verb} {r.resource}" for r in requests).items()))


def chargeable(requests: list[KubeRequest], evicted: int) -> int:
    """Requests that count against the rotation: no lease, no list or watch, one eviction a pod."""
    counted = [r for r in requests if r.verb not in ("list", "watch") and r.resource != "leases"]
    evictions = sum(r.resource == "pods/eviction" for r in counted)
    return len(counted) - min(evictions, evicted)
