"""Corruptions by cameras, file formats and scissors: contrast, pixelation, JPEG, saturation, cut-out cells."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from tasks.perturbations.arithmetic import to_uint8
from tasks.perturbations.context import Context
from tasks.perturbations.noise import look_up


def contrast(images: UInt8[Tensor, "n 3 h w"], gain: float, context: Context) -> UInt8[Tensor, "n 3 h w"]:
    """Shrink each channel's distance to its mean.

    Args:
        images: 0 to 255.
        gain: Remaining share of the distance to the mean.
    """
    total = images.sum((2, 3), keepdim=True, dtype=torch.int64).double()
    shift = total.mul_((1 - gain) / (images.shape[2] * images.shape[3])).float()
    return to_uint8(images.float().mul_(gain).add_(shift))


def saturate(
    images: UInt8[Tensor, "n 3 h w"], parameters: tuple[float, float], context: Context
) -> UInt8[Tensor, "n 3 h w"]:
    """Change the saturation in HSV; grey has the hue of red, by HSV's convention.

    Args:
        images: 0 to 255.
        parameters: Factor of the saturation, and the amount added to it on the scale 0 to 1.
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


def pixelate(images: UInt8[Tensor, "n 3 h w"], factor: float, context: Context) -> UInt8[Tensor, "n 3 h w"]:
    """Fewer, larger pixels: means over boxes, drawn as squares.

    The factor is relative to the image's own side, as in ImageNet-C, CIFAR-10-C and the package: like a JPEG block, a
    square has the same number of pixels at every size.

    Args:
        images: 0 to 255.
        factor: Remaining share of the pixels of each side; less than 1.
    """
    height, width = images.shape[-2:]
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
    """For each small pixel the large pixels whose centres it contains, one list per position; weight 0: none."""
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
    # Steps are accumulated, as in Pillow: where a centre is exactly on a border, rounding decides.
    steps = np.full(length, small / length)
    steps[0] /= 2
    return torch.from_numpy(np.cumsum(steps).astype(np.int64).clip(max=small - 1)).to(device)


def jpeg_compression(images: UInt8[Tensor, "n 3 h w"], quality: int, context: Context) -> UInt8[Tensor, "n 3 h w"]:
    """Save as JPEG and read again, with libjpeg on the CPU, for every device.

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


def checkerboard_cutout(
    images: UInt8[Tensor, "n 3 h w"], strength: float, context: Context
) -> UInt8[Tensor, "n 3 h w"]:
    """Grey out cells of a turned checkerboard, of one of its two colours.

    Args:
        images: 0 to 255.
        strength: Tenths of the cells of that colour.
    """
    height, width = images.shape[2:]
    shorter = min(height, width)
    angle = np.array(context.draws.number(0, 2 * np.pi))
    size = np.maximum(np.array(context.draws.number(0.1, 0.25)) * shorter, 1)
    side = int(np.hypot(height, width) / max(0.1 * shorter, 1)) + 3
    return cut_cells(images, strength, angle, size, context.draws.uniform16(side, side))


def cut_cells(
    images: UInt8[Tensor, "n 3 h w"],
    strength: float,
    angle: Float[np.ndarray, " n"],
    size: Float[np.ndarray, " n"],
    drawn: Int[Tensor, "n side side"],
) -> UInt8[Tensor, "n 3 h w"]:
    """``checkerboard_cutout`` with given numbers.

    Args:
        angle: In radians.
        size: Side of a cell, in pixels.
        drawn: Numbers of ``uniform16``, one per cell; more along each side than the image has cells in any direction.
    """
    height, width = images.shape[2:]
    side = drawn.shape[-1]
    right, down = np.cos(angle) / size, np.sin(angle) / size

    def cells(by_row: Float[np.ndarray, " n"], by_column: Float[np.ndarray, " n"]) -> Int[Tensor, "n h w"]:
        parts = (by_row[:, None] * np.arange(height), by_column[:, None] * np.arange(width))
        rows, columns = (torch.from_numpy(part).to(images.device) for part in parts)
        return (rows[:, :, None] + columns[:, None]).floor_().to(torch.int32)

    first, second = cells(right, down), cells(-down, right)
    eligible = (first - second).bitwise_and_(1) == 0
    place = first.remainder_(side).mul_(side).add_(second.remainder_(side))
    place.add_(torch.arange(len(images), device=images.device, dtype=torch.int32)[:, None, None] * side**2)
    cut = (look_up(drawn.reshape(-1), place) < round(strength / 10 * 2**16)).logical_and_(eligible)
    return images.masked_fill(cut[:, None], 128)
