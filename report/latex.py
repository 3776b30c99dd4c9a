"""Tables as LaTeX: booktabs rules, siunitx columns or plain ones, and nothing else to load."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from leaderboard.store import escape
from leaderboard.view.content import Cell, Row, Section, Table, printed

_NAME_LIMIT: Final = 28
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
        methods: Columns beside each other.
        rows: Rows with an interval under each value.
        siunitx: Whether numbers stand in siunitx's ``S`` columns. They take a millisecond a cell, which a report with
            thousands of cells feels in each of LaTeX's passes; without them signs and marks hang out of the number.
    """

    width: int
    methods: int
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
        sheet: The page.
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
    parts = [
        replace(table, methods=tuple(table.methods[i] for i in abreast), sections=tuple(_columns(sections, abreast)))
        for abreast in _balanced(len(table.methods), sheet.methods)
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
    """Rows, where those without an interval take half the place."""
    return sum(1.0 if any(cell.has_interval for cell in row.cells) else 0.5 for part in sections for row in part.rows)


def _environment(part: _Part, unicode_engine: bool, siunitx: bool) -> str:
    table = part.table
    columns = [_column([row.cells[number] for row in table.rows]) for number in range(len(table.methods))]
    heads = " & ".join(f"{{{_head(method, unicode_engine)}}}" for method in table.methods)
    lines = [
        r"\begin{table}",
        r"\centering",
        # Articles leave no room under a caption that stands above its table.
        r"\setlength{\belowcaptionskip}{6pt}",
        rf"\caption{{{_caption(part, unicode_engine)}}}",
        rf"\label{{{_label(part)}}}",
        r"\footnotesize",
        r"\setlength{\tabcolsep}{2.5pt}",
        r"\begin{tabular}{",
        "  @{}l",
        *(f"  {column if siunitx else 'c'}" for column in columns),
        "  @{}}",
        r"\toprule",
        rf"{latex_text(table.corner, unicode_engine)} & {heads} \\",
    ]
    for section in table.sections:
        lines.append(r"\midrule")
        if section.title:
            title = latex_text(section.title, unicode_engine)
            lines += [rf"\multicolumn{{{1 + len(table.methods)}}}{{@{{}}l}}{{\itshape {title}}} \\"]
        for row in section.rows:
            lines += _row(row, latex_text(escape.terminal(row.name, _NAME_LIMIT), unicode_engine), siunitx)
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _caption(part: _Part, unicode_engine: bool) -> str:
    table = part.table
    title = latex_text(table.title, unicode_engine)
    arrow = {True: r" $\uparrow$", False: r" $\downarrow$", None: ""}[table.higher_is_better]
    subject = f" {table.subject}" if table.subject else ""
    which = f" (part {part.number} of {part.of})" if part.of > 1 else ""
    rest = [latex_text(note, unicode_engine) for note in (*table.notes, *table.emphasis)]
    return " ".join([f"{title}{arrow}{subject}, task {latex_text(table.task, unicode_engine)}{which}.", *rest])


def _label(part: _Part) -> str:
    table = part.table
    number = f"-{part.number}" if part.of > 1 else ""
    name = table.label or f"tab:{table.kind}-{escape.filename(table.task)}-{escape.filename(table.profile)}"
    return f"{name}{number}"


def _column(cells: Sequence[Cell]) -> str:
    numbers = [printed(cell.value, cell.digits) for cell in cells if cell.digits and not math.isnan(cell.value)]
    sign = "-" if any(number.startswith("-") for number in numbers) else ""
    whole = max([1, *(len(number.lstrip("-").partition(".")[0]) for number in numbers)])
    options = [f"table-format={sign}{whole}.2", "detect-weight"]
    marks = max((_marks(cell) for cell in cells), key=len, default="")
    if marks:
        options += [f"table-space-text-post={{{marks}}}", "table-align-text-post=false"]
    return f"S[{', '.join(options)}]"


def _row(row: Row, name: str, siunitx: bool) -> Iterator[str]:
    intervals = any(cell.has_interval for cell in row.cells)
    yield rf"{name} & {' & '.join(_value(cell, siunitx) for cell in row.cells)} \\" + (r"[-0.7ex]" if intervals else "")
    if intervals:
        yield rf" & {' & '.join(_interval(cell) for cell in row.cells)} \\"


def _value(cell: Cell, siunitx: bool) -> str:
    if math.isnan(cell.value):
        return "{--}"
    if not cell.digits:
        return f"{{{printed(cell.value, 0)}}}"
    marks, number = _marks(cell), printed(cell.value, cell.digits)
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
    if not cell.has_interval:
        return "{}"
    low, high = (printed(end, cell.digits).replace("-", "$-$") for end in (cell.low, cell.high))
    return rf"{{\tiny [{low}, {high}]}}"


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
    """The name cut after each underscore, hyphen and space."""
    word = ""
    for character in name:
        word += character
        if character in "_- ":
            yield word
            word = ""
    if word:
        yield word
