"""The harness's own tests: engine, token check, observer (tests/stack/selftest)."""
from __future__ import annotations

import unittest
from pathlib import Path


def run() -> int:
    folder = Path(__file__).resolve().parent.parent / "selftest"
    suite = unittest.defaultTestLoader.discover(str(folder), top_level_dir=str(folder))
    result = unittest.TextTestRunner(verbosity=1).run(suite)
    bad = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - bad} passed, {bad} failed")
    # No test found is a failure too: it proves nothing.
    return 1 if bad or result.testsRun == 0 else 0
