"""How much labels change: relative to the clean label, the method's own noise, and chance.

Labels are given as text embeddings, one row per unit. A row of NaN is a missing label: the result for that unit is NaN
(missing), never zero. The caller excludes dead units in the same way.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from metrics.evidence import evidence_overlap as evidence_overlap  # re-exported with the other scores

LEAST_ROOM = 0.01
"""1 − chance up to which labels count as alike: over so little, the wording of one label would be a change of hundreds
of percent, and dominate every mean."""

_UNCHANGED = 1e-9


def clip_similarity(
    embeddings: Float[np.ndarray, "units d"], reference: Float[np.ndarray, "units d"]
) -> Float[np.ndarray, " units"]:
    """sim(u) = e(u)·r(u) / (‖e(u)‖ ‖r(u)‖), the cosine of the unit's label and its reference label (the clean one).

    Args:
        embeddings: Text embeddings of the labels under a condition; need not be unit norm.
        reference: Text embeddings of the reference labels of the same units.

    Returns:
        In [-1, 1]; higher is better; exactly 1 for equal embeddings; NaN if either label is missing (a row with NaN, or
        of zeros).

    Raises:
        ValueError: The shapes differ.

    Example:
        >>> clip_similarity(np.array([[3.0, 4.0], [np.nan, np.nan]]), np.array([[3.0, 0.0], [1.0, 0.0]])).tolist()
        [0.6, nan]
    """
    first, second = _unit_norm(embeddings), _unit_norm(reference)
    if first.shape != second.shape:
        raise ValueError(f"labels and reference must have one shape, not {list(first.shape)} and {list(second.shape)}")
    # A unit vector's product with itself may miss 1 by a rounding error; an unchanged label has to count as 1.
    same = (first == second).all(axis=1)
    return np.where(same, 1.0, np.clip((first * second).sum(axis=1), -1.0, 1.0))


def noise_floor(
    repeats: Float[np.ndarray, "repeats units d"], reference: Float[np.ndarray, "units d"]
) -> Float[np.ndarray, " units"]:
    """floor(u) = mean over clean repeats r ≥ 1 of sim(label(u, clean, r), label(u, clean, 0)).

    The method's own variation when only its seed changes; 1 for a deterministic method.

    Args:
        repeats: Text embeddings of the clean labels of repeats 1, 2, …
        reference: Those of repeat 0.

    Returns:
        In [-1, 1]; repeats without a label are excluded from a unit's mean; NaN if none is left.

    Raises:
        ValueError: The shapes are inconsistent.

    Example:
        >>> noise_floor(np.array([[[0.0, 1.0]], [[1.0, 0.0]]]), np.array([[1.0, 0.0]])).tolist()
        [0.5]
    """
    repeats = np.asarray(repeats, dtype=np.float64)
    if repeats.ndim != 3:
        raise ValueError(f"repeats must be [repeats, units, d], not {list(repeats.shape)}")
    if len(repeats) == 0:
        return np.full(len(reference), np.nan)
    similarities = np.stack([clip_similarity(repeat, reference) for repeat in repeats])
    present = ~np.isnan(similarities)
    count = present.sum(axis=0)
    total = np.where(present, similarities, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def chance(reference: Float[np.ndarray, "units d"]) -> Float[np.ndarray, " units"]:
    """Expected similarity by chance: mean over other units v ≠ u of sim(label(u, clean), label(v, clean)).

    The similarity if another unit's label were drawn. Needs one pass: the sum of all unit-norm labels minus the unit's
    own.

    Args:
        reference: Text embeddings of the clean labels of all units.

    Returns:
        In [-1, 1]; NaN if the label is missing, and everywhere with fewer than two labels.

    Example:
        >>> chance(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])).tolist()
        [0.5, 0.0, 0.5]
    """
    labels = _unit_norm(reference)
    present = ~np.isnan(labels).any(axis=1)
    others = int(present.sum()) - 1
    result = np.full(len(labels), np.nan)
    if others >= 1:
        known = labels[present]
        total = known @ known.sum(axis=0) - (known * known).sum(axis=1)
        result[present] = np.clip(total / others, -1.0, 1.0)
    return result


def stability(
    similarity: Float[np.ndarray, " ..."], chance_similarity: Float[np.ndarray, " ..."]
) -> Float[np.ndarray, " ..."]:
    """Similarity above chance: (similarity(u) − chance(u)) / (1 − chance(u)).

    1 = unchanged; 0 = as if another unit's label were drawn; negative = further than that. If all labels are alike
    (chance of ``1 - LEAST_ROOM`` or more) it is 0 by definition: a method with the same label everywhere has shown
    nothing.

    Args:
        similarity: Similarity to the clean label, or the noise floor, in [-1, 1].
        chance_similarity: The same units' chance, in [-1, 1].

    Returns:
        From -199 to 1; higher is better; NaN if either is NaN.

    Example:
        >>> stability(np.array([1.0, 0.75, 1.0]), np.array([0.5, 0.5, 1.0])).tolist()
        [1.0, 0.5, 0.0]
    """
    similarity, expected = np.broadcast_arrays(
        np.asarray(similarity, dtype=np.float64), np.asarray(chance_similarity, dtype=np.float64)
    )
    room = 1.0 - expected
    alike = room <= LEAST_ROOM
    result = np.where(alike, 0.0, (similarity - expected) / np.where(alike, 1.0, room))
    return np.where(np.isnan(similarity) | np.isnan(expected), np.nan, result)


class MLCE(NamedTuple):
    """Mean label-change error.

    Attributes:
        value: Mean over corruptions; lower is better, 1 = as the reference method; NaN if any corruption's is.
        by_corruption: One ratio per corruption.
    """

    value: float
    by_corruption: Float[np.ndarray, " corruptions"]


def mlce(
    method: Float[np.ndarray, "corruptions severities"], reference: Float[np.ndarray, "corruptions severities"]
) -> MLCE:
    """Mean label-change error: mean_c [ Σ_s (1 − stability_{c,s}) / Σ_s (1 − reference_{c,s}) ].

    After the mCE of Hendrycks & Dietterich (ICLR 2019).

    Args:
        method: Mean stability of the method by corruption and severity, at most 1.
        reference: The same of the reference method.

    Returns:
        The mean and its parts. A corruption with a missing cell has NaN (an incomplete sum would be too favourable),
        and so has one under which the reference method does not change, with which nothing can be compared.

    Raises:
        ValueError: The shapes differ or are not two-dimensional.

    Example:
        >>> mlce(np.array([[0.5, 0.5], [1.0, 0.5]]), np.array([[0.5, 0.0], [0.5, 0.5]])).by_corruption.round(3).tolist()
        [0.667, 0.5]
    """
    method, reference = np.asarray(method, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if method.shape != reference.shape or method.ndim != 2:
        raise ValueError(
            "both must be [corruptions, severities] of the same shape, "
            f"not {list(method.shape)} and {list(reference.shape)}"
        )
    moved, expected = (1.0 - method).sum(axis=1), (1.0 - reference).sum(axis=1)
    comparable = expected > _UNCHANGED
    ratios = np.where(comparable, moved / np.where(comparable, expected, 1.0), np.nan)
    return MLCE(float(ratios.mean()) if len(ratios) else float("nan"), ratios)


class FourWay(NamedTuple):
    """How often a label was right before and after a perturbation; counts of units.

    "Stable" refers to the verdict: a wrong label that turns into another wrong one counts as wrong and stable.

    Attributes:
        right_and_stable: Right clean, right perturbed.
        right_to_wrong: Right clean, wrong perturbed.
        wrong_to_right: Wrong clean, right perturbed.
        wrong_and_stable: Wrong clean, wrong perturbed.
        missing: One of the two verdicts is NaN.
    """

    right_and_stable: int
    right_to_wrong: int
    wrong_to_right: int
    wrong_and_stable: int
    missing: int

    @property
    def shares(self) -> tuple[float, float, float, float]:
        """The four as shares of the units that have both verdicts; NaN without any."""
        total = sum(self[:4])
        first, second, third, fourth = (count / total if total else float("nan") for count in self[:4])
        return first, second, third, fourth


def four_way(clean: Shaped[np.ndarray, " units"], perturbed: Shaped[np.ndarray, " units"]) -> FourWay:
    """n(a, b) = number of units u with right(u, clean) = a and right(u, perturbed) = b, for a and b in {0, 1}.

    A label is right if it names the true concept.

    Args:
        clean: 1 or True if the clean label is right, 0 or False if wrong, NaN if missing.
        perturbed: The same under a perturbation.

    Raises:
        ValueError: The shapes differ or a value is none of 0, 1, NaN.

    Example:
        >>> four_way(np.array([1.0, 1.0, 0.0, np.nan]), np.array([1.0, 0.0, 0.0, 1.0]))[:]
        (1, 1, 0, 1, 1)
    """
    clean, perturbed = np.asarray(clean, dtype=np.float64), np.asarray(perturbed, dtype=np.float64)
    if clean.shape != perturbed.shape or clean.ndim != 1:
        raise ValueError(f"both must be [units] of the same shape, not {list(clean.shape)} and {list(perturbed.shape)}")
    for verdicts in (clean, perturbed):
        if not bool(np.all(np.isnan(verdicts) | np.isin(verdicts, (0.0, 1.0)))):
            raise ValueError("a verdict must be 1 (right), 0 (wrong) or NaN (missing)")
    pairs = [((clean == before) & (perturbed == after)).sum() for before in (1, 0) for after in (1, 0)]
    kept, lost, gained, wrong = (int(count) for count in pairs)
    return FourWay(kept, lost, gained, wrong, len(clean) - kept - lost - gained - wrong)


def _unit_norm(embeddings: Float[np.ndarray, "units d"]) -> Float[np.ndarray, "units d"]:
    values = np.asarray(embeddings, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"embeddings must be [units, d], not {list(values.shape)}")
    norm = np.linalg.norm(values, axis=1, keepdims=True)
    usable = np.isfinite(norm) & (norm > 0)
    return np.where(usable, values / np.where(usable, norm, 1.0), np.nan)
