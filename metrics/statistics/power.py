"""The minimum detectable difference for n units, and the units that a difference needs."""

from __future__ import annotations

import functools
import math
import warnings
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float
from statsmodels.stats.power import TTestPower

from metrics.statistics.result import DIGITS, check_finite, check_share

WILCOXON_EFFICIENCY: Final = 3 / math.pi
"""Asymptotic relative efficiency of Wilcoxon's signed-rank test to the t test for normal differences (0.955)."""

MEAN_EFFICIENCY: Final = 1.0
"""Efficiency of the permutation test of the mean, which is asymptotically the t test."""


class Power(NamedTuple):
    """Units, difference and power of a two-sided paired test.

    Attributes:
        n: Number of units; NaN without an answer, infinite for a difference of 0.
        difference: Mean difference, in the values' own unit.
        spread: Standard deviation of the observed differences (divisor n − 1).
        effect: Cohen's d_z = difference / spread.
        alpha: Significance level.
        efficiency: Relative to the t test; 3/π for Wilcoxon's.
        reason: Why there is no answer; empty otherwise.
    """

    n: float
    difference: float
    spread: float
    effect: float
    power: float
    alpha: float
    efficiency: float
    reason: str


def smallest_difference(
    differences: Float[np.ndarray, " pairs"],
    n: int | None = None,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    efficiency: float = WILCOXON_EFFICIENCY,
) -> Power:
    """The minimum detectable mean difference of n units at the given power.

    The power of the t test with n · efficiency units (statsmodels), which is right for near-normal differences; for
    heavy tails Wilcoxon's test does better than 3/π suggests.

    Args:
        differences: Observed paired differences, for their spread; NaN values are excluded.
        n: Number of units; defaults to the number of differences.
        power: In (0, 1), above alpha.
        alpha: In (0, 1).
        efficiency: ``WILCOXON_EFFICIENCY`` or ``MEAN_EFFICIENCY``.

    Raises:
        ValueError: Infinite values, or an invalid power or alpha.

    Example:
        >>> round(smallest_difference(np.array([-1.0, 0.0, 1.0]), 34, efficiency=1.0).difference, 2)
        0.5
    """
    present, spread, reason = _spread(differences, power, alpha)
    n = len(present) if n is None else n
    if not reason and n * efficiency < 2:
        reason = "fewer than three units"
    if reason:
        return Power(n, math.nan, spread, math.nan, power, alpha, efficiency, reason)
    effect = _solve(effect_size=None, nobs=n * efficiency, alpha=alpha, power=power)
    if math.isnan(effect):
        return Power(n, math.nan, spread, math.nan, power, alpha, efficiency, "no solution was found")
    return Power(n, effect * spread, spread, effect, power, alpha, efficiency, "")


def units_needed(
    differences: Float[np.ndarray, " pairs"],
    difference: float,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    efficiency: float = WILCOXON_EFFICIENCY,
) -> Power:
    """How many units detect a mean difference at the given power.

    Args:
        differences: Observed paired differences, for their spread; NaN values are excluded.
        difference: The mean difference to detect; its sign is ignored.
        power: In (0, 1), above alpha.
        alpha: In (0, 1).
        efficiency: ``WILCOXON_EFFICIENCY`` or ``MEAN_EFFICIENCY``.

    Returns:
        n is rounded up, at least 6, below which no two-sided exact test rejects at 5 %; infinite for a difference of 0.

    Raises:
        ValueError: Infinite values, or an invalid power or alpha.

    Example:
        >>> units_needed(np.array([-1.0, 0.0, 1.0]), 0.5, efficiency=1.0).n
        34.0
    """
    _, spread, reason = _spread(differences, power, alpha)
    size = abs(difference)
    if not reason and size == 0:
        return Power(math.inf, 0.0, spread, 0.0, power, alpha, efficiency, "no number of units shows a difference of 0")
    if reason:
        return Power(math.nan, size, spread, math.nan, power, alpha, efficiency, reason)
    effect = size / spread
    smallest = 6
    if TTestPower().power(effect, smallest * efficiency, alpha) >= power:
        return Power(float(smallest), size, spread, effect, power, alpha, efficiency, "")
    nobs = _solve(effect_size=effect, nobs=None, alpha=alpha, power=power)
    if math.isnan(nobs):
        return Power(math.nan, size, spread, effect, power, alpha, efficiency, "no solution was found")
    return Power(float(math.ceil(nobs / efficiency)), size, spread, effect, power, alpha, efficiency, "")


def _spread(
    differences: Float[np.ndarray, " pairs"], power: float, alpha: float
) -> tuple[Float[np.ndarray, " pairs"], float, str]:
    check_share("alpha", alpha)
    check_share("power", power)
    if power <= alpha:
        raise ValueError(f"power must lie above alpha = {alpha}, not at {power}")
    differences = np.asarray(differences, dtype=np.float64).reshape(-1)
    check_finite(differences)
    present = np.round(differences[~np.isnan(differences)], DIGITS)
    if len(present) < 2:
        return present, math.nan, "fewer than two differences: their spread is unknown"
    spread = float(present.std(ddof=1)) if np.ptp(present) > 0 else 0.0
    return present, spread, "" if spread > 0 else "all differences are equal: their spread is unknown"


# Pairs of methods over the same units have the same question repeatedly.
@functools.lru_cache(maxsize=1024)
def _solve(*, effect_size: float | None, nobs: float | None, alpha: float, power: float) -> float:
    with warnings.catch_warnings():
        # A search without a solution warns and returns NaN or its start; the answer is checked instead.
        warnings.simplefilter("ignore")
        found = float(np.squeeze(TTestPower().solve_power(effect_size, nobs, alpha, power)))
        reached = TTestPower().power(effect_size or found, nobs or found, alpha)
    return abs(found) if abs(float(reached) - power) < 1e-4 else math.nan
