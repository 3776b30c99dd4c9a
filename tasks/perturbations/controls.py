"""Controls for the blur experiments: what the seed study's own blur is made of, and a mask that means nothing."""

from __future__ import annotations

from io import BytesIO

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image


def seed_study_kernel() -> Float[np.ndarray, "5 5"]:
    """The 5 x 5 Gaussian kernel with sigma 1 of the seed study; cut off there, its effective sigma is 0.961.

    Returns:
        Non-negative weights that sum to 1.
    """
    axis = np.exp(-(np.arange(-2, 3) ** 2) / 2)
    kernel = np.outer(axis, axis)
    return kernel / kernel.sum()


def seed_study_blur(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Blur as the seed study did, but rounded: mirrored border, at the image's own size, no JPEG in between.

    The study truncated to whole grey levels, which darkens by half a level on average.
    """
    blurred = cv2.filter2D(image.astype(np.float64), -1, seed_study_kernel(), borderType=cv2.BORDER_REFLECT)
    return np.rint(blurred).clip(0, 255).astype(np.uint8)


def reencode(image: UInt8[np.ndarray, "h w 3"], quality: int = 75) -> UInt8[np.ndarray, "h w 3"]:
    """Save as JPEG and read again: the part of a saved blur that is no blur.

    Args:
        image: One image, 0 to 255.
        quality: Of the JPEG; Pillow's default is 75.
    """
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB")).copy()


def moved_mask(mask: Bool[np.ndarray, "h w"], seed: int) -> Bool[np.ndarray, "h w"]:
    """A mask of the same area and shape at a random place, wrapped around the border.

    Args:
        mask: True on the foreground.
        seed: Any non-negative integer.
    """
    random = np.random.default_rng(seed)
    return np.roll(mask, (int(random.integers(mask.shape[0])), int(random.integers(mask.shape[1]))), axis=(0, 1))
