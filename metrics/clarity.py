"""Measures of a unit itself, without its label: do its top images look alike, in the space of an image encoder?

Clarity, redundancy and polysemanticity: Dreyer et al., Nature Machine Intelligence 2025 (SemanticLens, arXiv
2501.05398). Monosemanticity: Pach et al., NeurIPS 2025 (arXiv 2504.02821). All depend on the encoder, and a method that
reads the same one shares its blind spots.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Bool, Float

_STARTS: Final = 20
_MOST_STEPS: Final = 300
_SHOWN: Final = 10
_FEWEST: Final = 2
_AT_ONCE: Final = 256


def clarity(embeddings: Float[np.ndarray, "units k d"]) -> Float[np.ndarray, " units"]:
    """Mean cosine of all pairs of a unit's top images: (‖Σ ê_i‖² − k) / (k (k − 1)) with ê_i of unit length.

    Args:
        embeddings: Of each unit's k top images.

    Returns:
        In [−1 / (k − 1), 1]; higher is clearer; NaN for a unit with an embedding that is zero, NaN or infinite.

    Raises:
        ValueError: Not [units, k, d], or fewer than two images.

    Example:
        >>> clarity(np.array([[[1.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [3.0, 0.0]]])).tolist()
        [0.0, 1.0]
    """
    images = _unit_length(_checked(embeddings))
    k = images.shape[1]
    total = images.sum(axis=1)
    return np.clip(((total**2).sum(axis=1) - k) / (k * (k - 1)), -1 / (k - 1), 1.0)


def redundancy(vectors: Float[np.ndarray, "units d"]) -> Float[np.ndarray, " units"]:
    """The largest cosine of a unit with another unit of the layer; the layer's figure is the mean.

    Args:
        vectors: Mean embedding of each unit's top images. A row that is zero, NaN or infinite, such as a dead unit's,
            is nobody's double.

    Returns:
        In [−1, 1]; 1 for a unit that another one doubles; NaN for the rows named, and without another unit.

    Raises:
        ValueError: Not [units, d].

    Example:
        >>> redundancy(np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 0.0]])).tolist()
        [1.0, 1.0, 0.0, nan]
    """
    given = np.asarray(vectors, dtype=np.float64)
    if given.ndim != 2:
        raise ValueError(f"vectors must be [units, d], not {list(given.shape)}")
    directions = _unit_length(given)
    living = np.flatnonzero(~np.isnan(directions).any(axis=1))
    result = np.full(len(given), np.nan)
    if len(living) < 2:
        return result
    others = directions[living]
    for start in range(0, len(living), _AT_ONCE):
        cosines = others[start : start + _AT_ONCE] @ others.T
        own = np.arange(len(cosines))
        cosines[own, start + own] = -np.inf
        result[living[start : start + _AT_ONCE]] = np.clip(cosines.max(axis=1), -1.0, 1.0)
    return result


def polysemanticity(embeddings: Float[np.ndarray, "units k d"], *, seed: int = 0) -> Float[np.ndarray, " units"]:
    """1 − cosine of the centres of two clusters of a unit's top images.

    The clusters are those of k-means with the least inertia of 20 k-means++ starts, on the embeddings as they are. If
    one of them has a single image: 1 − mean over the first ten images of the cosine with the mean of all.

    k-means has many local optima here, so that values of single units differ between implementations, and the rule
    makes them jump.

    Args:
        embeddings: Of each unit's k top images, strongest first.
        seed: Of the starts, which are the same for all units: no unit's value depends on the others.

    Returns:
        In [0, 2]; higher is more polysemantic; NaN for a unit with an embedding that is zero, NaN or infinite, and if a
        centre is zero.

    Raises:
        ValueError: Not [units, k, d], or fewer than two images.

    Example:
        >>> round(float(polysemanticity(np.array([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]]))[0]), 4)
        1.0
    """
    images = _checked(embeddings)
    result = np.full(len(images), np.nan)
    starts = np.random.default_rng(seed).random((_STARTS, 2))
    usable = np.flatnonzero(~np.isnan(_unit_length(images)).any(axis=(1, 2)))
    for block in np.split(usable, range(_AT_ONCE, len(usable), _AT_ONCE)):
        own = images[block]
        second = _two_means(own, starts)
        sizes = second.sum(axis=1)
        apart = 1 - _cosine(_mean(own, second), _mean(own, ~second))
        shown = own[:, :_SHOWN]
        spread = 1 - _cosine(shown, own.mean(axis=1)[:, None]).mean(axis=1)
        result[block] = np.where(np.minimum(sizes, own.shape[1] - sizes) < _FEWEST, spread, apart)
    return result


def monosemanticity(
    activations: Float[np.ndarray, "images units"],
    embeddings: Float[np.ndarray, "images d"],
    *,
    top_images: int | None = 16,
) -> Float[np.ndarray, " units"]:
    """Mean cosine of pairs of images, weighted by activation: Σ_{i<j} w_i w_j cos(e_i, e_j) / Σ_{i<j} w_i w_j.

    w = (a − min a) / (max a − min a) over all images of the unit. Over all pairs it takes no longer than over the
    images: (‖Σ w ê‖² − Σ w²) / ((Σ w)² − Σ w²).

    Args:
        activations: Pooled activations, any range.
        embeddings: Of the same images, best from another encoder than the one that labels are found with.
        top_images: Number of images that activate the unit most, of equal ones the first; None for all images.

    Returns:
        In [−1, 1]; higher is more monosemantic; NaN for a unit that is constant, has a NaN or infinite activation, or
        weighs one image alone, and if an embedding among these images is zero, NaN or infinite.

    Raises:
        ValueError: The numbers of images differ, or ``top_images`` is below 1.

    Example:
        >>> monosemanticity(np.array([[2.0], [2.0], [0.0]]), np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])).tolist()
        [1.0]
    """
    layer, images = np.asarray(activations, dtype=np.float64), np.asarray(embeddings, dtype=np.float64)
    if layer.ndim != 2 or images.ndim != 2 or len(layer) != len(images):
        raise ValueError(
            "activations must be [images, units] and embeddings [images, d] of the same images, "
            f"not {list(layer.shape)} and {list(images.shape)}"
        )
    if top_images is not None and top_images < 1:
        raise ValueError(f"top_images must be at least 1, not {top_images}")
    directions = _unit_length(images)
    result = np.full(layer.shape[1], np.nan)
    for unit, column in enumerate(np.ascontiguousarray(layer.T)):
        if not len(column) or not np.isfinite(column).all() or column.max() == column.min():
            continue
        chosen = slice(None) if top_images is None else _strongest(column, top_images)
        weights = (column[chosen] - column.min()) / (column.max() - column.min())
        total, squares = weights @ directions[chosen], weights @ weights
        pairs = weights.sum() ** 2 - squares
        if pairs > 1e-12:
            result[unit] = np.clip((total @ total - squares) / pairs, -1.0, 1.0)
    return result


def _strongest(column: Float[np.ndarray, " images"], k: int) -> np.ndarray:
    """The k images of largest activation; of those that tie at the end, the first ones."""
    if k >= len(column):
        return np.arange(len(column))
    last = np.partition(column, len(column) - k)[len(column) - k]
    above = np.flatnonzero(column > last)
    return np.concatenate([above, np.flatnonzero(column == last)[: k - len(above)]])


def _two_means(
    images: Float[np.ndarray, "units k d"], starts: Float[np.ndarray, "starts 2"]
) -> Bool[np.ndarray, "units k"]:
    """Which images are in the second cluster, by the best start.

    All that k-means compares follows from the products of a unit's few images, so that neither the starts nor the steps
    touch the long embeddings.
    """
    units, k, _ = images.shape
    centred = images - images.mean(axis=1, keepdims=True)
    products = centred @ centred.transpose(0, 2, 1)
    lengths = np.einsum("ukk->uk", products)
    distances = np.maximum(lengths[:, :, None] + lengths[:, None] - 2 * products, 0.0)
    first = (starts[:, 0] * k).astype(np.intp)
    from_first = distances[:, first]
    sums = from_first.cumsum(axis=2)
    drawn = np.minimum((sums <= starts[:, 1, None] * sums[:, :, -1:]).sum(axis=2), k - 1)
    second = np.take_along_axis(distances, drawn[:, :, None], axis=1) < from_first
    inertia = np.zeros((units, len(starts)))
    for _ in range(_MOST_STEPS):
        sizes = np.maximum(np.stack([k - second.sum(axis=2), second.sum(axis=2)]), 1)[..., None]
        parts = np.stack([~second, second]).astype(np.float64)
        sums = parts @ products / sizes
        centres = (parts * sums).sum(axis=3, keepdims=True) / sizes
        away = centres - 2 * sums
        inertia = lengths.sum(axis=1)[:, None] - (sizes * centres).sum(axis=(0, 3))
        # Images that are all equal have no second cluster.
        moved = (away[1] < away[0]) & second.any(axis=2, keepdims=True)
        if (moved == second).all():
            break
        second = moved
    return second[np.arange(units), inertia.argmin(axis=1)]


def _mean(images: Float[np.ndarray, "units k d"], members: Bool[np.ndarray, "units k"]) -> Float[np.ndarray, "units d"]:
    return np.einsum("ukd,uk->ud", images, members.astype(np.float64)) / np.maximum(members.sum(axis=1), 1)[:, None]


def _cosine(first: Float[np.ndarray, "*n d"], second: Float[np.ndarray, "*n d"]) -> Float[np.ndarray, "*n"]:
    return np.clip((_unit_length(first) * _unit_length(second)).sum(axis=-1), -1.0, 1.0)


def _checked(embeddings: Float[np.ndarray, "units k d"]) -> Float[np.ndarray, "units k d"]:
    images = np.asarray(embeddings, dtype=np.float64)
    if images.ndim != 3 or images.shape[1] < 2:
        raise ValueError(f"embeddings must be [units, k, d] with at least two images, not {list(images.shape)}")
    return images


def _unit_length(vectors: Float[np.ndarray, "*n d"]) -> Float[np.ndarray, "*n d"]:
    """Rows of NaN for those without a direction."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(np.isfinite(lengths) & (lengths > 0), lengths, np.nan)
