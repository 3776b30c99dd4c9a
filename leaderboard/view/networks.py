"""Two networks: what the table says."""

from __future__ import annotations

from typing import Final

import pandas as pd

from leaderboard.board.facts import RunFacts
from leaderboard.board.groups import by_task
from leaderboard.board.intervals import mean_interval
from leaderboard.view.content import Row, Section, Table, cell_of
from leaderboard.view.exchange import PAIRED, paired

MATCHINGS: Final = ("same number", "by activation", "by label")
_SHOWN: Final = tuple(name for name in PAIRED if name not in ("same in a repeat", "difference of right"))

_NOTES: Final = (
    "Correlation: of both units' activations over the images. Similarity: cosine of CLIP's embeddings of both labels; "
    "noise floor: that of a repeat on the task's network. Difference: the drift, similarity minus noise floor, paired. "
    "Chance: that of different units; by label, that of the best match with another unit of the task's network.",
    "Right: each label by the truth of its own network's unit. 95 % intervals over units (bootstrap; shares: Wilson).",
)


def networks_contents(table: pd.DataFrame, facts: RunFacts) -> list[Table]:
    """One table per task and profile.

    Args:
        table: Rows of ``leaderboard.store.analysis_schema.NETWORKS``.
    """
    found = []
    for task, profile, rows in by_task(table):
        matched = rows.loc[rows["matching"] == "by activation"].drop_duplicates("unit")
        kept = int((matched["unit"] == matched["other_unit"]).sum())
        told = f"; by activation, {kept} of {len(matched)} match the unit of the same number"
        sections = tuple(
            Section(tuple(_row(str(name), own, facts.seed) for name, own in some.groupby("method")), matching)
            for matching in MATCHINGS
            if len(some := rows.loc[rows["matching"] == matching])
        )
        counted = f"{rows['unit'].nunique()} units{told if 'same number' in set(rows['matching']) else ''}. "
        about = ("Labels of another network's units", "that match the task's", None, "Method", ("correlation", *_SHOWN))
        notes = (counted + _NOTES[0], _NOTES[1], *facts.notes)
        found.append(Table("networks", task, profile, *about, sections, notes))
    return found


def _row(method: str, rows: pd.DataFrame, seed: int) -> Row:
    cells = dict(zip(PAIRED, paired(rows, seed), strict=True))
    alike = cell_of(mean_interval(rows["correlation"].to_numpy("float64"), seed))
    return Row(method, (alike, *(cells[name] for name in _SHOWN)))
