"""The intervals and tests of every board, page, table and report: one number of resamples, and the run's own seed.

Whatever shows a number calls these functions or reads what they left, so that it has the same interval everywhere.
"""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
from jaxtyping import Float

from metrics.statistics import Interval, bootstrap_interval, bootstrap_weights, paired_interval, wilson_interval

RESAMPLES: Final = 4_999
"""Bootstrap samples of an interval, and random permutations of a test."""


def mean_interval(per_unit: Float[np.ndarray, " units"], seed: int) -> Interval:
    """The mean over units with its BCa bootstrap interval; NaN is left out.

    Args:
        per_unit: One value per unit.
    """
    return _mean_interval(_alike(per_unit).tobytes(), seed, RESAMPLES)


def share_interval(per_unit: Float[np.ndarray, " units"], seed: int) -> Interval:
    """The mean of shares over units: Wilson's interval where each unit counts as right or wrong, else the bootstrap.

    Several conditions of one unit are not independent, as Wilson's interval would have it. Where every unit's verdict
    is the same under all of its conditions, each unit counts once; the bootstrap has no width where all units agree.

    Args:
        per_unit: One share in [0, 1] per unit; NaN is left out.
    """
    known = per_unit[~np.isnan(per_unit)]
    if one_verdict(known):
        return wilson_interval(int(known.sum()), len(known))
    return mean_interval(per_unit, seed)


def one_verdict(per_unit: Float[np.ndarray, " units"]) -> bool:
    """Whether each unit counts as right or wrong, so that the mean is a share of units."""
    return bool(np.isin(per_unit, (0.0, 1.0)).all())


def difference_interval(first: Float[np.ndarray, " units"], second: Float[np.ndarray, " units"], seed: int) -> Interval:
    """The difference of two means over the same units with its bootstrap interval.

    Args:
        first: One value per unit.
        second: The same units' other value.
    """
    return paired_interval(_alike(first), _alike(second), resamples=RESAMPLES, seed=seed)


def unit_weights(units: int, random: np.random.Generator) -> Float[np.ndarray, "samples units"]:
    """How often each unit is drawn in each bootstrap sample."""
    return bootstrap_weights(units, RESAMPLES, random)


# Every condition of a method has the same noise floor, and several tables the same means.
@functools.lru_cache(maxsize=512)
def _mean_interval(values: bytes, seed: int, resamples: int) -> Interval:
    return bootstrap_interval(np.frombuffer(values), resamples=resamples, seed=seed)


def _alike(per_unit: Float[np.ndarray, " units"]) -> Float[np.ndarray, " units"]:
    # BCa counts the resamples below the mean, ties apart: without rounding, the order in which a unit's mean was summed
    # would decide which of them tie.
    return np.round(per_unit, 12)
