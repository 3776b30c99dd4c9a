"""What right labels cost: the measured seconds of each method, and which methods no other beats in both."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pandas as pd

from leaderboard.board.facts import RunFacts
from metrics.statistics import Interval

ACCURACIES: Final = {"clean": "accuracy, clean", "perturbed": "accuracy, perturbed"}
"""Measure → heading."""


@dataclass(frozen=True)
class Cost:
    """What a method's labels cost, and how many are right.

    Attributes:
        seconds: To label one unit once, without the pass over the images, which methods share.
        accuracy: Measure of ``ACCURACIES`` → share of right labels: on clean images, and in the mean over the perturbed
            conditions.
        front: The measures by which it is on the Pareto front: no other method but trivial baselines is at least as
            right and as cheap, and better in one of them. Never a trivial baseline.
    """

    method: str
    seconds: float
    accuracy: Mapping[str, Interval]
    front: frozenset[str]


def costs(summary: pd.DataFrame, facts: RunFacts, task: str, profile: str) -> list[Cost]:
    """The methods whose time was measured, over everything that ran; empty where no truth is known.

    A method that lacks a condition of another is left out, and so is one whose time is unknown: its run states none, or
    did not measure all of its cells.

    Args:
        summary: Rows of ``leaderboard.store.schema.SUMMARY``.
    """
    own = summary.loc[(summary["task"].eq(task) & summary["profile"].eq(profile)).to_numpy()]
    single = own.loc[(~own["perturbation"].isin(["clean", "all"]) & own["severity"].ne("all")).to_numpy()]
    done = single.groupby("method").size()
    found = []
    for method in facts.ordered(set(own["method"])):
        seconds = facts.seconds.get((task, method), math.nan)
        if not seconds > 0 or done.get(method, 0) < done.max():
            continue
        rows = own.loc[own["method"].eq(method).to_numpy()].to_dict("records")
        accuracy = {
            "clean": _accuracy(row for row in rows if row["perturbation"] == "clean"),
            "perturbed": _accuracy(row for row in rows if (row["perturbation"], row["severity"]) == ("all", "all")),
        }
        if not all(math.isnan(one.estimate) for one in accuracy.values()):
            found.append(Cost(method, seconds, accuracy, frozenset()))
    rivals = [one for one in found if not facts.is_floor(one.method)]
    return [replace(one, front=frozenset(name for name in ACCURACIES if _on_front(one, rivals, name))) for one in found]


def _accuracy(rows: Iterable[Mapping[Any, Any]]) -> Interval:
    for row in rows:
        mean, low, high = (float(row[name]) for name in ("accuracy", "accuracy_low", "accuracy_high"))
        return Interval(mean, low, high, int(row["known"]), "")
    return Interval(math.nan, math.nan, math.nan, 0, "no value")


def _on_front(one: Cost, rivals: Sequence[Cost], measure: str) -> bool:
    mine = one.accuracy[measure].estimate

    def beats(other: Cost) -> bool:
        theirs = other.accuracy[measure].estimate
        at_least = theirs >= mine and other.seconds <= one.seconds
        return at_least and (theirs > mine or other.seconds < one.seconds)

    return one in rivals and not math.isnan(mine) and not any(map(beats, rivals))
