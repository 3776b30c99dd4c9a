"""Arithmetic on images that gives the same bits on every device, in every batch and with any number of threads.

Wherever many numbers are summed, all are integers and the sum stays within what a float represents exactly (2^24 in
float32, 2^53 in float64), so that the order of summation, fused multiply-add and the library's choice of kernel cannot
matter. Everything else is one IEEE operation per element. Images are float tensors on the scale 0 to 255.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

Border = Literal["replicate", "symmetric"]
_CPU_PIXELS, _GPU_PIXELS = 2**16, 2**23
_BLOCK = 16
_FIRST_BITS, _SECOND_BITS, _KEPT_BITS = 16, 12, 4


def pieces(images: UInt8[Tensor, "n 3 h w"], pixels: int | None = None) -> Iterator[slice]:
    """Split a batch into pieces; no pixel depends on the split.

    Args:
        pixels: Pixels per piece; by default as many as fit the CPU cache, or keep a GPU busy.
    """
    pixels = pixels or (_GPU_PIXELS if images.is_cuda else _CPU_PIXELS)
    size = max(1, pixels // (images.shape[-2] * images.shape[-1]))
    for start in range(0, len(images), size):
        yield slice(start, min(start + size, len(images)))


def to_uint8(values: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Clip to 0 to 255 and truncate, as the published corruptions do; the values are overwritten."""
    return values.clamp_(0, 255).to(torch.uint8)


def gaussian_weights(sigma: float, truncate: float = 4.0) -> Float[np.ndarray, " taps"]:
    """A Gaussian kernel with 2 r + 1 taps, r = truncate · sigma rounded; sums to 1."""
    radius = int(truncate * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return weights / weights.sum()


def whole_weights(weights: Float[np.ndarray, "*shape"], bits: int) -> Float[np.ndarray, "*shape"]:
    """The weights, which sum to 1, as integers that sum to 2^bits exactly; the largest absorbs the remainder."""
    whole = np.rint(weights * 2**bits)
    whole.flat[np.argmax(whole)] += 2**bits - whole.sum()
    return whole


def convolve(
    images: Float[Tensor, "*n h w"], weights: Float[np.ndarray, " taps"], dim: int, border: Border
) -> Float[Tensor, "*n h w"]:
    """Convolve rows or columns with a symmetric kernel; exact if the images and the weights are integers.

    Computed as products with a small banded matrix, block by block, which is several times faster than a convolution of
    one channel.

    Args:
        images: For exactness |image| · Σ|weights| must stay below 2^24 (2^53 in float64).
        weights: An odd number of taps.
        dim: -2 convolves along the columns, -1 along the rows.
        border: ``replicate`` the outermost pixel (SciPy's ``nearest``), or ``symmetric``: mirror including it (SciPy's
            ``reflect``).
    """
    *lead, height, width = images.shape
    planes = images.reshape(-1, height, width)
    # The convolved side first, so that one product serves all planes and a plane's border rows are adjacent.
    moved = planes.permute(1, 0, 2) if dim == -2 else planes.permute(2, 0, 1)
    length, radius = len(moved), len(weights) // 2
    blocks = -(-length // _BLOCK)
    padded = moved.new_empty((blocks * _BLOCK + 2 * radius, *moved.shape[1:]))
    padded[radius : radius + length] = moved
    for edge, source in _edges(length, radius, len(padded), border, images.device):
        padded[edge] = padded.index_select(0, source)
    row = padded[0].numel()
    views = padded.as_strided((blocks, _BLOCK + 2 * radius, row), (_BLOCK * row, row, 1))
    band = _band(tuple(weights.tolist()), images.dtype, images.device)
    with exact_products(images.is_cuda):
        out = torch.bmm(band.expand(blocks, -1, -1), views)
    out = out.view(blocks * _BLOCK, *moved.shape[1:])[:length]
    return (out.permute(1, 0, 2) if dim == -2 else out.permute(1, 2, 0)).view(*lead, height, width)


@contextmanager
def exact_products(on_cuda: bool) -> Iterator[None]:
    """Keep CUDA from rounding the factors of a product to TF32, whatever the user's setting."""
    if not on_cuda:
        yield
        return
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@lru_cache(maxsize=64)
def _band(weights: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Float[Tensor, "block reach"]:
    band = np.zeros((_BLOCK, _BLOCK + len(weights) - 1))
    for row in range(_BLOCK):
        band[row, row : row + len(weights)] = weights
    return torch.from_numpy(band).to(device, dtype)


@lru_cache(maxsize=64)
def _edges(
    length: int, radius: int, padded: int, border: Border, device: torch.device
) -> tuple[tuple[slice, Tensor], ...]:
    """The two ends of the padding, and the corresponding rows of the padded images."""
    rows = border_index(length, radius, padded - radius - length, border) + radius
    ends = (slice(0, radius), slice(radius + length, padded))
    return tuple((end, torch.from_numpy(rows[end]).to(device)) for end in ends if end.start < end.stop)


def border_index(length: int, before: int, after: int, border: Border) -> np.ndarray:
    """The index (of ``length`` pixels) at each position from -before to length + after - 1, int64."""
    places = np.arange(-before, length + after)
    if border == "replicate":
        return places.clip(0, length - 1)
    folded = places % (2 * length)
    return np.minimum(folded, 2 * length - 1 - folded)


def gaussian_blur(images: Float[Tensor, "*n h w"], sigma: float) -> Float[Tensor, "*n h w"]:
    """Gaussian blur of integers, truncated at 4 sigma; the outermost pixel is replicated beyond the border.

    Between the two passes four fractional bits are kept, so the result is within a fifth of a grey level of the
    real-valued one, and the same on every device.

    Args:
        images: Integers from -255 to 255, float32.
        sigma: In pixels.

    Returns:
        Multiples of 2^-16.
    """
    weights = gaussian_weights(sigma)
    down = convolve(images, whole_weights(weights, _FIRST_BITS), -2, "replicate")
    kept = down.mul_(2.0 ** (_KEPT_BITS - _FIRST_BITS)).add_(0.5).floor_()
    across = convolve(kept, whole_weights(weights, _SECOND_BITS), -1, "replicate")
    return across.mul(2.0 ** -(_KEPT_BITS + _SECOND_BITS))


def square_root(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The correctly rounded square root; the values are overwritten."""
    if values.is_cuda:
        return values.sqrt_()
    # On a CPU torch's own may be off in the last bit: it is that of Intel's MKL.
    pixels = values.numpy()
    np.sqrt(pixels, out=pixels)
    return values


def box_sums(images: Tensor, half_widths: Sequence[int], out_width: int) -> dict[int, Tensor]:
    """Sums of 2 w + 1 neighbours along the rows, for several w; exact on integers.

    Args:
        images: Integers; padded by at least the largest w on each side, and one more on the left.
        half_widths: The values of w.
        out_width: Width of the sums; the images are wider by the padding.
    """
    left = (images.shape[-1] - out_width + 1) // 2
    total = images.cumsum(-1, dtype=torch.int32)
    return {
        w: total[..., left + w : left + w + out_width] - total[..., left - w - 1 : left - w - 1 + out_width]
        for w in half_widths
    }
