"""Attention crops: the parts of an image where one unit's activation map is high."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from baselines.base import Mode

Box = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels of the image resized to ``CROP_SIZE``; right and bottom are exclusive."""

CROP_SIZE = 375
MAX_CROPS = 4
MOST_OVERLAP = 0.5
"""A box is accepted only if its IoU with every accepted box is at most this."""
WHOLE_IMAGE = 0.8
"""A box is accepted only if its IoU with the whole image is below this."""


def heat_map(
    activation: Float[np.ndarray, "h w"], size: int = CROP_SIZE, mode: Mode = "fixed"
) -> UInt8[np.ndarray, "size size"]:
    """A unit's activation map as an 8-bit image, resized bicubically.

    Args:
        activation: The un-pooled map.
        size: Edge of the result in pixels.
        mode: ``fixed`` stretches the map's own minimum and maximum to 0 and 255 (a flat map is all 0); ``code`` casts
            255 × map to a byte as released, so activations above 1 wrap modulo 256.
    """
    values = np.asarray(activation, dtype=np.float64)
    if mode == "fixed":
        low, high = values.min(), values.max()
        scaled = np.zeros_like(values) if high <= low else 255.0 * (values - low) / (high - low)
        heat = np.round(scaled).astype(np.uint8)
    else:
        # A float-to-byte cast: towards zero, then modulo 256, spelled out because C leaves the overflow undefined.
        heat = (np.trunc(255.0 * values).astype(np.int64) & 255).astype(np.uint8)
    return np.asarray(cv2.resize(heat, (size, size), interpolation=cv2.INTER_CUBIC))


def hot_boxes(heat: UInt8[np.ndarray, "size size"]) -> list[Box]:
    """Bounding boxes of the regions above Otsu's threshold, largest first, ties from top left."""
    _, mask = cv2.threshold(heat, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    contours = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    boxes: list[Box] = []
    for contour in contours:
        left, top, width, height = cv2.boundingRect(contour)
        boxes.append((left, top, left + width, top + height))
    return sorted(boxes, key=lambda box: (-_area(box), box[1], box[0]))


def iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes on continuous coordinates, in [0, 1]."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0) * max(height, 0)
    union = _area(first) + _area(second) - shared
    return shared / union if union > 0 else 0.0


def accept_boxes(boxes: Iterable[Box], size: int = CROP_SIZE, most: int = MAX_CROPS) -> list[Box]:
    """Accept boxes greedily in the given order, skipping those that overlap an accepted box or nearly fill the image.

    Args:
        boxes: Boxes, largest first.
        size: Edge of the whole image.
        most: Maximum number of boxes.
    """
    whole = (0, 0, size, size)
    taken: list[Box] = []
    for box in boxes:
        if len(taken) == most:
            break
        if iou(box, whole) < WHOLE_IMAGE and all(iou(box, other) <= MOST_OVERLAP for other in taken):
            taken.append(box)
    return taken


def attention_boxes(
    activation: Float[np.ndarray, "h w"], mode: Mode = "fixed", size: int = CROP_SIZE, most: int = MAX_CROPS
) -> list[Box]:
    """The boxes of one image where one unit is active, at most ``most``, largest first.

    Args:
        activation: The un-pooled map of the unit on the image.
        mode: See ``heat_map``.
        size: Edge of the resized image that the boxes refer to.
        most: Maximum number of boxes.
    """
    return accept_boxes(hot_boxes(heat_map(activation, size, mode)), size, most)


def crop_image(image: UInt8[np.ndarray, "h w 3"], box: Box, size: int = CROP_SIZE) -> UInt8[np.ndarray, "size size 3"]:
    """Crop one box from an image and resize it to the full size.

    Args:
        image: The image at any size; it is resized to ``size`` first, aspect ratio not kept, as published.
        box: A box in the resized image.
        size: Edge of the resized image and of the result.
    """
    left, top, right, bottom = box
    resized = resize_image(image, size)[top:bottom, left:right]
    return np.asarray(cv2.resize(resized, (size, size), interpolation=cv2.INTER_CUBIC))


def resize_image(image: UInt8[np.ndarray, "h w 3"], size: int = CROP_SIZE) -> UInt8[np.ndarray, "size size 3"]:
    """Resize an image to a square, bicubically, aspect ratio not kept."""
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC))


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])
