"""Heat maps: under which perturbation each method's labels hold. A table, so that every number can be read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, cast

import pandas as pd

from leaderboard.board.build import measures
from leaderboard.board.merge import Group
from leaderboard.pages.charts import shade
from leaderboard.pages.curves import scored
from leaderboard.pages.frame import number
from leaderboard.view.words import spaced

_MEASURES: Final = ("stability", "accuracy")


@dataclass(frozen=True)
class HeatCell:
    """A mean and its shade; both None where the method did not do all of it."""

    value: float | None
    shade: int | None


@dataclass(frozen=True)
class HeatRow:
    """One perturbation.

    Attributes:
        kind: Its group, e.g. ``noise``.
    """

    perturbation: str
    kind: str
    cells: tuple[HeatCell, ...]


@dataclass(frozen=True)
class HeatMap:
    """Method × perturbation.

    Attributes:
        columns: Methods, then ``evidence overlap`` with the stability.
        rows: The task's own perturbations.
        words: The weakest and the strongest place, in words.
    """

    measure: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[HeatRow, ...]
    words: str


def heat_maps(group: Group) -> tuple[HeatMap, ...]:
    """Stability, and accuracy where the truth is known, over the task's own conditions.

    A cell is the mean over units of each unit's mean over the severities; a method that did not do all of a
    perturbation's severities on all units has no number there.
    """
    return tuple(found for measure in _MEASURES if (found := _heat_map(group, measure)))


def _heat_map(group: Group, measure: str) -> HeatMap | None:
    means = _means(group, measure)
    if not means:
        return None
    columns = list(group.methods)
    if measure == "stability":
        overlap = {name: value for (_, name), value in _means(group, "evidence_overlap").items()}
        means |= {("evidence overlap", name): value for name, value in overlap.items()}
        columns.append("evidence overlap")
    about = group.about_run
    rows = tuple(
        HeatRow(name, about.kind(name), tuple(_cell(means.get((column, name))) for column in columns))
        for name in about.in_order({name for name, _ in group.conditions})
    )
    rivals = about.rivals(group.methods)
    real = {place: value for place, value in means.items() if place[0] in rivals}
    return HeatMap(measure, measures()[measure].title, tuple(columns), rows, _in_words(real))


def _means(group: Group, measure: str) -> dict[tuple[str, str], float]:
    """(Method, perturbation) → mean, where all of it ran."""
    rows = scored(group.scores, measure)
    done = group.scores.loc[group.scores["repeat"].eq(0).to_numpy()].groupby(["method", "perturbation", "severity"])
    units = {cast(tuple[str, str, int], key): count for key, count in done["unit"].nunique().items()}
    found = {}
    for method in group.methods:
        for name, severities in _severities(group):
            if any(units.get((method, name, severity), 0) < len(group.units) for severity in severities):
                continue
            chosen = rows["method"].eq(method) & rows["perturbation"].eq(name) & rows["severity"].isin(severities)
            per_unit = cast(pd.Series, rows.loc[chosen].groupby("unit")["value"].mean())
            if per_unit.notna().any():
                found[method, name] = float(per_unit.mean())
    return found


def _severities(group: Group) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name in dict.fromkeys(name for name, _ in group.conditions):
        yield name, tuple(severity for other, severity in group.conditions if other == name)


def _cell(value: float | None) -> HeatCell:
    return HeatCell(value, None if value is None else shade(value))


def _in_words(means: dict[tuple[str, str], float]) -> str:
    if not means:
        return ""
    (weak, under), (strong, over) = min(means, key=lambda p: means[p]), max(means, key=lambda p: means[p])
    low, high = number(means[weak, under]), number(means[strong, over])
    return f"Lowest: {weak} under {spaced(under)}, {low}. Highest: {strong} under {spaced(over)}, {high}."
