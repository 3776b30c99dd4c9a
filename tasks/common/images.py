"""Images as exchanged between components: uint8 tensors [n, 3, h, w], RGB."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional

Interpolation = Literal["bilinear", "bicubic"]


def resize(images: UInt8[Tensor, "n 3 h w"], side: int) -> UInt8[Tensor, "n 3 side side"]:
    """Resize to side × side with anti-aliased bilinear interpolation; aspect ratio is not kept.

    The miniature's models are trained and used through this one function, so that they see the same pixels.
    """
    return resize_to(images, (side, side))


def resize_to(
    images: UInt8[Tensor, "n 3 h w"], size: tuple[int, int], interpolation: Interpolation = "bilinear"
) -> UInt8[Tensor, "n 3 height width"]:
    """Resize to (height, width), anti-aliased; the result is on the device of the images.

    The CPU does it for every device: torch's CUDA kernel lacks uint8, and pixels must not depend on the device.
    """
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    small = functional.interpolate(images.cpu(), size=size, mode=interpolation, antialias=True, align_corners=False)
    return small.to(images.device)


def to_tensor(images: UInt8[np.ndarray, "n h w 3"]) -> UInt8[Tensor, "n 3 h w"]:
    """Channels last (NumPy) to channels first (torch), sharing memory where possible."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)


def to_array(images: UInt8[Tensor, "n 3 h w"]) -> UInt8[np.ndarray, "n h w 3"]:
    """Channels first (torch) to channels last (NumPy)."""
    return np.ascontiguousarray(images.permute(0, 2, 3, 1).cpu().numpy())
