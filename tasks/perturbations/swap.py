"""Foreground and background apart, and on the background of another image, as in ImageNet-9.

Xiao, Engstrom, Ilyas and Madry, Noise or Signal: The Role of Image Backgrounds in Object Recognition, ICLR 2021. Every
value is copied or 0, so the same code changes images and concept annotation, where 0 is "nothing".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from tasks.perturbations.context import Context
from tasks.perturbations.draws import Draws
from tasks.perturbations.masks import blend

Layers = Int[Tensor, "n c h w"]
Part = Bool[Tensor, "n h w"]
Change = Callable[[Layers, Part, Layers | None], tuple[Part, Layers]]
"""Layers, foreground and another image's background → the part that changes, and its values."""


def strips(foreground: Part) -> Int[Tensor, "n 4"]:
    """Widths in pixels of the strips above, left of, right of and below the bounding box of each foreground.

    Without a foreground, the whole image lies below.
    """
    height = foreground.shape[1]
    rows, columns = foreground.any(2).int(), foreground.any(1).int()
    top, left = rows.argmax(1), columns.argmax(1)
    right, below = columns.flip(1).argmax(1), rows.flip(1).argmax(1)
    found = torch.stack([top, left, right, below], 1)
    return torch.where(foreground.any((1, 2))[:, None], found, torch.tensor([0, 0, 0, height], device=found.device))


def boxed(foreground: Part) -> Part:
    """The bounding box of each foreground, filled."""
    height, width = foreground.shape[1:]
    top, left, right, below = strips(foreground)[:, :, None].unbind(1)
    rows, columns = (torch.arange(side, device=foreground.device) for side in (height, width))
    return ((rows >= top) & (rows < height - below))[:, :, None] & ((columns >= left) & (columns < width - right))[
        :, None, :
    ]


def largest_strip(foreground: Part) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """The largest strip beside the box, the first of equal ones in the order of ``strips``, and its width in pixels."""
    height, width = foreground.shape[1:]
    found = strips(foreground)
    which = (found * torch.tensor([width, height, height, width], device=found.device)).argmax(1)
    return which, found.gather(1, which[:, None])[:, 0]


def tiled(layers: Layers, foreground: Part) -> Layers:
    """The largest strip beside the box, repeated along its short side; 0 if the box fills the frame.

    Only the values inside the box are of use.
    """
    count, _, height, width = layers.shape
    which, thick = (values[:, None] for values in largest_strip(foreground))
    rows, columns = (torch.arange(side, device=layers.device).expand(count, -1) for side in (height, width))
    period = thick.clamp(min=1)
    # Above and left start at 0, right and below at the inner edge of the strip.
    from_row = torch.where(which == 3, height - thick, 0) + rows % period
    from_column = torch.where(which == 2, width - thick, 0) + columns % period
    from_row = torch.where((which == 0) | (which == 3), from_row, rows).clamp(max=height - 1)
    from_column = torch.where((which == 1) | (which == 2), from_column, columns).clamp(max=width - 1)
    images = torch.arange(count, device=layers.device)[:, None, None]
    found = layers[images, :, from_row[:, :, None], from_column[:, None, :]].permute(0, 3, 1, 2)
    return torch.where((thick > 0)[:, :, None, None], found, 0)


def background_of(layers: Layers, foreground: Part) -> Layers:
    """The background of each image, with its largest strip repeated where its object was."""
    return torch.where(boxed(foreground)[:, None], tiled(layers, foreground), layers)


def _on_another(layers: Layers, foreground: Part, background: Layers | None) -> tuple[Part, Layers]:
    assert background is not None  # noqa: S101 checked with the request
    return ~foreground, background


_CHANGES: Mapping[str, Change] = {
    "only_bg_b": lambda layers, foreground, _: (boxed(foreground), torch.zeros_like(layers)),
    "only_bg_t": lambda layers, foreground, _: (boxed(foreground), tiled(layers, foreground)),
    "no_fg": lambda layers, foreground, _: (foreground, torch.zeros_like(layers)),
    "only_fg": lambda layers, foreground, _: (~foreground, torch.zeros_like(layers)),
    "mixed_same": _on_another,
    "mixed_rand": _on_another,
    "mixed_next": _on_another,
}

CHANGES = tuple(_CHANGES)
"""Names of the variants."""

BACKGROUND_STAYS = frozenset({"only_bg_b", "only_bg_t", "no_fg"})


def changed(name: str, layers: Layers, foreground: Part, background: Layers | None) -> Layers:
    """Layers of annotation as the variant ``name`` changes an image.

    Args:
        background: Another image's layers after ``background_of``, for the variants that need one.
    """
    part, values = _CHANGES[name](layers, foreground, background)
    return torch.where(part[:, None], values, layers)


def are_changed(share: float, draws: Draws) -> list[bool]:
    """Whether each image is among the share that is changed; with the same draws it stays so at a larger share."""
    return [number < share for number in draws.number(0, 1)]


def _swap(change: Change, images: UInt8[Tensor, "n 3 h w"], share: float, context: Context) -> UInt8[Tensor, "n 3 h w"]:
    assert context.foreground is not None  # noqa: S101 checked with the request
    part, values = change(images, context.foreground, context.background)
    chosen = torch.tensor(are_changed(share, context.draws), dtype=torch.bool, device=images.device)
    return blend(images, values.double(), part & chosen[:, None, None], context)


only_bg_b, only_bg_t, no_fg, only_fg, mixed_same, mixed_rand, mixed_next = (
    partial(_swap, change) for change in _CHANGES.values()
)
