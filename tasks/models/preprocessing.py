"""From uint8 images in a network's view to its input."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from tasks.common.images import Interpolation, resize_to
from tasks.view import View


@dataclass(frozen=True)
class Preprocessing:
    """A network's view of an image, see ``tasks.view.View``, and the normalisation of its input.

    Cropping belongs to ``view``, which is applied once, when an image is read or generated. Calling this never crops:
    whatever a model is given, such as an attention crop or an image reduced to 32 px, it sees completely.

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

    def __call__(self, images: UInt8[Tensor, "n 3 h w"] | Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 side side"]:
        """Scale images to the network's input size, without cropping, and normalise them.

        Args:
            images: Grey levels; as floats where gradients are wanted.
        """
        seen = resize_to(images, (self.side, self.side), self.interpolation)
        mean = torch.tensor(self.mean, device=images.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, 3, 1, 1)
        return (seen.float() / 255 - mean) / std
