"""The figure of label sets shows the table's numbers."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from leaderboard.board.facts import RunFacts
from leaderboard.board.names import AboutMethod
from leaderboard.store.analysis_schema import LABEL_SETS
from leaderboard.store.frames import to_arrow
from report.figures.drawing import Drawing
from report.figures.label_sets import label_set_figure

LEVELS, DRAWS = (0.5, 0.9), (10, 100)
FACTS = RunFacts(note="Measured in a garden.", methods={"random_label": AboutMethod(trivial=True)})


def table(*, truth: bool = True) -> pd.DataFrame:
    """Coverage is the level, a tenth less with few draws; truth half of it; the baseline's are all 0."""
    rows = []
    for method, level, draws in itertools.product(("csp", "several(csp)", "random_label"), LEVELS, DRAWS):
        covered = 0.0 if method == "random_label" else level - 0.1 * (draws == DRAWS[0])
        row: dict[str, object] = {column.name: np.nan for column in LABEL_SETS.columns}
        row |= {"task": "toy", "profile": "miniature", "method": method, "perturbation": "clean", "severity": 0}
        row |= {"kind": "all", "draws": draws, "level": level, "units": 8, "known": 8 * truth, "size": 1.5}
        row |= {"coverage": covered, "coverage_low": covered / 2, "coverage_high": covered}
        rows.append(row | ({"truth": covered / 2} if truth else {}))
    frame = pd.DataFrame(rows)
    to_arrow(LABEL_SETS, frame)  # it is a table of the study
    return frame


def drawn(**given: bool) -> Drawing:
    drawing = label_set_figure(table(**given), FACTS)
    assert drawing is not None
    return drawing


def curves(drawing: Drawing, number: int) -> dict[str, list[float]]:
    lines = drawing.figure.axes[number].lines
    return {str(line.get_label()): list(map(float, line.get_ydata())) for line in lines}  # type: ignore[arg-type]


def test_curves_are_the_values_of_the_table() -> None:
    redraws, truth, draws = (curves(drawn(), number) for number in range(3))
    assert redraws["several(csp)"] == pytest.approx([0.5, 0.9])
    assert truth["csp"] == pytest.approx([0.25, 0.45])
    assert draws["csp"] == pytest.approx([0.8, 0.9])
    assert "random_label" not in redraws


def test_without_truth_there_are_two_panels() -> None:
    drawing = drawn(truth=False)
    assert len(drawing.figure.axes) == 2
    assert curves(drawing, 1)["csp"] == pytest.approx([0.8, 0.9])
    assert "right label" not in drawing.caption


def test_words_say_what_is_seen() -> None:
    drawing = drawn()
    assert "8 units of toy" in drawing.caption
    assert "Measured in a garden." in drawing.caption
    assert "at nominal 90 %: redraws 0.90, truth 0.45, 1.50 labels." in drawing.alternative
    assert drawing.data("png").startswith(b"\x89PNG")
