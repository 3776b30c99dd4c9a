"""Frosted glass: a blur, pixels that take the values of their neighbours, and another blur."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from tasks.perturbations.arithmetic import gaussian_blur, pieces, to_uint8
from tasks.perturbations.context import Context
from tasks.perturbations.draws import Draws


def glass_blur(
    images: UInt8[Tensor, "n 3 h w"], parameters: tuple[float, float, int], context: Context
) -> UInt8[Tensor, "n 3 h w"]:
    """Blur, let each pixel take the value of a random neighbour, blur again.

    Pixels are visited from bottom right to top left. The released code means to exchange two pixels, but its array
    views make it a copy: the neighbour keeps its value, so that values are lost at each visit. Its offsets also end one
    pixel earlier down and right than up and left, so the whole image moves down and right. ``repaired`` exchanges, with
    the same reach in all directions.

    Args:
        images: 0 to 255.
        parameters: Sigma of both blurs and largest offset, in pixels at 224 px; number of passes.
    """
    sigma, reach, passes = parameters
    height, width = images.shape[2:]
    sigma, exchange = sigma * context.scale, context.mode == "repaired"
    steps = offsets(reach, context.scale, exchange)
    sources = shuffled(context.draws, len(images), (height, width), steps, int(passes), exchange)
    out = torch.empty_like(images)
    for piece in pieces(images):
        once = gaussian_blur(images[piece].float(), sigma).floor_()
        mixed = once.flatten(2).gather(2, sources[piece, None].expand(-1, 3, -1))
        out[piece] = to_uint8(gaussian_blur(mixed.view_as(once), sigma))
    return out


def offsets(reach: float, scale: float, exchange: bool) -> tuple[int, ...]:
    """Possible offsets of a neighbour along one axis, all equally likely.

    An offset that scaling puts between two pixels is rounded up in some of its 16 copies and down in the others, so
    that the mean offset, which moves the image, scales too.
    """
    scaled = np.arange(-reach, reach + exchange) * scale
    copies = 1 if (scaled == np.rint(scaled)).all() else 16
    return tuple(np.floor(scaled[:, None] + (np.arange(copies) + 0.5) / copies).astype(int).ravel().tolist())


def shuffled(
    draws: Draws, count: int, size: tuple[int, int], steps: tuple[int, ...], passes: int, exchange: bool
) -> Int[Tensor, "n pixels"]:
    """For each pixel, the pixel whose value it holds after all visits in sequence.

    No visit is so near the border that a step could leave the image. Two visits of pixels more than twice the longest
    step apart touch no common pixel, so all visits on one slanted front are made at once, in all images and passes; the
    result is that of the sequential loop.
    """
    device, (height, width) = draws.device, size
    visits = _visits(height, width, (min(steps), max(steps)), passes, exchange, device)
    ways = torch.tensor(steps, dtype=torch.int32, device=device)
    moves = (ways[:, None] * width + ways).flatten()
    # Offsets are drawn image by image, in memory that stays in the cache.
    there = torch.empty((count, len(visits.pixels)), dtype=torch.int32, device=device)
    for image, own in enumerate(draws.each()):
        drawn = own.below(len(moves), len(visits.pixels))[0]
        torch.add(moves.index_select(0, drawn), visits.pixels, out=there[image])
    first = torch.arange(count, device=device)[:, None] * (height * width)
    held = torch.arange(height * width, device=device).repeat(count)
    for start, end in visits.fronts:
        at, to = ((pixels + first).reshape(-1) for pixels in (visits.pixels[start:end], there[:, start:end]))
        before = held.index_select(0, at) if exchange else None
        held.index_copy_(0, at, held.index_select(0, to))
        if before is not None:
            held.index_copy_(0, to, before)
    return held.reshape(count, -1)


@dataclass(frozen=True)
class _Visits:
    """The order of the visits: pixels front by front, and the bounds of each front."""

    pixels: Int[Tensor, " visits"]
    fronts: tuple[tuple[int, int], ...]


@lru_cache(maxsize=8)
def _visits(
    height: int, width: int, reach: tuple[int, int], passes: int, exchange: bool, device: torch.device
) -> _Visits:
    lowest, highest = reach
    # The released loop ends before the row and the column from which its longest step up or left would just fit.
    first, furthest = -lowest + (not exchange), max(-lowest, highest)
    rows, columns = np.arange(first, height - highest), np.arange(first, width - highest)
    # The bottom right comes first; a row may start when the row below is 2 · furthest + 1 pixels ahead, and a pass
    # when the one before it is out of reach.
    slope = 2 * furthest + 1
    turn = (height - rows[:, None]) * slope + (width - columns)
    later = np.arange(passes)[:, None, None] * (2 * furthest * (slope + 1) + 1)
    turns = (turn + later).ravel()
    pixels = np.broadcast_to(rows[:, None] * width + columns, (passes, len(rows), len(columns))).ravel()
    order = np.argsort(turns, kind="stable")
    ends = np.flatnonzero(np.diff(turns[order], append=-1)) + 1
    starts = np.concatenate([[0], ends[:-1]])
    fronts = tuple(zip(starts.tolist(), ends.tolist(), strict=True))
    return _Visits(torch.from_numpy(pixels[order].astype(np.int32)).to(device), fronts)
