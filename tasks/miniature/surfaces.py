"""The surfaces of the kinds: a fine relief that is specific to a kind, as scales are to a fish.

Networks trained on photographs rely on texture more than on outline (Geirhos et al., ICLR 2019, arXiv:1811.12231),
which is why blur and noise hurt them. Each kind therefore has its own surface, with a period of about eight pixels, and
an outline that varies.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import Final

import cv2
import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

from tasks.miniature.vocabulary import KINDS

TILE: Final = 240
"""Side of a tile in pixels; every surface repeats after it, and all their periods divide it."""

Relief = Float[np.ndarray, "tile tile"]

_Y, _X = np.mgrid[0:TILE, 0:TILE].astype(np.float32)


@cache
def surface(kind: str) -> Relief:
    """The relief of a kind: one tile of mean 0 and deviation 1, clipped to ±2."""
    raw = _PAINTERS[kind](np.random.Generator(np.random.PCG64(KINDS.index(kind))))
    relief = np.clip((raw - raw.mean()) / raw.std(), -2, 2).astype(np.float32)
    relief.flags.writeable = False
    return relief


def _smooth(field: Relief, across: float, along: float) -> Relief:
    """Gaussian smoothing on the torus."""
    frequency = np.fft.fftfreq(TILE)
    low = np.exp(-2 * (np.pi * frequency[:, None] * along) ** 2 - 2 * (np.pi * frequency[None] * across) ** 2)
    return np.fft.ifft2(np.fft.fft2(field) * low).real.astype(np.float32)


def _pebbles(generator: np.random.Generator) -> Relief:
    noise = generator.standard_normal((TILE, TILE))
    return np.tanh(12 * (_smooth(noise, 1.6, 1.6) - _smooth(noise, 3.2, 3.2)))


def _glitter(generator: np.random.Generator) -> Relief:
    specks = np.where(generator.random((TILE, TILE)) < 1 / 80, 1.0, 0.0)
    return np.minimum(_smooth(specks, 1.6, 1.6), 0.07)


def _knit(_: np.random.Generator) -> Relief:
    stitch = _Y / 8 + 1.3 * np.abs(_X / 15 - np.floor(_X / 15) - 0.5)
    return np.cos(2 * np.pi * stitch) - 0.8 * (np.abs(_X / 15 - np.floor(_X / 15) - 0.5) > 0.43)


def _scales(_: np.random.Generator) -> Relief:
    relief = np.zeros((TILE, TILE), np.float32)
    for row in range(-2, TILE // 8 + 2):
        x = (_X - 7.5 * (row % 2)) / 15
        far = np.hypot((x - np.floor(x) - 0.5) * 15, _Y - 8 * row)
        relief = np.where((far < 10) & (8 * row - 10 <= _Y), 1 - (far / 10) ** 2, relief)
    return relief


def _siding(_: np.random.Generator) -> Relief:
    return _Y / 8 - np.floor(_Y / 8)


def _foliage(generator: np.random.Generator) -> Relief:
    relief = np.zeros((TILE, TILE), np.float32)
    for x, y, turn, tone in generator.random((2600, 4)):
        for dx, dy in itertools.product((-1, 0, 1), repeat=2):
            centre = (int((x + dx) * TILE), int((y + dy) * TILE))
            cv2.ellipse(relief, centre, (4, 2), 360 * turn, 0, 360, float(tone), -1)
    return relief


def _brushed(generator: np.random.Generator) -> Relief:
    noise = generator.standard_normal((TILE, TILE))
    return _smooth(noise, 16, 1.6) - _smooth(noise, 16, 3.6)


def _planking(_: np.random.Generator) -> Relief:
    row = np.floor(_Y / 10)
    seam = np.minimum(_Y / 10 - row, row + 1 - _Y / 10) * 10
    x = _X / 24 + 0.5 * (row % 2)
    joint = np.minimum(x - np.floor(x), np.floor(x) + 1 - x) * 24
    return np.clip(np.minimum(seam, joint) - 0.6, 0, 1.6)


def _crackle(generator: np.random.Generator) -> Relief:
    corners = 12 * np.indices((TILE // 12, TILE // 12)).reshape(2, -1).T
    tree = KDTree(corners + generator.uniform(0, 12, corners.shape), boxsize=TILE)
    near, _ = tree.query(np.stack([_X.ravel(), _Y.ravel()], 1), k=2)
    return np.clip((near[:, 1] - near[:, 0]).reshape(TILE, TILE), 0, 2.2)


def _veins(_: np.random.Generator) -> Relief:
    return np.cos(2 * np.pi * (_Y + np.abs(_X - TILE / 2)) / 8)


def _rings(_: np.random.Generator) -> Relief:
    row = np.floor(_Y / 10)
    x = _X / 12 + 0.5 * (row % 2)
    far = np.hypot((x - np.floor(x) - 0.5) * 12, (_Y / 10 - row - 0.5) * 10)
    return np.exp(-(((far - 3.4) / 1.1) ** 2))


def _weave(_: np.random.Generator) -> Relief:
    over = (np.floor(_X / 15) + np.floor(_Y / 15)) % 2
    return np.cos(2 * np.pi * np.where(over == 0, _X, _Y) / 7.5)


_PAINTERS: Final[dict[str, Callable[[np.random.Generator], Relief]]] = {
    "circle": _pebbles,
    "star": _glitter,
    "heart": _knit,
    "fish": _scales,
    "house": _siding,
    "tree": _foliage,
    "car": _brushed,
    "boat": _planking,
    "cup": _crackle,
    "leaf": _veins,
    "mushroom": _rings,
    "umbrella": _weave,
}
