"""Where the variance of a unit's labels comes from: variance components of a balanced crossed design.

A unit is labelled once for every combination of the levels of some factors, such as seed, draw of the images and
perturbation. Its labels are vectors of unit norm: text embeddings, for which half the squared distance of two labels is
one minus their cosine, or one-hot vectors of the strings, for which it is 0 for equal labels and else 1. Distances are
all that an analysis of variance needs (Anderson, Austral Ecology 26, 2001; for strings Light & Margolin, JASA 66,
1971), so that labels decompose like numbers:

    label = mean of the unit + Σ_T effect_T, one effect for every non-empty set T of factors,

with effects that are drawn independently for each combination of the levels of T, with variance σ²_T (the trace of
their covariance), and no other error: the effect of all factors at once is the residual. The expected mean square of T
is Σ_{S ⊇ T} σ²_S Π_{f ∉ S} n_f for n_f levels of factor f; solved for σ² this gives unbiased components (Searle,
Casella & McCulloch, Variance Components, 1992, chapter 4). Units are pooled by the mean of their mean squares.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from metrics.statistics import Interval, bootstrap_weights, percentile_interval

Effect = tuple[str, ...]
"""The factors of an effect in the order of the design: one for a main effect, several for an interaction."""


def effects_of(factors: Sequence[str]) -> tuple[Effect, ...]:
    """All effects of a crossed design: main effects first, then interactions by the number of their factors.

    Example:
        >>> effects_of(["seed", "images"])
        (('seed',), ('images',), ('seed', 'images'))
    """
    sizes = range(1, len(factors) + 1)
    return tuple(effect for size in sizes for effect in itertools.combinations(factors, size))


def mean_squares(labels: Float[np.ndarray, "*levels d"]) -> Float[np.ndarray, " effects"]:
    """Mean square of each effect on the labels of one unit, summed over dimensions.

    Args:
        labels: One vector per cell of the design; one axis per factor, each with at least two levels.

    Returns:
        In the order of ``effects_of``.

    Raises:
        ValueError: No factor, or one with a single level.

    Example:
        >>> mean_squares(np.array([[[0.0], [2.0]], [[4.0], [6.0]]])).tolist()
        [16.0, 4.0, 0.0]
    """
    labels = np.asarray(labels, dtype=np.float64)
    levels = labels.shape[:-1]
    if not levels or min(levels) < 2:
        raise ValueError(f"every factor needs at least two levels, not {list(levels)}")
    found = []
    for effect in effects_of([str(axis) for axis in range(len(levels))]):
        part, repeated, freedom = labels, 1, 1
        for axis, count in enumerate(levels):
            mean = part.mean(axis=axis, keepdims=True)
            inside = str(axis) in effect
            part = part - mean if inside else mean
            repeated, freedom = (repeated, freedom * (count - 1)) if inside else (repeated * count, freedom)
        found.append(repeated * np.square(part).sum() / freedom)
    return np.array(found)


def components(
    squares: Float[np.ndarray, "*any effects"], factors: Sequence[str], levels: Sequence[int]
) -> Float[np.ndarray, "*any effects"]:
    """Variance component of each effect from mean squares: ``σ²_T = Σ_{S ⊇ T} (−1)^(|S| − |T|) MS_S / Π_{f ∉ T} n_f``.

    Args:
        squares: Of one unit, or means over units; in the order of ``effects_of``, as is the result.
        levels: The number of levels of each.

    Returns:
        Unbiased, so that a component that is 0 is as often negative as positive.

    Example:
        >>> components(np.array([16.0, 4.0, 0.0]), ["seed", "images"], [2, 2]).tolist()
        [8.0, 2.0, 0.0]
    """
    effects, count = effects_of(factors), dict(zip(factors, levels, strict=True))
    solved = np.zeros((len(effects), len(effects)))
    for row, effect in enumerate(effects):
        others = math.prod(count[factor] for factor in factors if factor not in effect)
        for column, larger in enumerate(effects):
            if set(effect) <= set(larger):
                solved[row, column] = (-1) ** (len(larger) - len(effect)) / others
    return np.asarray(squares) @ solved.T


@dataclass(frozen=True)
class Shares:
    """Share of each effect in the variance of labels.

    Attributes:
        effects: As ``effects_of``.
        estimate: In [0, 1], one per effect, with sum 1; NaN if no label differs.
        draws: The same of each bootstrap sample of the units.
        variance: Sum of the components, at least 0: the expected distance (one minus the cosine, or whether the strings
            differ) of two labels of a unit that have no level in common.
    """

    effects: tuple[Effect, ...]
    estimate: Float[np.ndarray, " effects"]
    draws: Float[np.ndarray, "samples effects"]
    variance: Interval

    def of(self, *effects: Effect) -> Interval:
        """Sum of the shares of some effects."""
        return self._sum(np.array([effect in effects for effect in self.effects]))

    def involving(self, *factors: str) -> Interval:
        """Sum of the shares of all effects with any of these factors: what is left if all others are held fixed.

        Sobol's total effect. Times the variance, it is the expected distance of two labels that differ in the levels of
        these factors alone. Those of several factors count interactions several times, so that they may exceed 1
        together.
        """
        return self._sum(np.array([bool(set(effect) & set(factors)) for effect in self.effects]))

    def _sum(self, chosen: np.ndarray) -> Interval:
        estimate, draws = (shares[..., chosen].sum(axis=-1) for shares in (self.estimate, self.draws))
        return percentile_interval(float(estimate), draws, self.variance.n)


def variance_shares(
    squares: Float[np.ndarray, "units effects"],
    factors: Sequence[str],
    levels: Sequence[int],
    *,
    resamples: int = 4_999,
    seed: int = 0,
) -> Shares:
    """Share of each effect in the variance of the labels of many units, with percentile bootstrap intervals over units.

    A component is truncated at 0 after units are pooled, in every bootstrap sample too, so that shares are shares; a
    component that is 0 therefore has a small positive share on average, and an interval that starts at 0.

    Args:
        squares: From ``mean_squares``, one row per unit, at least one.
        levels: The number of levels of each.
        seed: Seed of a generator used here only.
    """
    weights = bootstrap_weights(len(squares), resamples, np.random.default_rng(seed)) / len(squares)
    pooled = np.concatenate([squares.mean(axis=0, keepdims=True), weights @ squares])
    found = np.maximum(components(pooled, factors, levels), 0.0)
    # Rounding errors of labels that never differ are no variance.
    total = found.sum(axis=1)
    total[total < 1e-12] = 0.0
    shares = np.full_like(found, np.nan)
    np.divide(found, total[:, None], out=shares, where=total[:, None] > 0)
    variance = percentile_interval(float(total[0]), total[1:], len(squares))
    return Shares(effects_of(factors), shares[0], shares[1:], variance)
