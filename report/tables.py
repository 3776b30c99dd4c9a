"""The results tables on the terminal and in LaTeX; the same summary gives the same bytes."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.table import Table
from rich.text import Text

from leaderboard import atomic
from report import escape
from report.grid import Cell, Grid, Kind, Row, grids

KINDS: tuple[Kind, ...] = ("stability", "accuracy")

_ABSENT = "–"
_WORDS = {"mean": "mean of all"}


def write_tables(run_folder: str | os.PathLike[str], summary: pd.DataFrame) -> list[Path]:
    """Write ``tables/stability.tex``, and ``tables/accuracy.tex`` where the truth is known.

    Args:
        run_folder: The run folder.
        summary: Rows of ``leaderboard.schema.SUMMARY``.

    Returns:
        What was written.

    Raises:
        StoreError: A file cannot be written.
    """
    written = []
    for kind in KINDS:
        text = latex_table(summary, kind)
        if text:
            path = Path(run_folder) / "tables" / f"{kind}.tex"
            atomic.write_bytes(path, text.encode())
            written.append(path)
    return written


def latex_table(summary: pd.DataFrame, kind: Kind, unicode_engine: bool = False) -> str:
    """LaTeX ``table`` environments with booktabs rules, one for each task and profile; empty if there are none.

    Args:
        summary: Rows of ``leaderboard.schema.SUMMARY``.
        kind: ``stability`` or ``accuracy``.
        unicode_engine: See ``report.escape.latex``.
    """
    found = grids(summary, kind)
    if not found:
        return ""
    return "% needs \\usepackage{booktabs}\n" + "\n".join(_latex(grid, unicode_engine) for grid in found)


def terminal_tables(summary: pd.DataFrame, width: int = 120) -> list[Table | Text]:
    """All tables of a run for the terminal: stability, accuracy where known, a line a method, and the notes.

    Args:
        summary: Rows of ``leaderboard.schema.SUMMARY``.
        width: Columns of the terminal; intervals are left out where they do not fit.
    """
    parts: list[Table | Text] = []
    for kind in KINDS:
        for grid in grids(summary, kind):
            # A table's own title would be wrapped to the width of the table.
            parts += [Text(escape.terminal(_title(grid)), style="bold"), terminal_table(grid, width)]
            if kind == "stability":
                parts += [Text("\nBy method", style="bold"), _facts_table(grid)]
            parts += [Text(escape.terminal(note), style="dim") for note in grid.notes]
            parts.append(Text())
    return parts


def terminal_table(grid: Grid, width: int = 120) -> Table:
    """One table for the terminal, of ``Text`` only, so that no label can be read as markup.

    Args:
        grid: What to show.
        width: Columns of the terminal; intervals are left out where they do not fit.
    """
    rows = [*(row for group in grid.groups for row in group), grid.mean]
    intervals = grid.kind == "stability" and _full_width(grid, rows) <= width
    table = Table(show_edge=False, pad_edge=False)
    table.add_column(Text("perturbation"), no_wrap=True)
    for method in grid.methods:
        table.add_column(_text(method), justify="right", no_wrap=intervals)
    for group in grid.groups:
        for row in group:
            table.add_row(_text(row.name), *(_terminal_cell(cell, grid.kind, intervals) for cell in row.cells))
        table.add_section()
    cells = (_terminal_cell(cell, grid.kind, intervals) for cell in grid.mean.cells)
    table.add_row(Text(_WORDS["mean"], style="bold"), *cells)
    return table


def _facts_table(grid: Grid) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    headings = ("method", "mean stability", "noise floor", "chance", "units", "dead", "missing", "truth known")
    for number, heading in enumerate(headings):
        table.add_column(Text(heading), justify="right" if number else "left")
    for facts, mean in zip(grid.facts, grid.mean.cells, strict=True):
        values = (_plain_number(facts.noise_floor), _plain_number(facts.chance))
        counts = (str(facts.units), str(facts.dead), str(facts.missing), str(facts.known))
        stability = _terminal_cell(mean, grid.kind, intervals=True)
        table.add_row(_text(facts.method), stability, *map(Text, (*values, *counts)))
    return table


def _title(grid: Grid) -> str:
    arrow = {True: " ↑", False: " ↓", None: ""}[grid.higher_is_better]
    shown = f"{grid.title}{arrow}" if grid.kind == "stability" else f"{grid.title}{arrow} (clean → perturbed)"
    return f"{shown}: {grid.task}, profile {grid.profile}, {_severity(grid)}"


def _severity(grid: Grid) -> str:
    return "all severities" if grid.severity == "all" else f"severity {grid.severity}"


def _full_width(grid: Grid, rows: Sequence[Row]) -> int:
    first = max([len("perturbation"), len(_WORDS["mean"]), *(len(row.name) for row in rows)])
    columns = [
        max([len(method), *(len(_terminal_cell(row.cells[i], grid.kind, True).plain) for row in rows)])
        for i, method in enumerate(grid.methods)
    ]
    return first + sum(columns) + 3 * len(columns)


def _terminal_cell(cell: Cell, kind: Kind, intervals: bool) -> Text:
    if math.isnan(cell.value):
        return Text(_ABSENT, style="dim")
    if kind == "accuracy":
        return Text(f"{_plain_number(cell.before)} → {_plain_number(cell.value)}")
    text = Text(_plain_number(cell.value) + ("*" if cell.marked else ""))
    if intervals and not math.isnan(cell.low):
        text.append(f" [{_plain_number(cell.low)}, {_plain_number(cell.high)}]", style="dim")
    return text


def _latex(grid: Grid, unicode_engine: bool) -> str:
    def escaped(text: str) -> str:
        return escape.latex(text, unicode_engine)

    heads = " & ".join(escaped(method) for method in grid.methods)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(grid.title)}{_latex_arrow(grid)} of unit labels, task {escaped(grid.task)}. "
        rf"{' '.join(escaped(note) for note in grid.notes)}}}",
        rf"\label{{tab:{grid.kind}-{escape.filename(grid.task)}-{escape.filename(grid.profile)}}}",
        rf"\begin{{tabular}}{{l{'r' * len(grid.methods)}}}",
        r"\toprule",
        rf"Perturbation & {heads} \\",
    ]
    for group in grid.groups:
        lines.append(r"\midrule")
        lines += [_latex_row(escaped(row.name), row.cells, grid.kind) for row in group]
    lines += [r"\midrule", _latex_row(escaped(_WORDS["mean"]), grid.mean.cells, grid.kind)]
    if grid.kind == "stability":
        lines += [r"\midrule", *_latex_facts(grid)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _latex_facts(grid: Grid) -> list[str]:
    facts = grid.facts
    lines = [
        ("noise floor", [_latex_number(f.noise_floor) for f in facts]),
        ("chance", [_latex_number(f.chance) for f in facts]),
        ("units", [str(f.units) for f in facts]),
        ("dead units", [str(f.dead) for f in facts]),
        ("missing labels", [str(f.missing) for f in facts]),
        ("truth known", [str(f.known) for f in facts]),
    ]
    return [rf"{name} & {' & '.join(values)} \\" for name, values in lines]


def _latex_row(name: str, cells: Sequence[Cell], kind: Kind) -> str:
    return rf"{name} & {' & '.join(_latex_cell(cell, kind) for cell in cells)} \\"


def _latex_cell(cell: Cell, kind: Kind) -> str:
    if math.isnan(cell.value):
        return "--"
    if kind == "accuracy":
        return rf"{_latex_number(cell.before)} $\rightarrow$ {_latex_number(cell.value)}"
    text = _latex_number(cell.value) + ("$^{*}$" if cell.marked else "")
    if not math.isnan(cell.low):
        text += rf" {{\scriptsize [{_latex_number(cell.low)}, {_latex_number(cell.high)}]}}"
    return text


def _latex_arrow(grid: Grid) -> str:
    return {True: r" $\uparrow$", False: r" $\downarrow$", None: ""}[grid.higher_is_better]


def _plain_number(value: float) -> str:
    # Adding zero turns a rounded -0.0 into 0.0.
    return _ABSENT if math.isnan(value) else f"{round(value, 2) + 0.0:.2f}"


def _latex_number(value: float) -> str:
    return "--" if math.isnan(value) else _plain_number(value).replace("-", "$-$")


def _text(text: str) -> Text:
    return Text(escape.terminal(text, limit=200))
