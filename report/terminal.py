"""Tables on the terminal, of ``Text`` only, so that no label can be read as markup."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.table import Table as RichTable
from rich.text import Text

from leaderboard.store import escape
from leaderboard.view.content import ABSENT, Cell, Row, Table, printed
from leaderboard.view.grid import MethodFacts


def terminal_table(table: Table, width: int = 120) -> RichTable:
    """One table for the terminal.

    Args:
        table: What to show.
        width: Columns of the terminal; intervals are left out where they do not fit.
    """
    intervals = _full_width(table) <= width
    shown = RichTable(show_edge=False, pad_edge=False)
    shown.add_column(Text(table.corner), no_wrap=True)
    for method in table.methods:
        shown.add_column(_text(method), justify="right", no_wrap=intervals)
    for section in table.sections:
        shown.add_section()
        if section.title:
            shown.add_row(Text(escape.terminal(section.title), style="italic"))
        for row in section.rows:
            shown.add_row(_text(row.name), *(terminal_cell(cell, intervals) for cell in row.cells))
    return shown


def terminal_contents(tables: Sequence[Table], width: int = 120) -> Iterator[RichTable | Text]:
    """Tables below each other, each with its title and notes.

    Args:
        tables: What to show.
        width: Columns of the terminal.
    """
    for table in tables:
        title = f"{table.title}{table.arrow} {table.subject}: {table.task}, profile {table.profile}"
        yield Text(escape.terminal(title), style="bold")
        yield terminal_table(table, width)
        yield from (Text(escape.terminal(note), style="dim") for note in table.notes)
        yield Text()


def facts_table(facts: Sequence[MethodFacts], means: Sequence[Cell]) -> RichTable:
    """One line a method: its mean stability, and what must be known of it before reading its column."""
    table = RichTable(show_edge=False, pad_edge=False)
    headings = (
        "method",
        "mean stability",
        "noise floor",
        "chance",
        "units",
        "labels",
        "dead",
        "missing",
        "truth known",
    )
    for number, heading in enumerate(headings):
        table.add_column(Text(heading), justify="right" if number else "left")
    for fact, mean in zip(facts, means, strict=True):
        values = (printed(fact.noise_floor), printed(fact.chance))
        counts = tuple(map(str, (fact.units, fact.distinct, fact.dead, fact.missing, fact.known)))
        table.add_row(_text(fact.method), terminal_cell(mean, intervals=True), *map(Text, (*values, *counts)))
    return table


def terminal_cell(cell: Cell, intervals: bool) -> Text:
    """A cell, with its interval if there is room and, where the value before is known, both instead."""
    if math.isnan(cell.value):
        return Text(ABSENT, style="dim")
    if not math.isnan(cell.before):
        return Text(f"{printed(cell.before)} → {printed(cell.value)}")
    text = Text(printed(cell.value, cell.digits), style="bold" if cell.best else "")
    text.append(("*" if cell.marked else "") + ("†" if cell.tied else ""))
    if intervals and cell.has_interval:
        text.append(f" [{printed(cell.low)}, {printed(cell.high)}]", style="not bold dim")
    return text


def _full_width(table: Table) -> int:
    def widest(name: str, rows: Sequence[Row], number: int) -> int:
        return max([len(name), *(len(terminal_cell(row.cells[number], True).plain) for row in rows)])

    rows = table.rows
    first = max(map(len, (table.corner, *(row.name for row in rows), *(section.title for section in table.sections))))
    return first + sum(widest(name, rows, number) + 3 for number, name in enumerate(table.methods))


def _text(text: str) -> Text:
    return Text(escape.terminal(text, limit=200))
