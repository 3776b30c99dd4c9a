"""What a perturbation gets besides the images and its parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from jaxtyping import Bool
    from torch import Tensor

    from tasks.perturbations.draws import Draws

Mode = Literal["published", "package", "repaired"]
FORMER = {"fixed": "repaired", "code": "package"}
"""What the forms were once called → what they are called."""


@dataclass(frozen=True)
class Context:
    """What a perturbation gets besides the images and its parameters.

    Attributes:
        draws: Random numbers, a stream of its own for each image.
        scale: Pixels of these images that one pixel of a 224-px image stands for; published lengths are multiplied by
            it. 1 at 224 px, and at every size where raw lengths were asked for.
        mode: The form of the corruptions of ImageNet-C; see ``tasks.perturbations.perturb``.
        foreground: bool [n, h, w], True on the foreground, on the device of the images; None if none is needed.
        feather: Pixels over which a change at a mask's border sets in; 0 for a hard border.
    """

    draws: Draws
    scale: float
    mode: Mode
    foreground: Bool[Tensor, "n h w"] | None
    feather: float
