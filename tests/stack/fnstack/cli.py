"""`python -m fnstack up`: the stack for a person to try things on."""
from __future__ import annotations

import argparse
import shlex
import signal
import time
from contextlib import ExitStack
from pathlib import Path

from . import access, selftest
from .aws.model import Timings
from .figures import figures
from .fleet import FleetSpec
from .scenarios import runner
from .stack import REPOSITORY, Settings, Stack
from .starting import flaws
from .starting.kubelet import Causes
from .workloads import never_frees, standard


def _span(text: str) -> tuple[float, float]:
    low, _, high = text.partition("-")
    return float(low), float(high or low)


def add_stack_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bin", type=Path, required=True, help="folder of the control plane's programs")
    parser.add_argument("--boot", type=_span, default=(3.0, 5.0), metavar="S-S", help="running to joined, seconds")
    parser.add_argument("--launch", type=_span, default=(0.5, 1.0), metavar="S-S", help="launch to running")
    parser.add_argument("--shutdown", type=_span, default=(2.0, 3.0), metavar="S-S", help="terminating to gone")
    parser.add_argument("--rbac", type=Path, help="role file; default config/deploy/rbac.yaml, else tests/stack/rbac.yaml")
    parser.add_argument("--dir", type=Path, help="keep logs and files of the run here")
    parser.add_argument("--seed", type=int, default=1)


def settings(arguments: argparse.Namespace) -> Settings:
    timings = Timings(boot=arguments.boot, launch=arguments.launch, shutdown=arguments.shutdown)
    return Settings(arguments.bin, timings, arguments.rbac, folder=arguments.dir, seed=arguments.seed)


def stop_on_signals() -> None:
    """SIGTERM and SIGHUP unwind the stack as Ctrl-C does."""

    def stop(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)


def up(arguments: argparse.Namespace) -> int:
    stop_on_signals()
    began = time.monotonic()
    options = settings(arguments)
    for taint in arguments.startup_taint:
        name, _, daemon = taint.partition("@")
        options.startup_taints[name] = daemon or "ebs-csi-node"
    with Stack(options) as stack, ExitStack() as more:
        print(f"control plane up after {time.monotonic() - began:.1f} s", flush=True)
        if arguments.faults:
            for role in access.MENDING:
                access.grant(stack.plane.admin, REPOSITORY / role, "fnstack:fastnode")
            flaws.bring(stack)
            more.enter_context(stack.starts_by_causes(Causes(arguments.pace)))
        spec = FleetSpec(arguments.nodes, arguments.groups, arguments.zones, arguments.headroom)
        loads = standard(arguments.nodes) + ([never_frees()] if arguments.stuck else [])
        fleet = stack.fleet(arguments.cluster, spec, loads, outdated=not arguments.current)
        state = "current" if arguments.current else "outdated"
        print(f"{spec.nodes} {state} nodes in {', '.join(fleet.names)} after {time.monotonic() - began:.1f} s\n")
        for name, value in stack.environment(stack.fastnode).items():
            print(f"export {name}={shlex.quote(value)}")
        print("\n# nothing else is needed; for a look as an administrator:")
        print(f"#   {arguments.bin}/kubectl --kubeconfig {stack.folder}/admin.kubeconfig get nodes")
        print(f"#   AWS calls, engine events, audit: {stack.folder}/*.jsonl; faults: {stack.aws.url}/fnstack/faults")
        print(f"fastnode rotate --cluster {arguments.cluster}", flush=True)
        try:
            while True:
                time.sleep(0.5)
                crash = stack.plane.crashed()
                if crash:
                    print(crash)
                    return 1
        except KeyboardInterrupt:
            print("stopping", flush=True)
    return 0


def run(arguments: argparse.Namespace) -> int:
    if arguments.self_test:
        return selftest.run()
    stop_on_signals()
    try:
        if arguments.bench:
            return figures.run(arguments, settings(arguments))
        return runner.run(arguments, settings(arguments))
    except KeyboardInterrupt:
        return 130


def main() -> int:
    parser = argparse.ArgumentParser(prog="fnstack")
    verbs = parser.add_subparsers(dest="verb", required=True)
    parse_up = verbs.add_parser("up", help="bring the stack up with an outdated fleet and stay")
    add_stack_arguments(parse_up)
    parse_up.add_argument("--cluster", default="stack")
    parse_up.add_argument("--nodes", type=int, default=20)
    parse_up.add_argument("--groups", type=int, default=2)
    parse_up.add_argument("--zones", type=int, default=3, choices=range(1, 5))
    parse_up.add_argument("--headroom", type=int, default=4, help="maximum above desired, per group")
    parse_up.add_argument("--current", action="store_true", help="leave the fleet current")
    parse_up.add_argument("--stuck", action="store_true", help="add a budget that never frees")
    parse_up.add_argument(
        "--startup-taint",
        action="append",
        default=[],
        metavar="KEY:EFFECT[@DAEMONSET]",
        help="new nodes carry it until that DaemonSet's pod is Ready",
    )
    parse_up.add_argument("--faults", action="store_true", help="kube-proxy and aws-node with both faults of node startup")
    parse_up.add_argument("--pace", type=float, default=0.2, help="with --faults: a second of a start takes so long")
    parse_up.set_defaults(run=up)
    parse_run = verbs.add_parser("run", help="run the end-to-end scenarios with a fastnode binary")
    add_stack_arguments(parse_run)
    runner.add_arguments(parse_run)
    parse_run.add_argument("--self-test", action="store_true", help="the harness's own tests instead")
    parse_run.add_argument("--bench", action="store_true", help="print figures of memory, calls and latency instead")
    parse_run.set_defaults(run=run)
    arguments = parser.parse_args()
    return arguments.run(arguments)
