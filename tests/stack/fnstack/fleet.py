"""A cluster's groups: made current, then left behind by a newer launch template."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import boto3

from .aws.identity import Principal
from .aws.model import Timings
from .aws.server import AwsServer
from .process import wait_until

OLD_IMAGE, NEW_IMAGE = "ami-0aaaaaaaaaaaaaaa1", "ami-0bbbbbbbbbbbbbbb2"
KUBELETS = {OLD_IMAGE: "v1.35.9-eks-113cf36", NEW_IMAGE: "v1.36.3-eks-3abbec1"}


@dataclass(frozen=True)
class FleetSpec:
    nodes: int = 20
    groups: int = 2
    zones: int = 3
    headroom: int = 4  # maximum above desired


@dataclass
class Fleet:
    """The groups of one cluster, by the AWS API as an administrator would make them."""

    aws: AwsServer
    admin: Principal
    cluster: str
    spec: FleetSpec
    names: list[str] = field(default_factory=list)

    def client(self, service: str) -> Any:
        return client(self.aws, self.admin, service)

    def create(self) -> None:
        """Launches the groups on version 1, fast: their start is nobody's subject."""
        ec2, scaling = self.client("ec2"), self.client("autoscaling")
        slow = self.aws.engine.timings
        self.aws.engine.timings = Timings(launch=(0.0, 0.2), boot=(0.0, 0.5), react=0.1)
        try:
            for index in range(self.spec.groups):
                self._create_group(ec2, scaling, index)
            wait_until("instances in service", self._in_service, 30)
        finally:
            self.aws.engine.timings = slow

    def _create_group(self, ec2: Any, scaling: Any, index: int) -> None:
        name = f"{self.cluster}-workers-{index + 1}"
        template = ec2.create_launch_template(
            LaunchTemplateName=name,
            LaunchTemplateData={"ImageId": OLD_IMAGE, "InstanceType": "m5.large"},
        )["LaunchTemplate"]
        share, rest = divmod(self.spec.nodes, self.spec.groups)
        size = share + (1 if index < rest else 0)
        subnets = list(self.aws.engine.subnet_zone)[: self.spec.zones]
        # Each way to name a version is used in turn.
        reference = {
            "LaunchTemplateId": template["LaunchTemplateId"],
            "Version": ["$Latest", "$Default"][index % 2],
        }
        tags = {
            f"kubernetes.io/cluster/{self.cluster}": "owned",
            "k8s.io/cluster-autoscaler/enabled": "true",
            "Name": name,
            "team": "shop",
        }
        scaling.create_auto_scaling_group(
            AutoScalingGroupName=name,
            MinSize=size if index % 2 == 0 else max(1, size // 2),
            MaxSize=size + self.spec.headroom,
            DesiredCapacity=size,
            VPCZoneIdentifier=",".join(subnets),
            LaunchTemplate=reference,
            Tags=[
                {
                    "ResourceId": name,
                    "ResourceType": "auto-scaling-group",
                    "Key": key,
                    "Value": value,
                    "PropagateAtLaunch": True,
                }
                for key, value in tags.items()
            ],
        )
        self.names.append(name)

    def _in_service(self) -> bool:
        groups = self.describe()
        return all(
            len(g["Instances"]) == g["DesiredCapacity"]
            and all(i["LifecycleState"] == "InService" for i in g["Instances"])
            for g in groups
        )

    def outdate(self) -> None:
        """A new version of every template with a new image: all instances are behind."""
        ec2 = self.client("ec2")
        for name in self.names:
            version = ec2.create_launch_template_version(
                LaunchTemplateName=name,
                LaunchTemplateData={"ImageId": NEW_IMAGE, "InstanceType": "m5.large"},
            )["LaunchTemplateVersion"]["VersionNumber"]
            ec2.modify_launch_template(LaunchTemplateName=name, DefaultVersion=str(version))

    def describe(self) -> list[dict[str, Any]]:
        scaling = self.client("autoscaling")
        return scaling.describe_auto_scaling_groups(AutoScalingGroupNames=self.names)["AutoScalingGroups"]

    def instances(self) -> dict[str, str]:
        """instance id -> group, of what is in service."""
        return {
            i["InstanceId"]: g["AutoScalingGroupName"]
            for g in self.describe()
            for i in g["Instances"]
            if i["LifecycleState"] == "InService"
        }

    def delete(self) -> None:
        ec2, scaling = self.client("ec2"), self.client("autoscaling")
        slow = self.aws.engine.timings
        self.aws.engine.timings = Timings(shutdown=(0.0, 0.2))
        for name in self.names:
            scaling.delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)
        wait_until("groups deleted", lambda: not any(n in self.aws.engine.groups for n in self.names), 30)
        self.aws.engine.timings = slow
        for name in self.names:
            ec2.delete_launch_template(LaunchTemplateName=name)


def client(aws: AwsServer, who: Principal, service: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=aws.url,
        region_name=aws.region,
        aws_access_key_id=who.access_key,
        aws_secret_access_key=who.secret_key,
        aws_session_token=who.token,
    )
