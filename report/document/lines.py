"""Tables of plain text as LaTeX and Markdown: standings, pairs of methods, settings, licences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from leaderboard.store import escape
from leaderboard.view.comparisons import Lines, is_number, markdown_lines
from report.document.words import numbers
from report.latex import latex_text

_LONG: Final = 34
"""Letters from which on a column's text is set in lines."""
_CELL: Final = 400
_ROWS_A_PART: Final = 40


@dataclass(frozen=True)
class TextTable:
    """A table of plain text, not escaped yet; all blocks have the same columns.

    Attributes:
        label: What LaTeX refers to it by.
        title: First sentence of the caption, without a full stop.
        blocks: (heading or nothing, rows).
        notes: Sentences of the caption.
    """

    label: str
    title: str
    blocks: tuple[tuple[str, Lines], ...]
    notes: tuple[str, ...] = ()


def latex_text_table(table: TextTable) -> str:
    """A ``table`` environment, or several for many rows; needs ``booktabs``."""
    parts = list(_parts(table))
    return "\n".join(_environment(table, blocks, number, len(parts)) for number, blocks in enumerate(parts))


def markdown_text_table(table: TextTable) -> str:
    """The same as GitHub Markdown."""
    lines = [f"**{escape.markdown(table.title)}**"]
    for heading, block in table.blocks:
        lines += [f"*{escape.markdown(heading)}*"] if heading else []
        lines.append(markdown_lines(block))
    lines += ["\n".join(f"- {escape.markdown(note)}" for note in table.notes)] if table.notes else []
    return "\n\n".join(lines) + "\n"


def _parts(table: TextTable) -> Iterator[list[tuple[str, Lines]]]:
    part: list[tuple[str, Lines]] = []
    for heading, block in table.blocks:
        for start in range(0, len(block.rows), _ROWS_A_PART):
            piece = Lines(block.heads, block.rows[start : start + _ROWS_A_PART])
            if part and sum(len(lines.rows) for _, lines in part) + len(piece.rows) > _ROWS_A_PART:
                yield part
                part = []
            part.append((heading, piece))
    if part:
        yield part


def _environment(table: TextTable, blocks: Sequence[tuple[str, Lines]], number: int, of: int) -> str:
    which = f" (part {number + 1} of {of})" if of > 1 else ""
    caption = " ".join([f"{latex_text(table.title)}{which}.", *map(numbers, table.notes)])
    heads = blocks[0][1].heads
    lines = [
        r"\begin{table}",
        r"\centering",
        r"\setlength{\belowcaptionskip}{6pt}",
        rf"\caption{{{caption}}}",
        rf"\label{{{table.label}{f'-{number + 1}' if number else ''}}}",
        r"\footnotesize",
        r"\setlength{\tabcolsep}{4pt}",
        rf"\begin{{tabular}}{{@{{}}{_columns([block for _, block in table.blocks])}@{{}}}}",
        r"\toprule",
        " & ".join(map(latex_text, heads)) + r" \\",
    ]
    for heading, block in blocks:
        lines.append(r"\midrule")
        if heading:
            lines.append(rf"\multicolumn{{{len(heads)}}}{{@{{}}l}}{{\itshape {latex_text(heading)}}} \\")
        lines += [" & ".join(numbers(escape.terminal(cell, _CELL)) for cell in row) + r" \\" for row in block.rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _columns(blocks: Sequence[Lines]) -> str:
    rows = Lines(blocks[0].heads, tuple(row for block in blocks for row in block.rows))
    widest = [max([len(head), *(len(row[i]) for row in rows.rows)]) for i, head in enumerate(rows.heads)]
    long = [i for i, width in enumerate(widest) if width > _LONG]
    # What short columns leave of the line, at about a hundred letters of this size.
    left = max(0.25, 0.94 - sum(0.0095 * (width + 1) for i, width in enumerate(widest) if i not in long))
    share = {i: left * widest[i] / sum(widest[j] for j in long) for i in long}
    kinds = [
        rf">{{\raggedright\arraybackslash}}p{{{max(0.12, share[i]):.2f}\linewidth}}" if i in share
        else "r" if i and is_number(rows, i) else "l"
        for i in range(len(rows.heads))
    ]  # fmt: skip
    return "".join(kinds)
