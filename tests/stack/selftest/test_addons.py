"""EKS add-ons: values are checked, merged into the manifest, and applied without taking what is others'."""
from __future__ import annotations

import json
import time
import unittest

from fnstack.aws.addons import Addons, rendered, without
from fnstack.aws.errors import AwsError
from fnstack.kube import Kube, KubeError
from fnstack.workloads import DAEMONS, daemonset

NETWORK = daemonset(next(daemon for daemon in DAEMONS if daemon.name == "aws-node"))
_FIELD = '.spec.template.spec.containers[name="aws-node"].env[name="WARM_ENI_TARGET"].value'


class Server:
    """Takes what is applied; refuses `conflicts` unless it is forced."""

    path = staticmethod(Kube.path)

    def __init__(self, conflicts: bool = False) -> None:
        self.conflicts = conflicts
        self.applied: list[dict] = []

    def request(self, method, path, body, params, content_type):
        fields = body["spec"]["template"]["spec"]["containers"][0].get("env", [])
        taken = any(v["name"] == "WARM_ENI_TARGET" and "value" in v for v in fields)
        if self.conflicts and taken and params["force"] == "false":
            raise KubeError(409, "Conflict", f'Apply failed with 1 conflict: conflict with "kubectl": {_FIELD}')
        self.applied.append(body)
        return body


def variables(manifest: dict) -> dict[str, str | None]:
    return {v["name"]: v.get("value") for v in manifest["spec"]["template"]["spec"]["containers"][0].get("env", [])}


class Case(unittest.TestCase):
    def addons(self, conflicts: bool = False) -> Addons:
        self.server = Server(conflicts)
        made = Addons(0.0)
        made.reach(self.server)
        made.install("c", "vpc-cni", {"v2": NETWORK, "v1": NETWORK}, "v1", '{"env": {"WARM_ENI_TARGET": "1"}}')
        return made

    def updated(self, addons: Addons, configuration: str | None = None, version: str | None = None, how: str = "PRESERVE"):
        update = addons.update(addons.find("c", "vpc-cni"), version, configuration, how)
        deadline = time.monotonic() + 5
        while update.status == "InProgress" and time.monotonic() < deadline:
            time.sleep(0.005)
        return update

    def test_values_go_into_the_manifest_whether_json_or_yaml(self):
        addons = self.addons()
        for text in ('{"env": {"ENABLE_POD_ENI": "true"}, "extraEnv": [{"name": "X", "value": "1"}]}',
                     "env: {ENABLE_POD_ENI: \"true\"}\nextraEnv: [{name: X, value: \"1\"}]"):
            self.assertEqual(self.updated(addons, text).status, "Successful")
            self.assertEqual(variables(self.server.applied[-1]), {"ENABLE_POD_ENI": "true", "X": "1"})
            self.assertEqual(addons.find("c", "vpc-cni").configuration, text)

    def test_values_that_the_schema_does_not_take_are_refused_at_once(self):
        addons = self.addons()
        for text in ('{"env": {"UNHEARD_OF": "1"}}', '{"initContainers": []}', "{"):
            with self.assertRaises(AwsError) as caught:
                addons.update(addons.find("c", "vpc-cni"), None, text, "PRESERVE")
            self.assertEqual(caught.exception.code, "InvalidParameterException")
        self.assertEqual(addons.find("c", "vpc-cni").status, "ACTIVE")
        self.assertEqual(len(self.server.applied), 1)

    def test_preserve_leaves_what_is_others_overwrite_takes_it_and_none_fails(self):
        addons = self.addons(conflicts=True)
        values = '{"env": {"WARM_ENI_TARGET": "2", "ENABLE_POD_ENI": "true"}}'
        self.assertEqual(self.updated(addons, values).status, "Successful")
        self.assertEqual(variables(self.server.applied[-1]), {"WARM_ENI_TARGET": None, "ENABLE_POD_ENI": "true"})
        self.assertEqual(self.updated(addons, values, how="OVERWRITE").status, "Successful")
        self.assertEqual(variables(self.server.applied[-1])["WARM_ENI_TARGET"], "2")
        before = addons.find("c", "vpc-cni").configuration
        failed = self.updated(addons, '{"env": {"WARM_ENI_TARGET": "3"}}', how="NONE")
        self.assertEqual((failed.status, failed.errors[0]["errorCode"]), ("Failed", "ConfigurationConflict"))
        self.assertEqual(addons.find("c", "vpc-cni").configuration, before)

    def test_versions_schema_and_what_is_not_there(self):
        addons = self.addons()
        listed = addons.versions("vpc-cni", "1.36")[0]["addonVersions"]
        defaults = {v["addonVersion"]: v["compatibilities"][0]["defaultVersion"] for v in listed}
        self.assertEqual(defaults, {"v2": True, "v1": False})
        self.assertEqual(self.updated(addons, version="v2").status, "Successful")
        self.assertEqual(addons.find("c", "vpc-cni").describe()["addonVersion"], "v2")
        self.assertFalse(json.loads(addons.schema("kube-proxy", "v1")["configurationSchema"])["additionalProperties"])
        addons.forget("c")
        with self.assertRaises(AwsError):
            addons.find("c", "vpc-cni")

    def test_a_field_is_left_out_by_its_path(self):
        body = rendered(NETWORK, {"env": {"WARM_ENI_TARGET": "1"}})
        self.assertEqual(variables(without(body, _FIELD)), {"WARM_ENI_TARGET": None})
        self.assertEqual(without(body, ".spec.nothing.of.it"), body)


if __name__ == "__main__":
    unittest.main()
