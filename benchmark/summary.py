"""From scores to the summary table: means over units with intervals, and the paired test against the noise floor."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from metrics.statistics import Interval, bootstrap_interval, holm, paired_wilcoxon, wilson_interval

MEANS = {
    "stability": "stability",
    "clip_similarity": "clip_similarity",
    "sentence_similarity": "sentence_similarity",
    "noise_floor": "noise_floor",
    "chance": "chance",
    "evidence_overlap": "evidence_overlap",
    "exact": "exact",
    "accuracy": "right",
    "accuracy_clean": "right_clean",
}
"""Summary column → score column that it is the mean of."""

ALL = "all"


def summarise(scores: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Summarise the scores of a run.

    The unit is the statistical unit: where several conditions are summed up, each unit's mean over them comes first.

    Args:
        scores: In the columns of ``leaderboard.schema.SCORES``.
        seed: Of the bootstrap.

    Returns:
        In the columns of ``leaderboard.schema.SUMMARY``.
    """
    rows = []
    for names, method in scores.groupby(["task", "profile", "method"], sort=False):
        for perturbation, severity, group in _groups(method):
            head = dict(zip(("task", "profile", "method"), names, strict=True))
            rows.append({**head, "perturbation": perturbation, "severity": severity, **_row(group, seed)})
    summary = pd.DataFrame(rows)
    if len(summary):
        summary["p_adjusted"] = _corrected(summary)
    return summary


def _groups(scores: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    clean = scores["perturbation"] == "clean"
    yield "clean", "0", scores[clean & (scores["repeat"] == 0)]
    perturbed = scores[~clean]
    if not len(perturbed):
        return
    severities = sorted(perturbed["severity"].unique())
    for name, group in perturbed.groupby("perturbation", sort=False):
        for severity in severities:
            rows = group[group["severity"] == severity]
            if len(rows):
                yield str(name), str(severity), rows
        if len(severities) > 1:
            yield str(name), ALL, group
    yield ALL, ALL, perturbed


def _row(group: pd.DataFrame, seed: int) -> dict[str, float | int]:
    alive = group[~group["dead"]]
    by_unit = alive.groupby("unit")
    missing = by_unit["missing"].all()
    scored = alive[~alive["missing"]]
    row: dict[str, float | int] = {
        "units": int((~missing).sum()),
        "dead": int(group[group["dead"]]["unit"].nunique()),
        "missing": int(missing.sum()),
    }
    single = len(group) == group["unit"].nunique()
    for column, source in MEANS.items():
        # A unit that a method could not name is wrong where the truth is known; elsewhere it has no score.
        rows = alive if column in ("accuracy", "accuracy_clean") else scored
        interval = _interval(rows, source, single=single, seed=seed)
        row |= {column: interval.estimate, f"{column}_low": interval.low, f"{column}_high": interval.high}
    pairs = scored.groupby("unit")[["clip_similarity", "noise_floor"]].mean()
    test = paired_wilcoxon(pairs["clip_similarity"].to_numpy(float), pairs["noise_floor"].to_numpy(float))
    row["p_value"] = test.p_value
    return row


def _interval(rows: pd.DataFrame, source: str, *, single: bool, seed: int) -> Interval:
    values = pd.to_numeric(rows[source].astype("Float64"), errors="coerce").astype(float)
    per_unit = values.groupby(rows["unit"]).mean().to_numpy(float)
    if single and source in ("exact", "right", "right_clean"):
        known = per_unit[~np.isnan(per_unit)]
        return wilson_interval(int(known.sum()), len(known))
    return bootstrap_interval(per_unit, resamples=4_999, seed=seed)


def _corrected(summary: pd.DataFrame) -> np.ndarray:
    """Holm within each task and method: one family for the single conditions, one for each kind of mean."""
    adjusted = np.full(len(summary), np.nan)
    kind = summary["perturbation"].eq(ALL).astype(int) + summary["severity"].eq(ALL).astype(int)
    families = summary.assign(kind=kind)[summary["perturbation"] != "clean"].groupby(["task", "method", "kind"])
    for _, rows in families:
        places = rows.index.to_numpy()
        adjusted[places] = holm(rows["p_value"].to_numpy(float)).p_values
    return adjusted
