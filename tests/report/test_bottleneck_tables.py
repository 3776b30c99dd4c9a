"""The tables of a concept bottleneck say what the store says."""

from __future__ import annotations

import io

import numpy as np
import pytest
from bottleneck_tables import drift, facts, heads, separation
from rich.console import Console

from leaderboard.board.bottlenecks import conditions_in_order
from leaderboard.board.facts import RunFacts
from leaderboard.view.bottleneck import bottleneck_contents
from leaderboard.view.terminal import terminal_tables
from report.markdown import markdown_tables

NOTED = RunFacts(note="Measured in a garden.")


def tables():
    return {table.kind: table for table in bottleneck_contents(heads(), drift(), separation(), NOTED, facts())}


def row_of(table, name):
    (row,) = [row for row in table.rows if row.name.split(":")[0] == name]
    return row


def test_conditions_come_in_the_order_of_all_tables():
    assert conditions_in_order(heads()) == [("clean", 0), ("unseen_background", 0), ("gaussian_blur", 3), ("fog", 3)]


def test_accuracy_is_each_heads_and_marked_where_it_fell():
    table = tables()["bottleneck"]
    row = row_of(table, "fog 3")
    assert [cell.value for cell in row.cells[:4]] == pytest.approx([0.5, 0.51, 0.52, 0.53])
    assert [cell.marked for cell in row.cells] == [True] * 4 + [False] * 2
    assert row.cells[3].low == pytest.approx(0.43)
    assert not any(cell.marked for cell in row_of(table, "gaussian_blur 3").cells)
    mean = row_of(table, "mean of perturbed")
    assert mean.cells[0].value == pytest.approx((0.5 + 0.3) / 2)
    assert mean.cells[4].value == pytest.approx(0.03)
    assert row_of(table, "clean").cells[-1].value == 0.0


def test_classes_show_their_weights_and_strongest_concepts():
    table = tables()["bottleneck_classes"]
    row = row_of(table, "shape")
    assert row.name == "shape: circle, NOT tree"
    assert [cell.value for cell in row.cells] == [70, 2, 5]
    assert row_of(table, "mean").cells[1].value == 1.5
    text = " ".join(table.notes)
    assert all(one.notes[-1] == NOTED.note for one in tables().values())
    assert "long 0, not visible 2" in text
    assert "0.80 on average, 0.70 at least" in text
    assert "never shows fish" in text


def test_drift_blames_the_concepts_by_their_share():
    table = tables()["concept_drift"]
    row = row_of(table, "fog 3")
    assert row.name == "fog 3: circle 86%, tree 29%"
    assert [cell.value for cell in row.cells] == pytest.approx([0.2, 0.75, 0.9, 12])
    assert row_of(table, "unseen_background").name == "unseen_background"


def test_separation_has_a_section_a_score_and_anomalies_last():
    table = tables()["context_anomaly"]
    assert [section.title for section in table.sections] == ["nearest", "mahalanobis", "largest z"]
    names = [row.name for row in table.sections[0].rows]
    assert names == ["unseen_background", "anomaly"]
    anomaly = table.sections[0].rows[1]
    assert [cell.value for cell in anomaly.cells[:4]] == pytest.approx([0.71, 0.76, 0.81, 0.86])
    assert np.isnan(table.sections[2].rows[0].cells[0].value)
    told = tables()["context_or_anomaly"]
    assert [cell.value for cell in told.rows[0].cells] == pytest.approx([0.61, 0.6])


def test_a_run_without_drawn_backgrounds_or_facts_has_fewer_tables():
    own = heads()
    own = own[own["severity"] == 0]
    found = bottleneck_contents(own, drift().iloc[:0], separation().iloc[:0], NOTED, None)
    assert [table.kind for table in found] == ["bottleneck"]
    assert len(found[0].sections) == 1
    assert bottleneck_contents(heads().iloc[:0], drift().iloc[:0], separation().iloc[:0], NOTED) == []


def test_hostile_names_are_no_markup():
    told = facts()
    told["toy"]["weights"]["shape"] = {"[red]x[/red]|<b>": 1.0}
    found = bottleneck_contents(heads(), drift(), separation(), NOTED, told)
    console = Console(record=True, width=140, file=io.StringIO())
    for part in terminal_tables(found, 140):
        console.print(part)
    assert "[red]x[/red]|<b>" in console.export_text()
    assert "<b>" not in markdown_tables(found).replace("\\<b", "").replace("&lt;", "")
