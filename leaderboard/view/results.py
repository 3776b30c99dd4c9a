"""The results tables: stability or accuracy of each method under each perturbation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import pandas as pd

from leaderboard.board.facts import RunFacts
from leaderboard.board.names import NEVER_SEEN, SIGNIFICANT, TUNED_ON, USED
from leaderboard.store.schema import SUMMARY
from leaderboard.view.best import emphasis_notes, emphasised
from leaderboard.view.content import Cell, Row, Section, Table, count_cell
from leaderboard.view.ties import Kind, RowKey, Ties
from leaderboard.view.words import count_range, listed, printed

MEAN: Final = "mean of all"

Record = dict[str, Any]
_Chosen = Mapping[tuple[str, str], Record]
"""Method and perturbation → the row of the summary over its severities."""


def result_tables(
    summary: pd.DataFrame, kind: Kind, facts: RunFacts, ties: Mapping[RowKey, Ties] | None = None
) -> list[Table]:
    """The tables of a run, one for each task and profile that has values of this kind.

    Args:
        summary: Rows of ``leaderboard.store.schema.SUMMARY``.
        kind: ``stability``, or ``accuracy`` where the truth is known.
        ties: What a test between methods found; without it, ties are methods that print the same.

    Raises:
        ValueError: A perturbation has several severities and no row for ``all`` of them.
    """
    records: list[Record] = [{str(name): value for name, value in row.items()} for row in summary.to_dict("records")]
    return [
        _table(task, profile, rows, kind, facts, ties)
        for (task, profile), rows in sorted(_grouped(records, "task", "profile").items())
        if any(not math.isnan(_number(row[kind])) for row in rows)
    ]


def _grouped(records: Iterable[Record], first: str, second: str) -> dict[tuple[str, str], list[Record]]:
    groups: dict[tuple[str, str], list[Record]] = {}
    for row in records:
        groups.setdefault((row[first], row[second]), []).append(row)
    return groups


def _table(
    task: str, profile: str, rows: list[Record], kind: Kind, facts: RunFacts, ties: Mapping[RowKey, Ties] | None
) -> Table:
    chosen = {key: _one_severity(part) for key, part in _grouped(rows, "method", "perturbation").items()}
    methods = facts.ordered({method for method, _ in chosen})
    perturbations = {name for _, name in chosen} - {"clean", "all"}
    groups = [
        [Row(name, tuple(_cell(chosen.get((method, name)), kind) for method in methods)) for name in names]
        for names in facts.in_groups(perturbations)
    ]
    flat = [row for group in groups for row in group]
    means = tuple(
        _mean_cell(chosen.get((method, "all")), [row.cells[number] for row in flat], kind)
        for number, method in enumerate(methods)
    )
    counted = [_counted([row for row in rows if row["method"] == method]) for method in methods]
    column = SUMMARY.column(kind)
    tests: dict[str, str] = {}

    def marked(row: Row, perturbation: str) -> Row:
        found = (ties or {}).get((kind, task, profile, perturbation))
        if found:
            tests[row.name] = found.test
        tied = None if ties is None else found.groups if found else {}
        return Row(row.name, emphasised(row.cells, methods, facts, tied, column.higher_is_better is not False))

    sections = [Section(tuple(marked(row, row.name) for row in group)) for group in groups]
    sections.append(Section((marked(Row(MEAN, means), "all"),)))
    if kind == "accuracy":
        clean = tuple(_clean_cell([row for row in chosen.values() if row["method"] == method]) for method in methods)
        sections.insert(0, Section((marked(Row("clean", clean), "clean"),)))
    compared = [row for section in sections for row in section.rows]
    own = _count_section(counted) if kind == "stability" else ()
    return Table(
        kind,
        task,
        profile,
        column.title,
        "of unit labels",
        column.higher_is_better,
        "Perturbation",
        methods,
        (*sections, *own),
        (
            *_notes(kind, [row for (_, name), row in chosen.items() if name not in ("clean", "all")], counted),
            *_held_out_notes(methods, flat, facts),
            *_annotation_notes(methods, facts),
            *emphasis_notes(compared, methods, facts, tests),
            *facts.notes,
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
    ends = _number(row[f"{kind}_low"]), _number(row[f"{kind}_high"])
    return Cell(_number(row[kind]), *ends, marked=kind == "stability" and _number(row["p_adjusted"]) < SIGNIFICANT)


def _clean_cell(rows: Sequence[Record]) -> Cell:
    """Accuracy on clean images: of their own row, else what the perturbed ones say of it."""
    own = [row for row in rows if row["perturbation"] == "clean"]
    if own:
        return _cell(own[0], "accuracy")
    known = (_number(row["accuracy_clean"]) for row in rows)
    return Cell(next((value for value in known if not math.isnan(value)), math.nan))


def _mean_cell(row: Record | None, cells: list[Cell], kind: Kind) -> Cell:
    # A mean over the conditions that happen to be there would rank an incomplete column beside complete ones.
    if not cells or any(math.isnan(cell.value) for cell in cells):
        return Cell()
    return _cell(row, kind) if row is not None else Cell(sum(cell.value for cell in cells) / len(cells))


_COUNTS: Final = {
    "units": "units",
    "different clean labels": "distinct",
    "dead units": "dead",
    "missing labels": "missing",
    "truth known": "known",
}
"""Name of the row → column of the summary."""


def _counted(rows: Sequence[Record]) -> dict[str, float]:
    """What a reader must know of a method before reading its column: its noise, chance, and counts of its units."""
    for name in ("all", "clean"):
        part = [row for row in rows if row["perturbation"] == name]
        if part:
            rows = part
            break
    counts = {column: max(int(row[column]) for row in rows) for column in _COUNTS.values()}
    return {name: _mean(row[name] for row in rows) for name in ("noise_floor", "chance")} | counts


def _count_section(counted: Sequence[Mapping[str, float]]) -> tuple[Section]:
    means = {"noise floor": "noise_floor", "chance": "chance"}
    return (
        Section(
            (
                *(Row(name, tuple(Cell(own[column]) for own in counted)) for name, column in means.items()),
                *(
                    Row(name, tuple(count_cell(int(own[column])) for own in counted))
                    for name, column in _COUNTS.items()
                ),
            )
        ),
    )


def _notes(kind: Kind, rows: Sequence[Record], counted: Sequence[Mapping[str, float]]) -> Iterator[str]:
    severities = {str(row["severity"]) for row in rows}
    single = len(severities) == 1 and "all" not in severities
    at = f"Severity {severities.pop()}" if single else "Mean over severities"
    if kind == "stability":
        units = count_range([int(own["units"]) for own in counted], "units")
        yield (
            f"{at}. 1 = labels unchanged, 0 = as if another unit's label were drawn; "
            f"brackets: 95 % bootstrap interval over {units}."
        )
        yield _test_note([_number(row["p_adjusted"]) for row in rows])
    else:
        units = count_range([int(own["known"]) for own in counted], "units")
        yield f"{at}. Share of the {units} whose truth is known that are named right."
        yield "Brackets: 95 % interval, Wilson where each unit has one verdict, else bootstrap over units."


def _test_note(p_values: Sequence[float]) -> str:
    test = f"permutation test within units against clean repeats, Holm-corrected, p < {SIGNIFICANT:g}."
    if any(p < SIGNIFICANT for p in p_values):
        return f"* Differs from the method's own noise: {test}"
    if not all(math.isnan(p) for p in p_values):
        return f"Nothing differs from the methods' own noise: {test}"
    return "Not tested against the methods' own noise: there are no clean repeats."


def _held_out_notes(methods: Sequence[str], rows: Sequence[Row], facts: RunFacts) -> Iterator[str]:
    """What is left of the means where a method was tuned on perturbations that it is tested on, or uses them itself."""
    unseen = []
    for method in methods:
        about = facts.method(method)
        tuned = [row.name for row in rows if row.name in about.tuned_on]
        used = [row.name for row in rows if row.name in about.uses_perturbations]
        others = [row for row in rows if row.name not in (*tuned, *used)]
        if not tuned and not used:
            unseen.append(method)
            continue
        parts = [f"{how}: {listed(names)}" for how, names in ((TUNED_ON, tuned), (USED, used)) if names]
        if others:
            values = [[row.cells[number].value for row in others] for number in range(len(methods))]
            means = [f"{name} {printed(sum(own) / len(own))}" for name, own in zip(methods, values, strict=True)]
            parts.append(f"{NEVER_SEEN}: the other {len(others)}, with mean {', '.join(means)}")
        else:
            parts.append(f"{NEVER_SEEN}: none")
        yield f"{method}: {'; '.join(parts)}."
    if rows and (unseen := facts.rivals(unseen)):
        yield f"{NEVER_SEEN.capitalize()} by {listed(unseen)}, as far as they state: all of these perturbations."


def _annotation_notes(methods: Sequence[str], facts: RunFacts) -> Iterator[str]:
    """Which methods know what the images show, if others do not."""
    reading = [method for method in methods if facts.method(method).annotation]
    if reading and set(facts.rivals(methods)) - set(reading):
        verb = "reads" if len(reading) == 1 else "read"
        yield f"{listed(reading)} {verb} the annotation of the probing images, the other methods do not."


def _number(value: Any) -> float:
    return math.nan if pd.isna(value) else float(value)


def _mean(values: Iterable[Any]) -> float:
    numbers = [number for number in map(_number, values) if not math.isnan(number)]
    return sum(numbers) / len(numbers) if numbers else math.nan
