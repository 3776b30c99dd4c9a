"""Cue conflict: what the tables say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Bool

from leaderboard.board.facts import RunFacts
from leaderboard.board.groups import by_task, of_task
from leaderboard.board.intervals import difference_interval, share_interval
from leaderboard.view.content import Cell, Row, Section, Table, cell_of
from metrics.statistics import Interval

FEWEST: Final = 20
"""Units that follow one of the two cues, below which only their number is given."""

_COLUMNS: Final = ("shape bias", "of the units", "bias", "wrong cue", "neither", "follows, swapped", "along, swapped")

_NOTES: Final = (
    "On tied scenes each kind of object has its own colour, pattern or background; on swapped ones, that of another "
    "kind. What a unit follows is measured where both are independent: the cue with an AUROC of at least 0.9 and more "
    "than 0.05 above the other's. Other units are not counted.",
    "Shape bias: of the labels on tied scenes that name one of the cues, share that names the kind; of the units: "
    "share of the same units that follows the kind; bias: the difference, 0 for a method that says what units follow.",
    "Wrong cue: share of units whose label names the cue that the unit does not follow; neither: both cues or none. "
    "Follows: share whose label on swapped scenes names what the unit follows; along: what merely comes with it there.",
    "Network: share of swapped scenes whose kind stands out more in its output than the other cue. 95 % intervals over "
    "units or scenes (Wilson; bias: paired bootstrap).",
)


def cue_conflict_contents(
    units: pd.DataFrame, labels: pd.DataFrame, network: pd.DataFrame, facts: RunFacts
) -> list[Table]:
    """One table per task and profile.

    Args:
        units: Rows of ``leaderboard.store.analysis_schema.CUE_UNITS``.
        labels: Rows of ``leaderboard.store.analysis_schema.CUE_LABELS``.
        network: Rows of ``leaderboard.store.analysis_schema.CUE_NETWORK``.
    """
    found = []
    for task, profile, rows in by_task(units):
        said, seen = (of_task(table, task, profile) for table in (labels, network))
        sections = tuple(
            _section(str(cue), own, _of(said, cue), _of(seen, cue), facts.seed) for cue, own in rows.groupby("cue")
        )
        about = ("What labels follow", "where kind and another cue are tied, and then swapped", None, "Labels of")
        notes = (*_NOTES, *facts.notes)
        found.append(Table("cue_conflict", task, profile, *about, _COLUMNS, sections, notes))
    return found


def _of(table: pd.DataFrame, cue: object) -> pd.DataFrame:
    return table.loc[table["cue"].eq(cue).to_numpy()]


def _section(cue: str, units: pd.DataFrame, labels: pd.DataFrame, network: pd.DataFrame, seed: int) -> Section:
    follows = dict(zip(units["unit"].tolist(), units["follows"].tolist(), strict=True))
    kinds, values = ([*follows.values()].count(one) for one in ("kind", "value"))
    rows = []
    if kinds + values >= FEWEST:
        rows = [_row(str(name), own, follows, seed) for name, own in labels.groupby("method")]
    if len(network):
        share = cell_of(_share(network["follows_kind"].to_numpy(bool), seed))
        rows.append(Row("network, swapped", (share, *(Cell(),) * (len(_COLUMNS) - 1))))
    few = "" if kinds + values >= FEWEST else f", fewer than the {FEWEST} that labels are counted for"
    told = f"{cue}: {kinds} units follow the kind, {values} the {cue}, of {len(units)}{few}"
    return Section(tuple(rows), told)


def _row(method: str, labels: pd.DataFrame, follows: Mapping[int, str], seed: int) -> Row:
    tied, swapped = (
        labels.loc[(labels["arrangement"] == arrangement).to_numpy()].set_index("unit").sort_index()
        for arrangement in ("tied", "swapped")
    )
    own = np.array([follows[unit] for unit in tied.index.tolist()], str)
    said, later = tied["named"].to_numpy(str), swapped["named"].to_numpy(str)
    one = (said == "kind") | (said == "value")
    labelled, following = (np.where(one, some == "kind", np.nan) for some in (said, own))
    return Row(
        method,
        (
            cell_of(share_interval(labelled, seed)),
            cell_of(share_interval(following, seed)),
            cell_of(difference_interval(labelled, following, seed)),
            cell_of(_share(one & (said != own), seed)),
            cell_of(_share(~one, seed)),
            cell_of(_share(later == own, seed)),
            cell_of(_share((later != own) & swapped["along"].to_numpy(bool), seed)),
        ),
    )


def _share(flags: Bool[np.ndarray, " rows"], seed: int) -> Interval:
    return share_interval(flags.astype(np.float64), seed)
