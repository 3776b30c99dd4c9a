"""Who is to blame for a loss that the network or the pictures can cause: Shapley values of two factors, over units.

Activations and maps ("network") and what a method sees of the images ("pictures") are each clean or perturbed. With v
the value of a unit's label at each of the four corners, index N or P naming what is perturbed:

    loss          L = v − v_NP
    network       φ_N = ½ (v − v_N) + ½ (v_P − v_NP)
    pictures      φ_P = ½ (v − v_P) + ½ (v_N − v_NP)
    interaction   I = L − (v − v_N) − (v − v_P) = v_N + v_P − v − v_NP

φ_N + φ_P = L (Shapley, 1953). Each factor is charged what it costs alone and half of the interaction (Grabisch and
Roubens, 1999), which is positive where the two together cost more than each alone.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float

from metrics.statistics import Interval, expanded_confidence, percentile_interval
from metrics.statistics.result import DIGITS

NO_LOSS: Final = "no significant loss"
"""The reason of a share that is not given, because the loss's interval reaches down to 0."""


class Corners(NamedTuple):
    """One number per unit at each corner, higher is better; NaN is missing.

    Attributes:
        nothing: Neither is perturbed.
        network: Activations and maps are.
        pictures: What the method sees of the images is.
        both: Both are: the label under the perturbation.
    """

    nothing: Float[np.ndarray, " units"]
    network: Float[np.ndarray, " units"]
    pictures: Float[np.ndarray, " units"]
    both: Float[np.ndarray, " units"]


class Contributions(NamedTuple):
    """The loss of each unit, and what it is made of; NaN where a corner is missing."""

    loss: Float[np.ndarray, " units"]
    network: Float[np.ndarray, " units"]
    pictures: Float[np.ndarray, " units"]
    interaction: Float[np.ndarray, " units"]


class Attribution(NamedTuple):
    """Means over units with 95 % bootstrap intervals.

    Attributes:
        loss: Mean loss.
        network: The network's part of it; negative if it makes labels better.
        pictures: The pictures' part; both parts together are the loss.
        interaction: See ``Contributions``.
        difference: ``network`` minus ``pictures``: above 0 where the network is more to blame.
        share: ``network`` divided by ``loss``; absent, with its reason, unless the loss's interval is above 0. Outside
            [0, 1] where one of the two makes labels better.
    """

    loss: Interval
    network: Interval
    pictures: Interval
    interaction: Interval
    difference: Interval
    share: Interval


def contributions(corners: Corners) -> Contributions:
    """The Shapley values and the interaction of two factors, unit by unit.

    Example:
        >>> one = np.ones(1)
        >>> [float(part[0]) for part in contributions(Corners(one, 0.5 * one, 0.75 * one, 0 * one))]
        [1.0, 0.625, 0.375, 0.25]
    """
    nothing, network, pictures, both = (np.asarray(corner, dtype=np.float64) for corner in corners)
    parts = (
        nothing - both,
        (nothing - network + pictures - both) / 2,
        (nothing - pictures + network - both) / 2,
        network + pictures - nothing - both,
    )
    missing = np.isnan(np.stack(parts)).any(axis=0)
    return Contributions(*(np.where(missing, np.nan, np.round(part, DIGITS)) for part in parts))


def mean_contributions(found: list[Contributions]) -> Contributions:
    """Mean over conditions, unit by unit; those in which a unit has no value are left out.

    Args:
        found: One per condition, of the same units.
    """
    stacked = np.stack([np.stack(one) for one in found])
    present = ~np.isnan(stacked)
    counts = present.sum(axis=0)
    total = np.where(present, stacked, 0.0).sum(axis=0)
    return Contributions(*np.divide(total, counts, out=np.full(total.shape, np.nan), where=counts > 0))


def attribution(parts: Contributions, weights: Float[np.ndarray, "samples units"]) -> Attribution:
    """How much of the mean loss is due to the network, and how much to the pictures.

    Percentile intervals, at the level that is right for few units (``expanded_confidence``). The share's is that of the
    ratio of means, over the samples that have a loss.

    Args:
        parts: From ``contributions`` or ``mean_contributions``.
        weights: How often each unit is drawn in each bootstrap sample.
    """
    known = ~np.isnan(parts.loss)
    n, left_out = int(known.sum()), int((~known).sum())
    drawn = weights[:, known]
    counts = drawn.sum(axis=1)
    columns = np.stack([*parts, parts.network - parts.pictures], axis=1)[known]
    sums = drawn @ columns
    draws = np.divide(sums, counts[:, None], out=np.full(sums.shape, np.nan), where=counts[:, None] > 0)
    means = columns.mean(axis=0) if n else np.full(columns.shape[1], np.nan)
    level = expanded_confidence(0.95, n) if n > 2 else 0.95
    loss, network, pictures, interaction, difference = (
        percentile_interval(float(mean), own, n, level)._replace(left_out=left_out)
        for mean, own in zip(means, draws.T, strict=True)
    )
    share = Interval(np.nan, np.nan, np.nan, n, NO_LOSS, left_out)
    if loss.low > 0:
        lost = draws[:, 0]
        ratios = np.divide(draws[:, 1], lost, out=np.full(len(lost), np.nan), where=lost > 0)
        share = percentile_interval(float(means[1] / means[0]), ratios, n, level)._replace(left_out=left_out)
    return Attribution(loss, network, pictures, interaction, difference, share)
