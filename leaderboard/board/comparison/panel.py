"""One measure of several methods over the same units and conditions, so that nothing but the method differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

_PLACE = ["perturbation", "severity"]


@dataclass(frozen=True)
class Panel:
    """Values of the methods where all of them have one.

    A method that failed under the hardest condition, or left the hardest units unnamed, would otherwise gain by it.

    Attributes:
        methods: Those with a value.
        without: Methods without any.
        conditions: Perturbation and severity, sorted; those in which every method has values.
        values: NaN for all methods where one of them has no value.
        note: What does not count for lack of a value; empty if everything does.
    """

    methods: tuple[str, ...]
    without: tuple[str, ...]
    conditions: tuple[tuple[str, int], ...]
    values: Float[np.ndarray, "methods units conditions"]
    note: str

    def unit_means(self) -> Float[np.ndarray, "complete methods"]:
        """Each unit's mean over its conditions, for the units that have one."""
        present = ~np.isnan(self.values)
        count = present.sum(axis=2)
        total = np.where(present, self.values, 0.0).sum(axis=2)
        return (total / np.maximum(count, 1)).T[count.all(axis=0)]


def build_panel(rows: pd.DataFrame, column: str, methods: Sequence[str]) -> Panel:
    """Arrange a column of the scores by method, unit and condition.

    Args:
        rows: In the columns of ``leaderboard.store.schema.SCORES``; those that count.
        column: A number or flag; absent values are allowed. Repeats are averaged.
        methods: In the order wanted.
    """
    numbers = rows[column].astype("Float64").to_numpy(np.float64, na_value=np.nan)
    known = rows.assign(value=numbers).loc[~np.isnan(numbers)]
    present = tuple(name for name in methods if known["method"].eq(name).any())
    without = tuple(name for name in methods if name not in present)
    if not present:
        return Panel((), without, (), np.empty((0, 0, 0)), "")
    means = cast(pd.Series, known.groupby(["method", "unit", *_PLACE])["value"].mean())
    wide = cast(pd.DataFrame, means.unstack(_PLACE)).sort_index(axis=1)
    units = np.unique(known["unit"].to_numpy())
    index = pd.MultiIndex.from_product([present, units])
    every = wide.reindex(index).to_numpy(np.float64).reshape(len(present), len(units), -1)
    shared: Bool[np.ndarray, " conditions"] = np.asarray((~np.isnan(every)).any(axis=1).all(axis=0))
    values = every[:, :, shared]
    incomplete: Bool[np.ndarray, "units conditions"] = np.asarray(np.isnan(values).any(axis=0))
    return Panel(
        methods=present,
        without=without,
        conditions=tuple((str(name), int(level)) for name, level in wide.columns[shared].tolist()),
        values=np.where(incomplete, np.nan, values),
        note=_note(shared, incomplete),
    )


def _note(shared: Bool[np.ndarray, " conditions"], incomplete: Bool[np.ndarray, "units conditions"]) -> str:
    notes = []
    if not shared.all():
        notes.append(f"over {int(shared.sum())} of {len(shared)} conditions: those in which every method has values")
    lost = int(incomplete[~incomplete.all(axis=1)].sum()) if incomplete.size else 0
    if lost:
        notes.append(f"{lost} of {incomplete.size} values do not count, for a method gave no label there")
    return "; ".join(notes)
