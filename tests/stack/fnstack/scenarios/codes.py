"""The exit codes that scenarios accept, in one place (docs: exit codes)."""
from __future__ import annotations

EXPECTED: dict[str, tuple[int, ...]] = {
    "rotate-20": (0,),
    "rotate-20 again": (0,),
    "canary-restarts": (4,),
    "budget-never-frees": (5,),
    "third-restarts": (0,),
    "template-changes": (5,),
    "zone-without-capacity": (5,),
    "no-capacity": (5,),
    "desired-moves": (0,),
    "never-joins": (0,),
    "target-group": (0,),
    "killed-twice": (0,),
    "terminated": (143,),
    "terminated again": (0,),
    "two-at-once": (6,),
    "two-at-once first": (0,),
    "aborted": (5,),
    "aborted asked": (0,),
    "own-node": (143,),
    "own-node there again": (5,),
    "own-node next": (0,),
    # Usage, preflight or access: what counts is that the message is clear.
    "unknown-cluster": (2, 3, 7),
    "no-permission": (7,),
    "no-access-entry": (7,),
    "expired-credentials": (7,),
    "unreachable-api": (7,),
    "wrong-ca": (7,),
    "no-terminal": (2,),
}
