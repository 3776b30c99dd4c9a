"""The 19 ImageNet-C corruptions by the pip package ``imagecorruptions``, seeded image by image. Imports no torch.

Hendrycks and Dietterich 2019 (arXiv 1903.12261) define them, Michaelis et al. 2019 (arXiv 1907.07484) wrote the
package. Strengths are in pixels of the image as it is given; the published ones are meant for 224 px.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from tasks.errors import UserError
from tasks.perturbations import package, rewritten
from tasks.perturbations.checks import check_images, check_request, check_seed
from tasks.perturbations.frost import Mode, frost

_Image = UInt8[np.ndarray, "h w 3"]
_Corrupted = Float[np.ndarray, "h w 3"]


def corrupt(
    image: UInt8[np.ndarray, "h w 3"], name: str, severity: int, seed: int, mode: Mode = "fixed"
) -> UInt8[np.ndarray, "h w 3"]:
    """Corrupt one image.

    Draws come from a generator of this call alone, made from ``seed``: global generators are neither read nor changed,
    and calls may run in several threads. The same seed draws the same numbers at each severity.

    Args:
        image: One image, both sides at least 32 px.
        name: One of the 19 names.
        severity: 1 to 5, or 0 for an unchanged copy.
        seed: Any non-negative integer; without effect where the corruption is not random.
        mode: ``fixed``, or ``code`` for the released behaviour: frost never picks its sixth texture. glass_blur copies
            where it means to swap in both modes, since the published images were made so.

    Raises:
        UserError: Unknown name, severity outside 0 to 5, wrong dtype or shape, negative seed, or missing package.
    """
    entry = check_request(name, severity)
    if entry.needs_foreground:
        raise UserError(f"{name} is no ImageNet-C corruption: make it with tasks.perturbations.perturb.")
    check_images(image.shape, image.dtype, "h w 3")
    seed = check_seed(seed)
    if severity == 0:
        return image.copy()
    with package.drawing(seed) as random:
        own = _own(name, mode)
        if own is not None:
            parameters = entry.parameters[severity - 1]
            values = own(image, random, *(parameters if isinstance(parameters, tuple) else (parameters,)))
        else:
            values = _packaged(image, name, severity)
    return np.asarray(values).astype(np.uint8)


def _own(name: str, mode: Mode) -> Callable[..., _Corrupted] | None:
    """The corruption as ``f(image, random, *parameters)`` where it is not the package's own function."""
    if name == "frost":
        return lambda image, random, kept, laid: frost(image, random, kept, laid, mode)
    return {
        "impulse_noise": _impulse_noise,
        "glass_blur": rewritten.glass_blur,
        "motion_blur": _motion_blur,
        "brightness": lambda image, _random, added: rewritten.brightness(image, added),
        "saturate": lambda image, _random, factor, added: rewritten.saturate(image, factor, added),
    }.get(name)


def _impulse_noise(image: _Image, random: np.random.RandomState, amount: float) -> _Corrupted:
    from skimage.util import random_noise

    # scikit-image draws from its own generator, which a global seed never reached.
    own = np.random.default_rng(random.randint(2**31))
    return np.clip(random_noise(image / 255.0, mode="s&p", amount=amount, rng=own), 0, 1) * 255


def _motion_blur(image: _Image, random: np.random.RandomState, radius: int, sigma: float) -> _Corrupted:
    return np.clip(rewritten.motion_blur(image, radius, sigma, random.uniform(-45, 45)), 0, 255)


def _packaged(image: _Image, name: str, severity: int) -> np.ndarray:
    from PIL import Image

    module = package.corruptions()
    # spatter divides by the brightest drop, and fog by the range of its map.
    with np.errstate(divide="ignore", invalid="ignore"):
        values: Any = np.asarray(getattr(module, name)(Image.fromarray(image), severity))
    if values.dtype != np.uint8 and not np.isfinite(values).all():
        # A small image can get no drop at all: then nothing is laid over it.
        values = np.where(np.isfinite(values), values, image)
    return values
