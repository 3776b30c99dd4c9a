"""What the results tables say, before any place decides how they look: rows, columns, values and notes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd

from leaderboard.board.facts import RunFacts
from leaderboard.board.names import SIGNIFICANT
from leaderboard.store.schema import SUMMARY
from leaderboard.view.content import Cell, Row, count_of, printed

Kind = Literal["stability", "accuracy"]

Record = dict[str, Any]


@dataclass(frozen=True)
class MethodFacts:
    """What a reader must know of a method before reading its column."""

    method: str
    noise_floor: float
    chance: float
    units: int
    distinct: int
    dead: int
    missing: int
    known: int


@dataclass(frozen=True)
class Grid:
    """One table.

    Attributes:
        kind: What is shown.
        task: Name of the task.
        profile: Name of the profile.
        title: Title of the value, from the schema.
        higher_is_better: Direction of the value, from the schema.
        severity: ``1`` to ``5``, or ``all``.
        methods: One column each.
        groups: Rows in groups.
        mean: The last row.
        clean: The same on clean images.
        facts: One line a method.
        notes: Sentences that belong under the table.
    """

    kind: Kind
    task: str
    profile: str
    title: str
    higher_is_better: bool | None
    severity: str
    methods: tuple[str, ...]
    groups: tuple[tuple[Row, ...], ...]
    mean: Row
    clean: Row
    facts: tuple[MethodFacts, ...]
    notes: tuple[str, ...]


def grids(summary: pd.DataFrame, kind: Kind, facts: RunFacts) -> list[Grid]:
    """The tables of a run, one for each task and profile that has values of this kind.

    Args:
        summary: Rows of ``leaderboard.store.schema.SUMMARY``.
        kind: ``stability``, or ``accuracy`` where the truth is known.
        facts: Of their run.

    Raises:
        ValueError: A perturbation has several severities and no row for ``all`` of them.
    """
    records: list[Record] = [{str(name): value for name, value in row.items()} for row in summary.to_dict("records")]
    return [
        _grid(task, profile, rows, kind, facts)
        for (task, profile), rows in sorted(_grouped(records, "task", "profile").items())
        if any(not math.isnan(_number(row[kind])) for row in rows)
    ]


def _grouped(records: Iterable[Record], first: str, second: str) -> dict[tuple[str, str], list[Record]]:
    groups: dict[tuple[str, str], list[Record]] = {}
    for row in records:
        groups.setdefault((row[first], row[second]), []).append(row)
    return groups


def _grid(task: str, profile: str, rows: list[Record], kind: Kind, about: RunFacts) -> Grid:
    chosen = {key: _one_severity(part) for key, part in _grouped(rows, "method", "perturbation").items()}
    methods = about.ordered({method for method, _ in chosen})
    perturbations = {name for _, name in chosen} - {"clean", "all"}
    groups = tuple(
        tuple(Row(name, tuple(_cell(chosen.get((method, name)), kind) for method in methods)) for name in names)
        for names in about.in_groups(perturbations)
    )
    flat = [row for group in groups for row in group]
    columns = {method: [row.cells[number] for row in flat] for number, method in enumerate(methods)}
    means = tuple(_mean_cell(chosen.get((method, "all")), cells, kind) for method, cells in columns.items())
    clean = tuple(_clean_cell(chosen.get((method, "clean")), cells, kind) for method, cells in columns.items())
    severities = {str(row["severity"]) for (_, name), row in chosen.items() if name not in ("clean", "all")}
    severity = severities.pop() if len(severities) == 1 else "all"
    facts = tuple(_facts(method, [row for row in rows if row["method"] == method]) for method in methods)
    column = SUMMARY.column(kind)
    return Grid(
        kind,
        task,
        profile,
        column.title,
        column.higher_is_better,
        severity,
        methods,
        groups,
        Row("mean", means),
        Row("clean", clean),
        facts,
        (
            *_notes(profile, kind, severity, [cell for row in flat for cell in row.cells], facts),
            *about.notes,
            *_held_out_notes(methods, flat, about),
        ),
    )


def _one_severity(rows: list[Record]) -> Record:
    picked = [row for row in rows if row["severity"] == "all"] or rows
    if len(picked) != 1:
        name = rows[0]["perturbation"]
        raise ValueError(f"the summary has {len(picked)} severities of {name} and no row for all of them")
    return picked[0]


def _cell(row: Record | None, kind: Kind) -> Cell:
    if row is None:
        return Cell()
    before = _number(row["accuracy_clean"]) if kind == "accuracy" else math.nan
    p_value = _number(row["p_adjusted"]) if kind == "stability" else math.nan
    ends = _number(row[f"{kind}_low"]), _number(row[f"{kind}_high"])
    return Cell(_number(row[kind]), *ends, before, not math.isnan(p_value), p_value < SIGNIFICANT)


def _clean_cell(row: Record | None, cells: Sequence[Cell], kind: Kind) -> Cell:
    if row is not None:
        return replace(_cell(row, kind), before=math.nan)
    return Cell(next((cell.before for cell in cells if not math.isnan(cell.before)), math.nan))


def _mean_cell(row: Record | None, cells: list[Cell], kind: Kind) -> Cell:
    # A mean over the conditions that happen to be there would rank an incomplete column beside complete ones.
    if not cells or any(math.isnan(cell.value) for cell in cells):
        return Cell()
    if row is not None:
        return _cell(row, kind)
    count = len(cells)
    return Cell(sum(cell.value for cell in cells) / count, before=sum(cell.before for cell in cells) / count)


def _facts(method: str, rows: list[Record]) -> MethodFacts:
    for name in ("all", "clean"):
        part = [row for row in rows if row["perturbation"] == name]
        if part:
            rows = part
            break
    return MethodFacts(
        method,
        _mean(row["noise_floor"] for row in rows),
        _mean(row["chance"] for row in rows),
        max(int(row["units"]) for row in rows),
        max(int(row["distinct"]) for row in rows),
        max(int(row["dead"]) for row in rows),
        max(int(row["missing"]) for row in rows),
        max(int(row["known"]) for row in rows),
    )


def _notes(
    profile: str, kind: Kind, severity: str, cells: Sequence[Cell], facts: Sequence[MethodFacts]
) -> Iterator[str]:
    at = "mean over severities" if severity == "all" else f"severity {severity}"
    if kind == "stability":
        units = count_of([fact.units for fact in facts], "units")
        yield (
            f"Profile {profile}, {at}. 1 = labels unchanged, 0 = as if another unit's label were drawn; "
            f"brackets: 95 % bootstrap interval over {units}."
        )
        yield from _test_notes(cells)
    else:
        units = count_of([fact.known for fact in facts], "units")
        yield (
            f"Profile {profile}, {at}. Share of the {units} whose truth is known that are named right: "
            "on clean images, then on perturbed ones."
        )


def _held_out_notes(methods: Sequence[str], rows: Sequence[Row], about: RunFacts) -> Iterator[str]:
    """What is left of the means where a method uses perturbations itself that it is tested on."""
    for method in methods:
        used = about.method(method).uses_perturbations
        coinciding = [row.name for row in rows if row.name in used]
        others = [row for row in rows if row.name not in used]
        if coinciding and not others:
            yield f"None of these perturbations is held out for {method}: it uses all of them itself."
        elif coinciding:
            values = [[row.cells[number].value for row in others] for number in range(len(methods))]
            means = [f"{name} {printed(sum(own) / len(own))}" for name, own in zip(methods, values, strict=True)]
            verb, left = ("is", "it") if len(coinciding) == 1 else ("are", "them")
            yield f"{', '.join(coinciding)} {verb} not held out for {method}; mean without {left}: {', '.join(means)}."


def _test_notes(cells: Sequence[Cell]) -> Iterator[str]:
    test = f"permutation test within units against clean repeats, Holm-corrected, p < {SIGNIFICANT:g}."
    if any(cell.marked for cell in cells):
        yield f"* Differs from the method's own noise: {test}"
    elif any(cell.tested for cell in cells):
        yield f"Nothing differs from the methods' own noise: {test}"
    else:
        yield "Not tested against the methods' own noise: there are no clean repeats."


def _number(value: Any) -> float:
    return math.nan if pd.isna(value) else float(value)


def _mean(values: Iterable[Any]) -> float:
    numbers = [number for number in map(_number, values) if not math.isnan(number)]
    return sum(numbers) / len(numbers) if numbers else math.nan
