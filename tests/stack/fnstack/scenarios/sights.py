"""What a scenario looks at to know how far a rotation is, as an administrator."""
from __future__ import annotations

from typing import Any

from ..fleet import Fleet
from ..observer import logs
from .bench import Bench

STATE = "fastnode.dev/state"


def marked(bench: Bench, state: str) -> list[str]:
    """Nodes that carry this mark of ours."""
    nodes = bench.stack.plane.admin.list("Node")
    return [n["metadata"]["name"] for n in nodes if (n["metadata"].get("annotations") or {}).get(STATE) == state]


def cordoned(bench: Bench) -> list[str]:
    return [n["metadata"]["name"] for n in bench.stack.plane.admin.list("Node") if n["spec"].get("unschedulable")]


def leaving(bench: Bench, fleet: Fleet) -> list[str]:
    """Pods of the fleet's workloads that were told to go."""
    pods = bench.stack.plane.admin.list("Pod", fleet.cluster)
    return [p["metadata"]["name"] for p in pods if "deletionTimestamp" in p["metadata"]]


def holder(bench: Bench) -> str:
    """Who holds the lock; empty where nobody does."""
    lease = bench.stack.plane.admin.find("Lease", "fastnode", "kube-system")
    return ((lease or {}).get("spec") or {}).get("holderIdentity") or ""


def calls(bench: Bench, operation: str, since: float) -> list[logs.AwsCall]:
    """Calls of the subject that were answered."""
    all_calls = logs.aws_calls(bench.stack.aws.log_path, bench.stack.fastnode.access_key, since)
    return [c for c in all_calls if c.operation == operation]


def ended(bench: Bench, since: float) -> int:
    """Instances whose termination the subject was granted."""
    return sum(c.status == 200 for c in calls(bench, "TerminateInstanceInAutoScalingGroup", since))


def launched(bench: Bench, fleet: Fleet, since: float) -> list[str]:
    """Instances that the fleet's groups began to launch."""
    events = logs.engine_events(bench.stack.aws.engine_log_path, since)
    return [e["instance"] for e in events if e["event"] == "launching" and e["group"] in fleet.names]


def versions(bench: Bench, instances: list[str]) -> set[str]:
    """The launch template versions these were launched from."""
    wanted = set(instances)
    with bench.stack.aws.engine.lock:
        return {(i.template or {}).get("Version", "") for i in bench.stack.aws.engine.instances() if i.id in wanted}


def desired(fleet: Fleet) -> dict[str, int]:
    return {g["AutoScalingGroupName"]: g["DesiredCapacity"] for g in fleet.describe()}


def tags(fleet: Fleet) -> dict[str, str]:
    """Our tags on the fleet's groups."""
    return {t["Key"]: t["Value"] for g in fleet.describe() for t in g["Tags"] if t["Key"].startswith("fastnode:")}


def finished(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The closing report among the events of a run; empty where there is none."""
    found = [e for e in events if e.get("kind") == "rotation.finished"]
    return {**found[-1], **found[-1].get("report", {})} if found else {}
