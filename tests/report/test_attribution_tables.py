"""What the tables and the figure of attribution say: numbers of a made-up run whose parts are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from leaderboard.board.facts import AboutMethod, RunFacts
from leaderboard.store.analysis_schema import ATTRIBUTION
from leaderboard.store.frames import to_arrow, to_pandas
from leaderboard.view.attribution import attribution_contents, blames
from leaderboard.view.content import Table
from report.figures.attribution import attribution_figure
from report.latex import latex_tables
from report.markdown import markdown_tables

UNITS = 20
NOTED = RunFacts(note="Only a test.", methods={"floor": AboutMethod(trivial=True)})
LOST = {"fog": {"network": range(10), "both": range(10)}, "frost": {"pictures": range(5), "both": range(5)}}
"""Perturbation → what is perturbed → the units whose label is lost."""


def attributed(
    methods: tuple[str, ...] = ("one", "floor"), truth: bool = True, lost: dict[str, Any] | None = None
) -> pd.DataFrame:
    """All labels are right when clean; under fog the first 12 units still do what they did, the last four nothing."""
    rows = []
    for method in methods:
        for name, parts in {"clean": {}, **(LOST if lost is None else lost)}.items():
            for moved in ("nothing",) if name == "clean" else ("network", "pictures", "both"):
                for unit in range(UNITS):
                    right = unit not in parts.get(moved, ())
                    now = "red" if name != "fog" or unit < 12 else "blue" if unit < 16 else None
                    row = {"task": "t", "profile": "p", "method": method, "perturbation": name, "unit": unit}
                    row |= {"severity": 0 if name == "clean" else 3, "perturbed": moved, "label": "red"}
                    row |= {"stability": 1.0 if right else 0.5, "truth": "red", "truth_now": now}
                    row |= {"right": right, "right_now": right if now == "red" else False if now else None}
                    rows.append(row if truth else row | dict.fromkeys(("right", "right_now", "truth", "truth_now")))
    frame = pd.DataFrame(rows).astype({"right": "boolean", "right_now": "boolean"})
    return to_pandas(ATTRIBUTION, to_arrow(ATTRIBUTION, frame))


def rows_of(table: Table, section: int) -> dict[str, tuple[Any, ...]]:
    return {row.name: row.cells for row in table.sections[section].rows}


@pytest.fixture(scope="module")
def tables() -> list[Table]:
    return attribution_contents(attributed(), NOTED)


def test_a_loss_is_charged_to_whoever_caused_it(tables: list[Table]) -> None:
    assert [table.kind for table in tables] == ["attribution", "attribution_one", "attribution_truth"]
    accuracy, stability = (rows_of(tables[1], section) for section in (0, 1))
    assert [cell.value for cell in accuracy["fog 3"]] == [0.5, 0.5, 0, 0, 1]
    assert [cell.value for cell in accuracy["frost 3"]] == [0.25, 0, 0.25, 0, 0]
    assert [cell.value for cell in stability["fog 3"]] == [0.25, 0.25, 0, 0, 1]
    assert [cell.marked for cell in accuracy["fog 3"]] == [False, True, False, False, False]
    assert [cell.marked for cell in accuracy["frost 3"]] == [False, False, True, False, False]
    assert tables[0].caption == "Who moved, the network or the pictures (mean over 2 conditions)"
    assert [section.title for section in tables[0].sections] == ["accuracy, n = 20 units", "stability, n = 20 units"]
    assert [cell.value for cell in rows_of(tables[0], 0)["one"][:4]] == [0.375, 0.25, 0.125, 0]
    assert set(rows_of(tables[0], 0)) == {"one"}


def test_without_a_loss_nobody_is_to_blame() -> None:
    _, first, _ = attribution_contents(attributed(lost={"fog": {"network": range(9), "pictures": range(1)}}), NOTED)
    cells = rows_of(first, 0)["fog 3"]
    assert [cell.value for cell in cells[:4]] == [0, 0.2, -0.2, -0.5]
    assert not any(cell.marked for cell in cells)
    assert np.isnan(cells[4].value)


def test_right_about_what_a_unit_did_and_about_what_it_does(tables: list[Table]) -> None:
    fog = rows_of(tables[2], 0)["fog 3"]
    assert tables[2].columns == ("same", "one")
    # The labels of the first ten are lost and four have no known truth; two of the others detect something else.
    assert [cell.value for cell in fog] == [12 / 20, 2 / 16]
    means = {name: cells[-1].value for name, cells in rows_of(tables[2], 1).items()}
    lost = [2] * 5 + [1] * 5 + [0] * 10
    kept = [2] * 12 + [1] * 8
    right = [[unit >= 10, unit >= 5] for unit in range(UNITS)]
    same = [[unit < 12, True] for unit in range(UNITS)]
    assert means["right about clean"] == pytest.approx(1 - np.mean(lost) / 2)
    assert rows_of(tables[2], 1)["right about now"][0].value == pytest.approx(np.mean(kept) / 2)
    assert means["same units, clean label"] == 1
    expected = np.mean([np.mean([r for r, s in zip(*one, strict=True) if s]) for one in zip(right, same, strict=True)])
    assert means["same units, perturbed label"] == pytest.approx(expected)


def test_where_the_truth_is_unknown_there_is_stability_alone() -> None:
    means, only = attribution_contents(attributed(truth=False), NOTED)
    assert [section.title for section in means.sections] == ["stability, n = 20 units"]
    assert [section.title for section in only.sections] == ["stability"]
    assert attribution_contents(attributed().iloc[:0], NOTED) == []


def test_hostile_names_are_text_in_every_output() -> None:
    found = attribution_contents(attributed(methods=("[bold]a_b & \\x",)), NOTED)
    assert "\\&" in latex_tables(found)
    assert "| fog 3 |" in markdown_tables(found)


def test_the_figure_shows_the_tables_numbers() -> None:
    drawing = attribution_figure(list(blames(attributed(), NOTED)), NOTED)
    assert drawing is not None
    own = next(axes for axes in drawing.figure.axes if axes.get_label() == "accuracy one")
    drawn = {marker: [line for line in own.lines if line.get_marker() == marker] for marker in ("o", "s")}
    values = {marker: [float(np.ravel(line.get_xdata())[0]) for line in lines] for marker, lines in drawn.items()}
    assert values == {"o": [0, 0.5, 0.25], "s": [0.25, 0, 0.125]}  # frost, fog, mean
    filled = [line.get_markerfacecolor() == line.get_color() for line in drawn["o"]]
    assert filled == [False, True, True]
    assert "one, accuracy: of a mean loss of 0.38 the network has 0.25 and the pictures 0.12" in drawing.alternative
    assert drawing.caption.endswith("Only a test.")
    assert drawing.data("png") == drawing.data("png")
    assert attribution_figure([], NOTED) is None
