"""Who an access key belongs to, and how each API refuses one it does not know."""
from __future__ import annotations

from dataclasses import dataclass

from .model import ACCOUNT


@dataclass
class Principal:
    """One set of credentials. `token` is set for temporary ones."""

    access_key: str
    secret_key: str
    arn: str
    user_id: str
    token: str | None = None
    expired: bool = False


class Identities:
    """The account's credentials, by access key id."""

    def __init__(self) -> None:
        self._by_key: dict[str, Principal] = {}

    def add(self, name: str, *, temporary: bool = False, expired: bool = False) -> Principal:
        """A user, or a session of a role of that name."""
        number = len(self._by_key)
        if temporary:
            arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/{name}/session"
            key, user, token = f"ASIAFNSTACK{number:09d}", f"AROAFNSTACK{number:09d}:session", f"token-{number}"
        else:
            arn = f"arn:aws:iam::{ACCOUNT}:user/{name}"
            key, user, token = f"AKIAFNSTACK{number:09d}", f"AIDAFNSTACK{number:09d}", None
        secret = f"secret-of-{name}-{number:020d}"
        principal = Principal(key, secret, arn, user, token, expired)
        self._by_key[key] = principal
        return principal

    def find(self, access_key: str | None) -> Principal | None:
        return self._by_key.get(access_key or "")


def refusal(service: str, principal: Principal | None) -> tuple[int, str, str] | None:
    """Status, code and message for credentials that are unknown or expired.

    EC2 and the JSON services have codes of their own (their "Common errors" pages).
    """
    if principal is None:
        if service == "ec2":
            return 401, "AuthFailure", "AWS was not able to validate the provided access credentials"
        code = "UnrecognizedClientException" if service == "eks" else "InvalidClientTokenId"
        return 403, code, "The security token included in the request is invalid."
    if principal.expired:
        if service == "ec2":
            return 400, "RequestExpired", "Request has expired."
        code = "ExpiredTokenException" if service == "eks" else "ExpiredToken"
        return 403, code, "The security token included in the request is expired"
    return None
