"""The EKS side of authentication: TokenReview for `k8s-aws-v1.` tokens.

A token is a presigned STS GetCallerIdentity URL. EKS accepts it only if the URL
is of the region's STS host, `x-k8s-aws-id` is among the signed headers with the
cluster's name as its value, it is not older than 15 minutes, and STS accepts the
signature (aws-iam-authenticator, pkg/token). The header's value is not in the
token: the signature is recomputed with each cluster's name.
"""
from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from .aws.identity import Identities, Principal
from .aws.model import ACCOUNT

_PREFIX = "k8s-aws-v1."
_MAX_AGE = dt.timedelta(minutes=15)
_ALLOWED = {
    "action",
    "version",
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
}


class Refused(Exception):
    """Why a token is not accepted."""


@dataclass(frozen=True)
class Caller:
    principal: Principal
    cluster: str


@dataclass
class AccessEntry:
    """As an EKS access entry: an IAM principal, a Kubernetes user and its groups."""

    principal_arn: str
    groups: tuple[str, ...]
    username: str | None = None


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _signature(
    query: dict[str, str], host: str, cluster: str, secret: str, scope: list[str]
) -> str:
    """SigV4 for a presigned GET / with headers host and x-k8s-aws-id."""
    canonical_query = "&".join(
        f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}"
        for k, v in sorted(query.items())
        if k != "X-Amz-Signature"
    )
    request = "\n".join(
        [
            "GET",
            "/",
            canonical_query,
            f"host:{host}",
            f"x-k8s-aws-id:{cluster}",
            "",
            "host;x-k8s-aws-id",
            hashlib.sha256(b"").hexdigest(),
        ]
    )
    digest = hashlib.sha256(request.encode()).hexdigest()
    to_sign = "\n".join(["AWS4-HMAC-SHA256", query["X-Amz-Date"], "/".join(scope), digest])
    key = ("AWS4" + secret).encode()
    for part in scope:
        key = _hmac(key, part)
    return _hmac(key, to_sign).hex()


def verify(
    token: str, identities: Identities, clusters: list[str], region: str, now: dt.datetime
) -> Caller:
    """The caller a token stands for; raises Refused with the reason."""
    if not token.startswith(_PREFIX):
        raise Refused("not a k8s-aws-v1 token")
    raw = token[len(_PREFIX) :]
    try:
        url = base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4)).decode()
    except ValueError as error:
        raise Refused("not base64url") from error
    parts = urlsplit(url)
    host = f"sts.{region}.amazonaws.com"
    if parts.scheme != "https" or parts.netloc != host or parts.path not in ("", "/"):
        raise Refused(f"URL is of {parts.scheme}://{parts.netloc}{parts.path}, not of https://{host}/")
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    query = dict(pairs)
    if len(query) != len(pairs) or not {k.lower() for k in query} <= _ALLOWED:
        raise Refused("repeated or unexpected query parameter")
    if query.get("Action") != "GetCallerIdentity":
        raise Refused("Action is not GetCallerIdentity")
    signed = query.get("X-Amz-SignedHeaders", "").lower().split(";")
    if sorted(signed) != ["host", "x-k8s-aws-id"]:
        raise Refused(f"signed headers are {signed}, not host and x-k8s-aws-id")
    try:
        made = dt.datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.timezone.utc)
        life = dt.timedelta(seconds=int(query["X-Amz-Expires"]))
        key, *scope = query["X-Amz-Credential"].split("/")
        given = query["X-Amz-Signature"]
    except (KeyError, ValueError) as error:
        raise Refused(f"missing or malformed parameter: {error}") from error
    if not dt.timedelta(0) < life <= _MAX_AGE:
        raise Refused(f"X-Amz-Expires is {life.total_seconds():.0f} s")
    # STS does not look at X-Amz-Expires here: a token lasts 15 minutes from its date.
    if not made - dt.timedelta(minutes=5) <= now <= made + _MAX_AGE:
        raise Refused("expired, or from the future")
    principal = identities.find(key)
    if principal is None or principal.expired:
        raise Refused("unknown or expired access key")
    if (query.get("X-Amz-Security-Token") or None) != principal.token:
        raise Refused("session token missing or wrong")
    if scope[1:] != [region, "sts", "aws4_request"] or scope[0] != query["X-Amz-Date"][:8]:
        raise Refused(f"credential scope {'/'.join(scope)}")
    for cluster in clusters:
        if hmac.compare_digest(_signature(query, host, cluster, principal.secret_key, scope), given):
            return Caller(principal, cluster)
    raise Refused("signature does not match for any cluster's name")


def canonical_arn(arn: str) -> str:
    """An assumed role's session counts as the role, as access entries want it."""
    if ":assumed-role/" in arn:
        name = arn.split(":assumed-role/", 1)[1].split("/")[0]
        return f"arn:aws:iam::{ACCOUNT}:role/{name}"
    return arn


@dataclass
class TokenWebhook:
    """The HTTP endpoint that the API server asks about every token."""

    identities: Identities
    region: str
    group: str  # every access entry's user gets it, see controlplane.py
    clusters: list[str] = field(default_factory=list)
    entries: list[AccessEntry] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # noqa: N802 (the base class's name)
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status = webhook.review(review["spec"].get("token", ""))
                answer = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status}
                data = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Refusals are kept in `refusals`; the rest is noise."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/review"

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, name="token-webhook", daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def review(self, token: str) -> dict[str, Any]:
        try:
            caller = verify(
                token, self.identities, self.clusters, self.region, dt.datetime.now(dt.timezone.utc)
            )
        except Refused as why:
            self.refusals.append(str(why))
            return {"authenticated": False, "error": str(why)}
        who = caller.principal
        arn = canonical_arn(who.arn)
        entry = next((e for e in self.entries if e.principal_arn == arn), None)
        if entry is None:
            self.refusals.append(f"no access entry for {arn}")
            return {"authenticated": False, "error": "no access entry"}
        return {
            "authenticated": True,
            "user": {
                "username": entry.username or who.arn,
                "uid": f"aws-iam-authenticator:{ACCOUNT}:{who.user_id.split(':')[0]}",
                "groups": [*entry.groups, self.group],
                "extra": {"arn": [who.arn], "canonicalArn": [arn], "accessKeyId": [who.access_key]},
            },
        }
