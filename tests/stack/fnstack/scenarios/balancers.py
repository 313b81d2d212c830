"""Scenarios in which nodes serve behind load balancers."""
from __future__ import annotations

from ..fleet import Fleet, FleetSpec
from ..observer.witness import Promise
from . import sights
from .bench import Bench, expect
from .codes import EXPECTED
from .trouble import FAST, QUICK, light

# Long beside everything else here, so that who does not wait for it is seen.
_DELAY = 6


def target_group(bench: Bench) -> None:
    """Nodes behind a target group: out of it once a replacement serves, terminated only after its delay."""
    spec = FleetSpec(nodes=4, groups=1, zones=2)
    with bench.fleet("behind", spec, light(spec.nodes), FAST) as fleet:
        _attach(fleet)
        with bench.witnessed(fleet) as witness:
            result = bench.rotate(fleet.cluster, "--surge", "1", *QUICK, timeout=150)
            result.expect_code(EXPECTED["target-group"])
            verdict = bench.judge(witness, Promise(), "target-group")
        excluded = {t["node"]: t for t in verdict.timeline if t["what"] == "node.excluded" and t["excluded"]}
        names = {instance: witness.recorder.names[instance] for instance in witness.outdated}
        for call in sights.calls(bench, "TerminateInstanceInAutoScalingGroup", witness.started):
            node = names.get(call.params["InstanceId"], "")
            expect(node in excluded, f"{node} was terminated and never taken out of its target group")
            waited = call.time - excluded[node]["time"]
            # What fastnode writes down is whole seconds, and our watch is behind its request.
            expect(waited > _DELAY - 1.2, f"{node} had {waited:.1f} s to be deregistered, {_DELAY} s are configured")
            serving = excluded[node]["functional"]
            expect(serving > spec.nodes, f"{node} was taken out while {serving} nodes worked, itself included")
        slots = _draining_at_once(verdict.timeline, set(names.values()))
        expect(slots == 1, f"{slots} nodes were drained at once, 1 was allowed")


def _attach(fleet: Fleet) -> None:
    network = fleet.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
    balancing = fleet.client("elbv2")
    made = balancing.create_target_group(Name="behind", Protocol="HTTP", Port=80, VpcId=network)
    arn = made["TargetGroups"][0]["TargetGroupArn"]
    delay = {"Key": "deregistration_delay.timeout_seconds", "Value": str(_DELAY)}
    balancing.modify_target_group_attributes(TargetGroupArn=arn, Attributes=[delay])
    scaling = fleet.client("autoscaling")
    scaling.attach_load_balancer_target_groups(AutoScalingGroupName=fleet.names[0], TargetGroupARNs=[arn])


def _draining_at_once(timeline: list[dict], old: set[str]) -> int:
    """The most old nodes that at one moment were cordoned and had a pod yet to go."""
    last = {t["node"]: t["time"] for t in timeline if t["what"] == "pod.gone" and t["node"] in old}
    cordons = [t for t in timeline if t["what"] == "node" and t["cordoned"] and t["node"] in last]
    began = {t["node"]: t["time"] for t in reversed(cordons)}
    return max(sum(began[n] <= at < last[n] for n in began) for at in began.values())
