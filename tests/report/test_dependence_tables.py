"""The tables of what units depend on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from leaderboard.board.facts import RunFacts
from leaderboard.view.dependence import dependence_contents
from leaderboard.view.terminal import terminal_tables
from report.latex import latex_tables
from report.markdown import markdown_tables

NOTED = RunFacts(note="Measured in a garden.")

PLACE = {"task": "resnet50_layer4", "profile": "miniature", "method": "clear"}
UNITS = 12


def tables(units: int = UNITS) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    number = np.arange(units)
    clean = {**PLACE, "perturbation": "clean", "severity": 0, "repeat": 0, "unit": number}
    values = {"foreground": number / 20, "background": 0.25, "context": (number * 7 % units) / 20}
    dependence = pd.DataFrame(clean | {"part": "", **values})
    others = pd.concat(
        [
            dependence.assign(part="red", foreground=1.0, context=np.nan),
            dependence.assign(repeat=1, foreground=1.0),
            dependence.assign(perturbation="fog", severity=3, foreground=1.0),
        ]
    )
    labels = pd.DataFrame(clean | {"rank": 1, "label": [f"thing {n}" for n in number], "score": 1.0})
    moved = {**PLACE, "perturbation": "fog", "severity": 3, "repeat": 0, "unit": number, "dead": False}
    scores = pd.DataFrame(moved | {"stability": 1 - (number * 7 % units) ** 2 / 200})
    scores = pd.concat([scores, scores.assign(perturbation="clean", severity=0, stability=1.0)])
    return pd.concat([dependence, others]), labels, scores


def test_units_are_sorted_by_what_they_lean_to():
    (table,) = dependence_contents(*tables(), NOTED)
    background, foreground, mean = table.sections
    # Unit 5 leans to neither side.
    assert background.title == "background before foreground: 5 of 12 units"
    assert [row.name for row in background.rows] == [f"{n} thing {n}" for n in range(5)]
    assert foreground.title == "foreground before background: 6 of 12 units"
    assert [row.name.split()[0] for row in foreground.rows] == ["11", "10", "9", "8", "7", "6"]
    assert mean.rows[0].cells[0].value == pytest.approx(np.arange(UNITS).mean() / 20)
    assert mean.rows[0].cells[0].has_interval


def test_context_dependence_is_held_against_stability():
    dependence, labels, scores = tables()
    (table,) = dependence_contents(dependence, labels, scores, NOTED)
    number = np.arange(UNITS) * 7 % UNITS
    expected = stats.spearmanr(number, -(number**2)).statistic
    assert table.notes[-1] == NOTED.note
    (note,) = [note for note in table.notes if "Spearman" in note]
    assert f": {expected:.2f} (Spearman, n = 12 units" in note
    few = dependence_contents(*tables(units=5), NOTED)[0]
    assert not any("Spearman" in note for note in few.notes)


def test_nothing_said_is_no_table_and_unknown_sides_are_blank():
    dependence, labels, scores = tables()
    assert dependence_contents(dependence.iloc[:0], labels, scores, NOTED) == []
    nothing = dependence.assign(foreground=np.nan, background=np.nan, context=np.nan)
    assert dependence_contents(nothing, labels, scores, NOTED) == []
    (table,) = dependence_contents(dependence.assign(background=np.nan), labels, scores, NOTED)
    (mean,) = table.sections
    assert np.isnan(mean.rows[0].cells[1].value)


def test_every_kind_of_output_shows_it():
    found = dependence_contents(*tables(), NOTED)
    assert "thing 11" in markdown_tables(found)
    assert "thing 11" in latex_tables(found)
    assert any("What units depend on" in str(part) for part in terminal_tables(found))
