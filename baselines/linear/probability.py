"""From a CLIP model's cosines to the probability that an image shows a concept."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit

_STEPS, _ENOUGH = 100, 1e-9


def probability(cosines: Float[np.ndarray, "*shape"], scale: float, shift: float) -> Float[np.ndarray, "*shape"]:
    """The logistic function of scale · (cosine + shift)."""
    return expit(scale * (np.asarray(cosines) + shift))


def calibrate(
    cosines: Float[np.ndarray, "images concepts"], presence: Bool[np.ndarray, "images concepts"]
) -> tuple[float, float]:
    """The scale and shift of least cross-entropy: a logistic regression with one slope for all concepts.

    To be measured once, on unperturbed images: measured under fog, the scale falls until no image shows anything.

    Args:
        cosines: Of each image with each concept.
        presence: Whether the image shows it.
    """
    x, y = np.asarray(cosines, np.float64).ravel(), np.asarray(presence, np.float64).ravel()
    middle, spread = x.mean(), max(x.std(), 1e-12)
    inputs = np.stack([(x - middle) / spread, np.ones_like(x)])
    weights = np.zeros(2)
    for _ in range(_STEPS):
        chance = expit(weights @ inputs)
        slope = inputs @ (chance - y)
        curvature = (inputs * np.maximum(chance * (1 - chance), 1e-12)) @ inputs.T
        step = np.linalg.solve(curvature, slope)
        weights -= step
        if np.abs(step).max() < _ENOUGH:
            break
    scale = weights[0] / spread
    return float(scale), float(weights[1] / scale - middle)
