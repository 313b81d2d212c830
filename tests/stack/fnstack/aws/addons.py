"""EKS add-ons: what EKS keeps of them, and what it applies to the cluster when they change.

EKS renders an add-on's manifest from its version and configuration values, and applies it server-side as `eks`. With
PRESERVE it leaves fields alone that somebody else has taken over; with OVERWRITE it takes them back; with NONE the
update fails.
"""
from __future__ import annotations

import copy
import json
import re
import threading
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import jsonschema
import yaml

from ..kube import Kube, KubeError, Object
from .errors import AwsError
from .model import ACCOUNT

_MANAGER = "eks"
_STRING = {"type": "string"}
_OBJECT = {"type": "object"}
# Of every add-on's configuration, as far as it is rendered here.
_COMMON = {"podAnnotations": _OBJECT, "podLabels": _OBJECT, "resources": _OBJECT}
# Variables that the VPC CNI's closed `env` knows; others go into the list beside it.
_VARIABLES = ("AWS_VPC_K8S_CNI_LOGLEVEL", "CLUSTER_ENDPOINT", "ENABLE_POD_ENI", "ENABLE_PREFIX_DELEGATION", "WARM_ENI_TARGET")


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


SCHEMAS: dict[str, dict[str, Any]] = {
    # It takes neither arguments nor variables; `mode` and `ipvs` go into its ConfigMap, which nobody reads here.
    "kube-proxy": _closed({**_COMMON, "mode": {"enum": ["iptables", "ipvs", "nftables"]}, "ipvs": _OBJECT}),
    "vpc-cni": _closed(
        {
            **_COMMON,
            "env": {"$ref": "#/definitions/Env"},
            "extraEnv": {"type": "array", "items": {"type": "object", "required": ["name", "value"]}},
        }
    )
    | {"definitions": {"Env": _closed(dict.fromkeys(_VARIABLES, _STRING))}},
}


@dataclass
class Update:
    """A change of an add-on under way, or done."""

    kind: str
    params: dict[str, str]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = "InProgress"
    errors: list[dict[str, str]] = field(default_factory=list)
    created: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    def describe(self) -> dict[str, Any]:
        params = [{"type": kind, "value": value} for kind, value in self.params.items()]
        found = {"id": self.id, "status": self.status, "type": self.kind, "params": params}
        return {**found, "createdAt": self.created, "errors": self.errors}


@dataclass
class Addon:
    """One that EKS manages in a cluster; `manifests` is what each version applies, the default first."""

    cluster: str
    name: str
    manifests: dict[str, Object]
    version: str
    configuration: str = ""
    status: str = "ACTIVE"
    updates: dict[str, Update] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "addonName": self.name,
            "clusterName": self.cluster,
            "status": self.status,
            "addonVersion": self.version,
            "addonArn": f"arn:aws:eks:us-west-2:{ACCOUNT}:addon/{self.cluster}/{self.name}/fnstack",
            "health": {"issues": []},
        }
        return {**found, **({"configurationValues": self.configuration} if self.configuration else {})}


def rendered(manifest: Object, values: dict[str, Any]) -> Object:
    """The manifest with the configuration values in it."""
    body = copy.deepcopy(manifest)
    template = body["spec"]["template"]
    main = template["spec"]["containers"][0]
    variables = {v["name"]: v for v in main.get("env", [])}
    variables |= {name: {"name": name, "value": value} for name, value in values.get("env", {}).items()}
    variables |= {v["name"]: v for v in values.get("extraEnv", [])}
    if variables:
        main["env"] = list(variables.values())
    if "resources" in values:
        main["resources"] = values["resources"]
    for key, of in (("podAnnotations", "annotations"), ("podLabels", "labels")):
        template["metadata"].setdefault(of, {}).update(values.get(key, {}))
    return body


def without(manifest: Object, path: str) -> Object:
    """The manifest without a field: `.spec.template.spec.containers[name="aws-node"].env[name="A"].value`."""
    body = copy.deepcopy(manifest)
    at: Any = body
    steps = re.findall(r'\.(\w+)|\[(\w+)="([^"]*)"\]', path)
    for index, (name, key, value) in enumerate(steps):
        last = index + 1 == len(steps)
        if name:
            found = at.get(name)
            if last:
                at.pop(name, None)
        else:
            found = next((item for item in at if item.get(key) == value), None)
            if last and found is not None:
                at.remove(found)
        if found is None:
            break
        at = found
    return body


class Addons:
    """The account's add-ons; an update takes `seconds`."""

    def __init__(self, seconds: float = 0.5) -> None:
        self.seconds = seconds
        self._lock = threading.RLock()
        self._all: dict[tuple[str, str], Addon] = {}
        self._kube: Kube | None = None

    def reach(self, kube: Kube) -> None:
        """Where add-ons are applied."""
        self._kube = kube

    def install(self, cluster: str, name: str, manifests: dict[str, Object], version: str, configuration: str = "") -> None:
        """As if it had been there for long: in its manifest's place, owned by EKS."""
        addon = Addon(cluster, name, manifests, version, configuration)
        self._apply(addon, "OVERWRITE")
        with self._lock:
            self._all[cluster, name] = addon

    def forget(self, cluster: str) -> None:
        with self._lock:
            self._all = {key: addon for key, addon in self._all.items() if key[0] != cluster}

    def find(self, cluster: str, name: str) -> Addon:
        with self._lock:
            found = self._all.get((cluster, name))
        if found is None:
            raise AwsError("ResourceNotFoundException", f"No addon: {name} found in cluster: {cluster}", 404)
        return found

    def names(self, cluster: str) -> list[str]:
        with self._lock:
            return sorted(name for of, name in self._all if of == cluster)

    def schema(self, name: str, version: str) -> dict[str, Any]:
        if name not in SCHEMAS:
            raise AwsError("ResourceNotFoundException", f"No addon: {name}", 404)
        return {"addonName": name, "addonVersion": version, "configurationSchema": json.dumps(SCHEMAS[name])}

    def versions(self, name: str | None, kubernetes: str) -> list[dict[str, Any]]:
        with self._lock:
            known = {addon.name: addon for addon in self._all.values() if name in (None, addon.name)}
        return [
            {
                "addonName": addon.name,
                "type": "networking",
                "addonVersions": [
                    {
                        "addonVersion": version,
                        "compatibilities": [{"clusterVersion": kubernetes, "defaultVersion": index == 0}],
                    }
                    for index, version in enumerate(addon.manifests)
                ],
            }
            for addon in known.values()
        ]

    def update(self, addon: Addon, version: str | None, configuration: str | None, conflicts: str) -> Update:
        """Begins an update; values that the schema does not take are refused at once."""
        if version is not None and version not in addon.manifests:
            raise AwsError("InvalidParameterException", f"Addon version specified is not supported: {version}")
        if configuration is not None:
            _check(addon.name, configuration)
        given = {"AddonVersion": version, "ConfigurationValues": configuration, "ResolveConflicts": conflicts}
        update = Update("AddonUpdate", {kind: value for kind, value in given.items() if value is not None})
        with self._lock:
            if addon.status == "UPDATING":
                raise AwsError("ResourceInUseException", f"Addon {addon.name} cannot be updated as it is in state UPDATING", 409)
            addon.status = "UPDATING"
            addon.updates[update.id] = update
        timer = threading.Timer(self.seconds, self._finish, (addon, update, version, configuration, conflicts))
        timer.daemon = True
        timer.start()
        return update

    def _finish(self, addon: Addon, update: Update, version: str | None, configuration: str | None, conflicts: str) -> None:
        before = addon.version, addon.configuration
        addon.version = addon.version if version is None else version
        addon.configuration = addon.configuration if configuration is None else configuration
        try:
            self._apply(addon, conflicts)
            addon.status, update.status = "ACTIVE", "Successful"
        except KubeError as error:
            addon.version, addon.configuration = before
            code = "ConfigurationConflict" if error.status == 409 else "Unknown"
            update.errors = [{"errorCode": code, "errorMessage": str(error)}]
            addon.status, update.status = "UPDATE_FAILED", "Failed"

    def _apply(self, addon: Addon, conflicts: str) -> None:
        assert self._kube is not None  # the stack says where before anything is installed
        body = rendered(addon.manifests[addon.version], _values(addon.configuration))
        path = self._kube.path(body["kind"], body["metadata"]["namespace"], body["metadata"]["name"])
        params = {"fieldManager": _MANAGER, "force": str(conflicts == "OVERWRITE").lower()}
        while True:
            try:
                self._kube.request("PATCH", path, body, params, "application/apply-patch+yaml")
                return
            except KubeError as error:
                taken = re.findall(r"(\.(?:spec|metadata)[^\s,]*)", str(error)) if error.status == 409 else []
                if conflicts != "PRESERVE" or not taken:
                    raise
                for field_path in taken:
                    body = without(body, field_path)


def _values(configuration: str) -> dict[str, Any]:
    """Configuration values as they were given: JSON or YAML."""
    return yaml.safe_load(configuration) or {}


def _check(name: str, configuration: str) -> None:
    head = "ConfigurationValue provided in request is not supported"
    try:
        jsonschema.validate(_values(configuration), SCHEMAS[name])
    except yaml.YAMLError as error:
        raise AwsError("InvalidParameterException", f"{head}: {error}") from error
    except jsonschema.ValidationError as error:
        why = f"Json schema validation failed with error: [{error.json_path}: {error.message}]"
        raise AwsError("InvalidParameterException", f"{head}: {why}") from error
