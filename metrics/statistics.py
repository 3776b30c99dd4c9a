"""Intervals and tests with the unit as the statistical unit, on scipy and statsmodels.

Where a statistic does not exist the result says so in ``reason``; it is empty for an ordinary result.
"""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

_DRAWN_AT_ONCE = 2**20
_DIGITS = 12


class Interval(NamedTuple):
    """An estimate with its confidence interval.

    Attributes:
        estimate: The mean or share; NaN without a value.
        low: Lower bound; NaN where there is no interval.
        high: Upper bound; NaN where there is no interval.
        n: Values (units) that entered.
        reason: Why the interval is missing or of another kind; empty otherwise.
    """

    estimate: float
    low: float
    high: float
    n: int
    reason: str


def bootstrap_interval(
    values: Float[np.ndarray, " units"], *, confidence: float = 0.95, resamples: int = 9_999, seed: int = 0
) -> Interval:
    """The mean over units with its bias-corrected and accelerated bootstrap interval (Efron, 1987).

    Give paired differences to compare two methods on the same units.

    Args:
        values: One number a unit; NaN is missing and left out.
        confidence: In (0, 1).
        resamples: Bootstrap samples of the units.
        seed: Seed of a generator used here only.

    Returns:
        No interval for fewer than three units; both bounds equal to the mean when all values are equal; the percentile
        interval, with its reason, where the bias correction is undefined.

    Raises:
        ValueError: For infinite values or a confidence outside (0, 1).

    Example:
        >>> bootstrap_interval(np.array([0.5, 0.5, 0.5]))
        Interval(estimate=0.5, low=0.5, high=0.5, n=3, reason='all values are equal')
    """
    _check_confidence(confidence)
    present = np.asarray(values, dtype=np.float64).reshape(-1)
    present = present[~np.isnan(present)]
    n = len(present)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0, "no value")
    if not bool(np.isfinite(present).all()):
        raise ValueError("values must be finite or NaN (missing); infinite values have no mean")
    if present.min() == present.max():
        value = float(present[0])
        if n < 3:
            return Interval(value, math.nan, math.nan, n, "fewer than three values")
        return Interval(value, value, value, n, "all values are equal")
    mean = float(present.mean())
    if n < 3:
        return Interval(mean, math.nan, math.nan, n, "fewer than three values")
    for method, reason in (("BCa", ""), ("percentile", "bias correction undefined: percentile interval")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=stats.DegenerateDataWarning)
            # SciPy divides by a spread of zero before it reports an undefined interval, which is handled below.
            warnings.filterwarnings("ignore", message="invalid value encountered", category=RuntimeWarning)
            interval = stats.bootstrap(
                (present,),
                np.mean,
                confidence_level=confidence,
                n_resamples=resamples,
                batch=max(1, _DRAWN_AT_ONCE // n),
                method=method,
                rng=np.random.default_rng(seed),
            ).confidence_interval
        if math.isfinite(interval.low) and math.isfinite(interval.high):
            return Interval(mean, float(interval.low), float(interval.high), n, reason)
    raise AssertionError("a percentile interval of finite values is finite")


class PairedTest(NamedTuple):
    """A Wilcoxon signed-rank test.

    Attributes:
        n: Pairs with both values.
        differing: Pairs that differ, on which the test rests.
        statistic: The smaller of the two rank sums.
        p_value: Two-sided; 1 if no pair differs; NaN without pairs.
        effect: Rank-biserial correlation in [-1, 1]; positive when the first is larger; 0 if no pair differs.
        reason: Why p means little or is missing; empty otherwise.
    """

    n: int
    differing: int
    statistic: float
    p_value: float
    effect: float
    reason: str


def paired_wilcoxon(first: Float[np.ndarray, " units"], second: Float[np.ndarray, " units"]) -> PairedTest:
    """Wilcoxon's signed-rank test of two methods or conditions on the same units.

    Pairs with a NaN are missing and left out; equal pairs do not enter the ranks (Wilcoxon's own rule); differences are
    rounded to 12 decimals so that rounding errors do not break ties. Exact for up to 50 pairs without ties, else the
    normal approximation. effect = (W₊ − W₋)/(W₊ + W₋).

    Args:
        first: One value a unit.
        second: The same units' other value.

    Raises:
        ValueError: If the shapes differ or a value is infinite.

    Example:
        >>> paired_wilcoxon(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), np.zeros(6))
        PairedTest(n=6, differing=6, statistic=0.0, p_value=0.03125, effect=1.0, reason='')
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"both must be [units] alike, not {list(first.shape)} and {list(second.shape)}")
    if bool(np.isinf(first).any() or np.isinf(second).any()):
        raise ValueError("values must be finite or NaN (missing)")
    differences = np.round(first - second, _DIGITS)
    differences = differences[~np.isnan(differences)]
    n = len(differences)
    if n == 0:
        return PairedTest(0, 0, math.nan, math.nan, math.nan, "no pair")
    differences = differences[differences != 0]
    if len(differences) == 0:
        return PairedTest(n, 0, 0.0, 1.0, 0.0, "no pair differs")
    ranks = stats.rankdata(np.abs(differences))
    larger, smaller = float(ranks[differences > 0].sum()), float(ranks[differences < 0].sum())
    p_value = np.asarray(stats.wilcoxon(differences))[1]
    reason = "fewer than six pairs differ: p cannot fall below 0.05" if len(differences) < 6 else ""
    effect = (larger - smaller) / (larger + smaller)
    return PairedTest(n, len(differences), min(larger, smaller), float(p_value), effect, reason)


class Corrected(NamedTuple):
    """A family of tests after Holm's correction.

    Attributes:
        p_values: Adjusted, in the order given; NaN where the test is missing.
        rejected: Adjusted p at most alpha; False where the test is missing.
        tests: Tests that count in the family.
    """

    p_values: Float[np.ndarray, " tests"]
    rejected: Bool[np.ndarray, " tests"]
    tests: int


def holm(p_values: Float[np.ndarray, " tests"], alpha: float = 0.05) -> Corrected:
    """Holm's step-down correction: p_(i) → max over j ≤ i of min(1, (m − j + 1) p_(j)).

    Args:
        p_values: In [0, 1]; NaN is a missing test, which does not count in the family.
        alpha: Family-wise error rate.

    Raises:
        ValueError: For a p-value outside [0, 1].

    Example:
        >>> holm(np.array([0.01, 0.04, np.nan])).p_values.tolist()
        [0.02, 0.04, nan]
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    present = ~np.isnan(p_values)
    if bool(((p_values[present] < 0) | (p_values[present] > 1)).any()):
        raise ValueError("p-values must lie in [0, 1]")
    adjusted, rejected = np.full(p_values.shape, np.nan), np.zeros(p_values.shape, dtype=bool)
    if present.any():
        rejected[present], adjusted[present] = multipletests(p_values[present], alpha=alpha, method="holm")[:2]
    return Corrected(adjusted, rejected, int(present.sum()))


def wilson_interval(successes: int, n: int, *, confidence: float = 0.95) -> Interval:
    """A share with Wilson's score interval, which stays inside [0, 1] and is sound for shares near 0 and 1.

    Args:
        successes: Units that are right.
        n: Units that have a verdict.
        confidence: In (0, 1).

    Returns:
        Without units the share and bounds are NaN.

    Raises:
        ValueError: Unless 0 ≤ successes ≤ n.

    Example:
        >>> [round(number, 4) for number in wilson_interval(8, 10)[:3]]
        [0.8, 0.4902, 0.9433]
    """
    _check_confidence(confidence)
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie between 0 and n = {n}, not {successes}")
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0, "no value")
    low, high = np.asarray(proportion_confint(successes, n, alpha=1 - confidence, method="wilson"), dtype=np.float64)
    return Interval(successes / n, float(low), float(high), n, "")


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
