"""One pass over the maps: each unit's threshold, exact and in bounded memory, and the images of its highest values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from baselines.base import Mode
from baselines.evidence import EVIDENCE_SIZE
from baselines.workers import workers
from tasks.activations.maps import Maps
from tasks.common.errors import UserError

_VALUES_AT_ONCE = 2**21
"""Small enough that several copies of a part are negligible beside a block of maps."""


class Survey(NamedTuple):
    """Statistics of the maps of some units, one row per unit, in the given order.

    Attributes:
        thresholds: T_k, float32; meaningless where ``finite`` is False.
        finite: False for a unit with a NaN or infinite value anywhere.
        strongest: The images of the highest values, highest first, ties by smaller index; one more than the evidence
            holds.
        peaks: The highest value in each of those images.
    """

    thresholds: Float[Tensor, " units"]
    finite: Bool[Tensor, " units"]
    strongest: Int[Tensor, "units k"]
    peaks: Float[Tensor, "units k"]


def survey(maps: Maps, units: Sequence[int], quantile: float, mode: Mode = "fixed") -> Survey:
    """T_k with P(a > T_k) = quantile over all positions of all images, and the unit's top images.

    ``fixed``: the (⌊quantile·n⌋ + 1)-th largest of a unit's n values (the inverse of the empirical distribution
    function), so that exactly ⌊quantile·n⌋ values exceed it, fewer if values tie. ``code``: the quantile
    int(1000·(1 − quantile) − 1)/999 with linear interpolation, as NetDissect-Lite computes it (994/999 for 0.005).

    Memory holds the values from the threshold upwards, i.e. the share ``quantile`` of the maps, at most twice, and a
    part of a block.

    Args:
        maps: Maps of the complete layer; read once.
        units: Unit numbers, from 0.
        quantile: Share of the positions above the threshold, in (0, 1).
        mode: ``fixed`` or ``code``.

    Raises:
        UserError: ⌊quantile·n⌋ is 0, so that no position could exceed the threshold.
    """
    images, _, height, width = maps.shape
    n = images * height * width
    below, fraction = _place(n, quantile, mode) if n else (-1, 0.0)
    if below < 0:
        raise UserError(
            f"Network Dissection needs at least {math.ceil(1 / quantile)} positions for the quantile {quantile:g}, but "
            f"{images} images of {height}x{width} positions have {n}: use more images or a larger quantile."
        )
    # Units are divided among the threads.
    shares = torch.arange(len(units)).tensor_split(min(torch.get_num_threads(), len(units)))
    with workers() as each:
        groups = [_Group(len(share), n - below) for share in shares]
        sizes = [group.units for group in groups]
        for first, part in float_parts(maps, units):
            list(each(_Group.add, groups, part.flatten(2).split(sizes, dim=1), repeat(first)))
        lower, upper = (torch.cat(parts) for parts in zip(*each(_Group.two_smallest, groups), strict=True))
    finite, strongest, peaks = (
        torch.cat([getattr(group, name) for group in groups]) for name in ("finite", "strongest", "peaks")
    )
    return Survey((lower + (upper - lower) * fraction).float(), finite, strongest, peaks)


def float_parts(maps: Maps, units: Sequence[int]) -> Iterator[tuple[int, Float[Tensor, "images units h w"]]]:
    """All maps of some units as float32, a few images at a time and in order, with the index of the first image."""
    _, count, height, width = maps.shape
    step = max(1, _VALUES_AT_ONCE // max(1, len(units) * height * width))
    complete = len(units) == count and list(units) == list(range(count))
    for numbers, block in maps.blocks(None if complete else units):
        for start in range(0, len(numbers), step):
            yield numbers[start], block[start : start + step].float()


def _place(n: int, quantile: float, mode: Mode) -> tuple[int, float]:
    """How many of n sorted values are below the threshold, and the interpolation weight towards the next value.

    The first is −1 if no value could exceed the threshold.
    """
    above = math.floor(quantile * n + 1e-9)
    if above < 1:
        return -1, 0.0
    if mode == "fixed":
        return n - above - 1, 0.0
    below, rest = divmod((n - 1) * int(1000 * (1 - quantile) - 1 + 1e-9), 999)
    return below, rest / 999


class _Group:
    """Running statistics of some units: the k largest values of each, and the attributes of ``Survey``."""

    def __init__(self, units: int, k: int) -> None:
        self.units = units
        self.finite = torch.ones(units, dtype=torch.bool)
        self.strongest = torch.empty(units, 0, dtype=torch.int64)
        self.peaks = torch.empty(units, 0)
        self._k = k
        self._kept = torch.empty(units, 0)
        self._bound = torch.empty(units, 1)
        self._waiting: list[Float[Tensor, "units some"]] = []

    def add(self, maps: Float[Tensor, "images units positions"], first: int) -> None:
        """Add the maps of some images; ``first`` is the index of the first one."""
        # The sum is NaN or infinite if any value is, and rarely otherwise.
        if not maps.sum().isfinite():
            self.finite &= maps.isfinite().all(dim=2).all(dim=0)
        highest = maps.amax(dim=2).T
        numbers = torch.arange(first, first + len(maps)).expand(self.units, -1)
        peaks, order = torch.cat([self.peaks, highest], dim=1).sort(dim=1, descending=True, stable=True)
        self.strongest = torch.cat([self.strongest, numbers], dim=1).gather(1, order)[:, : EVIDENCE_SIZE + 1]
        self.peaks = peaks[:, : EVIDENCE_SIZE + 1]
        self._waiting.append(self._candidates(maps, highest))
        if sum(part.shape[1] for part in self._waiting) >= self._k:
            self._merge()

    def _candidates(
        self, maps: Float[Tensor, "images units positions"], highest: Float[Tensor, "units images"]
    ) -> Float[Tensor, "units some"]:
        """The values above the k-th largest so far: few, once many have been seen. Rows are padded with −∞."""
        if self._kept.shape[1] < self._k:
            return maps.transpose(0, 1).flatten(1)
        unit, image = (highest > self._bound).nonzero(as_tuple=True)
        values = maps[image, unit]
        row, position = (values > self._bound[unit]).nonzero(as_tuple=True)
        owner = unit[row]
        counts = owner.bincount(minlength=self.units)
        place = torch.arange(len(owner)) - (counts.cumsum(0) - counts)[owner]
        found = torch.full((self.units, int(counts.max())), -torch.inf)
        found[owner, place] = values[row, position]
        return found

    def two_smallest(self) -> tuple[Float[Tensor, " units"], Float[Tensor, " units"]]:
        """The k-th and the (k − 1)-th largest, float64; with k = 1 the largest twice."""
        self._merge()
        least = self._kept.topk(min(2, self._k), dim=1, largest=False).values.double()
        return least[:, 0], least[:, -1]

    def _merge(self) -> None:
        joined = torch.cat([self._kept, *self._waiting], dim=1)
        self._waiting.clear()
        self._kept = joined.topk(min(self._k, joined.shape[1]), dim=1, sorted=False).values
        if self._kept.shape[1] == self._k:
            self._bound = self._kept.amin(dim=1, keepdim=True)
