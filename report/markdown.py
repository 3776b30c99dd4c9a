"""Tables as Markdown: readable as it stands, and a table on GitHub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from leaderboard.store import escape
from leaderboard.view.content import Cell, Section, Table, printed


def markdown_tables(tables: Sequence[Table]) -> str:
    """GitHub Markdown: title, table, and the notes as a list; empty for no tables."""
    return "\n".join(_table(table) for table in tables)


def _table(table: Table) -> str:
    subject = f" {table.subject}" if table.subject else ""
    title = f"**{escape.markdown(table.title)}{table.arrow}{subject}, task {escape.markdown(table.task)}**"
    head = _line([table.corner, *(escape.markdown(escape.terminal(name, 200)) for name in table.methods)])
    rule = _line([":---", *["---:"] * len(table.methods)])
    body = [line for section in table.sections for line in _section(section, len(table.methods))]
    notes = [f"- {escape.markdown(note)}" for note in (*table.notes, *table.emphasis)]
    return "\n".join([title, "", head, rule, *body, "", *notes, ""])


def _section(section: Section, methods: int) -> Iterator[str]:
    if section.title:
        yield _line([f"*{escape.markdown(section.title)}*", *[""] * methods])
    for row in section.rows:
        yield _line([escape.markdown(escape.terminal(row.name, 200)), *map(_cell, row.cells)])


def _cell(cell: Cell) -> str:
    number = printed(cell.value, cell.digits)
    text = (f"**{number}**" if cell.best else number) + (r"\*" if cell.marked else "") + ("†" if cell.tied else "")
    if cell.has_interval:
        text += f" [{printed(cell.low, cell.digits)}, {printed(cell.high, cell.digits)}]"
    return text


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
