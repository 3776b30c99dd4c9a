"""The five similarity functions of CLIP-Dissect between the units of a layer and a set of concepts.

Oikarinen & Weng, "CLIP-Dissect: Automatic Description of Neuron Representations in Deep Vision Networks", ICLR 2023
(arXiv 2204.10965). P [images, concepts] holds cosines of CLIP image and text features, A [images, units] the pooled
activations; every function gives S [units, concepts], higher is better.

``mode="fixed"`` computes in float64 (``wpmi`` and ``soft_wpmi`` to about 1e-6, see ``wpmi.py``) and defines what the
release leaves undefined. ``mode="code"`` computes in float32 as the release does (its log-likelihoods are sums near
−500, so scores are quantised at 2⁻¹⁵) and keeps its NaNs. The release leaves the order of equal activations to the
device: in ``code`` it is that of the images, in ``fixed`` no score depends on it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from baselines.base import Mode
from baselines.clip_dissect.wpmi import TOP_K, CosineFactors, soft_wpmi, wpmi
from baselines.evidence import tied_images, top_image_table
from tasks.common.errors import UserError, unknown_name
from tasks.common.seeding import generator

SimilarityName = Literal["cos", "cos_cubed", "rank_reorder", "wpmi", "soft_wpmi"]

_ELEMENTS_AT_ONCE = 2**21
_SMALLEST_MEAN_COSINE = 1e-6


def similarity(
    name: SimilarityName | str,
    clip_similarity: Float[Tensor, "images concepts"] | CosineFactors,
    activations: Float[Tensor, "images units"],
    *,
    mode: Mode = "fixed",
    **parameters: Any,
) -> Float[Tensor, "units concepts"]:
    """Score every unit of a layer against every concept.

    ``wpmi`` and ``soft_wpmi`` include a prior over the given units, so pass the complete layer.

    Args:
        name: ``cos``, ``cos_cubed``, ``rank_reorder``, ``wpmi`` or ``soft_wpmi``.
        clip_similarity: Cosines in [-1, 1] of each image with each concept; or the embeddings whose product they are,
            which ``wpmi`` and ``soft_wpmi`` in ``fixed`` mode need not multiply out completely.
        activations: Pooled activations of the complete layer, finite.
        mode: ``fixed`` (float64) or ``code`` (float32, as released).
        parameters: Overrides of the function's parameters: ``epsilon`` of cos_cubed; ``p_norm``, ``top_fraction``,
            ``scale_p``, ``seed`` of rank_reorder; ``top_k``, ``scale``, ``lam``, ``epsilon``, ``prior_units`` and
            ``copies`` of both wpmi; ``p_start``, ``p_end`` of soft_wpmi. The defaults are the published ones.

    Returns:
        Scores, float64 (``fixed``) or float32 (``code``); higher is better.

    Raises:
        UserError: Unknown name or parameter, or fewer images than the function needs.
        ValueError: Arrays with inconsistent shapes or non-finite values.
    """
    if name not in _SIMILARITIES:
        raise unknown_name("similarity", name, _SIMILARITIES)
    if mode not in get_args(Mode):
        raise unknown_name("mode", mode, get_args(Mode))
    function = _SIMILARITIES[name]
    accepted = [
        key for key, value in inspect.signature(function).parameters.items() if value.kind is value.KEYWORD_ONLY
    ]
    for key in parameters:
        if key not in accepted:
            raise unknown_name(f"parameter of {name}", key, accepted)
    _check(clip_similarity, activations)
    if mode == "fixed" and name in TOP_K:  # these take a few concepts at a time, and need no copy of all cosines
        return function(clip_similarity, activations, mode, **parameters)
    dtype = torch.float64 if mode == "fixed" else torch.float32
    p = clip_similarity.matrix() if isinstance(clip_similarity, CosineFactors) else clip_similarity
    return function(p.to(dtype), activations.to(dtype), mode, **parameters)


def cos(p: Float[Tensor, "images concepts"], a: Float[Tensor, "images units"], mode: Mode) -> Tensor:
    """S = Âᵀ P̂ with columns of unit L2 norm, not centred; a column of zeros scores 0 (``code``: NaN)."""
    smallest = torch.finfo(a.dtype).tiny if mode == "fixed" else 0.0
    return (a / a.norm(dim=0).clamp_min(smallest)).T @ (p / p.norm(dim=0).clamp_min(smallest))


def cos_cubed(
    p: Float[Tensor, "images concepts"], a: Float[Tensor, "images units"], mode: Mode, *, epsilon: float = 1e-3
) -> Tensor:
    """Columns centred, cubed element by element, divided by max(‖·‖₂, epsilon); S = Âᵀ P̂."""
    del mode  # The formula is defined everywhere: only the precision differs.
    cubed = [(matrix - matrix.mean(dim=0)) ** 3 for matrix in (a, p)]
    units, concepts = (matrix / matrix.norm(dim=0).clamp_min(epsilon) for matrix in cubed)
    return units.T @ concepts


def rank_reorder(
    p: Float[Tensor, "images concepts"],
    a: Float[Tensor, "images units"],
    mode: Mode,
    *,
    p_norm: float = 3.0,
    top_fraction: float = 0.05,
    scale_p: float = 0.5,
    seed: int = 0,
) -> Tensor:
    """S = −e / (mean P)^scale_p: how badly a concept orders the unit's top images, relative to chance.

    With t the n = ⌊top_fraction·images⌋ largest activations, r the same values in the order of the concept's P,
    e = mean|t − r|^p_norm / b, and b the same mean for five random orders.

    The five orders are drawn for each unit by its number (the release draws them from the global generator). ``fixed``
    clamps the mean cosine to at least 1e-6, where the release gives NaN for a negative one, leaves out the images that
    tie with one beyond the n-th, and uses e = 1, chance level, if all the others are equal; if none is left, P is that
    of all images that share the highest activation.

    Raises:
        UserError: n is 0.
    """
    images, units = a.shape
    n = math.floor(top_fraction * images + 1e-9)
    if n < 1:
        needed = math.ceil(1 / top_fraction)
        raise UserError(
            f"The similarity rank_reorder uses the top {top_fraction:.0%} of the images, but the probing set has "
            f"{images}: use at least {needed} images, or another similarity."
        )
    top = top_image_table(a, n)
    descending = a.T.gather(1, top)
    counts = torch.full((units,), n, device=a.device)
    if mode == "fixed":
        counts = torch.where(tied_images(a, n) > 0, (a > descending[:, -1]).sum(dim=0), counts)
    chance = _random_order_distance(descending, counts, p_norm, seed)
    scores = torch.empty(units, p.shape[1], dtype=a.dtype, device=a.device)
    for count in counts.unique().tolist():
        alike = (counts == count).nonzero()[:, 0]
        for some in alike.split(max(1, _ELEMENTS_AT_ONCE // max(1, n * p.shape[1]))):
            if count:
                values = p[top[some, :count]]
                ranks = values.argsort(dim=1, stable=True).argsort(dim=1)
                t = descending[some, :count].unsqueeze(-1)
                reordered = t.flip(1).expand(-1, -1, p.shape[1]).gather(1, ranks)
                error = (t - reordered).abs().pow(p_norm).mean(dim=1) / chance[some].unsqueeze(-1)
                mean_cosine = values.mean(dim=1)
            else:
                highest = (a[:, some] == descending[some, 0]).to(p.dtype)
                error, mean_cosine = p.new_tensor(1.0), (highest / highest.sum(dim=0)).T @ p
            if mode == "fixed":
                error = error.where(chance[some].unsqueeze(-1) > 0, 1.0)
                mean_cosine = mean_cosine.clamp_min(_SMALLEST_MEAN_COSINE)
            scores[some] = -error / mean_cosine.pow(scale_p)
    return scores


_SIMILARITIES: dict[str, Callable[..., Tensor]] = {
    "cos": cos,
    "cos_cubed": cos_cubed,
    "rank_reorder": rank_reorder,
    "wpmi": wpmi,
    "soft_wpmi": soft_wpmi,
}


# Rounded embeddings in half precision overshoot 1 a little.
_LARGEST_COSINE = 1.05


def _check(p: Tensor | CosineFactors, a: Tensor) -> None:
    if len(p.shape) != 2 or a.ndim != 2 or p.shape[0] != a.shape[0]:
        raise ValueError(
            "clip_similarity must be [images, concepts] and activations [images, units] over the same images, "
            f"not {list(p.shape)} and {list(a.shape)}"
        )
    for what, parts in (("clip_similarity", p if isinstance(p, CosineFactors) else (p,)), ("activations", (a,))):
        # The extremes are NaN or infinite if any value is, and need no second matrix.
        if not all(bool(extreme.isfinite()) for part in parts if part.numel() for extreme in part.aminmax()):
            raise ValueError(f"{what} holds NaN or infinite values; exclude such units before scoring")
    if isinstance(p, Tensor) and p.numel() and float(p.abs().max()) > _LARGEST_COSINE:
        raise ValueError(
            f"clip_similarity holds {float(p.abs().max()):.3g}; give cosines, without CLIP's factor of 100"
        )


def _random_order_distance(
    descending: Float[Tensor, "units n"], counts: Int[Tensor, " units"], p_norm: float, seed: int
) -> Float[Tensor, " units"]:
    """Mean |t − perm(t)|^p_norm over five random orders of each unit's first values, as many as ``counts`` says."""
    total = torch.zeros(len(counts), dtype=descending.dtype)
    for unit, (values, count) in enumerate(zip(descending.cpu(), counts.tolist(), strict=True)):
        if count:
            ascending = values[:count].flip(0)
            draw = generator(seed, "clip_dissect", "rank_reorder", unit)
            orders = torch.stack([torch.from_numpy(draw.permutation(count)) for _ in range(5)])
            total[unit] = (ascending - ascending[orders]).abs().pow(p_norm).mean()
    return total.to(descending.device)
