"""Blurs of the whole image: Gaussian, defocus, motion, zoom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from tasks.perturbations.arithmetic import box_sums, convolve, gaussian_weights, to_uint8, whole_weights
from tasks.perturbations.arithmetic import gaussian_blur as blurred
from tasks.perturbations.context import Context

_EDGE_BITS = 7


def gaussian_blur(images: UInt8[Tensor, "n 3 h w"], sigma: float, context: Context) -> UInt8[Tensor, "n 3 h w"]:
    """Blur with a Gaussian truncated at 4 sigma; the outermost pixel is replicated beyond the border.

    Args:
        images: 0 to 255.
        sigma: In pixels at 224 px.
    """
    return to_uint8(blurred(images.float(), sigma * context.scale))


def gaussian_blur_5x5(images: UInt8[Tensor, "n 3 h w"], times: int, context: Context) -> UInt8[Tensor, "n 3 h w"]:
    """Blur with a 5 x 5 Gaussian kernel of sigma 1, mirrored border, truncated to integer levels after each pass.

    The kernel is so narrow that its effective sigma is 0.961. It is never scaled: it is the seed study's, pixel by
    pixel.

    Args:
        images: 0 to 255.
        times: Number of passes.
    """
    weights = whole_weights(gaussian_weights(1.0, truncate=2), 20)
    for _ in range(times):
        down = convolve(images.double(), weights, -2, "symmetric")
        images = to_uint8(convolve(down, weights, -1, "symmetric").mul(2.0**-40))
    return images


def defocus_blur(
    images: UInt8[Tensor, "n 3 h w"], parameters: tuple[float, float], context: Context
) -> UInt8[Tensor, "n 3 h w"]:
    """Mean over a disk with a softened edge, borders mirrored without the outermost pixel.

    Args:
        images: 0 to 255.
        parameters: Radius of the disk and sigma of its edge, in pixels at 224 px.
    """
    radius, sigma = parameters
    runs = disk_runs(max(1.0, radius * context.scale))
    soft = _edge_weights(sigma * context.scale, 1 if radius <= 8 else 2)
    reach, softening = len(runs) // 2, len(soft) // 2
    height, width = images.shape[-2:]
    margin = reach + softening
    padded = functional.pad(images.float(), (margin + 1, margin, margin, margin), mode="reflect").to(torch.int32)
    tall, wide = height + 2 * softening, width + 2 * softening
    boxes = box_sums(padded, sorted(set(runs)), wide)
    total = torch.zeros((*images.shape[:2], tall, wide), dtype=torch.int32, device=images.device)
    for row, half_width in enumerate(runs):
        total += boxes[half_width][..., row : row + tall, :]
    area = sum(2 * half_width + 1 for half_width in runs)
    if 255 * area * 2 ** (2 * _EDGE_BITS) >= 2**31:
        total = total.long()
    whole = whole_weights(soft, _EDGE_BITS)
    softened = _soften(_soften(total, whole, -2), whole, -1)
    return to_uint8(softened.float().mul_(_gain(runs, soft) / (area * 2 ** (2 * _EDGE_BITS))))


def disk_runs(radius: float) -> list[int]:
    """Half the width of each row of the disk x² + y² ≤ radius², top to bottom."""
    reach = int(radius)
    return [int(math.sqrt(radius**2 - y**2)) for y in range(-reach, reach + 1)]


def _edge_weights(sigma: float, radius: int) -> Float[np.ndarray, " taps"]:
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return weights / weights.sum()


def _gain(runs: Sequence[int], soft: Float[np.ndarray, " taps"]) -> float:
    """Sum of the released kernel, which mirrors at its own edge what softening carries beyond it: up to 1.013."""
    reach = max(len(runs) // 2, 8)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    for row, half_width in enumerate(runs, start=reach - len(runs) // 2):
        kernel[row, reach - half_width : reach + half_width + 1] = 1
    padded = np.pad(kernel, len(soft) // 2, mode="reflect")
    softened = sum(
        np.outer(soft, soft)[y, x] * padded[y : y + len(kernel), x : x + len(kernel)].sum()
        for y in range(len(soft))
        for x in range(len(soft))
    )
    return float(softened / kernel.sum())


def _soften(images: Int[Tensor, "*n h w"], weights: Float[np.ndarray, " taps"], dim: int) -> Int[Tensor, "*n a b"]:
    length = images.shape[dim] - len(weights) + 1
    out = images.narrow(dim, 0, length) * int(weights[0])
    for start, weight in enumerate(weights[1:], start=1):
        out.add_(images.narrow(dim, start, length), alpha=int(weight))
    return out


def motion_blur(
    images: UInt8[Tensor, "n 3 h w"], parameters: tuple[float, float], context: Context
) -> UInt8[Tensor, "n 3 h w"]:
    """Weighted mean of shifted copies, a half-Gaussian along a direction drawn within 45 degrees.

    Args:
        images: 0 to 255.
        parameters: The kernel has 2 · radius + 1 steps, one pixel each; sigma of the half-Gaussian. Pixels at 224 px.
    """
    angles = context.draws.number(-45, 45)
    return to_uint8(smear(images.float(), *parameters, angles, context.scale))


def smear(
    images: Float[Tensor, "n c h w"], radius: float, sigma: float, angles: Sequence[float], scale: float
) -> Float[Tensor, "n c h w"]:
    """Motion blur of integers from 0 to 255, each image in its own direction; the outermost pixel is replicated."""
    steps = 2 * max(1, round(radius * scale)) + 1
    weights = np.exp(-0.5 * (np.arange(steps) / (sigma * scale)) ** 2)
    whole = whole_weights(weights / weights.sum(), 16).tolist()
    height, width = images.shape[-2:]
    padded = functional.pad(images, (steps, steps, steps, steps), mode="replicate")
    out = torch.zeros_like(images)
    for sums, image, angle in zip(out, padded, angles, strict=True):
        down, right = math.sin(math.radians(angle)), math.cos(math.radians(angle))
        for step, weight in enumerate(whole):
            top, left = steps + math.ceil(step * down - 0.5), steps + math.ceil(step * right - 0.5)
            sums.add_(image[:, top : top + height, left : left + width], alpha=weight)
    return out.mul_(2.0**-16)


def zoom_blur(
    images: UInt8[Tensor, "n 3 h w"], parameters: tuple[float, float], context: Context
) -> UInt8[Tensor, "n 3 h w"]:
    """Mean of the image and of zoomed copies of its centre. Relative lengths: the same at every size.

    Args:
        images: 0 to 255.
        parameters: End of the zoom factors (exclusive) and their step; the first is 1.
    """
    end, step = parameters
    original = images.float()
    factors = np.arange(1, end, step)[1:].tolist()
    # The first copy is not zoomed. Sums are kept with rows and columns exchanged: selecting rows is fast.
    total = original.transpose(-1, -2).mul(2.0)
    for factor in factors:
        tall = stretch_rows(original, factor)
        total += stretch_rows(tall.transpose(-1, -2).contiguous(), factor)
    return to_uint8(total.transpose(-1, -2).mul(1.0 / (len(factors) + 2))).contiguous()


def stretch_rows(images: Float[Tensor, "*n h w"], factor: float) -> Float[Tensor, "*n h w"]:
    """Crop the middle rows and stretch them linearly to the old height, corner pixels aligned."""
    low, high, share = _stretched(images.shape[-2], factor, images.device)
    below = images.index_select(-2, low)
    return images.index_select(-2, high).sub_(below).mul_(share).add_(below)


@lru_cache(maxsize=256)
def _stretched(length: int, factor: float, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    kept = math.ceil(length / factor)
    start = (length - kept) // 2
    stretched = round(kept * factor)
    places = np.arange(stretched)[:length] * ((kept - 1) / max(stretched - 1, 1))
    low = np.minimum(places.astype(np.int64), kept - 2)
    share = (places - low).astype(np.float32)[:, None]
    low += start
    return tuple(torch.from_numpy(part).to(device) for part in (low, low + 1, share))  # type: ignore[return-value]
