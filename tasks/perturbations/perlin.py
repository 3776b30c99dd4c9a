"""Perlin noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from tasks.perturbations.arithmetic import square_root, to_uint8
from tasks.perturbations.context import Context
from tasks.perturbations.draws import Draws

_PERIOD = 32
_OCTAVES = (1, 2, 4, 8, 16)


def perlin_noise(images: UInt8[Tensor, "n 3 h w"], strength: float, context: Context) -> UInt8[Tensor, "n 3 h w"]:
    """Lay five octaves of light grey Perlin noise over the image, whose lattice shows as dark dots 32 px apart.

    Args:
        images: 0 to 255.
        strength: The weight of the noise is a twentieth of it.
    """
    period = _PERIOD * context.scale
    height, width = images.shape[2:]
    gradients = [
        _gradients(context.draws, math.floor((height - 1) * step) + 2, math.floor((width - 1) * step) + 2)
        for step in (octave / period for octave in _OCTAVES)
    ]
    return under_noise(images, strength, gradients, period)


def under_noise(
    images: UInt8[Tensor, "n 3 h w"], strength: float, gradients: Sequence[Float[Tensor, "n 2 a b"]], period: float
) -> UInt8[Tensor, "n 3 h w"]:
    """``perlin_noise`` with given numbers.

    Args:
        gradients: Along the columns and along the rows, at each point of an octave's lattice.
        period: Pixels between points of the coarsest lattice.
    """
    opacity = 0.05 * strength
    height, width = images.shape[2:]
    total = torch.zeros((len(images), height, width), device=images.device)
    for octave, gradient in zip(_OCTAVES, gradients, strict=True):
        total.add_(_gradient_noise(gradient, height, width, octave / period).abs_().mul_(1 / octave))
    grey = total.mul_(0.75).add_(0.5).clamp_(max=1).mul_(255 * opacity)
    return to_uint8(grey[:, None] + images * (1 - opacity))


def _gradients(draws: Draws, rows: int, columns: int) -> Float[Tensor, "n 2 rows columns"]:
    """Directions of unit length from whole numbers, as published: more of them along the diagonals."""
    drawn = draws.below(512, 2, rows, columns).sub_(256).float()
    squares = (drawn * drawn).sum(1, keepdim=True)
    return drawn.div_(square_root(squares.clamp_(min=1)))


def _gradient_noise(
    gradients: Float[Tensor, "n 2 a b"], height: int, width: int, step: float
) -> Float[Tensor, "n h w"]:
    """Perlin 1985: each lattice point's gradient times the distance, faded over along both axes.

    Args:
        step: Lattice points per pixel.
    """
    (above, below), row, (fade_above, fade_below) = _places(height, step, gradients.device)
    (before, after), column, (fade_before, fade_after) = _places(width, step, gradients.device)
    down, right = gradients.unbind(1)

    def along(points: Float[Tensor, "n a b"], first: Tensor, second: Tensor) -> Float[Tensor, "n a w"]:
        return points.index_select(2, before).mul_(first).add_(points.index_select(2, after).mul_(second))

    down = along(down, fade_before, fade_after)
    right = along(right, fade_before * column, fade_after * (column - 1))
    upper = down.index_select(1, above).mul_((fade_above * row)[:, None])
    upper.add_(right.index_select(1, above).mul_(fade_above[:, None]))
    upper.add_(down.index_select(1, below).mul_((fade_below * (row - 1))[:, None]))
    return upper.add_(right.index_select(1, below).mul_(fade_below[:, None]))


def _places(
    side: int, step: float, device: torch.device
) -> tuple[tuple[Tensor, Tensor], Tensor, tuple[Tensor, Tensor]]:
    """Of each pixel: the lattice points on both sides, the distance from the first, and the weights of both."""
    places = np.arange(side) * step
    first = np.floor(places)
    share = places - first
    fade = share * share * (3 - 2 * share)
    points = torch.from_numpy(first.astype(np.int32)).to(device)
    distance, one, other = (torch.from_numpy(part.astype(np.float32)).to(device) for part in (share, 1 - fade, fade))
    return (points, points + 1), distance, (one, other)
