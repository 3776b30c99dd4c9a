"""Did a unit's evidence change? Its top images as a set and as a ranking, and its activations image by image.

A label can change although the evidence stays (due to the method) or because the evidence changed (due to the network).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy import stats

NOT_FINITE = "an activation is NaN or infinite"
CONSTANT = "all activations are equal"
CONSTANT_PERTURBED = "all activations on the perturbed images are equal"


def evidence_overlap(evidence: Collection[Hashable], reference: Collection[Hashable]) -> float:
    """Jaccard index ``|E ∩ R| / |E ∪ R|`` of a unit's top images, perturbed and clean.

    Distinguishes a change of evidence from a mere change of words.

    Args:
        evidence: Image indices or names under a condition, in any order.
        reference: Those under the clean condition.

    Returns:
        In [0, 1]; higher is better; NaN if either is empty: a unit without evidence has nothing to overlap.

    Example:
        >>> evidence_overlap([1, 2, 3], [2, 3, 4])
        0.5
    """
    first, second = set(evidence), set(reference)
    if not first or not second:
        return float("nan")
    return len(first & second) / len(first | second)


def rank_biased_overlap(ranking: Sequence[Hashable], reference: Sequence[Hashable], *, p: float = 0.9) -> float:
    """Extrapolated rank-biased overlap, RBO_ext, of a unit's top images in order (Webber, Moffat & Zobel, 2010).

    With the shorter ranking of length s, the longer one of length l and X_d the images that both contain in their first
    d ranks, the agreement at depth d is A_d = X_d / d up to s and A_d = (X_d + X_s (d − s) / s) / d beyond it, and
    RBO_ext = (1 − p) Σ_{d=1..l} p^{d−1} A_d + p^l A_l: eq. 32 of the paper, eq. 30 for equal lengths. Below both
    rankings the agreement is extrapolated from the last rank. Unlike the Jaccard index it depends on the order, mostly
    on the first ranks.

    Args:
        ranking: Images under a condition, best first, without duplicates.
        reference: Those under the clean condition.
        p: Persistence in (0, 1); a smaller one gives the first ranks more weight. At 0.9 the first ten ranks make up
            86 % of the score.

    Returns:
        In [0, 1]; higher is better; 1 for equal rankings, 0 for disjoint ones; NaN if either is empty.

    Raises:
        ValueError: An image occurs twice in one ranking or p is outside (0, 1).

    Example:
        >>> round(rank_biased_overlap(["a", "b", "c"], ["a", "c", "b"], p=0.9), 4)
        0.955
    """
    if not 0 < p < 1:
        raise ValueError(f"p must lie between 0 and 1, not {p}")
    short, long = sorted((ranking, reference), key=len)
    if len(set(short)) < len(short) or len(set(long)) < len(long):
        raise ValueError("a ranking must hold each image once")
    if not short:
        return math.nan
    first, second = set(), set()
    shared = shared_short = 0
    weighted = weights = agreement = 0.0
    for depth, image in enumerate(long, start=1):
        second.add(image)
        shared += image in first
        if depth <= len(short):
            first.add(short[depth - 1])
            shared += short[depth - 1] in second
            shared_short = shared
        expected = shared_short * max(depth - len(short), 0) / len(short)
        agreement = (shared + expected) / depth
        weight = (1 - p) * p ** (depth - 1)
        weighted, weights = weighted + weight * agreement, weights + weight
    tail = p ** len(long)
    # The weights sum to 1 up to rounding; divided by their sum, equal rankings score exactly 1.
    return (weighted + tail * agreement) / (weights + tail)


class ActivationCorrelation(NamedTuple):
    """How similarly a unit ranks and scales the same images.

    Attributes:
        pearson: In [-1, 1]; NaN with a ``reason``.
        spearman: In [-1, 1]; NaN with a ``reason``.
        reason: Why a unit has no correlation; empty for an ordinary one.
    """

    pearson: Float[np.ndarray, " units"]
    spearman: Float[np.ndarray, " units"]
    reason: Shaped[np.ndarray, " units"]


def activation_correlation(
    clean: Float[np.ndarray, "images units"], perturbed: Float[np.ndarray, "images units"]
) -> ActivationCorrelation:
    """Pearson's and Spearman's correlation of each unit's activations on the same images, clean and perturbed.

    r(u) = Σ_i (a_iu − ā_u)(b_iu − b̄_u) / √(Σ_i (a_iu − ā_u)² Σ_i (b_iu − b̄_u)²); Spearman's is the same on ranks, with
    the mean rank for ties.

    Args:
        clean: Pooled activations on clean images, any range.
        perturbed: Those on the same images, perturbed, in the same order.

    Returns:
        Higher is better. Constant units (including dead ones), units with a NaN or infinite activation, and all units
        with fewer than two images have NaN and the reason.

    Raises:
        ValueError: The two differ in shape or are not two-dimensional.

    Example:
        >>> result = activation_correlation(np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [2.0], [9.0]]))
        >>> result.pearson.round(4).tolist(), result.spearman.round(4).tolist(), result.reason.tolist()
        ([0.9177], [1.0], [''])
    """
    clean, perturbed = np.asarray(clean), np.asarray(perturbed)
    if clean.shape != perturbed.shape or clean.ndim != 2:
        raise ValueError(
            f"both must be [images, units] of the same shape, not {list(clean.shape)} and {list(perturbed.shape)}"
        )
    images, units = clean.shape
    pearson, spearman = np.full(units, np.nan), np.full(units, np.nan)
    if images < 2:
        return ActivationCorrelation(pearson, spearman, np.full(units, "fewer than two images", dtype=object))
    reason = np.full(units, "", dtype=object)
    reason[_constant(perturbed)] = CONSTANT_PERTURBED
    reason[_constant(clean)] = CONSTANT
    reason[~(np.isfinite(clean).all(axis=0) & np.isfinite(perturbed).all(axis=0))] = NOT_FINITE
    usable = np.flatnonzero(reason == "")
    first, second = clean[:, usable], perturbed[:, usable]
    pearson[usable] = column_correlation(first, second)
    spearman[usable] = column_correlation(stats.rankdata(first, axis=0), stats.rankdata(second, axis=0))
    return ActivationCorrelation(pearson, spearman, reason)


def _constant(values: Float[np.ndarray, "images units"]) -> Bool[np.ndarray, " units"]:
    # Equality rather than a zero deviation: the mean of equal numbers is not always that number.
    return values.max(axis=0) == values.min(axis=0)


def varies(values: Float[np.ndarray, "images columns"]) -> Bool[np.ndarray, " columns"]:
    """Columns that are finite and not constant; there is at least one row."""
    return np.isfinite(values).all(axis=0) & ~_constant(values)


def column_correlation(
    first: Float[np.ndarray, "images units"], second: Float[np.ndarray, "images units"]
) -> Float[np.ndarray, " units"]:
    """Pearson's correlation of each column with the same column of the other; all of them vary."""
    first, second = standardised(first), standardised(second)
    return np.clip(np.einsum("iu,iu->u", first, second), -1.0, 1.0)


def standardised(values: Float[np.ndarray, "images columns"]) -> Float[np.ndarray, "images columns"]:
    """Columns at mean 0 and unit L2 norm, so that their products are Pearson correlations; none may be constant."""
    # Scaled by a power of two first, which is exact, so that tiny activations do not vanish when they are squared.
    values = values.astype(np.float64)
    values = np.ldexp(values, -np.frexp(np.abs(values).max(axis=0))[1])
    values -= values.mean(axis=0)
    return values / np.linalg.norm(values, axis=0)
