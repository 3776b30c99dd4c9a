"""Where the instability of labels comes from: what the table says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pandas as pd

from leaderboard.board.facts import RunFacts
from leaderboard.board.groups import by_task
from leaderboard.view.content import Cell, Row, Section, Table, count_cell, number_cell
from leaderboard.view.words import count_range

CLIP: Final = "clip"
SPACES: Final = {CLIP: "CLIP text embeddings", "sentence": "sentence embeddings", "string": "equal strings"}
"""Distance of two labels → heading; the first is that of figures."""

EFFECTS: Final = {
    "seed": "seed",
    "images": "draw of the images",
    "perturbation": "perturbation",
    "severity": "severity",
    "perturbation x severity": "perturbation × severity",
    "concepts": "concept set",
    "other pairs": "other interactions of 2",
    "three and more": "interactions of 3 and more",
}
"""Effect → heading; their shares sum to 1."""

TOTALS: Final = {
    "seed": "seed",
    "images": "draw of the images",
    "perturbation": "perturbation",
    "severity": "severity",
    "perturbation or severity": "perturbation or severity",
    "concepts": "concept set",
}

Found = Mapping[tuple[str, str, str], Mapping[str, Any]]
"""Method, measure and effect → the row of one distance of a task."""


def variance_contents(table: pd.DataFrame, facts: RunFacts) -> list[Table]:
    """One table per task, profile and distance.

    Args:
        table: Rows of ``leaderboard.store.analysis_schema.VARIANCE``.
    """
    found = []
    for task, profile, rows in by_task(table):
        spaces = set(rows["space"])
        found += [_table(task, profile, space, rows, facts) for space in SPACES if space in spaces]
    return found


def rows_of(table: pd.DataFrame, space: str) -> Found:
    """The rows of one distance.

    Args:
        table: Rows of one task and profile.
        space: One of ``SPACES``.
    """
    own = table.loc[table["space"].eq(space).to_numpy()]
    return {(row["method"], row["measure"], row["effect"]): row for row in own.to_dict("records")}


def _table(task: str, profile: str, space: str, rows: pd.DataFrame, facts: RunFacts) -> Table:
    found = rows_of(rows, space)
    methods = facts.ordered({method for method, *_ in found})
    whole = [found[method, "variance", "all"] for method in methods]
    distance = Row("mean distance of two labels", tuple(_cell(one) for one in whole))
    labelled = Row("labellings", tuple(count_cell(int(one["labellings"])) for one in whole))
    sections = (
        Section(_rows("share", EFFECTS, methods, found), "share of the variance"),
        Section(_rows("total", TOTALS, methods, found), "left if only this changes"),
        Section((distance, labelled)),
    )
    return Table(
        f"variance_{space}",
        task,
        profile,
        "Where instability comes from",
        f"by {SPACES[space]}",
        None,
        "Effect",
        methods,
        sections,
        (
            "Variance components of a crossed design: each unit is labelled for every combination of two seeds, two "
            "halves of the images, up to three perturbations, severities 0, 3 and 5 (0 is clean) and, if the method "
            "chooses from a concept set, two random halves of it (– for other methods). "
            f"{count_range([int(one['units']) for one in whole], 'units')} with a label in every cell.",
            "Shares sum to 1. Left if only this changes: the share of the variance that is left if all other factors "
            "are held fixed, which is the effect with all its interactions. Brackets: 95 % bootstrap intervals over "
            "units. Distance: of two labels of a unit that have no level in common; 0 for equal labels.",
            *facts.notes,
        ),
    )


def _rows(measure: str, effects: Mapping[str, str], methods: Sequence[str], found: Found) -> tuple[Row, ...]:
    return tuple(
        Row(heading, tuple(_cell(found.get((method, measure, effect))) for method in methods))
        for effect, heading in effects.items()
    )


def _cell(row: Mapping[str, Any] | None) -> Cell:
    return number_cell(None) if row is None else number_cell(row["value"], row["low"], row["high"])
