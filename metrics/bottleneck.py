"""A concept bottleneck under perturbation: which concepts drift, which decisions flip, and because of which concepts.

A bottleneck decides linearly on concept activations a: the logit of class k is Σ_c w_kc · a_c + b_k. The contribution
of one concept to a decision is therefore exact, and the change of the margin of two classes is a sum over concepts:

    Δ(logit_new − logit_old) = Σ_c (w_new,c − w_old,c) · Δa_c
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import linalg, stats

from metrics.sensitivity import auroc
from metrics.statistics import Interval

SHRINKAGE: Final = 0.1
"""Share of the covariance that is replaced by its mean variance, so that nearly identical concepts do no harm."""

_AT_ONCE: Final = 512


class Drift(NamedTuple):
    """How concepts move under one condition; NaN for a concept that is constant on all images.

    Attributes:
        shift: Mean change of the activation, in standard deviations over the clean images.
        auroc: In [0, 1]: P(changed > clean) + P(equal)/2 over all pairs of images; 0.5 without any change.
    """

    shift: Float[np.ndarray, " concepts"]
    auroc: Float[np.ndarray, " concepts"]


def concept_drift(clean: Float[np.ndarray, "images concepts"], changed: Float[np.ndarray, "images concepts"]) -> Drift:
    """How much each concept's activation changes.

    Args:
        clean: Finite activations, any range.
        changed: Activations on the same images, perturbed, in the same order.

    Raises:
        ValueError: The two differ in shape, or have fewer than two images.

    Example:
        >>> drift = concept_drift(np.array([[0.0], [1.0], [2.0]]), np.array([[1.0], [2.0], [3.0]]))
        >>> float(drift.shift[0]), round(float(drift.auroc[0]), 4)
        (1.0, 0.7778)
    """
    if clean.shape != changed.shape or clean.ndim != 2 or len(clean) < 2:
        raise ValueError(
            "both must be [images, concepts] of the same shape, with at least two images, "
            f"not {list(clean.shape)} and {list(changed.shape)}"
        )
    clean, changed = clean.astype(np.float64), changed.astype(np.float64)
    constant = np.minimum(clean.min(axis=0), changed.min(axis=0)) == np.maximum(clean.max(axis=0), changed.max(axis=0))
    spread = clean.std(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = (changed - clean).mean(axis=0) / spread
    return Drift(np.where(spread > 0, shift, np.nan), np.where(constant, np.nan, auroc(clean, changed)))


def flip_contributions(
    weights: Float[np.ndarray, "classes concepts"],
    before: Float[np.ndarray, "flips concepts"],
    after: Float[np.ndarray, "flips concepts"],
    old: Int[np.ndarray, " flips"],
    new: Int[np.ndarray, " flips"],
) -> Float[np.ndarray, "flips concepts"]:
    """The contribution of each concept to a decision's change from one class to another.

    Args:
        before: Activations on the clean images, as the final layer reads them.
        after: Activations on the perturbed images.
        old: The predicted class before.
        new: The predicted class after.

    Returns:
        In logits: (w_new − w_old) · (after − before). A row's sum is the increase of the margin of new over old, which
        is positive for every decision that flipped.

    Example:
        >>> weights = np.array([[1.0, 0.0], [0.0, 2.0]])
        >>> flip_contributions(weights, np.array([[1.0, 0.0]]), np.array([[0.5, 1.0]]), np.array([0]), np.array([1]))
        array([[0.5, 2. ]])
    """
    return (weights[new] - weights[old]) * (after - before)


class Usual(NamedTuple):
    """The distribution of concept activations on training images, to score how unusual those of another image are.

    Attributes:
        centre: Mean activation.
        spread: Standard deviation; 1 for a constant concept.
        whitener: W with W Wᵀ = S⁻¹, S the shrunk covariance of the standardised activations.
        training: The standardised training activations themselves.
    """

    centre: Float[np.ndarray, " concepts"]
    spread: Float[np.ndarray, " concepts"]
    whitener: Float[np.ndarray, "concepts concepts"]
    training: Float[np.ndarray, "images concepts"]

    def mahalanobis(self, activations: Float[np.ndarray, "others concepts"]) -> Float[np.ndarray, " others"]:
        """Distance √((x − μ)ᵀ S⁻¹ (x − μ)) from the centre; at least 0 (Lee et al., NeurIPS 2018, with one class)."""
        return np.linalg.norm(self._standardised(activations) @ self.whitener, axis=1)

    def largest_z(self, activations: Float[np.ndarray, "others concepts"]) -> Float[np.ndarray, " others"]:
        """How many standard deviations the most unusual concept is off; at least 0."""
        return np.abs(self._standardised(activations)).max(axis=1)

    def nearest(self, activations: Float[np.ndarray, "others concepts"]) -> Float[np.ndarray, " others"]:
        """Distance to the most similar training image; at least 0 (Sun et al., ICML 2022, with k = 1).

        Unlike the other two it notices a hole: if one of several concepts is always present, the absence of all is
        unusual.
        """
        own = (self.training**2).sum(axis=1)
        found = []
        for part in np.array_split(self._standardised(activations), max(1, len(activations) // _AT_ONCE)):
            squares = (part**2).sum(axis=1) + (own - 2 * part @ self.training.T).min(axis=1)
            found.append(np.sqrt(np.maximum(squares, 0)))
        return np.concatenate(found)

    def _standardised(self, activations: np.ndarray) -> np.ndarray:
        return (activations.astype(np.float64) - self.centre) / self.spread


def usual(training: Float[np.ndarray, "images concepts"], *, shrinkage: float = SHRINKAGE) -> Usual:
    """Estimate the distribution of the activations.

    Args:
        training: Finite activations of at least two images and one concept.
        shrinkage: In [0, 1]: share of the covariance replaced by its mean variance.

    Raises:
        ValueError: Fewer images or no concept.
    """
    if training.ndim != 2 or len(training) < 2 or not training.shape[1]:
        raise ValueError(f"at least two images and one concept are needed, not {list(training.shape)}")
    training = training.astype(np.float64)
    centre, spread = training.mean(axis=0), training.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    standard = (training - centre) / spread
    covariance = standard.T @ standard / len(standard)
    level = float(np.trace(covariance)) / len(covariance) or 1.0
    covariance = (1 - shrinkage) * covariance + shrinkage * level * np.eye(len(covariance))
    lower = linalg.cholesky(covariance, lower=True)
    return Usual(centre, spread, linalg.solve_triangular(lower, np.eye(len(lower)), lower=True).T, standard)


def auroc_with_interval(
    negatives: Float[np.ndarray, " images"],
    positives: Float[np.ndarray, " others"],
    *,
    paired: bool = False,
    confidence: float = 0.95,
) -> Interval:
    """AUROC of scores with its interval after DeLong, DeLong and Clarke-Pearson (Biometrics 44, 1988).

    The interval is computed on the logit scale, on which it stays inside (0, 1); with an AUROC of 0 or 1 it is a point,
    because no placement varies.

    Args:
        negatives: Scores of ordinary images.
        positives: Scores of the images to be distinguished from them.
        paired: Both are of the same scenes, in the same order: a scene's two placements then vary together.
        confidence: In (0, 1).

    Returns:
        ``n`` counts both kinds of images, or their pairs.

    Raises:
        ValueError: Fewer than two images of a kind, or pairs of unequal numbers.

    Example:
        >>> auroc_with_interval(np.array([0.0, 1.0]), np.array([1.0, 2.0])).estimate
        0.875
    """
    if min(len(negatives), len(positives)) < 2 or (paired and len(negatives) != len(positives)):
        raise ValueError(
            f"two images of each kind are needed, of pairs as many, not {len(negatives)} and {len(positives)}"
        )
    ours, theirs = _shares_below(negatives, positives), 1 - _shares_below(positives, negatives)
    area = float(ours.mean())
    if paired:
        n = len(ours)
        variance = float((ours + theirs).var(ddof=1)) / n
    else:
        n = len(ours) + len(theirs)
        variance = float(ours.var(ddof=1)) / len(ours) + float(theirs.var(ddof=1)) / len(theirs)
    if not 0 < area < 1 or variance == 0:
        return Interval(area, area, area, n, "no placement varies")
    reach = float(stats.norm.ppf((1 + confidence) / 2)) * math.sqrt(variance) / (area * (1 - area))
    middle = math.log(area / (1 - area))
    low, high = (1 / (1 + math.exp(-(middle + sign * reach))) for sign in (-1, 1))
    return Interval(area, low, high, n, "")


def _shares_below(others: np.ndarray, values: np.ndarray) -> np.ndarray:
    """For each value the share of others below it, ties counted half."""
    ordered = np.sort(others)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / (2 * len(ordered))


def weights_per_class(
    weights: Float[np.ndarray, "classes concepts"], smallest: float = 1e-5
) -> tuple[Int[np.ndarray, " classes"], Bool[np.ndarray, "classes concepts"]]:
    """How many weights of each class are not zero, i.e. larger than ``smallest`` in magnitude, and which.

    Example:
        >>> weights_per_class(np.array([[0.5, 0.0], [1e-6, -2.0]]))[0].tolist()
        [1, 1]
    """
    used = np.abs(weights) > smallest
    return used.sum(axis=1), used


def strongest(values: Float[np.ndarray, " concepts"], count: int) -> Sequence[int]:
    """The indices of the values that are largest in magnitude, largest first; ties by index.

    Example:
        >>> strongest(np.array([0.1, -3.0, 2.0]), 2)
        [1, 2]
    """
    return np.argsort(-np.abs(values), kind="stable")[:count].tolist()
