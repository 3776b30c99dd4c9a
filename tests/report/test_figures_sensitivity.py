"""The figure of sensitive units shows the tables' numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sensitive_tables import AUROC, CONDITIONS, detectors, units

from leaderboard.board.facts import RunFacts
from report.figures.sensitivity import sensitivity_figure

NOTED = RunFacts(note="Measured in a garden.")


def drawn(*args, facts=NOTED):
    return sensitivity_figure(*(args or (units(), detectors())), facts)


def axes_of(drawing):
    return {axes.get_label(): axes for axes in drawing.figure.axes}


def lines_of(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def test_rows_are_the_conditions_and_their_numbers_the_units_past_the_bar():
    axes = axes_of(drawn())["units"]
    assert [label.get_text() for label in axes.get_yticklabels()] == [name.replace("_", " ") for name, *_ in CONDITIONS]
    numbers = [text.get_text() for text in axes.texts]
    assert numbers == ["1", "2", "0", "0", "1", "1", "0", "0", "fall", "rise"]
    past = lines_of(axes)["gaussian_blur 3"].get_xdata()
    assert sorted(past) == [0.03, 0.92, 0.95]


def test_the_thin_line_spans_the_units():
    axes = axes_of(drawn())["units"]
    thin, thick = (axes.collections[place].get_segments()[0][:, 0] for place in (0, 1))
    values = np.array([found[0] for found in AUROC.values()])[:5]
    assert thin == pytest.approx([values.min(), values.max()])
    assert thick == pytest.approx(np.quantile(values, [0.05, 0.95]))


def test_a_planted_unit_is_a_star_and_not_part_of_the_spread():
    found = drawn(units(), detectors(), facts=replace(NOTED, planted_from={"toy": 3}))
    axes = axes_of(found)["units"]
    assert lines_of(axes)["planted gaussian_blur 3"].get_xdata()[0] == 0.92
    assert axes.collections[0].get_segments()[0][1, 0] == 0.95
    assert "Star: the planted unit." in found.caption
    assert "A planted unit reaches an AUROC of up to 0.92." in found.alternative


def test_curves_are_the_detectors_that_have_not_seen_the_family():
    axes = axes_of(drawn())["detectors"]
    lines = lines_of(axes)
    assert set(lines) == {"best blur", "random blur", "best weather", "random weather"}
    assert lines["best blur"].get_ydata() == pytest.approx([0.621, 0.624, 0.636, 0.684, 0.876])
    assert lines["random weather"].get_ydata() == pytest.approx([0.461, 0.464, 0.476, 0.524, 0.716])
    segments = axes.collections[0].get_segments()
    assert [segment[:, 1].tolist() for segment in segments[:1]] == [pytest.approx([0.601, 0.641])]


def test_words_say_what_is_seen():
    found = drawn()
    assert "over 6 units" in found.caption
    assert "20 images" in found.caption
    assert "Measured in a garden." in found.caption
    assert "Most detectors has gaussian blur 3, 3 units" in found.alternative
    assert "best for blur (0.88) and worst for weather (0.77)" in found.alternative


def test_without_detectors_or_units_past_the_bar_the_figure_says_so():
    found = drawn(units(p=0.5), detectors().iloc[:0])
    assert list(axes_of(found)) == ["units"]
    assert "No unit detects any of them." in found.alternative
    assert "discriminant" not in found.caption
    assert sensitivity_figure(units().iloc[:0], detectors().iloc[:0], NOTED) is None


def test_several_severities_are_named():
    several = tuple(("fog", severity, "weather") for severity in (1, 3))
    axes = axes_of(drawn(units(conditions=several), detectors().iloc[:0]))["units"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["fog 1", "fog 3"]


def test_a_task_has_a_figure_of_its_own_and_the_same_bytes_twice():
    both = pd.concat([detectors(), detectors("other")])
    assert drawn(units(), both).data("png") == drawn().data("png")


def test_no_name_acts_as_markup():
    hostile = (("$x_1$ \x1b[31m", 3, "$y$"), ("_魚" * 20, 3, "blur"))
    assert drawn(units("$t$", conditions=hostile), detectors().iloc[:0]).data("pdf")
