"""CLEAR's own perturbations with their published parameters for each severity."""

from __future__ import annotations

from typing import Any, Literal, cast

from tasks.perturbations.registry import Family, Perturbation, Strength

Five = tuple[Strength, Strength, Strength, Strength, Strength]

BLUR_SIGMA = (1.0, 2.0, 3.0, 4.0, 6.0)
"""Standard deviation of the Gaussian blurs in pixels at 224 px, severities 1 to 5."""

_IMAGENET_C = (
    "Hendrycks and Dietterich 2019, arXiv 1903.12261; values of bethgelab/imagecorruptions (Michaelis et al. 2019)"
)
_IMAGENET_C_BAR = "Mintun, Kirillov and Xie 2021, arXiv 2102.11273; values of facebookresearch/augmentation-corruption"
_SEED_STUDY = "the seed study's own blur: a 5 x 5 kernel with sigma 1"
_MASKED = "CLEAR; after Xiao et al. 2021, arXiv 2006.09994; normalised convolution (Knutsson and Westin 1993)"
_SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)
_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)


def _published(module: str, name: str, family: Family, description: str, parameters: Five, **more: Any) -> Perturbation:
    """A corruption of ImageNet-C: the function with its name in the given module."""
    transform = f"tasks.perturbations.{module}:{name}"
    return Perturbation(name, family, description, parameters, transform, **{"source": _IMAGENET_C, **more})


_COMMON = (
    _published(
        "noise",
        "gaussian_noise",
        "noise",
        "Gaussian noise (standard deviation on [0, 1])",
        _NOISE,
        random=True,
    ),
    _published(
        "noise",
        "shot_noise",
        "noise",
        "Poisson noise (expected count of a white pixel)",
        (60.0, 25.0, 12.0, 5.0, 3.0),
        random=True,
    ),
    _published(
        "noise",
        "impulse_noise",
        "noise",
        "Salt and pepper (share of the values)",
        (0.03, 0.06, 0.09, 0.17, 0.27),
        random=True,
    ),
    _published(
        "blur",
        "defocus_blur",
        "blur",
        "Disk blur (radius in px, sigma in px that softens its edge)",
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    _published(
        "glass",
        "glass_blur",
        "blur",
        "Frosted glass: pixels take the place of neighbours (blur sigma in px, reach in px, passes)",
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        random=True,
        version="2",
        pixels_at_once=2**21,
    ),
    _published(
        "blur",
        "motion_blur",
        "blur",
        "One-sided motion blur, angle within 45 degrees (radius in px, sigma in px)",
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        random=True,
    ),
    _published(
        "blur",
        "zoom_blur",
        "blur",
        "Mean of zoomed copies (end of the zooms, not included; step)",
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    ),
    _published(
        "weather",
        "snow",
        "weather",
        "Falling snow (mean, standard deviation, zoom, threshold, blur radius in px, blur sigma in px, image's share)",
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        random=True,
    ),
    _published(
        "weather",
        "frost",
        "weather",
        "Photographed frost laid over the image (weight of the image, weight of the frost)",
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
        random=True,
        needs=("imagecorruptions",),
        version="2",
    ),
    _published(
        "weather",
        "fog",
        "weather",
        "Diamond-square fog (strength, decay of its detail)",
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
        random=True,
        pixels_at_once=2**21,
    ),
    _published(
        "weather",
        "brightness",
        "weather",
        "Brighter (added to the value of HSV)",
        (0.1, 0.2, 0.3, 0.4, 0.5),
    ),
    _published(
        "digital",
        "contrast",
        "digital",
        "Less contrast (gain about the channel mean)",
        (0.4, 0.3, 0.2, 0.1, 0.05),
    ),
    _published(
        "elastic",
        "elastic_transform",
        "digital",
        "Random affine map, then smooth random displacement (gain and sigma in px, reach of the map's corners in px)",
        ((488, 170.8, 24.4), (488, 19.52, 48.8), (12.2, 2.44, 4.88), (17.08, 2.44, 4.88), (29.28, 2.44, 4.88)),
        random=True,
        version="2",
        source="Hendrycks and Dietterich 2019, arXiv 1903.12261; values of hendrycks/robustness",
        package=Perturbation(
            "elastic_transform",
            "digital",
            "Smooth random displacement (gain of the displacement field)",
            (12.5, 16.25, 21.25, 25.0, 30.0),
            "tasks.perturbations.elastic:package_elastic_transform",
            random=True,
            source=_IMAGENET_C,
        ),
    ),
    _published(
        "digital",
        "pixelate",
        "digital",
        "Fewer, larger pixels (share of the side's pixels that is left)",
        (0.6, 0.5, 0.4, 0.3, 0.25),
        pixels_at_once=2**18,
        version="2",
    ),
    _published(
        "digital",
        "jpeg_compression",
        "digital",
        "JPEG artefacts (quality)",
        (25, 18, 15, 10, 7),
    ),
)

_EXTRA = (
    _published(
        "noise",
        "speckle_noise",
        "noise",
        "Noise in proportion to the value (standard deviation)",
        (0.15, 0.2, 0.35, 0.45, 0.6),
        random=True,
    ),
    _published(
        "blur",
        "gaussian_blur",
        "blur",
        "Gaussian blur of the whole image (sigma in px)",
        BLUR_SIGMA,
    ),
    _published(
        "spatter",
        "spatter",
        "weather",
        "Drops (mean, standard deviation, blur sigma in px, threshold, intensity, 0 = water or 1 = mud)",
        (
            (0.65, 0.3, 4, 0.69, 0.6, 0),
            (0.65, 0.3, 3, 0.68, 0.6, 0),
            (0.65, 0.3, 2, 0.68, 0.5, 0),
            (0.65, 0.3, 1, 0.65, 1.5, 1),
            (0.67, 0.4, 1, 0.65, 1.5, 1),
        ),
        random=True,
    ),
    _published(
        "digital",
        "saturate",
        "digital",
        "Less, then more colour (factor of the saturation, added to it)",
        ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    ),
)


def _c_bar(module: str, name: str, family: Family, description: str, *strengths: float) -> Perturbation:
    """A corruption of ImageNet-C-bar, with its published strengths."""
    return _published(module, name, family, description, cast("Five", strengths), random=True, source=_IMAGENET_C_BAR)


_C_BAR = (
    _c_bar(
        "spectral",
        "blue_noise_sample",
        "noise",
        "Black pixels, few of them neighbours (below 0.3 of it minus 2.5 deviations of blue noise)",
        *(0.8, 1.6, 2.4, 4, 5.6),
    ),
    _c_bar(
        "spectral",
        "brownish_noise",
        "noise",
        "Smooth noise in each channel (6.4 grey levels times it: the deviation)",
        *(1, 2, 3, 4, 5),
    ),
    _c_bar(
        "caustic",
        "caustic_refraction",
        "digital",
        "Wavy glass with its light (20 times the lens in shorter sides, 5 times the light in multiples of white)",
        *(2.35, 3.2, 4.9, 6.6, 9.15),
    ),
    _c_bar(
        "digital",
        "checkerboard_cutout",
        "digital",
        "Grey cells of one colour of a turned checkerboard (tenths of them)",
        *(2, 3, 4, 5, 6),
    ),
    _c_bar(
        "waves",
        "cocentric_sine_waves",
        "noise",
        "Wavy grey rings around a random place (12.8 grey levels times it: from dark to bright)",
        *(3, 5, 8, 9, 10),
    ),
    _c_bar(
        "stars",
        "inverse_sparkles",
        "digital",
        "White outside a star with many rays (0.13 times it: the exponent of its glow)",
        *(1, 2, 4, 9, 10),
    ),
    _c_bar(
        "perlin",
        "perlin_noise",
        "noise",
        "Light grey Perlin noise laid over (20 times its weight)",
        *(4.6, 5.2, 5.8, 7.6, 8.8),
    ),
    _c_bar(
        "waves",
        "plasma_noise",
        "noise",
        "Coloured pattern of bent sines laid over (6.4 grey levels times it: the amplitude)",
        *(4.75, 7, 8.5, 9.25, 10),
    ),
    _c_bar(
        "waves",
        "single_frequency_greyscale",
        "noise",
        "One plane sine (19.6 grey levels times it: the amplitude)",
        *(1, 1.5, 2, 4.5, 5),
    ),
    _c_bar(
        "stars",
        "sparkles",
        "digital",
        "Five white stars (length of the rays in hundredths of the shorter side)",
        *(1, 2, 3, 5, 6),
    ),
)

_CONTROLS = (
    Perturbation(
        "faint_noise",
        "noise",
        "Gaussian noise that can hardly be seen (standard deviation on [0, 1])",
        (0.01, 0.02, 0.03, 0.04, 0.05),
        "tasks.perturbations.noise:gaussian_noise",
        random=True,
        source="the probing-set noise of Srivastava, Oikarinen and Weng 2023, arXiv 2310.16332, and around it",
    ),
    Perturbation(
        "gaussian_blur_5x5",
        "blur",
        "Blur with a 5 x 5 kernel, sigma 1 px, mirrored border (how often it is applied)",
        (1, 2, 3, 4, 5),
        "tasks.perturbations.blur:gaussian_blur_5x5",
        source=_SEED_STUDY,
    ),
    Perturbation(
        "reencode",
        "digital",
        "Saved as JPEG and nothing else: what of a saved blur is no blur (quality)",
        (75, 75, 75, 75, 75),
        "tasks.perturbations.digital:jpeg_compression",
        source="CLEAR; Pillow's default quality",
    ),
)


def _on_part(name: str, description: str, parameters: Five, random: bool = False) -> Perturbation:
    transform = f"tasks.perturbations.masks:{name}"
    return Perturbation(name, "mask", description, parameters, transform, random, ("foreground",), source=_MASKED)


def _masked(part: str) -> tuple[Perturbation, ...]:
    rest = f"{part} only; the rest stays bit-exact"
    faded = f"Blur of the {rest}, faded until the image changes as much as under the other part's blur (sigma in px)"
    return (
        _on_part(f"{part}_blur", f"Gaussian blur of the {rest} (sigma in px)", BLUR_SIGMA),
        _on_part(f"{part}_grey", f"Mid-grey over the {rest} (share of the grey)", _SHARES),
        _on_part(f"{part}_mean", f"Mean colour of the part over the {rest} (share of the mean)", _SHARES),
        _on_part(f"{part}_noise", f"Gaussian noise on the {rest} (standard deviation on [0, 1])", _NOISE, random=True),
        _on_part(f"{part}_blur_matched", faded, BLUR_SIGMA),
    )


_RANDOM_MASK = _on_part(
    "random_mask_blur",
    "Blur of as many pixels as the foreground has, by its mask moved to a random place (sigma in px)",
    BLUR_SIGMA,
    random=True,
)


def _swap(name: str, description: str, *needs: Literal["background"]) -> Perturbation:
    return Perturbation(
        name,
        "mask",
        f"{description} (share of the images that are changed)",
        (0.2, 0.4, 0.6, 0.8, 1.0),
        f"tasks.perturbations.swap:{name}",
        random=True,
        needs=("foreground", *needs),
        source="Xiao, Engstrom, Ilyas and Madry 2021, Noise or Signal (ImageNet-9)",
    )


_SWAP = (
    _swap("only_fg", "Foreground on black"),
    _swap("no_fg", "Background with the foreground black along its mask"),
    _swap("only_bg_b", "Background with the bounding box of the foreground black"),
    _swap("only_bg_t", "Background tiled over the bounding box of the foreground"),
    _swap("mixed_same", "Foreground on the background of another image of its class", "background"),
    _swap("mixed_rand", "Foreground on the background of an image of a random class", "background"),
    _swap("mixed_next", "Foreground on the background of an image of the next class", "background"),
)

DEFINITIONS = (
    *_masked("foreground"),
    *_masked("background"),
    _RANDOM_MASK,
    *_SWAP,
    *_COMMON,
    *_EXTRA,
    *_C_BAR,
    *_CONTROLS,
)
"""In the order of the tables."""
