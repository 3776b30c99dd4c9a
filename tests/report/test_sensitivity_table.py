"""What the tables of sensitive units say, and that no label acts as markup in them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from sensitive_tables import CONDITIONS, detectors, labels, units

from leaderboard.board.facts import RunFacts
from leaderboard.view.sensitivity import sensitivity_contents
from leaderboard.view.terminal import terminal_tables
from report.latex import latex_tables
from report.markdown import markdown_tables

NOTED = RunFacts(note="Measured in a garden.")

HOSTILE = json.loads((Path(__file__).parents[1] / "data" / "hostile_labels.json").read_text(encoding="utf-8"))
KINDS = ["sensitivity", "sensitive_families", "sensitive_units", "degradation", "degradation_transfer"]


def tables(rows=None, tested=None, said=None, facts=NOTED):
    own = (
        units() if rows is None else rows,
        detectors() if tested is None else tested,
        labels("red").iloc[:0] if said is None else said,
    )
    return {table.kind: table for table in sensitivity_contents(*own, facts)}


def row(table, name: str):
    cells = next(row.cells for row in table.rows if row.name == name)
    return dict(zip(table.columns, (cell.value for cell in cells), strict=True))


def shown(found) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for part in terminal_tables(list(found.values()), 200):
        console.print(part)
    return console.export_text()


def test_a_condition_counts_the_units_past_the_bar():
    found = tables()
    assert list(found) == KINDS
    table = found["sensitivity"]
    assert [section.title for section in table.sections] == ["blur", "weather", "mask"]
    expected = {"moved": 4 / 6, "rise": 2, "fall": 1, "strongest": 1, "AUROC": 0.03, "effect": -1.88}
    assert row(table, "gaussian_blur 3") == pytest.approx(expected)
    assert row(table, "fog 3")["rise"] == 1


def test_without_significance_no_unit_is_counted():
    found = tables(units(p=0.2), detectors())
    assert row(found["sensitivity"], "gaussian_blur 3")["rise"] == 0
    assert row(found["sensitive_families"], "blur")["detect"] == 0


def test_families_tell_specific_units_from_those_that_feel_anything():
    found = row(tables()["sensitive_families"], "blur")
    assert found == pytest.approx(
        {"detect": 3, "specific": 1, "leaning": 1, "general": 1, "rising": 2, "best AUROC": 0.97}
    )


def test_a_part_of_the_image_is_no_family_of_its_own():
    assert [row.name for row in tables()["sensitive_families"].rows] == ["blur", "weather"]


def test_where_only_parts_of_images_were_changed_there_are_no_empty_tables():
    rows = units()
    found = tables(rows[rows["family"] == "mask"], detectors().iloc[:0])
    assert list(found) == ["sensitivity"]


def test_the_strongest_units_carry_direction_and_labels():
    given = labels(dnd="red fish", clip_dissect="fish", random_label="castle")
    first, second, *_ = tables(units(), detectors(), given)["sensitive_units"].sections[0].rows
    assert first.name == "1 ↓"
    assert second.name == "0 ↑ fish / red fish"
    assert [cell.marked for cell in (first.cells[0], second.cells[0])] == [False, True]
    own, other, blur, weather = (cell.value for cell in first.cells)
    assert [own, other, blur, weather] == pytest.approx([0.97, 0.95, (0.97 + 0.80) / 2, 0.95])


def test_planted_units_are_named():
    found = tables(units(), detectors(), facts=replace(NOTED, planted_from={"toy": 2}))["sensitive_units"]
    assert {row.name for row in found.rows} >= {"0 ↑", "1 ↓", "2 ↑ (planted)", "3 ↑ (planted)"}


def test_detectors_stand_by_their_size_with_intervals():
    table = tables()["degradation"]
    assert table.columns == ("best 1", "best 4", "best 16", "best 64", "best 256", "random 64", "seen, 64")
    cells = next(row.cells for row in table.rows if row.name == "mean of blur")
    assert [cell.value for cell in cells] == pytest.approx([0.621, 0.624, 0.636, 0.684, 0.876, 0.634, 0.784])
    assert [cells[0].low, cells[0].high] == pytest.approx([0.601, 0.641])
    assert {row.name for row in table.rows} == {
        "gaussian_blur 3",
        "motion_blur 3",
        "mean of blur",
        "fog 3",
        "mean of weather",
    }


def test_transfer_has_a_row_for_each_training_and_a_gap_where_nothing_was_tested():
    table = tables()["degradation_transfer"]
    assert [row.name for row in table.rows] == ["gaussian_blur 3", "fog 3"]
    assert row(table, "gaussian_blur 3") == {"blur": 0.9, "weather": 0.6}
    assert np.isnan(row(table, "fog 3")["weather"])


def test_without_detectors_their_tables_are_not_there():
    assert list(tables(units(), detectors().iloc[:0])) == KINDS[:3]
    assert sensitivity_contents(units().iloc[:0], detectors().iloc[:0], labels("red").iloc[:0], NOTED) == []


def test_conditions_stand_in_the_order_of_all_tables_whatever_the_rows_order():
    mixed = tables(units().sample(frac=1, random_state=0), detectors().sample(frac=1, random_state=1))
    assert mixed == tables()
    severities = tuple((name, severity, family) for name, _, family in CONDITIONS[:1] for severity in (5, 1))
    table = tables(units(conditions=severities), detectors().iloc[:0])["sensitivity"]
    assert [row.name for row in table.rows] == ["gaussian_blur 1", "gaussian_blur 5"]


def test_tasks_stay_apart():
    both = sensitivity_contents(pd.concat([units(), units("other")]), detectors("other"), labels("red").iloc[:0], NOTED)
    assert [(table.task, table.kind) for table in both] == [
        *(("other", kind) for kind in KINDS),
        *(("toy", kind) for kind in KINDS[:3]),
    ]


def test_every_place_shows_the_same_numbers():
    found = tables()
    for text in (shown(found), markdown_tables(list(found.values())), latex_tables(list(found.values()))):
        for number in ("0.97", "0.67", "0.88"):
            assert number in text
        assert "Measured in a garden." in text


@pytest.mark.parametrize("start", range(0, len(HOSTILE), 4))
def test_no_label_acts_as_markup(start: int):
    found = tables(units(), detectors(), labels(*HOSTILE[start : start + 4]))
    out = shown(found)
    assert not any(ord(character) < 32 and character != "\n" for character in out)
    latex = latex_tables([found["sensitive_units"]])
    assert not re.search(r"\\(input|write18|def)\b", latex)
    assert not re.search(r"(?<!\\)[<|](script|img)", markdown_tables([found["sensitive_units"]]))
