"""The arguments of a perturbation besides the images and its parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from jaxtyping import Bool, UInt8
    from torch import Tensor

    from tasks.perturbations.draws import Draws

Mode = Literal["published", "package", "repaired"]
FORMER = {"fixed": "repaired", "code": "package"}
"""Former name of a variant → current name."""


@dataclass(frozen=True)
class Context:
    """The arguments of a perturbation besides the images and its parameters.

    Attributes:
        draws: Random numbers, with a separate stream for each image.
        scale: Pixels of these images per pixel of a 224-px image; published lengths are multiplied by it. 1 at 224 px,
            and at every size if raw lengths are requested.
        mode: The variant of the corruptions of ImageNet-C; see ``tasks.perturbations.perturb``.
        foreground: bool [n, h, w], True on the foreground, on the device of the images; None if none is needed.
        feather: Width in pixels of the soft mask edge; 0 for a hard edge.
        background: uint8 [n, 3, h, w], the background of another image for each; None if none is needed.
    """

    draws: Draws
    scale: float
    mode: Mode
    foreground: Bool[Tensor, "n h w"] | None
    feather: float
    background: UInt8[Tensor, "n 3 h w"] | None = None
