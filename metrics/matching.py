"""Matching the units of two networks (Li et al., Convergent Learning, ICLR 2016 workshop): by assignment."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

_NEVER = -1e6


def correlations(
    first: Float[np.ndarray, "images units"], second: Float[np.ndarray, "images others"]
) -> Float[np.ndarray, "units others"]:
    """Pearson correlation of each unit with each of another network over the same images; 0 for constant ones."""

    def standard(values: np.ndarray) -> np.ndarray:
        centred = values - values.mean(axis=0)
        length = np.linalg.norm(centred, axis=0)
        # Up to float32 rounding of the values, as ``baselines.evidence.dead_units`` has it.
        alive = length > 1e-6 * np.sqrt(len(values)) * np.abs(values).max(axis=0, initial=0)
        return np.divide(centred, length, out=np.zeros_like(centred), where=alive)

    return standard(np.asarray(first, np.float64)).T @ standard(np.asarray(second, np.float64))


def best_match(
    scores: Float[np.ndarray, "units others"], usual: Int[np.ndarray, " units"]
) -> Int[np.ndarray, " units"]:
    """The one-to-one assignment with the greatest sum of scores.

    Args:
        scores: Any range; NaN is assigned last.
        usual: Column of each row that is preferred among equal sums, as for units that never respond.

    Returns:
        Column of each row; -1 for rows that are left without one, where there are fewer columns.

    Example:
        >>> best_match(np.array([[0.9, 0.8], [0.7, 0.1]]), np.array([0, 1])).tolist()
        [1, 0]
    """
    columns = np.arange(scores.shape[1])
    sized = np.where(np.isnan(scores), _NEVER, scores) + 1e-9 * (columns == usual[:, None])
    found = np.full(len(scores), -1)
    first, second = linear_sum_assignment(sized, maximize=True)
    found[first] = second
    return found


def best_among_own(scores: Float[np.ndarray, "units units"]) -> Float[np.ndarray, " units"]:
    """What each unit scores with another unit of the same network, by the assignment that gives none itself.

    It is the chance level of ``best_match`` by the same scores: a best match is similar because it is chosen so.
    """
    apart = np.where(np.eye(len(scores), dtype=bool), 2 * _NEVER, np.nan_to_num(scores, nan=_NEVER))
    if len(scores) < 2:
        return np.full(len(scores), np.nan)
    return scores[np.arange(len(scores)), linear_sum_assignment(apart, maximize=True)[1]]
