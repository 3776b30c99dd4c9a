"""The figure of tuning shows the table's numbers."""

from __future__ import annotations

import pytest
from tuning_table import tuning

from leaderboard.board.facts import RunFacts
from report.figures.drawing import Drawing
from report.figures.tuning import tuning_figure

NOTED = RunFacts(note="Measured in a garden.")


def drawn(**given: object) -> Drawing:
    drawing = tuning_figure(tuning(**given), NOTED)  # type: ignore[arg-type]
    assert drawing is not None
    return drawing


def lines(drawing: Drawing, panel: str) -> dict[str, list[float]]:
    axes = next(one for one in drawing.figure.axes if one.get_label() == panel)
    return {str(line.get_label()): list(map(float, line.get_ydata())) for line in axes.lines}  # type: ignore[arg-type]


def test_curves_are_the_values_of_the_shares() -> None:
    accuracy, stability = (lines(drawn(), panel) for panel in ("accuracy", "stability"))
    assert accuracy["dnd clean"] == pytest.approx([0.5, 0.6, 0.7])
    assert accuracy["clip_dissect held out"] == pytest.approx([0.2, 0.3, 0.4])
    assert set(stability) == {"clip_dissect held out", "dnd held out"}


def test_points_are_the_error_ratios_of_tuned_networks() -> None:
    drawing = drawn()
    axes = next(one for one in drawing.figure.axes if one.get_label() == "networks")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["clean images", "corruptions", "both"]
    points = {str(line.get_label()): list(line.get_xdata()) for line in axes.lines}  # type: ignore[arg-type]
    assert points["held out"] == pytest.approx([0.8, 0.7, 0.9])
    assert points["tuned on"] == pytest.approx([0.75, 0.65, 0.85])


def test_words_say_what_is_seen() -> None:
    drawing = drawn()
    assert "8 units" in drawing.caption
    assert "30 test scenes" in drawing.caption
    assert "Measured in a garden." in drawing.caption
    assert "dnd: stability 0.40 at share 0, 0.60 at 1." in drawing.alternative
    assert "tuning on corruptions leaves the smallest error, 0.70." in drawing.alternative


def test_without_tuned_networks_there_are_two_panels() -> None:
    drawing = drawn(networks=False)
    assert [axes.get_label() for axes in drawing.figure.axes] == ["accuracy", "stability"]
    assert "test scenes" not in drawing.caption
    assert drawing.data("png").startswith(b"\x89PNG")
