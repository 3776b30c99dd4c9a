"""Severity curves: how a measure falls as each perturbation grows, and as all of them do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, cast

import numpy as np
import pandas as pd

from leaderboard.board.build import Standings, Value, value_of
from leaderboard.board.intervals import mean_interval, share_interval
from leaderboard.pages.charts import Panel, Style, panel, scale_from
from leaderboard.store.identity import safe_name
from leaderboard.view.words import spaced

Curves = dict[str, dict[int, Value]]
"""Method → severity → value."""

_SOURCES: Final = {"stability": "stability", "accuracy": "right"}


def curve_panels(standings: Standings, styles: Sequence[Style], measure: str) -> tuple[Panel, ...]:
    """One chart of all perturbations, then one of each, over everything that ran.

    Args:
        measure: ``stability`` or ``accuracy``.

    Returns:
        Nothing if no perturbation ran at two severities, or the measure has no value.
    """
    summary = standings.summary
    summary = summary.loc[~summary["perturbation"].isin(["clean", "all"]) & summary["severity"].ne("all")]
    summary = summary.loc[summary[measure].notna().to_numpy()]
    severities = sorted({int(severity) for severity in summary["severity"]})
    if len(severities) < 2:
        return ()
    ordered = standings.group.about_run.in_order({str(name) for name in summary["perturbation"]})
    by_name = {name: _curves(summary.loc[summary["perturbation"] == name], measure) for name in ordered}
    whole = [
        name for name, curves in by_name.items() if any(len(points) == len(severities) for points in curves.values())
    ]
    together = _together(standings, whole, severities, measure)
    everything = [v for curves in [*by_name.values(), together] for points in curves.values() for v in points.values()]
    low = scale_from(everything)
    panels = [("all", f"mean over {len(whole)} perturbations", together)] if len(whole) > 1 else []
    panels += [(safe_name(name), spaced(name), curves) for name, curves in by_name.items()]
    return tuple(
        panel(f"{measure}-{name}", title, curves, styles, severities, low) for name, title, curves in panels if curves
    )


def scored(scores: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The rows on which a measure rests, with its value as ``value``: 0 or 1 for accuracy.

    A dead unit has none. A label that is missing has no stability, and is wrong where the truth is known.

    Args:
        scores: Rows of ``leaderboard.store.schema.SCORES``.
        measure: ``stability``, ``accuracy`` or ``evidence_overlap``.
    """
    rows = scores.loc[~scores["dead"].to_numpy(bool) & scores["repeat"].eq(0).to_numpy()]
    if measure != "accuracy":
        return rows.assign(value=rows[measure].to_numpy(np.float64))
    rows = rows.loc[rows["truth"].notna().to_numpy()]
    return rows.assign(value=rows["right"].astype("boolean").fillna(False).to_numpy(np.float64))


def _curves(rows: pd.DataFrame, measure: str) -> Curves:
    found: Curves = {}
    for row in rows.to_dict("records"):
        ends = (None if row[end] != row[end] else float(row[end]) for end in (f"{measure}_low", f"{measure}_high"))
        found.setdefault(str(row["method"]), {})[int(row["severity"])] = Value(float(row[measure]), *ends)
    return found


def _together(standings: Standings, names: Sequence[str], severities: Sequence[int], measure: str) -> Curves:
    """Each severity's mean over the perturbations that ran at every severity; of methods that did all of them."""
    scores = standings.group.scores
    scores = scores.loc[scores["perturbation"].isin(names).to_numpy()]
    found: Curves = {}
    for method, severity, rows in _cells(scores):
        if len(set(rows["perturbation"])) == len(names):
            found.setdefault(method, {})[severity] = _mean_over_units(
                scored(rows, measure), measure, standings.group.about_run.seed
            )
    return {method: points for method, points in found.items() if len(points) == len(severities)}


def _cells(scores: pd.DataFrame) -> Iterator[tuple[str, int, pd.DataFrame]]:
    for key, rows in scores.groupby(["method", "severity"], sort=True):
        method, severity = cast(tuple[str, int], key)
        yield str(method), int(severity), rows


def _mean_over_units(rows: pd.DataFrame, measure: str, seed: int) -> Value:
    per_unit = cast(pd.Series, rows.groupby("unit")["value"].mean()).to_numpy(np.float64)
    return value_of(share_interval(per_unit, seed) if measure == "accuracy" else mean_interval(per_unit, seed))
