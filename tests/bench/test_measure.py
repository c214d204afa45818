"""Measuring: tasks take turns, memory is what was taken and kept, and a case is told apart from its neighbours."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from rstg.bench import Case, interleaved, measure_fresh, quotients
from rstg.bench.memory import kept_for_backward, peak_growth
from rstg.bench.table import label, row_of


def test_tasks_take_turns_and_the_first_turn_does_not_count():
    ran = []
    found = interleaved({"a": lambda: ran.append("a"), "b": lambda: ran.append("b")}, seconds=0, rounds=(3, 9))
    assert ran == ["a", "b"] * 4 and [len(times) for times in found.values()] == [3, 3]
    assert quotients([1.0, 6.0], [2.0, 3.0]) == [0.5, 2.0]


def test_what_is_kept_is_counted_once_and_without_weights():
    layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8))
    x = torch.randn(16, 4)
    # The input, and the output of the ReLU, which the layer after it keeps too.
    assert kept_for_backward(layers, lambda: layers(x)) == 4 * 16 * (4 + 8)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not tell a program's peak")
def test_a_peak_is_what_was_held_at_once():
    def take() -> None:
        for _ in range(3):
            torch.ones(50_000_000, dtype=torch.uint8)

    grown = peak_growth(take)
    assert grown is not None and 45_000_000 < grown < 80_000_000


def test_a_case_in_a_process_of_its_own_says_what_is_wrong():
    with pytest.raises(ValueError, match="smaller than the grid"):
        measure_fresh(Case(channels=8, batch=1, frames=1, size=2))
    with pytest.raises(ValueError, match="batch=0"):
        Case(batch=0)


def test_cases_are_told_apart_by_what_differs():
    cases = [row_of(Case(frames=frames, dtype="bfloat16")) for frames in (8, 16)]
    assert [label(case, cases) for case in cases] == ["block frames=8", "block frames=16"]
