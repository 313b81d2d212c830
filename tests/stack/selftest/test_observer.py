"""The observer's checks: each clause must fail for its own reason, and only then."""
from __future__ import annotations

import unittest

from fnstack.observer import checks, logs
from fnstack.observer.recorder import Capacity, NodeState, PodRecord, Recorder


def pod(uid: str, **more) -> PodRecord:
    base = {
        "uid": uid,
        "namespace": "shop",
        "name": f"web-{uid}",
        "owner_kind": "ReplicaSet",
        "owner_name": "web",
        "mirror": False,
        "created": 10.0,
        "node": "node-1",
        "bound": 11.0,
    }
    return PodRecord(**{**base, **more})


def terminate(instance: str, time: float = 100.0, status: int = 200) -> logs.AwsCall:
    return logs.AwsCall(time, checks.TERMINATE, {"InstanceId": instance}, status, "")


def request(verb: str, resource: str, name: str, time: float, status: int = 200) -> logs.KubeRequest:
    return logs.KubeRequest(time, "fastnode", verb, resource, "shop", name, status)


NODES = {"i-1": "node-1", "i-2": "node-2"}


class Renewed(unittest.TestCase):
    def functional(self, *renewed: str) -> bool:
        recorder = Recorder(None, {"kube-proxy", "aws-node"}, lambda _: "g", frozenset(renewed))
        recorder.pods = {"n": pod("n", owner_kind="DaemonSet", owner_name="aws-node")}
        return recorder._functional(NodeState(ready=True, daemons={"n": True}, seen={"kube-proxy"}))

    def test_a_pod_that_is_renewed_in_place_is_no_dip_where_the_run_may_do_so(self):
        self.assertFalse(self.functional())
        self.assertFalse(self.functional("aws-node"))
        self.assertTrue(self.functional("kube-proxy"))


class Undrained(unittest.TestCase):
    def check(self, *pods: PodRecord, call: logs.AwsCall | None = None, requests=()) -> list[str]:
        ends = checks.pod_ends(pods, requests)
        return checks.undrained(checks.terminations([call or terminate("i-1")]), NODES, list(pods), ends)

    def test_a_pod_left_on_the_node_is_named(self):
        found = self.check(pod("a"))
        self.assertEqual(len(found), 1)
        self.assertIn("shop/web-a", found[0])
        self.assertIn("node-1", found[0])

    def test_a_pod_that_is_terminating_is_still_left(self):
        self.assertTrue(self.check(pod("a", gone=101.5)))

    def test_a_pod_gone_before_is_not(self):
        self.assertEqual(self.check(pod("a", gone=99.0)), [])

    def test_the_audit_log_decides_where_the_watch_was_late(self):
        late = pod("a", gone=100.4)
        self.assertTrue(self.check(late))
        self.assertEqual(self.check(late, requests=[request("delete", "pods", "web-a", 99.9)]), [])

    def test_daemons_mirrors_finished_and_later_pods_do_not_count(self):
        self.assertEqual(
            self.check(
                pod("d", owner_kind="DaemonSet"),
                pod("m", mirror=True),
                pod("f", finished=50.0),
                pod("l", bound=100.5),
                pod("o", node="node-2"),
            ),
            [],
        )

    def test_a_refused_call_is_no_termination(self):
        self.assertEqual(self.check(pod("a"), call=terminate("i-1", status=400)), [])

    def test_a_replacement_that_never_registered_has_no_node_to_drain(self):
        self.assertEqual(self.check(pod("a"), call=terminate("i-unknown")), [])


class Instances(unittest.TestCase):
    def test_exactly_the_outdated_ones(self):
        self.assertEqual(checks.wrong_instances([terminate("i-1"), terminate("i-2")], {"i-1", "i-2"}), [])

    def test_one_forgotten_one_too_many_one_twice(self):
        found = checks.wrong_instances([terminate("i-1"), terminate("i-1"), terminate("i-9")], {"i-1", "i-2"})
        self.assertEqual(len(found), 3)
        self.assertTrue(any("i-2 is outdated and was not terminated" in f for f in found))
        self.assertTrue(any("i-9 terminated though it is not outdated" in f for f in found))
        self.assertTrue(any("i-1 terminated 2 times" in f for f in found))

    def test_extra_ends_are_for_current_instances_only(self):
        calls = [terminate("i-new"), terminate("i-old")]
        found = checks.wrong_instances(calls, set(), extra_ends=2, outdated={"i-old"})
        self.assertEqual(found, ["i-old was not to be terminated"])

    def test_what_the_group_ends_by_itself_is_found(self):
        event = {"event": "terminating", "instance": "i-1", "group": "g", "by": "rebalance"}
        self.assertEqual(len(checks.taken_by_group([event], {"g"})), 1)
        self.assertEqual(checks.taken_by_group([{**event, "by": "user"}], {"g"}), {})
        self.assertEqual(checks.taken_by_group([event], {"other"}), {})


class Dips(unittest.TestCase):
    def series(self, *points: tuple[float, int, int]) -> list[Capacity]:
        return [Capacity(*p) for p in points]

    def test_a_lasting_dip_is_found_with_its_length_and_depth(self):
        series = self.series((0, 3, 3), (10, 2, 2), (14, 3, 3))
        self.assertEqual(checks.dips(series, 3, 5, 20, uncordoned=False), [(10, 4, 2)])

    def test_a_flicker_between_two_watches_is_none(self):
        series = self.series((0, 3, 3), (10, 2, 2), (10.3, 3, 3))
        self.assertEqual(checks.dips(series, 3, 5, 20, uncordoned=False), [])

    def test_a_dip_that_lasts_until_the_end_counts(self):
        series = self.series((0, 3, 3), (15, 2, 2))
        self.assertEqual(checks.dips(series, 3, 5, 20, uncordoned=False), [(15, 5, 2)])

    def test_what_was_low_before_the_run_counts_from_its_start(self):
        series = self.series((0, 2, 2), (8, 3, 3))
        self.assertEqual(checks.dips(series, 3, 5, 20, uncordoned=False), [(5, 3, 2)])

    def test_cordoned_nodes_count_in_one_clause_and_not_in_the_other(self):
        series = self.series((0, 3, 3), (10, 3, 2), (14, 3, 3))
        self.assertEqual(checks.dips(series, 3, 5, 20, uncordoned=False), [])
        self.assertEqual(checks.dips(series, 3, 5, 20, uncordoned=True), [(10, 4, 2)])


class Moves(unittest.TestCase):
    def test_a_replacement_that_is_evicted_again_moved_twice(self):
        first, second = pod("a", created=10, gone=50.0), pod("b", created=51, gone=90.0)
        requests = [
            request("create", "pods/eviction", "web-a", 45, 201),
            request("create", "pods/eviction", "web-b", 85, 429),
            request("create", "pods/eviction", "web-b", 86, 201),
        ]
        ends = checks.pod_ends([first, second], requests)
        evicted = checks.evicted_pods([first, second], requests, ends)
        self.assertEqual(checks.moves(evicted, start=30), (1, 1))

    def test_a_stateful_pod_of_the_same_name_is_another_one(self):
        old, new = pod("a", name="db-0", created=10, gone=50.0), pod("b", name="db-0", created=50.5)
        requests = [request("create", "pods/eviction", "db-0", 45, 201)]
        ends = checks.pod_ends([old, new], requests)
        self.assertEqual([p.uid for p in checks.evicted_pods([old, new], requests, ends)], ["a"])

    def test_one_eviction_a_pod_is_free_and_retries_are_not(self):
        requests = [
            request("list", "pods", "", 1),
            request("watch", "nodes", "", 1),
            request("update", "leases", "fastnode", 1),
            request("create", "pods/eviction", "web-a", 2, 429),
            request("create", "pods/eviction", "web-a", 3, 201),
            request("patch", "nodes", "node-1", 4),
        ]
        self.assertEqual(logs.chargeable(requests, evicted=1), 2)


class EndState(unittest.TestCase):
    GROUP = {
        "AutoScalingGroupName": "g",
        "DesiredCapacity": 3,
        "MinSize": 1,
        "MaxSize": 5,
        "NewInstancesProtectedFromScaleIn": False,
        "LaunchTemplate": {"Version": "$Latest"},
        "Tags": [{"Key": "team", "Value": "shop", "PropagateAtLaunch": True}],
        "SuspendedProcesses": [],
        "Instances": [],
        "AvailabilityZones": ["a", "b"],
    }

    def changed(self, **more) -> list[str]:
        return checks.group_changes(self.GROUP, {**self.GROUP, **more})

    def test_the_same_is_no_change(self):
        self.assertEqual(self.changed(), [])

    def test_each_setting_that_differs_is_named(self):
        self.assertIn("DesiredCapacity was 3, is 4", self.changed(DesiredCapacity=4)[0])
        self.assertIn("MaxSize", self.changed(MaxSize=9)[0])
        tag = {"Key": "fastnode:surge", "Value": "1", "PropagateAtLaunch": False}
        self.assertIn("fastnode:surge", self.changed(Tags=[*self.GROUP["Tags"], tag])[0])
        self.assertIn("AZRebalance", self.changed(SuspendedProcesses=[{"ProcessName": "AZRebalance"}])[0])
        kept = {"InstanceId": "i-1", "ProtectedFromScaleIn": True}
        self.assertIn("i-1", self.changed(Instances=[kept])[0])

    def test_zones_may_differ_by_one(self):
        def group(*zones: str):
            rows = [{"AvailabilityZone": z, "LifecycleState": "InService"} for z in zones]
            return {**self.GROUP, "Instances": rows}

        self.assertEqual(checks.unbalanced(group("a", "a", "b")), [])
        self.assertEqual(len(checks.unbalanced(group("a", "a"))), 1)

    def test_marks_cordons_and_locks_that_stay_are_found(self):
        node = {
            "metadata": {"name": "n", "annotations": {"fastnode.dev/state": "draining"}, "labels": {}},
            "spec": {
                "unschedulable": True,
                "taints": [{"key": "fastnode.dev/outdated", "effect": "PreferNoSchedule"}],
            },
        }
        found = checks.leftovers([node], [("Lease", "fastnode"), ("ConfigMap", "fastnode-1"), ("ConfigMap", "x")])
        self.assertEqual(len(found), 4)
        clean = {"metadata": {"name": "n"}, "spec": {}}
        self.assertEqual(checks.leftovers([clean], [("ConfigMap", "fastnode-1")]), [])


if __name__ == "__main__":
    unittest.main()
