"""How Describe-and-Dissect selects among candidate concepts: ranks of synthetic images, and image similarity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from tasks.common.errors import unknown_name

Scoring = Literal["topk_compare", "topk_sq_mean", "mean", "median", "sq_mean", "image_products"]

Untested = Literal["none", "csp"]
"""The ways to choose without drawing an image: the first candidate, or the nearest one by CSP."""

BETA = 5
"""How many of a concept's best ranks ``topk_sq_mean`` uses."""

TOP_RANKS = 10
"""Synthetic images ranked below this number enter the image comparison."""


def synthetic_ranks(
    activations: Float[np.ndarray, "*cases concepts images"],
) -> Int[np.ndarray, "*cases concepts images"]:
    """Rank one unit's synthetic images by activation, 0 = most activating, among the synthetic images only.

    Args:
        activations: The unit's activation on every synthetic image, in the order of generation.

    Returns:
        The rank of each image, not sorted; ties are ranked by concept, then by image.
    """
    values = np.asarray(activations, dtype=np.float64)
    order = np.argsort(-values.reshape(*values.shape[:-2], -1), axis=-1, kind="stable")
    ranks = np.empty(order.shape, dtype=np.int64)
    np.put_along_axis(ranks, order, np.arange(order.shape[-1]), axis=-1)
    return ranks.reshape(values.shape)


def mean_rank(ranks: Int[np.ndarray, "*cases concepts images"]) -> Float[np.ndarray, "*cases concepts"]:
    """Mean rank of each concept's images; lower is better."""
    return np.mean(ranks, axis=-1)


def median_rank(ranks: Int[np.ndarray, "*cases concepts images"]) -> Float[np.ndarray, "*cases concepts"]:
    """Median rank of each concept's images; lower is better."""
    return np.median(ranks, axis=-1)


def squared_mean_rank(ranks: Int[np.ndarray, "*cases concepts images"]) -> Float[np.ndarray, "*cases concepts"]:
    """Mean of the squared ranks; lower is better."""
    return np.mean(np.square(ranks, dtype=np.float64), axis=-1)


def topk_squared_mean_rank(
    ranks: Int[np.ndarray, "*cases concepts images"], beta: int = BETA
) -> Float[np.ndarray, "*cases concepts"]:
    """Mean of the squares of the ``beta`` smallest ranks; lower is better."""
    return squared_mean_rank(np.sort(ranks, axis=-1)[..., :beta])


def mean_cosines(
    described: Float[np.ndarray, "described d"], synthetic: Float[np.ndarray, "concepts images d"]
) -> Float[np.ndarray, "concepts images"]:
    """Mean cosine of each synthetic image with the described images, all of unit norm."""
    # The mean over all pairs of two sets is the product of the sets' mean vectors.
    reference = np.asarray(described, dtype=np.float64).mean(axis=0)
    return np.asarray(synthetic, dtype=np.float64) @ reference


def mean_of_best(
    ranks: Int[np.ndarray, "*cases concepts images"],
    cosines: Float[np.ndarray, "*cases concepts images"],
    top: int = TOP_RANKS,
) -> Float[np.ndarray, "*cases concepts"]:
    """Mean cosine of each concept's images ranked below ``top``: the score ``image_products``; higher is better.

    Args:
        ranks: From ``synthetic_ranks``, not sorted.
        cosines: From ``mean_cosines``, in [-1, 1].

    Returns:
        Exactly −1 for a concept with no image ranked below ``top``.
    """
    chosen = np.asarray(ranks) < top
    count = chosen.sum(axis=-1)
    means = np.where(chosen, cosines, 0.0).sum(axis=-1) / np.maximum(count, 1)
    return np.where(count > 0, means, -1.0)


def topk_compare(
    ranks: Int[np.ndarray, "*cases concepts images"],
    image_similarity: Float[np.ndarray, "*cases concepts"],
    beta: int = BETA,
    behind: int = 0,
) -> Float[np.ndarray, "*cases concepts"]:
    """Position by ``topk_sq_mean`` (best = number of concepts, worst = 1) times image similarity; higher is better.

    As published, a similarity of −1 reverses the product: of two concepts without an image in the top ten, the one with
    the better ranks scores lower.

    Args:
        behind: Number of further concepts that take the positions below these.
    """
    values = topk_squared_mean_rank(ranks, beta)
    number = np.arange(values.shape[-1])
    own, other = values[..., :, None], values[..., None, :]
    # On ties the larger index is better, as in ``best_first``.
    worse = (own < other) | ((own == other) & (number[:, None] > number))
    return (behind + 1 + worse.sum(axis=-1)) * np.asarray(image_similarity, dtype=np.float64)


def best_first(scores: Sequence[float] | Float[np.ndarray, " concepts"]) -> list[int]:
    """Concept indices by descending score; ties go to the larger index, as published."""
    return sorted(range(len(scores)), key=lambda concept: (scores[concept], concept), reverse=True)


_LOW_IS_GOOD: Mapping[str, Callable[[Int[np.ndarray, "*cases concepts images"]], Float[np.ndarray, " concepts"]]] = {
    "mean": mean_rank,
    "median": median_rank,
    "sq_mean": squared_mean_rank,
    "topk_sq_mean": topk_squared_mean_rank,
}


def concept_scores(
    scoring: str,
    ranks: Int[np.ndarray, "*cases concepts images"],
    image_similarity: Float[np.ndarray, "*cases concepts"],
    behind: int = 0,
) -> Float[np.ndarray, "*cases concepts"]:
    """Score concepts with the named scoring function, with the sign such that higher is better.

    Args:
        scoring: A name of ``Scoring``. Rank-based ones (mean, median, sq_mean, topk_sq_mean) are negated.
        ranks: Ranks of each concept's images, in any order.
        image_similarity: From ``mean_of_best``.
        behind: See ``topk_compare``.

    Raises:
        UserError: Unknown name.
    """
    if scoring in _LOW_IS_GOOD:
        return -_LOW_IS_GOOD[scoring](ranks)
    if scoring == "image_products":
        return np.asarray(image_similarity, dtype=np.float64)
    if scoring == "topk_compare":
        return topk_compare(ranks, image_similarity, behind=behind)
    raise unknown_name("Describe-and-Dissect scoring", scoring, get_args(Scoring))


def select_concepts(
    ranks: Sequence[Sequence[int]] | Int[np.ndarray, "*cases concepts images"],
    image_similarity: Sequence[float] | Float[np.ndarray, " concepts"],
) -> list[int]:
    """Order candidate concepts best first by the published rule, topk-compare.

    Args:
        ranks: For each concept the ranks of its images among all synthetic images of the unit, 0 = most activating.
        image_similarity: For each concept the mean CLIP cosine between its best images and the described ones, −1 if it
            has none in the top ten.

    Raises:
        ValueError: Inconsistent shapes.
    """
    table = np.asarray(ranks)
    similarity = np.asarray(image_similarity, dtype=np.float64)
    if len(table) == 0 and len(similarity) == 0:
        return []
    if table.ndim != 2 or table.shape[1] == 0 or similarity.shape != (len(table),):
        raise ValueError(
            "select_concepts needs ranks [concepts, images] and one image similarity per concept; "
            f"got shapes {table.shape} and {similarity.shape}."
        )
    return best_first(topk_compare(table, similarity))
