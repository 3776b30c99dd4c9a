"""Agreement of methods on the labels of the same units."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float

from leaderboard.board.intervals import mean_interval
from metrics.stability import clip_similarity
from metrics.statistics import Interval, wilson_interval
from metrics.text import exact_similarity

if TYPE_CHECKING:
    from benchmark.core.scoring import LabelEmbeddings


def agreement(labels: Mapping[str, Mapping[int, str]], embeddings: LabelEmbeddings, seed: int) -> pd.DataFrame:
    """Agreement of each pair of methods, over the units that both label.

    Args:
        labels: Method → unit → its label on clean images.
        embeddings: Embeddings of all these labels.

    Returns:
        One row per pair: ``first``, ``second``, ``units`` (labelled by both), ``first_only``, ``second_only`` (labelled
        by one only), and ``clip``, ``sentence`` (mean cosine of the two labels of a unit, in [-1, 1]) and ``equal``
        (share of units with equal labels, after normalising), each with ``_low`` and ``_high`` of its 95 % interval.
        ``clip_chance`` and ``sentence_chance`` are the mean cosine of the labels of two different units: the agreement
        of two methods whose labels suit the layer, but not the unit.
    """
    rows = [
        {"first": first, "second": second, **_pair(labels[first], labels[second], embeddings, seed)}
        for first, second in itertools.combinations(labels, 2)
    ]
    return pd.DataFrame(rows)


def cross_chance(first: Float[np.ndarray, "units d"], second: Float[np.ndarray, "units d"]) -> float:
    """Mean over units u ≠ v of cos(first(u), second(v)).

    Args:
        first: Embeddings of one method's labels.
        second: Embeddings of the other method's labels of the same units.

    Returns:
        In [-1, 1]; NaN with fewer than two units.

    Example:
        >>> cross_chance(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[1.0, 0.0], [1.0, 0.0]]))
        0.5
    """
    count = len(first)
    if count < 2:
        return float("nan")
    first = first / np.linalg.norm(first, axis=1, keepdims=True)
    second = second / np.linalg.norm(second, axis=1, keepdims=True)
    others = first.sum(axis=0) @ second.sum(axis=0) - (first * second).sum()
    return float(np.clip(others / (count * (count - 1)), -1.0, 1.0))


def _pair(
    first: Mapping[int, str], second: Mapping[int, str], embeddings: LabelEmbeddings, seed: int
) -> dict[str, float | int]:
    both = sorted(first.keys() & second.keys())
    one, other = [first[unit] for unit in both], [second[unit] for unit in both]
    row: dict[str, float | int] = {
        "units": len(both),
        "first_only": len(first) - len(both),
        "second_only": len(second) - len(both),
    }
    encoders = {"clip": embeddings.clip} | ({"sentence": embeddings.sentence} if embeddings.has_sentences else {})
    for name in ("clip", "sentence"):
        if name not in encoders:
            row |= dict.fromkeys((name, f"{name}_low", f"{name}_high", f"{name}_chance"), float("nan"))
            continue
        a, b = encoders[name](one), encoders[name](other)
        row |= ends(name, mean_interval(clip_similarity(a, b), seed))
        row[f"{name}_chance"] = cross_chance(a, b)
    equal = exact_similarity(one, other)
    return row | ends("equal", wilson_interval(int(equal.sum()), len(equal)))


def ends(name: str, interval: Interval) -> dict[str, float]:
    """An estimate and the bounds of its interval as three columns."""
    return {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}
