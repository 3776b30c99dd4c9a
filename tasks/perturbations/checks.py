"""One clear error message for each invalid request of a perturbation."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import cast, get_args

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from tasks.common.errors import UserError, unknown_name
from tasks.perturbations.context import FORMER, Mode
from tasks.perturbations.registry import SEVERITIES, Perturbation, perturbation

MIN_SIDE = 32


def check_request(name: str, severity: int) -> Perturbation:
    """The perturbation of this name, after checking name and severity.

    Raises:
        UserError: The name is unknown or the severity is not one of 0 to 5.
    """
    entry = perturbation(name)
    if isinstance(severity, bool) or severity not in (0, *SEVERITIES):
        raise UserError(f"Severity {severity!r} of {name} does not exist: give a whole number from 0 (identity) to 5.")
    return entry


def check_mode(mode: str) -> Mode:
    """The variant of ImageNet-C's corruptions under its current name.

    Raises:
        UserError: Unknown variant.
    """
    mode = FORMER.get(mode, mode)
    if mode not in get_args(Mode):
        raise unknown_name("mode", mode, get_args(Mode))
    return cast("Mode", mode)


def check_size(height: int, width: int) -> None:
    """Check that the corruptions can work on images of this size.

    Raises:
        UserError: A side is shorter than 32 px.
    """
    if min(height, width) < MIN_SIDE:
        raise UserError(
            f"An image of {height} x {width} px is too small to perturb: both sides need at least {MIN_SIDE} px."
        )


def check_seed(seed: int) -> int:
    """The seed as a plain integer.

    Raises:
        UserError: Not an integer, or negative.
    """
    try:
        number = operator.index(seed)
    except TypeError:
        raise UserError(f"Seed {seed!r} is not a whole number: give one non-negative integer per image.") from None
    if number < 0:
        raise UserError(f"Seed {number} is negative: give one non-negative integer per image.")
    return number


def check_seeds(seeds: Sequence[int], images: int) -> list[int]:
    """The seeds as plain integers, one per image.

    Raises:
        UserError: The number of seeds differs from that of the images, or a seed is not a non-negative integer.
    """
    if len(seeds) != images:
        raise UserError(f"{len(seeds)} seeds were given for {images} images: give exactly one seed per image.")
    return [check_seed(seed) for seed in seeds]


def check_images(images: Tensor) -> UInt8[Tensor, "n 3 h w"]:
    """The images as uint8; floats from 0 to 1 are rounded to the nearest of the 256 levels.

    Raises:
        UserError: Wrong shape or dtype, values outside 0 to 1, or a side shorter than 32 px.
    """
    if images.dim() != 4 or images.shape[1] != 3:
        raise UserError(
            f"Images to perturb must have the shape [n, 3, h, w], but these have {list(images.shape)}: "
            "give colour images, channels first."
        )
    check_size(*images.shape[2:])
    if images.is_floating_point():
        if images.numel() and not bool(((images >= 0) & (images <= 1)).all()):
            raise UserError(
                "Float images to perturb must lie between 0 and 1, but these do not: "
                "divide by 255, or give uint8 with values 0 to 255."
            )
        return (images.double() * 255).round().to(torch.uint8)
    if images.dtype != torch.uint8:
        raise UserError(
            f"Images to perturb must be uint8 with values 0 to 255 (or float, 0 to 1), but these are {images.dtype}."
        )
    return images


def check_foreground(name: str, mask: Tensor | None, images: Tensor) -> Bool[Tensor, "n h w"]:
    """The foreground mask, after checking that it fits the images.

    Args:
        name: The perturbation that needs it.
        mask: None if there is none.
        images: [n, 3, h, w].

    Raises:
        UserError: The mask is missing, not boolean, or of another shape.
    """
    if mask is None:
        raise UserError(f"{name} needs a foreground mask for every image: pass foreground, True on the foreground.")
    if mask.dtype != torch.bool:
        raise UserError(
            f"The foreground of {name} must be boolean, but it is {mask.dtype}: compare it with a threshold."
        )
    expected = [images.shape[0], *images.shape[2:]]
    if list(mask.shape) != expected:
        raise UserError(f"The foreground of {name} has the shape {list(mask.shape)}, but its images need {expected}.")
    return mask.to(images.device)


def check_background(name: str, background: Tensor | None, images: Tensor) -> UInt8[Tensor, "n 3 h w"]:
    """The backgrounds of other images, after checking that they fit the images.

    Raises:
        UserError: They are missing, not uint8, or of another shape.
    """
    if background is None:
        raise UserError(
            f"{name} needs the background of another image of a probing set for every image, and has none here: "
            f"leave {name} out."
        )
    if background.dtype != torch.uint8 or background.shape != images.shape:
        raise UserError(
            f"The backgrounds of {name} are {background.dtype} {list(background.shape)}, "
            f"but its images need uint8 {list(images.shape)}."
        )
    return background.to(images.device)


def check_result(entry: Perturbation, result: object, images: Tensor) -> UInt8[Tensor, "n 3 h w"]:
    """The result of a perturbation, after checking that it is a batch of images again.

    Raises:
        UserError: It is not, which can only happen with a plugin.
    """
    if not isinstance(result, Tensor) or result.dtype != torch.uint8 or result.shape != images.shape:
        what = f"{result.dtype} {list(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
        raise UserError(
            f"The perturbation {entry.name} must return uint8 {list(images.shape)}, but returned {what}: correct it."
        )
    return result
