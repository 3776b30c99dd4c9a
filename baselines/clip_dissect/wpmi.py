"""Weighted pointwise mutual information of CLIP-Dissect: ``wpmi`` and its soft form.

Both sum, over a unit's top images x_j, log(offset_j + slope_j·Q[x_j, c]), where Q is the softmax over concepts.
``mode="code"`` does it as released: the terms of each unit in float32, one logarithm per term. ``mode="fixed"`` takes
the logarithm of products of many terms, a few concepts at a time, and never materialises Q; given the factors of P
(``CosineFactors``), it does not materialise P either. Exponents, logarithms and sums are float64; cosines of embeddings
and products of some twenty terms are float32, so that a score of 100 terms is off by about 1e-6, whereas those of the
release are quantised in steps of 2⁻¹⁵ = 3e-5.

The release leaves to the sorting which of several images of equal activation is x_j, and which is no top image at all.
``fixed`` uses the mean of L over all orders of such images, so that each of them counts alike: most units of a ReLU
layer are positive on fewer than top_k images, and the first of the others in the file would decide their labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from baselines.base import Mode
from baselines.evidence import tied_images, top_image_table
from baselines.workers import workers
from tasks.common.errors import UserError

TOP_K = {"wpmi": 28, "soft_wpmi": 100}
"""The published numbers of top images."""

_TERMS_AT_ONCE = 2**21
_VALUES_AT_ONCE = 2**20
# Elements that a thread multiplies at a time: few enough to fit its cache; a GPU needs more work per step.
_VALUES_IN_CACHE = 2**17
_VALUES_ON_GPU = 2**22
_LOG_OF_LARGEST = 700.0


class CosineFactors(NamedTuple):
    """P [images, concepts] as the unit-norm embeddings whose product it is."""

    images: Float[Tensor, "images d"]
    text: Float[Tensor, "concepts d"]

    @property
    def shape(self) -> tuple[int, int]:
        """(images, concepts)."""
        return len(self.images), len(self.text)

    def matrix(self) -> Float[Tensor, "images concepts"]:
        """P."""
        return self.images @ self.text.T


def wpmi(
    p: Float[Tensor, "images concepts"] | CosineFactors,
    a: Float[Tensor, "images units"],
    mode: Mode,
    *,
    top_k: int = TOP_K["wpmi"],
    scale: float = 2.0,
    lam: float = 0.6,
    epsilon: float = 1e-7,
    prior_units: Bool[Tensor, " units"] | None = None,
    copies: Int[Tensor, " images"] | None = None,
) -> Float[Tensor, "units concepts"]:
    """S = L − lam·prior, L[k, c] = Σ over the top_k images x of unit k of log(Q[x, c] + epsilon).

    Q = softmax over concepts of scale·P; prior[c] = log of the mean over units of exp L[k, c]; ``prior_units`` excludes
    dead units from that mean. ``copies`` gives all copies of an image one number, where images occur repeatedly: their
    order makes no difference, and need not be averaged over.

    Raises:
        UserError: Fewer images than top_k.
    """
    top = _top("wpmi", a, top_k)
    if mode == "code":
        return _as_released(lambda rows: torch.log(rows + epsilon), p, top, scale, lam, prior_units)
    return _in_products(p, a, top, [epsilon] * top_k, [1.0] * top_k, scale, lam, prior_units, copies)


def soft_wpmi(
    p: Float[Tensor, "images concepts"] | CosineFactors,
    a: Float[Tensor, "images units"],
    mode: Mode,
    *,
    top_k: int = TOP_K["soft_wpmi"],
    scale: float = 10.0,
    lam: float = 1.0,
    epsilon: float = 1e-7,
    p_start: float = 0.998,
    p_end: float = 0.97,
    prior_units: Bool[Tensor, " units"] | None = None,
    copies: Int[Tensor, " images"] | None = None,
) -> Float[Tensor, "units concepts"]:
    """S = L − lam·prior, L[k, c] = Σ_j log(1 + p_j (Q[x_j, c] − 1) + epsilon), x_j the j-th most activating image.

    p_j = p_start − (j / top_k)(p_start − p_end), j = 0..top_k − 1, is the probability that the j-th image shows the
    concept at all; Q, the prior and ``copies`` are those of ``wpmi``.

    Raises:
        UserError: Fewer images than top_k.
    """
    top = _top("soft_wpmi", a, top_k)
    if mode == "code":
        shown = p_start - torch.arange(top_k, dtype=a.dtype, device=a.device) / top_k * (p_start - p_end)
        shown = shown.unsqueeze(-1)
        return _as_released(lambda rows: torch.log(1 + shown * (rows - 1) + epsilon), p, top, scale, lam, prior_units)
    slopes = [p_start - rank / top_k * (p_start - p_end) for rank in range(top_k)]
    return _in_products(p, a, top, [1 - slope + epsilon for slope in slopes], slopes, scale, lam, prior_units, copies)


def _top(name: str, a: Float[Tensor, "images units"], top_k: int) -> Int[Tensor, "units k"]:
    if top_k < 1:
        raise UserError(f"top_k of {name} must be at least 1, not {top_k}.")
    if a.shape[0] < top_k:
        raise UserError(
            f"The similarity {name} uses the {top_k} most activating images of each unit, but the probing set has "
            f"{a.shape[0]}: use at least {top_k} images, or set clip_dissect's option top_k to {a.shape[0]} or less."
        )
    return largest_in_columns(a, top_k)


def largest_in_columns(a: Float[Tensor, "rows columns"], k: int) -> Int[Tensor, "columns k"]:
    """``top_image_table`` without a full sort: the rows of the k largest values of each column."""
    parts = []
    for some in a.split(max(1, _VALUES_AT_ONCE // max(1, a.shape[0])), dim=1):
        values, rows = some.T.topk(min(k + 1, a.shape[0]), dim=1)
        table = rows[:, :k]
        # Which of several equal values topk returns, and in which order, differs between devices and sizes.
        tied = (values[:, 1:] == values[:, :-1]).any(dim=1)
        if bool(tied.any()):
            table[tied] = top_image_table(some[:, tied], k)
        parts.append(table)
    return torch.cat(parts)


def _as_released(
    term: Callable[[Tensor], Tensor],
    p: Float[Tensor, "images concepts"] | CosineFactors,
    top: Int[Tensor, "units k"],
    scale: float,
    lam: float,
    prior_units: Bool[Tensor, " units"] | None,
) -> Float[Tensor, "units concepts"]:
    # The release sums each unit's terms in one float32 reduction; a different summation order changes labels that tie.
    q = torch.softmax(scale * (p.matrix() if isinstance(p, CosineFactors) else p), dim=1)
    step = max(1, _TERMS_AT_ONCE // (top.shape[1] * q.shape[1]))
    likelihood = torch.cat([term(q[some]).sum(dim=1) for some in top.split(step)])
    counted = likelihood if prior_units is None else likelihood[prior_units]
    return likelihood - lam * (torch.logsumexp(counted, dim=0) - math.log(len(counted)))


class _Ties(NamedTuple):
    """Images of equal activation among the top images of some units, which share their ranks.

    A group of t images that holds the ranks r to s − 1 has the mean likelihood Σ_i (tail_i(r) − tail_i(s)) / t, where
    tail_i(r) is the sum of image i's terms from rank r on.

    Attributes:
        mask: The ranks of each unit that are shared; none of an excluded unit, which has no label.
        images: Those that share ranks of some unit.
        edges: A rank at which groups start or end, the last one first; units; the weight of each image's tail.
    """

    mask: Bool[Tensor, "units k"]
    images: Int[Tensor, " tied"]
    edges: list[tuple[int, Int[Tensor, " some"], Float[Tensor, "some tied"]]]

    @classmethod
    def of(
        cls,
        a: Float[Tensor, "images units"],
        top: Int[Tensor, "units k"],
        among: Bool[Tensor, " units"] | None,
        copies: Int[Tensor, " images"] | None,
    ) -> _Ties:
        values = a.detach().T.gather(1, top)
        k = top.shape[1]
        same = torch.nn.functional.pad(values[:, 1:] == values[:, :-1], (1, 1))
        mask = same[:, 1:] | same[:, :-1]
        beyond = tied_images(a, k)
        mask[:, -1] |= beyond > 0
        if copies is not None:
            # Copies have the same activation, so a group of one image is as large as the image has copies.
            group = (~same[:, :-1]).cumsum(dim=1) - 1
            size = torch.zeros_like(group).scatter_add_(1, group, torch.ones_like(group)).gather(1, group)
            cut = (beyond > 0)[:, None] & (group == group[:, -1:])
            mask &= torch.where(cut, beyond[:, None], size) != copies.bincount()[copies][top]
        if among is not None:
            mask &= among.to(mask.device).unsqueeze(1)
        units, starts = (mask & ~same[:, :-1]).nonzero(as_tuple=True)
        members = a[:, units] == values[units, starts]
        images = members.any(dim=1).nonzero()[:, 0]
        counts = members.sum(dim=0)
        stops = (starts + counts).clamp_max(k)
        weights = (members[images] / counts.double()).T
        edges = []
        for rank in reversed(torch.cat([starts, stops[stops < k]]).unique().tolist()):
            first, last = starts == rank, stops == rank
            edges.append((rank, torch.cat([units[first], units[last]]), torch.cat([weights[first], -weights[last]])))
        return cls(mask, images, edges)

    def terms(self, offsets: Sequence[float], slopes: Sequence[float]) -> list[_Factors]:
        """The terms from each edge to the one before it, without their constants."""
        stops = [len(offsets), *(rank for rank, _, _ in self.edges)]
        parts = [slice(rank, stop) for (rank, _, _), stop in zip(self.edges, stops, strict=False)]
        return [_Factors.of(offsets[part], slopes[part])._replace(constant=0.0) for part in parts]

    def add(
        self,
        likelihood: Float[Tensor, "units concepts"],
        q: Float[Tensor, "images concepts"],
        rows: Int[Tensor, " tied"],
        terms: Sequence[_Factors],
        tail: Float[Tensor, "tied concepts"],
        *tiles: Float[Tensor, "tied concepts"],
    ) -> None:
        """Add the mean likelihoods of all groups, whose images are these rows of q; the rest are buffers."""
        ranks = [rows] * self.mask.shape[1]
        tail.zero_()
        for (_, units, weights), some in zip(self.edges, terms, strict=True):
            tail += _sum_of_logs(q, ranks, some, *tiles)
            likelihood.index_add_(0, units, weights @ tail)


def _in_products(
    p: Float[Tensor, "images concepts"] | CosineFactors,
    a: Float[Tensor, "images units"],
    top: Int[Tensor, "units k"],
    offsets: Sequence[float],
    slopes: Sequence[float],
    scale: float,
    lam: float,
    prior_units: Bool[Tensor, " units"] | None,
    copies: Int[Tensor, " images"] | None,
) -> Float[Tensor, "units concepts"]:
    """S with L[k, c] = Σ_j log(offset_j + slope_j·Q[top[k, j], c]), its mean over all orders of images that tie.

    Independent of the number of threads.
    """
    (images, concepts), units, device = p.shape, len(top), top.device
    ties = _Ties.of(a, top, prior_units, copies)
    needed = torch.cat([top.T.flatten(), ties.images])
    seen, places = needed.unique(return_inverse=True)
    # A copy of most of P would cost more memory than the images that no unit needs cost time.
    if 2 * len(seen) < images:
        p = CosineFactors(p.images[seen], p.text) if isinstance(p, CosineFactors) else p[seen]
        needed, images = places, len(seen)
    rows, tied = needed[: top.numel()].view(top.T.shape), needed[top.numel() :]
    if isinstance(p, CosineFactors):
        p = CosineFactors(p.images.float(), p.text.float())
    # −log Σ_c exp(scale·P[x, c]), which turns each exponent into its softmax independently.
    # The last row of Q is 0 and stands for the images of shared ranks, whose terms are added with those of all images.
    ranks, factors = rows.masked_fill(ties.mask.T, images).unbind(), _Factors.of(offsets, slopes)
    terms = ties.terms(offsets, slopes)
    shift = torch.empty(images, 1, dtype=torch.float64, device=device)
    scores = torch.empty(units, concepts, dtype=torch.float64, device=device)

    # Each thread reuses its own buffers: fresh memory costs more time than the sums.
    def normalise(pieces: Sequence[slice]) -> None:
        space = _space(pieces, concepts, device, torch.float64)
        for some in pieces:
            exponents = _part(p, some, slice(None), space).mul_(scale)
            largest = exponents.amax(dim=1, keepdim=True)
            sums = _in_place("exp", exponents.sub_(largest)).sum(dim=1, keepdim=True)
            shift[some] = -(sums.log_() + largest)

    def score(pieces: Sequence[slice]) -> None:
        space, product = (_space(pieces, count, device, torch.float64) for count in (images, units))
        narrow, *more = (_space(pieces, count, device, factors.dtype) for count in (images + 1, units, units))
        kinds = (torch.float64, torch.float64, factors.dtype, factors.dtype) if terms else ()
        shared = [_space(pieces, len(tied), device, kind) for kind in kinds]
        for some in pieces:
            cosines = _part(p, slice(None), some, space)
            exact = _in_place("exp", torch.add(shift, cosines, alpha=scale, out=cosines))
            q = _shaped(narrow, images + 1, exact.shape[1])
            q[:images], q[images] = exact, 0
            tiles = [_shaped(one, units, q.shape[1]) for one in (product, *more)]
            likelihood = _sum_of_logs(q, ranks, factors, *tiles)
            if terms:
                ties.add(likelihood, q, tied, terms, *(_shaped(one, len(tied), q.shape[1]) for one in shared))
            scores[:, some] = likelihood.sub_(_prior(likelihood, prior_units).mul_(lam))

    on_processor = device.type == "cpu"
    at_once = _VALUES_IN_CACHE if on_processor else _VALUES_ON_GPU
    # A matrix product has to read all text embeddings for each piece.
    rows_at_once = (8 if isinstance(p, CosineFactors) else 1) * at_once // max(1, concepts)
    columns_at_once = min(256, at_once // max(1, units))
    threads = torch.get_num_threads() if on_processor else 1
    with workers() if on_processor else nullcontext(map) as each:
        for work, count, size in ((normalise, images, rows_at_once), (score, concepts, columns_at_once)):
            list(each(work, _shares(count, size, threads)))
    return scores


def _shares(count: int, size: int, threads: int) -> list[list[slice]]:
    """Pieces of ``range(count)``, distributed round-robin over the threads; no empty shares."""
    size = max(1, size)
    pieces = [slice(start, min(start + size, count)) for start in range(0, count, size)]
    return [pieces[first::threads] for first in range(min(threads, len(pieces)))]


def _space(pieces: Sequence[slice], rows: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, " values"]:
    """A buffer for the largest of the pieces with that many rows or columns."""
    longest = max(piece.stop - piece.start for piece in pieces)
    return torch.empty(rows * longest, dtype=dtype, device=device)


def _part(
    p: Float[Tensor, "images concepts"] | CosineFactors,
    images: slice,
    concepts: slice,
    space: Float[Tensor, " values"],
) -> Float[Tensor, "some concepts"]:
    """Some images and concepts of P in float64, written into that buffer."""
    chosen = p.images[images] @ p.text[concepts].T if isinstance(p, CosineFactors) else p.detach()[images, concepts]
    return _shaped(space, *chosen.shape).copy_(chosen)


def _shaped(space: Float[Tensor, " values"], rows: int, columns: int) -> Float[Tensor, "rows columns"]:
    return space[: rows * columns].view(rows, columns)


class _Factors(NamedTuple):
    """offset_j + slope_j·q = offset_j·(1 + ratio_j·q), for q in [0, 1]."""

    ratios: list[float]
    constant: float
    dtype: torch.dtype
    groups: list[tuple[range, float]]

    @classmethod
    def of(cls, offsets: Sequence[float], slopes: Sequence[float]) -> _Factors:
        """``groups`` of factors whose product fits the dtype, with the logarithm of the largest possible product."""
        # Without an offset, log q is log(1e-300) + log(1 + q / 1e-300).
        constants = [max(offset, 1e-300) for offset in offsets]
        ratios = [slope / constant for slope, constant in zip(slopes, constants, strict=True)]
        dtype = torch.float32 if max(ratios) < 1e9 else torch.float64
        limit = math.log(torch.finfo(dtype).max) - 1
        groups, first, largest = [], 0, 0.0
        for rank, ratio in enumerate(ratios):
            if largest + math.log1p(ratio) > limit:
                groups.append((range(first, rank), largest))
                first, largest = rank, 0.0
            largest += math.log1p(ratio)
        groups.append((range(first, len(ratios)), largest))
        return cls(ratios, math.fsum(map(math.log, constants)), dtype, groups)


def _sum_of_logs(
    q: Float[Tensor, "images concepts"],
    rows: Sequence[Int[Tensor, " units"]],
    factors: _Factors,
    product: Float[Tensor, "units concepts"],
    group: Float[Tensor, "units concepts"],
    factor: Float[Tensor, "units concepts"],
) -> Float[Tensor, "units concepts"]:
    """Σ_j log(offset_j + slope_j·q[rows[j]]), as the logarithm of products, using ``product`` as buffer."""
    total = None
    product.fill_(1.0)
    reached = 0.0
    for ranks, largest in factors.groups:
        group.fill_(1.0)
        for rank in ranks:
            torch.index_select(q, 0, rows[rank], out=factor)
            group.addcmul_(group, factor, value=factors.ratios[rank])
        if reached + largest > _LOG_OF_LARGEST:
            logarithm = _in_place("log", product)
            total = logarithm.clone() if total is None else total.add_(logarithm)
            product.fill_(1.0)
            reached = 0.0
        product.mul_(group)
        reached += largest
    logarithm = _in_place("log", product).add_(factors.constant)
    return logarithm if total is None else logarithm.add_(total)


def _prior(
    likelihood: Float[Tensor, "units concepts"], prior_units: Bool[Tensor, " units"] | None
) -> Float[Tensor, " concepts"]:
    """Log of the mean over units of exp likelihood."""
    counted = likelihood if prior_units is None else likelihood[prior_units]
    largest = counted.amax(dim=0)
    return _in_place("exp", counted - largest).sum(dim=0).log_().add_(largest - math.log(len(counted)))


def _in_place(function: Literal["exp", "log"], x: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """The function of each element; on a CPU NumPy takes half of torch's time."""
    if x.device.type == "cpu":
        getattr(np, function)(x.numpy(), out=x.numpy())
        return x
    return getattr(x, f"{function}_")()
