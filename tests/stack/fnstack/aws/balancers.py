"""What is attached to groups: target groups and classic load balancers.

The load balancers themselves are moto's (elbv2 and elb); here is only which of them a
group registers its instances with, as the Auto Scaling API shows and changes it.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .engine import Engine
from .errors import validation

Params = dict[str, Any]
Result = dict[str, Any]
Operation = Callable[[Engine, Params], Result]

_TARGET_GROUPS, _CLASSIC = "TargetGroupARNs", "LoadBalancerNames"


class Attachments:
    """By group; a group that is not here has none."""

    def __init__(self) -> None:
        self._by_group: dict[str, dict[str, list[str]]] = {}

    def of(self, group: str) -> dict[str, list[str]]:
        return self._by_group.setdefault(group, {_TARGET_GROUPS: [], _CLASSIC: []})

    def change(self, kind: str, attach: bool) -> Operation:
        def answer(engine: Engine, params: Params) -> Result:
            name = params["AutoScalingGroupName"]
            if name not in engine.groups:
                raise validation(f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found")
            held = self.of(name)[kind]
            for item in params[kind]:
                if attach and item not in held:
                    held.append(item)
                elif not attach and item in held:
                    held.remove(item)
            return {}

        return answer

    def create(self, create: Operation) -> Operation:
        def answer(engine: Engine, params: Params) -> Result:
            result = create(engine, params)
            for kind in (_TARGET_GROUPS, _CLASSIC):
                self.of(params["AutoScalingGroupName"])[kind] = list(params.get(kind, []))
            return result

        return answer

    def describe(self, describe: Operation) -> Operation:
        def answer(engine: Engine, params: Params) -> Result:
            result = describe(engine, params)
            for group in result["AutoScalingGroups"]:
                held = self.of(group["AutoScalingGroupName"])
                group.update({kind: list(items) for kind, items in held.items()})
                group["TrafficSources"] = [
                    {"Identifier": item, "Type": "elbv2" if kind == _TARGET_GROUPS else "elb"}
                    for kind, items in held.items()
                    for item in items
                ]
            return result

        return answer


def install(operations: dict[str, Operation]) -> None:
    """Adds the four calls that attach and detach, and shows what is attached."""
    attachments = Attachments()
    operations["CreateAutoScalingGroup"] = attachments.create(operations["CreateAutoScalingGroup"])
    operations["DescribeAutoScalingGroups"] = attachments.describe(operations["DescribeAutoScalingGroups"])
    for attach, verb in ((True, "Attach"), (False, "Detach")):
        operations[f"{verb}LoadBalancerTargetGroups"] = attachments.change(_TARGET_GROUPS, attach)
        operations[f"{verb}LoadBalancers"] = attachments.change(_CLASSIC, attach)
