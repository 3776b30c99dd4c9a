"""How far one profile predicts another: what the tables say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from leaderboard.board.validity import METHODS, Compared, Validity, rows
from leaderboard.board.validity_pairs import INTERVALS, TITLES, in_words, main_numbers
from leaderboard.view.content import Cell, Row, Section, Table, cell_of, count_cell, text_cell
from metrics.statistics import Interval


def validity_tables(validity: Validity) -> list[Table]:
    """The agreement over conditions and over methods, then both sides by condition and by method."""
    by_condition = [one for one in validity.compared if one.of != METHODS]
    by_method = [one for one in validity.compared if one.of == METHODS]
    return [
        *_agreement(validity, "conditions", by_condition),
        *_agreement(validity, "methods", by_method),
        *_values(validity, "condition", main_numbers(validity)),
        *_values(validity, "method", by_method),
    ]


def validity_sentences(validity: Validity) -> Iterator[str]:
    """What the comparison says, and what must be known before reading its numbers."""
    yield from in_words(validity)
    yield from validity.notes
    yield INTERVALS if validity.compared else "They have no condition in common under which both were measured."


def _agreement(validity: Validity, over: str, compared: Sequence[Compared]) -> Iterator[Table]:
    lines = []
    for one in compared:
        name = one.measure if one.of == METHODS else f"{one.measure}: {one.of}"
        lines.append(Row(name, (count_cell(len(one.names)), *map(_cell, one.agreement.values()))))
    if lines:
        columns = (over, *(TITLES[name] for name in compared[0].agreement))
        yield _table(validity, "agreement", "Agreement", f"over {over}", "Measure", columns, lines)


def _values(validity: Validity, by: str, compared: Sequence[Compared]) -> Iterator[Table]:
    sides = (validity.first.profile, validity.second.profile)
    shown = {(number, name): pair for number, one in enumerate(compared) for name, *pair in rows(one)}
    names = dict.fromkeys(name for one in compared for name in one.names)
    columns = [
        f"{one.measure if one.of == METHODS else f'{one.measure}, {one.of}'}: {side}"
        for one in compared
        for side in sides
    ]
    lines = [
        Row(
            name, tuple(cell for number in range(len(compared)) for cell in map(Cell, shown.get((number, name), _NONE)))
        )
        for name in names
    ]
    if lines:
        yield _table(validity, "values", "Both profiles", f"by {by}", by.capitalize(), columns, lines)


_NONE = (np.nan, np.nan)


def _table(
    validity: Validity, kind: str, title: str, subject: str, corner: str, columns: Sequence[str], lines: Sequence[Row]
) -> Table:
    first, second = validity.first, validity.second
    between = f": {first.task} ({first.profile}) and {second.task} ({second.profile})"
    sections = (Section(tuple(lines)),)
    return Table(kind, "", "", title, f"{subject}{between}", None, corner, tuple(columns), sections, ())


def _cell(found: Interval) -> Cell:
    return text_cell(found.reason) if np.isnan(found.estimate) else cell_of(found)
