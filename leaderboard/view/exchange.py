"""Exchange of the probing set: what the table says."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from leaderboard.board.facts import RunFacts
from leaderboard.board.groups import by_task
from leaderboard.board.intervals import difference_interval, mean_interval, share_interval
from leaderboard.view.content import Cell, Row, Section, Table, cell_of

PAIRED: Final[tuple[str, ...]] = (
    "similarity",
    "noise floor",
    "difference",
    "chance",
    "same label",
    "same in a repeat",
    "right",
    "right, other",
    "difference of right",
)

_NOTES: Final = (
    "units. Similarity of the labels of a unit found with the run's images and with others; noise floor: that of two "
    "runs on the same images; chance: that of different units (cosine of CLIP's embeddings). Difference: similarity "
    "minus noise floor, paired.",
    "Right: by the truth that the run's images give. 95 % intervals over units (bootstrap; shares: Wilson).",
)


def exchange_contents(table: pd.DataFrame, facts: RunFacts) -> list[Table]:
    """One table per task and profile.

    Args:
        table: Rows of ``leaderboard.store.analysis_schema.EXCHANGE``.
    """
    found = []
    for task, profile, rows in by_task(table):
        section = Section(tuple(Row(str(name), paired(own, facts.seed)) for name, own in rows.groupby("method")))
        about = ("Labels found with other images", "of the same units", None, "Method", PAIRED)
        notes = (f"{rows['unit'].nunique()} {_NOTES[0]}", _NOTES[1], *facts.notes)
        found.append(Table("exchange", task, profile, *about, (section,), notes))
    return found


def paired(rows: pd.DataFrame, seed: int) -> tuple[Cell, ...]:
    """The cells of ``PAIRED`` for one method's rows."""
    similarity, floor, chance, same, again, right, other = (
        rows[name].to_numpy("float64", na_value=np.nan)
        for name in ("similarity", "noise_floor", "chance", "same", "same_again", "right", "other_right")
    )
    return (
        cell_of(mean_interval(similarity, seed)),
        cell_of(mean_interval(floor, seed)),
        cell_of(difference_interval(similarity, floor, seed)),
        cell_of(mean_interval(chance, seed)),
        cell_of(share_interval(same, seed)),
        cell_of(share_interval(again, seed)),
        cell_of(share_interval(right, seed)),
        cell_of(share_interval(other, seed)),
        cell_of(difference_interval(other, right, seed)),
    )
