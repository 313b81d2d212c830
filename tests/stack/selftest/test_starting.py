"""How kube-proxy and aws-node start: what each does follows from its spec and from what is there."""
from __future__ import annotations

import unittest

from fnstack.starting import programs
from fnstack.starting.kubelet import Causes, Container, Run, _Pod
from fnstack.starting.logs import NoLog, written
from fnstack.starting.programs import Exit, Machine, Process

NODE = "ip-10-0-0-7.us-west-2.compute.internal"


class Clock:
    """Virtual seconds; `at` makes things happen on the way."""

    def __init__(self) -> None:
        self.time = 0.0
        self.at: list[tuple[float, object]] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        for due in [entry for entry in self.at if entry[0] <= self.time]:
            self.at.remove(due)
            due[1]()


class Case(unittest.TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.machine = Machine(NODE, "ip-10-0-0-7.corp.example", "10.0.0.7", "10.100.0.1", lambda name: name == NODE)
        self.lines: list[str] = []
        self.served: list[float] = []

    def process(self, spec: dict) -> Process:
        return Process(spec, "10.0.0.7", self.machine, self.clock, self.lines.append, lambda: self.served.append(self.clock.time))

    def play(self, spec: dict, init: bool = False) -> int | None:
        """Its exit code; None where it goes on."""
        try:
            programs.program(spec, init)(self.process(spec))
        except Exit as end:
            return end.code
        return None

    def rules_at(self, seconds: float) -> None:
        def write() -> None:
            self.machine.rules = True

        self.clock.at.append((seconds, write))

    def log(self) -> str:
        return "\n".join(self.lines)


def proxy(*flags: str, tag: str = "v1.32.9-eksbuild.2", env: bool = True) -> dict:
    variable = {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    return {
        "name": "kube-proxy",
        "image": f"example.com/eks/kube-proxy:{tag}",
        "command": ["kube-proxy", "--v=2", *flags],
        "env": [variable] if env else [],
    }


class KubeProxy(Case):
    def test_it_looks_up_the_hosts_name_and_gives_up_after_six_tries(self):
        self.assertIsNone(self.play(proxy()))
        self.assertEqual(self.log().count("Failed to retrieve node info"), 6)
        self.assertIn('nodes \\"ip-10-0-0-7.corp.example\\" not found', self.log())
        self.assertIn("assuming loopback", self.log())
        self.assertEqual(self.served, [31 + programs.FIRST_SYNC])
        self.assertTrue(self.machine.rules)

    def test_the_override_needs_its_variable(self):
        for flags in (["--hostname-override=$(NODE_NAME)"], ["--hostname-override", "$(NODE_NAME)"]):
            self.setUp()
            self.play(proxy(*flags))
            self.assertEqual(self.served, [programs.FIRST_SYNC])
        self.setUp()
        self.play(proxy("--hostname-override=$(NODE_NAME)", env=False))
        self.assertIn("$(NODE_NAME)", self.log())
        self.assertGreater(self.served[0], 30)

    def test_hosts_that_have_their_nodes_names_need_none(self):
        self.machine.host = NODE
        self.play(proxy())
        self.assertEqual(self.served, [programs.FIRST_SYNC])

    def test_newer_ones_poll_and_word_it_otherwise(self):
        self.play(proxy(tag="v1.34.1-eksbuild.1"))
        self.assertIn("Timed out waiting for node to exist", self.log())
        self.assertNotIn("Failed to retrieve node info", self.log())
        self.assertEqual(self.served, [30 + programs.FIRST_SYNC])


def network(tag: str, **env: str) -> dict:
    variables = [{"name": name, "value": value} for name, value in env.items()]
    return {"name": "aws-node", "image": f"example.com/amazon-k8s-cni:{tag}", "env": variables}


class AwsNode(Case):
    def test_an_old_one_exits_after_its_time_out(self):
        self.assertEqual(self.play(network("v1.10.4")), 1)
        self.assertEqual(self.clock.time, programs.VERSION_TIMEOUT)
        self.assertIn("dial tcp 10.100.0.1:443: i/o timeout", self.log())

    def test_a_dial_that_began_before_the_rules_is_lost(self):
        self.rules_at(0.5)
        self.assertEqual(self.play(network("v1.10.4")), 1)
        self.assertIsNone(self.play(network("v1.10.4")))
        self.assertEqual(self.served, [programs.VERSION_TIMEOUT + programs.NETWORK_SETUP])

    def test_newer_ones_try_again_and_the_newest_go_on_without(self):
        self.rules_at(60)
        self.assertIsNone(self.play(network("v1.16.0")))
        self.assertGreater(self.served[0], 60)
        self.setUp()
        self.assertIsNone(self.play(network("v1.20.4")))
        self.assertIn("Proceeding without API server connectivity", self.log())
        self.assertFalse(self.machine.rules)

    def test_one_that_is_told_the_endpoint_needs_no_rules(self):
        self.assertIsNone(self.play(network("v1.16.0", CLUSTER_ENDPOINT="https://a.test")))
        self.assertEqual(self.play(network("v1.10.4", CLUSTER_ENDPOINT="https://a.test")), 1)


def waiter(*words: str) -> dict:
    return {"name": "fastnode-wait-aws-node", "image": "example.com/fastnode:1", "command": ["fastnode", "await", *words]}


class Waiter(Case):
    def test_it_ends_once_the_rules_are_there(self):
        self.rules_at(12)
        address = "$(KUBERNETES_SERVICE_HOST):$(KUBERNETES_SERVICE_PORT)"
        self.assertEqual(self.play(waiter("tcp", address, "--timeout", "10m"), init=True), 0)
        self.assertGreaterEqual(self.clock.time, 12)
        self.assertLess(self.clock.time, 12 + programs.LOOK + programs.INTERVAL)
        self.assertIn("10.100.0.1:443: there", self.log())

    def test_rules_are_looked_for_more_often_and_a_fixed_address_is_the_same(self):
        for words in (["iptables", "-A KUBE-SERVICES"], ["tcp", "--fixed", "10.100.0.1:443"]):
            self.setUp()
            self.rules_at(2)
            self.assertEqual(self.play(waiter(*words), init=True), 0, words)

    def test_it_starts_over_without_an_address_and_refuses_what_is_not_played(self):
        self.machine.service = ""
        self.assertEqual(self.play(waiter("tcp", "$(KUBERNETES_SERVICE_HOST):443"), init=True), 75)
        self.machine.service = "10.100.0.1"
        self.assertEqual(self.play(waiter("tcp", "10.9.9.9:443"), init=True), 2)
        self.assertEqual(self.play(waiter("file", "/etc/x"), init=True), 2)

    def test_a_program_that_the_image_does_not_hold_never_starts(self):
        self.machine.rules = True
        strange = {**waiter("tcp", "10.100.0.1:443"), "image": "example.com/busybox:1"}
        self.assertEqual(self.play(strange, init=True), 128)
        shell = {"name": "wait", "image": "example.com/amazon-k8s-cni:v1.10.4", "command": ["/bin/sh", "-c", "true"]}
        self.assertEqual(self.play(shell, init=True), 128)

    def test_other_containers_just_run(self):
        self.assertEqual(self.play({"name": "aws-vpc-cni-init", "image": "example.com/amazon-k8s-cni-init:v1"}, init=True), 0)
        self.assertIsNone(self.play({"name": "agent", "image": "example.com/agent"}))


class Status(unittest.TestCase):
    def container(self, *runs: Run, init: bool = False, waits: str = "", probe: bool = True) -> Container:
        spec = {"name": "aws-node", "image": "x", **({"readinessProbe": {}} if probe else {})}
        return Container(spec, init, waits, list(runs))

    def test_a_probe_decides_over_readiness_where_there_is_one(self):
        self.assertFalse(self.container(Run(1.0)).ready)
        self.assertTrue(self.container(Run(1.0, served=True)).ready)
        self.assertTrue(self.container(Run(1.0), probe=False).ready)
        self.assertTrue(self.container(Run(1.0, 2.0, 0), init=True).ready)
        self.assertFalse(self.container(Run(1.0, 2.0, 75), init=True).ready)

    def test_back_off_shows_the_last_run_and_a_new_one_counts(self):
        back_off = self.container(Run(1.0, 2.0, 1), Run(3.0, 4.0, 1), waits="CrashLoopBackOff").status()
        self.assertEqual(back_off["state"], {"waiting": {"reason": "CrashLoopBackOff"}})
        self.assertEqual(back_off["lastState"]["terminated"]["startedAt"], "1970-01-01T00:00:03Z")
        self.assertEqual(back_off["restartCount"], 1)
        again = self.container(Run(1.0, 2.0, 1), Run(3.0, 4.0, 1), Run(9.0)).status()
        self.assertEqual(again["restartCount"], 2)
        self.assertEqual(again["state"], {"running": {"startedAt": "1970-01-01T00:00:09Z"}})
        self.assertEqual(again["lastState"]["terminated"]["exitCode"], 1)

    def test_what_has_not_run_has_no_last_state(self):
        fresh = self.container(waits="PodInitializing").status()
        self.assertEqual((fresh["restartCount"], fresh["lastState"], fresh["started"]), (0, {}, False))


class _NoKubelet:
    causes = Causes()


class Logs(unittest.TestCase):
    LINES = [(0.25, "one"), (1.5, "two"), (2.0, "three")]

    def test_lines_are_cut_and_stamped_as_asked(self):
        self.assertEqual(written(self.LINES, {"tailLines": "2"}), b"two\nthree\n")
        self.assertEqual(written(self.LINES, {"limitBytes": "5"}), b"one\nt")
        stamped = written(self.LINES, {"timestamps": "true", "tailLines": "1"})
        self.assertEqual(stamped, b"1970-01-01T00:00:02.000000000Z three\n")

    def test_current_and_previous_are_the_kubelets(self):
        body = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "x"}]}}
        pod = _Pod(_NoKubelet(), body)
        with self.assertRaises(NoLog):
            pod.lines("a", False)
        pod.works[0].waits, pod.works[0].runs = "", [Run(1.0, 2.0, 1, lines=[(1.0, "old")]), Run(3.0, lines=[(3.0, "new")])]
        self.assertEqual(pod.lines("a", False), [(3.0, "new")])
        self.assertEqual(pod.lines("a", True), [(1.0, "old")])
        pod.works[0].runs.pop()
        with self.assertRaises(NoLog):
            pod.lines("a", True)
        pod.works[0].waits = "CrashLoopBackOff"
        self.assertEqual(pod.lines("a", True), [(1.0, "old")])


if __name__ == "__main__":
    unittest.main()
