"""Which methods are not significantly different, as the tables mark them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast

import pandas as pd

from leaderboard.board.names import SIGNIFICANT

Kind = Literal["stability", "accuracy"]

RowKey = tuple[Kind, str, str, str]
"""Table, task, profile and row: a perturbation, ``all`` for the mean over all, or ``clean``."""

_ROWS: Final[dict[str, tuple[Kind, str]]] = {
    "stability": ("stability", "all"),
    "accuracy": ("accuracy", "all"),
    "accuracy_clean": ("accuracy", "clean"),
}


@dataclass(frozen=True)
class Ties:
    """What the test of one row found.

    Attributes:
        groups: Method → its groups, e.g. letters or a shared rank. Two methods with one in common are not significantly
            different; a method without any has not been tested.
        test: The test and its correction in the words of a caption.
    """

    groups: Mapping[str, Collection[str]]
    test: str


def ties_from(comparisons: pd.DataFrame) -> dict[RowKey, Ties]:
    """The ties of the rows that were tested: the means over all perturbations, and accuracy on clean images.

    Args:
        comparisons: Rows of ``leaderboard.store.schema.COMPARISONS``.
    """
    rows = {kind: comparisons.loc[(comparisons["kind"] == kind).to_numpy()] for kind in ("pair", "method")}
    places = ["task", "profile", "measure"]
    methods = dict(iter(rows["method"].groupby(places)))
    found = {}
    for names, pairs in rows["pair"].groupby(places):
        task, profile, measure = cast(tuple[str, str, str], names)
        tested = pairs.loc[pairs["p_corrected"].notna().to_numpy()]
        if measure not in _ROWS or not len(tested):
            continue
        letters = zip(methods[names]["first"], methods[names]["letters"], strict=True)
        groups = {str(method): tuple(text) for method, text in letters if isinstance(text, str)}
        if not groups:
            continue  # a single unit ranks nobody
        kind, row = _ROWS[measure]
        found[kind, task, profile, row] = Ties(groups, _test(tested))
    return found


def _test(pairs: pd.DataFrame) -> str:
    names = dict.fromkeys(str(test).partition(",")[0] for test in pairs["test"])
    return f"{' or '.join(names)}, paired by unit, {pairs['correction'].iloc[0]}, p > {SIGNIFICANT:g}"
