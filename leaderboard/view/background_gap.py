"""The BG-gap: how much less stable and how much less often right labels are in a foreign context."""

from __future__ import annotations

from typing import Final, cast

import numpy as np
import pandas as pd

from leaderboard.board.comparison.rows import share_difference
from leaderboard.board.facts import RunFacts
from leaderboard.board.groups import by_task
from leaderboard.board.intervals import difference_interval, mean_interval, one_verdict, share_interval
from leaderboard.view.content import Row, Section, Table, cell_of, count_cell

_SAME: Final = "mixed_same"
_RANDOM: Final = "mixed_rand"


def background_gap_contents(scores: pd.DataFrame, facts: RunFacts) -> list[Table]:
    """One table per task and profile in which both perturbations ran (Xiao, Engstrom, Ilyas and Madry, ICLR 2021).

    Args:
        scores: Rows of ``leaderboard.store.schema.SCORES``.
        facts: Of their run.
    """
    alive = scores.loc[scores["perturbation"].isin([_SAME, _RANDOM]).to_numpy() & ~scores["dead"].to_numpy(bool)]
    tables = [_table(task, profile, rows, facts) for task, profile, rows in by_task(alive)]
    return [table for table in tables if table.sections]


def _table(task: str, profile: str, rows: pd.DataFrame, facts: RunFacts) -> Table:
    known = rows.loc[rows["truth"].notna().to_numpy()]
    # A missing label is wrong, and has no stability.
    known = known.assign(right=known["right"].astype("boolean").fillna(False))
    values = {"accuracy": _under_both(known, "right"), "stability": _under_both(rows, "stability")}
    sections = (
        Section(tuple(_row(measure, method, own.loc[method], facts.seed) for method in facts.ordered(methods)), measure)
        for measure, own in values.items()
        if (methods := set(own.index.get_level_values("method")))
    )
    return Table(
        "background_gap",
        task,
        profile,
        "BG-gap",
        "of unit labels",
        None,
        "Method",
        (_SAME, _RANDOM, "BG-gap", "units"),
        tuple(sections),
        (
            f"BG-gap: {_SAME} minus {_RANDOM}, what the change of context costs without what pasting costs; over the "
            "units with a value under both. 95 % intervals over units; of the BG-gap paired by unit, by the bootstrap, "
            "or Bonett and Price’s where each unit has one verdict. No test.",
            *facts.notes,
        ),
    )


def _under_both(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Method and unit → the means over severities with a value under both perturbations."""
    numbers = rows[column].astype("Float64").to_numpy(np.float64, na_value=np.nan)
    place = ["method", "unit", "severity", "perturbation"]
    means = cast(pd.Series, rows.assign(value=numbers).groupby(place)["value"].mean())
    wide = means.unstack("perturbation").reindex(columns=pd.Index([_SAME, _RANDOM])).dropna()
    return cast(pd.DataFrame, wide.groupby(["method", "unit"]).mean())


def _row(measure: str, method: str, values: pd.DataFrame, seed: int) -> Row:
    same, random = (values[name].to_numpy(np.float64) for name in (_SAME, _RANDOM))
    shares = measure == "accuracy"
    mean = share_interval if shares else mean_interval
    if shares and one_verdict(same) and one_verdict(random):
        gap = share_difference(same, random)
    else:
        gap = difference_interval(same, random, seed)
    return Row(method, (*(cell_of(mean(own, seed)) for own in (same, random)), cell_of(gap), count_cell(len(values))))
