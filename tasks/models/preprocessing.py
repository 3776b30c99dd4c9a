"""From uint8 images to a network's input."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from tasks.common.images import Interpolation
from tasks.view import View


@dataclass(frozen=True)
class Preprocessing:
    """Take the network's view of an image, see ``tasks.view.View``, and normalise it.

    Attributes:
        resize: Side in pixels.
        crop: Side of the centre crop in pixels, at most ``resize``; None squeezes the image to resize × resize.
        mean: Per channel, for values in [0, 1].
        std: Per channel.
        interpolation: Always anti-aliased.
    """

    resize: int
    crop: int | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bilinear"

    @cached_property
    def view(self) -> View:
        """The geometric part."""
        return View(self.resize, self.crop, self.interpolation)

    @property
    def side(self) -> int:
        """Side of the network's input in pixels."""
        return self.view.side

    def __call__(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 side side"]:
        """Preprocess images for the network; those that already have its input size are only normalised."""
        seen = images if tuple(images.shape[-2:]) == (self.side, self.side) else self.view(images)
        mean = torch.tensor(self.mean, device=images.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, 3, 1, 1)
        return (seen.float() / 255 - mean) / std
