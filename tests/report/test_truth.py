from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from leaderboard.board import intervals
from leaderboard.board.facts import RunFacts
from leaderboard.view.truth import accuracy_by_truth, right_and_stable
from metrics.statistics import bootstrap_interval, wilson_interval
from report.tables import document_tables, write_tables

NOTED = RunFacts(note="Measured in a garden.")

CONDITIONS = (("clean", 0, 0), ("clean", 0, 1), ("fog", 3, 0), ("gaussian_blur", 3, 0), ("motion_blur", 3, 0))


@pytest.fixture
def scores() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    rows = []
    for method, (name, severity, repeat), unit in itertools.product(("dnd", "mine"), CONDITIONS, range(12)):
        rows.append(
            {
                "task": "resnet50_planted",
                "profile": "miniature",
                "method": method,
                "perturbation": name,
                "severity": severity,
                "repeat": repeat,
                "unit": unit,
                "dead": unit == 11,
                "missing": False,
                "truth": None if unit == 10 else "red",
                "truth_op": None if unit == 10 else ("single", "and", "or")[unit % 3],
                "right_clean": None if unit == 10 else unit % 2 == 0,
                "right": None if unit == 10 else unit % 2 == 0 if name == "clean" else bool(generator.random() < 0.5),
            }
        )
    return pd.DataFrame(rows)


def rows_of(table, section=0) -> dict:
    return {row.name: row.cells for row in table.sections[section].rows}


def test_the_four_shares_are_of_units_with_truth_and_add_up(scores):
    (table,) = right_and_stable(scores, NOTED)
    rows = rows_of(table)
    alive = scores[~scores["dead"] & scores["truth"].notna() & (scores["perturbation"] != "clean")]
    for number, method in enumerate(table.columns):
        own = alive[alive["method"] == method]
        before, after = own["right_clean"].astype(bool), own["right"].astype(bool)
        expected = [
            (before & after).mean(),
            (before & ~after).mean(),
            (~before & after).mean(),
            (~before & ~after).mean(),
        ]
        assert [cells[number].value for cells in rows.values()] == pytest.approx(expected)
        assert sum(expected) == pytest.approx(1.0)
    assert [cell.value for cell in rows_of(table, 1)["units with truth"]] == [10, 10]
    assert [cell.value for cell in rows_of(table, 1)["conditions"]] == [3, 3]
    assert "n = 10 units" in table.notes[0]
    assert table.notes[-1] == NOTED.note


def test_intervals_take_the_unit_as_the_unit(scores, monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 4_999)  # as in a run
    own = scores[(scores["method"] == "dnd") & (scores["perturbation"] != "clean") & (scores["unit"] < 10)]
    (table,) = right_and_stable(scores, NOTED)
    kept = own["right_clean"].astype(bool) & own["right"].astype(bool)
    expected = bootstrap_interval(kept.groupby(own["unit"]).mean().to_numpy(float), resamples=4_999)
    cell = rows_of(table)["right and stable"][0]
    assert (cell.low, cell.high) == pytest.approx((expected.low, expected.high))
    (single,) = right_and_stable(scores[scores["perturbation"].isin(["clean", "fog"])], NOTED)
    successes = int(kept[own["perturbation"] == "fog"].sum())
    cell = rows_of(single)["right and stable"][0]
    assert (cell.low, cell.high) == pytest.approx(wilson_interval(successes, 10)[1:3])


def test_units_that_all_agree_still_have_an_interval(scores):
    (table,) = right_and_stable(scores.assign(right=False, right_clean=False), NOTED)
    cell = rows_of(table)["wrong and stable"][0]
    assert (cell.value, cell.low) == (1.0, pytest.approx(wilson_interval(10, 10).low))


def test_a_missing_label_is_wrong(scores):
    unnamed = scores.assign(missing=scores["perturbation"] == "fog")
    unnamed["right"] = scores["right"].where(~unnamed["missing"], None)
    (table,) = right_and_stable(unnamed, NOTED)
    (wrong,) = right_and_stable(scores.assign(right=scores["right"].where(~unnamed["missing"], False)), NOTED)
    assert rows_of(table) == rows_of(wrong)
    assert rows_of(table, 1)["labels missing"][0].value == 10


def test_accuracy_by_kind_and_group(scores):
    (table,) = accuracy_by_truth(scores, NOTED)
    assert [section.title for section in table.sections] == [
        "all (n = 10)",
        "single (n = 4)",
        "AND (n = 3)",
        "OR (n = 3)",
    ]
    assert list(rows_of(table)) == ["clean", "blur (2)", "weather (1)", "all perturbed (3)"]
    assert rows_of(table)["clean"][0].value == 0.5
    pairs = scores[(scores["method"] == "mine") & (scores["truth_op"] == "and") & ~scores["dead"]]
    blurred = pairs[pairs["perturbation"].isin(["gaussian_blur", "motion_blur"])]
    assert rows_of(table, 2)["blur (2)"][1].value == pytest.approx(blurred["right"].astype(float).mean())
    foggy = pairs[pairs["perturbation"] == "fog"]
    cell = rows_of(table, 2)["weather (1)"][1]
    assert (cell.low, cell.high) == pytest.approx(wilson_interval(int(foggy["right"].sum()), 3)[1:3])
    assert "AND" in table.notes[0]


def test_both_concepts_are_shown_where_some_method_names_them(scores):
    scores["named_both"] = (scores["truth_op"].eq("or") & scores["method"].eq("mine") & scores["unit"].eq(2)).astype(
        object
    )
    scores.loc[scores["truth_op"] != "or", "named_both"] = None
    (table,) = accuracy_by_truth(scores, NOTED)
    assert table.sections[-1].title == "OR, both concepts named (n = 3)"
    cells = dict(zip(table.columns, rows_of(table, -1)["clean"], strict=True))
    assert (cells["mine"].value, cells["dnd"].value) == (pytest.approx(1 / 3), 0)
    assert "Both named: by all labels that the method gives" in table.notes[0]
    scores["named_both"] = scores["named_both"].where(scores["named_both"].isna(), False)
    (table,) = accuracy_by_truth(scores, NOTED)
    assert not any("both" in section.title for section in table.sections)


def test_the_kind_of_truth_is_optional(scores):
    for without in (scores.drop(columns="truth_op"), scores.assign(truth_op=None)):
        (table,) = accuracy_by_truth(without, NOTED)
        assert [section.title for section in table.sections] == ["all (n = 10)"]
        assert "AND" not in table.notes[0]
    (one,) = accuracy_by_truth(scores.assign(truth_op="single"), NOTED)
    assert [section.title for section in one.sections] == ["single (n = 10)"]


def test_a_perturbation_of_no_group_is_counted_as_other(scores):
    (table,) = accuracy_by_truth(scores.replace({"perturbation": {"fog": "my_filter"}}), NOTED)
    assert list(rows_of(table)) == ["clean", "blur (2)", "other (1)", "all perturbed (3)"]


def test_without_truth_or_perturbation_there_is_no_table(scores):
    assert (
        right_and_stable(scores.assign(truth=None), NOTED) == accuracy_by_truth(scores.assign(truth=None), NOTED) == []
    )
    assert right_and_stable(scores[scores["perturbation"] == "clean"], NOTED) == []
    assert right_and_stable(scores.iloc[:0], NOTED) == accuracy_by_truth(pd.DataFrame(), NOTED) == []
    (clean,) = accuracy_by_truth(scores[scores["perturbation"] == "clean"], NOTED)
    assert list(rows_of(clean)) == ["clean"]


def test_they_are_written_beside_the_others_whatever_the_order(scores, summary, tmp_path):
    names = list(document_tables(summary, NOTED, scores))
    assert names == ["stability", "right_and_stable", "accuracy_by_truth"]
    first = write_tables(tmp_path / "a", summary, NOTED, scores)
    second = write_tables(tmp_path / "b", summary, NOTED, scores.sample(frac=1, random_state=0))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert len(first) == 2 * len(names)
