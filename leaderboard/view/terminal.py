"""Tables on the terminal, of ``Text`` only, so that no label can be read as markup."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.table import Table as RichTable
from rich.text import Text

from leaderboard.store import escape
from leaderboard.view.content import Cell, Table
from leaderboard.view.words import ABSENT

_LIMIT: Final = 1_000
_FOLDED: Final = 30
"""Letters of a text that are broken into lines where there is no room."""


def terminal_tables(tables: Sequence[Table], width: int = 120) -> Iterator[RichTable | Text]:
    """Tables below each other, each with its title and with the notes that no table before it has.

    Args:
        width: Columns of the terminal; intervals are left out where they do not fit.
    """
    said: set[str] = set()
    for table in tables:
        # A rich table's own title would be wrapped to the width of the table.
        yield Text(escape.terminal(table.heading), style="bold")
        if table.sections:
            yield terminal_table(table, width)
        yield from (Text(escape.terminal(note), style="dim") for note in table.notes if note not in said)
        said.update(table.notes)
        yield Text()


def terminal_table(table: Table, width: int = 120) -> RichTable:
    """One table without title and notes; see ``terminal_tables``."""
    intervals = _full_width(table) <= width
    shown = RichTable(show_edge=False, pad_edge=False)
    shown.add_column(Text(table.corner), no_wrap=not table.wordy, overflow="fold")
    for number, heading in enumerate(table.columns):
        words = table.is_words(number)
        justify, one_line = "left" if words else "right", intervals and not words
        shown.add_column(_text(heading, 200), justify=justify, no_wrap=one_line, overflow="fold")
    for section in table.sections:
        shown.add_section()
        if section.title:
            shown.add_row(Text(escape.terminal(section.title), style="italic"))
        for row in section.rows:
            shown.add_row(_text(row.name, 200), *(_cell(cell, intervals) for cell in row.cells))
    return shown


def _cell(cell: Cell, intervals: bool) -> Text:
    """A cell, with its interval if there is room."""
    if cell.shown == ABSENT:
        return Text(ABSENT, style="dim")
    text = Text(escape.terminal(cell.shown, _LIMIT) + cell.marks, style="bold" if cell.best else "")
    if intervals and cell.has_interval:
        text.append(f" {cell.interval}", style="not bold dim")
    return text


def _full_width(table: Table) -> int:
    rows = table.rows
    names = [table.corner, *(row.name for row in rows), *(section.title for section in table.sections)]
    columns = [names]
    for number, heading in enumerate(table.columns):
        columns.append([heading, *(_cell(row.cells[number], True).plain for row in rows)])
    widest = [max(map(len, texts)) for texts in columns]
    return sum(min(width, _FOLDED) if table.wordy else width for width in widest) + 3 * len(table.columns)


def _text(text: str, limit: int) -> Text:
    return Text(escape.terminal(text, limit))
