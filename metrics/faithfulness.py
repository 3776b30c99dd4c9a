"""Does a unit respond where its label says? Activations against the label's presence, image by image.

The five metrics that pass both sanity checks of Neuron_Eval (Oikarinen, Yan & Weng, ICML 2025): F1, IoU, correlation,
cosine and AUPRC. A label's score is the entry of its unit and its concept.

Presence is 0 or 1, or a soft score in between (an annotator's or a model's). F1, IoU and AUPRC compare it with the
images on which the unit is active (``active_images``); in all three the unit is the target that the label has to
predict, as in Neuron_Eval, where AUPRC the other way round ("inverse") fails a check.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy import stats

from metrics.evidence import standardised, varies

ACTIVE_SHARE: Final = 0.05
"""Share of images on which a unit counts as active."""


class Faithfulness(NamedTuple):
    """The five metrics; for each, higher is better.

    Attributes:
        f1: In [0, 1].
        iou: In [0, 1].
        correlation: In [-1, 1]; 0 is chance.
        cosine: In [-1, 1]; in [0, 1] for activations that are not negative.
        auprc: In [0, 1]; chance level is the share of active images.
    """

    f1: Float[np.ndarray, "units concepts"]
    iou: Float[np.ndarray, "units concepts"]
    correlation: Float[np.ndarray, "units concepts"]
    cosine: Float[np.ndarray, "units concepts"]
    auprc: Float[np.ndarray, "units concepts"]


def faithfulness(
    activations: Float[np.ndarray, "images units"],
    presence: Float[np.ndarray, "images concepts"],
    *,
    share: float = ACTIVE_SHARE,
) -> Faithfulness:
    """All five metrics of each unit and each concept.

    Args:
        activations: Pooled activations, any range.
        presence: How strongly an image shows a concept, in [0, 1].
        share: Share of images on which a unit counts as active, for F1, IoU and AUPRC.

    Returns:
        NaN where a metric says so; all five for units that are constant or have a NaN or infinite activation.

    Raises:
        ValueError: As raised by the single metrics and ``active_images``.

    Example:
        >>> score = faithfulness(np.array([[9.0], [1.0], [0.0], [0.0]]), np.array([[1], [1], [0], [0]]), share=0.25)
        >>> [round(float(matrix[0, 0]), 4) for matrix in score]
        [0.6667, 0.5, 0.6623, 0.7809, 0.5]
    """
    active = active_images(activations, share=share)
    result = Faithfulness(
        f1=f1(active, presence),
        iou=iou(active, presence),
        correlation=correlation(activations, presence),
        cosine=cosine(activations, presence),
        auprc=auprc(active, presence),
    )
    # A constant unit does have a cosine, but it responds to nothing.
    result.cosine[~active.any(axis=0)] = np.nan
    return result


def active_images(
    activations: Float[np.ndarray, "images units"], *, share: float = ACTIVE_SHARE
) -> Bool[np.ndarray, "images units"]:
    """The images on which a unit is active: those above its (k + 1)-th highest activation, with k = share · images.

    At most k images (k is rounded, at least 1), and images of equal activation are never split: ties at the boundary
    are all excluded, so that a sparse unit is not active where it is 0. If that leaves none, because more than k images
    share the highest activation, these are the active ones. The threshold ignores the labels, so that it favours none.

    Args:
        activations: Pooled activations, any range.
        share: In (0, 1).

    Returns:
        No image at all for a unit that is constant or has a NaN or infinite activation.

    Raises:
        ValueError: The share is outside (0, 1) or the activations are not two-dimensional.

    Example:
        >>> active_images(np.array([[3.0, 1.0], [2.0, 1.0], [2.0, 0.0], [0.0, 0.0]]), share=0.25).T.astype(int).tolist()
        [[1, 0, 0, 0], [1, 1, 0, 0]]
    """
    activations = np.asarray(activations)
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, not {share}")
    if activations.ndim != 2:
        raise ValueError(f"activations must be [images, units], not {list(activations.shape)}")
    images = len(activations)
    if images < 2:
        return np.zeros(activations.shape, dtype=bool)
    highest = min(max(1, round(share * images)), images - 1)
    boundary = np.partition(activations, images - 1 - highest, axis=0)[images - 1 - highest]
    peak = activations.max(axis=0)
    active = np.where(peak > boundary, activations > boundary, activations == peak)
    usable = np.isfinite(activations).all(axis=0) & (peak > activations.min(axis=0))
    return active & usable


def f1(
    active: Bool[np.ndarray, "images units"], presence: Float[np.ndarray, "images concepts"]
) -> Float[np.ndarray, "units concepts"]:
    """F1(u, c) = 2 Σ_i a_iu c_ic / (Σ_i a_iu + Σ_i c_ic): harmonic mean of precision and recall.

    Args:
        active: Where a unit is active (``active_images``).
        presence: How strongly an image shows a concept, in [0, 1].

    Returns:
        In [0, 1]; NaN for a unit that is never active.

    Raises:
        ValueError: The numbers of images differ or a presence is outside [0, 1].

    Example:
        >>> f1(np.array([[True], [False]]), np.array([[1.0], [1.0]])).round(4).tolist()
        [[0.6667]]
    """
    both, actives, presences = _overlap(active, presence)
    return _ratio(2 * both, actives + presences, actives)


def iou(
    active: Bool[np.ndarray, "images units"], presence: Float[np.ndarray, "images concepts"]
) -> Float[np.ndarray, "units concepts"]:
    """IoU(u, c) = Σ_i a_iu c_ic / (Σ_i a_iu + Σ_i c_ic − Σ_i a_iu c_ic), over images (not pixels).

    Args:
        active: Where a unit is active (``active_images``).
        presence: How strongly an image shows a concept, in [0, 1].

    Returns:
        In [0, 1]; NaN for a unit that is never active.

    Raises:
        ValueError: The numbers of images differ or a presence is outside [0, 1].

    Example:
        >>> iou(np.array([[True], [False]]), np.array([[1.0], [1.0]])).tolist()
        [[0.5]]
    """
    both, actives, presences = _overlap(active, presence)
    return _ratio(both, actives + presences - both, actives)


def correlation(
    activations: Float[np.ndarray, "images units"], presence: Float[np.ndarray, "images concepts"]
) -> Float[np.ndarray, "units concepts"]:
    """Pearson's r(u, c) = Σ_i (a_iu − ā_u)(c_ic − c̄_c) / √(Σ_i (a_iu − ā_u)² Σ_i (c_ic − c̄_c)²).

    Args:
        activations: Pooled activations, any range.
        presence: How strongly an image shows a concept, in [0, 1].

    Returns:
        In [-1, 1]; NaN where the unit or the concept is constant or a unit has a NaN or infinite activation.

    Raises:
        ValueError: The numbers of images differ or a presence is outside [0, 1].

    Example:
        >>> correlation(np.array([[3.0], [1.0], [1.0]]), np.array([[1.0], [0.0], [0.0]])).round(4).tolist()
        [[1.0]]
    """
    activations, presence = _checked(activations, presence)
    result = np.full((activations.shape[1], presence.shape[1]), np.nan)
    if len(activations):
        units, concepts = np.flatnonzero(varies(activations)), np.flatnonzero(varies(presence))
        product = standardised(activations[:, units]).T @ standardised(presence[:, concepts])
        result[np.ix_(units, concepts)] = np.clip(product, -1.0, 1.0)
    return result


def cosine(
    activations: Float[np.ndarray, "images units"], presence: Float[np.ndarray, "images concepts"]
) -> Float[np.ndarray, "units concepts"]:
    """Cosine(u, c) = Σ_i a_iu c_ic / √(Σ_i a_iu² Σ_i c_ic²), not centred.

    Args:
        activations: Pooled activations, any range.
        presence: How strongly an image shows a concept, in [0, 1].

    Returns:
        In [-1, 1]; NaN where the unit or the concept is zero on all images or a unit has a NaN or infinite activation.

    Raises:
        ValueError: The numbers of images differ or a presence is outside [0, 1].

    Example:
        >>> cosine(np.array([[3.0], [4.0]]), np.array([[1.0], [0.0]])).tolist()
        [[0.6]]
    """
    activations, presence = _checked(activations, presence)
    lengths = np.linalg.norm(activations, axis=0), np.linalg.norm(presence, axis=0)
    units, concepts = (np.flatnonzero(np.isfinite(length) & (length > 0)) for length in lengths)
    result = np.full((activations.shape[1], presence.shape[1]), np.nan)
    product = (activations[:, units] / lengths[0][units]).T @ (presence[:, concepts] / lengths[1][concepts])
    result[np.ix_(units, concepts)] = np.clip(product, -1.0, 1.0)
    return result


def auprc(
    active: Bool[np.ndarray, "images units"], presence: Float[np.ndarray, "images concepts"]
) -> Float[np.ndarray, "units concepts"]:
    """Area under the precision-recall curve of "is the unit active?" by presence, as average precision.

    AP(u, c) = Σ_t (R_t − R_{t−1}) P_t over the thresholds t of presence, from high to low, P_t and R_t being the
    precision and recall of "c_i ≥ t": for each active image, the share of active ones among all images that show the
    concept at least as much, averaged.

    Args:
        active: Where a unit is active (``active_images``).
        presence: How strongly an image shows a concept, in [0, 1].

    Returns:
        In [0, 1]; the share of active images for a concept that is equally present on all images; NaN for a unit that
        is never active.

    Raises:
        ValueError: The numbers of images differ or a presence is outside [0, 1].

    Example:
        >>> auprc(np.array([[True], [True], [False]]), np.array([[0.9], [0.1], [0.5]])).round(4).tolist()
        [[0.8333]]
    """
    active, presence = _checked(active, presence)
    result = np.full((active.shape[1], presence.shape[1]), np.nan)
    if not len(presence):
        return result
    at_least = stats.rankdata(-presence, method="max", axis=0)
    for unit in np.flatnonzero(active.any(axis=0)):
        own = at_least[active[:, unit] > 0]
        result[unit] = (stats.rankdata(own, method="max", axis=0) / own).mean(axis=0)
    return result


def _overlap(
    active: Bool[np.ndarray, "images units"], presence: Float[np.ndarray, "images concepts"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Σ a c [units, concepts], Σ a [units, 1] and Σ c [1, concepts]."""
    active, presence = _checked(active, presence)
    return active.T @ presence, active.sum(axis=0)[:, None], presence.sum(axis=0)[None, :]


def _ratio(above: np.ndarray, below: np.ndarray, actives: np.ndarray) -> Float[np.ndarray, "units concepts"]:
    usable = np.broadcast_to(actives > 0, below.shape)
    return np.where(usable, above / np.where(usable, below, 1.0), np.nan)


def _checked(
    units: Shaped[np.ndarray, "images units"], presence: Shaped[np.ndarray, "images concepts"]
) -> tuple[Float[np.ndarray, "images units"], Float[np.ndarray, "images concepts"]]:
    units, presence = np.asarray(units, dtype=np.float64), np.asarray(presence, dtype=np.float64)
    if units.ndim != 2 or presence.ndim != 2 or len(units) != len(presence):
        raise ValueError(
            "units must be [images, units] and presence [images, concepts] of the same images, "
            f"not {list(units.shape)} and {list(presence.shape)}"
        )
    if not bool(((presence >= 0) & (presence <= 1)).all()):
        raise ValueError("presence must lie in [0, 1]; exclude images without an annotation")
    return units, presence
