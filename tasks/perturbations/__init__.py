"""Image perturbations: corruptions of ImageNet-C and ImageNet-C-bar, changes of one side of a mask; seeded per image.

Published lengths are pixels of a 224-px image; other sizes scale them, unless raw lengths are requested. Masks and
segmentations are never modified, except by the background swap, see ``tasks.donors``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from tasks.perturbations.context import Mode
from tasks.perturbations.registry import PERTURBATIONS, Perturbation, register

if TYPE_CHECKING:
    from jaxtyping import Bool, UInt8
    from torch import Tensor

__all__ = ["PERTURBATIONS", "Perturbation", "perturb", "register"]


def perturb(
    images: UInt8[Tensor, "n 3 h w"],
    name: str,
    severity: int,
    seeds: Sequence[int],
    foreground: Bool[Tensor, "n h w"] | None = None,
    background: UInt8[Tensor, "n 3 h w"] | None = None,
    *,
    mode: Mode = "published",
    lengths: Literal["scaled", "raw"] = "scaled",
    feather: float = 0.0,
) -> UInt8[Tensor, "n 3 h w"]:
    """Perturb images, each with its own seed.

    An image's pixels depend on the image, name, severity, seed (and mask) alone: not on the batch, the order, the
    number of threads or any global generator, and none is changed. The same seed draws the same numbers at every
    severity.

    Args:
        images: Images of one size, both sides at least 32 px; floats from 0 to 1 are rounded to uint8 first.
        name: A name of ``PERTURBATIONS``.
        severity: 1 to 5, or 0 for the identity, bit-exact.
        seeds: One non-negative integer per image; ignored by perturbations that are not random.
        foreground: True on the foreground; required by the family ``mask``, else unused.
        background: The background of another image for each, its object removed (``swap.background_of``); required by
            ``mixed_same``, ``mixed_rand`` and ``mixed_next``, else unused. ``tasks.donors`` chooses it in a run.
        mode: The variant of frost, glass_blur and elastic_transform. ``published``: as the images of ImageNet-C were
            made. ``package``: as imagecorruptions makes them, with frost 1.1 times as large and a different
            elastic_transform. ``repaired``: as published, but frost draws among all six textures, and glass_blur
            exchanges pixels instead of copying them, in all directions. ``code`` and ``fixed`` are older names of the
            last two.
        lengths: ``scaled``: a length of s px becomes s · (shorter side) / 224; ``raw``: it stays s px. Noise is per
            pixel and JPEG's blocks are part of the format, so neither scales.
        feather: Width in pixels of the soft mask edge, inside the changed part, for the family ``mask``.

    Returns:
        New images on the device of the given ones.

    Raises:
        UserError: Unknown name or mode, severity outside 0 to 5, image too small or of the wrong dtype, range or shape,
            mismatched seeds, missing or mismatched mask or background, negative feather, or missing package.
    """
    from tasks.perturbations.engine import run

    return run(images, name, severity, seeds, foreground, background, mode, lengths, feather)
