"""The network's view of an image: the part that its preprocessing keeps, at the size of its input.

An image is preprocessed once, for the network under study. It is then perturbed at that size, as ImageNet-C's images
were (Hendrycks and Dietterich, ICLR 2019: resize, crop, corrupt), and all other models, such as CLIP and a captioner,
get the same pixels. Masks and annotation are cropped in the same way, so that the maps of the network, which cover its
whole input, cover the whole image and the whole annotation too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image
from torch import Tensor

from tasks.common.images import Interpolation, resize_to

VERSION = 1
"""Raised whenever the same view of the same image may have different pixels."""

_LONGEST = 16


@dataclass(frozen=True)
class View:
    """Resize the shorter side (or, if ``crop`` is None, both) and take the centre.

    With a crop it gives the pixels of torchvision's ``Resize`` and ``CenterCrop``, and so timm's: Pillow's for an image
    file, torch's for a tensor. The two occasionally differ by one level.

    Attributes:
        resize: Side in pixels.
        crop: Side of the centre crop in pixels, at most ``resize``; None squeezes the image to resize × resize.
        interpolation: Always anti-aliased.
    """

    resize: int
    crop: int | None = None
    interpolation: Interpolation = "bilinear"

    @property
    def side(self) -> int:
        """Side of the view in pixels."""
        return self.crop or self.resize

    def __str__(self) -> str:
        """The preprocessing in words."""
        how = f"squeezed to {self.side} × {self.side} px"
        if self.crop is not None:
            how = f"shorter side {self.resize} px, central square of {self.crop} px"
        return f"{how}, {self.interpolation}"

    def __call__(self, images: UInt8[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n 3 side side"]:
        """The view of each image, on the device of the images.

        The CPU computes it for every device: torch's CUDA kernel lacks uint8, and pixels must not depend on the device.
        """
        rows, columns = self._strip(images.shape[-2], images.shape[-1])
        images = images[..., rows, columns]
        small = resize_to(images, self._resized(images.shape[-2], images.shape[-1]), self.interpolation)
        rows, columns = _middle(small.shape[-2], small.shape[-1], self.side)
        return small[..., rows, columns]

    def picture(self, image: UInt8[np.ndarray, "h w *c"]) -> UInt8[np.ndarray, "side side *c"]:
        """The view of one image that was read from a file."""
        image = image[self._strip(*image.shape[:2])]
        height, width = self._resized(*image.shape[:2])
        small = Image.fromarray(image).resize((width, height), Image.Resampling[self.interpolation.upper()])
        return np.asarray(small)[_middle(height, width, self.side)]

    def mask(self, mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "side side"]:
        """The view of a mask: True where at least half of a pixel is covered."""
        return self.picture(np.where(mask, np.uint8(255), np.uint8(0))) >= 128

    def annotated(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns that the view keeps of an annotation of that size."""
        top, bottom, left, right = self._field(height, width)
        return max(1, round(height * (bottom - top))), max(1, round(width * (right - left)))

    def labels(self, labels: Int[np.ndarray, "h w"]) -> Int[np.ndarray, "rows columns"]:
        """The view of a label map, at the map's own scale: the labels at the centres of the remaining cells."""
        height, width = labels.shape
        rows, columns = self.annotated(height, width)
        top, bottom, left, right = self._field(height, width)
        down = (height * (top + (np.arange(rows) + 0.5) / rows * (bottom - top))).astype(int)
        across = (width * (left + (np.arange(columns) + 0.5) / columns * (right - left))).astype(int)
        return labels[np.ix_(down, across)]

    def _field(self, height: int, width: int) -> tuple[float, float, float, float]:
        """The visible part of an image, as shares of its height (top, bottom) and its width (left, right)."""
        if self.crop is None:
            return 0.0, 1.0, 0.0, 1.0
        kept = self.crop / self.resize * min(height, width)
        high, wide = kept / height, kept / width
        return (1 - high) / 2, (1 + high) / 2, (1 - wide) / 2, (1 + wide) / 2

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width before centre cropping."""
        if self.crop is None:
            return self.side, self.side
        shorter = min(height, width)
        return self.resize * height // shorter, self.resize * width // shorter

    def _strip(self, height: int, width: int) -> tuple[slice, slice]:
        """The part that is resized: of a strip longer than 16 times its width only some, to bound memory."""
        return _middle(height, width, max(height, width) if self.crop is None else _LONGEST * min(height, width))


def _middle(height: int, width: int, most: int) -> tuple[slice, slice]:
    """Rows and columns of the central part, at most ``most`` of each."""
    top, left = (max(0, round((length - most) / 2)) for length in (height, width))
    return slice(top, top + most), slice(left, left + most)
