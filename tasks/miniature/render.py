"""The renderer: a scene graph becomes an image, its foreground mask and its concept annotation.

Part polygons are filled at six times the resolution and averaged down, which keeps edges sub-pixel exact with OpenCV
alone; the drop shadow belongs to the background.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from tasks.miniature.backgrounds import paint_background
from tasks.miniature.scene import Scene, Thing
from tasks.miniature.shapes import PIECES, Piece, bent, dense
from tasks.miniature.surfaces import TILE, surface
from tasks.miniature.vocabulary import COLOURS, KINDS, PARTS, PATTERNS, SIZE

OVERSAMPLING: Final = 6
RELIEF: Final = np.float32(54)
"""Deviation of a surface's relief, in grey levels."""
GRAIN: Final = 46.0
"""Maximum amplitude of the image's grain, in grey levels."""
_DENSE = {kind: tuple((dense(piece.polygon), piece) for piece in pieces) for kind, pieces in PIECES.items()}


@dataclass(frozen=True)
class Rendering:
    """A rendered scene.

    Attributes:
        image: uint8 [224, 224, 3], RGB.
        foreground: True where an object covers at least half of the pixel; its shadow does not count.
        kind: Per pixel 1 + index in ``KINDS``, 0 = none.
        part: Per pixel 1 + index in ``PARTS``, 0 = none.
        colour: Per pixel 1 + index in ``COLOURS`` (the object's own paint), 0 = none.
        pattern: Per pixel 1 + index in ``PATTERNS`` (the object's own paint), 0 = none.
    """

    image: UInt8[np.ndarray, "224 224 3"]
    foreground: Bool[np.ndarray, "224 224"]
    kind: UInt8[np.ndarray, "224 224"]
    part: UInt8[np.ndarray, "224 224"]
    colour: UInt8[np.ndarray, "224 224"]
    pattern: UInt8[np.ndarray, "224 224"]


def render(scene: Scene) -> Rendering:
    """Render a scene deterministically."""
    generator = np.random.Generator(np.random.PCG64(scene.seed))
    canvas = paint_background(scene.background, generator)
    layers = {name: np.zeros((SIZE, SIZE), np.uint8) for name in ("kind", "part", "colour", "pattern")}
    for thing in scene.things:
        _draw(canvas, layers, thing, scene)
    canvas *= np.float32(scene.light)
    canvas += _grain(generator)
    image = np.clip(canvas + np.float32(0.5), 0, 255).astype(np.uint8)
    return Rendering(image=image, foreground=layers["kind"] > 0, **layers)


def outline(thing: Thing) -> list[tuple[Float[np.ndarray, "points 2"], Piece]]:
    """The polygons of an object in frame coordinates (pixel i covers [i, i + 1)), back to front, with their pieces."""
    cos, sin = np.cos(thing.angle), np.sin(thing.angle)
    turn = np.array([[cos, sin], [-sin, cos]]) * thing.radius
    centre = np.array([thing.x, thing.y])
    pieces = _DENSE[thing.kind]
    bends = [bent(points, thing.squeeze, thing.bend, thing.waves) for points, _ in pieces]
    # All pieces count, shown or not, so that a missing part does not move the others.
    reach = max(1.0, *(np.linalg.norm(points, axis=1).max() for points in bends))
    return [
        (points @ turn / reach + centre, piece)
        for points, (_, piece) in zip(bends, pieces, strict=True)
        if piece.part is None or piece.part in thing.parts
    ]


def _draw(canvas: np.ndarray, layers: dict[str, np.ndarray], thing: Thing, scene: Scene) -> None:
    reach = int(np.ceil(thing.radius * 1.1)) + 1
    x0, y0 = max(int(thing.x) - reach, 0), max(int(thing.y) - reach, 0)
    x1, y1 = min(int(thing.x) + reach + 1, SIZE), min(int(thing.y) + reach + 1, SIZE)
    window = (slice(y0, y1), slice(x0, x1))
    y, x = np.mgrid[y0:y1, x0:x1].astype(np.float32)
    x, y = x + np.float32(0.5 - thing.x), y + np.float32(0.5 - thing.y)
    body = _body_paint(thing, x, y)
    body += RELIEF * _relief(thing, x0, y0, x.shape)[..., None]
    paint = np.zeros_like(body)  # premultiplied by alpha, so that no edge takes on a foreign colour
    alpha = np.zeros(x.shape, np.float32)
    own = np.zeros(x.shape, bool)
    parts = np.zeros(x.shape, np.uint8)
    for polygon, piece in outline(thing):
        cover = _coverage(polygon - (x0, y0), x1 - x0, y1 - y0)
        colour = body if piece.paint is None else np.array(_trimmed(piece.paint, piece, thing), np.float32)
        paint += (colour - paint) * cover[..., None]
        alpha += (1 - alpha) * cover
        inside = cover >= 0.5
        own[inside] = piece.paint is None
        parts[inside] = 1 + PARTS.index(piece.part) if piece.part else 0
    area = canvas[window]
    _cast_shadow(area, alpha, thing.radius, scene.light_angle)
    shade = 1 + np.float32(0.16 / thing.radius) * (
        x * np.float32(np.cos(scene.light_angle)) + y * np.float32(np.sin(scene.light_angle))
    )
    area *= (1 - alpha)[..., None]
    area += paint * shade[..., None]
    solid = alpha >= 0.5
    layers["kind"][window][solid] = 1 + KINDS.index(thing.kind)
    layers["part"][window][solid] = parts[solid]
    layers["colour"][window][solid] = np.where(own, 1 + list(COLOURS).index(thing.colour), 0)[solid]
    layers["pattern"][window][solid] = np.where(own, 1 + PATTERNS.index(thing.pattern), 0)[solid]


def _trimmed(paint: tuple[int, int, int], piece: Piece, thing: Thing) -> tuple[float, float, float]:
    """The grey of a thing's parts instead of a paint; an eye stays an eye."""
    if not thing.trim or piece.part == "eye":
        return paint
    paints = list(dict.fromkeys(other.paint for other in PIECES[thing.kind] if other.paint))
    tone = 30 + 215 * thing.trim[paints.index(paint)]
    return tone, 0.97 * tone, 0.92 * tone


def _grain(generator: np.random.Generator) -> Float[np.ndarray, "h w 3"]:
    """Grain like that of sensitive film, in lightness and colour: blots of about two pixels, faint or strong."""
    strength, turn = GRAIN * generator.random(), generator.uniform(0, np.pi)
    width, height = generator.uniform(1.6, 2.6, size=2)
    shape = (int(1.5 * SIZE / height), int(1.5 * SIZE / width))
    blots = np.float32(0.5) * generator.standard_normal((*shape, 1), np.float32)
    blots = blots + np.float32(0.7) * generator.standard_normal((*shape, 3), np.float32)
    cos, sin, middle = np.cos(turn), np.sin(turn), SIZE / 2
    move = np.array([[cos / width, sin / width, 0], [-sin / height, cos / height, 0]], np.float32)
    move[:, 2] = np.array(shape[::-1]) / 2 - move[:, :2].sum(1) * middle
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    field = cv2.warpAffine(blots, move, (SIZE, SIZE), flags=flags, borderMode=cv2.BORDER_REFLECT)
    return field * np.float32(strength)


def _relief(thing: Thing, x0: int, y0: int, shape: tuple[int, ...]) -> Float[np.ndarray, "h w"]:
    turn = thing.angle + thing.grain_angle
    cos, sin = np.cos(turn) / thing.grain, np.sin(turn) / thing.grain
    x, y = x0 - thing.x, y0 - thing.y
    # The middle of the tile is the middle of the thing.
    move = np.array([[cos, sin, cos * x + sin * y + TILE / 2], [-sin, cos, cos * y - sin * x + TILE / 2]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(surface(thing.kind), move, shape[::-1], flags=flags, borderMode=cv2.BORDER_WRAP)


def _coverage(polygon: Float[np.ndarray, "points 2"], width: int, height: int) -> Float[np.ndarray, "h w"]:
    fine = np.zeros((height * OVERSAMPLING, width * OVERSAMPLING), np.uint8)
    # OpenCV puts pixel centres at integers and its fill includes the border pixels; the shift undoes the first.
    corners = np.round((polygon * OVERSAMPLING - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(fine, [corners], 255, cv2.LINE_8, 4)
    return cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)


def _body_paint(thing: Thing, x: Float[np.ndarray, "h w"], y: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 3"]:
    """The object's colour in its pattern; the second colour is near white, or grey on a white object."""
    base = np.array(COLOURS[thing.colour], np.float32)
    if thing.pattern == "solid":
        return np.broadcast_to(base, (*x.shape, 3)).copy()
    other = np.array((150, 152, 158) if thing.colour == "white" else (243, 241, 235), np.float32)
    turn = thing.angle + thing.pattern_angle
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    period = np.float32(thing.pattern_scale)
    u, v = (x * cos + y * sin) / period, (y * cos - x * sin) / period
    if thing.pattern == "striped":
        depth = np.abs(u - np.floor(u) - 0.5) - 0.25
    elif thing.pattern == "dotted":
        depth = 0.29 - np.hypot(u - np.floor(u) - 0.5, v - np.floor(v) - 0.5)
    else:
        depth = np.float32(0.5) * np.sin(np.pi * 1.5 * u) * np.sin(np.pi * 1.5 * v)
    weight = np.clip(depth * period + np.float32(0.5), 0, 1)
    return base + (other - base) * weight[..., None]


def _cast_shadow(area: np.ndarray, alpha: Float[np.ndarray, "h w"], radius: float, light_angle: float) -> None:
    shift = 0.08 * radius
    move = np.array([[1, 0, -shift * np.cos(light_angle)], [0, 1, -shift * np.sin(light_angle)]], np.float32)
    size = int(0.09 * radius) * 2 + 1
    shadow = cv2.GaussianBlur(cv2.warpAffine(alpha, move, alpha.shape[::-1]), (size, size), 0)
    area *= (1 - np.float32(0.42) * shadow)[..., None]
