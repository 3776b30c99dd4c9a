"""Whether one benchmark predicts another: agreement of their measurements under the same conditions."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, Protocol

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from metrics.statistics import Interval, basic_interval, percentile_interval

Agreement = Literal["spearman", "kendall", "difference"]

FEWEST: Final = 3
"""Minimum number of ranked values: two are always ranked alike or in reverse."""

FEW: Final = 8
"""Below this number of values a rank correlation takes few distinct values, which a mirrored interval does not fit."""


class _Statistic(Protocol):
    def __call__(
        self, first: Float[np.ndarray, "rows values"], second: Float[np.ndarray, "rows values"]
    ) -> Float[np.ndarray, " rows"]: ...


def agreement(
    first: Float[np.ndarray, " values"],
    second: Float[np.ndarray, " values"],
    first_draws: Float[np.ndarray, "resamples values"],
    second_draws: Float[np.ndarray, "resamples values"],
    measure: Agreement,
    *,
    confidence: float = 0.95,
) -> Interval:
    """How well the values of two benchmarks agree, with a bootstrap interval over what they were averaged over.

    The interval is the basic one, except for rank correlations of fewer than ``FEW`` values, which have the percentile
    interval. In simulations of 19 conditions whose true rank correlation is about 0.9 the basic interval covers it in
    90 % of the runs with 48 as with 24 units, and in 82 to 83 % if it is about 0.6; percentile intervals cover the
    former in 60 and 7 %, as resampling adds the noise of the means a second time. For five conditions percentile
    intervals cover at least 98 %, basic ones 75 to 99 %.

    Args:
        first: Means of the first benchmark, one per condition (or method).
        second: Those of the second, in the same order.
        first_draws: The means of bootstrap samples of the first benchmark's units.
        second_draws: The means of bootstrap samples of the second's, drawn independently.
        measure: ``spearman``: Spearman's rank correlation; ``kendall``: Kendall's tau-b; ``difference``: the mean
            absolute difference, in the unit of the values.
        confidence: In (0, 1).

    Returns:
        NaN, with the reason, for fewer than three values, or if a rank correlation is undefined because all values of a
        benchmark are equal.

    Raises:
        ValueError: The shapes differ or a value is not finite.

    Example:
        >>> draws = np.tile([0.9, 0.5, 0.1], (10, 1))
        >>> agreement(draws[0], draws[0] / 2, draws, draws / 2, "spearman")[:3]
        (1.0, 1.0, 1.0)
    """
    if first.shape != second.shape or first_draws.shape[1:] != first.shape or second_draws.shape[1:] != first.shape:
        raise ValueError(f"values of shapes {first.shape} and {second.shape} are not of the same conditions")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("values must be finite")
    n = len(first)
    if n < FEWEST:
        return Interval(np.nan, np.nan, np.nan, n, f"fewer than {FEWEST} values")
    statistic, (least, greatest) = _STATISTICS[measure]
    estimate = float(statistic(first[None], second[None])[0])
    if np.isnan(estimate):
        return Interval(estimate, np.nan, np.nan, n, "all values of one side are equal")
    draws = statistic(first_draws, second_draws)
    if n < FEW and measure != "difference":
        return percentile_interval(estimate, draws, n, confidence)
    return basic_interval(estimate, draws, n, confidence, least=least, greatest=greatest)


def _spearman(
    first: Float[np.ndarray, "rows values"], second: Float[np.ndarray, "rows values"]
) -> Float[np.ndarray, " rows"]:
    one, other = (rankdata(values, axis=1, nan_policy="propagate") for values in (first, second))
    one, other = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (one, other))
    return _ratio((one * other).sum(axis=1), (one**2).sum(axis=1) * (other**2).sum(axis=1))


def _kendall(
    first: Float[np.ndarray, "rows values"], second: Float[np.ndarray, "rows values"]
) -> Float[np.ndarray, " rows"]:
    left, right = np.triu_indices(first.shape[1], 1)
    one, other = (np.sign(values[:, left] - values[:, right]) for values in (first, second))
    return _ratio((one * other).sum(axis=1), (one**2).sum(axis=1) * (other**2).sum(axis=1))


def _difference(
    first: Float[np.ndarray, "rows values"], second: Float[np.ndarray, "rows values"]
) -> Float[np.ndarray, " rows"]:
    return np.abs(first - second).mean(axis=1)


def _ratio(above: Float[np.ndarray, " rows"], squared: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    """NaN if there is no order to compare."""
    found = np.full(len(above), np.nan)
    # The product of two equal roots is not always their square.
    np.divide(above, np.sqrt(squared), out=found, where=squared > 0)
    return np.clip(found, -1.0, 1.0)


_STATISTICS: Final[Mapping[str, tuple[_Statistic, tuple[float, float]]]] = MappingProxyType(
    {
        "spearman": (_spearman, (-1.0, 1.0)),
        "kendall": (_kendall, (-1.0, 1.0)),
        "difference": (_difference, (0.0, np.inf)),
    }
)
