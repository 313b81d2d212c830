"""The Auto Scaling API over the engine: parameters in, response members out.

Limits and messages follow the API reference and what AWS is known to answer;
see each check. `OPERATIONS` maps the operation's name to its function.
"""
from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from . import balancers
from .engine import Engine
from .errors import AwsError, validation
from .model import LEAVING, Group, Instance, describe_instance, iso

Params = dict[str, Any]
Result = dict[str, Any]

PROCESSES = (
    "Launch",
    "Terminate",
    "AddToLoadBalancer",
    "AlarmNotification",
    "AZRebalance",
    "HealthCheck",
    "InstanceRefresh",
    "ReplaceUnhealthy",
    "ScheduledActions",
)
_TAG_LIMIT = 50


def _page(items: list[Any], params: Params, default: int, maximum: int) -> tuple[list[Any], str | None]:
    size = params.get("MaxRecords", default)
    if size > maximum:
        raise validation(
            f"1 validation error detected: Value '{size}' at 'maxRecords' failed to satisfy "
            f"constraint: Member must have value less than or equal to {maximum}"
        )
    start = 0
    if params.get("NextToken"):
        try:
            start = int(base64.b64decode(params["NextToken"], validate=True).decode().split(":")[1])
        except (ValueError, IndexError) as error:
            raise AwsError("InvalidNextToken", "The token is not valid.") from error
    end = start + size
    token = base64.b64encode(f"page:{end}".encode()).decode() if end < len(items) else None
    return items[start:end], token


def _at_most(values: list[Any], limit: int, name: str) -> None:
    if len(values) > limit:
        raise validation(
            f"1 validation error detected: Value at '{name}' failed to satisfy constraint: "
            f"Member must have length less than or equal to {limit}"
        )


# -- groups ----------------------------------------------------------------------


def _matches(group: Group, filters: list[dict[str, Any]]) -> bool:
    for wanted in filters:
        name, values = wanted["Name"], wanted.get("Values", [])
        if name == "tag-key":
            hit = any(key in group.tags for key in values)
        elif name == "tag-value":
            hit = any(tag["Value"] in values for tag in group.tags.values())
        elif name.startswith("tag:"):
            tag = group.tags.get(name[4:])
            hit = tag is not None and tag["Value"] in values
        else:
            raise validation(f"Filter type {name} is not correct. Allowed Filter types are: tag-key tag-value tag:<key>")
        if not hit:
            return False
    return True


def describe_auto_scaling_groups(engine: Engine, params: Params) -> Result:
    names = params.get("AutoScalingGroupNames") or []
    found = [g for g in engine.groups.values() if not names or g.name in names]
    found = [g for g in found if _matches(g, params.get("Filters") or [])]
    page, token = _page(sorted(found, key=lambda g: g.name), params, 50, 100)
    return {"AutoScalingGroups": [g.describe() for g in page], "NextToken": token}


def describe_auto_scaling_instances(engine: Engine, params: Params) -> Result:
    wanted = params.get("InstanceIds") or []
    _at_most(wanted, 50, "instanceIds")
    rows = [
        {**describe_instance(i), "AutoScalingGroupName": g.name}
        for g in engine.groups.values()
        for i in g.instances.values()
        if not wanted or i.id in wanted
    ]
    page, token = _page(rows, params, 50, 50)
    return {"AutoScalingInstances": page, "NextToken": token}


def create_auto_scaling_group(engine: Engine, params: Params) -> Result:
    name = params["AutoScalingGroupName"]
    if name in engine.groups:
        raise AwsError(
            "AlreadyExists", f"AutoScalingGroup by this name already exists - A group with the name {name} already exists"
        )
    low, high = params["MinSize"], params["MaxSize"]
    subnets = [s for s in params.get("VPCZoneIdentifier", "").split(",") if s]
    zones = params.get("AvailabilityZones") or []
    if not subnets and not zones:
        raise validation("At least one Availability Zone or VPC Subnet is required.")
    group = Group(
        name=name,
        min=low,
        max=high,
        desired=0,
        subnets=_zones_of(engine, zones, subnets),
        created=engine.now,
        mixed=params.get("MixedInstancesPolicy"),
        launch_configuration=params.get("LaunchConfigurationName"),
        protect_new=params.get("NewInstancesProtectedFromScaleIn", False),
        region=engine.region,
    )
    if params.get("LaunchTemplate"):
        group.template = _full_reference(engine, params["LaunchTemplate"])
    desired = params.get("DesiredCapacity", low)
    _check_bounds(low, high, desired)
    for tag in params.get("Tags") or []:
        _put_tag(group, tag)
    engine.groups[name] = group
    _set_desired(
        engine,
        group,
        desired,
        f"a user request created an AutoScalingGroup changing the desired capacity from 0 to {desired}",
    )
    return {}


def _zones_of(engine: Engine, zones: list[str], subnets: list[str]) -> dict[str, str]:
    if not subnets:
        by_zone = {zone: subnet for subnet, zone in engine.subnet_zone.items()}
        return {zone: by_zone.get(zone, "") for zone in zones}
    for subnet in subnets:
        if subnet not in engine.subnet_zone:
            raise validation(f"The subnet ID '{subnet}' does not exist")
    return {engine.subnet_zone[subnet]: subnet for subnet in subnets}


def _full_reference(engine: Engine, wanted: Params) -> dict[str, str]:
    """Id and name both, and the version as the user put it ($Latest stays $Latest)."""
    resolved, _ = engine.resolve(wanted)
    return {
        "LaunchTemplateId": resolved["LaunchTemplateId"],
        "LaunchTemplateName": resolved["LaunchTemplateName"],
        "Version": wanted.get("Version", "$Default"),
    }


def _check_bounds(low: int, high: int, desired: int) -> None:
    if low > high:
        raise validation(f"Max bound, {high}, must be greater than or equal to min bound, {low}")
    if not low <= desired <= high:
        raise validation(
            f"Desired capacity:{desired} must be between the specified min size:{low} and max size:{high}"
        )


def _set_desired(engine: Engine, group: Group, desired: int, why: str) -> None:
    if desired != group.desired:
        group.reasons.append(f"At {iso(engine.now)} {why}.")
        group.desired = desired
    engine.poke(group)


def update_auto_scaling_group(engine: Engine, params: Params) -> Result:
    group = engine.group(params["AutoScalingGroupName"])
    low = params.get("MinSize", group.min)
    high = params.get("MaxSize", group.max)
    wanted = params.get("DesiredCapacity")
    if low > high:
        raise validation(f"Max bound, {high}, must be greater than or equal to min bound, {low}")
    if wanted is not None:
        _check_bounds(low, high, wanted)
    # New bounds pull desired along (API reference, UpdateAutoScalingGroup).
    desired = wanted if wanted is not None else max(low, min(high, group.desired))
    old = group.desired
    group.min, group.max = low, high
    # Only what the call names changes; a call about sizes leaves the template alone.
    if params.get("LaunchTemplate"):
        group.template, group.mixed = _full_reference(engine, params["LaunchTemplate"]), None
    if params.get("MixedInstancesPolicy"):
        group.mixed, group.template = params["MixedInstancesPolicy"], None
    if params.get("VPCZoneIdentifier"):
        subnets = [s for s in params["VPCZoneIdentifier"].split(",") if s]
        group.subnets = _zones_of(engine, [], subnets)
    if "NewInstancesProtectedFromScaleIn" in params:
        group.protect_new = params["NewInstancesProtectedFromScaleIn"]
    _set_desired(
        engine,
        group,
        desired,
        f"a user request update of AutoScalingGroup constraints to min: {low}, max: {high}, "
        f"desired: {desired} changing the desired capacity from {old} to {desired}",
    )
    return {}


def set_desired_capacity(engine: Engine, params: Params) -> Result:
    group = engine.group(params["AutoScalingGroupName"])
    value = params["DesiredCapacity"]
    if value > group.max:
        raise validation(f"New SetDesiredCapacity value {value} is above max value {group.max} for the AutoScalingGroup.")
    if value < group.min:
        raise validation(f"New SetDesiredCapacity value {value} is below min value {group.min} for the AutoScalingGroup.")
    _set_desired(
        engine,
        group,
        value,
        "a user request explicitly set group desired capacity changing the desired capacity "
        f"from {group.desired} to {value}",
    )
    return {}


def delete_auto_scaling_group(engine: Engine, params: Params) -> Result:
    group = engine.group(params["AutoScalingGroupName"])
    if group.instances and not params.get("ForceDelete"):
        raise AwsError(
            "ResourceInUse",
            "You cannot delete an AutoScalingGroup while there are instances or pending Spot "
            "instance request(s) still in the group.",
        )
    group.deleting = True
    for instance in list(group.instances.values()):
        if instance.lifecycle not in LEAVING:
            engine.terminate(
                group, instance, f"At {iso(engine.now)} instance {instance.id} was taken out of service.", by="delete"
            )
    if not group.instances:
        del engine.groups[group.name]
    return {}


# -- instances ---------------------------------------------------------------------


def terminate_instance_in_auto_scaling_group(engine: Engine, params: Params) -> Result:
    group, instance = engine.managed(params["InstanceId"])
    decrement = params.get("ShouldDecrementDesiredCapacity", False)
    if instance.lifecycle in LEAVING:
        running = next(a for a in group.activities if a.instance == instance.id)
        raise AwsError(
            "ScalingActivityInProgress",
            f"Scaling activity {running.id} is in progress and blocks this action",
        )
    if decrement and group.desired <= group.min:
        raise validation(
            f"Currently, desiredSize equals minSize ({group.min}). Terminating instance without "
            "replacement will violate group's min size constraint. Either set "
            "shouldDecrementDesiredCapacity flag to false or lower group's min size."
        )
    cause = f"At {iso(engine.now)} instance {instance.id} was taken out of service in response to a user request"
    if decrement:
        group.desired -= 1
        cause += f", shrinking the capacity from {group.desired + 1} to {group.desired}"
    activity = engine.terminate(group, instance, cause + ".", by="user")
    engine.poke(group, engine.timings.replace)
    return {"Activity": activity.describe(group.arn)}


def set_instance_protection(engine: Engine, params: Params) -> Result:
    group = engine.group(params["AutoScalingGroupName"])
    wanted = params.get("InstanceIds") or []
    _at_most(wanted, 50, "instanceIds")
    chosen: list[Instance] = []
    for instance_id in wanted:
        instance = group.instances.get(instance_id)
        if instance is None:
            raise validation(f"The instance {instance_id} is not part of Auto Scaling group {group.name}.")
        if instance.lifecycle not in ("InService", "EnteringStandby", "Standby"):
            raise validation(f"The instance {instance_id} is not in InService or EnteringStandby or Standby.")
        chosen.append(instance)
    for instance in chosen:
        instance.protected = params["ProtectedFromScaleIn"]
    if not params["ProtectedFromScaleIn"]:
        engine.poke(group)
    return {}


def complete_lifecycle_action(engine: Engine, params: Params) -> Result:
    group = engine.group(params["AutoScalingGroupName"])
    instance = group.instances.get(params.get("InstanceId", ""))
    if instance is None or not instance.lifecycle.endswith(":Wait"):
        raise validation("No active Lifecycle Action found with instance ID " + str(params.get("InstanceId")))
    engine.complete_hook(instance, params["LifecycleActionResult"])
    return {}


# -- activities ----------------------------------------------------------------------


def describe_scaling_activities(engine: Engine, params: Params) -> Result:
    if params.get("AutoScalingGroupName"):
        groups = [engine.group(params["AutoScalingGroupName"])]
    else:
        groups = list(engine.groups.values())
    wanted = params.get("ActivityIds") or []
    rows = [(a, g) for g in groups for a in g.activities if not wanted or a.id in wanted]
    rows.sort(key=lambda row: row[0].start, reverse=True)  # newest first; stable within a second
    page, token = _page(rows, params, 100, 100)
    return {"Activities": [a.describe(g.arn) for a, g in page], "NextToken": token}


# -- tags ------------------------------------------------------------------------------


def _put_tag(group: Group, tag: dict[str, Any]) -> None:
    key, value = tag["Key"], tag.get("Value", "")
    if key.lower().startswith("aws:"):
        raise validation("Tag keys starting with 'aws:' are reserved for internal use")
    if len(key) > 128 or len(value) > 256:
        raise validation("Tag keys are at most 128 and tag values at most 256 characters long")
    if key not in group.tags and len(group.tags) >= _TAG_LIMIT:
        raise AwsError("LimitExceeded", f"The limit of {_TAG_LIMIT} tags per Auto Scaling group is reached")
    group.tags[key] = {
        "ResourceId": group.name,
        "ResourceType": "auto-scaling-group",
        "Key": key,
        "Value": value,
        "PropagateAtLaunch": tag.get("PropagateAtLaunch", True),
    }


def create_or_update_tags(engine: Engine, params: Params) -> Result:
    pairs = [(engine.group(tag["ResourceId"]), tag) for tag in params["Tags"]]
    for group, tag in pairs:
        _put_tag(group, tag)
    return {}


def delete_tags(engine: Engine, params: Params) -> Result:
    for tag in params["Tags"]:
        group = engine.group(tag["ResourceId"])
        present = group.tags.get(tag["Key"])
        if present and tag.get("Value") in (None, present["Value"]):
            del group.tags[tag["Key"]]
    return {}


def describe_tags(engine: Engine, params: Params) -> Result:
    rows = [tag for g in sorted(engine.groups) for _, tag in sorted(engine.groups[g].tags.items())]
    fields = {"auto-scaling-group": "ResourceId", "key": "Key", "value": "Value"}
    for wanted in params.get("Filters") or []:
        if wanted["Name"] == "propagate-at-launch":
            values = [v.lower() for v in wanted["Values"]]
            rows = [r for r in rows if str(r["PropagateAtLaunch"]).lower() in values]
        elif wanted["Name"] in fields:
            rows = [r for r in rows if r[fields[wanted["Name"]]] in wanted["Values"]]
        else:
            raise validation(f"Filter type {wanted['Name']} is not correct.")
    page, token = _page(rows, params, 50, 100)
    return {"Tags": page, "NextToken": token}


# -- processes and hooks -----------------------------------------------------------------


def _processes(params: Params) -> list[str]:
    wanted = params.get("ScalingProcesses") or list(PROCESSES)
    for process in wanted:
        if process not in PROCESSES:
            raise validation(f"Invalid scaling process {process}.")
    return wanted


def suspend_processes(engine: Engine, params: Params) -> Result:
    group = engine.group(params["AutoScalingGroupName"])
    for process in _processes(params):
        group.suspended.setdefault(process, f"User suspended at {iso(engine.now)}")
    return {}


def resume_processes(engine: Engine, params: Params) -> Result:
    group = engine.group(params["AutoScalingGroupName"])
    for process in _processes(params):
        group.suspended.pop(process, None)
    engine.poke(group)
    return {}


def put_lifecycle_hook(engine: Engine, params: Params) -> Result:
    group = engine.group(params["AutoScalingGroupName"])
    name = params["LifecycleHookName"]
    timeout = params.get("HeartbeatTimeout", 3600)
    group.hooks[name] = {
        "LifecycleHookName": name,
        "AutoScalingGroupName": group.name,
        "LifecycleTransition": params.get("LifecycleTransition", ""),
        "HeartbeatTimeout": timeout,
        "GlobalTimeout": min(172800, 100 * timeout),
        "DefaultResult": params.get("DefaultResult", "ABANDON"),
    }
    return {}


def delete_lifecycle_hook(engine: Engine, params: Params) -> Result:
    engine.group(params["AutoScalingGroupName"]).hooks.pop(params["LifecycleHookName"], None)
    return {}


def describe_lifecycle_hooks(engine: Engine, params: Params) -> Result:
    group = engine.group(params["AutoScalingGroupName"])
    wanted = params.get("LifecycleHookNames") or []
    return {"LifecycleHooks": [h for h in group.hooks.values() if not wanted or h["LifecycleHookName"] in wanted]}


# -- what these groups never have -----------------------------------------------------------


def _empty(member: str) -> Callable[[Engine, Params], Result]:
    def answer(engine: Engine, params: Params) -> Result:
        engine.group(params["AutoScalingGroupName"])
        return {member: []}

    return answer


OPERATIONS: dict[str, Callable[[Engine, Params], Result]] = {
    "DescribeAutoScalingGroups": describe_auto_scaling_groups,
    "DescribeAutoScalingInstances": describe_auto_scaling_instances,
    "CreateAutoScalingGroup": create_auto_scaling_group,
    "UpdateAutoScalingGroup": update_auto_scaling_group,
    "DeleteAutoScalingGroup": delete_auto_scaling_group,
    "SetDesiredCapacity": set_desired_capacity,
    "TerminateInstanceInAutoScalingGroup": terminate_instance_in_auto_scaling_group,
    "SetInstanceProtection": set_instance_protection,
    "CompleteLifecycleAction": complete_lifecycle_action,
    "DescribeScalingActivities": describe_scaling_activities,
    "CreateOrUpdateTags": create_or_update_tags,
    "DeleteTags": delete_tags,
    "DescribeTags": describe_tags,
    "SuspendProcesses": suspend_processes,
    "ResumeProcesses": resume_processes,
    "PutLifecycleHook": put_lifecycle_hook,
    "DeleteLifecycleHook": delete_lifecycle_hook,
    "DescribeLifecycleHooks": describe_lifecycle_hooks,
    "DescribeInstanceRefreshes": _empty("InstanceRefreshes"),
    "DescribeWarmPool": _empty("Instances"),
    "DescribeTrafficSources": _empty("TrafficSources"),
    "DescribeLoadBalancers": _empty("LoadBalancers"),
    "DescribeLoadBalancerTargetGroups": _empty("LoadBalancerTargetGroups"),
    "DescribeScheduledActions": lambda engine, params: {"ScheduledUpdateGroupActions": []},
    "DescribePolicies": lambda engine, params: {"ScalingPolicies": []},
}
balancers.install(OPERATIONS)
