"""Caustic refraction: the image seen through wavy glass, with the light that the waves gather."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from tasks.perturbations.angles import PER_RADIAN, QUARTER, STEPS, sine
from tasks.perturbations.arithmetic import convolve, gaussian_weights, square_root, to_uint8, whole_weights
from tasks.perturbations.context import Context
from tasks.perturbations.elastic import read
from tasks.perturbations.noise import look_up

_WAVES, _FROM, _NARROW = 5, 250.0, 0.005
_MAP_BITS, _WEIGHT_BITS = 16, 18
_FLAT = 0.999
_INDEX = 4.0  # of refraction


def caustic_refraction(images: UInt8[Tensor, "n 3 h w"], strength: float, context: Context) -> UInt8[Tensor, "n 3 h w"]:
    """Refract the image by waves of glass and add the light that they throw.

    Args:
        images: 0 to 255.
        strength: The lens is a twentieth of it, as a share of the shorter side, and the light a fifth, in multiples of
            white.
    """
    time = np.array(context.draws.number(0.5, 2))
    size = np.array(context.draws.number(0.75, 1.25)) * min(images.shape[2:])
    return refracted(images, strength, time, size, context.scale)


def refracted(
    images: UInt8[Tensor, "n 3 h w"],
    strength: float,
    time: Float[np.ndarray, " n"],
    size: Float[np.ndarray, " n"],
    scale: float,
) -> UInt8[Tensor, "n 3 h w"]:
    """``caustic_refraction`` with given numbers.

    Args:
        time: Of the waves, in radians.
        size: Period of the pattern, in pixels.
        scale: Pixels per pixel of a 224-px image, for the smoothing and the slope of the light.
    """
    height, width = images.shape[2:]
    light = _light(time, size, height, width, images.device)
    weights = whole_weights(gaussian_weights(scale), _WEIGHT_BITS)
    for dim in (-2, -1):
        # At most 2^16 · 2^18 · 2^18, which float64 represents exactly.
        light = convolve(light, weights, dim, "symmetric")
    light = light.mul_(scale * 2.0 ** -(_MAP_BITS + 2 * _WEIGHT_BITS)).float()
    light = torch.nn.functional.pad(light, (1, 1, 1, 1))
    down = light[:, 2:, 1:-1] - light[:, :-2, 1:-1]
    right = light[:, 1:-1, 2:] - light[:, 1:-1, :-2]
    squares = down * down + right * right
    upright = square_root(squares + 1).reciprocal_()
    tilt = squares.mul_(upright).mul_(upright)
    # Snell's law in closed form.
    bent = square_root(tilt.mul_(-1 / _INDEX**2).add_(1)).sub_(upright / _INDEX).mul_(upright)
    bent = torch.where(upright >= _FLAT, 0.0, bent).mul_(0.05 * strength * min(height, width))
    rows, columns = (torch.arange(side, dtype=torch.float32, device=images.device) for side in (height, width))
    moved = [(slope * bent).mul_(1000).add_(0.5).floor_().mul_(1e-3) for slope in (down, right)]
    seen = read(images.to(torch.int32), moved[0].add_(rows[:, None]), moved[1].add_(columns), "black")
    return to_uint8(seen.add_((down - right).mul_(0.2 * 255 * strength)[:, None]))


def _light(
    time: Float[np.ndarray, " n"], size: Float[np.ndarray, " n"], height: int, width: int, device: torch.device
) -> Float[Tensor, "n h w"]:
    """Where the waves gather the light, as integers from 0 to 65,535 in float64."""
    base = [2 * np.pi * ((np.arange(side) / size[:, None]) % 1) - _FROM for side in (height, width)]

    def put(parts: list[np.ndarray]) -> tuple[Tensor, Tensor]:
        rows, columns = (torch.from_numpy(part.astype(np.float32)).to(device) for part in parts)
        return rows[:, :, None], columns[:, None]

    near = put([_NARROW * place for place in base])
    # How far the waves have moved each point, in steps along the columns and the rows.
    down = right = torch.zeros((len(time), 1, 1), device=device)
    total = torch.ones((len(time), height, width), device=device)
    for wave in range(_WAVES):
        moment = (time * (1 - 3.5 / (wave + 1)))[:, None]
        # One turn and half a step more, so that an integer is reached from above.
        before = put([(moment - place) * PER_RADIAN % STEPS + STEPS + 0.5 for place in base])
        after = put([(moment + place) * PER_RADIAN % STEPS + STEPS + 0.5 for place in base])
        cosine = [_sine(before[0] - down, QUARTER), _sine(after[0] + down, QUARTER)]
        sines = [_sine(after[1] + right), _sine(before[1] - right)]
        down, right = (cosine[0] + sines[0]).mul_(PER_RADIAN), (sines[1] + cosine[1]).mul_(PER_RADIAN)
        upper = (near[0] / _sine(after[0] + down)).square_()
        upper.add_((near[1] / _sine(after[1] + right, QUARTER)).square_())
        total.add_(square_root(upper).reciprocal_())
    place = total.mul_(STEPS / _WAVES).clamp_(max=STEPS - 1).to(torch.int32)
    return look_up(_gathered(device), place)


def _sine(angle: Float[Tensor, "*shape"], more: int = 0) -> Float[Tensor, "*shape"]:
    """The sine of angles in steps, positive and half a step too large."""
    step = angle.to(torch.int32)
    return sine(step.add_(more) if more else step)


@lru_cache(maxsize=2)
def _gathered(device: torch.device) -> Float[Tensor, " 65536"]:
    """The light for each brightness from 0 to 1 of the sum of the waves."""
    brightness = (np.arange(STEPS) + 0.5) / STEPS
    light = (np.abs(1.17 - brightness**1.4) ** 8).clip(0, 1)
    return torch.from_numpy(np.rint(light * (2**_MAP_BITS - 1))).to(device)
