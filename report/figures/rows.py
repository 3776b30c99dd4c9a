"""What figures draw, read off the board: rows of the summary at the task's own severities, orders, and words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from jaxtyping import Bool

from leaderboard.board.build import Standings
from leaderboard.board.facts import RunFacts
from leaderboard.board.intervals import mean_interval
from leaderboard.board.merge import Condition, conditions_of
from leaderboard.board.summary import ALL
from leaderboard.store import escape
from leaderboard.view.words import listed as joined

Record = dict[str, Any]

Point = tuple[float, float, float]
"""A mean and the ends of its 95 % interval."""


def severities_of(conditions: Iterable[Condition]) -> dict[str, tuple[int, ...]]:
    """Perturbation → its severities, ascending; ``clean`` is left out."""
    found: dict[str, set[int]] = {}
    for name, severity in conditions:
        if severity:
            found.setdefault(name, set()).add(severity)
    return {name: tuple(sorted(levels)) for name, levels in found.items()}


def at_own_severities(standings: Standings) -> dict[tuple[str, str], Record]:
    """(Method, perturbation) → its row of the summary at the task's own severities, their mean if there are several.

    Other severities may have run; neither the board's means nor its correction of p values rest on them.
    """
    summary, own = standings.own_summary, severities_of(conditions_of(standings.own_scores))
    level = {name: str(levels[0]) if len(levels) == 1 else ALL for name, levels in own.items()}
    done = {(row["method"], row["perturbation"], row["severity"]) for row in records(summary)}
    found = {}
    for row in records(summary):
        method, name = row["method"], row["perturbation"]
        # A mean over fewer severities than the others' would stand beside theirs.
        whole = all((method, name, str(severity)) in done for severity in own.get(name, ()))
        if whole and row["severity"] == level.get(name):
            found[method, name] = row
    return found


def records(frame: pd.DataFrame) -> list[Record]:
    """The rows as dictionaries."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def point(row: Record, measure: str) -> Point:
    """The measure's mean and interval in a row of the summary."""
    return row[measure], row[f"{measure}_low"], row[f"{measure}_high"]


def unperturbed(standings: Standings, measure: str) -> dict[str, Point]:
    """Method → what it reaches without a perturbation: its accuracy on clean images, or its noise floor.

    The noise floor here is the stability from clean repeat 0 to the others, each unit's mean first; it has the scale of
    stability, as the one in the tables has that of a similarity. Nothing without repeats.
    """
    if measure == "accuracy":
        rows = records(standings.summary)
        return {row["method"]: point(row, measure) for row in rows if row["perturbation"] == "clean"}
    scores = standings.group.scores
    repeats = scores.loc[alive(scores) & is_clean(scores) & (scores["repeat"].to_numpy() > 0)]
    found = {}
    for method, own in repeats.groupby("method"):
        means = cast(pd.Series, own.groupby("unit")[measure].mean()).to_numpy(np.float64)
        found[str(method)] = mean_interval(means, standings.group.about_run.seed)[:3]
    return found


def has(standings: Standings, measure: str) -> bool:
    """Whether any perturbed condition has a value of the measure."""
    perturbed = (standings.summary["perturbation"] != "clean").to_numpy()
    return bool(standings.summary.loc[perturbed, measure].notna().any())


def alive(scores: pd.DataFrame) -> Bool[np.ndarray, " rows"]:
    """Whether the row's unit lives."""
    return ~scores["dead"].to_numpy(bool)


def is_clean(scores: pd.DataFrame) -> Bool[np.ndarray, " rows"]:
    """Whether the row is of clean images."""
    return scores["perturbation"].to_numpy() == "clean"


# ---- words ----


def closing(standings: Standings) -> str:
    """What every caption ends with: where the numbers are from, what is missing, and the profile's note."""
    group = standings.group
    lacking = [row.method for row in standings.of_suite() if not row.complete]
    parts = [f"Task {group.task}, version {group.version}, profile {group.profile}."]
    if lacking:
        parts.append(f"Incomplete, so without a mean over all conditions: {listed(lacking)}.")
    note = str(group.about_profile.get("note", ""))
    return " ".join([*parts, note] if note else parts)


def listed(names: Sequence[str]) -> str:
    """Names in a sentence, as words.

    Example:
        >>> listed(["clip_dissect", "dnd", "mine"])
        'clip dissect, dnd and mine'
    """
    return joined(map(words, names))


def words(name: str) -> str:
    """A name in a sentence."""
    return escape.terminal(name.replace("_", " "), 60)


def best_and_worst(values: Mapping[str, float], what: str, facts: RunFacts) -> str:
    """Which method is highest and lowest, among the methods but trivial baselines; empty without a value.

    Example:
        >>> best_and_worst({"dnd": 0.5, "mine": 0.25, "random_label": 0.0}, "mean stability", RunFacts())
        'Mean stability is highest for dnd (0.50) and lowest for mine (0.25).'
    """
    real = {name: value for name, value in values.items() if not (facts.is_floor(name) or np.isnan(value))}
    if not real:
        return ""
    best, worst = max(real, key=lambda name: real[name]), min(real, key=lambda name: real[name])
    start = f"{what[:1].upper()}{what[1:]} is highest for {words(best)} ({real[best]:.2f})"
    return f"{start}." if best == worst else f"{start} and lowest for {words(worst)} ({real[worst]:.2f})."


def counted(numbers: Iterable[int]) -> str:
    """A count, or the range of counts.

    Example:
        >>> counted([48, 48]), counted([47, 48])
        ('48', '47 to 48')
    """
    few, many = min(found := list(numbers)), max(found)
    return f"{many}" if few == many else f"{few} to {many}"
