"""Perturbation-sensitive units: their activations on the same images, clean and perturbed.

Two questions are separate. Does the unit respond at all? Then it changes in the same direction on most images, however
little: the paired measures and the test answer this. Could it distinguish a perturbed image from a clean one of
*another* scene? Then the change must exceed the differences among images: AUROC and Cohen's d answer this, and the
threshold of a detector is on AUROC.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy import stats

BAR: Final = 0.9
"""AUROC, in its direction, from which on a unit detects a perturbation: about 1.8 standard deviations."""

FOREIGN_BAR: Final = 0.75
"""AUROC, in the same direction, below which a specific unit must stay under every perturbation of another family:
about one standard deviation."""

NOT_FINITE: Final = "an activation is NaN or infinite"
CONSTANT: Final = "all activations, clean and perturbed, are equal"


class Sensitivity(NamedTuple):
    """How units respond to one perturbation; undefined values are NaN and ``reason`` says why.

    Attributes:
        auroc: In [0, 1]: P(perturbed > clean) + P(equal)/2 over all pairs of a perturbed and a clean image. 0.5: no
            response; 1: every perturbed image excites the unit more than any clean one; 0: less.
        paired_auroc: In [0, 1]: the same over the pairs of one image's two versions, i.e. the share of images on which
            the activation rises, ties half.
        effect: Cohen's d_av (Cumming 2012; Lakens, Frontiers in Psychology 4, 2013): the mean difference divided by the
            root mean square of the two standard deviations. Unlike d_z it does not grow with the correlation of the
            pair; for normal activations AUROC = Φ(d_av / √2).
        p_value: Two-sided, of Wilcoxon's signed-rank test; uncorrected.
        reason: Empty for an ordinary unit.
    """

    auroc: Float[np.ndarray, " units"]
    paired_auroc: Float[np.ndarray, " units"]
    effect: Float[np.ndarray, " units"]
    p_value: Float[np.ndarray, " units"]
    reason: Shaped[np.ndarray, " units"]


def sensitivity(clean: Float[np.ndarray, "images units"], perturbed: Float[np.ndarray, "images units"]) -> Sensitivity:
    """How each unit responds to a perturbation of the same images.

    The test's null hypothesis is that an image's two versions are exchangeable, so that differences are symmetric about
    0. It uses the normal approximation with SciPy's tie correction, and excludes images without a difference; with
    fewer than ten different images it is rough. A unit without any difference has p = 1.

    Args:
        clean: Pooled activations on clean images, any range.
        perturbed: Those on the same images, perturbed, in the same order.

    Returns:
        A unit that is silent on clean images and active on perturbed ones is an ordinary one.

    Raises:
        ValueError: The two differ in shape, are not two-dimensional, or have fewer than two images.

    Example:
        >>> found = sensitivity(np.array([[0.0], [1.0], [2.0]]), np.array([[1.0], [2.0], [3.0]]))
        >>> [round(float(values[0]), 4) for values in found[:3]]
        [0.7778, 1.0, 1.0]
    """
    clean, perturbed = _checked(clean, perturbed)
    units = clean.shape[1]
    lowest = np.minimum(clean.min(axis=0), perturbed.min(axis=0))
    reason = np.full(units, "", dtype=object)
    reason[lowest == np.maximum(clean.max(axis=0), perturbed.max(axis=0))] = CONSTANT
    reason[~(np.isfinite(clean).all(axis=0) & np.isfinite(perturbed).all(axis=0))] = NOT_FINITE
    usable = np.flatnonzero(reason == "")
    before, after = clean[:, usable], perturbed[:, usable]

    def measured(how: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Float[np.ndarray, " units"]:
        values = np.full(units, np.nan)
        if len(usable):
            values[usable] = how(before, after)
        return values

    return Sensitivity(measured(auroc), measured(_paired_auroc), measured(_effect), measured(_wilcoxon), reason)


def auroc(
    clean: Float[np.ndarray, "images units"], perturbed: Float[np.ndarray, "others units"]
) -> Float[np.ndarray, " units"]:
    """P(perturbed > clean) + P(equal)/2 of each column: Mann and Whitney's U divided by the number of pairs.

    Args:
        clean: Finite activations or scores.
        perturbed: Those to be distinguished from them.

    Example:
        >>> auroc(np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])).tolist()
        [0.875]
    """
    negatives, positives = len(clean), len(perturbed)
    ranks = stats.rankdata(np.concatenate([clean, perturbed]), axis=0)
    above = ranks[negatives:].sum(axis=0) - positives * (positives + 1) / 2
    return above / (negatives * positives)


class Detection(NamedTuple):
    """Which units detect a family of perturbations, such as the blurs.

    Attributes:
        rises: The unit's direction: that of its largest response in the family, up or down.
        own: Its largest AUROC in the family, in this direction; NaN for a unit without a response.
        foreign: Its largest AUROC, in the same direction, under a perturbation of another family; NaN without one.
        detects: ``own`` reaches the threshold, and the corrected test of that condition is significant.
        specific: It detects the family, and ``foreign`` is below its threshold. A unit that rises under blur and falls
            under noise is specific, since noise never makes it respond as to blur.
        general: It detects the family, and at least one perturbation of another family in the same direction.
    """

    rises: Bool[np.ndarray, " units"]
    own: Float[np.ndarray, " units"]
    foreign: Float[np.ndarray, " units"]
    detects: Bool[np.ndarray, " units"]
    specific: Bool[np.ndarray, " units"]
    general: Bool[np.ndarray, " units"]


def detection(
    auroc: Float[np.ndarray, "conditions units"],
    p_corrected: Float[np.ndarray, "conditions units"],
    inside: Bool[np.ndarray, " conditions"],
    outside: Bool[np.ndarray, " conditions"],
    *,
    bar: float = BAR,
    foreign_bar: float = FOREIGN_BAR,
    alpha: float = 0.05,
) -> Detection:
    """Which units detect a family of perturbations, and which of them detect nothing else.

    Args:
        auroc: AUROC of each unit under each condition, not directed.
        p_corrected: p-values corrected over all units and conditions.
        outside: Those of the other families. A condition may be neither: a blurred background is no other family than
            blur, but not a blur of the whole image either.
        bar: Minimum AUROC of a detector, in its direction, in (0.5, 1].
        foreign_bar: AUROC below which a unit counts as unaffected by a perturbation of another family.
        alpha: Significance level.

    Raises:
        ValueError: No condition is inside.

    Example:
        >>> auroc = np.array([[0.95, 0.95, 0.04], [0.5, 0.92, 0.6]])
        >>> found = detection(auroc, np.zeros((2, 3)), np.array([True, False]), np.array([False, True]))
        >>> found.specific.tolist(), found.general.tolist(), found.rises.tolist()
        ([True, False, True], [False, True, False], [True, True, False])
    """
    if not inside.any():
        raise ValueError("a family needs at least one condition")
    units = np.arange(auroc.shape[1])
    own = auroc[inside]
    strongest = np.where(np.isnan(own), -1.0, np.abs(own - 0.5)).argmax(axis=0)
    rises = own[strongest, units] > 0.5
    reached = directed(own[strongest, units], rises)
    detects = (reached >= bar) & (p_corrected[inside][strongest, units] < alpha)
    foreign = np.full(len(units), np.nan)
    if outside.any():
        others = directed(auroc[outside], rises)
        foreign = np.where(np.isnan(others), -np.inf, others).max(axis=0)
        foreign[np.isinf(foreign)] = np.nan
    above = p_corrected < alpha
    general = (above[outside] & (directed(auroc[outside], rises) >= bar)).any(axis=0)
    return Detection(rises, reached, foreign, detects, detects & ~(foreign >= foreign_bar), detects & general)


def directed(
    auroc: Float[np.ndarray, "*any units"], rises: Bool[np.ndarray, " units"]
) -> Float[np.ndarray, "*any units"]:
    """AUROC of the unit's activation if it rises, and of the negative activation if it falls.

    Example:
        >>> directed(np.array([0.125, 0.125]), np.array([True, False])).tolist()
        [0.125, 0.875]
    """
    return np.where(rises, auroc, 1 - auroc)


def _checked(clean: np.ndarray, perturbed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    clean, perturbed = np.asarray(clean), np.asarray(perturbed)
    if clean.shape != perturbed.shape or clean.ndim != 2:
        raise ValueError(
            f"both must be [images, units] of the same shape, not {list(clean.shape)} and {list(perturbed.shape)}"
        )
    if len(clean) < 2:
        raise ValueError(f"a unit's response needs at least two images, not {len(clean)}")
    return clean, perturbed


def _paired_auroc(
    clean: Float[np.ndarray, "images units"], perturbed: Float[np.ndarray, "images units"]
) -> Float[np.ndarray, " units"]:
    return ((perturbed > clean).mean(axis=0) + (perturbed >= clean).mean(axis=0)) / 2


def _effect(
    clean: Float[np.ndarray, "images units"], perturbed: Float[np.ndarray, "images units"]
) -> Float[np.ndarray, " units"]:
    clean, perturbed = clean.astype(np.float64), perturbed.astype(np.float64)
    difference = (perturbed - clean).mean(axis=0)
    spread = np.sqrt((clean.var(axis=0, ddof=1) + perturbed.var(axis=0, ddof=1)) / 2)
    # A unit with one value on clean images and another on perturbed ones has no spread to compare with.
    with np.errstate(divide="ignore", invalid="ignore"):
        effect = difference / spread
    return np.where(np.isfinite(effect), effect, np.nan)


def _wilcoxon(
    clean: Float[np.ndarray, "images units"], perturbed: Float[np.ndarray, "images units"]
) -> Float[np.ndarray, " units"]:
    differences = perturbed.astype(np.float64) - clean
    p_values = np.ones(differences.shape[1])
    moved = differences.any(axis=0)
    if moved.any():
        found: Any = stats.wilcoxon(differences[:, moved], axis=0, method="asymptotic")
        p_values[moved] = found.pvalue
    return p_values
