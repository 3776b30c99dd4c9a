"""Runs a perturbation: checks the request, splits the batch into pieces, and provides the random numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from tasks.common.errors import UserError
from tasks.perturbations.arithmetic import pieces
from tasks.perturbations.checks import (
    check_background,
    check_foreground,
    check_images,
    check_mode,
    check_request,
    check_result,
    check_seeds,
)
from tasks.perturbations.context import Context, Mode
from tasks.perturbations.draws import Draws

VERSION = "1"
"""Raised whenever the arithmetic or the random numbers that all perturbations share may give different pixels."""

REFERENCE_SIDE = 224


@torch.no_grad()
def run(
    images: UInt8[Tensor, "n 3 h w"],
    name: str,
    severity: int,
    seeds: Sequence[int],
    foreground: Bool[Tensor, "n h w"] | None,
    background: UInt8[Tensor, "n 3 h w"] | None,
    mode: Mode,
    lengths: Literal["scaled", "raw"],
    feather: float,
) -> UInt8[Tensor, "n 3 h w"]:
    """Perturb images; see ``tasks.perturbations.perturb``."""
    mode = check_mode(mode)
    entry = check_request(name, severity).form(mode)
    images = check_images(images)
    seeds = check_seeds(seeds, len(images))
    if not 0 <= feather < float("inf"):
        raise UserError(f"A feather of {feather} px makes no sense: give 0 (a hard border) or more.")
    if severity == 0:
        return images.clone()
    mask = check_foreground(name, foreground, images) if entry.needs_foreground else None
    behind = check_background(name, background, images) if entry.needs_background else None
    scale = min(images.shape[2:]) / REFERENCE_SIDE if lengths == "scaled" else 1.0
    transform, parameters = entry.load(), entry.parameters[severity - 1]
    out = torch.empty_like(images, memory_format=torch.contiguous_format)

    def work(piece: slice) -> None:
        own = None if mask is None else mask[piece]
        other = None if behind is None else behind[piece]
        context = Context(Draws(seeds[piece], images.device), scale, mode, own, feather, other)
        out[piece] = check_result(entry, transform(images[piece].contiguous(), parameters, context), images[piece])

    _spread(work, images, entry.pixels_at_once)
    return out


def _spread(work: Callable[[slice], None], images: UInt8[Tensor, "n 3 h w"], at_once: int | None) -> None:
    """Process all pieces of a batch, on the CPU one thread per piece: the steps are too short to share one."""
    threads = 1 if images.is_cuda else torch.get_num_threads()
    if at_once is not None:
        at_once = min(at_once, -(-len(images) // threads) * images.shape[2] * images.shape[3])
    parts = list(pieces(images, at_once))
    if min(threads, len(parts)) < 2:
        for part in parts:
            work(part)
        return

    def in_thread(part: slice) -> None:
        with torch.no_grad():
            work(part)

    with ThreadPoolExecutor(min(threads, len(parts)), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for _ in pool.map(in_thread, parts):
                pass
        finally:
            # A thread's own setting is also the default of later threads; restore it.
            torch.set_num_threads(threads)
