from __future__ import annotations

import math

import pytest

from leaderboard.board.facts import RunFacts
from leaderboard.view.best import emphasis_notes, emphasised
from leaderboard.view.content import Cell, Row

METHODS = ("clip_dissect", "dnd", "mine", "random_label")


def marks(values, methods=METHODS, **options) -> str:
    """B best, t tied, a dot for neither."""
    cells = emphasised([Cell(value) for value in values], methods, RunFacts(), **options)
    return "".join("B" if cell.best else "t" if cell.tied else "." for cell in cells)


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ((0.2, 0.9, 0.3, 0.1), ".B.."),
        ((0.2, 0.5, 0.3, 0.9), ".B.."),
        ((0.9, 0.9, 0.3, 0.1), "BB.."),
        ((0.901, 0.904, 0.3, 0.1), "tB.."),
        ((0.901, 0.904, 0.3, 0.9), "tB.t"),
        ((math.nan, 0.5, 0.3, 0.9), ".B.."),
        ((math.nan, 0.5, math.nan, 0.9), "...."),
        ((math.nan,) * 4, "...."),
    ],
)
def test_best_and_equal_at_the_printed_precision(values, shown):
    assert marks(values) == shown


def test_lower_can_be_better():
    assert marks((0.2, 0.9, 0.3, 0.1), higher_is_better=False) == "B..."


def test_a_test_between_methods_decides_instead_of_the_printed_digits():
    values = (0.5, 0.9, 0.9 - 1e-6, 0.4)
    groups = {"clip_dissect": "ab", "dnd": "a", "mine": "c", "random_label": "b"}
    assert marks(values, groups=groups) == "tB.."
    assert marks(values, groups={name: [rank] for name, rank in zip(METHODS, "1112", strict=True)}) == "tBt."
    assert marks(values, groups={}) == ".B.."


def test_a_trivial_baseline_can_be_tied_but_never_best():
    assert marks((0.5, 0.6, 0.1, 0.9), groups=dict.fromkeys(METHODS, "a")) == "tBtt"


def test_notes():
    def notes(values, tests=None, groups=None):
        rows = [Row("fog", emphasised([Cell(value) for value in values], METHODS, RunFacts(), groups)), Row("snow", ())]
        return " ".join(emphasis_notes(rows, METHODS, RunFacts(), tests))

    assert notes((math.nan,) * 4) == ""
    untied = notes((0.2, 0.9, 0.3, 0.1))
    assert "but the trivial baselines (random_label)" in untied
    assert "†" not in untied
    assert "Methods are not tested against each other here." in untied
    assert "† Prints the same as the best." in notes((0.901, 0.904, 0.3, 0.1))
    told = notes((0.2, 0.9, 0.3, 0.1), {"fog": "a test"}, dict.fromkeys(METHODS, "a"))
    assert "† Not significantly different from the best (fog: a test). In the other rows" in told
