"""Gaussian blur of the foreground only, or of the background only, without colour leaking across the border.

Blurring the whole image and pasting one part back would carry the colour of the object into a halo on the ground.
Normalised convolution takes the mean over the blurred part alone: ``G(x·w) / G(w)`` with the weight ``w`` 1 inside and
0 outside (Knutsson and Westin 1993, Normalized and Differential Convolution).
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from tasks.perturbations.registry import BLUR_SIGMA

_TRUNCATE = 4.0  # kernel radius in sigmas, as scikit-image has it for gaussian_blur


def blur_inside(
    image: UInt8[np.ndarray, "h w 3"], inside: Bool[np.ndarray, "h w"], sigma: float
) -> UInt8[np.ndarray, "h w 3"]:
    """Blur the pixels of one region with their own kind; all others keep their bits.

    The kernel is cut off at 4 sigma, the border is mirrored and the result is rounded to the nearest grey level.

    Args:
        image: One image, 0 to 255.
        inside: True where the image is blurred; may be empty (the image comes back) or full (a plain Gaussian blur).
        sigma: Standard deviation in pixels of this image, whatever its size; greater than 0.

    Returns:
        A new image.
    """
    out = image.copy()
    if not inside.any():
        return out
    layers = np.empty((*inside.shape, 4), np.float32)
    layers[..., 3] = inside
    np.multiply(image, layers[..., 3:], out=layers[..., :3])
    size = 2 * math.ceil(_TRUNCATE * sigma) + 1
    blurred = cv2.GaussianBlur(layers, (size, size), sigmaX=sigma, borderType=cv2.BORDER_REFLECT)[inside]
    # The centre of the kernel lies inside, so the weight is never 0 here.
    out[inside] = np.rint(blurred[:, :3] / blurred[:, 3:]).clip(0, 255).astype(np.uint8)
    return out


def foreground_blur(
    image: UInt8[np.ndarray, "h w 3"], foreground: Bool[np.ndarray, "h w"], severity: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Blur the foreground; background pixels stay bit-exact.

    Args:
        image: One image, 0 to 255.
        foreground: True on the foreground. An empty one gives the image back, a full one blurs all of it.
        severity: 1 to 5, for sigma 1, 2, 3, 4, 6 px.
    """
    return blur_inside(image, foreground, BLUR_SIGMA[severity - 1])


def background_blur(
    image: UInt8[np.ndarray, "h w 3"], foreground: Bool[np.ndarray, "h w"], severity: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Blur the background; foreground pixels stay bit-exact.

    Args:
        image: One image, 0 to 255.
        foreground: True on the foreground. A full one gives the image back, an empty one blurs all of it.
        severity: 1 to 5, for sigma 1, 2, 3, 4, 6 px.
    """
    return blur_inside(image, ~foreground, BLUR_SIGMA[severity - 1])
