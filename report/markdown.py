"""Tables as Markdown: readable as it stands, and a table on GitHub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from leaderboard.store import escape
from leaderboard.view.content import Cell, Section, Table


def markdown_tables(tables: Sequence[Table]) -> str:
    """GitHub Markdown: title, table, and the notes as a list; empty for no tables."""
    return "\n".join(_table(table) for table in tables)


def _table(table: Table) -> str:
    columns = range(len(table.columns))
    head = _line([table.corner, *table.columns])
    rule = f"| {' | '.join([':---', *(':---' if table.is_words(number) else '---:' for number in columns)])} |"
    body = [line for section in table.sections for line in _section(section, len(table.columns))]
    notes = [f"- {escape.markdown(note)}" for note in table.notes]
    grid = [head, rule, *body, ""] if body else []
    return "\n".join([f"**{escape.markdown(table.heading)}**", "", *grid, *notes, ""])


def _section(section: Section, columns: int) -> Iterator[str]:
    if section.title:
        yield f"| *{escape.markdown(section.title)}* |{'  |' * columns}"
    for row in section.rows:
        yield _line([row.name], *map(_cell, row.cells))


def _cell(cell: Cell) -> str:
    text = escape.markdown(escape.terminal(cell.shown, 1_000))
    marked = (f"**{text}**" if cell.best else text) + cell.marks.replace("*", r"\*")
    return f"{marked} {cell.interval}".rstrip()


def _line(texts: Sequence[str], *cells: str) -> str:
    return f"| {' | '.join([*(escape.markdown(escape.terminal(text, 200)) for text in texts), *cells])} |"
