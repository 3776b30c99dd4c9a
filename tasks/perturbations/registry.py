"""The perturbations by name, their published strengths, and the suites; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Family = Literal["noise", "blur", "weather", "digital", "selective_blur"]
Strength = float | tuple[float, ...]

SEVERITIES = (1, 2, 3, 4, 5)
"""The strengths of every perturbation; severity 0 is the identity."""

BLUR_SIGMA = (1.0, 2.0, 3.0, 4.0, 6.0)
"""Standard deviation of the Gaussian blurs in pixels of the image as it is given, severities 1 to 5."""

_IMAGENET_C = (
    "Hendrycks and Dietterich 2019, arXiv 1903.12261; values of imagecorruptions 1.1.2 (Michaelis et al. 2019)"
)
_SELECTIVE = "CLEAR; normalised convolution (Knutsson and Westin 1993) with the sigmas of ImageNet-C's gaussian_blur"


@dataclass(frozen=True)
class Perturbation:
    """One image transform at five strengths.

    Attributes:
        name: The name used on the command line and in the results.
        family: Its group; brightness counts as weather, as in the order of the ImageNet-C list.
        description: One line for ``list``, with the meaning of the parameters.
        parameters: The published parameters of severities 1 to 5.
        random: Whether the result depends on the seed.
        needs_foreground: Whether a foreground mask is required.
        source: Where definition and parameters come from.
    """

    name: str
    family: Family
    description: str
    parameters: tuple[Strength, Strength, Strength, Strength, Strength]
    random: bool = False
    needs_foreground: bool = False
    source: str = _IMAGENET_C


_COMMON = (
    Perturbation(
        "gaussian_noise", "noise", "Gaussian noise (standard deviation on [0, 1])", (0.08, 0.12, 0.18, 0.26, 0.38), True
    ),
    Perturbation(
        "shot_noise", "noise", "Poisson noise (expected count of a white pixel)", (60.0, 25.0, 12.0, 5.0, 3.0), True
    ),
    Perturbation(
        "impulse_noise", "noise", "Salt and pepper (share of the values)", (0.03, 0.06, 0.09, 0.17, 0.27), True
    ),
    Perturbation(
        "defocus_blur",
        "blur",
        "Disk blur (radius in px, sigma that softens its edge)",
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    Perturbation(
        "glass_blur",
        "blur",
        "Frosted glass: pixels copied from near by (blur sigma, reach in px, passes)",
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        True,
    ),
    Perturbation(
        "motion_blur",
        "blur",
        "One-sided motion blur, angle within 45 degrees (radius in px, sigma in px)",
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        True,
    ),
    Perturbation(
        "zoom_blur",
        "blur",
        "Mean of zoomed copies (largest zoom, step)",
        ((1.10, 0.01), (1.15, 0.01), (1.20, 0.02), (1.25, 0.02), (1.30, 0.03)),
    ),
    Perturbation(
        "snow",
        "weather",
        "Falling snow (mean, standard deviation, zoom, threshold, blur radius, blur sigma, share of the image)",
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        True,
    ),
    Perturbation(
        "frost",
        "weather",
        "Photographed frost laid over the image (weight of the image, weight of the frost)",
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
        True,
    ),
    Perturbation(
        "fog",
        "weather",
        "Diamond-square fog (strength, decay of its detail)",
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
        True,
    ),
    Perturbation("brightness", "weather", "Brighter (added to the value of HSV)", (0.1, 0.2, 0.3, 0.4, 0.5)),
    Perturbation("contrast", "digital", "Less contrast (gain about the channel mean)", (0.4, 0.3, 0.2, 0.1, 0.05)),
    Perturbation(
        "elastic_transform",
        "digital",
        "Smooth random displacement (gain of the displacement field)",
        (12.5, 16.25, 21.25, 25.0, 30.0),
        True,
    ),
    Perturbation("pixelate", "digital", "Fewer, larger pixels (factor of the side)", (0.6, 0.5, 0.4, 0.3, 0.25)),
    Perturbation("jpeg_compression", "digital", "JPEG artefacts (quality)", (25, 18, 15, 10, 7)),
)

_EXTRA = (
    Perturbation(
        "speckle_noise",
        "noise",
        "Noise in proportion to the value (standard deviation)",
        (0.15, 0.2, 0.35, 0.45, 0.6),
        True,
    ),
    Perturbation("gaussian_blur", "blur", "Gaussian blur of the whole image (sigma in px)", BLUR_SIGMA),
    Perturbation(
        "spatter",
        "weather",
        "Drops of water or mud (mean, standard deviation, blur sigma, threshold, intensity, 0 = water or 1 = mud)",
        (
            (0.65, 0.3, 4, 0.69, 0.6, 0),
            (0.65, 0.3, 3, 0.68, 0.6, 0),
            (0.65, 0.3, 2, 0.68, 0.5, 0),
            (0.65, 0.3, 1, 0.65, 1.5, 1),
            (0.67, 0.4, 1, 0.65, 1.5, 1),
        ),
        True,
    ),
    Perturbation(
        "saturate",
        "digital",
        "Less, then more colour (factor of the saturation, added to it)",
        ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    ),
)

_OURS = tuple(
    Perturbation(
        f"{part}_blur",
        "selective_blur",
        f"Gaussian blur of the {part} only; the rest stays bit-exact (sigma in px)",
        BLUR_SIGMA,
        needs_foreground=True,
        source=_SELECTIVE,
    )
    for part in ("foreground", "background")
)


def _by_name(entries: Iterable[Perturbation]) -> Mapping[str, Perturbation]:
    return MappingProxyType({entry.name: entry for entry in entries})


PERTURBATIONS: Mapping[str, Perturbation] = _by_name((*_OURS, *_COMMON, *_EXTRA))
"""Every perturbation by name."""

SUITES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "gaussian_blur": ("gaussian_blur",),
        "foreground_blur": ("foreground_blur",),
        "background_blur": ("background_blur",),
        "imagenet_c": tuple(entry.name for entry in _COMMON),
        "imagenet_c_extra": tuple(entry.name for entry in _EXTRA),
    }
)
"""Named lists of perturbations. ``gaussian_blur`` is also one of the four extras: the same perturbation, run once."""
