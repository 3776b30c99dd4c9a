"""The figure of variance shows the table's numbers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from leaderboard.board.facts import RunFacts
from leaderboard.view.variance import EFFECTS, TOTALS
from report.figures.variance import study_figure


def group(variances: dict[str, float]) -> Any:
    rows, random = [], np.random.default_rng(0)
    for method, variance in variances.items():
        values = {("share", effect): value for effect, value in zip(EFFECTS, random.dirichlet(np.ones(8)), strict=True)}
        values |= {("total", effect): random.random() for effect in TOTALS} | {("variance", "all"): variance}
        if method == "untold":
            del values["share", "concepts"], values["total", "concepts"]
        for (measure, effect), value in values.items():
            value = np.nan if variance == 0 and measure != "variance" else value
            ends = {"value": value, "low": value * 0.9, "high": value * 1.1}
            about = {"method": method, "space": "clip", "measure": measure, "effect": effect, "units": 5}
            rows.append(about | ends)
    tables = {"variance": pd.DataFrame(rows, columns=None if rows else ["space"])}
    return SimpleNamespace(task="toy", tables=tables, about_run=RunFacts(note="Measured in a garden."))


def test_dots_are_the_values_of_the_table_in_both_panels():
    given = group({"told": 0.4, "untold": 0.2})
    drawing = study_figure(given)
    assert drawing is not None
    table = given.tables["variance"].set_index(["method", "measure", "effect"])["value"]
    for axes, (measure, effects) in zip(drawing.figure.axes, (("share", EFFECTS), ("total", TOTALS)), strict=True):
        assert [label.get_text() for label in axes.get_yticklabels()] == list(effects.values())
        for method in ("told", "untold"):
            (line,) = [line for line in axes.get_lines() if line.get_label() == method]
            expected = [table.get((method, measure, effect), np.nan) for effect in effects]
            assert list(line.get_xdata()) == pytest.approx(expected, nan_ok=True)
    assert "5 units" in drawing.caption
    assert "Measured in a garden." in drawing.caption
    totals = {words: table["told", "total", effect] for effect, words in TOTALS.items()}
    most = max(totals, key=lambda words: totals[words])
    assert f"Told: {most} {totals[most]:.2f}".lower() in drawing.alternative.lower()


def test_methods_whose_labels_never_differ_are_left_out():
    drawing = study_figure(group({"told": 0.4, "constant": 0.0}))
    assert drawing is not None
    assert {line.get_label() for line in drawing.figure.axes[0].get_lines()} == {"told"}
    assert study_figure(group({"constant": 0.0})) is None
    assert study_figure(group({})) is None
