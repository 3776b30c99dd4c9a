"""What the report knows of one group: its standings, and its scores under the task's own conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from leaderboard.board.build import Row, Standings
from leaderboard.board.merge import Condition, Group
from leaderboard.board.summary import ALL, MEANS, means_over, movement, summarise
from metrics.statistics import holm


@dataclass(frozen=True)
class Chapter:
    """One group of the board, as the report tells it.

    The board's means rest on the task's own conditions; so does every table here, or the two would disagree.

    Attributes:
        standings: The group's standings.
    """

    standings: Standings

    @property
    def group(self) -> Group:
        """The group."""
        return self.standings.group

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """One row a method over all suites, best first."""
        return self.standings.of_suite()

    @cached_property
    def complete(self) -> tuple[str, ...]:
        """The methods that cover all that the task asks for, best first, floors last."""
        return tuple(row.method for row in self.rows if row.complete)

    @cached_property
    def rivals(self) -> tuple[Row, ...]:
        """The rows of complete methods that are no floors, best first."""
        return tuple(row for row in self.rows if row.complete and not row.floor)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """The scores under the task's own conditions and on clean images, of all methods."""
        return own_conditions(self.group.scores, self.group.conditions)

    @cached_property
    def complete_scores(self) -> pd.DataFrame:
        """The same of the complete methods."""
        return self.scores.loc[self.scores["method"].isin(self.complete)]

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Rows of ``leaderboard.store.schema.SUMMARY`` over ``scores``; an incomplete method has no mean over all."""
        if not self.extra_conditions:
            summary = self.standings.summary.copy()
        elif len(self.severities) == 1:
            summary = self._narrowed()
        else:
            summary = summarise(self.scores, self.group.about_run.seed)
        gaps = summary["perturbation"].eq(ALL) & ~summary["method"].isin(self.complete)
        means = [f"{name}{end}" for name in MEANS for end in ("", "_low", "_high")]
        summary.loc[gaps, [*means, "p_value", "p_adjusted"]] = np.nan
        return summary

    def _narrowed(self) -> pd.DataFrame:
        """``summarise(self.scores)`` for one severity, without doing again what the group's own summary holds."""
        whole, seed = self.standings.summary, self.group.about_run.seed
        asked = {("clean", "0"), *((name, str(severity)) for name, severity in self.group.conditions)}
        kept = [place in asked for place in zip(whole["perturbation"], whole["severity"], strict=True)]
        parts = []
        for method, rows in whole.loc[np.array(kept, dtype=bool)].groupby("method", sort=False):
            own = self.scores.loc[self.scores["method"].to_numpy() == method]
            p_value = movement(own, seed)
            place = {"task": self.group.task, "profile": self.group.profile, "method": method, "perturbation": ALL}
            mean = {**place, "severity": ALL, **means_over(own, seed), "p_value": p_value, "p_adjusted": p_value}
            tested = rows["perturbation"].to_numpy() != "clean"
            adjusted = np.full(len(rows), np.nan)
            adjusted[tested] = holm(rows["p_value"].to_numpy(np.float64)[tested]).p_values
            parts += [rows.assign(p_adjusted=adjusted), pd.DataFrame([mean], columns=whole.columns)]
        return pd.concat(parts, ignore_index=True)

    @cached_property
    def faithfulness(self) -> pd.DataFrame:
        """How faithful the complete methods' labels are."""
        rows = own_conditions(self.group.tables["faithfulness"], self.group.conditions)
        return rows.loc[rows["method"].isin(self.complete)]

    @cached_property
    def severities(self) -> tuple[int, ...]:
        """Of the task's own conditions."""
        return tuple(sorted({severity for _, severity in self.group.conditions}))

    @cached_property
    def extra_conditions(self) -> int:
        """How many conditions ran that the task does not ask for."""
        scores = self.group.scores
        ran = set(zip(scores["perturbation"], scores["severity"].astype(int), strict=True)) - {("clean", 0)}
        return len(ran - set(self.group.conditions))


def own_conditions(frame: pd.DataFrame, conditions: Sequence[Condition]) -> pd.DataFrame:
    """The rows of those conditions, and the clean ones."""
    wanted = {*conditions, ("clean", 0)}
    kept = [place in wanted for place in zip(frame["perturbation"], frame["severity"], strict=True)]
    return frame.loc[np.array(kept, dtype=bool)]
