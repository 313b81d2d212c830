"""The Auto Scaling engine: groups that take time, as the real ones do.

    launch:     Pending --(launch)--> [Pending:Wait] --> InService --(boot)--> node
    terminate:  InService --> [Terminating:Wait] --> Terminating --(shutdown)--> gone

A group acts `react` seconds after a change and keeps acting while what it has
differs from desired. Nothing here knows HTTP: operations.py offers the API calls.
"""
from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from .errors import validation
from .model import (
    LEAVING,
    Activity,
    Group,
    Instance,
    Timings,
    iso,
    new_instance_id,
)

# (instance spec from a launch template, its exact version) by template reference
Resolver = Callable[[dict[str, str]], tuple[dict[str, str], dict[str, Any]]]
Listener = Callable[[dict[str, Any]], None]


class Faults:
    """What goes wrong inside the engine (errors on the wire: see faults.py)."""

    def __init__(self) -> None:
        self.no_capacity: set[str] = set()  # zones, or group/zone
        self.never_join: list[dict[str, Any]] = []  # {"group": name or None, "after": n, "count": n}

    def lacks_capacity(self, group: str, zone: str) -> bool:
        return zone in self.no_capacity or f"{group}/{zone}" in self.no_capacity

    def joins(self, group: str) -> bool:
        for fault in self.never_join:
            if fault.get("group") not in (None, group):
                continue
            if fault.get("after", 0) > 0:
                fault["after"] -= 1  # so many launches are well
            elif fault["count"] > 0:
                fault["count"] -= 1
                return False
        return True


class Engine:
    """All groups of one region. Every method takes the lock; `tick` moves time on."""

    def __init__(
        self,
        resolve: Resolver,
        timings: Timings | None = None,
        region: str = "us-west-2",
        seed: int = 1,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.lock = threading.RLock()
        self.region = region
        self.timings = timings or Timings()
        self.faults = Faults()
        self.groups: dict[str, Group] = {}
        self.subnet_zone: dict[str, str] = {}
        self.gone: dict[str, Instance] = {}  # terminated, still described for a while
        self.listeners: list[Listener] = []
        self.resolve = resolve
        self._clock = clock
        self._draw = random.Random(seed)
        self._addresses = itertools.count(10)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._now = clock()

    # -- time ---------------------------------------------------------------

    @property
    def now(self) -> float:
        return self._now

    def tick(self) -> None:
        """Does everything that is due by the clock."""
        with self.lock:
            target = self._clock()
            while True:
                step = self._next_due()
                if step is None or step > target:
                    break
                self._now = max(self._now, step)
                self._run_due()
            self._now = max(self._now, target)

    def _next_due(self) -> float | None:
        times = [at for at, _, _ in self._due]
        for group in self.groups.values():
            times += [at for at in (group.act_at, group.rebalance_at) if at is not None]
        return min(times, default=None)

    def _run_due(self) -> None:
        ready = sorted(d for d in self._due if d[0] <= self._now)
        self._due = [d for d in self._due if d[0] > self._now]
        for _, _, action in ready:
            action()
        for group in list(self.groups.values()):
            if group.act_at is not None and group.act_at <= self._now:
                group.act_at = None
                self._reconcile(group)
            if group.rebalance_at is not None and group.rebalance_at <= self._now:
                group.rebalance_at = None
                self._rebalance(group)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Does something of the harness's own in so many seconds."""
        self._after(seconds, action)

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        # The counter breaks ties, so that equal times never compare functions.
        self._due.append((self._now + seconds, next(self._order), action))

    def _range(self, bounds: tuple[float, float]) -> float:
        return self._draw.uniform(*bounds)

    def _tell(self, event: str, instance: Instance, **more: Any) -> None:
        body = {
            "time": self._now,
            "event": event,
            "instance": instance.id,
            "group": instance.group,
            "zone": instance.zone,
            **more,
        }
        for listener in self.listeners:
            listener(body)

    # -- what a group does by itself ------------------------------------------

    def poke(self, group: Group, seconds: float | None = None) -> None:
        at = self._now + (self.timings.react if seconds is None else seconds)
        group.act_at = at if group.act_at is None else min(group.act_at, at)

    def _reconcile(self, group: Group) -> None:
        have = len(group.counted())
        if have < group.desired and "Launch" not in group.suspended and not group.deleting:
            self._launch_missing(group, have)
        elif have > group.desired and "Terminate" not in group.suspended:
            self._scale_in(group, have)
        else:
            group.reasons.clear()
        self._consider_balance(group)

    def _launch_missing(self, group: Group, have: int) -> None:
        cause = "  ".join(
            [
                *group.reasons,
                f"At {iso(self._now)} an instance was started in response to a difference between "
                f"desired and actual capacity, increasing the capacity from {have} to {group.desired}.",
            ]
        )
        group.reasons.clear()
        for _ in range(group.desired - have):
            if self.launch(group, cause) is None:
                self.poke(group, self.timings.capacity_retry)
                return

    def _zone_for_launch(self, group: Group) -> str:
        """The zone with the fewest instances; one that just had no capacity comes last."""
        count = group.per_zone()
        zones = [z for z in group.subnets if group.zone_tried.get(z, 0) <= self._now] or list(group.subnets)
        fewest = min(count[z] for z in zones)
        return self._draw.choice([z for z in zones if count[z] == fewest])

    def launch(self, group: Group, cause: str, zone: str | None = None) -> Instance | None:
        """Starts one instance; None where no zone had capacity."""
        while True:
            chosen = zone or self._zone_for_launch(group)
            if not self.faults.lacks_capacity(group.name, chosen):
                return self.start(group, cause, chosen)
            self._fail_launch(group, cause, chosen)
            tried = all(group.zone_tried.get(z, 0) > self._now for z in group.subnets)
            if zone is not None or tried:
                return None

    def _fail_launch(self, group: Group, cause: str, zone: str) -> None:
        _, spec = self._spec(group)
        kind = spec.get("InstanceType", "m5.large")
        others = ", ".join(z for z in group.subnets if z != zone)
        # EC2's InsufficientInstanceCapacity, as Auto Scaling wraps it.
        message = (
            f"We currently do not have sufficient {kind} capacity in the Availability Zone you "
            f"requested ({zone}). Our system will be working on provisioning additional capacity. "
            f"You can currently get {kind} capacity by not specifying an Availability Zone in your "
            f"request or choosing {others}. Launching EC2 instance failed."
        )
        activity = Activity(
            group.name,
            f"Launching a new EC2 instance.  Status Reason: {message}",
            cause,
            self._now,
            group.subnets[zone],
            zone,
        )
        activity.finish(self._now, "Failed", message)
        group.activities.insert(0, activity)
        group.zone_tried[zone] = self._now + self.timings.capacity_retry

    def _spec(self, group: Group) -> tuple[dict[str, str] | None, dict[str, Any]]:
        if group.mixed:
            wanted = group.mixed["LaunchTemplate"]["LaunchTemplateSpecification"]
            overrides = group.mixed["LaunchTemplate"].get("Overrides") or [{}]
            # Types in the order given, as the allocation strategy "prioritized" takes them.
            override = overrides[0]
            template, data = self.resolve(override.get("LaunchTemplateSpecification") or wanted)
            kind = override.get("InstanceType")
            return template, {**data, **({"InstanceType": kind} if kind else {})}
        if group.template:
            return self.resolve(group.template)
        return None, {"InstanceType": "m5.large", "ImageId": "ami-00000000000000000"}

    def start(self, group: Group, cause: str, zone: str) -> Instance:
        template, data = self._spec(group)
        number = next(self._addresses)
        instance = Instance(
            id=new_instance_id(self._draw),
            group=group.name,
            zone=zone,
            subnet=group.subnets[zone],
            type=data.get("InstanceType", "m5.large"),
            image_id=data.get("ImageId", "ami-00000000000000000"),
            private_ip=f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
            template=template,
            launch_time=self._now,
            boot_seconds=self._range(self.timings.boot),
            launch_configuration=group.launch_configuration,
            protected=group.protect_new,
            joins=group.joins and self.faults.joins(group.name),
        )
        instance.tags = {k: t["Value"] for k, t in group.tags.items() if t["PropagateAtLaunch"]}
        instance.tags["aws:autoscaling:groupName"] = group.name
        group.instances[instance.id] = instance
        activity = Activity(
            group.name,
            f"Launching a new EC2 instance: {instance.id}",
            cause,
            self._now,
            instance.subnet,
            zone,
            status="PreInService",
            progress=30,
            instance=instance.id,
        )
        group.activities.insert(0, activity)
        self._tell("launching", instance, desired=group.desired)
        self._after(self._range(self.timings.launch), lambda: self._launched(instance, activity))
        return instance

    def _launched(self, instance: Instance, activity: Activity) -> None:
        group = self.groups.get(instance.group)
        if group is None or instance.lifecycle != "Pending":
            return
        instance.ec2, instance.running_at = "running", self._now
        hook = self._hook(group, "autoscaling:EC2_INSTANCE_LAUNCHING")
        if hook:
            instance.lifecycle = "Pending:Wait"
            activity.status, activity.progress = "MidLifecycleAction", 60
            self._after(hook["HeartbeatTimeout"], lambda: self.complete_hook(instance, hook["DefaultResult"]))
        else:
            self._in_service(instance)
        self._tell("running", instance)

    def _in_service(self, instance: Instance) -> None:
        group = self.groups[instance.group]
        instance.lifecycle = "InService"
        for activity in group.activities:
            if activity.instance == instance.id and activity.end is None:
                activity.finish(self._now)
        self._tell("in-service", instance)
        self.poke(group)

    @staticmethod
    def _hook(group: Group, transition: str) -> dict[str, Any] | None:
        hooks = (h for h in group.hooks.values() if h["LifecycleTransition"] == transition)
        return next(hooks, None)

    def complete_hook(self, instance: Instance, result: str) -> None:
        """CONTINUE or ABANDON, from the API or the heartbeat's end."""
        group = self.groups.get(instance.group)
        if group is None or instance.id not in group.instances:
            return
        if instance.lifecycle == "Pending:Wait":
            if result == "CONTINUE":
                self._in_service(instance)
            else:
                cause = (
                    f"At {iso(self._now)} an instance was taken out of service in response to a "
                    "launch hook that was abandoned."
                )
                self.terminate(group, instance, cause, by="hook")
        elif instance.lifecycle == "Terminating:Wait":
            self._shut_down(instance)

    def _scale_in(self, group: Group, have: int) -> None:
        """AZ first, then the oldest template, then the oldest ("Default" policy)."""
        if group.balancing:
            helper = group.instances.get(group.balancing)
            if helper and helper.lifecycle != "InService":
                self.poke(group, 0.5)
                return
        why = "  ".join(
            [
                *group.reasons,
                f"At {iso(self._now)} an instance was taken out of service in response to a "
                f"difference between desired and actual capacity, shrinking the capacity from "
                f"{have} to {group.desired}.",
            ]
        )
        group.reasons.clear()
        for _ in range(have - group.desired):
            count = group.per_zone()
            free = [i for i in group.counted() if not i.protected and i.lifecycle == "InService"]
            if not free:
                # All protected: the group stays above desired and looks again later.
                self.poke(group, self.timings.capacity_retry)
                return
            fullest = max(count[i.zone] for i in free)
            victims = [i for i in free if count[i.zone] == fullest]
            victim = min(victims, key=lambda i: (int((i.template or {}).get("Version", "0")), i.launch_time))
            self.terminate(
                group,
                victim,
                f"{why}  At {iso(self._now)} instance {victim.id} was selected for termination.",
                by="rebalance" if group.balancing else "scale-in",
            )
            group.balancing = None

    # -- zones ------------------------------------------------------------------

    def _unbalanced(self, group: Group) -> bool:
        processes = ("AZRebalance", "Launch", "Terminate")
        if any(p in group.suspended for p in processes) or group.deleting or group.balancing:
            return False
        if len(group.counted()) != group.desired:
            return False
        count = group.per_zone()
        return max(count.values(), default=0) - min(count.values(), default=0) > 1

    def _consider_balance(self, group: Group) -> None:
        if group.rebalance_at is None and self._unbalanced(group):
            group.rebalance_at = self._now + self.timings.rebalance

    def _rebalance(self, group: Group) -> None:
        """Launch in the smallest zone first; the group shrinks once that is in service."""
        if not self._unbalanced(group):
            return
        count = group.per_zone()
        # Rebalancing may go a margin above the maximum: 10 %, at least one.
        if len(group.counted()) + 1 > group.max + max(1, group.max // 10):
            return
        zones = " ".join(count)
        sizes = " ".join(str(n) for n in count.values())
        cause = (
            f"At {iso(self._now)} availability zones {zones} had {sizes} instances respectively. "
            "An instance was launched to aid in balancing the group's zones."
        )
        zone = min(count, key=lambda z: count[z])
        helper = self.launch(group, cause, zone)
        if helper is None:
            group.rebalance_at = self._now + self.timings.capacity_retry
            return
        group.balancing = helper.id
        group.reasons.append(
            f"At {iso(self._now)} instances were launched to balance instances in zones {zone} with "
            "other zones resulting in more than desired number of instances in the group."
        )
        self.poke(group)

    # -- the end of an instance ---------------------------------------------------

    def terminate(self, group: Group, instance: Instance, cause: str, by: str) -> Activity:
        activity = Activity(
            group.name,
            f"Terminating EC2 instance: {instance.id}",
            cause,
            self._now,
            instance.subnet,
            instance.zone,
            instance=instance.id,
        )
        for other in group.activities:
            if other.instance == instance.id and other.end is None:
                other.finish(self._now, "Cancelled")
        group.activities.insert(0, activity)
        instance.terminated_by = by
        hook = self._hook(group, "autoscaling:EC2_INSTANCE_TERMINATING")
        if hook and instance.lifecycle == "InService":
            instance.lifecycle = "Terminating:Wait"
            self._after(hook["HeartbeatTimeout"], lambda: self.complete_hook(instance, "CONTINUE"))
        else:
            self._shut_down(instance)
        self._tell("terminating", instance, by=by, desired=group.desired)
        return activity

    def _shut_down(self, instance: Instance) -> None:
        if instance.ec2 in ("shutting-down", "terminated"):
            return
        instance.lifecycle, instance.ec2 = "Terminating", "shutting-down"
        self._after(self._range(self.timings.shutdown), lambda: self._terminated(instance))

    def _terminated(self, instance: Instance) -> None:
        instance.ec2, instance.terminated_at = "terminated", self._now
        self.gone[instance.id] = instance
        group = self.groups.get(instance.group)
        if group is None:
            return
        group.instances.pop(instance.id, None)
        for activity in group.activities:
            if activity.instance == instance.id and activity.end is None:
                activity.finish(self._now)
        self._tell("terminated", instance)
        if group.deleting and not group.instances:
            del self.groups[group.name]
        else:
            self.poke(group)

    # -- looking things up ----------------------------------------------------------

    def group(self, name: str | None) -> Group:
        group = self.groups.get(name or "")
        if group is None:
            raise validation(f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found")
        return group

    def managed(self, instance_id: str | None) -> tuple[Group, Instance]:
        for group in self.groups.values():
            if instance_id in group.instances:
                return group, group.instances[instance_id]
        if any(instance_id in group.warm for group in self.groups.values()):
            # API reference, TerminateInstanceInAutoScalingGroup: not on instances in a warm pool.
            raise validation(f"The instance {instance_id} is in a warm pool.")
        raise validation(f"Instance Id not found - No managed instance found for instance ID: {instance_id}")

    def instances(self) -> list[Instance]:
        """Every instance EC2 still describes, terminated ones included."""
        live = [i for g in self.groups.values() for i in (*g.instances.values(), *g.warm.values())]
        return live + list(self.gone.values())

    def leaving(self, instance: Instance) -> bool:
        return instance.lifecycle in LEAVING
