"""The Auto Scaling engine on a clock of its own: what it must do as AWS does."""
from __future__ import annotations

import unittest

from fnstack.aws.engine import Engine
from fnstack.aws.errors import AwsError
from fnstack.aws.model import Timings
from fnstack.aws.operations import OPERATIONS

TIMINGS = Timings(react=1, replace=5, launch=(10, 10), boot=(1, 1), shutdown=(20, 20), rebalance=7, capacity_retry=30)


class Case(unittest.TestCase):
    def setUp(self) -> None:
        self.clock = 1_000_000.0
        self.version = 1
        self.engine = Engine(self._resolve, TIMINGS, clock=lambda: self.clock)
        self.engine.subnet_zone = {f"subnet-{z}": f"us-west-2{z}" for z in "abc"}

    def _resolve(self, wanted):
        asked = wanted.get("Version", "$Default")
        number = str(self.version) if asked.startswith("$") else asked
        reference = {"LaunchTemplateId": "lt-1", "LaunchTemplateName": "workers", "Version": number}
        return reference, {"ImageId": f"ami-{number}", "InstanceType": "m5.large"}

    def call(self, operation: str, **params):
        return OPERATIONS[operation](self.engine, params)

    def group(self, size: int = 3, **more):
        params = {
            "AutoScalingGroupName": "g",
            "MinSize": 1,
            "MaxSize": 6,
            "DesiredCapacity": size,
            "VPCZoneIdentifier": "subnet-a,subnet-b,subnet-c",
            "LaunchTemplate": {"LaunchTemplateId": "lt-1", "Version": "$Latest"},
        }
        self.call("CreateAutoScalingGroup", **{**params, **more})
        self.wait(60)

    def wait(self, seconds: float) -> None:
        """Small steps, so that each delay is walked through and not jumped over."""
        for _ in range(int(seconds * 2)):
            self.clock += 0.5
            self.engine.tick()

    def described(self):
        return self.call("DescribeAutoScalingGroups")["AutoScalingGroups"][0]

    def ids(self, state: str = "InService"):
        return [i["InstanceId"] for i in self.described()["Instances"] if i["LifecycleState"] == state]

    def causes(self):
        return [a["Cause"] for a in self.call("DescribeScalingActivities", AutoScalingGroupName="g")["Activities"]]

    def refused(self, operation: str, **params) -> AwsError:
        with self.assertRaises(AwsError) as caught:
            self.call(operation, **params)
        return caught.exception

    def terminate(self, instance: str, decrement: bool):
        return self.call(
            "TerminateInstanceInAutoScalingGroup", InstanceId=instance, ShouldDecrementDesiredCapacity=decrement
        )


class Launching(Case):
    def test_a_launch_takes_its_time_and_is_pending_meanwhile(self):
        self.group(2)
        self.call("SetDesiredCapacity", AutoScalingGroupName="g", DesiredCapacity=3)
        self.assertEqual(len(self.ids()), 2)
        self.wait(2)
        self.assertEqual((len(self.ids()), len(self.ids("Pending"))), (2, 1))
        self.wait(10)
        self.assertEqual((len(self.ids()), len(self.ids("Pending"))), (3, 0))

    def test_launches_spread_over_the_emptiest_zones(self):
        self.group(6)
        zones = [i["AvailabilityZone"] for i in self.described()["Instances"]]
        self.assertEqual(sorted(zones), sorted(["us-west-2a", "us-west-2b", "us-west-2c"] * 2))

    def test_an_instance_keeps_the_version_it_was_launched_with(self):
        self.group(1)
        self.version = 2
        self.call("SetDesiredCapacity", AutoScalingGroupName="g", DesiredCapacity=2)
        self.wait(15)
        versions = [i["LaunchTemplate"]["Version"] for i in self.described()["Instances"]]
        self.assertEqual(versions, ["1", "2"])
        self.assertEqual(self.described()["LaunchTemplate"]["Version"], "$Latest")

    def test_the_cause_tells_who_raised_desired_and_by_how_much(self):
        self.group(2)
        self.call("SetDesiredCapacity", AutoScalingGroupName="g", DesiredCapacity=3)
        self.wait(15)
        self.assertRegex(
            self.causes()[0],
            r"^At \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ a user request explicitly set group desired capacity changing "
            r"the desired capacity from 2 to 3\.  At \S+Z an instance was started in response to a difference "
            r"between desired and actual capacity, increasing the capacity from 2 to 3\.$",
        )

    def test_a_suspended_launch_waits_for_the_resume(self):
        self.group(2)
        self.call("SuspendProcesses", AutoScalingGroupName="g", ScalingProcesses=["Launch"])
        self.call("SetDesiredCapacity", AutoScalingGroupName="g", DesiredCapacity=3)
        self.wait(60)
        self.assertEqual(len(self.described()["Instances"]), 2)
        self.call("ResumeProcesses", AutoScalingGroupName="g", ScalingProcesses=["Launch"])
        self.wait(15)
        self.assertEqual(len(self.ids()), 3)

    def test_no_capacity_in_a_zone_fails_there_and_launches_elsewhere(self):
        self.group(3)
        victim = next(i for i in self.described()["Instances"] if i["AvailabilityZone"] == "us-west-2b")
        self.engine.faults.no_capacity.add("us-west-2b")
        self.call("SuspendProcesses", AutoScalingGroupName="g", ScalingProcesses=["AZRebalance"])
        self.terminate(victim["InstanceId"], False)
        self.wait(25)
        activities = self.call("DescribeScalingActivities", AutoScalingGroupName="g")["Activities"]
        failed = [a for a in activities if a["StatusCode"] == "Failed"]
        self.assertEqual(len(failed), 1)
        self.assertIn("do not have sufficient m5.large capacity", failed[0]["StatusMessage"])
        self.assertEqual(len(self.ids()), 3)
        self.assertNotIn("us-west-2b", [i["AvailabilityZone"] for i in self.described()["Instances"]])

    def test_a_launch_hook_holds_the_instance_until_it_is_completed(self):
        self.group(1)
        self.call(
            "PutLifecycleHook",
            AutoScalingGroupName="g",
            LifecycleHookName="h",
            LifecycleTransition="autoscaling:EC2_INSTANCE_LAUNCHING",
        )
        self.call("SetDesiredCapacity", AutoScalingGroupName="g", DesiredCapacity=2)
        self.wait(60)
        waiting = self.ids("Pending:Wait")
        self.assertEqual(len(waiting), 1)
        self.call(
            "CompleteLifecycleAction",
            AutoScalingGroupName="g",
            LifecycleHookName="h",
            InstanceId=waiting[0],
            LifecycleActionResult="CONTINUE",
        )
        self.assertIn(waiting[0], self.ids())


class Terminating(Case):
    def test_without_decrement_a_replacement_comes_after_a_delay(self):
        self.group(3)
        victim = self.ids()[0]
        self.terminate(victim, False)
        self.assertEqual(self.described()["DesiredCapacity"], 3)
        self.wait(3)
        self.assertEqual(self.ids("Pending"), [])
        self.wait(3)
        self.assertEqual(len(self.ids("Pending")), 1)
        self.wait(30)
        self.assertEqual(len(self.ids()), 3)
        self.assertNotIn(victim, self.ids())

    def test_with_decrement_desired_shrinks_and_nothing_is_launched(self):
        self.group(3)
        activity = self.terminate(self.ids()[0], True)["Activity"]
        self.assertRegex(
            activity["Cause"], r"taken out of service in response to a user request, shrinking the capacity from 3 to 2\.$"
        )
        self.wait(60)
        self.assertEqual((self.described()["DesiredCapacity"], len(self.described()["Instances"])), (2, 2))

    def test_a_terminating_instance_is_described_but_does_not_count(self):
        self.group(3)
        victim = self.ids()[0]
        self.terminate(victim, True)
        self.wait(10)
        self.assertEqual(self.ids("Terminating"), [victim])
        self.assertEqual(len(self.ids()), 2)
        self.wait(15)
        self.assertEqual(self.ids("Terminating"), [])

    def test_decrement_below_the_minimum_is_refused_in_the_words_of_aws(self):
        self.group(3, MinSize=3)
        error = self.refused(
            "TerminateInstanceInAutoScalingGroup", InstanceId=self.ids()[0], ShouldDecrementDesiredCapacity=True
        )
        self.assertEqual(error.code, "ValidationError")
        self.assertTrue(error.message.startswith("Currently, desiredSize equals minSize (3). Terminating instance"))
        self.assertEqual(len(self.ids()), 3)

    def test_the_second_termination_of_the_same_instance_is_refused(self):
        self.group(3)
        victim = self.ids()[0]
        self.terminate(victim, True)
        again = self.refused(
            "TerminateInstanceInAutoScalingGroup", InstanceId=victim, ShouldDecrementDesiredCapacity=True
        )
        self.assertEqual(again.code, "ScalingActivityInProgress")
        self.assertEqual(self.described()["DesiredCapacity"], 2)
        self.wait(30)
        gone = self.refused(
            "TerminateInstanceInAutoScalingGroup", InstanceId=victim, ShouldDecrementDesiredCapacity=True
        )
        self.assertIn("No managed instance found", gone.message)

    def test_scale_in_spares_protected_instances(self):
        self.group(3)
        keep = self.ids()[:2]
        self.call("SetInstanceProtection", AutoScalingGroupName="g", InstanceIds=keep, ProtectedFromScaleIn=True)
        self.call("SetDesiredCapacity", AutoScalingGroupName="g", DesiredCapacity=1)
        self.wait(60)
        self.assertEqual(sorted(self.ids()), sorted(keep))


class Limits(Case):
    def test_desired_outside_the_limits_is_refused(self):
        self.group(3)
        above = self.refused("SetDesiredCapacity", AutoScalingGroupName="g", DesiredCapacity=7)
        self.assertEqual(
            above.message, "New SetDesiredCapacity value 7 is above max value 6 for the AutoScalingGroup."
        )
        below = self.refused("SetDesiredCapacity", AutoScalingGroupName="g", DesiredCapacity=0)
        self.assertIn("below min value 1", below.message)
        self.assertEqual(self.described()["DesiredCapacity"], 3)

    def test_raising_the_maximum_leaves_the_template_alone(self):
        self.group(3)
        policy = {
            "LaunchTemplate": {
                "LaunchTemplateSpecification": {"LaunchTemplateId": "lt-1", "Version": "$Latest"},
                "Overrides": [{"InstanceType": "m6i.large"}],
            }
        }
        self.call("UpdateAutoScalingGroup", AutoScalingGroupName="g", MixedInstancesPolicy=policy)
        self.call("UpdateAutoScalingGroup", AutoScalingGroupName="g", MaxSize=9)
        group = self.described()
        self.assertEqual((group["MaxSize"], group["MixedInstancesPolicy"]), (9, policy))
        self.call("SetDesiredCapacity", AutoScalingGroupName="g", DesiredCapacity=4)
        self.wait(15)
        self.assertEqual(self.described()["Instances"][-1]["InstanceType"], "m6i.large")

    def test_pages_hold_a_hundred_at_most_and_follow_a_token(self):
        for number in range(120):
            self.group(0, AutoScalingGroupName=f"g{number:03d}", MinSize=0)
        first = self.call("DescribeAutoScalingGroups", MaxRecords=100)
        second = self.call("DescribeAutoScalingGroups", MaxRecords=100, NextToken=first["NextToken"])
        names = [g["AutoScalingGroupName"] for page in (first, second) for g in page["AutoScalingGroups"]]
        self.assertEqual((len(first["AutoScalingGroups"]), len(set(names)), second["NextToken"]), (100, 120, None))
        self.assertIn("less than or equal to 100", self.refused("DescribeAutoScalingGroups", MaxRecords=101).message)

    def test_filters_on_tags_all_have_to_match(self):
        tags = [{"Key": "kubernetes.io/cluster/c", "Value": "owned", "ResourceId": "g"}]
        self.group(0, MinSize=0, Tags=tags)
        self.group(0, MinSize=0, AutoScalingGroupName="other")

        def names(*filters):
            found = self.call("DescribeAutoScalingGroups", Filters=list(filters))["AutoScalingGroups"]
            return [g["AutoScalingGroupName"] for g in found]

        self.assertEqual(names({"Name": "tag-key", "Values": ["kubernetes.io/cluster/c"]}), ["g"])
        self.assertEqual(names({"Name": "tag:kubernetes.io/cluster/c", "Values": ["owned"]}), ["g"])
        self.assertEqual(names({"Name": "tag:kubernetes.io/cluster/c", "Values": ["shared"]}), [])


class Balancing(Case):
    def lopsided(self):
        """No instance in one zone, two in each of the others."""
        self.group(6)
        self.call("SuspendProcesses", AutoScalingGroupName="g", ScalingProcesses=["AZRebalance"])
        victims = [i["InstanceId"] for i in self.described()["Instances"] if i["AvailabilityZone"] == "us-west-2a"]
        for victim in victims:
            self.terminate(victim, True)
        self.wait(60)

    def zones(self):
        return [i["AvailabilityZone"] for i in self.described()["Instances"] if i["LifecycleState"] == "InService"]

    def test_suspended_rebalancing_leaves_the_zones_as_they_are(self):
        self.lopsided()
        self.wait(120)
        self.assertNotIn("us-west-2a", self.zones())

    def test_resumed_rebalancing_launches_first_and_terminates_after(self):
        self.lopsided()
        before = set(self.ids())
        self.call("ResumeProcesses", AutoScalingGroupName="g", ScalingProcesses=["AZRebalance"])
        self.wait(12)
        self.assertEqual((set(self.ids()), len(self.ids("Pending"))), (before, 1))
        self.wait(120)
        counts = [self.zones().count(f"us-west-2{z}") for z in "abc"]
        self.assertLessEqual(max(counts) - min(counts), 1)
        self.assertEqual(sum(counts), 4)
        self.assertTrue(any("to aid in balancing the group's zones" in c for c in self.causes()))


if __name__ == "__main__":
    unittest.main()
