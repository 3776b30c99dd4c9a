"""Does a signal that needs no truth tell right labels from wrong ones? AUROC over units, with bootstrap intervals.

The unit is the statistical unit: a bootstrap sample draws units, with all conditions of each.
"""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from statsmodels.genmod import families
from statsmodels.genmod.generalized_linear_model import GLM
from statsmodels.tools.sm_exceptions import ModelWarning

from metrics.statistics import Interval, percentile_interval

FEWEST: Final = 5
"""Right labels, and wrong ones, from which on an AUROC is given."""

FEW: Final = f"fewer than {FEWEST} right or wrong"
"""The reason of an AUROC that is not given for that."""

STABLE: Final = 0.8
"""A label whose mean stability is above this counts as stable."""

FOLDS: Final = 5

_PRESENT: Final = 0.9


class Worth(NamedTuple):
    """AUROC of one signal under one condition, of the data and of bootstrap samples of the units.

    Attributes:
        estimate: P(signal of a right label > that of a wrong one) + P(equal)/2, in [0, 1]; NaN without one.
        draws: The same of each sample; NaN for a sample without right or without wrong labels.
        n: Units with a verdict and a value.
        left_out: Units with a verdict and no value.
        reason: Why there is no number; empty if there is one.
    """

    estimate: float
    draws: Float[np.ndarray, " samples"]
    n: int
    left_out: int
    reason: str

    @property
    def interval(self) -> Interval:
        """With the percentile interval: noise in the units does not bias an AUROC."""
        if self.reason:
            return Interval(np.nan, np.nan, np.nan, self.n, self.reason, self.left_out)
        return percentile_interval(self.estimate, self.draws, self.n)._replace(left_out=self.left_out)


def worth(
    signal: Float[np.ndarray, " units"],
    right: Float[np.ndarray, " units"],
    weights: Float[np.ndarray, "samples units"],
    strata: Int[np.ndarray, " units"] | None = None,
) -> Worth:
    """AUROC of "the label is right" by a signal.

    Args:
        signal: One value per unit, any finite range; NaN is missing.
        right: 1 for a right label, 0 for a wrong one, NaN for no verdict.
        weights: How often each unit is drawn in each bootstrap sample.
        strata: If given, only pairs of units of one stratum are compared.

    Example:
        >>> found = worth(np.arange(10.0), np.array([0.0] * 5 + [1.0] * 5), np.ones((3, 10)))
        >>> found.estimate, found.interval.low
        (1.0, 1.0)
    """
    judged = ~np.isnan(right)
    known = judged & ~np.isnan(signal)
    n, left_out = int(known.sum()), int((judged & ~known).sum())
    above, below = np.flatnonzero(known & (right == 1)), np.flatnonzero(known & (right == 0))

    def without(reason: str) -> Worth:
        return Worth(np.nan, np.full(len(weights), np.nan), n, left_out, reason)

    if not n:
        return without("no value" if judged.any() else "no verdict")
    if min(len(above), len(below)) < FEWEST:
        return without(FEW)
    if signal[known].min() == signal[known].max():
        return without("all values are equal")
    higher, lower = signal[above][:, None], signal[below][None, :]
    # Counts and halves are exact in float32, which halves the time.
    wins = (higher > lower).astype(np.float32) + (higher == lower).astype(np.float32) / 2
    pairs = np.ones_like(wins) if strata is None else np.equal.outer(strata[above], strata[below]).astype(np.float32)
    wins *= pairs
    drawn = np.asarray(weights, dtype=np.float32)
    one, other = drawn[:, above], drawn[:, below]
    won = np.einsum("su,su->s", one @ wins, other, dtype=np.float64)
    total = one.sum(axis=1, dtype=np.float64) * other.sum(axis=1, dtype=np.float64)
    if strata is not None:
        total = np.einsum("su,su->s", one @ pairs, other, dtype=np.float64)
    draws = np.divide(won, total, out=np.full(len(won), np.nan), where=total > 0)
    return Worth(float(wins.sum(dtype=np.float64) / pairs.sum(dtype=np.float64)), draws, n, left_out, "")


def mean_worth(found: list[Worth]) -> Worth:
    """Mean AUROC over conditions; those without a number are left out.

    Args:
        found: One per condition, of the same bootstrap samples of the same units.
    """
    having = [one for one in found if not one.reason]
    if not having:
        reason = Counter(one.reason for one in found).most_common(1)[0][0] if found else "no condition"
        return Worth(np.nan, np.array([np.nan]), max((one.n for one in found), default=0), 0, reason)
    draws = np.stack([one.draws for one in having])
    counts = (~np.isnan(draws)).sum(axis=0)
    mean = np.divide(np.nansum(draws, axis=0), counts, out=np.full(draws.shape[1], np.nan), where=counts > 0)
    estimate = float(np.mean([one.estimate for one in having]))
    return Worth(estimate, mean, max(one.n for one in having), max(one.left_out for one in having), "")


class Pair(NamedTuple):
    """What two signals together are worth.

    Attributes:
        worth: AUROC of predictions for units on which neither the pair was chosen nor the model fitted.
        chosen: Pair → in how many of the folds it was chosen, most frequent first.
    """

    worth: Worth
    chosen: Mapping[tuple[str, str], int]


def best_pair(
    signals: Mapping[str, Float[np.ndarray, " units"]],
    right: Float[np.ndarray, " units"],
    weights: Float[np.ndarray, "samples units"],
    seed: int,
) -> Pair:
    """The best pair of signals, by cross-fitted logistic regression.

    For each of five folds, stratified by the verdict, the pair whose logistic regression separates the other folds best
    (by AUROC) predicts this fold. Only units of one fold are compared: the intercepts of different fits would bias
    the AUROC of all predictions below 0.5 (Airola et al., Computational Statistics & Data Analysis 55, 2011).

    Args:
        signals: Name → one value per unit; one with fewer than nine tenths of the values is not used, and then a unit
            with a missing value is left out.
        right: 1, 0 or NaN for no verdict.
        weights: See ``worth``.
    """
    judged = ~np.isnan(right)
    usable = {name: values for name, values in signals.items() if _usable(values[judged])}
    complete = judged & np.all([~np.isnan(values) for values in usable.values()], axis=0) if usable else judged
    verdict = np.where(complete, right, np.nan)
    nothing = np.full(len(right), np.nan)
    if len(usable) < 2:
        return Pair(worth(nothing, verdict, weights)._replace(reason="fewer than two signals"), {})
    if min((verdict == 1).sum(), (verdict == 0).sum()) < 2 * FOLDS:
        return Pair(worth(nothing, verdict, weights)._replace(reason=f"fewer than {2 * FOLDS} right or wrong"), {})
    folds = _folds(verdict, seed)
    predicted, chosen = nothing, Counter()
    for fold in range(FOLDS):
        train, test = complete & (folds != fold), complete & (folds == fold)
        pair, fitted = max(
            ((pair, _fit(usable, pair, train, verdict)) for pair in itertools.combinations(usable, 2)),
            key=lambda one: _area(_score(usable, *one, train), verdict[train]),
        )
        predicted[test] = _score(usable, pair, fitted, test)
        chosen[pair] += 1
    return Pair(worth(predicted, verdict, weights, folds), dict(chosen.most_common()))


def _usable(values: Float[np.ndarray, " units"]) -> bool:
    known = values[~np.isnan(values)]
    return len(known) >= _PRESENT * len(values) and len(known) > 0 and bool(known.min() < known.max())


def _folds(verdict: Float[np.ndarray, " units"], seed: int) -> Int[np.ndarray, " units"]:
    random = np.random.default_rng(seed)
    folds = np.full(len(verdict), -1)
    for value in (0, 1):
        members = np.flatnonzero(verdict == value)
        folds[random.permutation(members)] = np.arange(len(members)) % FOLDS
    return folds


def _design(
    signals: Mapping[str, np.ndarray], pair: tuple[str, str], units: Bool[np.ndarray, " units"]
) -> Float[np.ndarray, "some 3"]:
    return np.stack([np.ones(int(units.sum())), *(signals[name][units] for name in pair)], axis=1)


def _fit(
    signals: Mapping[str, np.ndarray],
    pair: tuple[str, str],
    units: Bool[np.ndarray, " units"],
    verdict: Float[np.ndarray, " units"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients, and what the columns were standardised by."""
    design = _design(signals, pair, units)
    centre, spread = design.mean(axis=0), design.std(axis=0)
    centre[0], spread[spread == 0] = 0.0, 1.0
    with warnings.catch_warnings():
        # A pair that separates the training units, or whose signals rank alike, has no unique fit; the direction found
        # is good enough to rank by.
        for category in (ModelWarning, RuntimeWarning):
            warnings.simplefilter("ignore", category)
        fitted = GLM(verdict[units], (design - centre) / spread, family=families.Binomial()).fit(maxiter=10)
    return np.nan_to_num(np.asarray(fitted.params)), centre, spread


def _score(
    signals: Mapping[str, np.ndarray],
    pair: tuple[str, str],
    fitted: tuple[np.ndarray, np.ndarray, np.ndarray],
    units: Bool[np.ndarray, " units"],
) -> Float[np.ndarray, " some"]:
    coefficients, centre, spread = fitted
    return (_design(signals, pair, units) - centre) / spread @ coefficients


def _area(score: Float[np.ndarray, " some"], right: Float[np.ndarray, " some"]) -> float:
    return worth(score, right, np.ones((1, len(right)))).estimate
