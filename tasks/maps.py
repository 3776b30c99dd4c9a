"""The un-pooled maps of one layer over a probing set. They are too large for memory, so methods ask for parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK_VALUES = 2**24
"""Values in one block that ``blocks`` yields at most: 32 MB in float16."""


class Maps(Protocol):
    """Maps [images, units, h, w] of one layer under one condition, float16 or float32, on the CPU."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(images, units, h, w)."""
        ...

    def read(self, images: Sequence[int], units: Sequence[int]) -> Float[Tensor, "images units h w"]:
        """The maps of some units on some images, in the order asked."""
        ...

    def blocks(self, units: Sequence[int] | None = None) -> Iterator[tuple[range, Float[Tensor, "images units h w"]]]:
        """All maps, some images at a time and in order, with the images' numbers; None takes all units."""
        ...


class MemoryMaps:
    """Maps that are in memory.

    Args:
        maps: [images, units, h, w].
    """

    def __init__(self, maps: Float[Tensor, "images units h w"]) -> None:
        self._maps = maps

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(images, units, h, w)."""
        images, units, height, width = self._maps.shape
        return images, units, height, width

    def read(self, images: Sequence[int], units: Sequence[int]) -> Float[Tensor, "images units h w"]:
        """The maps of some units on some images, in the order asked."""
        return self._maps[torch.as_tensor(list(images))[:, None], torch.as_tensor(list(units))[None, :]]

    def blocks(self, units: Sequence[int] | None = None) -> Iterator[tuple[range, Float[Tensor, "images units h w"]]]:
        """All maps, some images at a time and in order, with the images' numbers; None takes all units."""
        count, all_units, height, width = self.shape
        for part in image_blocks(count, all_units * height * width):
            block = self._maps[part.start : part.stop]
            yield part, block if units is None else block[:, list(units)]


def image_blocks(images: int, values: int) -> Iterator[range]:
    """Runs of images that together have at most ``BLOCK_VALUES`` values, at least one image each.

    Args:
        images: How many there are.
        values: Values of one image.
    """
    step = max(1, BLOCK_VALUES // max(1, values))
    for start in range(0, images, step):
        yield range(start, min(images, start + step))
