"""The backgrounds, from NumPy noise fields: calm enough that objects stand out, varied enough not to be constant."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Float

from tasks.miniature.vocabulary import BACKGROUNDS, SIZE

Field = Float[np.ndarray, "h w"]
Picture = Float[np.ndarray, "h w 3"]

_Y, _X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)


def paint_background(name: str, generator: np.random.Generator) -> Picture:
    """Paint one background.

    Args:
        name: One of ``BACKGROUNDS``.
        generator: The only source of randomness.

    Returns:
        Floats [224, 224, 3], RGB in about [0, 255].
    """
    return _PAINTERS[name](generator)


def _noise(generator: np.random.Generator, rows: int, columns: int) -> Field:
    """Smooth noise in [-1, 1] with ``rows`` × ``columns`` independent cells."""
    coarse = generator.random((rows + 1, columns + 1), dtype=np.float32) * 2 - 1
    return cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)


def _grain(generator: np.random.Generator, width: int, height: int) -> Field:
    """Fine noise of about unit deviation, smeared over ``width`` × ``height`` pixels."""
    fine = generator.random((SIZE, SIZE), dtype=np.float32) - 0.5
    return cv2.blur(fine, (width, height)) * np.float32(3.46 * (width * height) ** 0.5)


def _mix(low: tuple[float, float, float], high: tuple[float, float, float], weight: Field) -> Picture:
    a, b = np.array(low, np.float32), np.array(high, np.float32)
    return a + (b - a) * weight[..., None]


def _cloudy_sky(generator: np.random.Generator) -> Picture:
    sky = _mix((92, 150, 224), (186, 216, 246), _Y / SIZE + 0.08 * _noise(generator, 2, 2))
    billow = 0.6 * _noise(generator, 3, 4) + 0.3 * _noise(generator, 7, 9) + 0.14 * _noise(generator, 15, 18)
    cover = np.clip((billow - generator.uniform(-0.05, 0.2)) * 1.9, 0, 1) * 0.92
    return sky + (np.float32(250) - sky) * cover[..., None]


def _grassy_lawn(generator: np.random.Generator) -> Picture:
    blades = 0.55 * _grain(generator, 1, 11) + 0.35 * _grain(generator, 2, 5)
    tone = 0.48 + 0.15 * blades + 0.16 * _noise(generator, 4, 4)
    return _mix((42, 96, 28), (138, 190, 74), np.clip(tone, 0, 1))


def _sandy_beach(generator: np.random.Generator) -> Picture:
    warp = 9 * _noise(generator, 3, 4) + 3 * _noise(generator, 8, 8)
    ripples = np.sin((_Y + warp) * np.float32(2 * np.pi / generator.uniform(17, 26)))
    tone = 0.55 + 0.13 * ripples + 0.10 * _grain(generator, 1, 1) + 0.06 * _noise(generator, 3, 3)
    return _mix((188, 150, 98), (244, 220, 172), np.clip(tone, 0, 1))


def _brick_wall(generator: np.random.Generator) -> Picture:
    height, width = generator.uniform(21, 27), generator.uniform(46, 58)
    y = (_Y + np.float32(generator.uniform(0, height))) / np.float32(height)
    row = np.floor(y)
    x = (_X + np.float32(generator.uniform(0, width))) / np.float32(width) + np.float32(0.5) * (row % 2)
    column = np.floor(x)
    tones = generator.random((16, 16), dtype=np.float32)
    tone = tones[row.astype(int) % 16, column.astype(int) % 16]
    bricks = _mix((148, 62, 46), (190, 96, 74), tone) + 7 * _grain(generator, 2, 1)[..., None]
    edge = np.minimum(np.minimum(y - row, row + 1 - y) * height, np.minimum(x - column, column + 1 - x) * width)
    joint = np.clip(2.2 - edge, 0, 1)[..., None]
    return bricks + (np.array((206, 196, 184), np.float32) - bricks) * joint


def _rippling_water(generator: np.random.Generator) -> Picture:
    warp = 12 * _noise(generator, 3, 3) + 5 * _noise(generator, 6, 6)
    period = generator.uniform(15, 24)
    wave = np.sin((_Y + warp + 5 * np.sin(_X / np.float32(generator.uniform(14, 24)))) * np.float32(2 * np.pi / period))
    crest = np.clip(wave - 0.55, 0, 1) * 1.5
    base = _mix((52, 140, 186), (24, 84, 142), _Y / SIZE + 0.10 * wave + 0.10 * _noise(generator, 3, 3))
    return base + (np.array((176, 222, 240), np.float32) - base) * (0.62 * crest[..., None])


def _wooden_planks(generator: np.random.Generator) -> Picture:
    height = generator.uniform(36, 56)
    y = (_Y + np.float32(generator.uniform(0, height))) / np.float32(height)
    plank = np.floor(y).astype(int)
    tones = generator.random(16, dtype=np.float32)[plank % 16]
    rings = np.sin((_Y + 14 * _noise(generator, 4, 2)) * np.float32(0.55) + 9 * tones)
    tone = 0.34 + 0.32 * tones + 0.10 * rings + 0.10 * _grain(generator, 31, 1)
    wood = _mix((122, 74, 36), (206, 148, 90), np.clip(tone, 0, 1))
    edge = np.minimum(y - plank, plank + 1 - y) * height
    return wood * (1 - 0.62 * np.clip(1.9 - edge, 0, 1))[..., None]


def _starry_night(generator: np.random.Generator) -> Picture:
    glow = 0.30 + 0.32 * _Y / SIZE + 0.24 * _noise(generator, 3, 3)
    sky = _mix((8, 8, 32), (42, 44, 98), np.clip(glow, 0, 1))
    stars = np.zeros((SIZE, SIZE), np.float32)
    for x, y, size in generator.random((int(generator.integers(60, 110)), 3)):
        centre = (int(x * SIZE * 16), int(y * SIZE * 16))
        cv2.circle(stars, centre, int((0.4 + 1.2 * size**4) * 16), float(0.45 + 0.55 * size), -1, cv2.LINE_8, 4)
    stars = cv2.GaussianBlur(stars, (3, 3), 0.6) * 1.25
    return sky + (np.array((252, 250, 235), np.float32) - sky) * np.clip(stars, 0, 1)[..., None]


_PAINTERS: dict[str, Callable[[np.random.Generator], Picture]] = dict(
    zip(
        BACKGROUNDS,
        (_cloudy_sky, _grassy_lawn, _sandy_beach, _brick_wall, _rippling_water, _wooden_planks, _starry_night),
        strict=True,
    )
)
