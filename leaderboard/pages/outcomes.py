"""Right against stable: how often a label was right before and after the images changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from leaderboard.board.build import Standings
from leaderboard.pages.curves import scored
from metrics.stability import four_way

KINDS: Final = ("right and stable", "right to wrong", "wrong to right", "wrong and stable")
"""In the order of ``metrics.stability.four_way``."""


@dataclass(frozen=True)
class Outcome:
    """One method's verdicts.

    Attributes:
        method: Its name.
        floor: Whether it is one.
        shares: One a kind of ``KINDS``; they sum to 1.
        starts: Where each begins on a bar of length 1.
        units: With a known truth.
    """

    method: str
    floor: bool
    shares: tuple[float, ...]
    starts: tuple[float, ...]
    units: int


def outcomes(standings: Standings) -> tuple[Outcome, ...]:
    """Of the complete methods over the task's own conditions, in the order of the board; none without truth.

    Shares are means over units, so that each unit counts once. A missing label is wrong.
    """
    group = standings.group
    rows = scored(group.scores, "accuracy")
    own = set(group.conditions)
    rows = rows.loc[[pair in own for pair in zip(rows["perturbation"], rows["severity"], strict=True)]]
    before = rows["right_clean"].astype("boolean").fillna(False).to_numpy(np.float64)
    rows = rows.assign(before=before)
    found = []
    for method, floor in ((row.method, row.floor) for row in standings.of_suite() if row.complete):
        units = [unit for _, unit in rows.loc[rows["method"].to_numpy() == method].groupby("unit")]
        if not units:
            continue
        per_unit = [four_way(unit["before"].to_numpy(), unit["value"].to_numpy()).shares for unit in units]
        shares = np.mean(per_unit, axis=0)
        starts = np.cumsum([0.0, *shares[:-1]])
        found.append(Outcome(method, floor, tuple(shares.tolist()), tuple(starts.tolist()), len(units)))
    return tuple(found)
