"""Right against stable: how often a label was right before and after the images changed, as bars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leaderboard.board.build import Standings
from leaderboard.view.truth import OUTCOMES, right_and_stable


@dataclass(frozen=True)
class Outcome:
    """One method's verdicts.

    Attributes:
        floor: Whether it is a trivial baseline.
        shares: One per kind of ``leaderboard.view.truth.OUTCOMES``; they sum to 1.
        starts: Where each begins on a bar of length 1.
        units: With a known truth.
    """

    method: str
    floor: bool
    shares: tuple[float, ...]
    starts: tuple[float, ...]
    units: int


def outcomes(standings: Standings) -> tuple[Outcome, ...]:
    """Of the complete methods over the task's own conditions, in the order of the board; none without truth."""
    facts = standings.group.about_run
    found = {}
    for table in right_and_stable(standings.complete_scores, facts):
        for number, method in enumerate(table.columns):
            *shares, units = (float(row.cells[number].value) for row in table.rows[: len(OUTCOMES) + 1])
            starts = np.cumsum([0.0, *shares[:-1]]).tolist()
            found[method] = Outcome(method, facts.is_floor(method), tuple(shares), tuple(starts), int(units))
    return tuple(found[method] for method in standings.complete if method in found)
