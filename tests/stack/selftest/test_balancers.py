"""What is attached to groups, and moto's own load balancers beside it, over the wire."""
from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

from fnstack.aws.model import Timings
from fnstack.aws.server import AwsServer
from fnstack.fleet import client


class Balancers(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.aws = AwsServer(Path(folder.name), Timings(), "us-west-2")
        cls.aws.start()
        cls.addClassCleanup(cls.aws.stop)
        cls.admin = cls.aws.identities.add("admin")
        cls.scaling = cls.client("autoscaling")
        template = cls.client("ec2").create_launch_template(
            LaunchTemplateName="behind-balancers",
            LaunchTemplateData={"ImageId": "ami-0aaaaaaaaaaaaaaa1", "InstanceType": "m5.large"},
        )["LaunchTemplate"]["LaunchTemplateId"]
        cls.scaling.create_auto_scaling_group(
            AutoScalingGroupName="g",
            MinSize=0,
            MaxSize=1,
            DesiredCapacity=0,
            VPCZoneIdentifier=next(iter(cls.aws.engine.subnet_zone)),
            LaunchTemplate={"LaunchTemplateId": template, "Version": "$Latest"},
        )

    @classmethod
    def client(cls, service: str):
        return client(cls.aws, cls.admin, service)

    def group(self):
        return self.scaling.describe_auto_scaling_groups(AutoScalingGroupNames=["g"])["AutoScalingGroups"][0]

    def test_a_target_group_is_attached_and_its_delay_can_be_read(self) -> None:
        network = self.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
        balancing = self.client("elbv2")
        arn = balancing.create_target_group(Name="web", Protocol="HTTP", Port=80, VpcId=network)["TargetGroups"][0][
            "TargetGroupArn"
        ]
        delay = {"Key": "deregistration_delay.timeout_seconds", "Value": "7"}
        balancing.modify_target_group_attributes(TargetGroupArn=arn, Attributes=[delay])
        self.assertIn(delay, balancing.describe_target_group_attributes(TargetGroupArn=arn)["Attributes"])
        self.scaling.attach_load_balancer_target_groups(AutoScalingGroupName="g", TargetGroupARNs=[arn])
        self.assertEqual(self.group()["TargetGroupARNs"], [arn])
        self.assertIn({"Identifier": arn, "Type": "elbv2"}, self.group()["TrafficSources"])
        self.scaling.detach_load_balancer_target_groups(AutoScalingGroupName="g", TargetGroupARNs=[arn])
        self.assertEqual(self.group()["TargetGroupARNs"], [])

    def test_a_classic_load_balancer_is_attached_and_its_draining_can_be_read(self) -> None:
        balancing = self.client("elb")
        listener = {"Protocol": "HTTP", "LoadBalancerPort": 80, "InstancePort": 80}
        balancing.create_load_balancer(LoadBalancerName="old", Listeners=[listener], AvailabilityZones=["us-west-2a"])
        draining = {"Enabled": True, "Timeout": 11}
        balancing.modify_load_balancer_attributes(
            LoadBalancerName="old", LoadBalancerAttributes={"ConnectionDraining": draining}
        )
        attributes = balancing.describe_load_balancer_attributes(LoadBalancerName="old")["LoadBalancerAttributes"]
        self.assertEqual(attributes["ConnectionDraining"], draining)
        self.scaling.attach_load_balancers(AutoScalingGroupName="g", LoadBalancerNames=["old"])
        self.assertEqual(self.group()["LoadBalancerNames"], ["old"])

    def test_an_unknown_group_is_refused(self) -> None:
        with self.assertRaises(self.scaling.exceptions.ClientError):
            self.scaling.attach_load_balancers(AutoScalingGroupName="nobody", LoadBalancerNames=["old"])


if __name__ == "__main__":
    unittest.main()
