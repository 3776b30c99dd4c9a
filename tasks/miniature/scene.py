"""The scene graph: what is where. Scene i of a split is the same on every machine, in any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from tasks.miniature.vocabulary import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT,
    KINDS,
    OPTIONAL_PARTS,
    PARTS_OF,
    PATTERNS,
    SIZE,
    SPLITS,
    WORLD_SEED,
)

RADIUS: Final = (46.0, 88.0)
"""Half the size of a single object, in pixels."""
SHARED_RADIUS: Final = (0.38, 0.48)
"""Half the size of one of several objects, as a share of its cell."""
ANGLE: Final = 0.6
"""Maximum rotation of an object to either side, in radians."""
SQUEEZE: Final = 0.52
"""Minimum width or height, relative to the polygons in ``tasks.miniature.shapes``."""
BEND: Final = 0.28
"""Maximum amplitude of the waves that bend an outline, relative to its radius."""
GRAIN: Final = (0.8, 1.05)
"""Scale of the surfaces' relief, relative to the tiles in ``tasks.miniature.surfaces``."""


@dataclass(frozen=True)
class Thing:
    """One foreground object.

    Attributes:
        kind: One of ``KINDS``.
        x: Centre, in pixels of a 224-px frame.
        y: Centre, in pixels.
        radius: Half its size, in pixels: no point of it is farther from the centre.
        angle: Rotation in radians.
        pattern_scale: Period of the pattern in pixels.
        pattern_angle: Direction of the pattern in radians, in the object's own frame.
        squeeze: Factors in (0, 1] by which the outline is narrowed along the object's own axes.
        bend: Amplitude of the bending of the outline, as a share of the radius.
        waves: Phases in radians of the waves that bend it, see ``tasks.miniature.shapes.bent``.
        trim: Lightness from 0 to 1 of each paint of its parts; empty for their default paints.
        grain: Period of the surface's relief, as a factor of the default.
        grain_angle: Rotation of the relief in radians, in the object's own frame.
    """

    kind: str
    colour: str
    pattern: str
    parts: tuple[str, ...]
    x: float
    y: float
    radius: float
    angle: float
    pattern_scale: float
    pattern_angle: float
    squeeze: tuple[float, float] = (1.0, 1.0)
    bend: float = 0.0
    waves: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    trim: tuple[float, ...] = ()
    grain: float = 1.0
    grain_angle: float = 0.0


@dataclass(frozen=True)
class Scene:
    """A background and one or two objects; ``seed`` determines the background's texture."""

    background: str
    things: tuple[Thing, ...]
    light: float
    light_angle: float
    seed: int

    @property
    def concepts(self) -> frozenset[str]:
        """All concepts that the scene shows."""
        names = {self.background}
        for thing in self.things:
            names |= {thing.kind, thing.colour, thing.pattern, *thing.parts}
        return frozenset(names)


@dataclass(frozen=True)
class Wish:
    """Required attributes of an object; missing ones are drawn at random."""

    kind: str | None = None
    colour: str | None = None
    pattern: str | None = None
    parts: frozenset[str] = field(default_factory=frozenset)


def draw_scene(
    generator: np.random.Generator,
    *,
    background: str | None = None,
    wishes: Sequence[Wish] | None = None,
    held_out: bool = True,
) -> Scene:
    """Draw a scene.

    Args:
        generator: The only source of randomness.
        background: Fixed background, or any.
        wishes: One entry per object; None draws one or two unconstrained objects.
        held_out: Whether held-out combinations may occur (never in the train split).

    Raises:
        ValueError: The wishes cannot be met: none at all, one kind twice, parts that no free kind has together, or a
            held-out combination where none may occur.
    """
    if wishes is None:
        wishes = [Wish()] * (1 if generator.random() < 0.5 else 2)
    _check_wishes(wishes, held_out)
    taken: set[str] = {wish.kind for wish in wishes if wish.kind}
    attributes: list[Mapping[str, str]] = []
    for wish in wishes:
        drawn = _draw_attributes(generator, wish, taken, held_out)
        taken.add(drawn["kind"])
        attributes.append(drawn)
    places = _draw_places(generator, len(attributes))
    things = tuple(
        _draw_thing(generator, drawn, place, wish.parts)
        for drawn, place, wish in zip(attributes, places, wishes, strict=True)
    )
    return Scene(
        background=background or str(generator.choice(BACKGROUNDS)),
        things=things,
        light=float(generator.uniform(0.86, 1.08)),
        light_angle=float(generator.uniform(0, 2 * np.pi)),
        seed=int(generator.integers(2**32)),
    )


def scene_at(split: str, number: int) -> Scene:
    """Scene ``number`` of a split.

    Args:
        split: ``train``, ``probe`` or ``test``.
        number: In [0, 10,000,000), so that no scene belongs to two splits.

    Raises:
        KeyError: An unknown split.
        ValueError: A number outside the split.
    """
    if not 0 <= number < SPLITS["probe"]:
        raise ValueError(f"a split has the scenes 0 to {SPLITS['probe'] - 1}, not {number}")
    index = SPLITS[split] + number
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([WORLD_SEED, index])))
    return draw_scene(generator, held_out=split != "train")


def _check_wishes(wishes: Sequence[Wish], held_out: bool) -> None:
    kinds = [wish.kind for wish in wishes if wish.kind]
    if not wishes or len(set(kinds)) < len(kinds):
        raise ValueError(f"a scene has at least one object, and no kind twice, but the wishes are {list(wishes)}")
    for wish in wishes:
        if wish.kind and not wish.parts <= set(PARTS_OF.get(wish.kind, ())):
            raise ValueError(f"a {wish.kind} has no {' and no '.join(sorted(wish.parts))}")
        if not held_out and {(wish.colour, wish.kind), (wish.pattern, wish.kind)} & set(HELD_OUT):
            raise ValueError(f"{wish} is held out of the train split")


def _draw_attributes(generator: np.random.Generator, wish: Wish, taken: set[str], held_out: bool) -> Mapping[str, str]:
    owners = [kind for kind in KINDS if kind not in taken and wish.parts <= set(PARTS_OF.get(kind, ()))]
    if not (wish.kind or owners):
        raise ValueError(f"no kind that is still free has all of {', '.join(sorted(wish.parts)) or 'no parts'}")
    while True:
        drawn = {
            "kind": wish.kind or str(generator.choice(owners)),
            "colour": wish.colour or str(generator.choice(list(COLOURS))),
            "pattern": wish.pattern or str(generator.choice(PATTERNS)),
        }
        seen = {(drawn["colour"], drawn["kind"]), (drawn["pattern"], drawn["kind"])}
        if held_out or not seen & set(HELD_OUT):
            return drawn


def _draw_places(generator: np.random.Generator, count: int) -> list[tuple[float, float, float]]:
    if count == 1:
        radius = generator.uniform(*RADIUS)
        margin = radius + 5
        return [(*generator.uniform(margin, SIZE - margin, size=2), radius)]
    # Several objects share the frame along a random axis, each in its own cell, so that none hides another.
    cell = SIZE / count
    flip = generator.random() < 0.5
    places = []
    for number in range(count):
        radius = generator.uniform(*SHARED_RADIUS) * cell
        along = cell * number + generator.uniform(radius + 2, cell - radius - 2)
        across = generator.uniform(radius + 5, SIZE - radius - 5)
        places.append((across, along, radius) if flip else (along, across, radius))
    order = generator.permutation(count)
    return [places[int(number)] for number in order]


def _draw_squeeze(generator: np.random.Generator) -> tuple[float, float]:
    factor = float(generator.uniform(SQUEEZE, 1))
    return (factor, 1.0) if generator.random() < 0.5 else (1.0, factor)


def _draw_waves(generator: np.random.Generator) -> tuple[float, float, float, float]:
    a, b, c, d = generator.uniform(0, 2 * np.pi, size=4).tolist()
    return a, b, c, d


def _draw_thing(
    generator: np.random.Generator, drawn: Mapping[str, str], place: tuple[float, float, float], wanted: frozenset[str]
) -> Thing:
    parts = tuple(
        part
        for part in PARTS_OF.get(drawn["kind"], ())
        # The draw is made for every part, requested or not, so that a wish changes nothing but the parts it names.
        if (generator.random() < 0.65) or part in wanted or part not in OPTIONAL_PARTS
    )
    x, y, radius = (float(value) for value in place)
    return Thing(
        kind=drawn["kind"],
        colour=drawn["colour"],
        pattern=drawn["pattern"],
        parts=parts,
        x=x,
        y=y,
        radius=radius,
        angle=float(generator.uniform(-ANGLE, ANGLE)),
        pattern_scale=float(generator.uniform(0.26, 0.4) * radius + 4),
        pattern_angle=float(generator.uniform(0, np.pi)),
        squeeze=_draw_squeeze(generator),
        bend=float(generator.uniform(0, BEND)),
        waves=_draw_waves(generator),
        trim=tuple(generator.random(3).tolist()),
        grain=float(generator.uniform(*GRAIN)),
        grain_angle=float(generator.uniform(-0.3, 0.3)),
    )
