"""How much more a classifier errs on perturbed images than another one does."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from metrics.statistics import Interval


def error_ratio(
    errors: Float[np.ndarray, "images conditions"],
    reference: Float[np.ndarray, "images conditions"],
    *,
    confidence: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Interval:
    """Errors against a reference's, as mCE: mean over conditions of Σ_image error / Σ_image reference error.

    After the mean corruption error of Hendrycks and Dietterich (ICLR 2019). Its interval is the percentile interval of
    a bootstrap over images; all conditions and both classifiers keep an image together.

    Args:
        errors: Of one classifier; one row an image.
        reference: Of the other, on the same images.
        confidence: In (0, 1).
        resamples: Bootstrap samples of the images.
        seed: Seed of a generator used here only.

    Returns:
        As a ratio, at least 0; below 1 the classifier errs less than the reference. NaN, with the reason, where the
        reference makes no error under some condition.

    Raises:
        ValueError: If the shapes differ, for a value that is negative or not finite, or without conditions.

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
    drawn = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=resamples)
    below = drawn @ reference
    # A sample without any error of the reference has no ratio; it is left out.
    whole = (below > 0).all(axis=1)
    ratios = ((drawn @ errors)[whole] / below[whole]).mean(axis=1)
    low, high = np.quantile(ratios, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(estimate, float(low), float(high), images, "")
