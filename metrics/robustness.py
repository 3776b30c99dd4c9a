"""How much of its accuracy a classifier keeps on perturbed images, and how its errors compare with another one's."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from metrics.statistics import Interval, bootstrap_weights, percentile_interval


def error_ratio(
    errors: Float[np.ndarray, "images conditions"],
    reference: Float[np.ndarray, "images conditions"],
    *,
    confidence: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Interval:
    """Errors relative to a reference's, as mCE: mean over conditions of Σ_image error / Σ_image reference error.

    After the mean corruption error of Hendrycks and Dietterich (ICLR 2019), with the percentile interval of a bootstrap
    over images; an image's errors under all conditions and of both classifiers are resampled together.

    Args:
        errors: Errors of one classifier; one row per image.
        reference: Errors of the other, on the same images.
        confidence: In (0, 1).
        resamples: Bootstrap samples of the images.
        seed: Seed of a generator used here only.

    Returns:
        A ratio, at least 0; below 1 the classifier errs less than the reference. NaN, with the reason, if the reference
        makes no error under some condition.

    Raises:
        ValueError: The shapes differ, a value is negative or not finite, or there is no condition.

    Example:
        >>> error_ratio(np.array([[0.1], [0.1], [0.1]]), np.array([[0.2], [0.2], [0.2]]))[:3]
        (0.5, 0.5, 0.5)
    """
    if errors.shape != reference.shape or errors.ndim != 2 or not errors.shape[1]:
        raise ValueError(f"two tables of images and conditions are compared, not {errors.shape} and {reference.shape}")
    for values in (errors, reference):
        if not (np.isfinite(values) & (values >= 0)).all():
            raise ValueError("an error is finite and not negative")
    images = len(errors)
    if (reference.sum(axis=0) == 0).any():
        return Interval(math.nan, math.nan, math.nan, images, "the reference makes no error under some condition")
    estimate = float((errors.sum(axis=0) / reference.sum(axis=0)).mean())
    if images < 3:
        return Interval(estimate, math.nan, math.nan, images, "fewer than three values")
    drawn = bootstrap_weights(images, resamples, np.random.default_rng(seed))
    below = drawn @ reference
    # A resample without any error of the reference has no ratio; it is excluded.
    whole = (below > 0).all(axis=1)
    ratios = ((drawn @ errors)[whole] / below[whole]).mean(axis=1)
    return percentile_interval(estimate, ratios, images, confidence)


class AccuracyKept(NamedTuple):
    """The share of its clean accuracy that a classifier keeps.

    Attributes:
        conditions: One interval per condition.
    """

    conditions: tuple[Interval, ...]
    mean: Interval


def shares_kept(
    right: Float[np.ndarray, "images conditions"],
    clean: Bool[np.ndarray, " images"],
    weights: Float[np.ndarray, "samples images"],
) -> Float[np.ndarray, "samples conditions"]:
    """Accuracy under each condition divided by the accuracy on the same images, clean.

    Args:
        right: 1 if the image is classified correctly under the condition, 0 if not, NaN if the condition does not apply
            to the image.
        clean: Whether it is classified correctly when clean.
        weights: How often each bootstrap sample contains each image; ones for the data themselves.

    Returns:
        Shares, at least 0; NaN if a sample contains no image that is right when clean.

    Example:
        >>> shares_kept(np.array([[1.0], [0.0], [np.nan]]), np.array([True, True, True]), np.ones((1, 3)))
        array([[0.5]])
    """
    present = ~np.isnan(right)
    kept, before = weights @ np.where(present, right, 0.0), weights @ (present & clean[:, None])
    return np.divide(kept, before, out=np.full(kept.shape, np.nan), where=before > 0)


def accuracy_kept(
    right: Float[np.ndarray, "images conditions"],
    clean: Bool[np.ndarray, " images"],
    *,
    confidence: float = 0.95,
    resamples: int = 4_999,
    seed: int = 0,
) -> AccuracyKept:
    """``shares_kept`` with percentile bootstrap intervals over images; an image's verdicts are resampled together.

    It is 1 - the relative drop in accuracy. Unlike the mean corruption error of Hendrycks and Dietterich (ICLR 2019) it
    needs no reference network.

    Args:
        right: As in ``shares_kept``.
        clean: As in ``shares_kept``.
        confidence: In (0, 1).
        resamples: Bootstrap samples of the images.
        seed: Seed of a generator used here only.

    Returns:
        NaN, with the reason, if no image of a condition is right when clean; the mean is then NaN as well.

    Raises:
        ValueError: The shapes differ or there is no condition.
    """
    if right.ndim != 2 or right.shape[0] != len(clean) or not right.shape[1]:
        raise ValueError(f"verdicts of shape {right.shape} and {clean.shape} are not of the same images")
    images = len(clean)
    estimates = shares_kept(right, clean, np.ones((1, images)))[0]
    drawn = shares_kept(right, clean, bootstrap_weights(images, resamples, np.random.default_rng(seed)))
    counts = (~np.isnan(right)).sum(axis=0)
    each = [
        percentile_interval(float(estimate), column, int(count), confidence)
        for estimate, column, count in zip(estimates, drawn.T, counts, strict=True)
    ]
    mean = percentile_interval(float(estimates.mean()), drawn.mean(axis=1), images, confidence)
    nothing = "no image is right when clean"
    named = [found._replace(reason=nothing) if math.isnan(found.estimate) else found for found in (*each, mean)]
    return AccuracyKept(tuple(named[:-1]), named[-1])
