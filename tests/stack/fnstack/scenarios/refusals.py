"""Scenarios in which nothing may change: bad input, missing access, no answer given."""
from __future__ import annotations

import time

from ..aws.identity import Principal
from ..pki import Authority
from ..process import free_ports
from ..stack import REGION
from .bench import Bench, Result, expect
from .codes import EXPECTED


def _unchanged(bench: Bench, since: float, who: Principal | None = None) -> None:
    writes = bench.writes_since(since, who)
    expect(not writes, f"it wrote: {', '.join(writes[:5])}")


def _says(result: Result, *words: str) -> None:
    """Each of the words, whatever the case; a panic is never a message."""
    text = result.text.lower()
    for word in words:
        expect(word.lower() in text, f"the message does not say '{word}':\n    {result.text.strip()[-600:]}")
    expect("panicked" not in text, "it panicked")


def unknown_cluster(bench: Bench) -> None:
    """A cluster that does not exist: a message that names it, and nothing changed."""
    bench.small()
    since = time.time()
    result = bench.rotate("no-such-cluster", timeout=60)
    result.expect_code(EXPECTED["unknown-cluster"])
    _says(result, "no-such-cluster")
    _unchanged(bench, since)


def no_permission(bench: Bench) -> None:
    """A role without create on pods/eviction: refused with the verb and resource named."""
    fleet = bench.small()
    who = bench.stack.principal("fastnode-no-eviction", without=("create", "pods/eviction"))
    since = time.time()
    result = bench.rotate(fleet.cluster, who=who, timeout=120)
    result.expect_code(EXPECTED["no-permission"])
    _says(result, "create", "pods/eviction")
    _unchanged(bench, since, who)


def no_access_entry(bench: Bench) -> None:
    """AWS lets the caller in, the cluster does not know it: refused, and says so."""
    fleet = bench.small()
    who = bench.stack.principal("stranger", entry=False)
    since = time.time()
    result = bench.rotate(fleet.cluster, who=who, timeout=60)
    result.expect_code(EXPECTED["no-access-entry"])
    _says(result, "unauthorized")
    _unchanged(bench, since, who)


def expired_credentials(bench: Bench) -> None:
    """An expired session: said in one line, at once."""
    fleet = bench.small()
    who = bench.stack.principal("expired", temporary=True, expired=True)
    since = time.time()
    result = bench.rotate(fleet.cluster, who=who, timeout=60)
    result.expect_code(EXPECTED["expired-credentials"])
    _says(result, "expired")
    _unchanged(bench, since, who)


def unreachable_api(bench: Bench) -> None:
    """An API server that does not answer: its address in the message, an end in a minute."""
    fleet, port = bench.small(), free_ports(1)[0]
    since = time.time()
    with bench.stack.misdescribed(fleet.cluster, endpoint=f"https://127.0.0.1:{port}"):
        result = bench.rotate(fleet.cluster, timeout=90)
    result.expect_code(EXPECTED["unreachable-api"])
    _says(result, f"127.0.0.1:{port}")
    _unchanged(bench, since)


def wrong_ca(bench: Bench) -> None:
    """A certificate that the cluster's CA did not sign: refused as such."""
    fleet = bench.small()
    other = Authority(bench.folder / "other-ca", "another-ca")
    since = time.time()
    with bench.stack.misdescribed(fleet.cluster, ca=other.pem()):
        result = bench.rotate(fleet.cluster, timeout=90)
    result.expect_code(EXPECTED["wrong-ca"])
    _says(result, "certificate")
    _unchanged(bench, since)


def no_terminal(bench: Bench) -> None:
    """No terminal and no --yes: it does not act, and names --yes."""
    fleet = bench.small()
    since = time.time()
    result = bench.run("rotate", "--cluster", fleet.cluster, "--region", REGION, timeout=60)
    result.expect_code(EXPECTED["no-terminal"])
    _says(result, "--yes")
    _unchanged(bench, since)
