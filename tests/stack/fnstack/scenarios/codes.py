"""The exit codes that scenarios accept, in one place (docs: exit codes)."""
from __future__ import annotations

EXPECTED: dict[str, tuple[int, ...]] = {
    "rotate-20": (0,),
    "rotate-20 again": (0,),
    "canary-restarts": (4,),
    "budget-never-frees": (5,),
    # Usage, preflight or access: what counts is that the message is clear.
    "unknown-cluster": (2, 3, 7),
    "no-permission": (7,),
    "no-access-entry": (7,),
    "expired-credentials": (7,),
    "unreachable-api": (7,),
    "wrong-ca": (7,),
    "no-terminal": (2,),
}
