"""Stars with many rays: white ones on the image, and one that leaves the image only inside."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from tasks.perturbations.angles import turns
from tasks.perturbations.arithmetic import to_uint8
from tasks.perturbations.context import Context
from tasks.perturbations.draws import Draws
from tasks.perturbations.noise import look_up, normal
from tasks.perturbations.waves import away

_STARS, _FEWEST_RAYS, _MOST_RAYS = 5, 50, 199
_SPREAD = 0.25  # of the rays' lengths, relative to their mean
# Bits of a positive float32 that select its power: 8 of the exponent and the first 12 of the mantissa.
_SHIFT, _LOWEST, _HIGHEST = 23 - 12, 127 - 40, 127 + 8


def sparkles(images: UInt8[Tensor, "n 3 h w"], strength: float, context: Context) -> UInt8[Tensor, "n 3 h w"]:
    """Draw five white stars.

    Args:
        images: 0 to 255.
        strength: Mean length of a ray in hundredths of the shorter side.
    """
    centres, rays, lengths = [], [], []
    height, width = images.shape[2:]
    for _ in range(_STARS):
        centres.append(np.stack([context.draws.number(0, height), context.draws.number(0, width)], 1))
        rays.append(_rays(context.draws))
        lengths.append(context.draws.uniform16(_MOST_RAYS))
    normals = normal(torch.stack(lengths, 1), 0.0, 1.0)
    return white_stars(images, strength, np.stack(centres, 1), np.stack(rays, 1), normals)


def white_stars(
    images: UInt8[Tensor, "n 3 h w"],
    strength: float,
    centres: Float[np.ndarray, "n stars 2"],
    rays: Int[np.ndarray, "n stars"],
    normals: Float[Tensor, "n stars 199"],
) -> UInt8[Tensor, "n 3 h w"]:
    """``sparkles`` with given numbers.

    Args:
        centres: Row and column.
        rays: Number of rays.
        normals: Standard normal; the lengths of the rays.
    """
    mean = 0.01 * strength * min(images.shape[2:])
    lengths = normals.mul(_SPREAD).add_(1).mul_(mean).clamp_(min=1)
    out = images.float()
    for star in range(centres.shape[1]):
        inside, glow = _star(images, centres[:, star], rays[:, star], lengths[:, star])
        light = inside.mul_(glow).clamp_(0, 1)[:, None]
        out.add_((255 - out).mul_(light))
    return to_uint8(out)


def inverse_sparkles(images: UInt8[Tensor, "n 3 h w"], strength: float, context: Context) -> UInt8[Tensor, "n 3 h w"]:
    """Whiten all but the inside of a star.

    Args:
        images: 0 to 255.
        strength: How fast the image disappears outside: the exponent of the glow is 0.13 times it.
    """
    draws = context.draws
    height, width = images.shape[2:]
    centre = np.stack([np.array(draws.number(0.25, 0.75)) * side for side in (height, width)], 1)
    rays = _rays(draws)
    return star_of_the_image(images, strength, centre, rays, normal(draws.uniform16(_MOST_RAYS), 0.0, 1.0))


def star_of_the_image(
    images: UInt8[Tensor, "n 3 h w"],
    strength: float,
    centre: Float[np.ndarray, "n 2"],
    rays: Int[np.ndarray, " n"],
    normals: Float[Tensor, "n 199"],
) -> UInt8[Tensor, "n 3 h w"]:
    """``inverse_sparkles`` with given numbers, which are those of a star of ``white_stars``."""
    lengths = normals.mul(_SPREAD).add_(1).mul_(min(images.shape[2:]) / 4)
    inside, glow = _star(images, centre, rays, lengths)
    place = glow.contiguous().view(torch.int32).bitwise_right_shift_(_SHIFT)
    place.clamp_(_LOWEST << (23 - _SHIFT), (_HIGHEST << (23 - _SHIFT)) - 1).sub_(_LOWEST << (23 - _SHIFT))
    kept = inside.mul_(look_up(_powers(0.13 * strength, images.device), place)).clamp_(0, 1)[:, None]
    return to_uint8((images.float() - 255).mul_(kept).add_(255))


def _rays(draws: Draws) -> Int[np.ndarray, " n"]:
    return np.array(draws.integer(_MOST_RAYS + 1 - _FEWEST_RAYS), dtype=np.int64) + _FEWEST_RAYS


def _star(
    images: UInt8[Tensor, "n 3 h w"],
    centre: Float[np.ndarray, "n 2"],
    rays: Int[np.ndarray, " n"],
    lengths: Float[Tensor, "n 199"],
) -> tuple[Float[Tensor, "n h w"], Float[Tensor, "n h w"]]:
    """Brightness between the rays, 0.75 to 1, and the squared length of the rays over that of the distance."""
    # The first ray again after the last, twice: an angle of half a turn may belong to either.
    order = np.arange(_MOST_RAYS + 2) % rays[:, None]
    table = lengths.gather(1, torch.from_numpy(order).to(images.device))
    down, right = away(centre, images)
    count = torch.from_numpy(rays.astype(np.float32)).to(images.device)[:, None, None]
    place = turns(right, down).add_(0.5).mul_(count)
    ray = place.floor()
    between = place.sub_(ray)
    first = torch.arange(len(images), device=images.device, dtype=torch.int32) * table.shape[1]
    index = ray.to(torch.int32).add_(first[:, None, None])
    flat = table.reshape(-1)
    length = look_up(flat, index)
    length = look_up(flat, index.add_(1)).sub_(length).mul_(between).add_(length)
    glow = length.mul_(length).div_((down * down + right * right).add_(1e-4))
    middle = between.sub_(0.5)
    return middle.mul_(middle).neg_().add_(1), glow


@lru_cache(maxsize=5)
def _powers(exponent: float, device: torch.device) -> Float[Tensor, " places"]:
    """The power of each float32 between 2^-40 and 2^8, of which 12 bits of the mantissa are kept."""
    places = np.arange(_LOWEST << (23 - _SHIFT), _HIGHEST << (23 - _SHIFT), dtype=np.int32)
    middles = ((places << _SHIFT) + (1 << (_SHIFT - 1))).view(np.float32)
    return torch.from_numpy((middles.astype(np.float64) ** exponent).astype(np.float32)).to(device)
