"""The renderer as image generator: it draws what the words of a concept determine, and the rest at random."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from tasks.common.images import to_tensor
from tasks.common.seeding import generator as seeded
from tasks.miniature.render import render
from tasks.miniature.scene import Scene, Wish, draw_scene
from tasks.miniature.vocabulary import CATEGORY_OF, CONCEPTS, KINDS, PARTS_OF, SIZE, SYNONYMS

MOST_OBJECTS: Final = 2
"""Maximum number of objects in a scene."""


@dataclass
class Reading:
    """What a text determines.

    Attributes:
        background: The background, if it names one.
        wishes: One entry per object that it mentions; empty if it mentions none.
        known: Whether any word belongs to the vocabulary.
    """

    background: str | None = None
    wishes: list[Wish] = field(default_factory=list)
    known: bool = False


class RenderingGenerator:
    """Renders images of a concept; a text without any known word gives random scenes, and is counted."""

    def __init__(self) -> None:
        self._unknown: set[str] = set()

    @property
    def unknown(self) -> int:
        """Number of distinct texts without a known word."""
        return len(self._unknown)

    def read(self, concept: str) -> Reading:
        """What a text determines; one that determines nothing is counted."""
        reading = read_concept(concept)
        if not reading.known:
            self._unknown.add(concept)
        return reading

    def generate(
        self, concept: str, count: int, seed: int, template: str = "{concept}", first: int = 0
    ) -> UInt8[Tensor, "count 3 224 224"]:
        """Render images; the prompt template is for generators that read prompts and is ignored here.

        Args:
            concept: See ``read_concept``.
            count: Number of images, 0 or more.
            seed: At least 0; image i depends on (concept, seed, i) alone.
            template: Not used.
            first: Number of the first image.

        Returns:
            uint8 [count, 3, 224, 224].
        """
        del template
        reading = self.read(concept)
        scenes = [_draw(reading, seeded(seed, "generate", concept, number)) for number in range(first, first + count)]
        images = np.empty((count, SIZE, SIZE, 3), np.uint8)
        with ThreadPoolExecutor(2) as threads:
            for number, drawn in enumerate(threads.map(render, scenes)):
                images[number] = drawn.image
        return to_tensor(images).contiguous()


def read_concept(text: str) -> Reading:
    """Parse the vocabulary's words in a text, left to right.

    Colours and patterns belong to the object named after them or, at the end, to the last one that has none yet; a
    second colour (pattern) for one object means another object. Parts go to a named object that can have them, else to
    objects of their own. Of more than two objects the named kinds come first, and the rest is ignored, as are unknown
    words.
    """
    reading = Reading()
    wishes: list[Wish] = []
    pending: dict[str, str] = {}
    parts: list[str] = []
    for name in _known_names(text):
        reading.known = True
        category = CATEGORY_OF[name]
        if category == "scene":
            reading.background = name
        elif category == "part":
            parts.append(name)
        elif category == "object":
            _name_object(wishes, name, pending)
            pending = {}
        else:
            if pending.get(category, name) != name:
                wishes.append(_wish(None, pending))
                pending = {}
            pending[category] = name
    _share_parts(wishes, parts)
    if pending:
        _attach(wishes, pending)
    # Kinds before objects of any kind, and among those the ones with parts first, which few kinds can have.
    reading.wishes = sorted(wishes, key=lambda wish: 0 if wish.kind else 1 if wish.parts else 2)[:MOST_OBJECTS]
    return reading


def _wish(kind: str | None, attributes: Mapping[str, str]) -> Wish:
    return Wish(kind, attributes.get("color"), attributes.get("texture"))


def _agrees(wish: Wish, attributes: Mapping[str, str]) -> bool:
    """Whether a wish has no conflicting attributes."""
    own = {"color": wish.colour, "texture": wish.pattern}
    return all(own[category] in (None, name) for category, name in attributes.items())


def _name_object(wishes: list[Wish], kind: str, attributes: Mapping[str, str]) -> None:
    """Add a kind; the objects of a scene differ in kind, so a kind named twice is one object if that is possible."""
    place = next((number for number, wish in enumerate(wishes) if wish.kind == kind), None)
    if place is None:
        wishes.append(_wish(kind, attributes))
    elif _agrees(wishes[place], attributes):
        wishes[place] = _with(wishes[place], attributes)
    else:
        wishes.append(_wish(None, attributes))


def _with(wish: Wish, attributes: Mapping[str, str]) -> Wish:
    return replace(
        wish,
        colour=attributes.get("color", wish.colour),
        pattern=attributes.get("texture", wish.pattern),
    )


def _share_parts(wishes: list[Wish], parts: Sequence[str]) -> None:
    """Give each part to the first named object that can have it, and the rest to as few other objects as possible."""
    rest = dict.fromkeys(parts)
    for place, wish in enumerate(wishes):
        own = rest.keys() & PARTS_OF.get(wish.kind or "", ())
        wishes[place] = replace(wish, parts=frozenset(own))
        rest = {part: None for part in rest if part not in own}
    while rest:
        group = max((rest.keys() & PARTS_OF.get(kind, ()) for kind in KINDS), key=len)
        wishes.append(Wish(parts=frozenset(group)))
        rest = {part: None for part in rest if part not in group}


def _attach(wishes: list[Wish], attributes: Mapping[str, str]) -> None:
    """Give left-over attributes to the last object without any."""
    for place in reversed(range(len(wishes))):
        if _agrees(wishes[place], attributes):
            wishes[place] = _with(wishes[place], attributes)
            return
    wishes.append(_wish(None, attributes))


def _draw(reading: Reading, generator: np.random.Generator) -> Scene:
    return draw_scene(generator, background=reading.background, wishes=reading.wishes or None)


def _phrases() -> dict[tuple[str, ...], str]:
    table: dict[tuple[str, ...], str] = {}
    for concept in CONCEPTS:
        names = (concept, *SYNONYMS.get(concept, ()))
        # "woods" are no planks: only things have a plural.
        countable = names if CATEGORY_OF[concept] in ("object", "part") else ()
        for phrase in (*names, *map(_plural, countable)):
            table.setdefault(tuple(phrase.split()), concept)
    return table


def _plural(name: str) -> str:
    if name == "leaf":
        return "leaves"
    return name + ("es" if name.endswith(("s", "sh", "ch")) else "s")


_TABLE = _phrases()
_LONGEST = max(len(words) for words in _TABLE)


def _known_names(text: str) -> Sequence[str]:
    words = re.findall(r"[a-z]+", text.lower())
    names, place = [], 0
    while place < len(words):
        for length in range(_LONGEST, 0, -1):
            name = _TABLE.get(tuple(words[place : place + length]))
            if name is not None:
                names.append(name)
                place += length
                break
        else:
            place += 1
    return names
