"""What the programs in the containers of a start do. Seconds are those of real life; a `Clock` plays them faster.

    kube-proxy:  looks its Node up --(found, or given up)--> lists, first iptables-restore --> rules, healthy
    aws-node:    dials the Service's address --(in time)--> ENI, configuration --> healthy
                    '--(no rules when it dialled)--> time-out --> exits (<= 1.10), tries again, or goes on (>= 1.20)
    the waiter:  dials the address until it answers, then exits with 0

No time below is how long a node takes: that follows from who was started when and what was there then.
"""
from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..kube import Object

# kubernetes pkg/proxy up to 1.33, `getNodeIPs`: six tries; its jitter of up to a fifth is left out.
LOOKUP_SLEEPS = (1, 2, 4, 8, 16)
# 1.34 and later, cmd/kube-proxy: a look a second, for so many seconds.
LOOKUP_POLLS = 30
# Informers' first lists and the first full iptables-restore.
FIRST_SYNC = 4.0
# amazon-vpc-cni-k8s pkg/k8sapi, the client's time-out for /version; and the pause of those that try again.
VERSION_TIMEOUT, VERSION_PAUSE = 5.0, 2.0
# Since 1.20 it goes on without the API server after so long.
GOES_ON = 30.0
# An ENI attached, its addresses read, the CNI's configuration copied.
NETWORK_SETUP = 10.0
# `fastnode await`: one look into nothing, one run of iptables-save, and the time between two looks.
LOOK, SAVE, INTERVAL = 3.0, 0.1, 0.5

USAGE, START_OVER = 2, 75
# What the runtime reports for a program that the image does not hold.
START_ERROR = 128


class Exit(Exception):
    """A program ends."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


class Clock(Protocol):
    """Time as the programs know it."""

    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None:
        """Seconds of real life; raises where the pod goes meanwhile."""


@dataclass
class Machine:
    """A node as those on it find it."""

    node: str  # the Node's name
    host: str  # the host's own name, by the VPC's DHCP options
    ip: str
    service: str  # address of Service default/kubernetes
    is_node: Callable[[str], bool]  # whether the API server knows a Node by that name
    rules: bool = False  # the Services' rules are written; they outlive kube-proxy


@dataclass
class Process:
    """A container's program while it runs."""

    spec: Object
    pod_ip: str
    machine: Machine
    clock: Clock
    say: Callable[[str], None]
    serve: Callable[[], None]  # from now on its readiness probe succeeds

    @property
    def words(self) -> list[str]:
        """Its command line, with $(NAME) filled in as the kubelet does: what is not known stays as it is."""
        variables = self.environment()
        words = [*self.spec.get("command", []), *self.spec.get("args", [])]
        return [re.sub(r"\$\((\w+)\)", lambda m: variables.get(m[1], m[0]), word) for word in words]

    def environment(self) -> dict[str, str]:
        fields = {"spec.nodeName": self.machine.node, "status.hostIP": self.machine.ip, "status.podIP": self.pod_ip}
        found = {"KUBERNETES_SERVICE_HOST": self.machine.service, "KUBERNETES_SERVICE_PORT": "443"}
        for variable in self.spec.get("env", []):
            path = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath", "")
            found[variable["name"]] = variable.get("value") or fields.get(path, "")
        return found

    def option(self, name: str) -> str | None:
        """The value of `--name=value` or `--name value`."""
        words = self.words
        for index, word in enumerate(words):
            if word.startswith(name + "="):
                return word.partition("=")[2]
            if word == name and index + 1 < len(words):
                return words[index + 1]
        return None

    @property
    def version(self) -> tuple[int, int]:
        """(1, 33) of the image's tag v1.33.5-eksbuild.2."""
        found = re.search(r":v(\d+)\.(\d+)", self.spec["image"])
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def dial(self, timeout: float) -> bool:
        """Connects to the Service's address.

        A connection that began before the rules were written is lost: the kernel keeps it to the way it first took.
        """
        if self.machine.rules:
            return True
        self.clock.sleep(timeout)
        return False

    def klog(self, severity: str, place: str, text: str) -> None:
        now = self.clock.now()
        stamp = time.strftime("%m%d %H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}"
        self.say(f"{severity}{stamp}       1 {place}] {text}")

    def zap(self, level: str, caller: str, text: str) -> None:
        now = self.clock.now()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e3):03d}Z"
        self.say(json.dumps({"level": level, "ts": stamp, "caller": caller, "msg": text}))


Program = Callable[[Process], None]


def _not_found(name: str) -> str:
    return json.dumps(f'nodes "{name}" not found')


def _look_node_up(me: Process, name: str) -> bool:
    """As up to 1.33: sleeps that double between the tries."""
    for sleep in (*LOOKUP_SLEEPS, None):
        if me.machine.is_node(name):
            me.klog("I", "server.go:1062", f'"Successfully retrieved node IP(s)" IPs=["{me.machine.ip}"]')
            return True
        me.klog("E", "server.go:1051", f'"Failed to retrieve node info" err={_not_found(name)}')
        if sleep is not None:
            me.clock.sleep(sleep)
    return False


def _poll_for_node(me: Process, name: str) -> bool:
    """As since 1.34: a look a second."""
    for _ in range(LOOKUP_POLLS):
        if me.machine.is_node(name):
            me.klog("I", "node.go:120", f'"Successfully retrieved NodeIPs" NodeIPs=["{me.machine.ip}"]')
            return True
        me.clock.sleep(1)
    me.klog("E", "node.go:118", f'"Timed out waiting for node to exist" node="{name}" err={_not_found(name)}')
    return False


def kube_proxy(me: Process) -> None:
    """Until it knows its Node, or has given up, nothing else of it begins."""
    me.klog("I", "server_linux.go:53", '"Using iptables proxy"')
    name = me.option("--hostname-override") or me.machine.host
    found = _poll_for_node(me, name) if me.version >= (1, 34) else _look_node_up(me, name)
    if not found:
        text = "Can't determine this node's IP, assuming loopback; if this is incorrect, please set the --bind-address flag"
        me.klog("I", "server.go:682", f'"{text}"')
    me.klog("I", "config.go:199", '"Starting service config controller"')
    me.clock.sleep(FIRST_SYNC)
    me.klog("I", "shared_informer.go:320", "Caches are synced for service config")
    me.machine.rules = True
    me.serve()


def aws_node(me: Process) -> None:
    """Asks the API server for its version first, by the Service's address unless it is told the endpoint."""
    script = "entrypoint.sh"
    me.zap("info", script, "Install CNI binaries..")
    me.zap("info", script, "Starting IPAM daemon in the background ... ")
    me.zap("info", script, "Checking for IPAM connectivity ... ")
    _reach_api(me)
    me.clock.sleep(NETWORK_SETUP)
    me.zap("info", script, "Copying config file ... ")
    me.zap("info", script, "Successfully copied CNI plugin binary and config file.")
    me.zap("info", script, "Foregrounding IPAM daemon ...")
    me.serve()


def _reach_api(me: Process) -> None:
    told_endpoint = me.version >= (1, 12) and me.environment().get("CLUSTER_ENDPOINT")
    url = f"https://{me.machine.service}:443/version?timeout=5s"
    failure = f'Get "{url}": dial tcp {me.machine.service}:443: i/o timeout'
    me.zap("info", "k8sapi/k8sutils.go:122", "Testing communication with server")
    spent = 0.0
    while not (told_endpoint or me.dial(VERSION_TIMEOUT)):
        spent += VERSION_TIMEOUT
        if me.version < (1, 11):
            text = f"Unable to reach API Server: error communicating with apiserver: {failure}"
            me.zap("error", "aws-k8s-agent/main.go:28", text)
            raise Exit(1)
        me.zap("error", "k8sapi/k8sutils.go:130", f"Unable to reach API Server, {failure}")
        if me.version >= (1, 20) and spent >= GOES_ON:
            text = "Proceeding without API server connectivity, will retry in the background"
            me.zap("warn", "aws-k8s-agent/main.go:71", text)
            return
        me.clock.sleep(VERSION_PAUSE)
        spent += VERSION_PAUSE
    me.zap("info", "k8sapi/k8sutils.go:140", "Successful communication with the Cluster!")


def waiter(me: Process) -> None:
    """`fastnode await tcp HOST:PORT` and `await iptables RULE`: all that is waited for here are the Services' rules."""
    words = me.words[me.words.index("await") + 1 :]
    if words[:1] == ["iptables"]:
        goal, look = f"the iptables rule {json.dumps(words[1])}", SAVE
    elif words[:1] == ["tcp"]:
        address = next(word for word in words[1:] if not word.startswith("--"))
        if "$(" in address or address.startswith(":"):
            me.say("KUBERNETES_SERVICE_HOST is not there yet: exit 75, start me over")
            raise Exit(START_OVER)
        if address.rpartition(":")[0] != me.machine.service:
            me.say(f"error: nothing but {me.machine.service} is played here, and it waits for {address}")
            raise Exit(USAGE)
        goal, look = f"a connection to {address}", LOOK
    else:
        me.say(f"error: waiting for {' '.join(words)} is not played here")
        raise Exit(USAGE)
    began = me.clock.now()
    while not me.dial(look):
        me.say(f"waiting for {goal}, {me.clock.now() - began:.0f} s: no answer")
        me.clock.sleep(INTERVAL)
    me.say(f"{goal}: there after {me.clock.now() - began:.0f} s")
    raise Exit(0)


def prepares(me: Process) -> None:
    """An init container that has done its work as soon as it runs."""
    raise Exit(0)


def not_there(me: Process) -> None:
    """The runtime finds no such program in the image; nothing is written."""
    raise Exit(START_ERROR)


def serves(me: Process) -> None:
    """A program that needs nothing of its node."""
    me.serve()


def program(container: Object, init: bool) -> Program:
    """What a container runs, by its command and its image."""
    image = container["image"].rsplit(":", 1)[0]
    first = (container.get("command") or [""])[0]
    shell = first.rpartition("/")[2] in ("sh", "bash")
    # EKS's images of both hold no shell.
    if shell and image.endswith(("kube-proxy", "amazon-k8s-cni")) or first == "fastnode" and not image.endswith("/fastnode"):
        return not_there
    if "await" in [*container.get("command", []), *container.get("args", [])]:
        return waiter
    if init:
        return prepares
    if image.endswith("kube-proxy"):
        return kube_proxy
    return aws_node if image.endswith("amazon-k8s-cni") else serves
