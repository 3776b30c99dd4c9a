"""The first page: what each task's board says, the board itself, and where its numbers come from."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from leaderboard.board.bottlenecks import HEADS, BottleneckGroup, conditions_in_order
from leaderboard.board.build import EVERY_SUITE, Board, Row, Standings, Value, measures
from leaderboard.board.groups import SHARED, AnyGroup, Source
from leaderboard.board.merge import Group
from leaderboard.board.names import NEVER_SEEN, TUNED_ON, USED
from leaderboard.pages.charts import Bar, bar, scale_from
from leaderboard.pages.frame import Page, number
from leaderboard.store.identity import identity_hash
from leaderboard.view.bottleneck_findings import findings as findings_of_bottleneck
from leaderboard.view.bottleneck_findings import mean_of_perturbed, of_condition
from leaderboard.view.findings import findings
from leaderboard.view.validity import validity_sentences, validity_tables
from leaderboard.view.words import ABSENT, count

COLUMNS: Final = (
    "evidence_overlap",
    "sentence_similarity",
    "noise_floor",
    "chance",
    "cosy_auc",
    "mlce",
    "stability_worth",
)
"""Measures with a plain column of their own, after stability and accuracy."""


@dataclass(frozen=True)
class Cell:
    """A cell of the board.

    Attributes:
        key: By which it is sorted; empty where there is nothing, which comes last.
    """

    text: str
    key: str


@dataclass(frozen=True)
class BoardRow:
    """A row of the board as the page shows it.

    Attributes:
        place: Rank, or the ranks that the data cannot decide between.
        bar: Stability with its interval; None without one.
        cells: One per measure of ``COLUMNS``.
        seen: Whether the method was tuned on perturbations of the suite, or uses them itself.
        reads: Whether it reads the annotation of the probing images, which others of the group do not.
    """

    group: Group
    row: Row
    place: str
    bar: Bar | None
    cells: tuple[Cell, ...]
    seen: str
    reads: bool


@dataclass(frozen=True)
class Answer:
    """What one group's board says.

    Attributes:
        sentences: The most important first.
        rows: Of all suites together, for a small chart.
    """

    group: Group
    sentences: tuple[str, ...]
    rows: tuple[BoardRow, ...]


@dataclass(frozen=True)
class UsedRun:
    """A run and the groups that it is part of."""

    source: Source
    groups: tuple[AnyGroup, ...]


@dataclass(frozen=True)
class Trained:
    """What one concept bottleneck shows, and where its page is.

    Attributes:
        sentences: The most important first.
        heads: Each head's accuracy on clean images, and its mean over perturbed ones as a number.
    """

    group: BottleneckGroup
    sentences: tuple[str, ...]
    heads: tuple[tuple[str, Value, float], ...]


def board_page(board: Board) -> Page:
    """``index.html``."""
    every = board.runs.every
    low = scale_from([value for s in board.standings for r in s.rows if (value := r.values.get("stability"))])
    rows = [row for standings in board.standings for row in _rows(standings, low)]
    answers = [
        Answer(s.group, _main_findings(s), tuple(row for row in _rows(s, low) if row.row.suite == EVERY_SUITE))
        for s in board.standings
    ]
    context: dict[str, Any] = {
        "answers": answers,
        "rows": rows,
        "bottlenecks": [_trained(group) for group in board.runs.bottlenecks],
        "validity": [(tuple(validity_sentences(one)), validity_tables(one)) for one in board.validity],
        "which": distinctions(every),
        "low": low,
        "columns": [(name, measures()[name]) for name in COLUMNS],
        "measures": measures(),
        "notes": notes(every),
        "submitted": any(about.validation for group in every for about in group.about_run.methods.values()),
        "tasks": sorted({row.group.task for row in rows}),
        "methods": list(dict.fromkeys(row.row.method for row in rows)),
        "suites": list(dict.fromkeys(row.row.suite for row in rows)),
        "runs": used_runs(every),
        "left_out": board.runs.left_out,
        "as_of": board.runs.newest[:10],
        "version": importlib.metadata.version("clear-benchmark"),
    }
    return Page("index.html", "board.html.jinja", context)


def _main_findings(standings: Standings) -> tuple[str, ...]:
    found = findings(standings)
    return (*found.stability, *found.accuracy, *found.baselines)


def distinctions(groups: Sequence[AnyGroup]) -> dict[str, str]:
    """Slug → what tells a group from others of its task; empty where its task has no other.

    That is version and profile, and how much was measured where these are alike too.
    """
    found = {}
    for group in groups:
        of_task = [other for other in groups if other.task == group.task]
        alike = [other for other in of_task if (other.version, other.profile) == (group.version, group.profile)]
        parts = [f"version {group.version}", group.profile, *(_amount(group) if len(alike) > 1 else ())]
        found[group.slug] = " · ".join(parts) if len(of_task) > 1 else ""
    return found


def _amount(group: AnyGroup) -> Iterator[str]:
    if isinstance(group, Group):
        yield count(len(group.units), "unit")
    if isinstance(group, BottleneckGroup):
        yield count(len(conditions_in_order(group.heads)), "condition")
    yield count(int(group.settings["images"]), "image")


def notes(groups: Sequence[AnyGroup]) -> tuple[str, ...]:
    """What the profiles say of themselves, each once."""
    stated = (str(group.about_profile.get("note", "")) for group in groups)
    return tuple(dict.fromkeys(note for note in stated if note))


def settings_of(group: AnyGroup) -> Iterator[tuple[str, str]]:
    """What two runs must share to stand on one page."""
    for name in SHARED:
        yield name, str(group.settings[name])
    yield "settings and contents, SHA-256", identity_hash(group.settings)


def used_runs(groups: Sequence[AnyGroup]) -> tuple[UsedRun, ...]:
    """The runs behind the groups, newest first."""
    found: dict[str, tuple[Source, list[AnyGroup]]] = {}
    for group in groups:
        for source in group.sources:
            found.setdefault(source.run, (source, []))[1].append(group)
    newest = sorted(found.values(), key=lambda pair: (pair[0].finished, pair[0].run), reverse=True)
    return tuple(UsedRun(source, tuple(used)) for source, used in newest)


def places(row: Row, rows: Sequence[Row], measure: str = "stability") -> str:
    """The places that a row may hold: ``1``, or ``1–3`` if the data cannot order it among three; empty without rank.

    Args:
        rows: The rows that it is ranked among.
    """
    if measure not in row.standings or measure not in row.values:
        return ""
    others = [other for other in rows if measure in other.standings and measure in other.values]
    apart = [other.values[measure].mean for other in others if not row.tied_with(other, measure)]
    mean = row.values[measure].mean
    first = 1 + sum(other > mean for other in apart)
    last = max(first, len(others) - sum(other < mean for other in apart))
    return f"{first}" if last == first else f"{first}–{last}"


def reads(standings: Standings, row: Row) -> bool:
    """Whether a method reads the annotation of the probing images while others of its group do not."""
    groups = standings.group.about_run.by_knowledge(standings.group.methods)
    return len(groups) > 1 and row.method in groups[0]


def rows_like(standings: Standings, row: Row) -> list[Row]:
    """The rows of its suite that a method is ranked among: those that know the same, and the trivial baselines."""
    rows = standings.of_suite(row.suite)
    known = reads(standings, row)
    return [other for other in rows if row.floor or other.floor or reads(standings, other) == known]


def _trained(group: BottleneckGroup) -> Trained:
    clean = of_condition(group.heads, ("clean", 0)).to_dict("records")
    by_head = {row["head"]: Value(row["accuracy"], row["low"], row["high"]) for row in clean}
    heads = tuple((head, by_head[head], mean_of_perturbed(group, head)) for head in HEADS if head in by_head)
    return Trained(group, findings_of_bottleneck(group), heads)


def _rows(standings: Standings, low: float) -> Iterator[BoardRow]:
    for row in standings.rows:
        value = row.values.get("stability")
        cells = tuple(_cell(row.values.get(name)) for name in COLUMNS)
        place = places(row, rows_like(standings, row))
        shown = bar(value, low) if value else None
        yield BoardRow(standings.group, row, place, shown, cells, _seen(standings.group, row), reads(standings, row))


def _seen(group: Group, row: Row) -> str:
    """Of how many of the suite's perturbations the method's author, or the method, has seen images."""
    conditions = group.suites.get(row.suite, group.conditions)
    names, about = {name for name, _ in conditions}, group.about_run.method(row.method)
    counts = {TUNED_ON: len(names & {*about.tuned_on}), USED: len(names & {*about.uses_perturbations})}
    return ", ".join(f"{how}: {n} of {len(names)}" for how, n in counts.items() if n) or NEVER_SEEN


def _cell(value: Value | None) -> Cell:
    return Cell(number(value.mean), f"{value.mean:.9f}") if value else Cell(ABSENT, "")
