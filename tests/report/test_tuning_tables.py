"""What the tables of tuning say."""

from __future__ import annotations

import pytest
from rich.console import Console
from tuning_table import tuning

from leaderboard.board.facts import RunFacts
from leaderboard.view.content import Table
from leaderboard.view.terminal import terminal_tables
from leaderboard.view.tuning import tuning_contents
from report.latex import latex_tables
from report.markdown import markdown_tables

NOTED = RunFacts(note="Measured in a garden.")


def tables(**given: object) -> dict[str, Table]:
    return {table.kind: table for table in tuning_contents(tuning(**given), NOTED)}  # type: ignore[arg-type]


def row(table: Table, name: str, section: int) -> list[float]:
    return next([cell.value for cell in one.cells] for one in table.sections[section].rows if one.name == name)


def test_shares_stand_beside_each_other() -> None:
    table = tables()["tuning_shares"]
    assert table.columns == ("0", "0.5", "1")
    assert [section.title.partition(",")[0] for section in table.sections] == ["clip_dissect", "dnd"]
    assert row(table, "accuracy, clean", 1) == pytest.approx([0.5, 0.6, 0.7])
    assert row(table, "stability, held out", 0) == pytest.approx([0.2, 0.3, 0.4])
    marked = [[cell.marked for cell in one.cells] for one in table.sections[0].rows]
    assert marked == [[False] * 3, [False] * 3, [False, False, True]]
    assert "mean over fog 3" in table.notes[0]
    assert "Measured in a garden." in table.notes[-1]


def test_one_table_holds_the_network_and_its_labels_before_and_after() -> None:
    table = tables()["tuning"]
    assert table.columns == ("untuned", "clean images", "corruptions", "both")
    assert [section.title for section in table.sections] == [
        "network", "clip_dissect, 8 units of known truth", "dnd, 8 units of known truth",
    ]  # fmt: skip
    assert row(table, "error ratio, held out", 0) == pytest.approx([1.0, 0.8, 0.7, 0.9])
    assert row(table, "accuracy, held out", 2) == pytest.approx([0.4, 0.6, 0.7, 0.5])
    cell = table.sections[0].rows[0].cells[0]
    assert (cell.low, cell.high) == pytest.approx((0.85, 0.95))


def test_conditions_say_which_were_held_out() -> None:
    table = tables()["tuning_conditions"]
    found = {section.title: [one.name for one in section.rows] for section in table.sections}
    assert found == {"tuned on": ["brightness 3"], "held out": ["fog 3"]}


def test_without_tuned_networks_there_are_only_shares() -> None:
    assert list(tables(networks=False)) == ["tuning_shares"]
    assert tuning_contents(tuning().iloc[:0], NOTED) == []


def test_every_form_of_them() -> None:
    found = list(tables().values())
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for part in terminal_tables(found, 160):
        console.print(part)
    assert "stability, held out" in console.export_text()
    for text in (latex_tables(found), markdown_tables(found)):
        assert "error ratio" in text


def test_names_are_no_markup() -> None:
    frame = tuning(methods=("[bold]a_b & \\x",))
    found = tuning_contents(frame, NOTED)
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for part in terminal_tables(found, 160):
        console.print(part)
    assert "[bold]a_b" in console.export_text()
    assert "\\x" not in latex_tables(found).replace("\\textbackslash", "")
