"""Whether one profile predicts another, e.g. the miniature photographs: what both measure under the same conditions.

Each number that is compared is a mean over units or images, so its agreement has an interval from bootstrap samples of
these, drawn independently on both sides. Conditions and methods are fixed: they are compared, not sampled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from leaderboard.board.bottlenecks import conditions_in_order
from leaderboard.board.groups import Condition
from leaderboard.board.intervals import unit_weights
from leaderboard.board.merge import Group
from leaderboard.board.robustness import ROLES, Verdicts, verdicts
from metrics.robustness import shares_kept
from metrics.statistics import Interval
from metrics.validity import FEWEST, Agreement, agreement

MEAN: Final = "mean of methods"
METHODS: Final = "methods"

_PERTURBING: Final = ("corruptions", "lengths", "feather")
"""Settings of a run that change what a condition is."""


@dataclass(frozen=True)
class Compared:
    """One number on both sides, by condition or by method, and how far the two sides agree.

    Attributes:
        measure: ``stability`` or ``accuracy`` of labels, or ``accuracy kept``: the share of its clean accuracy that a
            role keeps.
        of: A method, ``MEAN``, a role, or ``METHODS`` where the names are methods.
        names: Conditions or methods.
        first: The first side's number for each name.
        second: The second side's.
        agreement: ``spearman`` and ``difference`` (mean absolute difference), for methods ``spearman`` and ``kendall``.
    """

    measure: str
    of: str
    names: tuple[str, ...]
    first: tuple[float, ...]
    second: tuple[float, ...]
    agreement: Mapping[str, Interval]


@dataclass(frozen=True)
class Validity:
    """What two groups of different profiles have in common.

    Attributes:
        first: The one that should predict.
        second: The one that is predicted.
        compared: Each number, those by condition first.
        notes: What a reader must know before comparing them.
    """

    first: Group
    second: Group
    compared: tuple[Compared, ...]
    notes: tuple[str, ...]

    def by_condition(self, measure: str, of: str | None = None) -> Compared | None:
        """A number by condition, of whom is asked or the first there is; None if it was not measured on both sides."""
        found = (one for one in self.compared if one.measure == measure and one.of != METHODS)
        return next((one for one in found if of in (None, one.of)), None)


class _Sampled(NamedTuple):
    """One side's means, of the data and of bootstrap samples.

    Attributes:
        means: One per name (and method).
        draws: The same of each sample.
    """

    means: Float[np.ndarray, " ..."]
    draws: Float[np.ndarray, "samples ..."]

    def each(self, *place: Any) -> _Sampled:
        """Some of the means."""
        return _Sampled(self.means[place], self.draws[(slice(None), *place)])

    def mean(self, axis: int) -> _Sampled:
        """Means of the means, along an axis of the data."""
        return _Sampled(self.means.mean(axis), self.draws.mean(axis + 1))


def compare_groups(first: Group, second: Group, names: Sequence[str] = ()) -> Validity:
    """Compare what two groups measured under the conditions that they have in common, without trivial baselines.

    Args:
        first: The one that should predict.
        second: The one that is predicted.
        names: The perturbations to look at; all if there are none.
    """
    randoms = np.random.default_rng(first.about_run.seed).spawn(2)
    conditions = [one for one in _common(first.scores, second.scores) if not names or one[0] in names]
    methods = [name for name in first.about_run.rivals(first.methods) if name in second.methods]
    found: list[Compared] = []
    if conditions and methods:
        sides = zip((first, second), randoms, strict=True)
        found += _by_method([_labels(*side, methods, conditions) for side in sides], methods, conditions)
    found += _kept(first, second, names, randoms)
    by_condition_first = sorted(found, key=lambda one: one.of == METHODS)
    return Validity(first, second, tuple(by_condition_first), tuple(_notes(first, second)))


def as_json(validity: Validity) -> dict[str, Any]:
    """Everything as JSON; absent numbers are null."""
    sides = {
        name: {"task": group.task, "version": group.version, "profile": group.profile, "slug": group.slug}
        for name, group in (("first", validity.first), ("second", validity.second))
    }
    compared = [
        {
            "measure": one.measure,
            "of": one.of,
            "values": [dict(zip(("name", "first", "second"), row, strict=True)) for row in rows(one)],
            "agreement": {name: _interval_json(interval) for name, interval in one.agreement.items()},
        }
        for one in validity.compared
    ]
    return {**sides, "notes": list(validity.notes), "compared": compared}


def rows(one: Compared) -> Iterator[tuple[str, float, float]]:
    """Name, first and second value."""
    return zip(one.names, one.first, one.second, strict=True)


# ---- labels ----


def _labels(
    group: Group, random: np.random.Generator, methods: Sequence[str], conditions: Sequence[Condition]
) -> dict[str, _Sampled]:
    """Measure → means by method and condition."""
    scores = group.scores
    own = scores.loc[(scores["repeat"] == 0).to_numpy() & ~scores["dead"].to_numpy(bool)]
    # A label that is missing is wrong where the truth is known, as everywhere.
    known = own["truth"].notna()
    right = own["right"].astype("Float64").fillna(0.0).where(known).to_numpy(np.float64, na_value=np.nan)
    units = sorted(set(own["unit"]))
    weights = unit_weights(len(units), random)
    found = {}
    for measure, values in (("stability", own["stability"].to_numpy(np.float64)), ("accuracy", right)):
        keyed = pd.Series(values, pd.MultiIndex.from_frame(own[["unit", "method", "perturbation", "severity"]]))
        wide = keyed.unstack(["method", "perturbation", "severity"]).reindex(index=units)
        columns = [(method, *condition) for method in methods for condition in conditions]
        table = wide.reindex(columns=columns).to_numpy(np.float64)
        shape = (len(methods), len(conditions))
        means, draws = (_means(table, held) for held in (np.ones((1, len(units))), weights))
        found[measure] = _Sampled(means.reshape(shape), draws.reshape(-1, *shape))
    return found


def _means(
    table: Float[np.ndarray, "units columns"], weights: Float[np.ndarray, "samples units"]
) -> Float[np.ndarray, "samples columns"]:
    """Weighted means of the columns over the units that have a value; NaN where none has."""
    present = ~np.isnan(table)
    sums, counts = weights @ np.where(present, table, 0.0), weights @ present.astype(np.float64)
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def _by_method(
    sides: Sequence[Mapping[str, _Sampled]], methods: Sequence[str], conditions: Sequence[Condition]
) -> Iterator[Compared]:
    titles = np.array([f"{name} {severity}" for name, severity in conditions])
    for measure in ("stability", "accuracy"):
        one, other = (side[measure] for side in sides)
        have = ~(np.isnan(one.means) | np.isnan(other.means))
        if measure == "stability":
            whole = have.all(axis=0)
            if len(methods) > 1 and whole.any():
                joint = [side.each(slice(None), whole).mean(0) for side in (one, other)]
                yield _compared(measure, MEAN, titles[whole], joint, "difference")
            for number, method in enumerate(methods):
                own = have[number]
                if own.any():
                    parts = [side.each(number, own) for side in (one, other)]
                    yield _compared(measure, method, titles[own], parts, "difference")
        ranked = have.all(axis=1)
        if ranked.sum() >= FEWEST:
            parts = [side.each(ranked).mean(1) for side in (one, other)]
            yield _compared(measure, METHODS, np.array(methods)[ranked], parts, "kendall")


def _compared(
    measure: str, of: str, names: np.ndarray, sides: Sequence[_Sampled], beside: Literal["kendall", "difference"]
) -> Compared:
    first, second = sides
    both = (first.means, second.means, first.draws, second.draws)
    asked: tuple[Agreement, ...] = ("spearman", beside)
    found = {name: agreement(*both, name) for name in asked}
    return Compared(
        measure, of, tuple(map(str, names)), tuple(first.means.tolist()), tuple(second.means.tolist()), found
    )


# ---- accuracy kept ----


def _kept(
    first: Group, second: Group, names: Sequence[str], randoms: Sequence[np.random.Generator]
) -> Iterator[Compared]:
    tables = [group.tables["robustness"] for group in (first, second)]
    for role in ROLES if all(len(table) for table in tables) else ():
        sides = [verdicts(table, role) for table in tables]
        common = [one for one in sides[0].conditions if one in sides[1].conditions and (not names or one[0] in names)]
        if common:
            one, other = (_shares(side, common, random) for side, random in zip(sides, randoms, strict=True))
            have = ~(np.isnan(one.means) | np.isnan(other.means))
            titles = np.array([f"{name} {severity}" for name, severity in common])
            if have.any():
                yield _compared("accuracy kept", role, titles[have], (one.each(have), other.each(have)), "difference")


def _shares(side: Verdicts, conditions: Sequence[Condition], random: np.random.Generator) -> _Sampled:
    right = side.right[:, [side.conditions.index(condition) for condition in conditions]]
    weights = unit_weights(len(right), random)
    means, draws = (shares_kept(right, side.clean, held) for held in (np.ones((1, len(right))), weights))
    return _Sampled(means[0], draws)


# ---- inside ----


def _common(first: pd.DataFrame, second: pd.DataFrame) -> list[Condition]:
    """The perturbed conditions of both, in the order of all tables."""
    there = set(conditions_in_order(second))
    return [condition for condition in conditions_in_order(first) if condition[1] and condition in there]


def _notes(first: Group, second: Group) -> Iterator[str]:
    for name in _PERTURBING:
        one, other = (group.settings[name] for group in (first, second))
        if one != other:
            yield f"Not perturbed alike: {name} is {one} in {first.profile} and {other} in {second.profile}."


def _interval_json(found: Interval) -> dict[str, Any]:
    numbers = {"value": found.estimate, "low": found.low, "high": found.high}
    plain = {name: None if np.isnan(number) else float(number) for name, number in numbers.items()}
    return {**plain, "n": found.n, "reason": found.reason}
