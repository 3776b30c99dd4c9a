"""The board: what each method reaches on each task, which methods differ significantly, and what is missing.

A row is a method on one task (version, profile and settings alike) and one suite, or all of the task's suites. Its
means rest on the task's own conditions alone, whatever else was run. A row that does not cover them, or not all the
units and images that the task asks for, has no means and no rank: it says what is missing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, cast

import numpy as np
import pandas as pd
from jaxtyping import Float

from leaderboard.board.comparison import compare
from leaderboard.board.comparison.between import Measure
from leaderboard.board.facts import RunFacts
from leaderboard.board.groups import Condition
from leaderboard.board.merge import Group, Runs
from leaderboard.board.names import REFERENCE
from leaderboard.board.parallel import for_each
from leaderboard.board.summary import (
    ALL,
    FAITHFULNESS_MEANS,
    MEANS,
    faithfulness_mean,
    means_over,
    movement,
    summarise,
)
from leaderboard.board.trust import worth_of_stability
from leaderboard.board.validity import Validity
from leaderboard.board.validity_pairs import against_miniature
from leaderboard.store.columns import Column
from leaderboard.store.schema import FAITHFULNESS, SUMMARY
from metrics.stability import mlce
from metrics.statistics import Interval, holm

EVERY_SUITE: Final = "all"
"""Stands for all suites of a task."""

RANKED: Final[tuple[Measure, ...]] = ("stability", "accuracy", "accuracy_clean")
"""Measures by which methods are tested against each other; see ``leaderboard.board.comparison``."""

_COUNTS: Final = {"units": "units", "dead": "dead", "unnamed": "missing", "distinct": "distinct", "known": "known"}
"""Count of a row → column of the summary."""

_NAMED: Final = 4
"""So many missing conditions are named one by one."""


@dataclass(frozen=True)
class Value:
    """A mean over units with its 95 % interval; absent ends are None."""

    mean: float
    low: float | None = None
    high: float | None = None


def value_of(found: Interval) -> Value:
    """An interval as the board has it."""
    return Value(float(found.estimate), *(None if math.isnan(end) else float(end) for end in (found.low, found.high)))


@dataclass(frozen=True)
class Standing:
    """A method among the others.

    Attributes:
        rank: 1 + the number of methods that are significantly better, so that ties share a rank.
        letters: Two methods have a letter in common if and only if they are not significantly different.
    """

    rank: int
    letters: str


@dataclass(frozen=True)
class Row:
    """One method on one suite, or on all.

    Attributes:
        method: Its name, with its options where they are not the default ones.
        floor: It is a trivial baseline, which every other method must beat.
        suite: Name of the suite, or ``all``.
        missing: What keeps the row from being complete, each in a few words; nothing if it is complete.
        counts: ``units`` with a label, ``dead``, ``unnamed`` (no label), ``distinct`` (different clean labels),
            ``known`` (truth known).
        values: Measure → value, for the measures that have one; empty for an incomplete row.
        standings: Measure of ``RANKED`` → standing, where methods could be compared.
    """

    method: str
    floor: bool
    suite: str
    missing: tuple[str, ...]
    counts: Mapping[str, int]
    values: Mapping[str, Value]
    standings: Mapping[str, Standing]

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return not self.missing

    def tied_with(self, other: Row, measure: str) -> bool:
        """Whether two rows of one suite are not significantly different, or were not compared."""
        first, second = self.standings.get(measure), other.standings.get(measure)
        return first is None or second is None or bool(set(first.letters) & set(second.letters))


@dataclass(frozen=True)
class Standings:
    """The board of one group.

    Attributes:
        rows: Suite by suite, all suites first, best stability first, incomplete rows and trivial baselines last.
        comparisons: Rows of ``COMPARISONS`` (store.schema) over the complete methods and the task's own conditions.
    """

    group: Group
    rows: tuple[Row, ...]
    comparisons: pd.DataFrame

    @property
    def summary(self) -> pd.DataFrame:
        """The group's summary; see ``leaderboard.board.merge.Group``."""
        return self.group.summary

    def of_suite(self, suite: str = EVERY_SUITE) -> tuple[Row, ...]:
        """The rows of one suite, in their order."""
        return tuple(row for row in self.rows if row.suite == suite)

    @cached_property
    def complete(self) -> tuple[str, ...]:
        """The methods that cover all that the task asks for, best first, trivial baselines last."""
        return tuple(row.method for row in self.of_suite() if row.complete)

    @cached_property
    def rivals(self) -> tuple[Row, ...]:
        """The rows of complete methods that are no trivial baselines, best first."""
        return tuple(row for row in self.of_suite() if row.complete and not row.floor)

    @cached_property
    def own_scores(self) -> pd.DataFrame:
        """The scores under the task's own conditions and on clean images, of all methods."""
        return of_conditions(self.group.scores, self.group.conditions)

    @cached_property
    def complete_scores(self) -> pd.DataFrame:
        """The same of the complete methods."""
        return self.own_scores.loc[self.own_scores["method"].isin(self.complete)]

    @cached_property
    def own_summary(self) -> pd.DataFrame:
        """Rows of ``SUMMARY`` (store.schema) over ``own_scores``; an incomplete method has no mean over all."""
        if not self.extra_conditions:
            summary = self.summary.copy()
        elif len(self.severities) == 1:
            summary = self._narrowed()
        else:
            summary = summarise(self.own_scores, self.group.about_run.seed)
        gaps = summary["perturbation"].eq(ALL) & ~summary["method"].isin(self.complete)
        means = [f"{name}{end}" for name in MEANS for end in ("", "_low", "_high")]
        summary.loc[gaps, [*means, "p_value", "p_adjusted"]] = np.nan
        return summary

    def _narrowed(self) -> pd.DataFrame:
        """``summarise(self.own_scores)`` for one severity, without doing again what the group's own summary holds."""
        whole, seed = self.summary, self.group.about_run.seed
        asked = {("clean", "0"), *((name, str(severity)) for name, severity in self.group.conditions)}
        kept = [place in asked for place in zip(whole["perturbation"], whole["severity"], strict=True)]
        parts = []
        for method, rows in whole.loc[np.array(kept, dtype=bool)].groupby("method", sort=False):
            own = self.own_scores.loc[self.own_scores["method"].to_numpy() == method]
            p_value = movement(own, seed)
            place = {"task": self.group.task, "profile": self.group.profile, "method": method, "perturbation": ALL}
            mean = {**place, "severity": ALL, **means_over(own, seed), "p_value": p_value, "p_adjusted": p_value}
            tested = rows["perturbation"].to_numpy() != "clean"
            adjusted = np.full(len(rows), np.nan)
            adjusted[tested] = holm(rows["p_value"].to_numpy(np.float64)[tested]).p_values
            parts += [rows.assign(p_adjusted=adjusted), pd.DataFrame([mean], columns=whole.columns)]
        return pd.concat(parts, ignore_index=True)

    @cached_property
    def faithfulness(self) -> pd.DataFrame:
        """How faithful the complete methods' labels are."""
        rows = of_conditions(self.group.tables["faithfulness"], self.group.conditions)
        return rows.loc[rows["method"].isin(self.complete)]

    @cached_property
    def severities(self) -> tuple[int, ...]:
        """Of the task's own conditions."""
        return tuple(sorted({severity for _, severity in self.group.conditions}))

    @cached_property
    def extra_conditions(self) -> int:
        """How many conditions ran that the task does not ask for."""
        scores = self.group.scores
        ran = set(zip(scores["perturbation"], scores["severity"].astype(int), strict=True)) - {("clean", 0)}
        return len(ran - set(self.group.conditions))


@dataclass(frozen=True)
class Board:
    """All groups.

    Attributes:
        runs: Where they come from.
    """

    runs: Runs
    standings: tuple[Standings, ...]

    @cached_property
    def validity(self) -> tuple[Validity, ...]:
        """The miniature compared with each other profile; nothing where one of them is not there."""
        return against_miniature(self.runs)


def build_board(runs: Runs) -> Board:
    """Rank the methods of every group."""
    return Board(runs, tuple(for_each(_standings, runs.groups, runs.rows)))


def measures() -> dict[str, Column]:
    """Measure → its column, whose title, range and direction every table and page shows."""
    own = {name: SUMMARY.column(name) for name in MEANS}
    own |= {name: FAITHFULNESS.column(name) for name in FAITHFULNESS_MEANS}
    own["mlce"] = Column(
        "mlce",
        "number",
        f"Mean label-change error: the mean over perturbations of the sum over severities of 1 - stability, divided by "
        f"that of {REFERENCE}; below 1 labels move less than its labels do.",
        optional=True,
        low=0.0,
        higher_is_better=False,
        title="mLCE",
    )
    own["stability_worth"] = Column(
        "stability_worth",
        "number",
        "AUROC of “the clean label is right” by the label's mean stability: 0.5 if stability says nothing about it; "
        "absent with too few right or wrong labels.",
        optional=True,
        low=0.0,
        high=1.0,
        higher_is_better=True,
        title="What its stability is worth",
    )
    return own


# ---- one group ----


def _standings(group: Group) -> Standings:
    own = of_conditions(group.scores, group.conditions)
    suites = {EVERY_SUITE: group.conditions, **group.suites}
    rows: list[Row] = []
    comparisons = pd.DataFrame()
    for suite, conditions in suites.items():
        if suite != EVERY_SUITE and (len(suites) == 2 or not conditions):
            continue
        part = of_conditions(own, conditions)
        missing = {method: tuple(_missing(group, method, conditions)) for method in group.methods}
        ranked = [method for method, gaps in missing.items() if not gaps]
        chosen = part.loc[part["method"].isin(ranked)]
        compared = compare(chosen, group.about_run, perturbed_only=suite != EVERY_SUITE)
        if suite == EVERY_SUITE:
            comparisons = compared
        rows += _rows(group, suite, conditions, part, missing, compared)
    return Standings(group, tuple(rows), comparisons)


def of_conditions(frame: pd.DataFrame, conditions: Sequence[Condition]) -> pd.DataFrame:
    """The rows of those conditions, and the clean ones."""
    wanted = {*conditions, ("clean", 0)}
    kept = [place in wanted for place in zip(frame["perturbation"], frame["severity"], strict=True)]
    return frame.loc[np.array(kept, dtype=bool)]


def _missing(group: Group, method: str, conditions: Sequence[Condition]) -> Iterator[str]:
    """What keeps a method from a mean over those conditions."""
    if not group.suites:
        yield "not recorded what a complete result covers (old run)"
        return
    asked = _units_asked(group.about["units"])
    if len(group.units) < asked:
        yield f"only {len(group.units)} of {asked} units"
    if group.settings["images"] < group.about["images"]:
        yield f"only {group.settings['images']} of {group.about['images']} images"
    yield from _lacking(group, method, conditions)


def _units_asked(units: Mapping[str, Any]) -> int:
    if units["label"] != "all":
        return units["label"]
    return (units["total"] or 0) - units["first"]


def _lacking(group: Group, method: str, conditions: Sequence[Condition]) -> list[str]:
    """The conditions in which the method has not labelled every unit of the group."""
    scores = group.scores
    own = scores.loc[(scores["method"].to_numpy() == method) & (scores["repeat"].to_numpy() == 0)]
    counts = Counter(zip(own["perturbation"], own["severity"], strict=True))
    gaps = [place for place in (("clean", 0), *conditions) if counts[place] < len(group.units)]
    named = [f"no {name} {severity}" if severity else f"no {name}" for name, severity in gaps]
    return named if len(named) <= _NAMED else [*named[: _NAMED - 1], f"and {len(named) - _NAMED + 1} more conditions"]


def _rows(
    group: Group,
    suite: str,
    conditions: Sequence[Condition],
    scores: pd.DataFrame,
    missing: Mapping[str, tuple[str, ...]],
    compared: pd.DataFrame,
) -> list[Row]:
    standings = standings_in(compared)
    reference = _by_condition(scores, REFERENCE, conditions)
    worth = worth_of_stability({**group.tables, "scores": scores}, group.about_run) if suite == EVERY_SUITE else {}
    rows = []
    for method in group.methods:
        found = means_over(scores.loc[scores["method"].to_numpy() == method], group.about_run.seed)
        values: dict[str, Value] = {}
        if not missing[method]:
            values = _mlce(_by_condition(scores, method, conditions), reference)
            values |= _faithfulness(group, method) if suite == EVERY_SUITE else {}
            if method in worth and not math.isnan(worth[method].estimate):
                values["stability_worth"] = value_of(worth[method])
        row = row_of(method, group.about_run, found, standings.get(method, {}), suite, missing[method])
        rows.append(replace(row, values={**row.values, **values}))
    return sorted(rows, key=_place)


def row_of(
    method: str,
    facts: RunFacts,
    found: Mapping[str, Any],
    standings: Mapping[str, Standing],
    suite: str = EVERY_SUITE,
    missing: tuple[str, ...] = (),
) -> Row:
    """A row from the columns of a row of the summary.

    Args:
        found: In the columns of ``leaderboard.store.schema.SUMMARY``.
    """
    counts = {name: int(found[column]) for name, column in _COUNTS.items()}
    values = {} if missing else {name: value for name in MEANS if (value := _value(found, name))}
    return Row(method, facts.is_floor(method), suite, missing, counts, values, standings)


def _place(row: Row) -> tuple[bool, bool, float, str]:
    stability = row.values.get("stability")
    return not row.complete, row.floor, -stability.mean if stability else math.inf, row.method


def _value(found: Mapping[str, Any], name: str) -> Value | None:
    numbers = [float(found[column]) for column in (name, f"{name}_low", f"{name}_high")]
    if math.isnan(numbers[0]):
        return None
    return Value(numbers[0], *(None if math.isnan(end) else end for end in numbers[1:]))


def _by_condition(
    scores: pd.DataFrame, method: str, conditions: Sequence[Condition]
) -> Float[np.ndarray, "perturbations severities"]:
    """Mean stability of a method; NaN where a perturbation has no such severity."""
    own = scores.loc[(scores["method"].to_numpy() == method) & ~scores["dead"].to_numpy(bool)]
    means = cast(pd.Series, own.groupby(["perturbation", "severity"])["stability"].mean()).to_dict()
    names = list(dict.fromkeys(name for name, _ in conditions))
    severities = sorted({severity for _, severity in conditions})
    return np.array([[means.get((name, severity), math.nan) for severity in severities] for name in names])


def _mlce(
    own: Float[np.ndarray, "perturbations severities"], reference: Float[np.ndarray, "perturbations severities"]
) -> dict[str, Value]:
    if not own.size or np.isnan(reference).all():
        return {}
    error = mlce(own, reference).value
    return {} if math.isnan(error) else {"mlce": Value(float(error))}


def _faithfulness(group: Group, method: str) -> dict[str, Value]:
    rows = group.tables["faithfulness"]
    clean = (rows["perturbation"].to_numpy() == "clean") & (rows["repeat"].to_numpy() == 0)
    own = rows.loc[clean & (rows["method"].to_numpy() == method)]
    means = {name: faithfulness_mean(own, name, group.about_run.seed) for name in FAITHFULNESS_MEANS}
    return {name: value_of(mean) for name, mean in means.items() if not math.isnan(mean.estimate)}


def standings_in(compared: pd.DataFrame) -> dict[str, dict[str, Standing]]:
    """Method → measure → standing, as the comparisons of one task have them."""
    found: dict[str, dict[str, Standing]] = {}
    rows = compared.loc[(compared["kind"] == "method").to_numpy() & compared["rank"].notna().to_numpy()]
    for row in rows.to_dict("records"):
        standing = Standing(int(row["rank"]), str(row["letters"] or ""))
        found.setdefault(str(row["first"]), {})[str(row["measure"])] = standing
    return found
