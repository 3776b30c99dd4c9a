"""What units depend on, by what a method saw of them: foreground, background, context."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy import stats

from leaderboard.board.facts import RunFacts
from leaderboard.board.groups import of_task
from leaderboard.board.intervals import mean_interval
from leaderboard.view.content import Cell, Row, Section, Table, cell_of

EXAMPLES: Final = 6
"""Units that are shown of each kind."""

FEWEST: Final = 10
"""Units from which on a rank correlation is given."""

_PARTS: Final = ("foreground", "background", "context")


def dependence_contents(
    dependence: pd.DataFrame, labels: pd.DataFrame, scores: pd.DataFrame, facts: RunFacts
) -> list[Table]:
    """One table per task and method that says what units depend on, on clean images.

    Args:
        dependence: Rows of ``leaderboard.store.schema.DEPENDENCE``.
        labels: Rows of ``leaderboard.store.schema.LABELS``, for the units' names.
        scores: Rows of ``leaderboard.store.schema.SCORES``, for the stability of their labels.
    """
    said = np.any([dependence[part].notna().to_numpy() for part in _PARTS], axis=0)
    own = dependence.loc[_clean(dependence) & dependence["part"].eq("").to_numpy() & said]
    groups = own.groupby(["task", "profile", "method"], sort=False)
    return [
        _table(str(task), str(profile), str(method), rows, labels, scores, facts)
        for (task, profile, method), rows in groups
    ]


def _table(
    task: str,
    profile: str,
    method: str,
    rows: pd.DataFrame,
    labels: pd.DataFrame,
    scores: pd.DataFrame,
    facts: RunFacts,
) -> Table:
    def mine(table: pd.DataFrame) -> pd.DataFrame:
        own = of_task(table, task, profile)
        return own.loc[own["method"].eq(method).to_numpy()]

    first = mine(labels)
    first = first.loc[_clean(first) & first["rank"].eq(1).to_numpy()]
    names = {int(unit): str(label) for unit, label in zip(first["unit"], first["label"], strict=True)}
    found = _Found(
        rows["unit"].to_numpy(np.int64), np.stack([rows[part].to_numpy(np.float64) for part in _PARTS], axis=1), names
    )
    return Table(
        f"dependence_{method}",
        task,
        profile,
        "What units depend on",
        f"as {method} saw it on clean images",
        None,
        "Unit and label",
        _PARTS,
        tuple(_sections(found, facts.seed)),
        (*_notes(found, mine(scores)), *facts.notes),
    )


@dataclass(frozen=True)
class _Found:
    """Units, what they depend on in the order of ``_PARTS``, and their labels."""

    units: Int[np.ndarray, " units"]
    values: Float[np.ndarray, "units 3"]
    names: Mapping[int, str]

    def row(self, place: int) -> Row:
        unit = int(self.units[place])
        return Row(f"{unit} {self.names.get(unit, '')}".strip(), tuple(Cell(float(v)) for v in self.values[place]))


def _sections(found: _Found, seed: int) -> Iterator[Section]:
    leaning = np.nan_to_num(found.values[:, 1] - found.values[:, 0])
    for title, lean in (("background before foreground", leaning), ("foreground before background", -leaning)):
        order = [place for place in np.argsort(-lean, kind="stable").tolist() if lean[place] > 0]
        if order:
            rows = tuple(found.row(place) for place in order[:EXAMPLES])
            yield Section(rows, f"{title}: {len(order)} of {len(found.units)} units")
    cells = []
    for column in found.values.T:
        known = column[~np.isnan(column)]
        mean = mean_interval(known, seed) if len(known) else None
        cells.append(Cell() if mean is None else cell_of(mean))
    yield Section((Row("mean", tuple(cells)),), "all units")


def _notes(found: _Found, scores: pd.DataFrame) -> Iterator[str]:
    yield (
        "Foreground, background: the largest share of the excess activation (above the unit's median) that the unit's "
        "images lose when that part of the image alone is blurred or greyed. Context: the mean loss over all "
        f"changes, those of the whole image too. Shown: the {EXAMPLES} units on each side that lean furthest. Means "
        "with 95 % bootstrap intervals over units."
    )
    context = dict(zip(found.units.tolist(), found.values[:, 2].tolist(), strict=True))
    stable: dict[int, list[float]] = {}
    moved = scores.loc[scores["perturbation"].ne("clean").to_numpy()]
    for unit, stability in zip(moved["unit"], moved["stability"], strict=True):
        if pd.notna(stability):
            stable.setdefault(int(unit), []).append(float(stability))
    pairs = np.array(
        [(context[u], np.mean(own)) for u, own in stable.items() if not math.isnan(context.get(u, math.nan))]
    )
    if len(pairs) >= FEWEST and min(len(np.unique(column)) for column in pairs.T) > 1:
        rho, p_value = stats.spearmanr(pairs[:, 0], pairs[:, 1])
        yield (
            f"Rank correlation of a unit's context dependence and the mean stability of its label under the run's "
            f"perturbations: {rho:.2f} (Spearman, n = {len(pairs)} units, p = {p_value:.2g}, not corrected)."
        )


def _clean(table: pd.DataFrame) -> Bool[np.ndarray, " rows"]:
    return np.asarray(table["perturbation"].eq("clean") & table["repeat"].eq(0), dtype=bool)
