"""How CLEAR selects among candidate concepts: a score in every context, its robust aggregate, and two regularisers.

The three terms of a score are probabilities that a true concept's images win against others, so that they add up
without scaling: 1/2 is chance level, 1 is certain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from baselines.clear.words import holds

Aggregate = Literal["spread", "worst"]

ALIKE = 10
"""How many of the units that a concept excites most are compared with the labelled unit."""


def activation_term(activations: Sequence[Float[np.ndarray, " images"]]) -> Float[np.ndarray, " concepts"]:
    """Mean rank of each concept's synthetic images by one unit's activation, among those of all candidates.

    Args:
        activations: The unit's activation on every synthetic image of each concept. Concepts count the same, however
            many images each has.

    Returns:
        Rank as a share, in (0, 1), ties counted half; 1/2 for a single candidate.
    """
    sizes = np.array([len(own) for own in activations])
    values = np.concatenate(activations).astype(np.float64)
    distinct, place = np.unique(values, return_inverse=True)
    weight = np.bincount(place, np.repeat(sizes.max() / sizes, sizes), len(distinct))
    rank = (np.cumsum(weight) - weight / 2)[place] + 0.5
    means = np.array([own.mean() for own in np.split(rank, np.cumsum(sizes)[:-1])])
    return (means - 0.5) / weight.sum()


def image_term(
    described: Float[np.ndarray, "pictures d"],
    control: Float[np.ndarray, "control d"],
    synthetic: Sequence[Float[np.ndarray, "images d"]],
) -> Float[np.ndarray, " concepts"]:
    """Probability that a described image is more similar to a concept's synthetic images than a control image is.

    Args:
        described: Unit-norm CLIP embeddings of the unit's described images.
        control: Those of the control images in the same context.
        synthetic: Those of each concept's synthetic images.

    Returns:
        ROC AUC of the mean cosine to the concept's images, in [0, 1].
    """
    centres = np.stack([np.asarray(own, dtype=np.float64).mean(axis=0) for own in synthetic])
    own = np.asarray(described, dtype=np.float64) @ centres.T
    other = np.asarray(control, dtype=np.float64) @ centres.T
    return np.array([auc(own[:, i], other[:, i]) for i in range(len(centres))])


def caption_term(
    described: Sequence[str], control: Sequence[str], concepts: Sequence[str]
) -> Float[np.ndarray, " concepts"]:
    """How well captions that name the concept separate the unit's described images from control images.

    Args:
        described: Captions of the unit's described images.
        control: Captions of the control images in the same context: what captions say regardless of the unit.
        concepts: A caption names a concept if it contains all of its content words.

    Returns:
        (1 + share of own captions − share of control captions) / 2, in [0, 1].
    """
    return (1 + holds(described, concepts).mean(axis=1) - holds(control, concepts).mean(axis=1)) / 2


def robust(
    scores: Float[np.ndarray, "contexts concepts"], aggregate: Aggregate, spread: float
) -> Float[np.ndarray, " concepts"]:
    """Aggregate each concept's scores over all contexts.

    Args:
        scores: Score of each concept in each context.
        aggregate: ``spread``: mean − ``spread`` × standard deviation over the contexts; ``worst``: the minimum.
        spread: Penalty per standard deviation over the contexts.
    """
    if aggregate == "worst":
        return scores.min(axis=0)
    return scores.mean(axis=0) - spread * scores.std(axis=0)


def excitation(responses: Float[np.ndarray, "concepts units"]) -> Float[np.ndarray, "concepts units"]:
    """How strongly each concept excites each unit of the layer, standardised over the candidates of one unit.

    Args:
        responses: Mean activation of the complete layer on each concept's synthetic images.

    Returns:
        0 for a unit that all concepts excite equally.
    """
    values = np.asarray(responses, dtype=np.float64)
    width = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(width > 0, width, 1.0)


def specificity(
    excited: Float[np.ndarray, "concepts units"], unit: int, alive: Bool[np.ndarray, " units"]
) -> Float[np.ndarray, " concepts"]:
    """Share of the layer's other live units that a concept excites less than this one, ties counted half, in [0, 1].

    Args:
        excited: See ``excitation``.
    """
    others = alive.copy()
    others[unit] = False
    if not others.any():
        return np.ones(len(excited))
    rest, own = excited[:, others], excited[:, [unit]]
    return (rest < own).mean(axis=1) + (rest == own).mean(axis=1) / 2


def distinctness(
    excited: Float[np.ndarray, "concepts units"],
    correlation: Float[np.ndarray, " units"],
    unit: int,
    alive: Bool[np.ndarray, " units"],
) -> Float[np.ndarray, " concepts"]:
    """How similarly to this unit the units behave that would share a label with it.

    Whether two units *get* the same label depends on which units are requested, and on the order of naming. Whether a
    unit would share a label does not: it is one of the ``ALIKE`` other units of the complete layer that the concept
    excites most. A label is distinct if these units' activations correlate with the unit's on the probing images.

    Args:
        excited: See ``excitation``.
        correlation: Correlation of each unit's probing activations with this unit's.

    Returns:
        Mean correlation with those units, negative ones counted 0, in [0, 1]; 1 if there is no other live unit.
    """
    others = np.flatnonzero(alive & (np.arange(len(alive)) != unit))
    if len(others) == 0:
        return np.ones(len(excited))
    # A stable sort: among units that a concept excites equally, the first ones are compared.
    nearest = others[np.argsort(-excited[:, others], axis=1, kind="stable")[:, :ALIKE]]
    return np.clip(correlation[nearest], 0, 1).mean(axis=1)


def auc(positive: Float[np.ndarray, " p"], negative: Float[np.ndarray, " n"]) -> float:
    """Probability that a positive value exceeds a negative one, ties counted half; 1/2 if either is empty."""
    if len(positive) == 0 or len(negative) == 0:
        return 0.5
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left") + np.searchsorted(ordered, positive, side="right")
    return float(below.mean() / (2 * len(ordered)))
