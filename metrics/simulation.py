"""Does a label predict the unit's activation, image by image? (Oikarinen & Weng, ICML 2024, arXiv 2405.06855)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from metrics.evidence import column_correlation, varies


def simulation_correlation(
    activations: Float[np.ndarray, "images units"], simulated: Float[np.ndarray, "images units"]
) -> Float[np.ndarray, " units"]:
    """Pearson's r of each unit's activations and those that its label predicts for the same images.

    The prediction is to come from images on which nothing was fitted, and from another encoder than the one that the
    label was found with: σ(a (cos + b)) for one text, Σ_c w_c σ(a (cos_c + b)) + bias for a weighted sum of concepts.

    Args:
        activations: Pooled activations, any range.
        simulated: The predictions; their scale does not matter.

    Returns:
        In [−1, 1]; higher is better, 0 is chance; NaN where either is constant, NaN or infinite.

    Raises:
        ValueError: The two differ in shape or are not two-dimensional.

    Example:
        >>> simulation_correlation(np.array([[0.0], [1.0], [2.0]]), np.array([[0.1], [0.2], [0.3]])).round(4).tolist()
        [1.0]
    """
    first, second = np.asarray(activations, dtype=np.float64), np.asarray(simulated, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(
            f"both must be [images, units] of the same shape, not {list(first.shape)} and {list(second.shape)}"
        )
    result = np.full(first.shape[1], np.nan)
    if len(first):
        usable = np.flatnonzero(varies(first) & varies(second))
        result[usable] = column_correlation(first[:, usable], second[:, usable])
    return result
