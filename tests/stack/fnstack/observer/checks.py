"""What must hold during and after a rotation, as functions over what was recorded.

Each answers the violations it finds, in words that name the thing; none means it held.
"""
from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Any

from .logs import AwsCall, KubeRequest
from .recorder import Capacity, PodRecord

TERMINATE = "TerminateInstanceInAutoScalingGroup"

# A pod's end is in the audit log to the millisecond; a watch tells it later.
_CLOCK = 0.005
# Node and pod events come by two watches: a dip must last to be one.
DIP_SECONDS = 0.5


def terminations(calls: Iterable[AwsCall]) -> list[AwsCall]:
    """Accepted ones, in order; a call repeated after a lost reply is refused by AWS."""
    return [c for c in calls if c.operation == TERMINATE and c.status == 200]


def pod_ends(pods: Iterable[PodRecord], requests: Iterable[KubeRequest]) -> dict[str, float]:
    """uid -> when the pod left the API server: by its last delete request, else as seen."""
    deletes: dict[tuple[str, str], list[float]] = {}
    for request in requests:
        if request.verb == "delete" and request.resource == "pods" and request.status == 200:
            deletes.setdefault((request.namespace, request.name), []).append(request.time)
    ends: dict[str, float] = {}
    for pod in pods:
        if pod.gone is None:
            continue
        # The last one before we saw it gone belongs to this pod, not to a namesake.
        mine = [t for t in deletes.get((pod.namespace, pod.name), []) if pod.created - 1 <= t <= pod.gone]
        ends[pod.uid] = max(mine) if mine else pod.gone
    return ends


def undrained(
    terminated: list[AwsCall], node_of: dict[str, str], pods: list[PodRecord], ends: dict[str, float]
) -> list[str]:
    """At each accepted termination no pod that a drain must move was left on the node."""
    found = []
    for call in terminated:
        instance = call.params.get("InstanceId", "")
        node = node_of.get(instance)
        if node is None:
            continue  # never registered a Node: nothing can have run there
        left = [
            p
            for p in pods
            if p.node == node
            and p.evictable
            and (p.bound or 0) <= call.time
            and not (p.finished and p.finished <= call.time)
            and ends.get(p.uid, float("inf")) > call.time + _CLOCK
        ]
        if left:
            names = ", ".join(sorted(f"{p.namespace}/{p.name}" for p in left)[:5])
            found.append(f"{instance} ({node}) terminated with {len(left)} pods left: {names}")
    return found


def taken_by_group(events: list[dict[str, Any]], groups: set[str]) -> dict[str, str]:
    """Instances that the group ended by itself, each with a sentence: scale-in and rebalancing drain nothing."""
    return {
        e["instance"]: f"{e['instance']} of {e['group']} was terminated by the group itself ({e['by']})"
        for e in events
        if e["event"] == "terminating" and e["group"] in groups and e["by"] not in ("user", "delete")
    }


def wrong_instances(
    terminated: list[AwsCall],
    expected: set[str],
    may_stay: Set[str] = frozenset(),
    extra_ends: int = 0,
    outdated: Set[str] = frozenset(),
) -> list[str]:
    """Exactly the expected ones, each once; `extra_ends` others that are not outdated may go."""
    gone = [c.params.get("InstanceId", "") for c in terminated]
    others = sorted(set(gone) - expected - may_stay)
    found = [f"{i} was not to be terminated" for i in others if i in outdated]
    current = [i for i in others if i not in outdated]
    if len(current) > extra_ends:
        found += [f"{i} terminated though it is not outdated" for i in current]
    found += [f"{i} is outdated and was not terminated" for i in sorted(expected - set(gone))]
    found += [f"{i} terminated {gone.count(i)} times" for i in sorted(set(gone)) if gone.count(i) > 1]
    return found


def dips(
    series: list[Capacity], floor: int, start: float, end: float, uncordoned: bool
) -> list[tuple[float, float, int]]:
    """(from, seconds, lowest) of every stretch below `floor` that lasts, within the run."""
    found: list[tuple[float, float, int]] = []
    since: float | None = None
    lowest = floor
    points = [c for c in series if c.time <= start][-1:] + [c for c in series if start < c.time <= end]
    for index, point in enumerate(points):
        value = point.uncordoned if uncordoned else point.functional
        until = points[index + 1].time if index + 1 < len(points) else end
        if value < floor:
            since = max(point.time, start) if since is None else since
            lowest = min(lowest, value)
        if since is not None and (value >= floor or until == end):
            stop = point.time if value >= floor else end
            if stop - since > DIP_SECONDS:
                found.append((since, stop - since, lowest))
            since, lowest = None, floor
    return found


def lowest(series: list[Capacity], start: float, end: float, uncordoned: bool) -> int | None:
    points = [c for c in series if c.time <= start][-1:] + [c for c in series if start < c.time <= end]
    return min((p.uncordoned if uncordoned else p.functional for p in points), default=None)


def evicted_pods(
    pods: list[PodRecord], requests: list[KubeRequest], ends: dict[str, float]
) -> list[PodRecord]:
    """The pods whose eviction was accepted, each once, in order."""
    found: dict[str, PodRecord] = {}
    for request in requests:
        if request.resource != "pods/eviction" or request.status not in (200, 201):
            continue
        for pod in pods:
            alive = pod.created - 1 <= request.time <= ends.get(pod.uid, float("inf"))
            if (pod.namespace, pod.name) == (request.namespace, request.name) and alive:
                found.setdefault(pod.uid, pod)
    return list(found.values())


def moves(evicted: list[PodRecord], start: float) -> tuple[int, int]:
    """(moved, moved twice): a pod made during the rotation and evicted moved a second time.

    A pod that is there at the start and evicted moves once; its replacement, made
    after the start, moves its identity again if it is evicted in turn.
    """
    again = [p for p in evicted if p.created >= start]
    return len(evicted) - len(again), len(again)


_OURS = "fastnode.dev/"
_OTHERS = (
    "node.kubernetes.io/exclude-from-external-load-balancers",
    "cluster-autoscaler.kubernetes.io/scale-down-disabled",
)


def group_changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """A group's own settings are as they were."""
    name = before["AutoScalingGroupName"]
    found = []
    for key in ("DesiredCapacity", "MinSize", "MaxSize", "NewInstancesProtectedFromScaleIn", "LaunchTemplate"):
        if before.get(key) != after.get(key):
            found.append(f"{name}: {key} was {before.get(key)}, is {after.get(key)}")
    tags = [{t["Key"]: (t["Value"], t["PropagateAtLaunch"]) for t in g["Tags"]} for g in (before, after)]
    for key in sorted(set(tags[0]) | set(tags[1])):
        if tags[0].get(key) != tags[1].get(key):
            found.append(f"{name}: tag {key} was {tags[0].get(key)}, is {tags[1].get(key)}")
    processes = [sorted(p["ProcessName"] for p in g["SuspendedProcesses"]) for g in (before, after)]
    if processes[0] != processes[1]:
        found.append(f"{name}: suspended processes were {processes[0]}, are {processes[1]}")
    was = {i["InstanceId"]: i["ProtectedFromScaleIn"] for i in before["Instances"]}
    for instance in after["Instances"]:
        expected = was.get(instance["InstanceId"], after["NewInstancesProtectedFromScaleIn"])
        if instance["ProtectedFromScaleIn"] != expected:
            found.append(f"{name}: {instance['InstanceId']} protection is {instance['ProtectedFromScaleIn']}")
    return found


def unbalanced(group: dict[str, Any]) -> list[str]:
    zones = {zone: 0 for zone in group["AvailabilityZones"]}
    for instance in group["Instances"]:
        if instance["LifecycleState"] in ("InService", "Pending"):
            zones[instance["AvailabilityZone"]] += 1
    if max(zones.values()) - min(zones.values()) > 1:
        return [f"{group['AutoScalingGroupName']}: zones hold {zones}"]
    return []


def leftovers(nodes: list[dict[str, Any]], system: list[tuple[str, str]]) -> list[str]:
    """Nothing of ours on a node; in kube-system only summaries may stay, ten at most.

    `system` is (kind, name) of Leases and ConfigMaps there.
    """
    found = []
    for node in nodes:
        meta, spec = node["metadata"], node["spec"]
        marks = [*(meta.get("labels") or {}), *(meta.get("annotations") or {})]
        marks += [taint["key"] for taint in spec.get("taints") or []]
        for mark in marks:
            if mark.startswith(_OURS) or mark in _OTHERS:
                found.append(f"{meta['name']}: {mark} is still there")
        if spec.get("unschedulable"):
            found.append(f"{meta['name']}: still cordoned")
    found += [f"Lease {name} is still there" for kind, name in system if kind == "Lease" and name.startswith("fastnode")]
    summaries = [name for kind, name in system if kind == "ConfigMap" and name.startswith("fastnode")]
    if len(summaries) > 10:
        found.append(f"{len(summaries)} ConfigMaps of ours stay, ten may")
    return found
