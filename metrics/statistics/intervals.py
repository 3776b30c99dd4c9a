"""Confidence intervals with the unit as the statistical unit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float
from scipy import special, stats
from statsmodels.stats.proportion import proportion_confint

from metrics.statistics.resampling import bootstrap_draws, in_parts
from metrics.statistics.result import check_finite, check_share, paired_values

_POINT: Final = 1e-12


class Interval(NamedTuple):
    """An estimate with its confidence interval.

    Attributes:
        estimate: The mean (or other statistic) or share; NaN without a value.
        low: Lower bound; NaN without an interval.
        high: Upper bound; NaN without an interval.
        n: Number of values (units) used.
        reason: Why the interval is missing or of another kind; empty otherwise.
        left_out: Units excluded because they have no value.
    """

    estimate: float
    low: float
    high: float
    n: int
    reason: str
    left_out: int = 0


class Statistic(Protocol):
    """A reduction along an axis, such as ``np.mean``."""

    def __call__(self, values: Float[np.ndarray, " ..."], /, *, axis: int) -> Float[np.ndarray, " ..."]:
        """Reduce along ``axis``."""
        ...


def bootstrap_interval(
    values: Float[np.ndarray, " units"],
    *,
    statistic: Statistic = np.mean,
    confidence: float = 0.95,
    resamples: int = 9_999,
    seed: int = 0,
) -> Interval:
    """A statistic over units with its bias-corrected and accelerated bootstrap interval (Efron, 1987).

    Plain bootstrap intervals are too narrow for few units, even of normal data: they use the spread with divisor n and
    no t quantile (88 % instead of 95 % at n = 8, 93 % at n = 24). So the level is first widened as Hesterberg (The
    American Statistician 69, 2015, section 4.3) proposes: see ``expanded_confidence``. In simulations the 95 % interval
    of the mean then covers 93 to 97 % from 24 units on, for bounded, skewed values with many ties at 1; with 8 to 12
    units and strong skew 91 to 95 %. No interval helps if a rare value decides the mean: with values that differ in one
    of twenty units, coverage is 85 % at 24 units and 90 % at 48, as a sample often contains none of them.

    Args:
        values: One number per unit; NaN is missing and excluded.
        statistic: Reduces along an axis.
        confidence: In (0, 1).
        resamples: Bootstrap samples of the units.
        seed: Seed of a generator used here only.

    Returns:
        No interval for fewer than three units; both bounds equal to the estimate if all values are equal; the
        percentile interval, with its reason, if the bias correction is undefined.

    Raises:
        ValueError: Infinite values or a confidence outside (0, 1).

    Example:
        >>> bootstrap_interval(np.array([0.5, 0.5, 0.5, np.nan]))
        Interval(estimate=0.5, low=0.5, high=0.5, n=3, reason='all values are equal', left_out=1)
    """
    check_share("confidence", confidence)
    every = np.asarray(values, dtype=np.float64).reshape(-1)
    check_finite(every)
    present = every[~np.isnan(every)]
    n, left_out = len(present), int(np.isnan(every).sum())
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0, "no value", left_out)
    # The mean of equal floats may be off in the last digit.
    alike = present.min() == present.max()
    estimate = float(statistic(present[:1] if alike else present, axis=0))
    if n < 3:
        return Interval(estimate, math.nan, math.nan, n, "fewer than three values", left_out)
    if alike:
        return Interval(estimate, estimate, estimate, n, "all values are equal", left_out)
    low, high, reason = _bounds((present,), statistic, confidence, resamples, seed)
    return Interval(estimate, low, high, n, reason, left_out)


def paired_interval(
    first: Float[np.ndarray, " units"],
    second: Float[np.ndarray, " units"],
    *,
    statistic: Statistic = np.mean,
    confidence: float = 0.95,
    resamples: int = 9_999,
    seed: int = 0,
) -> Interval:
    """statistic(first) − statistic(second) with its bootstrap interval; a unit's two values are resampled together.

    Args:
        first: One number per unit, of one method or condition; NaN is missing.
        second: The other number of the same units; a unit with a missing value is excluded.
        statistic: Reduces along an axis.
        confidence: In (0, 1).
        resamples: Bootstrap samples of the units.
        seed: Seed of a generator used here only.

    Returns:
        As ``bootstrap_interval``; a point, with its reason, if all resamples are equal, e.g. if all units differ by the
        same amount.

    Raises:
        ValueError: The shapes differ, values are infinite or the confidence is outside (0, 1).

    Example:
        >>> paired_interval(np.array([0.5, 0.75, 1.0]), np.array([0.25, 0.5, 0.75]))[:5]
        (0.25, 0.25, 0.25, 3, 'all resamples are equal')
    """
    check_share("confidence", confidence)
    one, other, left_out = paired_values(first, second)
    n = len(one)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0, "no value", left_out)

    def difference(a: Float[np.ndarray, " ..."], b: Float[np.ndarray, " ..."], axis: int) -> Float[np.ndarray, " ..."]:
        return statistic(a, axis=axis) - statistic(b, axis=axis)

    estimate = float(difference(one, other, axis=0))
    if n < 3:
        return Interval(estimate, math.nan, math.nan, n, "fewer than three values", left_out)
    low, high, reason = _bounds((one, other), difference, confidence, resamples, seed)
    if high - low <= _POINT:
        return Interval(estimate, estimate, estimate, n, "all resamples are equal", left_out)
    return Interval(estimate, low, high, n, reason, left_out)


def bootstrap_weights(n: int, resamples: int, random: np.random.Generator) -> Float[np.ndarray, "resamples n"]:
    """How often each of n units occurs in each bootstrap sample, for statistics that are functions of weighted sums.

    Args:
        n: Units.
    """
    return random.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)


def percentile_interval(
    estimate: float, draws: Float[np.ndarray, " resamples"], n: int, confidence: float = 0.95
) -> Interval:
    """The interval between two quantiles of a statistic's bootstrap samples.

    Args:
        estimate: The statistic of the data; NaN if undefined.
        draws: The statistic of the bootstrap samples; undefined ones are NaN and excluded.
        n: Number of units; no interval for fewer than three.
        confidence: In (0, 1).
    """
    check_share("confidence", confidence)
    known = draws[~np.isnan(draws)]
    if math.isnan(estimate) or not len(known):
        return Interval(estimate, math.nan, math.nan, n, "no value")
    if n < 3:
        return Interval(estimate, math.nan, math.nan, n, "fewer than three values")
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(estimate, float(low), float(high), n, "")


def basic_interval(
    estimate: float,
    draws: Float[np.ndarray, " resamples"],
    n: int,
    confidence: float = 0.95,
    *,
    least: float = -math.inf,
    greatest: float = math.inf,
) -> Interval:
    """The basic bootstrap interval: the percentile interval mirrored at the estimate, clipped to the range.

    For statistics that noise biases to one side, such as a rank correlation of means (Davison and Hinkley, 1997,
    section 5.2.1). Each bootstrap sample adds the noise of the data a second time, so that percentile intervals are too
    low.

    Args:
        estimate: This, ``draws`` and ``n`` are as in ``percentile_interval``.
        confidence: In (0, 1).
        least: Least value of the statistic.
        greatest: Greatest value of the statistic.

    Example:
        >>> [round(end, 3) for end in basic_interval(0.75, np.linspace(0.25, 0.75, 101), 12, 0.9, greatest=1.0)[:3]]
        [0.75, 0.775, 1.0]
    """
    found = percentile_interval(estimate, draws, n, confidence)
    low, high = (min(max(2 * estimate - end, least), greatest) for end in (found.high, found.low))
    return found if math.isnan(found.low) else found._replace(low=low, high=high)


def expanded_confidence(confidence: float, n: int) -> float:
    """The bootstrap level at which the interval of n normal units has coverage ``confidence``.

    1 − 2 Φ(−√(n / (n − 1)) t), with t the (1 + confidence)/2 quantile of Student's distribution with n − 1 degrees of
    freedom (Hesterberg, 2015, section 4.3).

    Args:
        confidence: In (0, 1).
        n: Units, at least 2.

    Example:
        >>> round(expanded_confidence(0.95, 24), 4)
        0.9654
    """
    quantile = stats.t.ppf((1 + confidence) / 2, n - 1)
    return float(1 - 2 * stats.norm.sf(math.sqrt(n / (n - 1)) * quantile))


def wilson_interval(successes: int, n: int, *, confidence: float = 0.95) -> Interval:
    """A share with Wilson's score interval, which stays inside [0, 1] and is valid for shares near 0 and 1.

    Counts are integers, so that coverage oscillates around its level: for 24 to 48 units and shares of 0.05 to 0.95 the
    95 % interval covers 92 to 98 %, 95 % on average.

    Args:
        successes: Number of units that are right.
        n: Number of units with a verdict.
        confidence: In (0, 1).

    Returns:
        Share and bounds are NaN without units.

    Raises:
        ValueError: Unless 0 ≤ successes ≤ n.

    Example:
        >>> [round(number, 4) for number in wilson_interval(8, 10)[:3]]
        [0.8, 0.4902, 0.9433]
    """
    check_share("confidence", confidence)
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie between 0 and n = {n}, not {successes}")
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0, "no value")
    low, high = np.asarray(proportion_confint(successes, n, alpha=1 - confidence, method="wilson"), dtype=np.float64)
    return Interval(successes / n, float(low), float(high), n, "")


def _bounds(
    columns: tuple[Float[np.ndarray, " units"], ...],
    statistic: Callable[..., Float[np.ndarray, " ..."]],
    confidence: float,
    resamples: int,
    seed: int,
) -> tuple[float, float, str]:
    """The interval of ``scipy.stats.bootstrap`` from the same random numbers, which are drawn once for many intervals.

    Returns:
        Low, high, and the reason if it is the percentile interval.
    """
    n = len(columns[0])
    alpha = (1 - expanded_confidence(confidence, n)) / 2
    indices = bootstrap_draws(n, resamples, seed)
    draws = np.concatenate(
        [statistic(*(column.take(indices[part]) for column in columns), axis=-1) for part in in_parts(resamples, n)]
    )
    corrected = _corrected_levels(columns, statistic, alpha, draws)
    for levels, reason in ((corrected, ""), ((alpha, 1 - alpha), "bias correction undefined: percentile interval")):
        low, high = (float(end) for end in stats.quantile(draws, np.array(levels)))
        if math.isfinite(low) and math.isfinite(high):
            return low, high, reason
    raise AssertionError("a percentile interval of finite values is finite")


def _corrected_levels(
    columns: tuple[Float[np.ndarray, " units"], ...],
    statistic: Callable[..., Float[np.ndarray, " ..."]],
    alpha: float,
    draws: Float[np.ndarray, " resamples"],
) -> tuple[float, float]:
    """Bias-corrected and accelerated levels (Efron & Tibshirani, 1993, sections 14.3 and 15.4); NaN if undefined.

    The steps of SciPy in its order, so that the results have the same bits.
    """
    n = len(columns[0])
    estimate = statistic(*columns, axis=-1)
    below = np.count_nonzero(draws < estimate) + np.count_nonzero(draws <= estimate)
    bias = special.ndtri(below / (2 * len(draws)))
    left = np.concatenate(
        [statistic(*(_all_but_one(column, part) for column in columns), axis=-1) for part in in_parts(n, n)]
    )
    influence = (n - 1) * (left.mean() - left)
    with np.errstate(divide="ignore", invalid="ignore"):
        # 0 / 0 without any influence, which is undefined.
        acceleration = 1 / 6 * ((influence**3).sum() / n**3) / ((influence**2).sum() / n**2) ** (3 / 2)
        low, high = (bias + sign * special.ndtri(alpha) for sign in (1, -1))
        ends = [special.ndtr(bias + end / (1 - acceleration * end)) for end in (low, high)]
    return float(ends[0]), float(ends[1])


def _all_but_one(values: Float[np.ndarray, " units"], left_out: slice) -> Float[np.ndarray, "rows others"]:
    """All values but one, one row for each unit that is left out in turn."""
    before = np.arange(len(values) - 1) < np.arange(left_out.start, left_out.stop)[:, None]
    return np.where(before, values[:-1], values[1:])
