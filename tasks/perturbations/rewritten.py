"""Corruptions of ``imagecorruptions`` written anew: the same pixels, but faster, at any size, or seeded.

Each returns float values 0 to 255 that the caller truncates to uint8, as the package does. Same bits as the package:
glass_blur, and motion_blur wherever the package keeps its whole kernel. Within one grey level: zoom_blur and snow (by
``clipped_zoom``), brightness, saturate. Tests hold them to the package's own functions.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, UInt8


def glass_blur(
    image: UInt8[np.ndarray, "h w 3"], random: np.random.RandomState, sigma: float, reach: int, passes: int
) -> Float[np.ndarray, "h w 3"]:
    """Blur, let each pixel take the value of a random neighbour, blur again.

    The published loop means to exchange the two pixels, but assigns array views: the pixel takes its neighbour's value
    and the neighbour keeps it. That copy, and a reach of -reach to reach - 1, is the reference and is kept here.

    Args:
        image: One image, 0 to 255.
        random: Where the offsets are drawn, in one call that yields the numbers of the published loop.
        sigma: Of both blurs, in pixels.
        reach: Largest offset in pixels.
        passes: How often all pixels are visited, bottom right to top left.
    """
    from skimage.filters import gaussian

    pixels = np.uint8(gaussian(image / 255.0, sigma=sigma, channel_axis=-1) * 255).reshape(-1, 3)
    height, width = image.shape[:2]
    for _ in range(passes):
        pixels = pixels[_copied_from(height, width, reach, random)]
    return np.clip(gaussian(pixels.reshape(image.shape) / 255.0, sigma=sigma, channel_axis=-1), 0, 1) * 255


def _copied_from(height: int, width: int, reach: int, random: np.random.RandomState) -> np.ndarray:
    """For each flat pixel, the pixel whose value it holds after one pass of sequential copies."""
    rows, columns = np.arange(height - reach, reach, -1), np.arange(width - reach, reach, -1)
    visited = (rows[:, None] * width + columns).ravel()
    offsets = random.randint(-reach, reach, size=(visited.size, 2))
    neighbour = visited + offsets[:, 1] * width + offsets[:, 0]
    turn = np.full(height * width, visited.size)
    turn[visited] = np.arange(visited.size)
    # A neighbour visited before holds a copy by now, so follow it; any other still holds its own value.
    after = np.arange(height * width)
    source = np.arange(height * width)
    source[visited] = neighbour
    follow = visited[turn[neighbour] < turn[visited]]
    after[follow] = source[follow]
    # The chains of earlier visits end where a pixel copied an untouched one; doubling the step finds all ends at once.
    while not np.array_equal(further := after[after], after):
        after = further
    return source[after]


def motion_blur(
    image: Float[np.ndarray, "h w *c"] | UInt8[np.ndarray, "h w *c"], radius: int, sigma: float, angle: float
) -> Float[np.ndarray, "h w *c"]:
    """Weighted mean of shifted copies, edges repeated; a half-Gaussian along the direction of motion.

    The package breaks off where a shift leaves the image, which darkens images smaller than the kernel; here the
    repeated edge goes on and the weights always sum to 1.

    Args:
        image: One image or one layer of it.
        radius: The kernel has 2 radius + 1 steps, one pixel each.
        sigma: Of the half-Gaussian, in pixels.
        angle: In degrees.
    """
    steps = 2 * radius + 1
    weights = np.exp(-(np.arange(steps) ** 2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)
    weights = weights / np.sum(weights)
    down, right = steps * np.sin(np.deg2rad(angle)), steps * np.cos(np.deg2rad(angle))
    length = math.hypot(down, right)
    padded = np.pad(image, [(steps, steps), (steps, steps)] + [(0, 0)] * (image.ndim - 2), mode="edge")
    blurred = np.zeros(image.shape)
    for step, weight in enumerate(weights):
        top = steps + math.ceil(step * down / length - 0.5)
        left = steps + math.ceil(step * right / length - 0.5)
        blurred += weight * padded[top : top + image.shape[0], left : left + image.shape[1]]
    return blurred


def clipped_zoom(image: Float[np.ndarray, "h w c"], zoom_factor: float) -> Float[np.ndarray, "h2 w2 c"]:
    """Cut out the middle and enlarge it linearly, corner pixels on corner pixels.

    SciPy's zoom, which the package uses, blackens the last row or column at some sizes by a rounding error.

    Args:
        image: One image.
        zoom_factor: At least 1.

    Returns:
        At least as large as the image, of its dtype.
    """
    for axis in (0, 1):
        length = image.shape[axis]
        kept = math.ceil(length / zoom_factor)
        start = (length - kept) // 2
        part = image[start : start + kept] if axis == 0 else image[:, start : start + kept]
        image = _stretch(part, axis, round(kept * zoom_factor))
    return image


def _stretch(image: np.ndarray, axis: int, length: int) -> np.ndarray:
    old = image.shape[axis]
    if length == old:
        return image
    position = np.arange(length) * ((old - 1) / (length - 1))
    low = np.minimum(position.astype(np.intp), old - 2)
    share = (position - low).astype(image.dtype).reshape(-1, *[1] * (image.ndim - 1 - axis))
    below, above = np.take(image, low, axis), np.take(image, low + 1, axis)
    above -= below
    above *= share
    above += below
    return above


def brightness(image: UInt8[np.ndarray, "h w 3"], added: float) -> Float[np.ndarray, "h w 3"]:
    """Add to the value (the largest channel) and keep hue and saturation: all channels scale alike; black turns grey.

    Args:
        image: One image, 0 to 255.
        added: On the scale 0 to 1.
    """
    value = image.max(axis=2, keepdims=True) / 255.0
    scale = np.divide(np.minimum(value + added, 1), value, out=np.zeros_like(value), where=value > 0)
    return np.where(value > 0, image * scale, added * 255)


def saturate(image: UInt8[np.ndarray, "h w 3"], factor: float, added: float) -> Float[np.ndarray, "h w 3"]:
    """Scale the saturation and keep hue and value; grey has the hue of red, as in HSV by convention.

    Args:
        image: One image, 0 to 255.
        factor: Of the saturation.
        added: To the saturation, on the scale 0 to 1.
    """
    pixels = image / 255.0
    value = pixels.max(axis=2, keepdims=True)
    below = value - pixels
    chroma = below.max(axis=2, keepdims=True)
    saturation = np.divide(chroma, value, out=np.zeros_like(value), where=value > 0)
    wanted = np.clip(saturation * factor + added, 0, 1)
    share = np.divide(below, chroma, out=np.broadcast_to([0.0, 1.0, 1.0], below.shape).copy(), where=chroma > 0)
    return np.clip(value - value * wanted * share, 0, 1) * 255
