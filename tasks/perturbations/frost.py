"""The frost of ImageNet-C, with the photographs of ``imagecorruptions`` read once instead of at each call."""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from tasks.errors import UserError
from tasks.perturbations import package

Mode = Literal["fixed", "code"]
_FILES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg", "frost6.jpg")


def frost(
    image: UInt8[np.ndarray, "h w 3"], random: np.random.RandomState, kept: float, laid: float, mode: Mode
) -> Float[np.ndarray, "h w 3"]:
    """Lay a random piece of one of six photographs of frost over the image.

    Args:
        image: One image, 0 to 255.
        random: Draws the photograph and the place.
        kept: Weight of the image.
        laid: Weight of the frost.
        mode: ``fixed`` draws among all six photographs; ``code`` never draws the sixth, as released.
    """
    height, width = image.shape[:2]
    number = random.randint(len(_FILES) if mode == "fixed" else 5)
    photograph = _photograph(number)
    scale = 1.1 * max(1.0, height / photograph.shape[0], width / photograph.shape[1])
    texture = _texture(number, scale)
    top, left = random.randint(0, texture.shape[0] - height), random.randint(0, texture.shape[1] - width)
    return np.clip(kept * image + laid * texture[top : top + height, left : left + width, ::-1], 0, 255)


@functools.lru_cache(maxsize=len(_FILES))
def _photograph(number: int) -> Any:
    path = package.folder() / "frost" / _FILES[number]
    photograph = cv2.imread(str(path))
    if photograph is None:
        raise UserError(f"The frost texture {path} is missing: reinstall imagecorruptions.")
    return photograph


@functools.lru_cache(maxsize=len(_FILES))
def _texture(number: int, scale: float) -> Any:
    photograph = _photograph(number)
    size = (math.ceil(photograph.shape[1] * scale), math.ceil(photograph.shape[0] * scale))
    return cv2.resize(photograph, dsize=size, interpolation=cv2.INTER_CUBIC)
