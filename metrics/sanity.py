"""The two sanity checks of Neuron_Eval (Oikarinen, Yan & Weng, ICML 2025) for a faithfulness metric.

A metric that does not drop when a right label is made far too narrow or far too broad cannot distinguish good labels
from bad ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

FREQUENCIES: Final = (0.499, 0.1, 0.01, 0.001, 0.0001)
"""How often a concept is present: the paper's five frequencies."""

TOLERANCE: Final = 1e-3
"""A score has dropped if it is lower by more than this, as in the paper."""

BAR: Final = 0.9
"""Share of cases that must drop in each check; reproduces the verdicts of the paper's table."""

Metric = Callable[[Float[np.ndarray, "images units"], Bool[np.ndarray, "images concepts"]], np.ndarray]
"""Activations and presence → scores [units, concepts], higher is better."""


class SanityCheck(NamedTuple):
    """Shares of the cases in which the score drops, each in [0, 1].

    Attributes:
        missing: If half of the images that show the concept lose its label.
        extra: If as many other images get the label too.
    """

    missing: float
    extra: float

    @property
    def passes(self) -> bool:
        """Whether both reach the threshold."""
        return self.missing >= BAR and self.extra >= BAR


def sanity_check(
    metric: Metric,
    activations: Float[np.ndarray, "images units"],
    presence: Bool[np.ndarray, "images units"],
    *,
    trials: int = 10,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> SanityCheck:
    """Does a metric drop when the labels of a unit's right concept are corrupted?

    A case is a unit in a trial, with its own draw: score(corrupted presence) < score(presence) − tolerance.

    Args:
        metric: The metric, from activations and presence to [units, concepts].
        activations: Activations of units whose right concept is known, or ``perfect_units``.
        presence: Presence of each unit's right concept: on at least two images, and at most half of them.
        trials: Corruptions drawn for each unit.
        tolerance: The smallest drop that counts.
        seed: Seed of a generator used here only.

    Returns:
        A NaN score counts as no drop. Both shares are NaN without a case.

    Raises:
        ValueError: The shapes differ or a concept is on too few or too many images.

    Example:
        >>> recall = lambda activations, presence: activations.T @ presence / activations.sum(axis=0)[:, None]
        >>> sanity_check(recall, *perfect_units(1_000, (0.1, 0.01)))
        SanityCheck(missing=1.0, extra=0.0)
    """
    activations, presence = np.asarray(activations, dtype=np.float64), np.asarray(presence, dtype=bool)
    if activations.shape != presence.shape or activations.ndim != 2:
        raise ValueError(
            f"both must be [images, units] of the same shape, not {list(activations.shape)} and {list(presence.shape)}"
        )
    generator = np.random.default_rng(seed)
    fallen: dict[str, list[bool]] = {"missing": [], "extra": []}
    for unit in range(activations.shape[1]):
        own, right = activations[:, [unit]], presence[:, unit]
        limit = _score(metric, own, right) - tolerance
        for _ in range(trials):
            fallen["missing"].append(_score(metric, own, missing_labels(right, generator)) < limit)
            fallen["extra"].append(_score(metric, own, extra_labels(right, generator)) < limit)
    return SanityCheck(*(float(np.mean(cases)) if cases else float("nan") for cases in fallen.values()))


def perfect_units(
    images: int, frequencies: Sequence[float] = FREQUENCIES
) -> tuple[Float[np.ndarray, "images units"], Bool[np.ndarray, "images units"]]:
    """Units that are 1 where their concept is present and 0 elsewhere: the simulation of the paper, with fewer images.

    Args:
        images: Number of images; 500,000 in the paper.
        frequencies: Share of images that show each concept, one unit per concept.

    Returns:
        Activations and presence.

    Example:
        >>> perfect_units(1_000, (0.1, 0.01))[1].sum(axis=0).tolist()
        [100, 10]
    """
    counts = np.array([round(frequency * images) for frequency in frequencies], dtype=np.int64)
    presence = np.arange(images)[:, None] < counts
    return presence.astype(np.float64), presence


def missing_labels(
    presence: Bool[np.ndarray, " images"], generator: np.random.Generator
) -> Bool[np.ndarray, " images"]:
    """Presence without a random half of the images that show the concept, rounded down.

    Raises:
        ValueError: Fewer than two images show the concept.
    """
    shown = np.flatnonzero(presence)
    if len(shown) < 2:
        raise ValueError(f"half of the labels can be dropped where at least two images have one, not {len(shown)}")
    damaged = np.array(presence, dtype=bool)
    damaged[generator.choice(shown, len(shown) // 2, replace=False)] = False
    return damaged


def extra_labels(presence: Bool[np.ndarray, " images"], generator: np.random.Generator) -> Bool[np.ndarray, " images"]:
    """Presence with as many random other images added as show the concept.

    Raises:
        ValueError: More than half of the images show the concept.
    """
    shown, others = np.flatnonzero(presence), np.flatnonzero(~np.asarray(presence, dtype=bool))
    if len(shown) > len(others):
        raise ValueError(
            f"the labels can be doubled on at most half of the images, not {len(shown)} of {len(presence)}"
        )
    damaged = np.array(presence, dtype=bool)
    damaged[generator.choice(others, len(shown), replace=False)] = True
    return damaged


def _score(metric: Metric, activations: np.ndarray, presence: np.ndarray) -> float:
    return float(metric(activations, presence[:, None])[0, 0])
