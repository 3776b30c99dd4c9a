"""The un-pooled maps of one layer over a probing set: too large for memory, so methods read them in parts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tasks.activations.spool import RowFile, blocks

BLOCK_VALUES = 2**24
"""Maximum number of values in one block of ``blocks``: 32 MB in float16."""


class Maps(Protocol):
    """Maps [images, units, h, w] of one layer under one condition, float16 or float32, on the CPU."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(images, units, h, w) of the complete layer, even if only some of its units can be read."""
        ...

    def read(self, images: Sequence[int], units: Sequence[int]) -> Float[Tensor, "images units h w"]:
        """The maps of some units on some images, in the given order."""
        ...

    def blocks(self, units: Sequence[int] | None = None) -> Iterator[tuple[range, Float[Tensor, "images units h w"]]]:
        """All maps, some images at a time and in order, with the image indices; None reads all units."""
        ...


Shape = tuple[int, int, int, int]
"""(images, units, h, w) of a complete layer."""

MakeBatch = Callable[[int], tuple[int, Float[Tensor, "images stored h w"]]]
"""Image index → the index of the first image of its batch, and the maps of the batch."""


class MemoryMaps:
    """Maps in memory.

    Args:
        maps: [images, stored, h, w].
        units: The units of the maps, in this order; None if they are all of the layer's.
        complete: Number of units of the complete layer, if only some are stored.
    """

    def __init__(
        self, maps: Float[Tensor, "images stored h w"], units: Sequence[int] | None = None, complete: int | None = None
    ) -> None:
        images, stored, height, width = maps.shape
        self.shape = (images, stored if complete is None else complete, height, width)
        self._maps = maps
        self._columns = _Columns(range(stored) if units is None else units)

    def read(self, images: Sequence[int], units: Sequence[int]) -> Float[Tensor, "images units h w"]:
        """The maps of some units on some images, in the given order.

        Raises:
            ValueError: A unit's maps were not stored.
        """
        rows, columns = (torch.tensor(list(some), dtype=torch.int64) for some in (images, self._columns.of(units)))
        return self._maps[rows[:, None], columns[None, :]]

    def blocks(self, units: Sequence[int] | None = None) -> Iterator[tuple[range, Float[Tensor, "images units h w"]]]:
        """All maps, some images at a time and in order, with the image indices; None reads all units.

        Raises:
            ValueError: A unit's maps were not stored.
        """
        columns = self._columns.slice_of(range(self.shape[1]) if units is None else units)
        for part in image_blocks(len(self._maps), self._maps[0].numel() if len(self._maps) else 1):
            yield part, self._maps[part.start : part.stop][:, columns]


class StoredMaps:
    """Float16 maps in an anonymous (unlinked) temporary file; only of the units that will be read, if known in advance.

    The 48 labelled ones of ResNet-50's 2,048 last channels take 5 KB per image at 224 px, all of them 200 KB.

    Args:
        shape: (images, units, h, w) of the complete layer.
        units: The stored units, in this order; None stores all.
        make: ``make(image)`` computes maps that were not written: of a batch of images that contains this one, with the
            index of the batch's first image.
    """

    def __init__(self, shape: Shape, units: Sequence[int] | None = None, make: MakeBatch | None = None) -> None:
        self.shape = shape
        self.units = tuple(range(shape[1]) if units is None else units)
        self._columns = _Columns(self.units)
        self._rows = RowFile((len(self.units), *shape[2:]), np.float16)
        self._written = np.zeros(shape[0], np.bool_)
        self._make = make

    def write(self, start: int, maps: Float[Tensor, "images stored h w"]) -> None:
        """Store the maps of images from index ``start`` on."""
        self._rows.write(start, maps.numpy())
        self._written[start : start + len(maps)] = True

    def read(self, images: Sequence[int], units: Sequence[int]) -> Float[Tensor, "images units h w"]:
        """The maps of some units on some images, in the given order.

        Raises:
            ValueError: A unit's maps were not stored.
        """
        columns = self._columns.of(units)
        return self._read(images)[:, columns]

    def blocks(self, units: Sequence[int] | None = None) -> Iterator[tuple[range, Float[Tensor, "images units h w"]]]:
        """All maps, some images at a time and in order, with the image indices; None reads all units.

        Raises:
            ValueError: A unit's maps were not stored.
        """
        columns = self._columns.slice_of(range(self.shape[1]) if units is None else units)
        for part in image_blocks(self.shape[0], len(self.units) * self.shape[2] * self.shape[3]):
            yield part, self._read(part)[:, columns]

    def _read(self, images: Sequence[int]) -> Float[Tensor, "images stored h w"]:
        if self._make is not None:
            for image in images:
                if not self._written[image]:
                    self.write(*self._make(image))
        return torch.from_numpy(self._rows.read(images))


class TopMaps:
    """The maps of each unit's most activating images; those of others are computed again when they are read.

    Its size does not grow with the number of images: 2,048 units × 10 images × 7 × 7 positions take 2 MB.

    Args:
        shape: (images, units, h, w) of the complete layer.
        units: The units that can be read; None for all.
        count: Images per unit.
        others: All maps of these units.

    Attributes:
        images: The images of each unit, most activating first, ties by smaller index; −1 where there are fewer.
        maps: Their maps, float16.
    """

    def __init__(self, shape: Shape, units: Sequence[int] | None, count: int, others: Maps) -> None:
        self.shape = shape
        self._units = list(range(shape[1]) if units is None else units)
        self._columns = _Columns(self._units)
        stored = len(self._units)
        self.images: Int[Tensor, "stored count"] = torch.full((stored, count), -1)
        self.maps: Float[Tensor, "stored count h w"] = torch.zeros(stored, count, *shape[2:], dtype=torch.float16)
        self._values = torch.full((stored, count), -torch.inf)
        self._others = others

    def add(self, start: int, pooled: Float[Tensor, "images units"], maps: Float[Tensor, "images stored h w"]) -> None:
        """Add the images from index ``start`` on, in ascending order; ``pooled`` is of the complete layer."""
        self.add_of(start, pooled[:, self._units], maps)

    def add_of(self, start: int, own: Float[Tensor, "images stored"], maps: Float[Tensor, "images stored h w"]) -> None:
        """The same, given the pooled activations of the stored units alone."""
        stored, count = self.images.shape
        if not count:
            return
        numbers = torch.arange(start, start + len(own)).expand(stored, -1)
        values = torch.cat([self._values, own.T.where(~own.T.isnan(), -torch.inf)], dim=1)
        # Stable: earlier images come first, and stay, where values are equal.
        values, order = (part[:, :count] for part in values.sort(dim=1, descending=True, stable=True))
        self._values = values.contiguous()
        self.images = torch.cat([self.images, numbers], dim=1).gather(1, order)
        self.maps = self.maps[torch.arange(stored)[:, None], order.clamp(max=count - 1)]
        row, place = (order >= count).nonzero(as_tuple=True)
        self.maps[row, place] = maps[order[row, place] - count, row]

    def read(self, images: Sequence[int], units: Sequence[int]) -> Float[Tensor, "images units h w"]:
        """The maps of some units on some images, in the given order.

        Raises:
            ValueError: A unit's maps cannot be read.
        """
        columns, rows = (torch.tensor(list(some), dtype=torch.int64) for some in (self._columns.of(units), images))
        found = self.images[columns] == rows[:, None, None]
        if not images or not found.any(dim=2).all():
            return self._others.read(images, units)
        return self.maps[columns, found.int().argmax(dim=2)]

    def blocks(self, units: Sequence[int] | None = None) -> Iterator[tuple[range, Float[Tensor, "images units h w"]]]:
        """All maps, some images at a time and in order, with the image indices; None reads all units."""
        return self._others.blocks(units)


class LateMaps:
    """Maps that are computed on first access."""

    def __init__(self, make: Callable[[], Maps]) -> None:
        self._make = make

    @cached_property
    def _maps(self) -> Maps:
        return self._make()

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(images, units, h, w) of the complete layer."""
        return self._maps.shape

    def read(self, images: Sequence[int], units: Sequence[int]) -> Float[Tensor, "images units h w"]:
        """The maps of some units on some images, in the given order."""
        return self._maps.read(images, units)

    def blocks(self, units: Sequence[int] | None = None) -> Iterator[tuple[range, Float[Tensor, "images units h w"]]]:
        """All maps, some images at a time and in order, with the image indices; None reads all units."""
        return self._maps.blocks(units)


class ChosenMaps:
    """The maps of some images, any of them repeatedly.

    Args:
        maps: Of all images.
        images: The chosen ones, in their new order.
    """

    def __init__(self, maps: Maps, images: Sequence[int]) -> None:
        self._maps, self._images = maps, images

    @property
    def shape(self) -> Shape:
        """See ``Maps``."""
        return (len(self._images), *self._maps.shape[1:])

    def read(self, images: Sequence[int], units: Sequence[int]) -> Float[Tensor, "images units h w"]:
        """See ``Maps``."""
        return self._maps.read([int(self._images[image]) for image in images], units)

    def blocks(self, units: Sequence[int] | None = None) -> Iterator[tuple[range, Float[Tensor, "images units h w"]]]:
        """See ``Maps``."""
        images, count, height, width = self.shape
        for part in image_blocks(images, count * height * width):
            yield part, self.read(part, range(count) if units is None else units)


class MutedMaps:
    """Maps in which one unit is constant on some images.

    Args:
        value: Every value of the unit on those images, so that any pooling gives it too.
    """

    def __init__(self, maps: Maps, unit: int, images: Collection[int], value: float) -> None:
        self._maps, self._unit, self._images, self._value = maps, unit, frozenset(images), value

    @property
    def shape(self) -> Shape:
        """See ``Maps``."""
        return self._maps.shape

    def read(self, images: Sequence[int], units: Sequence[int]) -> Float[Tensor, "images units h w"]:
        """See ``Maps``."""
        return self._muted(images, units, self._maps.read(images, units))

    def blocks(self, units: Sequence[int] | None = None) -> Iterator[tuple[range, Float[Tensor, "images units h w"]]]:
        """See ``Maps``."""
        for part, found in self._maps.blocks(units):
            yield part, self._muted(part, range(self.shape[1]) if units is None else units, found)

    def _muted(self, images: Sequence[int], units: Sequence[int], found: Tensor) -> Tensor:
        rows = [place for place, image in enumerate(images) if image in self._images]
        columns = [place for place, unit in enumerate(units) if unit == self._unit]
        if rows and columns:
            found = found.clone()
            found[torch.tensor(rows)[:, None], torch.tensor(columns)[None]] = self._value
        return found


class _Columns:
    """The position of each unit's maps among the stored ones."""

    def __init__(self, units: Sequence[int]) -> None:
        self._column = {unit: column for column, unit in enumerate(units)}

    def of(self, units: Sequence[int]) -> list[int]:
        """The columns of these units."""
        missing = next((unit for unit in units if unit not in self._column), None)
        if missing is not None:
            raise ValueError(f"the maps of unit {missing} were not stored, those of {len(self._column)} others were")
        return [self._column[unit] for unit in units]

    def slice_of(self, units: Sequence[int]) -> list[int] | slice:
        """The columns of these units; a slice, which copies nothing, if they are contiguous in this order."""
        columns = self.of(units)
        if columns and columns == list(range(columns[0], columns[0] + len(columns))):
            return slice(columns[0], columns[0] + len(columns))
        return columns


def image_blocks(images: int, values: int) -> Iterator[range]:
    """Runs of images that together have at most ``BLOCK_VALUES`` values, at least one image each."""
    return blocks(images, max(1, BLOCK_VALUES // max(1, values)))
