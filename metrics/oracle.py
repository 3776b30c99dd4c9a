"""What a unit detects best, by exhaustive search over annotated concepts: a reference label for hidden units."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats


class BestConcept(NamedTuple):
    """The concept whose presence each unit's activation predicts best.

    Attributes:
        concept: Index of the concept; ties go to the lowest index; -1 if no concept qualifies.
        auroc: Its AUROC in [0, 1]; NaN if no concept qualifies.
    """

    concept: Int[np.ndarray, " units"]
    auroc: Float[np.ndarray, " units"]


def auroc_matrix(
    activations: Float[np.ndarray, "images units"], presence: Bool[np.ndarray, "images concepts"]
) -> Float[np.ndarray, "units concepts"]:
    """AUROC(u, c) = P(a_u(x⁺) > a_u(x⁻)) + ½ P(a_u(x⁺) = a_u(x⁻)) over images with and without concept c.

    Args:
        activations: Finite pooled activations.
        presence: Whether an image shows a concept.

    Returns:
        In [0, 1]; 0.5 is chance; NaN for a concept that all images show, or none.

    Raises:
        ValueError: The numbers of images differ.

    Example:
        >>> auroc_matrix(np.array([[1.0], [2.0], [3.0]]), np.array([[False], [False], [True]])).tolist()
        [[1.0]]
    """
    if len(activations) != len(presence):
        raise ValueError(f"{len(activations)} rows of activations, but {len(presence)} images are annotated")
    ranks = stats.rankdata(activations, axis=0)
    positives = presence.sum(axis=0).astype(np.float64)
    negatives = len(presence) - positives
    wins = ranks.T @ presence.astype(np.float64) - positives * (positives + 1) / 2
    pairs = positives * negatives
    return np.where(pairs > 0, wins / np.where(pairs > 0, pairs, 1), np.nan)


def best_concept(
    activations: Float[np.ndarray, "images units"],
    presence: Bool[np.ndarray, "images concepts"],
    *,
    least_images: int = 10,
) -> BestConcept:
    """The concept with the highest AUROC for each unit.

    Args:
        activations: Finite pooled activations on clean images.
        presence: Whether an image shows a concept.
        least_images: A concept must be present on at least this many images, and absent from as many.
    """
    scores = auroc_matrix(activations, presence)
    shown = presence.sum(axis=0)
    scores[:, (shown < least_images) | (len(presence) - shown < least_images)] = np.nan
    if scores.shape[1] == 0 or bool(np.isnan(scores).all()):
        return BestConcept(np.full(len(scores), -1), np.full(len(scores), np.nan))
    best = np.nanargmax(scores, axis=1)
    return BestConcept(best, scores[np.arange(len(scores)), best])
