"""Drops of water or mud on the lens. The water's glint follows the distance to the drops' edges."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from tasks.perturbations.arithmetic import gaussian_blur, to_uint8
from tasks.perturbations.context import Context
from tasks.perturbations.noise import look_up, normal

_WATER, _MUD = (175.0, 238.0, 238.0), (63.0, 42.0, 20.0)
_UNIT = 100.0  # the noise in whole hundredths, so that its blur is exact


def spatter(
    images: UInt8[Tensor, "n 3 h w"],
    parameters: tuple[float, float, float, float, float, int],
    context: Context,
) -> UInt8[Tensor, "n 3 h w"]:
    """Lay drops over the image: the peaks of blurred noise.

    Args:
        images: 0 to 255.
        parameters: Mean and deviation of the noise, sigma of its blur in pixels at 224 px, threshold, intensity of the
            water or sigma of the mud's edge in pixels at 224 px, 0 for water or 1 for mud.
    """
    mean, deviation, sigma, threshold, intensity, mud = parameters
    grains = normal(context.draws.uniform16(*images.shape[2:]), mean * _UNIT, deviation * _UNIT).round_()
    liquid = gaussian_blur(grains, sigma * context.scale).mul_(1 / _UNIT)
    if mud:
        cover = gaussian_blur((liquid > threshold).mul(255.0), intensity * context.scale).mul_(1 / 255)
        cover = torch.where(cover < 0.8, 0.0, cover)[:, None]
        return to_uint8(images.float().mul_(1 - cover).add_(_colour(_MUD, images.device) * cover))
    drops = torch.where(liquid < threshold, 0.0, liquid).mul_(255).to(torch.uint8)
    glint = _glint(drops, max(1, round(20 * context.scale))).mul_(drops)
    brightest = glint.amax((1, 2), keepdim=True)
    # A small image may get no drop at all; then nothing is added.
    glint = glint.mul_(intensity).div_(torch.where(brightest > 0, brightest, 1.0))[:, None]
    return to_uint8(glint.mul(_colour(_WATER, images.device)).add_(images))


def _glint(drops: UInt8[Tensor, "n h w"], reach: int) -> Float[Tensor, "n h w"]:
    """Relief of the distance to the nearest edge, equalised over the image; integers from 0 to 255."""
    distance = distance_to(edges(drops.to(torch.int32)), reach)
    levels = equalised(_box(distance).mul_(1 / 9).to(torch.uint8))
    padded = _padded(levels.float(), "reflect").to(torch.int32)
    above, here, below = (padded[:, row : row + levels.shape[1]] for row in range(3))
    width = levels.shape[2]
    relief = (
        here[..., 1 : width + 1]
        + here[..., 2:]
        + below[..., 1 : width + 1]
        + 2 * below[..., 2:]
        - 2 * above[..., :width]
        - above[..., 1 : width + 1]
        - here[..., :width]
    )
    return _box(relief.clamp_(0, 255)).mul_(1 / 9).round_()


def _padded(images: Float[Tensor, "n h w"], mode: str) -> Float[Tensor, "n h+2 w+2"]:
    return functional.pad(images[:, None], (1, 1, 1, 1), mode=mode)[:, 0]


def _box(images: Tensor) -> Tensor:
    """Sum of the 3 x 3 neighbours."""
    padded = _padded(images.float(), "reflect")
    tall = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return tall[..., :-2] + tall[..., 1:-1] + tall[..., 2:]


def edges(images: Int[Tensor, "n h w"], low: int = 50, high: int = 150) -> Bool[Tensor, "n h w"]:
    """Canny's edges (1986) as OpenCV defines them: 3 x 3 Sobel, |dx| + |dy|, thinned, linked by hysteresis."""
    padded = _padded(images.float(), "replicate").to(torch.int32)
    smooth = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    slope = padded[:, 2:] - padded[:, :-2]
    right = smooth[..., 2:] - smooth[..., :-2]
    down = slope[..., :-2] + 2 * slope[..., 1:-1] + slope[..., 2:]
    size_right, size_down = right.abs(), down.abs()
    strength = size_right + size_down
    around = functional.pad(strength, (1, 1, 1, 1))

    def at(row: int, column: int) -> Tensor:
        height, width = strength.shape[1:]
        return around[:, 1 + row : 1 + row + height, 1 + column : 1 + column + width]

    # tan 22.5° and tan 67.5° in 15 fractional bits.
    flat = (size_down << 15) < size_right * 13573
    steep = (size_down << 15) > size_right * (13573 + (1 << 16))
    falling = (right ^ down) >= 0
    along = (strength > at(0, -1)) & (strength >= at(0, 1))
    upright = (strength > at(-1, 0)) & (strength >= at(1, 0))
    diagonal = torch.where(
        falling,
        (strength > at(-1, -1)) & (strength > at(1, 1)),
        (strength > at(-1, 1)) & (strength > at(1, -1)),
    )
    thin = torch.where(flat, along, torch.where(steep, upright, diagonal)) & (strength > low)
    return _linked(thin, thin & (strength > high))


def _linked(weak: Bool[Tensor, "n h w"], strong: Bool[Tensor, "n h w"]) -> Bool[Tensor, "n h w"]:
    """The weak pixels that touch strong ones, directly or through others."""
    while True:
        tall = strong.clone()
        tall[:, 1:] |= strong[:, :-1]
        tall[:, :-1] |= strong[:, 1:]
        grown = tall.clone()
        grown[..., 1:] |= tall[..., :-1]
        grown[..., :-1] |= tall[..., 1:]
        grown &= weak
        if not (grown ^ strong).any():
            return strong
        strong = grown


def distance_to(marked: Bool[Tensor, "n h w"], reach: int) -> Float[Tensor, "n h w"]:
    """Euclidean distance in pixels to the nearest marked pixel, at most ``reach``."""
    width = marked.shape[2]
    columns = torch.arange(width, dtype=torch.int32, device=marked.device)
    far = reach + 1
    left = columns - torch.where(marked, columns, -far).cummax(2).values
    right = torch.where(marked, columns, width + far).flip(2).cummin(2).values.flip(2) - columns
    across = torch.minimum(left, right).clamp_(max=far).square_()
    if 2 * far**2 < 2**15:
        across = across.to(torch.int16)
    nearest, away = across.clone(), across.clone()
    for step in range(1, min(reach, marked.shape[1] - 1) + 1):
        away += 2 * step - 1
        torch.minimum(nearest[:, step:], away[:, :-step], out=nearest[:, step:])
        torch.minimum(nearest[:, :-step], away[:, step:], out=nearest[:, :-step])
    return nearest.clamp_(max=reach**2).float().sqrt_()


def equalised(images: UInt8[Tensor, "n h w"]) -> UInt8[Tensor, "n h w"]:
    """Histogram equalisation as in OpenCV: the darkest level becomes 0, the brightest 255."""
    count, height, width = images.shape
    offset = torch.arange(count, dtype=torch.int32, device=images.device)[:, None] * 256
    place = images.flatten(1).to(torch.int32) + offset
    histogram = torch.bincount(place.flatten(), minlength=256 * count).view(count, 256)
    levels = torch.arange(256, device=images.device)
    darkest = torch.where(histogram > 0, levels, 256).amin(1, keepdim=True)
    below = histogram.cumsum(1)
    first = histogram.gather(1, darkest)
    rest = height * width - first
    spread = ((below - first).float() * (255.0 / rest.clamp(min=1).float())).round_().clamp_(0, 255)
    # An image of one level is unchanged.
    table = torch.where(rest > 0, spread, levels.float()).to(torch.uint8)
    return look_up(table.flatten(), place).view(count, height, width)


@lru_cache(maxsize=8)
def _colour(colour: tuple[float, float, float], device: torch.device) -> Float[Tensor, "1 3 1 1"]:
    return torch.from_numpy(np.array(colour, np.float32)).to(device).view(1, 3, 1, 1)
