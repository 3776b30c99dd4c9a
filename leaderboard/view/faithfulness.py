"""How faithful each method's labels are: means over units with intervals, for the terminal and as Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import pandas as pd
from rich.table import Table
from rich.text import Text

from leaderboard.board.facts import RunFacts
from leaderboard.board.summary import faithfulness_mean
from leaderboard.store import escape
from leaderboard.store.schema import FAITHFULNESS
from leaderboard.view.content import Cell, Row, Section
from leaderboard.view.content import Table as Contents
from metrics.statistics import Interval

MEASURES: Final = ("cosy_auc", "cosy_mad", "f1", "iou", "correlation", "cosine", "auprc")

_ABSENT: Final = "–"


@dataclass(frozen=True)
class FaithfulnessTable:
    """One table: the labels of one task that were given on clean images, or on perturbed ones.

    Attributes:
        task: Name of the task.
        profile: Name of the profile.
        subject: Whose labels, e.g. ``labels given on clean images``.
        methods: One column each; those that every other one must beat stand last.
        rows: Heading with its arrow → one interval a method.
        units: Labelled units of each method.
        annotated: Share of each method's labels whose presence was read off the annotation.
        notes: Sentences that belong under the table.
    """

    task: str
    profile: str
    subject: str
    methods: tuple[str, ...]
    rows: Mapping[str, tuple[Interval, ...]]
    units: tuple[int, ...]
    annotated: tuple[float, ...]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """What is shown."""
        return f"Faithfulness: {self.task}, profile {self.profile}, {self.subject}"


def faithfulness_tables(
    table: pd.DataFrame, facts: RunFacts, measured: Mapping[str, Any] | None = None
) -> list[FaithfulnessTable]:
    """The tables of a run: for each task and profile its clean labels, then its perturbed ones where they are measured.

    The unit is the statistical unit: of perturbed labels, each unit's mean over the conditions comes first.

    Args:
        table: Rows of ``leaderboard.store.schema.FAITHFULNESS``.
        facts: Of its run.
        measured: ``facts["faithfulness"]`` of ``run.json``: images drawn of each label, why CoSy is absent.
    """
    tables = []
    for names, rows in table.groupby(["task", "profile"]):
        task, profile = cast(tuple[str, str], names)
        clean = rows["perturbation"].to_numpy() == "clean"
        first = rows.loc[clean & (rows["repeat"].to_numpy() == 0)]
        for words, part in (
            ("labels given on clean images", first),
            ("labels given on perturbed images", rows.loc[~clean]),
        ):
            if len(part):
                tables.append(_table((task, profile, words), part, [*_notes(part, facts, measured or {})], facts))
    return tables


def terminal_faithfulness(tables: list[FaithfulnessTable], width: int = 120) -> list[Table | Text]:
    """The tables for the terminal, of ``Text`` only.

    Args:
        tables: What to show.
        width: Columns of the terminal; intervals are left out where they do not fit.
    """
    parts: list[Table | Text] = []
    for table in tables:
        intervals = _full_width(table) <= width
        shown = Table(show_edge=False, pad_edge=False)
        for number, heading in enumerate(("measure", *table.methods)):
            shown.add_column(Text(escape.terminal(heading, limit=200)), justify="right" if number else "left")
        for row in _cells(table, intervals):
            shown.add_row(*map(Text, row))
        parts += [Text(escape.terminal(table.title), style="bold"), shown]
        parts += [Text(escape.terminal(note), style="dim") for note in table.notes]
        parts.append(Text())
    return parts


def markdown_faithfulness(tables: list[FaithfulnessTable]) -> str:
    """The tables as Markdown; empty for none."""
    blocks = []
    for table in tables:
        lines = [
            f"**{_markdown(table.title)}**",
            "",
            f"| measure | {' | '.join(map(_markdown, table.methods))} |",
            f"| :-- |{' --: |' * len(table.methods)}",
            *(f"| {' | '.join(row)} |" for row in _cells(table, intervals=True)),
            *(part for note in table.notes for part in ("", _markdown(note))),
        ]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def faithfulness_contents(tables: list[FaithfulnessTable]) -> list[Contents]:
    """The same for the places that set ``leaderboard.view.content`` tables, such as LaTeX."""
    return [
        Contents(
            "faithfulness",
            table.task,
            table.profile,
            "Faithfulness",
            f"of {table.subject}",
            None,
            "Measure",
            table.methods,
            (
                Section(tuple(Row(heading, tuple(map(_content, row))) for heading, row in table.rows.items())),
                Section(
                    (
                        Row("units", tuple(Cell(units, digits=0) for units in table.units)),
                        Row("annotated", tuple(map(Cell, table.annotated))),
                    )
                ),
            ),
            table.notes,
        )
        for table in tables
    ]


def _content(value: Interval) -> Cell:
    return Cell(value.estimate, value.low, value.high)


def _table(what: tuple[str, str, str], rows: pd.DataFrame, notes: list[str], facts: RunFacts) -> FaithfulnessTable:
    methods = facts.ordered(set(rows["method"]))
    own = [rows.loc[(rows["method"] == method).to_numpy()] for method in methods]
    return FaithfulnessTable(
        *what,
        methods,
        {
            _heading(measure): tuple(faithfulness_mean(part, measure, facts.seed) for part in own)
            for measure in MEASURES
        },
        tuple(len(set(part["unit"])) for part in own),
        tuple(float((part["presence"] == "annotation").to_numpy().mean()) for part in own),
        tuple(notes),
    )


def _heading(measure: str) -> str:
    column = FAITHFULNESS.column(measure)
    return column.title + {True: " ↑", False: " ↓", None: ""}[column.higher_is_better]


def _notes(rows: pd.DataFrame, facts: RunFacts, measured: Mapping[str, Any]) -> Iterator[str]:
    floors = facts.floors(set(rows["method"]))
    rest = f"; for the rest see {' and '.join(floors)}" if floors else ""
    yield (
        "Mean over the units that have a label; brackets: 95 % bootstrap interval. Each label is held against its "
        f"unit's activations on clean images. AUC 0.5, MAD 0 and correlation 0 are chance{rest}."
    )
    yield "Annotated: share of the labels whose presence in the probing images is known; CLIP judges that of the rest."
    reason = measured.get("without_cosy")
    if reason:
        yield f"No CoSy: {reason}"
    elif rows["cosy_auc"].notna().to_numpy().any():
        drawn = f"{measured['images_per_label']} images drawn of each label. " if "images_per_label" in measured else ""
        yield f"{drawn}CoSy's AUC cannot see that a label is too wide, its MAD that one is too narrow: read both."
    yield from facts.notes


def _cells(table: FaithfulnessTable, intervals: bool) -> Iterator[tuple[str, ...]]:
    for heading, values in table.rows.items():
        yield heading, *(_cell(value, intervals) for value in values)
    yield "units", *map(str, table.units)
    yield "annotated", *(f"{100 * share:.0f} %" for share in table.annotated)


def _cell(value: Interval, interval: bool) -> str:
    if math.isnan(value.estimate):
        return _ABSENT
    ends = f" [{_number(value.low)}, {_number(value.high)}]" if interval and not math.isnan(value.low) else ""
    return _number(value.estimate) + ends


def _number(value: float) -> str:
    # Adding zero turns a rounded -0.0 into 0.0.
    return f"{round(value, 2) + 0.0:.2f}"


def _full_width(table: FaithfulnessTable) -> int:
    columns = list(zip(("measure", *table.methods), *_cells(table, intervals=True), strict=True))
    return sum(max(map(len, column)) for column in columns) + 3 * (len(columns) - 1)


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", escape.terminal(text))
