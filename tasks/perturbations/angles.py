"""Sines and angles that give the same bits on every device: a table made on the host, and one polynomial."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tasks.perturbations.noise import look_up

STEPS = 65536
"""Steps per turn: an angle is rounded to the nearest, so a sine is off by at most 5e-5."""

PER_RADIAN = STEPS / (2 * np.pi)

QUARTER = STEPS // 4
"""The sine of an angle that many steps further is its cosine."""

# atan(q) / (2 pi q) as a polynomial in the square of q from 0 to 1, off by at most 1.2e-8 turns.
_TURNS = (
    0.1591549268,
    -0.05304946153,
    0.03178202523,
    -0.02230808795,
    0.01576604288,
    -0.009448567548,
    0.003846168518,
    -0.0007430583501,
)


def nearest(angle: Float[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """The nearest whole step of angles in steps, below 2^24; the angles are overwritten."""
    return angle.add_(0.5).floor_().to(torch.int32)


def sine(step: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The sine of whole steps, float32; these are overwritten."""
    return look_up(_sines(step.device), step.bitwise_and_(STEPS - 1))


def turns(y: Float[Tensor, "*rows"], x: Float[Tensor, "*columns"]) -> Float[Tensor, "*shape"]:
    """The angle from the x axis to (x, y) in turns, -0.5 to 0.5, float32; the two are broadcast."""
    up, across = y.abs(), x.abs()
    # The smallest number instead of 0, so that the origin has an angle.
    share = torch.minimum(up, across).div_(torch.maximum(up, across).clamp_(min=1e-30))
    square = share * share
    angle = torch.full_like(square, _TURNS[-1])
    for factor in _TURNS[-2::-1]:
        angle.mul_(square).add_(factor)
    angle.mul_(share)
    angle = torch.where(up > across, 0.25 - angle, angle)
    angle = torch.where(x < 0, 0.5 - angle, angle)
    return torch.where(y < 0, -angle, angle)


@lru_cache(maxsize=2)
def _sines(device: torch.device) -> Float[Tensor, " 65536"]:
    return torch.from_numpy(np.sin(np.arange(STEPS) * (2 * np.pi / STEPS)).astype(np.float32)).to(device)
