"""What cameras and files do to an image: contrast, elastic deformation, pixelation, JPEG, saturation."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from tasks.perturbations.arithmetic import border_index, convolve, gaussian_weights, to_uint8, whole_weights
from tasks.perturbations.context import Context


def contrast(images: UInt8[Tensor, "n 3 h w"], gain: float, context: Context) -> UInt8[Tensor, "n 3 h w"]:
    """Draw each channel towards its mean.

    Args:
        images: 0 to 255.
        gain: What is left of the distance to the mean.
        context: Unused.
    """
    total = images.sum((2, 3), keepdim=True, dtype=torch.int64).double()
    shift = total.mul_((1 - gain) / (images.shape[2] * images.shape[3])).float()
    return to_uint8(images.float().mul_(gain).add_(shift))


def saturate(
    images: UInt8[Tensor, "n 3 h w"], parameters: tuple[float, float], context: Context
) -> UInt8[Tensor, "n 3 h w"]:
    """Change the saturation of HSV; grey has the hue of red, as HSV has it by convention.

    Args:
        images: 0 to 255.
        parameters: Factor of the saturation, and what is added to it on the scale 0 to 1.
        context: Unused.
    """
    factor, added = parameters
    pixels = images.float()
    value = pixels.amax(1, keepdim=True)
    chroma = value - pixels.amin(1, keepdim=True)
    wanted = (chroma * factor).add_(value * added)
    wanted = torch.minimum(wanted, value)
    ratio = wanted / chroma
    out = value - (value - pixels).mul_(ratio)
    if added:
        grey = chroma == 0
        out = torch.where(grey, value - wanted * _red(images.device), out)
    else:
        out = torch.where(chroma == 0, pixels, out)
    return to_uint8(out.add_(1e-4))


@lru_cache(maxsize=4)
def _red(device: torch.device) -> Float[Tensor, "1 3 1 1"]:
    return torch.tensor([0.0, 1.0, 1.0], device=device).view(1, 3, 1, 1)


def elastic_transform(images: UInt8[Tensor, "n 3 h w"], gain: float, context: Context) -> UInt8[Tensor, "n 3 h w"]:
    """Move each pixel by a smooth random field; lengths are shares of the image's sides, so it scales by itself.

    Args:
        images: 0 to 255.
        gain: Of the smoothed field.
        context: Random numbers.
    """
    height, width = images.shape[2:]
    field = context.draws.uniform16(2, height, width).to(torch.float32)
    for dim, side in ((-2, height), (-1, width)):
        weights = whole_weights(gaussian_weights(0.01 * side, truncate=3), 8)
        field = convolve(field, weights, dim, "symmetric").mul_(2.0**-8).round_()
    # Steps of 1/32768 of the largest shift, half a percent of the height.
    moved = field.add_(0.5 - 32768).mul_(0.005 * height * gain / 32768)
    rows, columns = (torch.arange(side, dtype=torch.float32, device=images.device) for side in (height, width))
    return _sample(images, moved[:, 1] + rows[:, None], moved[:, 0] + columns)


def _sample(
    images: UInt8[Tensor, "n 3 h w"], down: Float[Tensor, "n h w"], right: Float[Tensor, "n h w"]
) -> UInt8[Tensor, "n 3 h w"]:
    """Read the images at places between pixels, linearly, mirrored at the border."""
    count, _, height, width = images.shape
    top, left = down.floor(), right.floor()
    below, beyond = (down - top)[:, None], (right - left)[:, None]
    reach = max(height, width)
    fold_rows, fold_columns = (
        torch.from_numpy(border_index(side, reach, reach + 1, "symmetric")).to(images.device, torch.int32)
        for side in (height, width)
    )
    top, left = (place.to(torch.int32).add_(reach).flatten() for place in (top, left))
    start = torch.arange(count, device=images.device, dtype=torch.int32).repeat_interleave(height * width)
    start.mul_(height * width)
    rows = [fold_rows.index_select(0, top + step).mul_(width).add_(start) for step in (0, 1)]
    columns = [fold_columns.index_select(0, left + step) for step in (0, 1)]
    # The three channels of a pixel travel together in one integer, so that a corner is one look-up.
    red, green, blue = images.to(torch.int32).unbind(1)
    packed = (red | (green << 8) | (blue << 16)).reshape(-1)

    def corner(row: int, column: int) -> Tensor:
        found = packed.index_select(0, rows[row] + columns[column]).view(count, height, width)
        return torch.stack([found & 255, (found >> 8) & 255, found >> 16], 1).float()

    def between(row: int) -> Tensor:
        first = corner(row, 0)
        return corner(row, 1).sub_(first).mul_(beyond).add_(first)

    upper = between(0)
    return to_uint8(between(1).sub_(upper).mul_(below).add_(upper))


def pixelate(images: UInt8[Tensor, "n 3 h w"], factor: float, context: Context) -> UInt8[Tensor, "n 3 h w"]:
    """Fewer, larger pixels: means over boxes, drawn as squares.

    Args:
        images: 0 to 255.
        factor: Of the side at 224 px, less than 1.
        context: Scale.
    """
    height, width = images.shape[-2:]
    factor = factor / context.scale
    small = (max(1, min(height, int(height * factor))), max(1, min(width, int(width * factor))))
    means = _box_rows(images, small[0])
    means = _box_rows(means.transpose(-1, -2).contiguous(), small[1])
    squares = means.add_(0.5).to(torch.uint8)
    wide = squares.index_select(-2, _nearest(small[1], width, images.device)).transpose(-1, -2).contiguous()
    return wide.index_select(-2, _nearest(small[0], height, images.device))


def _box_rows(images: UInt8[Tensor, "*n h w"] | Float[Tensor, "*n h w"], small: int) -> Float[Tensor, "*n small w"]:
    rows, weights = _boxes(images.shape[-2], small, images.device)
    out = images.index_select(-2, rows[0]) * weights[0]
    for row, weight in zip(rows[1:], weights[1:], strict=True):
        out += images.index_select(-2, row) * weight
    return out


@lru_cache(maxsize=32)
def _boxes(length: int, small: int, device: torch.device) -> tuple[list[Tensor], list[Tensor]]:
    """For each small pixel the large ones whose centre lies in it, one list a place in the box; weight 0: none."""
    scale = length / small
    inside = [
        [place for place in range(length) if -0.5 < (place - (number + 0.5) * scale + 0.5) * (1 / scale) <= 0.5]
        for number in range(small)
    ]
    most = max(map(len, inside))
    rows = np.array([box + [box[0]] * (most - len(box)) for box in inside]).T
    weights = np.array([[1 / len(box)] * len(box) + [0.0] * (most - len(box)) for box in inside], np.float32).T
    return (
        [torch.from_numpy(row.copy()).to(device) for row in rows],
        [torch.from_numpy(weight.copy())[:, None].to(device) for weight in weights],
    )


@lru_cache(maxsize=32)
def _nearest(small: int, length: int, device: torch.device) -> Tensor:
    # Steps are added up, as Pillow does it: where a centre falls on a border, rounding decides.
    steps = np.full(length, small / length)
    steps[0] /= 2
    return torch.from_numpy(np.cumsum(steps).astype(np.int64).clip(max=small - 1)).to(device)


def jpeg_compression(images: UInt8[Tensor, "n 3 h w"], quality: int, context: Context) -> UInt8[Tensor, "n 3 h w"]:
    """Save as JPEG and read again, by libjpeg on the processor, for every device.

    Args:
        images: 0 to 255.
        quality: 1 to 100.
        context: Unused; the blocks of 8 x 8 pixels are the format's, at every size.
    """
    pixels = images.cpu().numpy()
    out = np.empty_like(pixels)
    for (red, green, blue), saved in zip(pixels, out, strict=True):
        file = cv2.imencode(".jpg", cv2.merge((blue, green, red)), (cv2.IMWRITE_JPEG_QUALITY, quality))[1]
        read = cv2.imdecode(file, cv2.IMREAD_COLOR)
        assert read is not None  # noqa: S101 it was written a line ago
        cv2.split(read, (saved[2], saved[1], saved[0]))
    return torch.from_numpy(out).to(images.device)
