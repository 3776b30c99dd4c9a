from __future__ import annotations

import io
import re

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from leaderboard.board import intervals
from leaderboard.board.facts import RunFacts
from leaderboard.store.frames import to_arrow, to_pandas
from leaderboard.store.schema import FAITHFULNESS
from leaderboard.view.content import Cell, Table
from leaderboard.view.faithfulness import LATER, MEASURES, faithfulness_tables
from leaderboard.view.terminal import terminal_tables
from metrics.statistics import bootstrap_interval
from report.markdown import markdown_tables

METHODS = ("random_label", "zeta", "constant_label", "dnd")


def rows(method: str, values: np.ndarray, **changes) -> pd.DataFrame:
    base = {"task": "resnet50_fc", "profile": "miniature", "perturbation": "clean", "severity": 0, "repeat": 0}
    frame = pd.DataFrame({"unit": np.arange(len(values)), "label": "fish", "presence": "annotation"})
    later = dict.fromkeys(LATER, np.nan)
    frame = frame.assign(**base | {"method": method} | {measure: values for measure in MEASURES} | later | changes)
    return to_pandas(FAITHFULNESS, to_arrow(FAITHFULNESS, frame))


@pytest.fixture
def table() -> pd.DataFrame:
    generator = np.random.default_rng(4)
    return pd.concat([rows(method, generator.random(9)) for method in METHODS], ignore_index=True)


def printed(parts, width: int = 140) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for part in parts:
        console.print(part)
    return console.file.getvalue()


def grid_of(markdown: str) -> dict[str, list[str]]:
    lines = [line.strip("| ").split(" | ") for line in markdown.splitlines() if line.startswith("|")]
    return {line[0]: line[1:] for line in lines}


def row_of(table: Table, name: str) -> tuple[Cell, ...]:
    return next(row.cells for row in table.rows if row.name == name)


def test_cells_are_means_with_the_bootstrap_interval(table, monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 4_999)  # as in a run
    (shown,) = faithfulness_tables(table, RunFacts())
    assert shown.columns == ("dnd", "zeta", "random_label", "constant_label")
    values = table[table["method"] == "dnd"]["f1"].to_numpy().round(12)
    expected = bootstrap_interval(values, resamples=4_999)
    found = row_of(shown, "F1 ↑")[0]
    assert (found.value, found.low, found.high) == expected[:3]
    cells = grid_of(markdown_tables([shown]))
    assert cells["F1 ↑"][0] == f"{values.mean():.2f} [{expected.low:.2f}, {expected.high:.2f}]"
    assert cells["units"] == ["9"] * 4


def test_every_measure_stands_there_with_the_arrow_of_the_schema(table):
    cells = grid_of(markdown_tables(faithfulness_tables(table, RunFacts())))
    for measure in MEASURES:
        assert FAITHFULNESS.column(measure).higher_is_better
        assert f"{FAITHFULNESS.column(measure).title} ↑" in cells


def test_terminal_and_markdown_say_the_same(table):
    tables = faithfulness_tables(table, RunFacts())
    terminal = printed(terminal_tables(tables, 140))
    for heading, cells in grid_of(markdown_tables(tables)).items():
        if heading != "Measure" and not heading.startswith(":"):
            found = next(line for line in terminal.splitlines() if line.startswith(heading))
            assert [part.strip() for part in found.split("│")[1:]] == cells


def test_a_narrow_terminal_loses_the_intervals_not_the_values(table):
    tables = faithfulness_tables(table, RunFacts())
    assert "[" in printed(terminal_tables(tables, 140)).splitlines()[3]
    narrow = printed(terminal_tables(tables, 70), 70)
    assert re.search(r"F1 ↑ +│ +0\.\d\d │", narrow)
    assert not re.search(r"\d \[", narrow)


def test_perturbed_labels_have_a_table_of_their_own_by_units_means():
    perturbed = [
        rows("dnd", np.array([0.0, 0.5, 1.0, 0.25]), perturbation="fog", severity=1),
        rows("dnd", np.array([1.0, 0.5, 0.0, 0.75]), perturbation="snow", severity=5),
    ]
    again = rows("dnd", np.zeros(4), repeat=1)
    clean, other = faithfulness_tables(pd.concat([rows("dnd", np.full(4, 0.25)), again, *perturbed]), RunFacts())
    assert clean.subject == "of labels given on clean images"
    assert row_of(clean, "IoU ↑")[0].value == 0.25
    assert other.subject == "of labels given on perturbed images"
    # Every unit's mean is 0.5, so that no spread between units is left.
    assert row_of(other, "IoU ↑")[0] == Cell(0.5, 0.5, 0.5)
    assert row_of(other, "units")[0].value == 4


def test_without_cosy_the_reason_stands_under_the_table(table):
    without = table.assign(cosy_auc=np.nan, cosy_mad=np.nan)
    (shown,) = faithfulness_tables(without, RunFacts(), {"without_cosy": "The profile mine has no image generator."})
    assert "No CoSy: The profile mine has no image generator." in shown.notes
    cells = grid_of(markdown_tables([shown]))
    assert cells["CoSy AUC ↑"] == cells["CoSy MAD ↑"] == ["–"] * 4
    assert "–" not in "".join(cells["F1 ↑"])


def test_notes_say_what_a_reader_must_know(table):
    noted = RunFacts(note="Measured in a garden.")
    (shown,) = faithfulness_tables(table, noted, {"images_per_label": 10, "without_cosy": ""})
    notes = " ".join(shown.notes)
    assert "10 images drawn of each label." in notes
    assert "random_label and constant_label" in notes
    assert shown.notes[-1] == "Measured in a garden."


def test_the_share_of_annotated_labels_is_shown(table):
    half = table.assign(presence=np.where(table["unit"] < 3, "clip", "annotation"))
    assert grid_of(markdown_tables(faithfulness_tables(half, RunFacts())))["annotated"] == ["0.67"] * 4


def test_two_units_have_a_mean_but_no_interval():
    (shown,) = faithfulness_tables(rows("dnd", np.array([0.2, 0.4])), RunFacts())
    assert grid_of(markdown_tables([shown]))["F1 ↑"] == ["0.30"]


def test_row_order_does_not_matter_and_nothing_gives_nothing(table):
    tables = faithfulness_tables(table, RunFacts())
    assert markdown_tables(faithfulness_tables(table.sample(frac=1, random_state=1), RunFacts())) == markdown_tables(
        tables
    )
    assert faithfulness_tables(table.iloc[:0], RunFacts()) == []
    assert markdown_tables([]) == ""


def test_later_measures_are_shown_where_a_run_has_them(table):
    (older,) = faithfulness_tables(table, RunFacts())
    assert {row.name for row in older.rows} == {f"{FAITHFULNESS.column(one).title} ↑" for one in MEASURES} | {
        "units",
        "annotated",
    }
    newer = table.assign(dma=1.2, simulation_by_annotation=np.where(table["method"] == "dnd", 0.5, np.nan))
    (shown,) = faithfulness_tables(newer, RunFacts())
    assert row_of(shown, "DMA ↑")[0].value == pytest.approx(1.2)
    assert [np.isnan(cell.value) for cell in row_of(shown, "Simulation by annotation ↑")] == [False, True, True, True]
    assert not any(row.name.startswith(("Activation rate", "Simulation correlation")) for row in shown.rows)
    assert any(note.startswith("Simulation: ") for note in shown.notes)
    assert not any(note.startswith("Simulation: ") for note in older.notes)


def test_names_cannot_act_as_markup(table):
    (shown,) = faithfulness_tables(table.assign(task="a|b <i>[x](y)"), RunFacts())
    assert r"a\|b \<i\>\[x\](y)" in markdown_tables([shown])
    assert "a|b <i>[x](y)" in printed(terminal_tables([shown]))
