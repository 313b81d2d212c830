"""What the Auto Scaling engine keeps: groups, instances, activities; and their times."""
from __future__ import annotations

import datetime as dt
import json
import random
import uuid
from dataclasses import dataclass, field
from typing import Any

ACCOUNT = "123456789012"

# Instances in these states count towards desired. Terminating ones do not, nor
# does Standby (Auto Scaling user guide, "Instance lifecycle").
COUNTED = ("Pending", "Pending:Wait", "Pending:Proceed", "InService")
LEAVING = ("Terminating", "Terminating:Wait", "Terminating:Proceed")


def iso(at: float) -> str:
    """The time as activity causes write it: whole seconds, Z."""
    return dt.datetime.fromtimestamp(at, dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def utc(at: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(at, dt.timezone.utc)


@dataclass(frozen=True)
class Timings:
    """Seconds everything takes; a pair is a range drawn from evenly."""

    react: float = 0.2  # from a change to the group acting on it
    replace: float = 0.5  # from a termination to the launch that replaces it
    launch: tuple[float, float] = (0.5, 1.0)  # Pending -> InService (EC2 running)
    boot: tuple[float, float] = (3.0, 5.0)  # EC2 running -> kubelet registers
    shutdown: tuple[float, float] = (2.0, 3.0)  # Terminating -> gone
    rebalance: float = 2.0  # imbalance seen -> AZRebalance acts
    capacity_retry: float = 5.0  # a zone without capacity is tried again
    hook_timeout: float = 3600.0


@dataclass
class Instance:
    id: str
    group: str
    zone: str
    subnet: str
    type: str
    image_id: str
    private_ip: str
    template: dict[str, str] | None  # LaunchTemplateId, LaunchTemplateName, Version (resolved)
    launch_time: float
    boot_seconds: float
    launch_configuration: str | None = None
    lifecycle: str = "Pending"
    ec2: str = "pending"
    health: str = "Healthy"
    protected: bool = False
    joins: bool = True
    running_at: float | None = None
    terminated_at: float | None = None
    terminated_by: str = ""  # "user" or the engine's own reason
    tags: dict[str, str] = field(default_factory=dict)

    def private_dns(self, region: str) -> str:
        host = "ip-" + self.private_ip.replace(".", "-")
        # us-east-1 is the one region with the old domain (EC2 user guide, "Hostname types").
        domain = "ec2.internal" if region == "us-east-1" else f"{region}.compute.internal"
        return f"{host}.{domain}"

    def counted(self) -> bool:
        return self.lifecycle in COUNTED


@dataclass
class Activity:
    group: str
    description: str
    cause: str
    start: float
    subnet: str
    zone: str
    status: str = "InProgress"
    progress: int = 0
    message: str | None = None
    end: float | None = None
    instance: str | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def finish(self, at: float, status: str = "Successful", message: str | None = None) -> None:
        self.end, self.status, self.progress, self.message = at, status, 100, message

    def describe(self, arn: str) -> dict[str, Any]:
        body: dict[str, Any] = {
            "ActivityId": self.id,
            "AutoScalingGroupName": self.group,
            "Description": self.description,
            "Cause": self.cause,
            "StartTime": utc(self.start),
            "StatusCode": self.status,
            "Progress": self.progress,
            "Details": json.dumps(
                {"Subnet ID": self.subnet, "Availability Zone": self.zone}, separators=(",", ":")
            ),
            "AutoScalingGroupARN": arn,
        }
        if self.end is not None:
            body["EndTime"] = utc(self.end)
        if self.message:
            body["StatusMessage"] = self.message
        return body


@dataclass
class Group:
    name: str
    min: int
    max: int
    desired: int
    subnets: dict[str, str]  # zone -> subnet, in the order given
    created: float
    template: dict[str, str] | None = None
    mixed: dict[str, Any] | None = None
    launch_configuration: str | None = None
    tags: dict[str, dict[str, Any]] = field(default_factory=dict)
    suspended: dict[str, str] = field(default_factory=dict)
    hooks: dict[str, dict[str, Any]] = field(default_factory=dict)
    protect_new: bool = False
    instances: dict[str, Instance] = field(default_factory=dict)
    activities: list[Activity] = field(default_factory=list)  # newest first
    reasons: list[str] = field(default_factory=list)  # why desired changed, since the last act
    act_at: float | None = None  # next reconciliation due
    rebalance_at: float | None = None
    balancing: str | None = None  # instance launched to balance zones
    zone_tried: dict[str, float] = field(default_factory=dict)  # zone -> not before
    deleting: bool = False
    joins: bool = True  # its instances become Nodes
    warm: dict[str, Instance] = field(default_factory=dict)  # the warm pool, listed apart
    region: str = "us-west-2"

    @property
    def arn(self) -> str:
        stable = uuid.uuid5(uuid.NAMESPACE_URL, f"{self.name}@{self.created}")
        return (
            f"arn:aws:autoscaling:{self.region}:{ACCOUNT}:autoScalingGroup:{stable}"
            f":autoScalingGroupName/{self.name}"
        )

    def counted(self) -> list[Instance]:
        return [i for i in self.instances.values() if i.counted()]

    def per_zone(self) -> dict[str, int]:
        count = {zone: 0 for zone in self.subnets}
        for instance in self.counted():
            count[instance.zone] = count.get(instance.zone, 0) + 1
        return count

    def describe(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "AutoScalingGroupName": self.name,
            "AutoScalingGroupARN": self.arn,
            "MinSize": self.min,
            "MaxSize": self.max,
            "DesiredCapacity": self.desired,
            "DefaultCooldown": 300,
            "AvailabilityZones": list(self.subnets),
            "LoadBalancerNames": [],
            "TargetGroupARNs": [],
            "TrafficSources": [],
            "HealthCheckType": "EC2",
            "HealthCheckGracePeriod": 0,
            "Instances": [describe_instance(i) for i in self.instances.values()],
            "CreatedTime": utc(self.created),
            "SuspendedProcesses": [
                {"ProcessName": p, "SuspensionReason": why} for p, why in sorted(self.suspended.items())
            ],
            "VPCZoneIdentifier": ",".join(self.subnets.values()),
            "EnabledMetrics": [],
            "Tags": [self.tags[key] for key in sorted(self.tags)],
            "TerminationPolicies": ["Default"],
            "NewInstancesProtectedFromScaleIn": self.protect_new,
            "ServiceLinkedRoleARN": f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/"
            "autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling",
        }
        if self.deleting:
            body["Status"] = "Delete in progress"
        if self.warm:
            body["WarmPoolConfiguration"] = {"MinSize": len(self.warm), "PoolState": "Stopped"}
            body["WarmPoolSize"] = len(self.warm)
        if self.mixed:
            body["MixedInstancesPolicy"] = self.mixed
        elif self.template:
            body["LaunchTemplate"] = self.template
        elif self.launch_configuration:
            body["LaunchConfigurationName"] = self.launch_configuration
        return body


def describe_instance(instance: Instance) -> dict[str, Any]:
    body: dict[str, Any] = {
        "InstanceId": instance.id,
        "InstanceType": instance.type,
        "AvailabilityZone": instance.zone,
        "LifecycleState": instance.lifecycle,
        "HealthStatus": instance.health,
        "ProtectedFromScaleIn": instance.protected,
    }
    if instance.template:
        body["LaunchTemplate"] = instance.template
    if instance.launch_configuration:
        body["LaunchConfigurationName"] = instance.launch_configuration
    return body


def new_instance_id(draw: random.Random) -> str:
    return "i-0" + "".join(draw.choice("0123456789abcdef") for _ in range(16))
