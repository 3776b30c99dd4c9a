"""The results tables of a run: LaTeX, Markdown and the terminal from one content; same data, same bytes."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import pandas as pd
from rich.table import Table as RichTable
from rich.text import Text

from leaderboard.board.facts import RunFacts
from leaderboard.store import atomic, escape
from leaderboard.view.best import emphasis_notes, emphasised
from leaderboard.view.content import Cell, Row, Section, Table
from leaderboard.view.grid import Grid, Kind, grids
from leaderboard.view.ties import RowKey, Ties
from leaderboard.view.truth import accuracy_by_truth, right_and_stable
from report.latex import latex_tables
from report.markdown import markdown_tables
from report.terminal import facts_table, terminal_table

KINDS: Final[tuple[Kind, ...]] = ("stability", "accuracy")

_MEAN: Final = "mean of all"


def write_tables(
    run_folder: str | os.PathLike[str],
    summary: pd.DataFrame,
    facts: RunFacts,
    scores: pd.DataFrame | None = None,
    ties: Mapping[RowKey, Ties] | None = None,
) -> list[Path]:
    """Write the tables of a run as ``tables/NAME.tex`` and ``tables/NAME.md``.

    ``stability`` always; where the truth is known also ``accuracy`` and, from the scores, ``right_and_stable`` and
    ``accuracy_by_truth``.

    Args:
        run_folder: The run folder.
        summary: Rows of ``leaderboard.store.schema.SUMMARY``.
        facts: Of their run.
        scores: Rows of ``leaderboard.store.schema.SCORES``.
        ties: What a test between methods found, see ``view.ties``; without it, ties are methods that print the same.

    Returns:
        What was written.

    Raises:
        StoreError: A file cannot be written.
    """
    written = []
    for name, tables in document_tables(summary, facts, scores, ties).items():
        for suffix, text in (("tex", latex_tables(tables)), ("md", markdown_tables(tables))):
            path = Path(run_folder) / "tables" / f"{name}.{suffix}"
            atomic.write_bytes(path, text.encode())
            written.append(path)
    return written


def document_tables(
    summary: pd.DataFrame,
    facts: RunFacts,
    scores: pd.DataFrame | None = None,
    ties: Mapping[RowKey, Ties] | None = None,
) -> dict[str, list[Table]]:
    """The tables of a run by name, each a list of one table a task and profile; names without any are left out.

    Args:
        summary: Rows of ``leaderboard.store.schema.SUMMARY``.
        facts: Of their run.
        scores: Rows of ``leaderboard.store.schema.SCORES``.
        ties: What a test between methods found, see ``leaderboard.view.ties``.
    """
    found: dict[str, list[Table]] = {
        kind: [_document_table(grid, facts, ties) for grid in grids(summary, kind, facts)] for kind in KINDS
    }
    if scores is not None:
        found |= {
            "right_and_stable": right_and_stable(scores, facts),
            "accuracy_by_truth": accuracy_by_truth(scores, facts),
        }
    return {name: tables for name, tables in found.items() if tables}


def terminal_tables(
    summary: pd.DataFrame, facts: RunFacts, width: int = 120, scores: pd.DataFrame | None = None
) -> list[RichTable | Text]:
    """All tables of a run for the terminal: stability, a line a method, what is known of the truth, and the notes.

    Args:
        summary: Rows of ``leaderboard.store.schema.SUMMARY``.
        facts: Of their run.
        width: Columns of the terminal; intervals are left out where they do not fit.
        scores: Rows of ``leaderboard.store.schema.SCORES``, for the tables that need them.
    """
    parts: list[RichTable | Text] = []
    for kind in KINDS:
        for grid in grids(summary, kind, facts):
            # A table's own title would be wrapped to the width of the table.
            parts += [_heading(_title(grid)), terminal_table(_terminal_content(grid), width)]
            if kind == "stability":
                parts += [Text("\nBy method", style="bold"), facts_table(grid.facts, grid.mean.cells)]
            parts += [*_dim(grid.notes), Text()]
    for table in [*right_and_stable(scores, facts), *accuracy_by_truth(scores, facts)] if scores is not None else []:
        subject = f" {table.subject}" if table.subject else ""
        title = f"{table.title}{table.arrow}{subject}: {table.task}, profile {table.profile}"
        parts += [_heading(title), terminal_table(table, width), *_dim(table.notes), Text()]
    return parts


def _document_table(grid: Grid, about: RunFacts, ties: Mapping[RowKey, Ties] | None) -> Table:
    """The grid with the best method of each row in bold, and with what a page has room for."""
    tests: dict[str, str] = {}

    def marked(row: Row, perturbation: str, name: str) -> Row:
        found = (ties or {}).get((grid.kind, grid.task, grid.profile, perturbation))
        if found:
            tests[name] = found.test
        groups = None if ties is None else found.groups if found else {}
        cells = [replace(cell, before=math.nan) for cell in row.cells]
        better = grid.higher_is_better is not False
        return Row(name, emphasised(cells, grid.methods, about, groups, better))

    sections = [Section(tuple(marked(row, row.name, row.name) for row in group)) for group in grid.groups]
    sections.append(Section((marked(grid.mean, "all", _MEAN),)))
    notes = grid.notes
    if grid.kind == "stability":
        facts = [Section(tuple(_facts(grid)))]
    else:
        facts = []
        sections.insert(0, Section((marked(grid.clean, "clean", "clean"),)))
        notes = (*notes, "Brackets: 95 % interval, Wilson where each unit has one verdict, else bootstrap over units.")
    compared = [row for section in sections for row in section.rows]
    return Table(
        grid.kind,
        grid.task,
        grid.profile,
        grid.title,
        "of unit labels",
        grid.higher_is_better,
        "Perturbation",
        grid.methods,
        (*sections, *facts),
        notes,
        tuple(emphasis_notes(compared, grid.methods, about, tests)),
    )


def _facts(grid: Grid) -> list[Row]:
    facts = grid.facts
    means = {"noise floor": [fact.noise_floor for fact in facts], "chance": [fact.chance for fact in facts]}
    counts = {
        "units": [fact.units for fact in facts],
        "different clean labels": [fact.distinct for fact in facts],
        "dead units": [fact.dead for fact in facts],
        "missing labels": [fact.missing for fact in facts],
        "truth known": [fact.known for fact in facts],
    }
    return [
        *(Row(name, tuple(map(Cell, values))) for name, values in means.items()),
        *(Row(name, tuple(Cell(count, digits=0) for count in values)) for name, values in counts.items()),
    ]


def _terminal_content(grid: Grid) -> Table:
    sections = (*(Section(group) for group in grid.groups), Section((replace(grid.mean, name=_MEAN),)))
    return Table(
        grid.kind,
        grid.task,
        grid.profile,
        grid.title,
        "",
        grid.higher_is_better,
        "perturbation",
        grid.methods,
        sections,
        grid.notes,
    )


def _title(grid: Grid) -> str:
    arrow = {True: " ↑", False: " ↓", None: ""}[grid.higher_is_better]
    shown = f"{grid.title}{arrow}" if grid.kind == "stability" else f"{grid.title}{arrow} (clean → perturbed)"
    return f"{shown}: {grid.task}, profile {grid.profile}, {_severity(grid)}"


def _severity(grid: Grid) -> str:
    return "all severities" if grid.severity == "all" else f"severity {grid.severity}"


def _heading(title: str) -> Text:
    return Text(escape.terminal(title), style="bold")


def _dim(notes: tuple[str, ...]) -> list[Text]:
    return [Text(escape.terminal(note), style="dim") for note in notes]
