"""What a twin is let off, and what not."""
from __future__ import annotations

import json
import unittest
from unittest import mock

from fnstack.scenarios import twins
from fnstack.scenarios.bench import Failed, Result


def ended(seconds: float, outcome: str = "done") -> Result:
    finished = {"kind": "rotation.finished", "outcome": outcome, "duration_s": seconds}
    return Result([], 0, json.dumps(finished), "", seconds)


class Twin(unittest.TestCase):
    def played(self, *stack: Result) -> int:
        """How often the stack was asked, where the simulator takes 50 s."""
        bench = mock.Mock()
        bench.run.return_value = ended(50.0)
        with mock.patch.object(twins, "_on_stack", side_effect=stack) as real:
            twins.twin(twins.NAMES[0])(bench)
        return real.call_count

    def test_a_time_that_is_near_is_enough(self) -> None:
        self.assertEqual(1, self.played(ended(54.9)))

    def test_what_took_too_long_is_done_once_more(self) -> None:
        self.assertEqual(2, self.played(ended(60.0), ended(51.0)))

    def test_too_long_twice_is_too_long(self) -> None:
        with self.assertRaisesRegex(Failed, "more than 10% apart"):
            self.played(ended(60.0), ended(58.0), ended(50.0))

    def test_too_quick_is_no_matter_of_load(self) -> None:
        with self.assertRaisesRegex(Failed, "more than 10% apart"):
            self.played(ended(44.0), ended(50.0))

    def test_another_outcome_is_not_tried_again(self) -> None:
        with self.assertRaisesRegex(Failed, "outcomes"):
            self.played(ended(50.0, "incomplete"), ended(50.0))
