"""The number of pixels in which each unit's masks and each annotated concept coincide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt64
from torch import Tensor

from baselines.network_dissection.thresholds import float_parts
from tasks.activations.maps import Maps
from tasks.common.errors import UserError
from tasks.observation import Segmentation

_MAPS_AT_ONCE = 256
"""Few enough that the rows in use stay in the CPU cache."""


class Overlap(NamedTuple):
    """Pixel counts over a probing set, all float64 and exact.

    Attributes:
        intersection: |M_k ∩ L_c| [units, concepts].
        activation: Mask area over the images where it counts for a category [units, categories].
        label: |L_c| over all images [concepts].
        mask: |M_k| over all images [units].
    """

    intersection: Float[Tensor, "units concepts"]
    activation: Float[Tensor, "units categories"]
    label: Float[Tensor, " concepts"]
    mask: Float[Tensor, " units"]


def count_overlap(
    maps: Maps, units: Sequence[int], limits: Float[Tensor, " units"], segmentation: Segmentation
) -> Overlap:
    """Binarise each unit's up-sampled maps and count the pixels shared with each concept.

    Maps are up-sampled bilinearly (``align_corners=False``) to the size of the annotation. An image's mask area counts
    for category g only if some pixel inside the mask, or an image-level label, has the primary category g. Image-level
    labels count as all pixels of the image.

    Masks and concepts are rows of bits, counted 64 pixels at a time on the CPU, by one thread: the steps are so short
    that a second one mostly waits (measured: 6 % faster).

    Args:
        maps: Maps of the complete layer on the annotated images; finite for these units; read once.
        units: Unit numbers, from 0.
        limits: Threshold of each of these units.
        segmentation: Annotation of the same images.
    """
    primary = primary_categories(segmentation)
    categories = len(segmentation.categories)
    grid = _Grid(maps.shape[2:], segmentation.size)
    intersection, activation = np.zeros((len(units), len(primary))), np.zeros((len(units), categories))
    label, mask_area = np.zeros(len(primary)), np.zeros(len(units))

    for first, part in float_parts(maps, units):
        for image, cells in enumerate(part, first):
            numbers, regions = _regions(segmentation.pixels(image), primary, image, grid)
            label[numbers] += np.bitwise_count(regions[:, :-1]).sum(axis=0, dtype=np.int64)
            # A bilinear map never exceeds the map's own maximum, so all other units have empty masks.
            fires = (cells.flatten(1).amax(dim=1) > limits).nonzero()[:, 0].numpy()
            shared = _shared_pixels(cells.numpy()[fires], limits.numpy()[fires], regions, grid)
            shared, area = shared[:, :-1], shared[:, -1]
            mask_area[fires] += area
            intersection[fires[:, None], numbers] += shared
            activation[fires] += area[:, None] * (shared @ np.eye(categories)[primary[numbers]] > 0)
    return Overlap(*(torch.from_numpy(array) for array in (intersection, activation, label, mask_area)))


def intersection_over_union(overlap: Overlap, primary: Int[np.ndarray, " concepts"]) -> Float[Tensor, "units concepts"]:
    """IoU[k, c] = |M_k ∩ L_c| / (act[k, g(c)] + |L_c| − |M_k ∩ L_c| + 1e-10), in [0, 1]; 0 for number 0, "nothing"."""
    groups = torch.from_numpy(np.maximum(primary, 0)).to(overlap.label.device)
    union = overlap.activation[:, groups].add_(overlap.label).sub_(overlap.intersection).add_(1e-10)
    scores = torch.div(overlap.intersection, union, out=union)
    scores[:, torch.from_numpy(primary < 0).to(scores.device)] = 0.0
    return scores


def primary_categories(segmentation: Segmentation) -> Int[np.ndarray, " concepts"]:
    """The index of each concept's primary category, in the order of ``categories``; −1 for none."""
    primary = np.full(len(segmentation.labels), -1, dtype=np.int64)
    for index, (category, numbers) in enumerate(segmentation.categories.items()):
        for number in numbers:
            if not 0 < number < len(primary):
                raise UserError(f"Category {category!r} of the segmentation lists concept {number}, which has no name.")
            if primary[number] >= 0:
                raise UserError(
                    f"Concept {segmentation.labels[number]!r} of the segmentation has two primary categories."
                )
            primary[number] = index
    return primary


class _Grid:
    """The positions of an annotation's pixels relative to the cells of a map.

    An annotation is cut into columns 64 pixels wide; a place is one row of such a column: 64 pixels, 64 bits.
    """

    def __init__(self, small: tuple[int, ...], large: tuple[int, int]) -> None:
        self.size = large
        columns = -(-large[1] // 64)
        beyond = (0, columns * 64 - large[1])
        self.top, self.bottom, self.down = _neighbours(small[0], large[0])
        self.left, self.right, self.along = (np.pad(x, beyond, mode="edge") for x in _neighbours(small[1], large[1]))
        self.spans = [(int(self.left[64 * n]), int(self.right[64 * n + 63]) + 1) for n in range(columns)]
        # For each place: its column, the row of cells above it, and its distance below that row.
        self.column = np.arange(columns).repeat(large[0])
        self.row, self.depth = np.tile(self.top, columns), np.tile(self.down, columns)[:, None]
        # The image's own pixels, not those beyond its width.
        self.whole = _packed(np.pad(np.ones((1, *large), dtype=bool), ((0, 0), (0, 0), beyond)))


def _neighbours(small: int, large: int) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    centres = (np.arange(large, dtype=np.float32) + np.float32(0.5)) * (np.float32(small) / np.float32(large))
    centres = np.clip(centres - np.float32(0.5), 0, small - 1)
    before = centres.astype(np.int64)
    return before, np.minimum(before + 1, small - 1), centres - before.astype(np.float32)


def _shared_pixels(
    maps: Float[np.ndarray, "units h w"],
    limits: Float[np.ndarray, " units"],
    regions: UInt64[np.ndarray, "places k"],
    grid: _Grid,
) -> Float[np.ndarray, "units k"]:
    """The number of pixels that each unit's mask shares with each region."""
    total = np.zeros((len(maps), regions.shape[1]))
    for start in range(0, len(maps), _MAPS_AT_ONCE):
        some = slice(start, start + _MAPS_AT_ONCE)
        unit, place, bits = _masks(maps[some], limits[some], grid)
        shared = regions.take(place, axis=0)
        shared &= bits[:, None]
        first = np.concatenate(([0], np.flatnonzero(unit[1:] != unit[:-1]) + 1))[: len(unit)]
        total[start + unit[first]] = np.add.reduceat(np.bitwise_count(shared), first, axis=0, dtype=np.int64)
    return total


def _masks(
    maps: Float[np.ndarray, "units h w"], limits: Float[np.ndarray, " units"], grid: _Grid
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], UInt64[np.ndarray, " n"]]:
    """Where the masks may have a pixel: unit, place and its bits, sorted by unit.

    The value a fraction t between a and b exceeds the limit if t·(b − a) > limit − a: so equal values stay equal.
    """
    units, height, width = maps.shape
    # Width first, height next: so whole runs of cells are copied and compared, not single ones.
    cells = np.ascontiguousarray(maps.transpose(2, 1, 0))
    bound = np.stack(
        [_between(cells[slice(*span)].max(axis=0), grid.top, grid.bottom, grid.down) for span in grid.spans]
    )
    # The bound and the pixels are rounded, but by less than this.
    slack = np.float32(2e-6) * np.abs(cells.reshape(-1, units)).max(axis=0)
    unit, place = np.divmod(np.flatnonzero((bound.reshape(-1, units) > limits - slack).T), len(grid.row))

    wide = _between(cells.reshape(width, -1), grid.left, grid.right, grid.along)
    wide = np.ascontiguousarray(wide.T).reshape(height, units, -1)
    rise = np.empty_like(wide)
    np.subtract(wide[1:], wide[:-1], out=rise[:-1])
    rise[-1] = 0
    missing = limits[:, None] - wide
    source = (grid.row[place] * units + unit) * len(grid.spans) + grid.column[place]
    gained = rise.reshape(-1, 64).take(source, axis=0)
    gained *= grid.depth[place]
    above = gained > missing.reshape(-1, 64).take(source, axis=0)
    return unit, place, np.packbits(above).view(np.uint64)


def _between(
    cells: Float[np.ndarray, "small n"],
    before: Int[np.ndarray, " large"],
    after: Int[np.ndarray, " large"],
    way: Float[np.ndarray, " large"],
) -> Float[np.ndarray, "large n"]:
    """Linear interpolation along the first axis; between equal values the result is the same value."""
    start, end = cells.take(before, axis=0), cells.take(after, axis=0)
    end -= start
    end *= way[:, None]
    end += start
    return end


def _regions(
    annotation: Mapping[str, Any],
    primary: Int[np.ndarray, " concepts"],
    image: int,
    grid: _Grid,
) -> tuple[Int[np.ndarray, " k"], UInt64[np.ndarray, "places k+1"]]:
    """The concepts of one image that have a primary category, and their pixels; the last region is the whole image."""
    # Small integer types are faster to compare.
    kind = np.min_scalar_type(len(primary))
    found, parts = [np.zeros(0, dtype=np.int64)], [grid.whole[:0]]
    for category, value in annotation.items():
        if isinstance(value, np.ndarray) and value.ndim == 2:
            if value.shape != grid.size:
                raise UserError(
                    f"The {category} annotation of image {image} is {value.shape}, not {grid.size} as declared."
                )
            present = np.bincount(value.reshape(-1)).nonzero()[0]
            present = present[present > 0]
            _check_named(present, primary, image)
            padded = np.zeros((grid.size[0], len(grid.spans) * 64), dtype=kind)
            padded[:, : grid.size[1]] = value
            parts.append(_packed(padded == present.astype(kind)[:, None, None]))
        else:
            present = np.array([number for number in value if number != 0], dtype=np.int64)
            _check_named(present, primary, image)
            parts.append(grid.whole.repeat(len(present), axis=0))
        found.append(present)
    numbers, bits = np.concatenate(found), np.concatenate(parts)
    order = numbers.argsort(kind="stable")
    numbers, bits = numbers[order], bits[order]
    new = np.diff(numbers, prepend=-1) > 0
    if not new.all():
        # A concept annotated in two channels is one region: its pixels count once.
        numbers, bits = numbers[new], np.bitwise_or.reduceat(bits, np.flatnonzero(new), axis=0)
    return numbers, np.ascontiguousarray(np.concatenate([bits, grid.whole]).T)


def _check_named(numbers: Int[np.ndarray, " k"], primary: Int[np.ndarray, " concepts"], image: int) -> None:
    for number in numbers.tolist():
        if number >= len(primary) or primary[number] < 0:
            raise UserError(f"Concept {number} in the annotation of image {image} has no name or no primary category.")


def _packed(regions: Bool[np.ndarray, "k h w"]) -> UInt64[np.ndarray, "k places"]:
    """The bits of each place; the width is a multiple of 64."""
    count, height, width = regions.shape
    bits = np.packbits(regions).view(np.uint64).reshape(count, height, width // 64)
    return bits.transpose(0, 2, 1).reshape(count, height * (width // 64))
