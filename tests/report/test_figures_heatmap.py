from __future__ import annotations

import numpy as np
import pytest
from figure_boards import standings, with_group, with_severities

from leaderboard.board.summary import summarise
from report.figures import heat_map
from report.figures.rows import at_own_severities

METHODS = ["clip_dissect", "dnd", "constant_label"]


def maps_of(drawing) -> dict:
    return {axes.get_label(): axes for axes in drawing.figure.axes if not axes.get_label().startswith("scale")}


def drawn(axes) -> np.ndarray:
    return np.ma.filled(axes.collections[0].get_array(), np.nan)


def pivot(summary, severity, measure) -> np.ndarray:
    rows = summary[summary["severity"] == severity]
    return rows.pivot_table(index="perturbation", columns="method", values=measure)[METHODS]


@pytest.mark.parametrize("measure", ["stability", "accuracy"])
def test_the_map_is_the_summary(measure):
    found = standings()
    values = drawn(maps_of(heat_map(found))[measure])
    blur = pivot(found.summary, "all", measure).loc["gaussian_blur"]
    fog = pivot(found.summary, "3", measure).loc["fog"]
    means = [next(row for row in found.of_suite() if row.method == m).values[measure].mean for m in METHODS]
    assert values[1:] == pytest.approx(np.array([blur, fog, means]))
    if measure == "accuracy":
        assert values[0] == pytest.approx(pivot(found.summary, "0", "accuracy").loc["clean"].to_numpy())


def test_rows_and_columns_have_names_and_every_cell_its_number():
    found = heat_map(standings())
    axes = maps_of(found)["stability"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["clean", "gaussian blur", "fog", "mean of all"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["clip dissect", "dnd", "constant label"]
    numbers = [text.get_text() for text in axes.texts if text.get_text() != "*"]
    assert numbers == [f"{value + 0.0:.2f}" for value in drawn(axes).round(2).ravel()]


def test_a_star_stands_where_the_corrected_p_is_small():
    found = standings()
    summary = found.summary.copy()
    summary["p_adjusted"] = np.where((summary["method"] == "dnd") & (summary["perturbation"] == "fog"), 0.049, 0.05)
    drawing = heat_map(with_group(found, tables={**found.group.tables, "summary": summary}))
    maps = maps_of(drawing)
    stars = [text.xy for text in maps["stability"].texts if text.get_text() == "*"]
    assert stars == [(1.5, 2.5)]
    assert not [text for text in maps["accuracy"].texts if text.get_text() == "*"]
    assert "permutation test" in drawing.caption


def test_the_tasks_own_severities_count():
    found = standings()
    one = at_own_severities(with_severities(found, 5))
    assert one["dnd", "gaussian_blur"]["severity"] == "5"
    two = at_own_severities(with_severities(found, 1, 5))
    scores = found.group.scores
    expected = summarise(scores[~((scores["perturbation"] == "gaussian_blur") & (scores["severity"] == 3))], 0)
    assert two["dnd", "gaussian_blur"]["stability"] == pytest.approx(
        pivot(expected, "all", "stability").loc["gaussian_blur", "dnd"]
    )


def test_stars_are_corrected_over_the_tasks_own_conditions_as_in_the_tables():
    few = with_severities(standings(), 5)
    rows = at_own_severities(few)
    own = summarise(few.own_scores, few.group.about_run.seed).set_index(["method", "perturbation", "severity"])
    corrected = {key: own.loc[(*key, str(row["severity"])), "p_adjusted"] for key, row in rows.items()}
    assert {key: row["p_adjusted"] for key, row in rows.items()} == pytest.approx(corrected, nan_ok=True)
    whole = few.summary.set_index(["method", "perturbation", "severity"])
    other = {key: whole.loc[(*key, str(row["severity"])), "p_adjusted"] for key, row in rows.items()}
    assert other != pytest.approx(corrected, nan_ok=True)  # more ran than the task asks for


def test_white_is_chance_and_accuracy_begins_at_zero():
    maps = maps_of(heat_map(standings()))
    mesh = maps["stability"].collections[0]
    assert min(mesh.cmap(mesh.norm(0.0))[:3]) > 0.95
    assert (mesh.norm.vmin, mesh.norm.vmax) == (-1, 1)
    assert maps["accuracy"].collections[0].norm.vmin == 0


def test_a_mean_over_fewer_severities_is_not_shown():
    found = standings("incomplete")
    drawing = heat_map(found)
    values = drawn(maps_of(drawing)["stability"])
    assert np.isnan(values[:, 1]).tolist() == [False, True, False, True]
    assert "Incomplete" in drawing.caption
    assert "dnd" in drawing.caption


def test_without_truth_there_is_one_map():
    assert list(maps_of(heat_map(standings("one severity")))) == ["stability"]
