"""moto's request parsing and XML/JSON writing, with our answers in between.

moto keeps the wire format (from botocore's models), the launch templates and the
network; Auto Scaling, instances and EKS are answered here. Installed once, before
moto builds its applications.
"""
from __future__ import annotations

import base64
import functools
from typing import Any

import moto.autoscaling.urls
import moto.ec2.urls
import moto.eks.urls
import moto.sts.urls
from moto.core.responses import ActionResult, BaseResponse
from moto.ec2.models import ec2_backends
from moto.ec2.responses import EC2Response
from moto.sts.responses import TokenResponse
from moto.core.utils import camelcase_to_underscores

from .addons import Addon, Addons
from .engine import Engine
from .errors import AwsError, error_body
from .identity import Identities
from .model import ACCOUNT, Instance, utc
from .operations import OPERATIONS

_EC2_CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopped": 80}


class Clusters:
    """The EKS clusters of the account: every one is the same API server."""

    def __init__(self) -> None:
        self.by_name: dict[str, dict[str, Any]] = {}

    def add(self, name: str, endpoint: str, ca: bytes, version: str, region: str) -> None:
        self.by_name[name] = {
            "name": name,
            "arn": f"arn:aws:eks:{region}:{ACCOUNT}:cluster/{name}",
            "version": version,
            "endpoint": endpoint,
            "certificateAuthority": {"data": base64.b64encode(ca).decode()},
            "status": "ACTIVE",
            "platformVersion": "eks.1",
            "kubernetesNetworkConfig": {"serviceIpv4Cidr": "10.100.0.0/16", "ipFamily": "ipv4"},
            "resourcesVpcConfig": {"endpointPublicAccess": True, "endpointPrivateAccess": True},
            "accessConfig": {"authenticationMode": "API_AND_CONFIG_MAP"},
            "tags": {},
        }


def _guarded(service: str, function: Any) -> Any:
    """Turns an AwsError into the answer that the service would send."""

    @functools.wraps(function)
    def answer(self: BaseResponse) -> Any:
        try:
            return function(self)
        except AwsError as error:
            body, headers = error_body(service, error.code, error.message)
            return error.status, {"status": str(error.status), **dict(headers)}, body.decode()

    return answer


def _guard_all(service: str, cls: type[BaseResponse]) -> type[BaseResponse]:
    for name, value in list(vars(cls).items()):
        if callable(value) and not name.startswith("_"):
            setattr(cls, name, _guarded(service, value))
    return cls


def _autoscaling(engine: Engine) -> type[BaseResponse]:
    class AutoScaling(BaseResponse):
        def __init__(self) -> None:
            super().__init__(service_name="autoscaling")
            self.automated_parameter_parsing = True

    def method(function: Any) -> Any:
        def answer(self: BaseResponse) -> ActionResult:
            result = function(engine, dict(self.params))
            return ActionResult({k: v for k, v in result.items() if v is not None})

        return answer

    for name, function in OPERATIONS.items():
        setattr(AutoScaling, camelcase_to_underscores(name), method(function))
    return _guard_all("autoscaling", AutoScaling)


def describe_ec2(instance: Instance, region: str) -> dict[str, Any]:
    """One instance as DescribeInstances writes it; a terminated one has no addresses."""
    body: dict[str, Any] = {
        "InstanceId": instance.id,
        "ImageId": instance.image_id,
        "InstanceType": instance.type,
        "LaunchTime": utc(instance.launch_time),
        "Placement": {"AvailabilityZone": instance.zone, "Tenancy": "default", "GroupName": ""},
        "State": {"Name": instance.ec2, "Code": _EC2_CODES[instance.ec2]},
        "PrivateDnsName": "",
        "PublicDnsName": "",
        "Architecture": "x86_64",
        "Tags": [{"Key": k, "Value": v} for k, v in sorted(instance.tags.items())],
    }
    if instance.ec2 != "terminated":
        body["PrivateDnsName"] = instance.private_dns(region)
        body["PrivateIpAddress"] = instance.private_ip
        body["SubnetId"] = instance.subnet
    return body


def _ec2_filter(instance: Instance, region: str, wanted: dict[str, Any]) -> bool:
    name, values = wanted["Name"], wanted.get("Values", [])
    if name.startswith("tag:"):
        return instance.tags.get(name[4:]) in values
    fields = {
        "instance-id": instance.id,
        "instance-state-name": instance.ec2,
        "availability-zone": instance.zone,
        "private-dns-name": instance.private_dns(region),
        "image-id": instance.image_id,
        "instance-type": instance.type,
        "subnet-id": instance.subnet,
    }
    if name == "tag-key":
        return any(key in values for key in instance.tags)
    if name not in fields:
        raise AwsError("InvalidParameterValue", f"The filter '{name}' is invalid")
    return fields[name] in values


def _ec2(engine: Engine) -> type[BaseResponse]:
    class Ec2(EC2Response):
        def describe_instances(self) -> ActionResult:
            params = dict(self.params)
            wanted = params.get("InstanceIds") or []
            known = {i.id: i for i in engine.instances()}
            missing = [i for i in wanted if i not in known]
            if missing:
                many = len(missing) > 1
                raise AwsError(
                    "InvalidInstanceID.NotFound",
                    f"The instance ID{'s' if many else ''} '{', '.join(missing)}' do{'' if many else 'es'} not exist",
                )
            found = [known[i] for i in wanted] if wanted else list(known.values())
            for each in params.get("Filters") or []:
                found = [i for i in found if _ec2_filter(i, engine.region, each)]
            size = int(params.get("MaxResults") or 1000)
            start = int(params.get("NextToken") or 0)
            result: dict[str, Any] = {
                "Reservations": [
                    {
                        "ReservationId": "r-" + i.id[2:],
                        "OwnerId": ACCOUNT,
                        "Instances": [describe_ec2(i, engine.region)],
                    }
                    for i in found[start : start + size]
                ]
            }
            if start + size < len(found):
                result["NextToken"] = str(start + size)
            return ActionResult(result)

    return _guard_all("ec2", Ec2)


def _eks(clusters: Clusters, addons: Addons) -> type[BaseResponse]:
    class Eks(BaseResponse):
        def __init__(self) -> None:
            super().__init__(service_name="eks")
            self.automated_parameter_parsing = True

        def _cluster(self, member: str) -> dict[str, Any]:
            name = self._get_param(member)
            if name not in clusters.by_name:
                raise AwsError("ResourceNotFoundException", f"No cluster found for name: {name}.", 404)
            return clusters.by_name[name]

        def describe_cluster(self) -> ActionResult:
            return ActionResult({"cluster": self._cluster("name")})

        def list_clusters(self) -> ActionResult:
            return ActionResult({"clusters": sorted(clusters.by_name)})

        def _none(self, member: str) -> ActionResult:
            self._cluster("clusterName")
            return ActionResult({member: []})

        def list_nodegroups(self) -> ActionResult:
            return self._none("nodegroups")

        def list_addons(self) -> ActionResult:
            return ActionResult({"addons": addons.names(self._cluster("clusterName")["name"])})

        def list_insights(self) -> ActionResult:
            return self._none("insights")

        def list_access_entries(self) -> ActionResult:
            return self._none("accessEntries")

        def list_pod_identity_associations(self) -> ActionResult:
            return self._none("associations")

        def list_updates(self) -> ActionResult:
            self._cluster("name")
            return ActionResult({"updateIds": []})

        def describe_nodegroup(self) -> ActionResult:
            self._cluster("clusterName")
            raise AwsError("ResourceNotFoundException", "No node group found", 404)

        def _addon(self, cluster: str) -> Addon:
            return addons.find(self._cluster(cluster)["name"], self._get_param("addonName"))

        def describe_addon(self) -> ActionResult:
            return ActionResult({"addon": self._addon("clusterName").describe()})

        def describe_addon_configuration(self) -> ActionResult:
            return ActionResult(addons.schema(self._get_param("addonName"), self._get_param("addonVersion")))

        def describe_addon_versions(self) -> ActionResult:
            versions = addons.versions(self._get_param("addonName"), self._get_param("kubernetesVersion"))
            return ActionResult({"addons": versions})

        def update_addon(self) -> ActionResult:
            version, configuration = self._get_param("addonVersion"), self._get_param("configurationValues")
            conflicts = self._get_param("resolveConflicts") or "NONE"
            update = addons.update(self._addon("clusterName"), version, configuration, conflicts)
            return ActionResult({"update": update.describe()})

        def describe_update(self) -> ActionResult:
            cluster, wanted = self._cluster("name")["name"], self._get_param("updateId")
            name = self._get_param("addonName")
            found = addons.find(cluster, name).updates.get(wanted) if name else None
            if found is None:
                raise AwsError("ResourceNotFoundException", f"No update found for ID: {wanted}", 404)
            return ActionResult({"update": found.describe()})

    return _guard_all("eks", Eks)


def _sts(identities: Identities) -> type[BaseResponse]:
    class Sts(TokenResponse):
        def get_caller_identity(self) -> ActionResult:
            who = identities.find(self.get_access_key())
            assert who is not None  # the server refuses unknown keys before this
            return ActionResult({"UserId": who.user_id, "Account": ACCOUNT, "Arn": who.arn})

    return Sts


_EKS_PATHS = ("", "/node-groups", "/addons", "/insights", "/access-entries", "/updates", "/pod-identity-associations")


def install(engine: Engine, clusters: Clusters, identities: Identities, addons: Addons) -> None:
    """Puts our responses in the place of moto's."""
    moto.autoscaling.urls.url_paths = {"{0}/$": _autoscaling(engine).dispatch}
    moto.ec2.urls.url_paths = {"{0}/": _ec2(engine).dispatch}
    moto.sts.urls.url_paths = {"{0}/$": _sts(identities).dispatch}
    eks = _eks(clusters, addons)
    moto.eks.urls.url_paths = {"{0}/clusters$": eks.dispatch} | {
        "{0}/clusters/(?P<cluster>[^/]+)" + path + end: eks.dispatch
        for path in _EKS_PATHS
        for end in ("$", "/(?P<item>[^/]+)$")
        if not (path == "" and end != "$")
    }
    moto.eks.urls.url_paths |= {
        "{0}/addons/(?P<what>[^/]+)$": eks.dispatch,
        "{0}/clusters/(?P<cluster>[^/]+)/addons/(?P<item>[^/]+)/update$": eks.dispatch,
    }


class Network:
    """Launch templates and subnets, as moto's EC2 keeps them."""

    def __init__(self, region: str) -> None:
        self._backend = ec2_backends[ACCOUNT][region]

    def subnet_zones(self) -> dict[str, str]:
        return {
            subnet_id: zone
            for zone, by_id in self._backend.subnets.items()
            for subnet_id in by_id
        }

    def resolve(self, wanted: dict[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
        """A reference with $Latest or $Default -> the exact version and its data."""
        if wanted.get("LaunchTemplateId"):
            found = self._backend.describe_launch_templates(template_ids=[wanted["LaunchTemplateId"]])
        else:
            found = self._backend.describe_launch_templates(template_names=[wanted["LaunchTemplateName"]])
        if not found:
            raise AwsError("ValidationError", "The specified launch template does not exist")
        template = found[0]
        version = template.get_version(wanted.get("Version") or "$Default")
        reference = {
            "LaunchTemplateId": template.id,
            "LaunchTemplateName": template.name,
            "Version": str(version.number),
        }
        return reference, version.data
