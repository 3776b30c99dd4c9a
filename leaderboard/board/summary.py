"""From scores to the summary table: means over units with intervals, and the paired test against the noise floor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, cast

import numpy as np
import pandas as pd
from jaxtyping import Float

from leaderboard.board import intervals
from leaderboard.store.schema import SUMMARISED, SUMMARY
from metrics.statistics import Interval, holm, noise_floor_test

MEANS: Final = {
    column.name: {"accuracy": "right", "accuracy_clean": "right_clean"}.get(column.name, column.name)
    for column in SUMMARISED
}
"""Summary column → score column that it is the mean of."""

SHARES: Final = ("exact", "accuracy", "accuracy_clean")
"""Summary columns that are shares of units; see ``leaderboard.board.intervals.share_interval``."""

FAITHFULNESS_MEANS: Final = ("cosy_auc", "f1", "iou", "correlation", "auprc")
"""Measures of how faithful the labels are, on clean images."""

ALL: Final = "all"


def summarise(scores: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Summarise the scores of a run.

    The unit is the statistical unit: where several conditions are summed up, each unit's mean over them comes first.
    A dead unit enters nothing. A unit without a label has no similarity; where the truth is known its label is wrong,
    or a method could raise its accuracy by leaving hard units unnamed.

    Args:
        scores: In the columns of ``leaderboard.store.schema.SCORES``.

    Returns:
        In the columns of ``leaderboard.store.schema.SUMMARY``; empty for no scores.
    """
    rows = []
    for names, method in scores.groupby(["task", "profile", "method"], sort=False):
        repeats = _repeats(method)
        for perturbation, severity, group in _groups(method):
            head = dict(zip(("task", "profile", "method"), cast(tuple[str, str, str], names), strict=True))
            rows.append({**head, "perturbation": perturbation, "severity": severity, **_row(group, repeats, seed)})
    if not rows:
        return pd.DataFrame(columns=[column.name for column in SUMMARY.columns])
    summary = pd.DataFrame(rows)
    summary["p_adjusted"] = _corrected(summary)
    return summary


def means_over(scores: pd.DataFrame, seed: int) -> dict[str, float | int]:
    """The means of one method over whatever perturbed conditions its scores hold.

    Args:
        scores: Rows of one method; clean rows are passed over, unless there are no others.

    Returns:
        The counts, and each mean with the ends of its interval, under the names of ``SUMMARY`` (store.schema).
    """
    perturbed = scores.loc[~_clean(scores)]
    return _means(perturbed if len(perturbed) else scores.loc[scores["repeat"].to_numpy() == 0], seed)


def faithfulness_mean(rows: pd.DataFrame, measure: str, seed: int) -> Interval:
    """The mean over units of one measure of faithfulness; of several conditions, each unit's mean comes first.

    Args:
        rows: Rows of ``leaderboard.store.schema.FAITHFULNESS`` of one method.
    """
    return intervals.mean_interval(_unit_means(rows, measure), seed)


def movement(scores: pd.DataFrame, seed: int) -> float:
    """The p of one method's labels over all of their perturbed conditions against its clean repeats; NaN without any.

    Args:
        scores: Rows of one method.
    """
    return _moved(scores.loc[~_clean(scores)], _repeats(scores), seed)


def _groups(scores: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    clean = _clean(scores)
    yield "clean", "0", scores.loc[clean & (scores["repeat"].to_numpy() == 0)]
    perturbed = scores.loc[~clean]
    if not len(perturbed):
        return
    severities = sorted(perturbed["severity"].unique())
    for name, group in perturbed.groupby("perturbation", sort=False):
        for severity in severities:
            rows = group.loc[group["severity"].to_numpy() == severity]
            if len(rows):
                yield str(name), str(severity), rows
        if len(severities) > 1:
            yield str(name), ALL, group
    yield ALL, ALL, perturbed


def _clean(scores: pd.DataFrame) -> np.ndarray:
    return scores["perturbation"].to_numpy() == "clean"


def _repeats(scores: pd.DataFrame) -> pd.DataFrame:
    return _similarities(scores.loc[_clean(scores) & (scores["repeat"].to_numpy() > 0)])


def _similarities(rows: pd.DataFrame) -> pd.DataFrame:
    """Similarity to the clean label: one row per unit that lives, one column per condition and repeat."""
    alive = rows.loc[~rows["dead"].to_numpy(bool)]
    units = np.unique(alive["unit"].to_numpy())
    columns = []
    for _, part in alive.groupby(["perturbation", "severity", "repeat"]):
        column = np.full(len(units), np.nan)
        column[np.searchsorted(units, part["unit"].to_numpy())] = part["clip_similarity"].to_numpy(np.float64)
        columns.append(column)
    return pd.DataFrame(np.stack(columns, axis=1) if columns else np.empty((0, 0)), index=units)


def _row(group: pd.DataFrame, repeats: pd.DataFrame, seed: int) -> dict[str, float | int]:
    return {**_means(group, seed), "p_value": _moved(group, repeats, seed)}


def _means(group: pd.DataFrame, seed: int) -> dict[str, float | int]:
    dead = group["dead"].to_numpy(bool)
    alive = group.loc[~dead]
    unnamed = alive["missing"].to_numpy(bool)
    scored = alive.loc[~unnamed]
    units, named = set(alive["unit"]), set(scored["unit"])
    row: dict[str, float | int] = {
        "units": len(named),
        "dead": int(group.loc[dead, "unit"].nunique()),
        "missing": len(units - named),
        "distinct": int(scored["clean_label"].nunique()),
        "known": int(alive.loc[alive["truth"].notna().to_numpy(), "unit"].nunique()),
    }
    for column, source in MEANS.items():
        rows = _verdicts(alive, source) if column in ("accuracy", "accuracy_clean") else scored
        mean = intervals.share_interval if column in SHARES else intervals.mean_interval
        interval = mean(_unit_means(rows, source), seed)
        row |= {column: interval.estimate, f"{column}_low": interval.low, f"{column}_high": interval.high}
    return row


def _moved(group: pd.DataFrame, repeats: pd.DataFrame, seed: int) -> float:
    """How likely such labels are if they move as they do from one clean repeat to the next."""
    if _clean(group).any() or repeats.empty:
        return float("nan")
    conditions = _similarities(group)
    floor = repeats.reindex(conditions.index)
    return noise_floor_test(
        conditions.to_numpy(float), floor.to_numpy(float), resamples=intervals.RESAMPLES, seed=seed
    ).p_value


def _verdicts(rows: pd.DataFrame, source: str) -> pd.DataFrame:
    """The rows whose truth is known; a label that is missing is wrong."""
    known = rows.loc[rows["truth"].notna().to_numpy()]
    return known.assign(**{source: known[source].astype("boolean").fillna(False)})


def _unit_means(rows: pd.DataFrame, source: str) -> Float[np.ndarray, " units"]:
    """Each unit's mean over its rows, in the order of the units; NaN for a unit without a value."""
    values = pd.Series(rows[source].astype("Float64").to_numpy(np.float64, na_value=np.nan))
    if np.all(np.diff(rows["unit"].to_numpy()) > 0):
        return values.to_numpy()  # a single row of each
    means = cast(pd.Series, values.groupby(rows["unit"].to_numpy()).mean())
    return means.to_numpy(np.float64)


def _corrected(summary: pd.DataFrame) -> Float[np.ndarray, " rows"]:
    """Holm within each task, profile and method: one family for the single conditions, one for each kind of mean."""
    adjusted = np.full(len(summary), np.nan)
    kind = summary["perturbation"].eq(ALL).astype(int) + summary["severity"].eq(ALL).astype(int)
    families = summary.assign(kind=kind, place=np.arange(len(summary)))
    families = families.loc[summary["perturbation"].to_numpy() != "clean"]
    for _, rows in families.groupby(["task", "profile", "method", "kind"]):
        adjusted[rows["place"].to_numpy(int)] = holm(rows["p_value"].to_numpy(np.float64)).p_values
    return adjusted
