"""CoSy (Kopf et al., NeurIPS 2024): do images of a label activate its unit more than control images?

AUC and MAD are each blind to one kind of wrong label (AUC to one that is too broad, MAD to one that is too narrow;
Neuron_Eval, ICML 2025): report both, never one alone. DMA and activation rate are two further measures of the same
activations.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def cosy_auc(
    control: Float[np.ndarray, "units controls"], synthetic: Float[np.ndarray, "units synthetics"]
) -> Float[np.ndarray, " units"]:
    """AUC = P(a₁ > a₀) + P(a₁ = a₀)/2 for a synthetic activation a₁ and a control activation a₀ of the same unit.

    This is the area under the ROC curve of "synthetic or control?" by activation, 1 − U/(n₀·n₁) with Mann and Whitney's
    U of the control sample. Higher is better; 0.5 is chance.

    Args:
        control: Activations on control images, any range.
        synthetic: Activations on images generated from the unit's label.

    Returns:
        In [0, 1]; NaN for a unit with a NaN or infinite activation.

    Raises:
        ValueError: The two do not have the same units, or have no image.

    Example:
        >>> cosy_auc(np.array([[0.0, 1.0]]), np.array([[1.0, 2.0]])).tolist()
        [0.875]
    """
    control, synthetic = _checked(control, synthetic)
    result = np.full(len(control), np.nan)
    for unit in np.flatnonzero(_finite(control) & _finite(synthetic)):
        ordered = np.sort(control[unit])
        below = np.searchsorted(ordered, synthetic[unit], side="left")
        below_or_equal = np.searchsorted(ordered, synthetic[unit], side="right")
        result[unit] = (below + below_or_equal).sum() / (2 * control.shape[1] * synthetic.shape[1])
    return result


def cosy_mad(
    control: Float[np.ndarray, "units controls"], synthetic: Float[np.ndarray, "units synthetics"]
) -> Float[np.ndarray, " units"]:
    """MAD = (mean a₁ − mean a₀) / std a₀: mean activation difference in standard deviations of the control images.

    The standard deviation is the unbiased one (n₀ − 1). Higher is better; 0 is chance.

    Args:
        control: Activations on control images, any range.
        synthetic: Activations on images generated from the unit's label.

    Returns:
        Any real number; 0 if the control activations are all equal; NaN for a unit with a NaN or infinite activation,
        and with one control image, which has no standard deviation.

    Raises:
        ValueError: The two do not have the same units, or have no image.

    Example:
        >>> cosy_mad(np.array([[0.0, 1.0, 2.0]]), np.array([[2.0, 4.0]])).tolist()
        [2.0]
    """
    control, synthetic = _checked(control, synthetic)
    result = np.full(len(control), np.nan)
    if control.shape[1] < 2:
        return result
    valid = _finite(control) & _finite(synthetic)
    # Equality rather than a zero deviation: the mean of equal numbers is not always that number.
    constant = control.max(axis=1) == control.min(axis=1)
    result[valid & constant] = 0.0
    rest = valid & ~constant
    difference = synthetic[rest].mean(axis=1) - control[rest].mean(axis=1)
    result[rest] = difference / control[rest].std(axis=1, ddof=1)
    return result


def dma(
    control: Float[np.ndarray, "units controls"], synthetic: Float[np.ndarray, "units synthetics"]
) -> Float[np.ndarray, " units"]:
    """DMA = mean a₁ / max a₀: mean activation on synthetic images, in units of the largest control activation.

    As in the code released with CSP (Bouanani et al., arXiv 2604.22477). One outlier among the control images makes it
    small.

    Args:
        control: Activations on control images, any range.
        synthetic: Activations on images generated from the unit's label.

    Returns:
        Any real number; higher is better, 1 if synthetic images activate the unit like the control image that does so
        most. NaN for a unit that no control image activates above 0, and with a NaN or infinite activation.

    Raises:
        ValueError: The two do not have the same units, or have no image.

    Example:
        >>> dma(np.array([[0.0, 4.0], [-2.0, -1.0]]), np.array([[1.0, 3.0], [1.0, 3.0]])).tolist()
        [0.5, nan]
    """
    control, synthetic = _checked(control, synthetic)
    result = np.full(len(control), np.nan)
    largest = control.max(axis=1)
    usable = _finite(control) & _finite(synthetic) & (largest > 0)
    result[usable] = synthetic[usable].mean(axis=1) / largest[usable]
    return result


def activation_rate(
    control: Float[np.ndarray, "units controls"],
    synthetic: Float[np.ndarray, "units synthetics"],
    *,
    share: float = 0.01,
) -> Float[np.ndarray, " units"]:
    """Share of synthetic images above the threshold that about ``share`` of the control images exceed.

    The threshold is the (k + 1)-th largest control activation, k = share · n₀ (rounded, at least 1), as in
    ``metrics.faithfulness.active_images``. A unit that fewer control images activate than that has its floor as
    threshold, so that any response counts. After SIEVE (Ji et al., CVPR 2026, arXiv 2603.24953), released without code.

    Args:
        control: Activations on control images, any range.
        synthetic: Activations on images generated from the unit's label.
        share: In (0, 1).

    Returns:
        In [0, 1], in steps of 1 / n₁; higher is better, ``share`` is chance. NaN for a unit that is constant on the
        control images or has a NaN or infinite activation.

    Raises:
        ValueError: The share is outside (0, 1), or the two do not have the same units, or have no image.

    Example:
        >>> activation_rate(np.array([[0.0, 1.0, 2.0, 9.0]]), np.array([[2.0, 2.5, 1.0, 9.0]]), share=0.25).tolist()
        [0.5]
    """
    control, synthetic = _checked(control, synthetic)
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, not {share}")
    result = np.full(len(control), np.nan)
    images = control.shape[1]
    usable = _finite(control) & _finite(synthetic) & (control.max(axis=1) > control.min(axis=1))
    if usable.any():
        place = images - 1 - min(max(1, round(share * images)), images - 1)
        threshold = np.partition(control[usable], place, axis=1)[:, place, None]
        result[usable] = (synthetic[usable] > threshold).mean(axis=1)
    return result


def _checked(control: np.ndarray, synthetic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    control, synthetic = np.asarray(control, dtype=np.float64), np.asarray(synthetic, dtype=np.float64)
    if control.ndim != 2 or synthetic.ndim != 2 or len(control) != len(synthetic):
        raise ValueError(
            "control and synthetic must be [units, images] with the same units, "
            f"not {list(control.shape)} and {list(synthetic.shape)}"
        )
    if control.shape[1] == 0 or synthetic.shape[1] == 0:
        raise ValueError("control and synthetic need at least one image each")
    return control, synthetic


def _finite(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.isfinite(values).all(axis=1))
