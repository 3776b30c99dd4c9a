"""Noise drawn independently for each value: Gaussian, Poisson, salt and pepper, speckle.

It is per pixel, so its severity does not change with the size of the image.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from tasks.perturbations.arithmetic import to_uint8
from tasks.perturbations.context import Context
from tasks.perturbations.draws import normal_quantiles


def gaussian_noise(images: UInt8[Tensor, "n 3 h w"], sigma: float, context: Context) -> UInt8[Tensor, "n 3 h w"]:
    """Add normal noise.

    Args:
        images: 0 to 255.
        sigma: Standard deviation on the scale 0 to 1.
    """
    added = normal(context.draws.uniform16(*images.shape[1:]), 0.0, 255.0 * sigma)
    return to_uint8(added.add_(images))


def speckle_noise(images: UInt8[Tensor, "n 3 h w"], sigma: float, context: Context) -> UInt8[Tensor, "n 3 h w"]:
    """Multiply each value by a normal number around 1.

    Args:
        images: 0 to 255.
        sigma: Standard deviation of the factor.
    """
    factor = normal(context.draws.uniform16(*images.shape[1:]), 1.0, sigma)
    return to_uint8(factor.mul_(images))


def shot_noise(images: UInt8[Tensor, "n 3 h w"], counts: float, context: Context) -> UInt8[Tensor, "n 3 h w"]:
    """Replace each value by a Poisson count whose mean is the value.

    Args:
        images: 0 to 255.
        counts: Expected count of a white pixel.
    """
    place = context.draws.uniform16(*images.shape[1:]).add_(images.to(torch.int32) << 16)
    return look_up(_poisson_table(counts, images.device), place)


def impulse_noise(images: UInt8[Tensor, "n 3 h w"], amount: float, context: Context) -> UInt8[Tensor, "n 3 h w"]:
    """Set a share of the values to 0 and 255, each with probability one half.

    Args:
        images: 0 to 255.
        amount: The share, 0 to 1.
    """
    half = round(amount * 2**15)
    drawn = context.draws.uniform16(*images.shape[1:])
    # 255 where true: a byte of ones is minus one.
    salt, kept = (drawn < half).to(torch.uint8).neg_(), (drawn >= 2 * half).to(torch.uint8).neg_()
    return kept.bitwise_and_(images).bitwise_or_(salt)


def normal(uniform: Int[Tensor, "*shape"], mean: float, deviation: float) -> Float[Tensor, "*shape"]:
    """Normal numbers from those of ``Draws.uniform16``, float32."""
    return look_up(_normal_table(mean, deviation, uniform.device), uniform)


def look_up(table: Tensor, place: Int[Tensor, "*shape"]) -> Tensor:
    """The table's values at int32 indices."""
    # index_select takes int32 and is several times faster than table[place] on a CPU.
    return table.index_select(0, place.reshape(-1)).reshape(place.shape)


@lru_cache(maxsize=8)
def _normal_table(mean: float, deviation: float, device: torch.device) -> Float[Tensor, " 65536"]:
    return torch.from_numpy((mean + deviation * normal_quantiles()).astype(np.float32)).to(device)


@lru_cache(maxsize=2)
def _poisson_table(counts: float, device: torch.device) -> UInt8[Tensor, " 16777216"]:
    """The noisy pixel for each input pixel and each number of ``uniform16``: 16 MB."""
    from scipy.stats import poisson

    most = int(poisson.ppf(1 - 2.0**-18, counts)) + 1
    values = np.minimum(np.arange(most + 1) / counts * 255, 255).astype(np.uint8)
    means = np.arange(256)[:, None] / 255 * counts
    # How many of the 65,536 mid-quantiles are below each count's cumulative probability.
    ends = np.ceil(poisson.cdf(np.arange(most), means) * 65536 - 0.5).clip(0, 65536).astype(int)
    lengths = np.diff(ends, axis=1, prepend=0, append=65536)
    table = np.repeat(np.tile(values, 256), lengths.ravel())
    return torch.from_numpy(table).to(device)
