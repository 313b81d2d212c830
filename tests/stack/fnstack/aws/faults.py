"""Faults on the wire: errors, delays and lost replies, by operation.

Injected from Python, or by `POST /fnstack/faults` with a JSON list such as
    [{"operation": "SetDesiredCapacity", "code": "ResourceContention", "status": 500, "count": 2},
     {"operation": "*", "delay": 0.5, "probability": 0.1},
     {"operation": "TerminateInstanceInAutoScalingGroup", "drop": true, "count": 1}]
`GET` lists what is left, `DELETE` clears. A dropped reply takes effect first.
"""
from __future__ import annotations

import random
import threading
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Fault:
    operation: str  # "*" for every one
    code: str | None = None
    message: str = ""
    status: int = 400
    delay: float = 0.0
    drop: bool = False
    probability: float = 1.0
    only: str = ""  # strikes calls that name this in a parameter
    count: int | None = None  # how often it still strikes; None = without end
    struck: int = 0


class WireFaults:
    def __init__(self, seed: int = 1) -> None:
        self._lock = threading.Lock()
        self._draw = random.Random(seed)
        self._faults: list[Fault] = []

    def add(self, **fault: Any) -> Fault:
        made = Fault(**fault)
        with self._lock:
            self._faults.append(made)
        return made

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def describe(self) -> list[dict[str, Any]]:
        with self._lock:
            return [asdict(f) for f in self._faults]

    def strike(self, operation: str, params: dict[str, Any] | None = None) -> list[Fault]:
        """The faults that hit this call; each use counts."""
        hit = []
        with self._lock:
            for fault in self._faults:
                if fault.operation not in ("*", operation) or fault.count == 0:
                    continue
                if fault.only and not any(fault.only in str(value) for value in (params or {}).values()):
                    continue
                if self._draw.random() >= fault.probability:
                    continue
                fault.struck += 1
                if fault.count is not None:
                    fault.count -= 1
                hit.append(fault)
        return hit
