"""Groups made whole at once, as the conformance suite wants them: `POST /fnstack/groups`.

    {"name": "…", "nodes": 3, "min": 0, "max": 6, "zones": ["us-west-2a"], "outdated": 3,
     "version": "$Latest", "types": ["m5.large"], "protected": false, "suspended": [], "warm": 0,
     "standby": 0, "detaching": 0, "launch_hook": null, "terminate_hook": null, "no_capacity": [["us-west-2a", 8.0]]}

The group is tagged for a cluster of its own name. Its instances were launched long ago, in turn in each zone, the
outdated first; they are no concern of the bridge, so no Nodes come of them.
"""
from __future__ import annotations

from typing import Any

from .engine import Engine
from .model import ACCOUNT, Group, Instance
from .operations import OPERATIONS

OLD, NEW = "ami-0aaaaaaaaaaaaaaa1", "ami-0bbbbbbbbbbbbbbb2"
_DAY = 86400.0


def _template(engine: Engine, name: str, kind: str) -> str:
    """Two versions; the second is the latest and the default."""
    from moto.ec2.models import ec2_backends

    backend = ec2_backends[ACCOUNT][engine.region]
    made = backend.create_launch_template(name, "", {"ImageId": OLD, "InstanceType": kind}, {})
    made.create_version({"ImageId": NEW, "InstanceType": kind}, "")
    made.default_version_number = 2
    return made.id


def _reference(spec: dict[str, Any], template: str, version: str) -> dict[str, Any]:
    named = {"LaunchTemplateId": template, "Version": version}
    if len(spec["types"]) == 1:
        return {"LaunchTemplate": named}
    overrides = [{"InstanceType": kind} for kind in spec["types"]]
    return {
        "MixedInstancesPolicy": {
            "LaunchTemplate": {"LaunchTemplateSpecification": named, "Overrides": overrides}
        }
    }


def _place(engine: Engine, group: Group, zone: str, lifecycle: str, age: float) -> Instance:
    """An instance that has been there for long."""
    instance = engine.start(group, "At the beginning of time an instance was started.", zone)
    group.activities.clear()
    instance.lifecycle, instance.ec2 = lifecycle, "running"
    instance.launch_time = instance.running_at = engine.now - age
    return instance


def make(engine: Engine, spec: dict[str, Any]) -> dict[str, Any]:
    """Makes the group; answers its instances; DescribeAutoScalingGroups does not list the warm ones."""
    with engine.lock:
        engine.tick()
        name = spec["name"]
        template = _template(engine, name, spec["types"][0])
        subnets = {zone: subnet for subnet, zone in engine.subnet_zone.items()}
        tag = {"Key": f"kubernetes.io/cluster/{name}", "Value": "owned", "PropagateAtLaunch": True}
        OPERATIONS["CreateAutoScalingGroup"](
            engine,
            {
                "AutoScalingGroupName": name,
                "MinSize": 0,
                "MaxSize": spec["max"],
                "DesiredCapacity": 0,
                "VPCZoneIdentifier": ",".join(subnets[zone] for zone in spec["zones"]),
                "NewInstancesProtectedFromScaleIn": spec["protected"],
                "Tags": [{"ResourceId": name, **tag}],
                **_reference(spec, template, "1"),
            },
        )
        group = engine.groups[name]
        group.joins = False
        for process in spec["suspended"]:
            group.suspended[process] = "suspended from the start"
        states = ["InService"] * spec["nodes"] + ["Standby"] * spec["standby"] + ["Detaching"] * spec["detaching"]
        for n, state in enumerate(states):
            if n == spec["outdated"]:
                _aim(engine, spec, template, "2")
            _place(engine, group, spec["zones"][n % len(spec["zones"])], state, 30 * _DAY - n * 60)
        _aim(engine, spec, template, spec["version"])
        for n in range(spec["warm"]):
            warm = _place(engine, group, spec["zones"][n % len(spec["zones"])], "Warmed:Stopped", _DAY)
            warm.ec2 = "stopped"
            group.warm[warm.id] = group.instances.pop(warm.id)
        group.min, group.desired = spec["min"], spec["nodes"]
        group.act_at, group.activities[:], group.reasons[:] = None, [], []
        _hooks(engine, spec)
        for zone, until in spec["no_capacity"]:
            engine.faults.no_capacity.add(f"{name}/{zone}")
            if until is not None:
                engine.later(until, lambda zone=zone: engine.faults.no_capacity.discard(f"{name}/{zone}"))
        return {"instances": list(group.instances), "warm": list(group.warm)}


def _aim(engine: Engine, spec: dict[str, Any], template: str, version: str) -> None:
    aimed = {"AutoScalingGroupName": spec["name"], **_reference(spec, template, version)}
    OPERATIONS["UpdateAutoScalingGroup"](engine, aimed)


def _hooks(engine: Engine, spec: dict[str, Any]) -> None:
    """Hooks that go on by themselves at the end of their heartbeat."""
    for key, transition in (("launch_hook", "LAUNCHING"), ("terminate_hook", "TERMINATING")):
        if spec[key] is not None:
            OPERATIONS["PutLifecycleHook"](
                engine,
                {
                    "AutoScalingGroupName": spec["name"],
                    "LifecycleHookName": key,
                    "LifecycleTransition": f"autoscaling:EC2_INSTANCE_{transition}",
                    "HeartbeatTimeout": spec[key],
                    "DefaultResult": "CONTINUE",
                },
            )
