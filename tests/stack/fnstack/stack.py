"""The whole stack, assembled, and the clusters that live on it one after another."""
from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from . import access, workloads
from .aws.identity import Principal
from .aws.model import Timings
from .aws.server import AwsServer
from .bridge import Bridge, BridgeOptions, node_ready
from .controlplane import ACCESS_ENTRY_GROUP, ControlPlane
from .eks_token import AccessEntry, TokenWebhook, canonical_arn
from .fleet import KUBELETS, Fleet, FleetSpec
from .injector import Injector
from .process import wait_until
from .starting.kubelet import Causes, Kubelet

REPOSITORY = Path(__file__).resolve().parents[3]
REGION = "us-west-2"
_STAGES = Path(__file__).with_name("stages.yaml")


@dataclass
class Settings:
    bin: Path
    timings: Timings = field(default_factory=Timings)
    rbac: Path | None = None
    startup_taints: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None  # kept if given; else temporary and removed
    keep: bool = False
    # False: no controllers, kubelets or bridge; what is written stays as it is.
    controllers: bool = True
    seed: int = 1


class Stack:
    """`with Stack(settings) as stack:` — everything is taken down on the way out."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.folder or Path(tempfile.mkdtemp(prefix="fastnode-stack-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.aws = AwsServer(self.folder, settings.timings, REGION, settings.seed)
        self.webhook = TokenWebhook(self.aws.identities, REGION, ACCESS_ENTRY_GROUP)
        stages = [d for d in yaml.safe_load_all(_STAGES.read_text()) if d]
        self.plane = ControlPlane(settings.bin, self.folder, self.webhook.url, stages, settings.controllers)
        self.admin = self.aws.identities.add("administrator")
        self.bridge = Bridge(
            self.aws.engine,
            self.plane.bridge,
            BridgeOptions(
                self.plane.kubelet_port, REGION, kubelets=KUBELETS, startup_taints=settings.startup_taints
            ),
        )
        self.injector = Injector(self.plane.bridge)
        self.bridge.on_join.append(lambda name, _: self.injector.node_joined(name))
        self.aws.addons.reach(self.plane.bridge)
        self.rbac = access.role_file(REPOSITORY, settings.rbac)
        self._started: list = []

    def __enter__(self) -> Stack:
        try:
            for part in (self.aws, self.webhook, self.plane):
                self._started.append(part)
                part.start()
            self.fastnode = self.principal("fastnode")
            workloads.install_daemons(self.plane.admin)
            for part in (self.injector, self.bridge) if self.settings.controllers else ():
                self._started.append(part)
                part.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for part in reversed(self._started):
            part.stop()
        self._started.clear()
        if self.settings.folder is None and not self.settings.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    # -- principals -------------------------------------------------------------

    def principal(
        self,
        name: str,
        *,
        without: tuple[str, str] | None = None,
        entry: bool = True,
        temporary: bool = False,
        expired: bool = False,
    ) -> Principal:
        """AWS credentials with an access entry bound to the shipped role, and no more."""
        who = self.aws.identities.add(name, temporary=temporary, expired=expired)
        if entry:
            group = f"fnstack:{name}"
            access.grant(self.plane.admin, self.rbac, group, without)
            self.webhook.entries.append(AccessEntry(canonical_arn(who.arn), (group,)))
        return who

    def environment(self, who: Principal) -> dict[str, str]:
        """What a user exports to run fastnode against this stack."""
        values = {
            "AWS_ENDPOINT_URL": self.aws.url,
            "AWS_ACCESS_KEY_ID": who.access_key,
            "AWS_SECRET_ACCESS_KEY": who.secret_key,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        if who.token:
            values["AWS_SESSION_TOKEN"] = who.token
        return values

    # -- clusters ---------------------------------------------------------------

    def cluster(self, name: str) -> None:
        """Makes the API server known to EKS by `name`; tokens for it are accepted."""
        version = self.plane.admin.request("GET", "/version")
        self.aws.clusters.add(
            name,
            self.plane.server,
            self.plane.authority.pem(),
            f"{version['major']}.{version['minor']}",
            REGION,
        )
        self.webhook.clusters.append(name)

    @contextmanager
    def misdescribed(self, name: str, endpoint: str | None = None, ca: bytes | None = None) -> Iterator[None]:
        """EKS hands out another endpoint or authority for the cluster, for a while."""
        right = self.aws.clusters.by_name[name]
        self.aws.clusters.add(
            name,
            endpoint or self.plane.server,
            ca or self.plane.authority.pem(),
            right["version"],
            REGION,
        )
        try:
            yield
        finally:
            self.aws.clusters.by_name[name] = right

    @contextmanager
    def starts_by_causes(self, causes: Causes) -> Iterator[Kubelet]:
        """Meanwhile marked pods start as `causes` let them, on nodes whose logs can be read."""
        kubelet = Kubelet(self.plane.bridge, causes, self.plane.serving)
        usual = self.bridge.options.kubelet_port
        self.bridge.options.kubelet_port = kubelet.port
        kubelet.start()
        try:
            yield kubelet
        finally:
            self.bridge.options.kubelet_port = usual
            kubelet.stop()

    def forget_cluster(self, name: str) -> None:
        self.aws.clusters.by_name.pop(name, None)
        self.aws.addons.forget(name)
        if name in self.webhook.clusters:
            self.webhook.clusters.remove(name)

    def launch(self, cluster: str, spec: FleetSpec) -> Fleet:
        """The groups of a cluster with their instances in service."""
        fleet = Fleet(self.aws, self.admin, cluster, spec)
        fleet.create()
        return fleet

    def fleet(
        self, cluster: str, spec: FleetSpec, loads: list[workloads.Workload] | None = None, outdated: bool = True
    ) -> Fleet:
        """A cluster with groups, Ready nodes and settled workloads."""
        self.cluster(cluster)
        fleet = self.launch(cluster, spec)
        wait_until(f"{spec.nodes} nodes Ready", lambda: self.ready_nodes() >= spec.nodes, 120, 0.3)
        wait_until("DaemonSets ready", self._daemons_ready, 120, 0.3)
        if loads:
            workloads.install(self.plane.admin, cluster, loads)
            wait_until(
                "workloads settled", lambda: workloads.settled(self.plane.admin, cluster, loads), 120, 0.3
            )
        if outdated:
            fleet.outdate()
        return fleet

    def remove(self, fleet: Fleet) -> None:
        """Everything of one cluster, so that the next finds an empty one."""
        self.injector.disarm()
        self.aws.faults.clear()
        with self.aws.engine.lock:
            self.aws.engine.faults.no_capacity.clear()
            self.aws.engine.faults.never_join.clear()
        admin = self.plane.admin
        admin.delete("Namespace", fleet.cluster)
        fleet.delete()
        wait_until("nodes gone", lambda: not admin.list("Node"), 60, 0.2)
        for kind in ("Lease", "ConfigMap"):
            for item in admin.list(kind, "kube-system"):
                name = item["metadata"]["name"]
                if name.startswith("fastnode"):
                    admin.delete(kind, name, "kube-system")
        self.forget_cluster(fleet.cluster)

    def ready_nodes(self) -> int:
        return sum(node_ready(n) for n in self.plane.admin.list("Node"))

    def _daemons_ready(self) -> bool:
        nodes = len(self.plane.admin.list("Node"))
        return all(
            d["status"].get("numberReady", 0) == nodes for d in self.plane.admin.list("DaemonSet", "kube-system")
        )
