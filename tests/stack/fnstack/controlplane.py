"""etcd, kube-apiserver, controller-manager, scheduler and kwok on loopback.

The API server runs with RBAC on, a token webhook as its only way to know an EKS
token, and an audit log of everything an access entry's user asks for.
"""
from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from .kube import Credentials, Kube
from .pki import Authority, KeyPair, service_account_keys
from .process import Child, free_ports, stop_in_order, wait_until

# Every principal that comes in through an EKS token is put into this group, so
# that the audit policy can tell the program under test from the harness.
ACCESS_ENTRY_GROUP = "fnstack:access-entries"
# The program under test in a pod, by the shipped role's service account.
SERVICE_ACCOUNT = "system:serviceaccount:kube-system:fastnode"

# kube-system's own controllers need a kubelet's address only for logs; nodes carry
# kwok's as their ExternalIP, which leaves InternalIP free for a real-looking one.
_KUBELET_ADDRESS = "ExternalIP"


@dataclass
class ControlPlane:
    """Starts the five programs in order and stops them in the reverse."""

    bin: Path
    folder: Path
    webhook_url: str
    stages: list[dict] = field(default_factory=list)
    # False: etcd and the API server alone, which keep what they are given as it is.
    controllers: bool = True

    def __post_init__(self) -> None:
        self.authority = Authority(self.folder / "pki")
        self.logs = self.folder / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.audit_log = self.folder / "audit.jsonl"
        ports = free_ports(6)
        (self._etcd, self._etcd_peer, self.api_port, self._cm, self._scheduler) = ports[:5]
        self.kubelet_port = ports[5]
        self.server = f"https://127.0.0.1:{self.api_port}"
        self._children: dict[str, Child] = {}
        self.serving = self.authority.server("kube-apiserver")
        self._accounts = service_account_keys(self.folder / "pki")
        admin = self.authority.client("fnstack-admin", ("system:masters",))
        self.admin = self._client(admin)
        # The harness's own writers are named, so that an audit can tell them apart.
        self.bridge = self._client(self.authority.client("fnstack-bridge", ("system:masters",)))
        self.observer = self._client(self.authority.client("fnstack-observer", ("system:masters",)))

    def _client(self, pair: KeyPair) -> Kube:
        return Kube(Credentials(self.server, self.authority.cert_path, pair.cert, pair.key))

    def start(self) -> None:
        self._start_etcd()
        self._start_apiserver()
        wait_until("kube-apiserver ready", self._checked(self.admin.ready), 60)
        if self.controllers:
            self._start_clients()
        self.admin.write_kubeconfig(self.folder / "admin.kubeconfig")

    def stop(self) -> None:
        order = ["kwok", "kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd"]
        running = [self._children[n] for n in order if n in self._children]
        # Data is thrown away with the run, so nothing is worth a long goodbye.
        stop_in_order(running, grace=1.0)
        self._children.clear()
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)

    def crashed(self) -> str | None:
        """The name and last words of a program that ended by itself."""
        for child in self._children.values():
            code = child.exited()
            if code is not None:
                return f"{child.name} ended with {code}:\n{child.tail()}"
        return None

    def _checked(self, ready):
        def check() -> bool:
            crash = self.crashed()
            if crash:
                raise RuntimeError(crash)
            return ready()

        return check

    def _spawn(self, name: str, argv: list[str]) -> None:
        program = str(self.bin / name)
        self._children[name] = Child(name, [program, *argv], self.logs / f"{name}.log")

    def _start_etcd(self) -> None:
        client, peer = f"http://127.0.0.1:{self._etcd}", f"http://127.0.0.1:{self._etcd_peer}"
        self._spawn(
            "etcd",
            [
                f"--data-dir={self.folder / 'etcd'}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                "--unsafe-no-fsync",
                "--log-level=warn",
            ],
        )

    def _start_apiserver(self) -> None:
        webhook = self.folder / "token-webhook.yaml"
        webhook.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "aws", "cluster": {"server": self.webhook_url}}],
                    "users": [{"name": "apiserver", "user": {}}],
                    "contexts": [{"name": "webhook", "context": {"cluster": "aws", "user": "apiserver"}}],
                    "current-context": "webhook",
                }
            )
        )
        audit = self.folder / "audit-policy.yaml"
        audit.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "audit.k8s.io/v1",
                    "kind": "Policy",
                    "omitStages": ["RequestReceived"],
                    "rules": [
                        {"level": "Metadata", "userGroups": [ACCESS_ENTRY_GROUP]},
                        {"level": "Metadata", "users": [SERVICE_ACCOUNT]},
                        # When a pod is really gone, to the millisecond: the kubelet's
                        # last delete. Watches would tell it some time later.
                        {
                            "level": "Metadata",
                            "verbs": ["delete"],
                            "resources": [{"group": "", "resources": ["pods"]}],
                        },
                        # What a rotation waits for: pods that become Ready, budgets that
                        # open. The time of the write is that of the fact.
                        {
                            "level": "Request",
                            "verbs": ["update", "patch"],
                            "resources": [
                                {"group": "", "resources": ["pods/status", "nodes/status"]},
                                {"group": "policy", "resources": ["poddisruptionbudgets/status"]},
                            ],
                        },
                        # And taints that are lifted, and volume drivers that register.
                        {
                            "level": "Metadata",
                            "verbs": ["create", "update", "patch"],
                            "resources": [
                                {"group": "", "resources": ["nodes"]},
                                {"group": "storage.k8s.io", "resources": ["csinodes"]},
                            ],
                        },
                        {"level": "None"},
                    ],
                }
            )
        )
        self._spawn(
            "kube-apiserver",
            [
                f"--etcd-servers=http://127.0.0.1:{self._etcd}",
                "--bind-address=127.0.0.1",
                f"--secure-port={self.api_port}",
                f"--tls-cert-file={self.serving.cert}",
                f"--tls-private-key-file={self.serving.key}",
                f"--client-ca-file={self.authority.cert_path}",
                f"--service-account-key-file={self._accounts.cert}",
                f"--service-account-signing-key-file={self._accounts.key}",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--authorization-mode=Node,RBAC",
                "--service-cluster-ip-range=10.100.0.0/16",
                "--endpoint-reconciler-type=none",
                "--disable-admission-plugins=ServiceAccount",
                f"--authentication-token-webhook-config-file={webhook}",
                "--authentication-token-webhook-version=v1",
                "--authentication-token-webhook-cache-ttl=10s",
                f"--audit-policy-file={audit}",
                f"--audit-log-path={self.audit_log}",
                f"--kubelet-preferred-address-types={_KUBELET_ADDRESS}",
                "--profiling=false",
            ],
        )

    def _kubeconfig(self, user: str, groups: tuple[str, ...] = ()) -> Path:
        path = self.folder / f"{user.replace(':', '-')}.kubeconfig"
        self._client(self.authority.client(user, groups)).write_kubeconfig(path)
        return path

    def _start_clients(self) -> None:
        rates = ["--kube-api-qps=500", "--kube-api-burst=1000"]
        manager = self._kubeconfig("system:kube-controller-manager")
        self._spawn(
            "kube-controller-manager",
            [
                f"--kubeconfig={manager}",
                f"--authentication-kubeconfig={manager}",
                f"--authorization-kubeconfig={manager}",
                # Else every controller is forbidden by RBAC.
                "--use-service-account-credentials=true",
                # Not-ready:NoExecute comes and goes on this beat; by default every 5 s, which are
                # longer than all else that a new node here takes.
                "--node-monitor-period=200ms",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                f"--secure-port={self._cm}",
                f"--service-account-private-key-file={self._accounts.key}",
                f"--root-ca-file={self.authority.cert_path}",
                "--controllers=*,-nodeipam,-route,-service-lb-controller,-cloud-node-lifecycle",
                *rates,
            ],
        )
        scheduler = self._kubeconfig("system:kube-scheduler")
        self._spawn(
            "kube-scheduler",
            [
                f"--kubeconfig={scheduler}",
                f"--authentication-kubeconfig={scheduler}",
                f"--authorization-kubeconfig={scheduler}",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                f"--secure-port={self._scheduler}",
                *rates,
            ],
        )
        self._start_kwok()

    def _start_kwok(self) -> None:
        # A config file replaces kwok's defaults, so each of these must be said.
        config = {
            "apiVersion": "config.kwok.x-k8s.io/v1alpha1",
            "kind": "KwokConfiguration",
            "metadata": {"name": "kwok"},
            "options": {
                "manageAllNodes": True,
                "cidr": "10.64.0.0/10",
                "nodeLeaseDurationSeconds": 40,
                "nodeLeaseParallelism": 8,
                "nodePlayStageParallelism": 4,
                "podPlayStageParallelism": 16,
                "enableDebuggingHandlers": True,
            },
        }
        path = self.folder / "kwok.yaml"
        path.write_text("---\n".join(json.dumps(d) + "\n" for d in [config, *self.stages]))
        kubeconfig = self._kubeconfig("fnstack-kwok", ("system:masters",))
        self._spawn(
            "kwok",
            [
                f"--kubeconfig={kubeconfig}",
                f"--config={path}",
                "--node-ip=127.0.0.1",
                f"--node-port={self.kubelet_port}",
                f"--server-address=127.0.0.1:{self.kubelet_port}",
                f"--tls-cert-file={self.serving.cert}",
                f"--tls-private-key-file={self.serving.key}",
            ],
        )
