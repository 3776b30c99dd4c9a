"""Elastic deformations: that of the published ImageNet-C, and that of the package imagecorruptions."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from tasks.perturbations.arithmetic import convolve, gaussian_weights, to_uint8, whole_weights
from tasks.perturbations.context import Context
from tasks.perturbations.draws import Draws

_FAR = 2.0**19
Border = Literal["symmetric", "reflect", "black"]


def elastic_transform(
    images: UInt8[Tensor, "n 3 h w"], parameters: tuple[float, float, float], context: Context
) -> UInt8[Tensor, "n 3 h w"]:
    """Apply a random affine map, then move each pixel by a smooth random field; linear interpolation both times.

    The affine map moves three corners of a square, each a third of the shorter side from the middle along both axes.
    The field is noise, uniform from -1 to 1, smoothed by a Gaussian truncated at 3 sigma, times the gain. A pixel of a
    smaller image covers several of a 224-px image, whose mean noise is weaker in proportion to the side; so the noise
    scales like the lengths, and the field is that of a 224-px image, scaled down.

    Args:
        images: 0 to 255.
        parameters: Gain, sigma, and maximum shift of a corner along each axis, in pixels at 224 px.
    """
    gain, sigma, reach = (length * context.scale for length in parameters)
    height, width = images.shape[2:]
    places = _affine(context.draws, height, width, reach, images.device)
    # Two fractional bits are kept in between: three channels of ten bits fit one integer.
    turned = read(images.to(torch.int32), *places, "reflect").mul_(4).add_(0.5).to(torch.int32)
    noise = context.draws.uniform16(2, height, width).double().mul_(2).sub_(65535)
    weights = whole_weights(gaussian_weights(sigma, truncate=3), 18)
    for dim in (-2, -1):
        # At most 2^16 · 2^18 · 2^18, which float64 represents exactly.
        noise = convolve(noise, weights, dim, "symmetric")
    moved = noise.mul_(gain * context.scale * 2.0**-52).float()
    return to_uint8(read(turned, *_moved(moved), "symmetric").mul_(0.25))


def _affine(
    draws: Draws, height: int, width: int, reach: float, device: torch.device
) -> tuple[Float[Tensor, "n h w"], Float[Tensor, "n h w"]]:
    """The source row and column of each pixel, if three corners of the square move to random places."""
    side, x, y = min(height, width) // 3, width // 2, height // 2
    corners = ((x + side, y + side), (x + side, y - side), (x - side, y - side))
    (ax, ay), (bx, by), (cx, cy) = (
        [place + reach * np.array(draws.number(-1, 1))[:, None] for place in corner] for corner in corners
    )
    # A position is b + u (a - b) + v (b - c); its source is as many steps along the square's own sides.
    area = (ax - bx) * (by - cy) - (ay - by) * (bx - cx)
    step = 2 * side / np.where(area == 0, np.inf, area)
    columns, rows = np.arange(width) - bx, np.arange(height) - by
    down = y - side - rows * (step * (bx - cx)), columns * (step * (by - cy))
    right = x + side + rows * (step * (ax - bx)), columns * (step * (by - ay))
    return tuple(_sum(*parts, device) for parts in (down, right))  # type: ignore[return-value]


def _sum(
    rows: Float[np.ndarray, "n h"], columns: Float[np.ndarray, "n w"], device: torch.device
) -> Float[Tensor, "n h w"]:
    # A nearly flat map reads from very far, where mirrors have repeated the image many times.
    first, second = (torch.from_numpy(part.clip(-_FAR, _FAR)).float().to(device) for part in (rows, columns))
    return first[:, :, None] + second[:, None]


def package_elastic_transform(
    images: UInt8[Tensor, "n 3 h w"], gain: float, context: Context
) -> UInt8[Tensor, "n 3 h w"]:
    """Move each pixel by a smooth random field, as imagecorruptions does.

    Its smoothing is a share of the sides, but the field's standard deviation is the same number of pixels in an image
    of any size.

    Args:
        images: 0 to 255.
        gain: Gain of the smoothed field.
    """
    height, width = images.shape[2:]
    field = context.draws.uniform16(2, height, width).to(torch.float32)
    for dim, side in ((-2, height), (-1, width)):
        weights = whole_weights(gaussian_weights(0.01 * side, truncate=3), 8)
        field = convolve(field, weights, dim, "symmetric").mul_(2.0**-8).round_()
    # Steps of 1/32768 of the largest shift, half a percent of the height.
    moved = field.add_(0.5 - 32768).mul_(0.005 * height * gain / 32768)
    return to_uint8(read(images.to(torch.int32), *_moved(moved), "symmetric"))


def _moved(field: Float[Tensor, "n 2 h w"]) -> tuple[Float[Tensor, "n h w"], Float[Tensor, "n h w"]]:
    """The source row and column of each pixel, given its shifts to the right and down."""
    rows, columns = (torch.arange(side, dtype=torch.float32, device=field.device) for side in field.shape[2:])
    return field[:, 1] + rows[:, None], field[:, 0] + columns


def read(
    images: Int[Tensor, "n 3 h w"], down: Float[Tensor, "n h w"], right: Float[Tensor, "n h w"], border: Border
) -> Float[Tensor, "n 3 h w"]:
    """Read images of integers from 0 to 1023 at positions between pixels, linearly.

    Args:
        down: Row of each position.
        right: Column of each position.
        border: What is beyond it: the mirrored image, in which the outermost pixel is repeated (``symmetric``) or not
            (``reflect``), or ``black``.
    """
    top, left = down.floor(), right.floor()
    below, beyond = (down - top)[:, None], (right - left)[:, None]
    # The three channels of a pixel are packed into one integer, so that a corner is one look-up.
    red, green, blue = images.unbind(1)
    packed = red | (green << 10) | (blue << 20)
    if border == "black":
        packed, top, left = torch.nn.functional.pad(packed, (1, 1, 1, 1)), top + 1, left + 1
    count, height, width = packed.shape
    first = torch.arange(count, device=images.device, dtype=torch.int32)[:, None, None] * (height * width)
    rows = [_inside(top + step, height, border).mul_(width).add_(first) for step in (0, 1)]
    columns = [_inside(left + step, width, border) for step in (0, 1)]
    packed = packed.reshape(-1)

    def corner(row: int, column: int) -> Tensor:
        found = packed.index_select(0, (rows[row] + columns[column]).flatten()).view(down.shape)
        return torch.stack([found & 1023, (found >> 10) & 1023, found >> 20], 1).float()

    def between(row: int) -> Tensor:
        start = corner(row, 0)
        return corner(row, 1).sub_(start).mul_(beyond).add_(start)

    upper = between(0)
    return between(1).sub_(upper).mul_(below).add_(upper)


def _inside(places: Float[Tensor, "n h w"], side: int, border: Border) -> Int[Tensor, "n h w"]:
    """The pixel at each position of an image, up to 2^21, that mirrors repeat without end or that has a black frame."""
    if border == "black":
        return places.clamp_(0, side - 1).to(torch.int32)
    doubled = border == "symmetric"
    period = 2 * side if doubled else 2 * side - 2
    inside = places - (places / period).floor_().mul_(period)
    return torch.minimum(inside, period - (1 if doubled else 0) - inside).to(torch.int32)
