"""Reaction times: each call is measured from the fact it answers to, and from no other."""
from __future__ import annotations

import unittest

from fnstack.figures import reactions
from fnstack.observer import checks, logs
from fnstack.observer.recorder import PodRecord


def pod(uid: str, kind: str = "ReplicaSet") -> PodRecord:
    return PodRecord(uid, "shop", f"web-{uid}", kind, "web", False, 10.0, node="node-1")


def eviction(name: str, time: float, status: int) -> logs.KubeRequest:
    return logs.KubeRequest(time, "fastnode", "create", "pods/eviction", "shop", name, status)


def budget(time: float, allowed: int, name: str = "web-budget") -> reactions.StatusWrite:
    return reactions.StatusWrite(time, "poddisruptionbudgets", "shop", name, {"disruptionsAllowed": allowed})


class Reactions(unittest.TestCase):
    def test_termination_answers_to_the_last_pod_that_a_drain_moves(self):
        call = logs.AwsCall(100.0, checks.TERMINATE, {"InstanceId": "i-1"}, 200, "")
        pods = [pod("a"), pod("b"), pod("c", "DaemonSet")]
        ends = {"a": 98.0, "b": 99.5, "c": 99.9}
        self.assertEqual(reactions.emptied_to_terminate([call], {"i-1": "node-1"}, pods, ends), [0.5])

    def test_a_cordon_answers_to_the_replacement_before_it_except_the_first(self):
        groups = {"canary": "g", "new": "g", "old-0": "g", "old-1": "g", "old-2": "g", "far": "h"}
        functional = {"canary": 50.0, "new": 60.0, "far": 60.5}
        cordons = {"old-0": 55.0, "old-1": 60.25, "old-2": 61.0}
        self.assertEqual(reactions.functional_to_cordon(functional, cordons, groups), [0.25])

    def opened(self, seen: list[reactions.StatusWrite], *asked: logs.KubeRequest) -> list[float]:
        names = {("shop", "web-a"): "web-budget", ("shop", "web-b"): "web-budget"}
        nodes = {("shop", "web-a"): "node-1", ("shop", "web-b"): "node-2"}
        cordons = {"node-1": 8.0, "node-2": 13.0}
        return reactions.opened_to_eviction(seen, list(asked), names, nodes, cordons)

    def test_an_eviction_answers_to_the_budget_that_opened_before_it(self):
        seen = [budget(9.0, 1), budget(11.0, 0), budget(12.0, 1), budget(12.2, 1), budget(12.3, 1, "other")]
        self.assertEqual(self.opened(seen, eviction("web-a", 10.0, 201), eviction("web-a", 12.5, 201)), [0.5])

    def test_an_eviction_from_a_node_cordoned_later_waited_for_something_else(self):
        seen = [budget(11.0, 0), budget(12.0, 1)]
        self.assertEqual(self.opened(seen, eviction("web-b", 13.5, 201)), [])

    def test_an_opening_that_shut_again_unused_is_not_answered(self):
        seen = [budget(11.0, 0), budget(12.0, 1), budget(12.1, 0), budget(14.0, 1)]
        self.assertEqual(self.opened(seen, eviction("web-a", 14.25, 201)), [0.25])

    def test_percentiles_are_values_that_were_seen(self):
        values = [float(n) for n in range(1, 201)]
        self.assertEqual([reactions.percentile(values, p) for p in (50, 99, 100)], [100.0, 198.0, 200.0])
        self.assertEqual(reactions.percentile([7.0], 99), 7.0)


if __name__ == "__main__":
    unittest.main()
