"""CLEAR's own perturbations with their published strengths."""

from __future__ import annotations

from tasks.perturbations.registry import Need, Perturbation

BLUR_SIGMA = (1.0, 2.0, 3.0, 4.0, 6.0)
"""Standard deviation of the Gaussian blurs in pixels at 224 px, severities 1 to 5."""

_IMAGENET_C = (
    "Hendrycks and Dietterich 2019, arXiv 1903.12261; values of bethgelab/imagecorruptions (Michaelis et al. 2019)"
)
_SEED_STUDY = "the seed study's own blur: a 5 x 5 kernel with sigma 1"
_MASKED = "CLEAR; after Xiao et al. 2021, arXiv 2006.09994; normalised convolution (Knutsson and Westin 1993)"
_SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)
_FOREGROUND: tuple[Need, ...] = ("foreground",)

_COMMON = (
    Perturbation(
        "gaussian_noise",
        "noise",
        "Gaussian noise (standard deviation on [0, 1])",
        (0.08, 0.12, 0.18, 0.26, 0.38),
        "tasks.perturbations.noise:gaussian_noise",
        random=True,
        source=_IMAGENET_C,
    ),
    Perturbation(
        "shot_noise",
        "noise",
        "Poisson noise (expected count of a white pixel)",
        (60.0, 25.0, 12.0, 5.0, 3.0),
        "tasks.perturbations.noise:shot_noise",
        random=True,
        source=_IMAGENET_C,
    ),
    Perturbation(
        "impulse_noise",
        "noise",
        "Salt and pepper (share of the values)",
        (0.03, 0.06, 0.09, 0.17, 0.27),
        "tasks.perturbations.noise:impulse_noise",
        random=True,
        source=_IMAGENET_C,
    ),
    Perturbation(
        "defocus_blur",
        "blur",
        "Disk blur (radius in px, sigma in px that softens its edge)",
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        "tasks.perturbations.blur:defocus_blur",
        source=_IMAGENET_C,
    ),
    Perturbation(
        "glass_blur",
        "blur",
        "Frosted glass: pixels change places with neighbours (blur sigma in px, reach in px, passes)",
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        "tasks.perturbations.glass:glass_blur",
        random=True,
        pixels_at_once=2**21,
        source=_IMAGENET_C,
    ),
    Perturbation(
        "motion_blur",
        "blur",
        "One-sided motion blur, angle within 45 degrees (radius in px, sigma in px)",
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        "tasks.perturbations.blur:motion_blur",
        random=True,
        source=_IMAGENET_C,
    ),
    Perturbation(
        "zoom_blur",
        "blur",
        "Mean of zoomed copies (end of the zooms, not included; step)",
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
        "tasks.perturbations.blur:zoom_blur",
        source=_IMAGENET_C,
    ),
    Perturbation(
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
        "tasks.perturbations.weather:snow",
        random=True,
        source=_IMAGENET_C,
    ),
    Perturbation(
        "frost",
        "weather",
        "Photographed frost laid over the image (weight of the image, weight of the frost)",
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
        "tasks.perturbations.weather:frost",
        random=True,
        needs=("imagecorruptions",),
        source=_IMAGENET_C,
    ),
    Perturbation(
        "fog",
        "weather",
        "Diamond-square fog (strength, decay of its detail)",
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
        "tasks.perturbations.weather:fog",
        random=True,
        pixels_at_once=2**21,
        source=_IMAGENET_C,
    ),
    Perturbation(
        "brightness",
        "weather",
        "Brighter (added to the value of HSV)",
        (0.1, 0.2, 0.3, 0.4, 0.5),
        "tasks.perturbations.weather:brightness",
        source=_IMAGENET_C,
    ),
    Perturbation(
        "contrast",
        "digital",
        "Less contrast (gain about the channel mean)",
        (0.4, 0.3, 0.2, 0.1, 0.05),
        "tasks.perturbations.digital:contrast",
        source=_IMAGENET_C,
    ),
    Perturbation(
        "elastic_transform",
        "digital",
        "Smooth random displacement (gain of the displacement field)",
        (12.5, 16.25, 21.25, 25.0, 30.0),
        "tasks.perturbations.digital:elastic_transform",
        random=True,
        source=_IMAGENET_C,
    ),
    Perturbation(
        "pixelate",
        "digital",
        "Fewer, larger pixels (factor of the side)",
        (0.6, 0.5, 0.4, 0.3, 0.25),
        "tasks.perturbations.digital:pixelate",
        pixels_at_once=2**18,
        source=_IMAGENET_C,
    ),
    Perturbation(
        "jpeg_compression",
        "digital",
        "JPEG artefacts (quality)",
        (25, 18, 15, 10, 7),
        "tasks.perturbations.digital:jpeg_compression",
        source=_IMAGENET_C,
    ),
)

_EXTRA = (
    Perturbation(
        "speckle_noise",
        "noise",
        "Noise in proportion to the value (standard deviation)",
        (0.15, 0.2, 0.35, 0.45, 0.6),
        "tasks.perturbations.noise:speckle_noise",
        random=True,
        source=_IMAGENET_C,
    ),
    Perturbation(
        "gaussian_blur",
        "blur",
        "Gaussian blur of the whole image (sigma in px)",
        BLUR_SIGMA,
        "tasks.perturbations.blur:gaussian_blur",
        source=_IMAGENET_C,
    ),
    Perturbation(
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
        "tasks.perturbations.spatter:spatter",
        random=True,
        source=_IMAGENET_C,
    ),
    Perturbation(
        "saturate",
        "digital",
        "Less, then more colour (factor of the saturation, added to it)",
        ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
        "tasks.perturbations.digital:saturate",
        source=_IMAGENET_C,
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


def _masked(part: str) -> tuple[Perturbation, ...]:
    module = "tasks.perturbations.masks"
    rest = f"{part} only; the rest stays bit-exact"
    return (
        Perturbation(
            f"{part}_blur",
            "mask",
            f"Gaussian blur of the {rest} (sigma in px)",
            BLUR_SIGMA,
            f"{module}:{part}_blur",
            needs=_FOREGROUND,
            source=_MASKED,
        ),
        Perturbation(
            f"{part}_grey",
            "mask",
            f"Mid-grey over the {rest} (share of the grey)",
            _SHARES,
            f"{module}:{part}_grey",
            needs=_FOREGROUND,
            source=_MASKED,
        ),
        Perturbation(
            f"{part}_mean",
            "mask",
            f"Mean colour of the part over the {rest} (share of the mean)",
            _SHARES,
            f"{module}:{part}_mean",
            needs=_FOREGROUND,
            source=_MASKED,
        ),
        Perturbation(
            f"{part}_noise",
            "mask",
            f"Gaussian noise on the {rest} (standard deviation on [0, 1])",
            (0.08, 0.12, 0.18, 0.26, 0.38),
            f"{module}:{part}_noise",
            random=True,
            needs=_FOREGROUND,
            source=_MASKED,
        ),
        Perturbation(
            f"{part}_blur_matched",
            "mask",
            f"Blur of the {rest}, faded until the image changes as much as under the other part's blur (sigma in px)",
            BLUR_SIGMA,
            f"{module}:{part}_blur_matched",
            needs=_FOREGROUND,
            source=_MASKED,
        ),
    )


_RANDOM_MASK = Perturbation(
    "random_mask_blur",
    "mask",
    "Blur of as many pixels as the foreground has, by its mask moved to a random place (sigma in px)",
    BLUR_SIGMA,
    "tasks.perturbations.masks:random_mask_blur",
    random=True,
    needs=_FOREGROUND,
    source=_MASKED,
)

DEFINITIONS = (*_masked("foreground"), *_masked("background"), _RANDOM_MASK, *_COMMON, *_EXTRA, *_CONTROLS)
"""In the order of the tables."""
