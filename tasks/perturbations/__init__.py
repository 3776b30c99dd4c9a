"""Image perturbations: Gaussian, foreground and background blur, and the 19 ImageNet-C corruptions, seeded per image.

Strengths are in pixels of the image as it is given; the published ones are meant for 224 px, so perturb at that size
and resize for the model afterwards. Only images are ever touched, never masks or segmentations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from tasks.perturbations.registry import PERTURBATIONS, SUITES, Perturbation

if TYPE_CHECKING:
    from jaxtyping import Bool, UInt8
    from torch import Tensor

__all__ = ["PERTURBATIONS", "SUITES", "Perturbation", "perturb"]


def perturb(
    images: UInt8[Tensor, "n 3 h w"],
    name: str,
    severity: int,
    seeds: Sequence[int],
    foreground: Bool[Tensor, "n h w"] | None = None,
    *,
    mode: Literal["fixed", "code"] = "fixed",
) -> UInt8[Tensor, "n 3 h w"]:
    """Perturb images, each with its own seed.

    An image's pixels depend on the image, name, severity, seed (and mask) alone: not on the batch, the order or any
    global generator, and none is changed. The same seed draws the same numbers at every severity.

    Args:
        images: Images of one size, both sides at least 32 px.
        name: A name of ``PERTURBATIONS``.
        severity: 1 to 5, or 0 for the identity, bit-exact.
        seeds: One non-negative integer an image; without effect where the perturbation is not random.
        foreground: True on the foreground; required by foreground_blur and background_blur, else unused.
        mode: ``fixed``, or ``code`` for the released behaviour where it differs (frost never picks its sixth texture).

    Returns:
        New images on the device of the given ones.

    Raises:
        UserError: Unknown name, severity outside 0 to 5, image too small or of the wrong dtype or shape, seeds that do
            not fit, missing or unfitting mask, or missing package.
    """
    import torch

    from tasks.perturbations.checks import check_foreground, check_images, check_request, check_seeds
    from tasks.perturbations.worker import perturb_batch

    entry = check_request(name, severity)
    check_images(images.shape, images.dtype, "n 3 h w")
    seeds = check_seeds(seeds, len(images))
    if severity == 0:
        return images.clone()
    masks = None
    if entry.needs_foreground:
        masks = check_foreground(name, foreground, (len(images), *images.shape[2:])).cpu().numpy()
    pixels = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    out = perturb_batch(pixels, name, severity, seeds, masks, mode)
    return torch.from_numpy(out).permute(0, 3, 1, 2).contiguous().to(images.device)
