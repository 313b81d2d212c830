"""How scenarios are shared out, and that nothing which did not end counts as passed."""
from __future__ import annotations

import contextlib
import io
import time
import unittest

from fnstack.scenarios.runner import ALONE, SCENARIOS, Ended, conclude
from fnstack.scenarios.side_by_side import shares


class Shares(unittest.TestCase):
    def test_every_scenario_is_in_one_share_and_keeps_its_place(self) -> None:
        names = [name for name in SCENARIOS if name not in ALONE]
        parts = shares(names, {"rotate-20": 150}, 2)
        self.assertEqual(sorted(names), sorted(name for part in parts for name in part))
        for part in parts:
            self.assertEqual(part, sorted(part, key=names.index))

    def test_no_share_is_empty(self) -> None:
        self.assertEqual([["one"]], shares(["one"], {}, 2))
        self.assertEqual([], shares([], {}, 2))

    def test_what_compares_durations_runs_alone(self) -> None:
        twins = {name for name in SCENARIOS if name.startswith("twin-")}
        self.assertTrue(twins)
        self.assertLessEqual(twins, ALONE)


class Conclusion(unittest.TestCase):
    def concluded(self, ended: list[Ended], chosen: list[str]) -> tuple[int, str]:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = conclude(ended, chosen, time.monotonic())
        return code, out.getvalue()

    def test_all_passed(self) -> None:
        code, text = self.concluded([Ended("a", 1.0), Ended("b", 2.0)], ["a", "b"])
        self.assertEqual(0, code)
        self.assertIn("2 passed, 0 failed", text)

    def test_a_failure_is_told_and_decides(self) -> None:
        code, text = self.concluded([Ended("a", 1.0), Ended("b", 2.0, "exit code 4")], ["a", "b"])
        self.assertEqual(1, code)
        self.assertIn("FAILED: exit code 4", text)

    def test_what_never_ended_has_failed(self) -> None:
        code, text = self.concluded([Ended("a", 1.0)], ["a", "b"])
        self.assertEqual(1, code)
        self.assertIn("1 passed, 1 failed", text)
