"""Tables of part polygons: each kind in its own frame, x to the right and y down, within 1.1 of the origin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float

Polygon = Float[np.ndarray, "points 2"]


@dataclass(frozen=True)
class Piece:
    """One polygon of an object.

    Attributes:
        part: The part it belongs to, or None for the body.
        paint: A fixed colour, or None for the object's own colour and pattern.
    """

    polygon: Polygon
    part: str | None = None
    paint: tuple[int, int, int] | None = None


def bent(
    points: Polygon, squeeze: tuple[float, float], bend: float, waves: tuple[float, float, float, float]
) -> Polygon:
    """Scale points along the axes and displace them by waves, so that no two outlines are alike.

    Args:
        points: In the frame of a kind.
        squeeze: Factors along x and y.
        bend: Amplitude of the longer waves.
        waves: Phases: two of waves of about a third of a period over the object, two of shorter ones.
    """
    x, y = (points * squeeze).T
    a, b, c, d = waves
    right = np.sin(2.1 * y + a) + 0.6 * np.sin(4.6 * y + 2 * x + c)
    down = np.sin(2.1 * x + b) + 0.6 * np.sin(4.6 * x - 2 * y + d)
    return np.stack([x + bend * right, y + bend * down], axis=1)


def dense(polygon: Polygon, longest: float = 0.15) -> Polygon:
    """The same polygon with additional points along its edges, so that it can be bent."""
    after = np.roll(polygon, -1, axis=0)
    counts = np.maximum(np.ceil(np.linalg.norm(after - polygon, axis=1) / longest).astype(int), 1)
    return np.concatenate(
        [
            start + (stop - start) * (np.arange(count) / count)[:, None]
            for start, stop, count in zip(polygon, after, counts, strict=True)
        ]
    )


def _points(*pairs: tuple[float, float]) -> Polygon:
    return np.array(pairs, dtype=np.float64)


def _ellipse(x: float, y: float, rx: float, ry: float, start: float = 0.0, stop: float = 2 * np.pi) -> Polygon:
    t = np.linspace(start, stop, 48)
    return np.stack([x + rx * np.cos(t), y + ry * np.sin(t)], axis=1)


def _box(x0: float, y0: float, x1: float, y1: float) -> Polygon:
    return _points((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def _star() -> Polygon:
    t = np.arange(10) * np.pi / 5 - np.pi / 2
    r = np.where(np.arange(10) % 2 == 0, 1.0, 0.43)
    return np.stack([r * np.cos(t), r * np.sin(t)], axis=1)


def _heart() -> Polygon:
    t = np.linspace(0, 2 * np.pi, 80)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x / 17.2, (y - 2.5) / 17.2 - 0.02], axis=1)


def _crown() -> Polygon:
    t = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    r = 0.60 + 0.10 * np.abs(np.cos(2.5 * t))
    return np.stack([r * np.cos(t) * 1.12, -0.32 + r * np.sin(t) * 0.92], axis=1)


def _ring(x: float, y: float, outer: float, inner: float, start: float, stop: float) -> Polygon:
    return np.concatenate([_ellipse(x, y, outer, outer, start, stop), _ellipse(x, y, inner, inner, stop, start)])


def _leaf() -> Polygon:
    y = np.linspace(-0.98, 0.7, 40)
    width = 0.52 * np.sin(np.pi * np.clip((y + 0.98) / 1.68, 0, 1) ** 0.85)
    return np.concatenate([np.stack([width, y], 1), np.stack([-width, y], 1)[::-1]])


def _canopy() -> Polygon:
    top = _ellipse(0, 0.02, 0.96, 0.86, np.pi, 2 * np.pi)
    x = np.linspace(0.96, -0.96, 41)
    scallop = 0.02 - 0.13 * np.abs(np.sin(2 * np.pi * (x + 0.96) / 0.96 / 2))
    return np.concatenate([top, np.stack([x, scallop], 1)])


_GLASS: Final = (188, 224, 244)
_WOOD: Final = (112, 72, 40)
_DARK: Final = (44, 36, 34)
_CREAM: Final = (246, 238, 220)
_ROOF: Final = (122, 50, 44)
_VEIN: Final = (74, 96, 52)

PIECES: Final[dict[str, tuple[Piece, ...]]] = {
    "circle": (Piece(_ellipse(0, 0, 0.95, 0.95)),),
    "star": (Piece(_star()),),
    "heart": (Piece(_heart()),),
    "fish": (
        Piece(_points((-0.42, 0.0), (-0.98, -0.46), (-0.84, 0.0), (-0.98, 0.46)), "tail"),
        Piece(_points((-0.25, -0.34), (0.02, -0.78), (0.34, -0.32)), "fin"),
        Piece(_points((-0.1, 0.36), (-0.02, 0.66), (0.22, 0.36)), "fin"),
        Piece(_ellipse(0.16, 0.0, 0.76, 0.46)),
        Piece(_ellipse(0.60, -0.12, 0.13, 0.13), "eye", (250, 250, 248)),
        Piece(_ellipse(0.63, -0.12, 0.065, 0.065), "eye", (20, 20, 24)),
    ),
    "house": (
        Piece(_box(-0.68, -0.18, 0.68, 0.86)),
        Piece(_points((-0.92, -0.14), (0.0, -0.96), (0.92, -0.14)), "roof", _ROOF),
        Piece(_box(-0.19, 0.30, 0.19, 0.86), "door", _DARK),
        Piece(_box(-0.56, 0.0, -0.26, 0.30), "window", _GLASS),
        Piece(_box(0.26, 0.0, 0.56, 0.30), "window", _GLASS),
    ),
    "tree": (
        Piece(_points((-0.14, 0.0), (0.14, 0.0), (0.20, 0.98), (-0.20, 0.98)), "trunk", _WOOD),
        Piece(_crown()),
    ),
    "car": (
        Piece(
            _points(
                (-0.97, 0.34),
                (-0.95, -0.02),
                (-0.60, -0.10),
                (-0.38, -0.50),
                (0.34, -0.50),
                (0.62, -0.08),
                (0.94, 0.02),
                (0.98, 0.34),
            )
        ),
        Piece(_points((-0.46, -0.10), (-0.30, -0.40), (-0.03, -0.40), (-0.03, -0.10)), "window", _GLASS),
        Piece(_points((0.05, -0.10), (0.05, -0.40), (0.28, -0.40), (0.46, -0.10)), "window", _GLASS),
        Piece(_ellipse(-0.52, 0.34, 0.23, 0.23), "wheel", (28, 28, 30)),
        Piece(_ellipse(-0.52, 0.34, 0.10, 0.10), "wheel", (168, 170, 174)),
        Piece(_ellipse(0.54, 0.34, 0.23, 0.23), "wheel", (28, 28, 30)),
        Piece(_ellipse(0.54, 0.34, 0.10, 0.10), "wheel", (168, 170, 174)),
    ),
    "boat": (
        Piece(_box(-0.05, -0.96, 0.05, 0.34), "mast", _DARK),
        Piece(_points((-0.10, -0.84), (-0.10, 0.22), (-0.74, 0.22)), "sail", _CREAM),
        Piece(_points((0.10, -0.66), (0.10, 0.22), (0.62, 0.22)), "sail", _CREAM),
        Piece(_points((-0.96, 0.30), (0.96, 0.30), (0.62, 0.86), (-0.62, 0.86))),
    ),
    "cup": (
        Piece(_ring(-0.52, 0.08, 0.40, 0.23, np.pi / 2, 3 * np.pi / 2), "handle"),
        Piece(_points((-0.58, -0.66), (0.66, -0.66), (0.52, 0.86), (-0.44, 0.86))),
        Piece(_ellipse(0.04, -0.66, 0.62, 0.17), None, _DARK),
    ),
    "leaf": (
        Piece(_box(-0.035, 0.6, 0.035, 1.0), None, _VEIN),
        Piece(_leaf()),
        Piece(_box(-0.03, -0.82, 0.03, 0.72), "vein", _VEIN),
        Piece(_points((0, -0.06), (0.34, -0.36), (0.36, -0.30), (0, 0.04)), "vein", _VEIN),
        Piece(_points((0, 0.20), (-0.36, -0.10), (-0.38, -0.04), (0, 0.30)), "vein", _VEIN),
    ),
    "mushroom": (
        Piece(_points((-0.22, 0.0), (0.22, 0.0), (0.30, 0.92), (-0.30, 0.92)), "stem", _CREAM),
        Piece(np.concatenate([_ellipse(0, 0.1, 0.94, 0.98, np.pi, 2 * np.pi), _points((0.8, 0.22), (-0.8, 0.22))])),
    ),
    "umbrella": (
        Piece(_box(-0.04, -0.98, 0.04, 0.0), None, _DARK),
        Piece(_box(-0.04, -0.1, 0.04, 0.76), "handle", _DARK),
        Piece(_ring(-0.14, 0.76, 0.18, 0.10, 0, np.pi), "handle", _DARK),
        Piece(_canopy()),
    ),
}
"""Kind → its pieces, back to front."""
