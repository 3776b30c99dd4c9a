"""A detector of degraded images from a layer's most sensitive units, and its performance on unseen perturbations.

Units are selected and the detector is fitted on training images only; an image's clean and perturbed versions are
always in the same fold. With ``numbers`` the fold of each image:

    found = [training_aurocs(clean, blurred, numbers) for blurred in training]  # each [folds, units]
    units = best_units(np.stack([fold[0] for fold in found]), 16)               # of fold 0
    detector = fit(clean[numbers != 0][:, units], [blurred[numbers != 0][:, units] for blurred in training])
    scores = detector(unseen[numbers == 0][:, units])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import solve

from metrics.sensitivity import auroc
from metrics.statistics import Interval, bootstrap_interval

FOLDS: Final = 5

SHRINKAGE: Final = 0.1
"""Share of the covariance that is replaced by its mean variance, so that units that are copies of one another, and
fewer images than units, do no harm (Friedman, JASA 84, 1989)."""

RESAMPLES: Final = 999


class Detector(NamedTuple):
    """A linear detector; call it on activations.

    Attributes:
        centre: Mean activation on the clean training images.
        weights: Weight of each unit's distance from it in the score.
    """

    centre: Float[np.ndarray, " units"]
    weights: Float[np.ndarray, " units"]

    def __call__(self, activations: Float[np.ndarray, "images units"]) -> Float[np.ndarray, " images"]:
        """Scores; higher is more degraded.

        On clean training images their mean is 0 and their standard deviation 1, so that scores of several folds are
        comparable.
        """
        return (activations - self.centre) @ self.weights


def fold_numbers(images: int, folds: int = FOLDS, seed: int = 0) -> Int[np.ndarray, " images"]:
    """The fold in which each image is tested, drawn at random; sizes differ by at most one.

    Raises:
        ValueError: Fewer than two folds, or fewer than two training images.

    Example:
        >>> np.bincount(fold_numbers(7, 3)).tolist()
        [3, 2, 2]
    """
    if folds < 2 or images < 2 * folds:
        raise ValueError(f"{images} images do not make {folds} folds: at least two folds of two images are needed")
    return np.random.default_rng(seed).permutation(np.arange(images) % folds)


def training_aurocs(
    clean: Float[np.ndarray, "images units"],
    perturbed: Float[np.ndarray, "images units"],
    numbers: Int[np.ndarray, " images"],
) -> Float[np.ndarray, "folds units"]:
    """Each unit's AUROC between clean and perturbed images, excluding those of the fold.

    Returns:
        In [0, 1]; 0.5 for a unit that is constant; NaN for one with a NaN or infinite activation on any image.
    """
    usable = np.isfinite(clean).all(axis=0) & np.isfinite(perturbed).all(axis=0)
    training = [numbers != fold for fold in range(int(numbers.max()) + 1)]
    return np.stack([np.where(usable, auroc(clean[train], perturbed[train]), np.nan) for train in training])


def best_units(aurocs: Float[np.ndarray, "conditions units"], count: int) -> Int[np.ndarray, " count"]:
    """The units whose mean AUROC over the conditions is farthest from 0.5, best first; ties by number.

    The mean is taken first, so that a unit that rises under one perturbation and falls under another is not selected.

    Returns:
        Fewer units if not enough have an AUROC.

    Example:
        >>> best_units(np.array([[0.6, 0.1, 0.9], [0.6, 0.1, 0.1]]), 2).tolist()
        [1, 0]
    """
    strength = np.abs(aurocs.mean(axis=0) - 0.5)
    order = np.argsort(-strength, kind="stable")
    return order[: min(count, int((~np.isnan(strength)).sum()))]


def fit(
    clean: Float[np.ndarray, "images units"],
    perturbed: Sequence[Float[np.ndarray, "images units"]],
    *,
    shrinkage: float = SHRINKAGE,
) -> Detector:
    """Fisher's linear discriminant of clean against perturbed images, with a shrunk covariance.

    Of standardised activations (by the clean images), w ∝ S⁻¹ (m₁ − m₀), with S the mean of the two classes'
    covariances, shrunk to (1 − s) S + s · tr(S)/k · I. A closed form: unlike logistic regression it has a solution even
    if the classes are perfectly separable.

    Args:
        clean: Finite activations on clean training images.
        perturbed: Those on the same or other images, one array per training condition; all images have equal weight.
        shrinkage: In (0, 1].

    Raises:
        ValueError: No unit or no training condition.
    """
    if not perturbed or not clean.shape[1]:
        raise ValueError("a detector needs at least one unit and one perturbed condition")
    centre = clean.mean(axis=0, dtype=np.float64)
    spread = clean.std(axis=0, dtype=np.float64)
    # A unit that is constant on clean images is not rescaled.
    spread = np.where(spread > 0, spread, 1.0)
    before = (clean - centre) / spread
    after = (np.concatenate(perturbed) - centre) / spread
    covariance = (_covariance(before) + _covariance(after)) / 2
    level = float(np.trace(covariance)) / len(covariance)
    covariance = (1 - shrinkage) * covariance + shrinkage * (level or 1.0) * np.eye(len(covariance))
    weights = solve(covariance, after.mean(axis=0), assume_a="pos")
    scale = float((before @ weights).std())
    return Detector(centre, weights / spread / (scale or 1.0))


def auroc_interval(
    clean: Float[np.ndarray, " images"], perturbed: Sequence[Float[np.ndarray, " images"]], *, seed: int = 0
) -> Interval:
    """AUROC of scores, averaged over conditions, with its 95 % bootstrap interval over images.

    All versions of an image are resampled together. Resampling uses the placements h_i = P(c < p_i) + P(p > c_i) −
    AUROC of the images (DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988), whose mean is the AUROC, so that no
    resample needs ranking. The detector is not refitted: the randomness of its training is not in the interval.

    Args:
        clean: Scores of clean images.
        perturbed: Scores of the same images under one or several conditions.
    """
    found = [_placements(clean, scores) for scores in perturbed]
    interval = bootstrap_interval(np.mean(found, axis=0), resamples=RESAMPLES, seed=seed)
    return interval._replace(low=max(interval.low, 0.0), high=min(interval.high, 1.0))


def _placements(clean: Float[np.ndarray, " images"], perturbed: Float[np.ndarray, " images"]) -> np.ndarray:
    own, other = np.sort(clean), np.sort(perturbed)
    below = np.searchsorted(own, perturbed, "left") + np.searchsorted(own, perturbed, "right")
    under = np.searchsorted(other, clean, "left") + np.searchsorted(other, clean, "right")
    placements = below / (2 * len(own)) + 1 - under / (2 * len(other))
    return placements - placements.mean() / 2


def _covariance(values: Float[np.ndarray, "images units"]) -> Float[np.ndarray, "units units"]:
    centred = values - values.mean(axis=0)
    return centred.T @ centred / len(centred)
