"""The 19 corruptions by the package ``imagecorruptions`` itself, repaired and seeded: the reference engine.

Slow, image by image on the CPU, and only used to check CLEAR's own engine or to reproduce someone else's numbers:
``--corruptions reference``. It uses raw pixel lengths and keeps the released faults.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from tasks.common.errors import UserError
from tasks.perturbations import package
from tasks.perturbations.checks import check_images, check_request, check_seeds
from tasks.perturbations.suites import load_suite, perturbations_of


def names() -> tuple[str, ...]:
    """The corruptions that the package has."""
    return tuple(perturbations_of([load_suite("imagenet_c"), load_suite("imagenet_c_extra")]))


def perturb(
    images: UInt8[Tensor, "n 3 h w"], name: str, severity: int, seeds: Sequence[int]
) -> UInt8[Tensor, "n 3 h w"]:
    """Corrupt images with ``imagecorruptions``, each with its own seed; no global generator is read or changed.

    Args:
        images: Images of one size, both sides at least 32 px.
        name: One of the 19 names.
        severity: 1 to 5, or 0 for the identity.
        seeds: One non-negative integer per image.

    Raises:
        UserError: As ``tasks.perturbations.perturb``, or not a corruption of the package.
    """
    check_request(name, severity)
    if name not in names():
        raise UserError(f"{name} is not a corruption of imagecorruptions: leave out --corruptions reference for it.")
    images = check_images(images)
    seeds = check_seeds(seeds, len(images))
    if severity == 0:
        return images.clone()
    pixels = images.permute(0, 2, 3, 1).cpu().numpy()
    out = [_corrupt(image, name, severity, seed) for image, seed in zip(pixels, seeds, strict=True)]
    if not out:
        return images.clone()
    return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).contiguous().to(images.device)


def _corrupt(image: UInt8[np.ndarray, "h w 3"], name: str, severity: int, seed: int) -> UInt8[np.ndarray, "h w 3"]:
    from PIL import Image

    module = package.corruptions()
    # spatter divides by the brightest drop, and fog by the range of its map.
    with package.drawing(seed), np.errstate(divide="ignore", invalid="ignore"):
        values: Any = np.asarray(getattr(module, name)(Image.fromarray(np.ascontiguousarray(image)), severity))
        return values.astype(np.uint8)
