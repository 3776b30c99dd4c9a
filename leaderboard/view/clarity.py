"""Whether units' top images look alike, on clean images and under each condition."""

from __future__ import annotations

import numpy as np
import pandas as pd

from leaderboard.board.bottlenecks import conditions_in_order
from leaderboard.board.facts import RunFacts
from leaderboard.board.groups import by_task
from leaderboard.board.intervals import mean_interval
from leaderboard.store.schema import UNIT_MEASURES
from leaderboard.view.content import Row, Section, Table, cell_of
from leaderboard.view.words import condition_name, count

_NOTE = (
    "Mean over units with 95 % bootstrap interval, of a unit's 20 top images in CLIP's space. Clarity: mean cosine of "
    "their pairs; redundancy: largest cosine with another unit of the layer; polysemanticity: 1 − cosine of the "
    "centres of two clusters; monosemanticity: mean cosine of the 16 strongest, weighted by activation. None knows a "
    "label. CLIP sees the perturbed images too, and many perturbations make all images alike to it: a rise is no gain."
)


def clarity_contents(scores: pd.DataFrame, facts: RunFacts) -> list[Table]:
    """One table per task and profile whose run has the measures.

    Args:
        scores: Rows of ``leaderboard.store.schema.SCORES``.
    """
    names = [column.name for column in UNIT_MEASURES]
    known = scores.loc[scores["repeat"].eq(0).to_numpy() & scores[names].notna().to_numpy().any(axis=1)]
    # The same for all methods.
    each = known.drop_duplicates(["task", "profile", "perturbation", "severity", "unit"])
    return [_table(task, profile, rows, names, facts) for task, profile, rows in by_task(each)]


def _table(task: str, profile: str, rows: pd.DataFrame, names: list[str], facts: RunFacts) -> Table:
    def row(condition: tuple[str, int]) -> Row:
        here = rows["perturbation"].eq(condition[0]) & rows["severity"].eq(condition[1])
        own = rows.loc[here.to_numpy()].sort_values("unit")
        values = (own[name].to_numpy(np.float64) for name in names)
        return Row(condition_name(*condition), tuple(cell_of(mean_interval(one, facts.seed)) for one in values))

    return Table(
        "clarity",
        task,
        profile,
        "Clarity of units",
        "by their top images",
        None,
        "Condition",
        tuple(column.title for column in UNIT_MEASURES),
        (Section(tuple(map(row, conditions_in_order(rows)))),),
        (f"{count(len(set(rows['unit'])), 'unit')}. {_NOTE}", *facts.notes),
    )
