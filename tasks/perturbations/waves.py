"""Waves laid over the image: one sine, circles, interfering sines."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from tasks.perturbations.angles import PER_RADIAN, QUARTER, STEPS, nearest, sine, turns
from tasks.perturbations.arithmetic import square_root, to_uint8
from tasks.perturbations.context import Context

_FINER = 2**8
_LAYERS, _TIGHTER, _SLOWER = 6, 1.93, 1.15


def single_frequency_greyscale(
    images: UInt8[Tensor, "n 3 h w"], strength: float, context: Context
) -> UInt8[Tensor, "n 3 h w"]:
    """Add one plane sine, the same to all channels; up to half a turn per pixel at any size.

    Args:
        images: 0 to 255.
        strength: The amplitude is 19.6 grey levels times it.
    """
    draws = context.draws
    fast = np.array(draws.number(-np.pi, np.pi))
    slow = np.abs(fast) * draws.number(-1, 1)
    swapped = np.array(draws.integer(2)) == 1
    frequency = np.where(swapped, slow, fast), np.where(swapped, fast, slow)
    return plane_sine(images, strength, np.stack(frequency, 1), np.array(draws.number(0, 2 * np.pi)))


def plane_sine(
    images: UInt8[Tensor, "n 3 h w"],
    strength: float,
    frequency: Float[np.ndarray, "n 2"],
    phase: Float[np.ndarray, " n"],
) -> UInt8[Tensor, "n 3 h w"]:
    """``single_frequency_greyscale`` with given numbers.

    Args:
        frequency: In radians per pixel along a row, and down a column.
        phase: In radians.
    """
    height, width = images.shape[2:]
    right = _fine(frequency[:, :1] * np.arange(width), images.device)
    down = _fine(frequency[:, 1:] * np.arange(height) + phase[:, None], images.device).add_(_FINER // 2)
    wave = sine((down[:, :, None] + right[:, None]).bitwise_right_shift_(8))
    return to_uint8(wave.mul_(19.6 * strength)[:, None] + images)


def _fine(angle: Float[np.ndarray, "n k"], device: torch.device) -> Tensor:
    """256ths of a step, of which two angles can be added exactly; int32."""
    whole = np.rint(angle * (PER_RADIAN * _FINER)).astype(np.int64) % (STEPS * _FINER)
    return torch.from_numpy(whole.astype(np.int32)).to(device)


def cocentric_sine_waves(
    images: UInt8[Tensor, "n 3 h w"], strength: float, context: Context
) -> UInt8[Tensor, "n 3 h w"]:
    """Add wavy rings around a random place, the same to all channels.

    Within a ring the brightness rises linearly, in spite of the name. The number of waves around a ring is not whole,
    so there is a seam, and rings may be narrower than a pixel.

    Args:
        images: 0 to 255.
        strength: From the darkest to the brightest of a ring are 12.8 grey levels times it.
    """
    height, width = images.shape[2:]
    longest = min(height, width) / 10
    right, down, waves, sway, ring = (
        np.array(context.draws.number(0, high)) for high in (width, height, 10, longest, longest)
    )
    return rings(images, strength, np.stack([right, down], 1), waves, sway, ring)


def rings(
    images: UInt8[Tensor, "n 3 h w"],
    strength: float,
    centre: Float[np.ndarray, "n 2"],
    waves: Float[np.ndarray, " n"],
    sway: Float[np.ndarray, " n"],
    ring: Float[np.ndarray, " n"],
) -> UInt8[Tensor, "n 3 h w"]:
    """``cocentric_sine_waves`` with given numbers.

    Args:
        centre: Column and row.
        waves: Waves around a ring.
        sway: Amplitude of these waves, in pixels.
        ring: Width of a ring, in pixels.
    """
    down, right = away(centre[:, ::-1], images)
    waved = nearest(turns(right, down).mul_(_each(waves * STEPS, images)))
    radius = square_root(down * down + right * right).add_(sine(waved).mul_(_each(sway, images)))
    rising = radius.div_(_each(np.maximum(ring, 1e-9), images))
    rising.sub_(rising.floor()).sub_(0.5).mul_(12.8 * strength)
    return to_uint8(rising[:, None] + images)


def plasma_noise(images: UInt8[Tensor, "n 3 h w"], strength: float, context: Context) -> UInt8[Tensor, "n 3 h w"]:
    """Mix with a smooth coloured pattern of sines whose arguments are bent by further sines.

    Args:
        images: 0 to 255.
        strength: The pattern's amplitude is 6.4 grey levels times it; the image loses as much in return.
    """
    shorter = min(images.shape[2:])
    draws = context.draws
    time = np.array(draws.number(0, 6 * np.pi))
    layers = np.array(draws.integer(3)) + _LAYERS - 2
    sharpness = np.array(draws.number(0.5, 1))
    return bent_sines(images, strength, time, layers, sharpness, np.array(draws.number(0.075, 0.2)) * shorter)


def bent_sines(
    images: UInt8[Tensor, "n 3 h w"],
    strength: float,
    time: Float[np.ndarray, " n"],
    layers: np.ndarray,
    sharpness: Float[np.ndarray, " n"],
    scale: Float[np.ndarray, " n"],
) -> UInt8[Tensor, "n 3 h w"]:
    """``plasma_noise`` with given numbers.

    Args:
        time: In radians.
        layers: How often the pattern is bent, at most 6 times.
        sharpness: 0.5 to 1: how little finer layers are weakened.
        scale: Pixels per radian.
    """
    height, width = images.shape[2:]
    right = _rows(np.arange(width) * (PER_RADIAN / scale[:, None]), images)[:, None]
    down = _rows(np.arange(height) * (PER_RADIAN / scale[:, None]), images)[:, :, None]
    for layer in range(_LAYERS):
        # Images with fewer layers add nothing.
        weight = _each(np.where(layer < layers, PER_RADIAN / (2.25 - sharpness) ** layer, 0), images)
        shift = _each(time * (PER_RADIAN / _SLOWER**layer), images)
        first = sine(nearest(down * _TIGHTER**layer + shift + QUARTER)).mul_(weight)
        second = sine(nearest(right * _TIGHTER**layer + shift)).mul_(weight)
        right, down = right + (first - second * 0.3), down + (second + first * 0.3)
    start, between = _each(time * PER_RADIAN, images), _each(np.sin(time) * PER_RADIAN, images)
    red, blue = sine(nearest(right - start)), sine(nearest(down + start))
    green = sine(nearest((right + down + between).mul_(0.5)))
    amplitude = 6.4 * strength
    noise = torch.stack([red, green, blue], 1).mul_(amplitude)
    return to_uint8(noise.add_(images * (1 - amplitude / 255)))


def away(
    centre: Float[np.ndarray, "n 2"], images: UInt8[Tensor, "n 3 h w"]
) -> tuple[Float[Tensor, "n h 1"], Float[Tensor, "n 1 w"]]:
    """How far each pixel is from a row and a column, float32."""
    height, width = images.shape[2:]
    down, right = np.arange(height) - centre[:, :1], np.arange(width) - centre[:, 1:]
    return _rows(down, images)[:, :, None], _rows(right, images)[:, None]


def _each(numbers: Float[np.ndarray, " n"], images: Tensor) -> Float[Tensor, "n 1 1"]:
    return _rows(numbers, images)[:, None, None]


def _rows(numbers: np.ndarray, images: Tensor) -> Tensor:
    return torch.from_numpy(numbers.astype(np.float32)).to(images.device)
