"""One clear sentence for each way to ask for a perturbation that cannot be made."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Protocol, TypeVar

from tasks.errors import UserError, unknown_name
from tasks.perturbations.registry import PERTURBATIONS, SEVERITIES, Perturbation

MIN_SIDE = 32


def check_request(name: str, severity: int) -> Perturbation:
    """The perturbation of this name, once name and severity are known to exist.

    Raises:
        UserError: The name is unknown or the severity is not one of 0 to 5.
    """
    if name not in PERTURBATIONS:
        raise unknown_name("perturbation", name, PERTURBATIONS)
    if isinstance(severity, bool) or severity not in (0, *SEVERITIES):
        raise UserError(f"Severity {severity!r} of {name} does not exist: give a whole number from 0 (identity) to 5.")
    return PERTURBATIONS[name]


def check_size(height: int, width: int) -> None:
    """Refuse images that the corruptions cannot work on.

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
        UserError: It is not a whole number or it is negative.
    """
    try:
        number = operator.index(seed)
    except TypeError:
        raise UserError(f"Seed {seed!r} is not a whole number: give one non-negative integer an image.") from None
    if number < 0:
        raise UserError(f"Seed {number} is negative: give one non-negative integer an image.")
    return number


def check_seeds(seeds: Sequence[int], images: int) -> list[int]:
    """One plain integer an image.

    Raises:
        UserError: There are more or fewer seeds than images, or one is not a non-negative whole number.
    """
    if len(seeds) != images:
        raise UserError(f"{len(seeds)} seeds were given for {images} images: give exactly one seed an image.")
    return [check_seed(seed) for seed in seeds]


def check_images(shape: Sequence[int], dtype: object, layout: str) -> None:
    """Refuse what is no batch (or single) uint8 colour image of the stated layout.

    Args:
        shape: Shape of the array or tensor.
        dtype: Its dtype, NumPy's or torch's.
        layout: The expected axes, e.g. ``"n 3 h w"``; the axis ``3`` must have length 3.

    Raises:
        UserError: Wrong dtype, wrong shape, or a side shorter than 32 px.
    """
    axes = layout.split()
    if str(dtype).removeprefix("torch.") != "uint8":
        raise UserError(f"Images to perturb must be uint8 with values 0 to 255, but these are {dtype}.")
    if len(shape) != len(axes) or shape[axes.index("3")] != 3:
        raise UserError(f"Images to perturb must have the shape [{', '.join(axes)}], but these have {list(shape)}.")
    check_size(shape[axes.index("h")], shape[axes.index("w")])


class _Array(Protocol):
    @property
    def shape(self) -> Sequence[int]: ...
    @property
    def dtype(self) -> object: ...


_Mask = TypeVar("_Mask", bound=_Array)


def check_foreground(name: str, mask: _Mask | None, expected: Sequence[int]) -> _Mask:
    """The foreground mask, once it is known to be there and to fit its images.

    Args:
        name: The perturbation that needs it.
        mask: Array or tensor; None where there is none.
        expected: The shape that fits the images.

    Raises:
        UserError: The mask is missing, not boolean, or of another shape.
    """
    if mask is None:
        raise UserError(f"{name} needs a foreground mask for every image: pass foreground, True on the foreground.")
    if str(mask.dtype).removeprefix("torch.") != "bool":
        raise UserError(f"The foreground of {name} must be boolean, but it is {mask.dtype}.")
    if tuple(mask.shape) != tuple(expected):
        raise UserError(
            f"The foreground of {name} has the shape {list(mask.shape)}, but its images need {list(expected)}."
        )
    return mask
