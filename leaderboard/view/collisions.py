"""Labels that several units share: what the table says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from leaderboard.board.bottlenecks import conditions_in_order
from leaderboard.board.facts import RunFacts
from leaderboard.board.groups import Condition, by_task
from leaderboard.view.content import Cell, Row, Section, Table, cell_of, count_cell
from leaderboard.view.words import count, printed
from metrics.collisions import Collisions, collisions
from metrics.text import normalise


def collision_contents(scores: pd.DataFrame, facts: RunFacts) -> list[Table]:
    """One table per task and profile: bits lost by shared labels, under each condition.

    Args:
        scores: Rows of ``leaderboard.store.schema.SCORES``.
    """
    first = scores.loc[scores["repeat"].eq(0).to_numpy() & ~scores["dead"].to_numpy(bool)]
    return [_table(task, profile, rows, facts) for task, profile, rows in by_task(first)]


def _table(task: str, profile: str, rows: pd.DataFrame, facts: RunFacts) -> Table:
    methods = facts.ordered(set(rows["method"]))
    found = {
        place: collisions([normalise(label) for label in own.dropna()])
        for place, own in rows.groupby(["method", "perturbation", "severity"])["label"]
    }
    clean = [found.get((method, "clean", 0), collisions([])) for method in methods]
    severities: dict[str, list[Condition]] = {
        name: [] for name in facts.in_order(set(rows["perturbation"]) - {"clean"})
    }
    for name, severity in conditions_in_order(rows):
        if severity:
            severities[name].append((name, severity))
    under = tuple(
        Row(name, tuple(_over(found, method, places) for method in methods)) for name, places in severities.items()
    )
    every = [place for places in severities.values() for place in places]
    means = [_over(found, method, every).value for method in methods]
    sections = [
        Section((Row("bits lost", tuple(map(_lost, clean))), *_counts(clean)), "clean"),
        Section((*under, Row("mean of all", tuple(map(Cell, means)))), "bits lost when perturbed") if under else None,
    ]
    return Table(
        "collisions",
        task,
        profile,
        "Labels that units share",
        "and the bits lost by them",
        None,
        "Condition",
        methods,
        tuple(section for section in sections if section is not None),
        (
            "Bits lost: entropy of the unit minus its mutual information with the label, the mean over units of log2 "
            "of the number of units with the same label (case, space and punctuation aside). It grows with the number "
            "of units. Dead units and missing labels do not count. Brackets: 95 % jackknife intervals over units; "
            "a mean over several conditions has none.",
            *(_sentence(*one) for one in zip(methods, clean, means, strict=True) if not facts.is_floor(one[0])),
            *facts.notes,
        ),
    )


def _counts(clean: Sequence[Collisions]) -> list[Row]:
    return [
        Row("of bits", tuple(Cell(one.bits) for one in clean)),
        Row("units with a label", tuple(count_cell(one.units) for one in clean)),
        Row("different labels", tuple(count_cell(one.distinct) for one in clean)),
        Row("units that share theirs", tuple(count_cell(one.sharing) for one in clean)),
        Row("units of the most frequent", tuple(count_cell(one.largest) for one in clean)),
    ]


def _lost(found: Collisions | None) -> Cell:
    return Cell() if found is None else cell_of(found.lost)


def _over(found: Mapping[Any, Collisions], method: str, places: Sequence[Condition]) -> Cell:
    """The mean over conditions, which has no interval; none if the method lacks one of them."""
    own = [found.get((method, *place)) for place in places]
    if len(own) == 1:
        return _lost(own[0])
    return Cell(float(np.mean([np.nan if one is None else one.lost.estimate for one in own])) if own else np.nan)


def _sentence(method: str, clean: Collisions, perturbed: float) -> str:
    if not clean.units:
        return f"{method} names no unit."
    after = "" if np.isnan(perturbed) else f", and {printed(perturbed)} in the mean over perturbed conditions"
    return (
        f"{method} has {count(clean.distinct, 'different label')} for {count(clean.units, 'unit')}, of which "
        f"{clean.sharing:,} share theirs: {printed(clean.lost.estimate)} of {printed(clean.bits)} bits are lost{after}."
    )
