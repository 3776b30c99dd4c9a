"""Order and groups of methods and perturbations, the same in every table, chart and page."""

from __future__ import annotations

FLOORS = ("random_label", "constant_label")
"""Methods that every other one must beat; they stand last and never count as the best."""

MINIATURE_NOTE = "Measured on the miniature world: it measures methods and machinery, not ImageNet networks."

GROUPS: tuple[tuple[str, ...], ...] = (
    ("gaussian_blur", "foreground_blur", "background_blur"),
    ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "faint_noise"),
    ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    ("snow", "frost", "fog", "brightness", "spatter"),
    ("contrast", "elastic_transform", "pixelate", "jpeg_compression", "saturate"),
    ("foreground_grey", "background_grey", "foreground_mean", "background_mean"),
    ("foreground_noise", "background_noise"),
    ("random_mask_blur", "foreground_blur_matched", "background_blur_matched", "gaussian_blur_5x5", "reencode"),
)
"""Perturbations in the order of the tables: the blurs, ImageNet-C's noise, blur, weather and digital, then controls."""

GROUP_NAMES = ("blur", "noise", "blur", "weather", "digital", "mask", "mask", "control")
"""One name for each of the groups; groups of one name are summed up together."""

PRACTISED: dict[str, frozenset[str]] = {"clear": frozenset({"foreground_blur", "background_blur", "gaussian_blur"})}
"""Method → the perturbations that it looks at itself unless told otherwise: tested on them, it is tested on what it
practises, so the tables show its mean without them as well."""

SIGNIFICANT = 0.05


def ordered_methods(methods: set[str]) -> tuple[str, ...]:
    """By name, the floors last."""
    floors = tuple(name for name in FLOORS if name in methods)
    return (*sorted(methods - set(floors)), *floors)
