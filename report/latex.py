"""Tables as LaTeX: booktabs rules, siunitx columns or plain ones, and nothing else to load."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from leaderboard.store import escape
from leaderboard.view.content import Cell, Row, Section, Table
from leaderboard.view.words import ABSENT, with_minus

_NAME_LIMIT: Final = 28
_TEXT_LIMIT: Final = 400
"""Letters of a name, and of any text in a table whose columns hold words."""
_LONG: Final = 34
"""Letters from which on a column's text is set in lines."""
_HEAD_LINE: Final = 12
_HEAD_LINES: Final = 3
_SIGNS: Final = {
    "−": "$-$", "†": r"$\dagger$", "×": r"$\times$", "→": r"$\rightarrow$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "≥": r"$\geq$", "≤": r"$\leq$", "±": r"$\pm$",
}  # fmt: skip
_SIGN: Final = re.compile(f"([{''.join(_SIGNS)}])")


@dataclass(frozen=True)
class Sheet:
    """What a page has room for.

    Attributes:
        width: Of its text, pt.
        columns: Number columns side by side.
        rows: Rows with an interval under each value.
        siunitx: Whether numbers stand in siunitx's ``S`` columns. These take a millisecond per cell in each of LaTeX's
            passes, too long for a report with thousands of cells; without them signs and marks hang out of the number.
    """

    width: int
    columns: int
    rows: int
    siunitx: bool = True


ARTICLE: Final = Sheet(345, 5, 22)
"""The class ``article`` as it comes."""


@dataclass(frozen=True)
class _Part:
    table: Table
    number: int
    of: int


def latex_tables(tables: Sequence[Table], unicode_engine: bool = False, sheet: Sheet = ARTICLE) -> str:
    """LaTeX ``table`` environments; empty for no tables.

    Args:
        tables: What to set, each in one environment or, where the page is too small, several.
        unicode_engine: See ``leaderboard.store.escape.latex``.
    """
    parts = [part for table in tables for part in _parts(table, sheet)]
    if not parts:
        return ""
    return preamble(sheet) + "\n".join(_environment(part, unicode_engine, sheet.siunitx) for part in parts)


def latex_text(text: str, unicode_engine: bool = False) -> str:
    r"""Any text, also one that a model wrote, with the signs that pdfLaTeX's default text fonts lack.

    Example:
        >>> latex_text("a_b ↑, 95 %")
        'a\\_b $\\uparrow$, 95~\\%'
    """
    parts = (_SIGNS.get(part) or escape.latex(part, unicode_engine) for part in _SIGN.split(text))
    return "".join(parts).replace(r" \%", r"~\%")


def latex_figures(text: str, unicode_engine: bool = False) -> str:
    """The same for text with figures such as ``-0.05 [-0.10, 0.02]``: a hyphen before a number is a minus."""
    return latex_text(with_minus(text), unicode_engine)


def latex_labels(table: Table, sheet: Sheet = ARTICLE) -> list[str]:
    """The labels of a table's environments."""
    return [_label(part) for part in _parts(table, sheet)]


def preamble(sheet: Sheet) -> str:
    """Comments for the head of a file of tables."""
    siunitx = " and \\usepackage{siunitx}" if sheet.siunitx else ""
    return (
        f"% Needs \\usepackage{{booktabs}}{siunitx} in the preamble; any class.\n"
        f"% Sized for a text width of {sheet.width} pt{' (article)' if sheet == ARTICLE else ''}; "
        "wider tables come in parts.\n"
    )


def _parts(table: Table, sheet: Sheet) -> list[_Part]:
    count = len(table.columns)
    parts = [
        replace(table, columns=tuple(table.columns[i] for i in abreast), sections=tuple(_columns(sections, abreast)))
        # Words are broken into lines instead.
        for abreast in _balanced(count, count if table.wordy else sheet.columns)
        for sections in _pages(table.sections, sheet.rows)
    ]
    return [_Part(part, number + 1, len(parts)) for number, part in enumerate(parts)]


def _balanced(count: int, limit: int) -> Iterator[range]:
    groups = math.ceil(count / limit)
    for group in range(groups):
        yield range(count * group // groups, count * (group + 1) // groups)


def _columns(sections: Iterable[Section], chosen: range) -> Iterator[Section]:
    for section in sections:
        rows = (Row(row.name, tuple(row.cells[number] for number in chosen)) for row in section.rows)
        yield replace(section, rows=tuple(rows))


def _pages(sections: Sequence[Section], limit: int) -> Iterator[list[Section]]:
    """Sections stay whole where they can."""
    page: list[Section] = []
    for section in sections:
        for start in range(0, len(section.rows), limit):
            piece = replace(section, rows=section.rows[start : start + limit])
            if page and _height(page) + len(piece.rows) > limit:
                yield page
                page = []
            page.append(piece)
    if page:
        yield page


def _height(sections: Sequence[Section]) -> float:
    return sum(_row_height(row) for section in sections for row in section.rows)


def _row_height(row: Row) -> float:
    """Rows without an interval take half the place, for each of their lines."""
    longest = max((len(cell.text) for cell in row.cells), default=0)
    return max(1.0 if any(cell.has_interval for cell in row.cells) else 0.5, 0.5 * math.ceil(longest / 60))


def _environment(part: _Part, unicode_engine: bool, siunitx: bool) -> str:
    table = part.table
    kinds = _kinds(table, siunitx)
    heads = [
        latex_text(head, unicode_engine) if table.is_words(number) else f"{{{_head(head, unicode_engine)}}}"
        for number, head in enumerate(table.columns)
    ]
    limit = _TEXT_LIMIT if table.wordy else _NAME_LIMIT
    lines = [
        r"\begin{table}",
        r"\centering",
        # Articles leave no room under a caption that stands above its table.
        r"\setlength{\belowcaptionskip}{6pt}",
        rf"\caption{{{_caption(part, unicode_engine)}}}",
        rf"\label{{{_label(part)}}}",
        r"\footnotesize",
        rf"\setlength{{\tabcolsep}}{{{4 if table.wordy else 2.5:g}pt}}",
        r"\begin{tabular}{",
        f"  @{{}}{kinds[0]}",
        *(f"  {kind}" for kind in kinds[1:]),
        "  @{}}",
        r"\toprule",
        rf"{' & '.join([latex_text(table.corner, unicode_engine), *heads])} \\",
    ]
    for section in table.sections:
        lines.append(r"\midrule")
        if section.title:
            title = latex_text(section.title, unicode_engine)
            lines += [rf"\multicolumn{{{1 + len(table.columns)}}}{{@{{}}l}}{{\itshape {title}}} \\"]
        for row in section.rows:
            name = latex_text(escape.terminal(row.name, limit), unicode_engine)
            lines += _row(name, row.cells, unicode_engine, siunitx)
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _caption(part: _Part, unicode_engine: bool) -> str:
    which = f" (part {part.number} of {part.of})" if part.of > 1 else ""
    heading = f"{latex_text(part.table.heading, unicode_engine)}{which}."
    return " ".join([heading, *(latex_figures(note, unicode_engine) for note in part.table.notes)])


def _label(part: _Part) -> str:
    table = part.table
    number = f"-{part.number}" if part.of > 1 else ""
    name = table.label or f"tab:{table.kind}-{escape.filename(table.task)}-{escape.filename(table.profile)}"
    return f"{name}{number}"


def _kinds(table: Table, siunitx: bool) -> list[str]:
    """The kinds of all columns, the names' first: numbers, or text that is as wide as it is long or set in lines."""
    texts = [[table.corner, *(row.name for row in table.rows)]]
    texts += [
        [head if table.is_words(number) else head[:_HEAD_LINE], *(row.cells[number].shown for row in table.rows)]
        for number, head in enumerate(table.columns)
    ]
    widest = [max(map(len, column)) for column in texts]
    long = [i for i, width in enumerate(widest) if width > _LONG] if table.wordy else []
    # What short columns leave of the line, at about a hundred letters of this size.
    left = max(0.25, 0.94 - sum(0.0095 * (width + 1) for i, width in enumerate(widest) if i not in long))
    share = {i: left * widest[i] / sum(widest[j] for j in long) for i in long}
    kinds = []
    for i in range(len(texts)):
        cells = [row.cells[i - 1] for row in table.rows] if i else []
        if i in share:
            kinds.append(rf">{{\raggedright\arraybackslash}}p{{{max(0.12, share[i]):.2f}\linewidth}}")
        elif not i or table.is_words(i - 1):
            kinds.append("l")
        elif any(cell.text for cell in cells):
            kinds.append("r")
        else:
            kinds.append(_numbers(cells) if siunitx else "c")
    return kinds


def _numbers(cells: Sequence[Cell]) -> str:
    numbers = [cell.shown for cell in cells if cell.digits and not math.isnan(cell.value)]
    sign = "-" if any(number.startswith("-") for number in numbers) else ""
    whole = max([1, *(len(number.lstrip("-").partition(".")[0]) for number in numbers)])
    options = [f"table-format={sign}{whole}.2", "detect-weight"]
    marks = max((_marks(cell) for cell in cells), key=len, default="")
    if marks:
        options += [f"table-space-text-post={{{marks}}}", "table-align-text-post=false"]
    return f"S[{', '.join(options)}]"


def _row(name: str, cells: Sequence[Cell], unicode_engine: bool, siunitx: bool) -> Iterator[str]:
    intervals = any(cell.has_interval for cell in cells)
    values = [_value(cell, unicode_engine, siunitx) for cell in cells]
    yield rf"{' & '.join([name, *values])} \\" + (r"[-0.7ex]" if intervals else "")
    if intervals:
        yield rf" & {' & '.join(_interval(cell) for cell in cells)} \\"


def _value(cell: Cell, unicode_engine: bool, siunitx: bool) -> str:
    if cell.text:
        return latex_figures(escape.terminal(cell.text, _TEXT_LIMIT), unicode_engine)
    if cell.shown == ABSENT:
        return "{--}"
    if not cell.digits:
        return f"{{{cell.shown}}}"
    marks, number = _marks(cell), cell.shown
    bold = r"\bfseries " if cell.best else ""
    if siunitx:
        return bold + number + (f"{{{marks}}}" if marks else "")
    # Numbers of one width, centred, stand with their points above each other.
    whole, _, decimals = number.partition(".")
    before = whole[:-1].replace("-", "$-$")
    return (
        bold
        + (rf"\llap{{{before}}}" if before else "")
        + f"{whole[-1]}.{decimals}"
        + (rf"\rlap{{{marks}}}" if marks else "")
    )


def _marks(cell: Cell) -> str:
    marks = ("*" if cell.marked else "") + (r"\dagger" if cell.tied else "")
    return f"$^{{{marks}}}$" if marks else ""


def _interval(cell: Cell) -> str:
    return rf"{{\tiny {cell.interval.replace('-', '$-$')}}}" if cell.has_interval else "{}"


def _head(method: str, unicode_engine: bool) -> str:
    r"""The method's name in a few short lines; the lines of ``\shortstack`` would stand too close."""
    lines = [latex_text(line, unicode_engine) for line in _head_lines(escape.plain(method))]
    if len(lines) == 1:
        return lines[0]
    return r"\begin{tabular}[b]{@{}c@{}}" + r"\\".join(lines) + r"\end{tabular}"


def _head_lines(name: str) -> list[str]:
    pieces = [word[i : i + _HEAD_LINE] for word in _words(name) for i in range(0, len(word), _HEAD_LINE)]
    lines = [""]
    for piece in pieces:
        if len(lines[-1]) + len(piece) > _HEAD_LINE:
            lines.append("")
        lines[-1] += piece
    if len(lines) > _HEAD_LINES:
        lines = [*lines[: _HEAD_LINES - 1], lines[_HEAD_LINES - 1][: _HEAD_LINE - 1] + "…"]
    return lines


def _words(name: str) -> Iterator[str]:
    """The name cut after each underscore, hyphen and space, and after a bracket inside a word."""
    word = ""
    for character in name:
        word += character
        if character in "_- " or (character == "(" and word != "("):
            yield word
            word = ""
    if word:
        yield word
