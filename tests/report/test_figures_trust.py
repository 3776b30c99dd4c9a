"""The figure of what signals are worth shows the numbers of the table."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import small_runs

from leaderboard.board.build import build_board
from leaderboard.board.merge import merge_runs
from leaderboard.board.trust import SIGNALS, labels_with_signals, trust
from report.figures.trust import trust_figure


def drawn(tmp_path: Path, units: int):
    small_runs.write_run(tmp_path / "run", units=units, suites={"few": (("fog", 3),)}, comparisons=False)
    standings = build_board(merge_runs(tmp_path)).standings[0]
    return standings, trust_figure(standings)


def test_each_method_has_a_mark_where_its_auroc_is(tmp_path):
    standings, drawing = drawn(tmp_path, 40)
    assert drawing is not None
    (axes,) = drawing.figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    signals = {heading: name for name, heading in SIGNALS.items()}
    for one in trust(labels_with_signals(standings.group.tables, standings.group.about_run), kinds=False):
        (line,) = [line for line in axes.get_lines() if line.get_label() == one.method]
        expected = [one.clean[signals[name]].estimate for name in names]
        assert [round(float(x), 9) for x in line.get_xdata()] == [round(x, 9) for x in expected]
        assert f"{one.method}: {one.right} right and {one.wrong} wrong" in drawing.caption
        assert one.method in drawing.alternative


def test_there_is_no_figure_without_enough_right_and_wrong_labels(tmp_path):
    standings, drawing = drawn(tmp_path, 6)
    assert drawing is None
    truthless = dataclasses.replace(standings.group, tables={**standings.group.tables})
    truthless.tables["scores"] = truthless.scores.assign(truth=None)
    assert trust_figure(dataclasses.replace(standings, group=truthless)) is None
