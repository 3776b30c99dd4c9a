"""The accuracy that networks keep under perturbations: what the table says."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from leaderboard.board.facts import RunFacts
from leaderboard.board.robustness import Kept, kept_accuracies
from leaderboard.view.content import Cell, Row, Section, Table, cell_of
from leaderboard.view.words import condition_name, count_range


def robustness_contents(table: pd.DataFrame, facts: RunFacts) -> list[Table]:
    """One table per task and profile.

    Args:
        table: Rows of ``leaderboard.store.analysis_schema.ROBUSTNESS``.
    """
    tasks: dict[tuple[str, str], list[Kept]] = {}
    for kept in kept_accuracies(table, facts.seed):
        tasks.setdefault((kept.task, kept.profile), []).append(kept)
    return [_table(roles, facts) for roles in tasks.values()]


def _table(roles: Sequence[Kept], facts: RunFacts) -> Table:
    first = roles[0]
    rows = [
        Row(
            condition_name(*condition),
            tuple(cell for role in roles for cell in (cell_of(role.accuracy[place]), cell_of(role.kept[place]))),
        )
        for place, condition in enumerate(first.conditions)
    ]
    mean = tuple(cell for role in roles for cell in (Cell(role.mean_accuracy), cell_of(role.mean_kept)))
    clean = tuple(cell for role in roles for cell in (cell_of(role.clean), Cell()))
    return Table(
        "robustness",
        first.task,
        first.profile,
        "Accuracy kept",
        "by the network and by CLIP",
        True,
        "Condition",
        tuple(head for role in roles for head in (f"{role.role} accuracy", f"{role.role} kept")),
        (Section(tuple(rows)), Section((Row("mean", mean), Row("clean", clean)))),
        (
            f"{count_range([one.n for one in first.accuracy], 'images')} of known class. Accuracy: the network's "
            "highest output, or the name nearest to the image for CLIP, is the image's class or a kind of object in it "
            "(95 % Wilson intervals).",
            "Kept: accuracy divided by that on the same images, clean (95 % bootstrap intervals over images).",
            *facts.notes,
        ),
    )
