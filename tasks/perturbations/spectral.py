"""Noise with a given spectrum: blue noise, which blackens pixels, and brownish noise, which is added.

The published construction is kept: the phases of the left half of the centred spectrum, turned by half a turn, are
those of the right half, and the noise is the real part of the transform. The partner of a frequency is thus not its
negative, so that the noise is not equally strong everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from tasks.perturbations.angles import QUARTER, sine
from tasks.perturbations.arithmetic import exact_products, to_uint8
from tasks.perturbations.context import Context
from tasks.perturbations.draws import Draws

# At most 2^22 · 2^18 · 2 · 4096 = 2^53: exact for sides up to 4,096 px.
_BITS, _WAVE_BITS, _NOISE_BITS = 22, 18, 20


def blue_noise_sample(images: UInt8[Tensor, "n 3 h w"], strength: float, context: Context) -> UInt8[Tensor, "n 3 h w"]:
    """Blacken pixels, few of which are neighbours.

    Args:
        images: 0 to 255.
        strength: Pixels turn black where the noise is below 0.3 times it minus 2.5, in its standard deviations.
    """
    return blackened(images, strength, _phases(context.draws, 1, images))


def blackened(
    images: UInt8[Tensor, "n 3 h w"], strength: float, phases: Int[Tensor, "n 1 a b"]
) -> UInt8[Tensor, "n 3 h w"]:
    """``blue_noise_sample`` with given phases, in 65,536ths of a turn."""
    noise, deviation = spectral_noise(phases, images, _blue)
    border = torch.from_numpy(np.floor((0.3 * strength - 2.5) * deviation)).to(images.device)
    return images.masked_fill(noise <= border[..., None, None], 0)


def brownish_noise(images: UInt8[Tensor, "n 3 h w"], strength: float, context: Context) -> UInt8[Tensor, "n 3 h w"]:
    """Add smooth noise to each channel, whose mean is not 0.

    Args:
        images: 0 to 255.
        strength: The standard deviation is 6.4 grey levels times it.
    """
    return browned(images, strength, _phases(context.draws, 3, images))


def browned(
    images: UInt8[Tensor, "n 3 h w"], strength: float, phases: Int[Tensor, "n 3 a b"]
) -> UInt8[Tensor, "n 3 h w"]:
    """``brownish_noise`` with given phases, in 65,536ths of a turn."""
    noise, deviation = spectral_noise(phases, images, _brownish)
    factor = torch.from_numpy((6.4 * strength / deviation).astype(np.float32)).to(images.device)
    return to_uint8(noise.float().mul_(factor[..., None, None]).add_(images))


def spectral_noise(
    phases: Int[Tensor, "n planes a b"], images: Tensor, amplitudes: Callable[[int, int, torch.device], Tensor]
) -> tuple[Float[Tensor, "n planes h w"], Float[np.ndarray, "n planes"]]:
    """Noise as integers up to 2^20 in float64, and its standard deviation.

    Args:
        phases: In 65,536ths of a turn; [height, ceil(width / 2)], and the lower half of the last column is unused if
            the width is odd.
        amplitudes: The cached function that gives the spectrum's amplitudes.
    """
    height, width = images.shape[2:]
    device = phases.device
    step = _whole(phases, height, width)
    size = amplitudes(height, width, device)
    real, imaginary = (
        sine(step + quarter).double().mul_(size).add_(0.5).floor_().roll((-(height // 2), -(width // 2)), (-2, -1))
        for quarter in (QUARTER, 0)
    )
    # The real part depends only on the sum of each coefficient and the conjugate of that of the negative frequency.
    real, imaginary = real + _negated(real), imaginary - _negated(imaginary)
    kept = width // 2 + 1
    halves = torch.cat([real[..., :kept], imaginary[..., :kept]], -2)
    down, across = _waves(height, width, device)
    with exact_products(device.type == "cuda"):
        rows = _scaled(torch.matmul(down, halves), _BITS)
        rows = torch.cat([rows[..., :height, :], rows[..., height:, :]], -1)
        noise = _scaled(torch.matmul(rows, across), _NOISE_BITS)
    whole = noise.to(torch.int64)
    count = height * width
    total, squares = (part.sum((-2, -1)).cpu().numpy().astype(np.float64) for part in (whole, whole * whole))
    return noise, np.sqrt(squares / count - (total / count) ** 2)


def _phases(draws: Draws, planes: int, images: Tensor) -> Int[Tensor, "n planes h half"]:
    height, width = images.shape[2:]
    return draws.uniform16(planes, height, (width + 1) // 2)


def _whole(phases: Int[Tensor, "n planes a b"], height: int, width: int) -> Int[Tensor, "n planes h w"]:
    """The phase of each frequency of the centred spectrum."""
    left = phases[..., : width // 2]
    turned = left.flip(-2, -1)
    if width % 2 == 0:
        return torch.cat([left, turned], -1)
    upper = phases[..., : height // 2, -1:]
    middle = [upper, *([torch.zeros_like(phases[..., :1, -1:])] if height % 2 else []), upper.flip(-2)]
    return torch.cat([left, torch.cat(middle, -2), turned], -1)


def _negated(spectrum: Float[Tensor, "n planes h w"]) -> Float[Tensor, "n planes h w"]:
    return spectrum.flip(-2, -1).roll((1, 1), (-2, -1))


def _scaled(values: Float[Tensor, "n planes a b"], bits: int) -> Float[Tensor, "n planes a b"]:
    """Integers of at most that many bits: each plane is multiplied by a power of two, and rounded."""
    largest = values.abs().amax((-2, -1)).cpu().numpy()
    factors = np.ldexp(1.0, bits - np.frexp(largest)[1])
    return values.mul_(torch.from_numpy(factors).to(values.device)[..., None, None]).add_(0.5).floor_()


@lru_cache(maxsize=4)
def _waves(height: int, width: int, device: torch.device) -> tuple[Float[Tensor, "a b"], Float[Tensor, "c d"]]:
    """Cosines and sines as integers: for all frequencies down the columns, and the positive ones along the rows."""
    turn = 2 * np.pi * np.outer(np.arange(height), np.arange(height)) / height
    cosines, sines = np.cos(turn), np.sin(turn)
    down = np.block([[cosines, -sines], [sines, cosines]])
    kept = np.arange(width // 2 + 1)
    turn = 2 * np.pi * np.outer(kept, np.arange(width)) / width
    # A frequency that is its own negative has been counted twice.
    once = np.where((2 * kept) % width == 0, 0.5, 1.0)[:, None]
    across = np.concatenate([np.cos(turn) * once, -np.sin(turn) * once])
    first, second = (torch.from_numpy(np.rint(part * 2**_WAVE_BITS)).to(device) for part in (down, across))
    return first, second


@lru_cache(maxsize=4)
def _blue(height: int, width: int, device: torch.device) -> Float[Tensor, "h w"]:
    distance = np.sqrt(_squared(height, width))
    return _integers(distance / distance.max(), device)


@lru_cache(maxsize=4)
def _brownish(height: int, width: int, device: torch.device) -> Float[Tensor, "h w"]:
    return _integers(1 / (_squared(height, width) + 1), device)


def _squared(height: int, width: int) -> Float[np.ndarray, "h w"]:
    """The square of each frequency of the centred spectrum, in cycles per shorter side."""
    shorter = min(height, width)
    down, right = ((np.arange(side) - side // 2) * (shorter / side) for side in (height, width))
    return down[:, None] ** 2 + right**2


def _integers(amplitudes: Float[np.ndarray, "h w"], device: torch.device) -> Float[Tensor, "h w"]:
    return torch.from_numpy(amplitudes * 2.0 ** (_BITS - 1)).to(device)
