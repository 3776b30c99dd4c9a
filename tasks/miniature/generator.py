"""The renderer as image generator: it draws what the words of a concept fix, and leaves the rest to chance."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from tasks.images import to_tensor
from tasks.miniature.render import render
from tasks.miniature.scene import Scene, Wish, draw_scene
from tasks.miniature.vocabulary import (
    CATEGORY_OF,
    CONCEPTS,
    KINDS,
    PARTS_OF,
    SYNONYMS,
)
from tasks.seeding import generator as seeded


@dataclass
class Reading:
    """What a text fixes.

    Attributes:
        background: The background, if it names one.
        wishes: One entry an object that it speaks of; empty if it speaks of none.
        known: Whether any word belongs to the world.
    """

    background: str | None = None
    wishes: list[Wish] = field(default_factory=list)
    known: bool = False


class RenderingGenerator:
    """Draws images of a concept; a text without any word of the world gives random scenes, and is counted.

    Attributes:
        unknown: How many different texts had no word of the world.
    """

    def __init__(self) -> None:
        self._unknown: set[str] = set()

    @property
    def unknown(self) -> int:
        """How many different texts had no word of the world."""
        return len(self._unknown)

    def generate(
        self, concept: str, count: int, seed: int, template: str = "{concept}"
    ) -> UInt8[Tensor, "count 3 224 224"]:
        """Draw images; the prompt template is for generators that read prompts and is left aside here."""
        del template
        reading = read_concept(concept)
        if not reading.known:
            self._unknown.add(concept)
        scenes = [_draw(reading, seeded(seed, "generate", concept, number)) for number in range(count)]
        with ThreadPoolExecutor(2) as threads:
            return to_tensor(np.stack([item.image for item in threads.map(render, scenes)])).contiguous()


def read_concept(text: str) -> Reading:
    """Read the world's words out of a text, left to right.

    Colours, patterns and parts belong to the object named after them (or, at the end, to the last one); words that the
    world does not know are passed over.
    """
    reading = Reading()
    pending: dict[str, str] = {}
    parts: set[str] = set()
    for name in _known_names(text):
        reading.known = True
        category = CATEGORY_OF[name]
        if category == "scene":
            reading.background = name
        elif category == "part":
            parts.add(name)
        elif category == "object":
            reading.wishes.append(Wish(name, pending.pop("color", None), pending.pop("texture", None)))
        else:
            pending[category] = name
    if pending or parts:
        _attach(reading, pending, parts)
    kinds: dict[str, Wish] = {wish.kind: wish for wish in reading.wishes if wish.kind}
    free = [wish for wish in reading.wishes if not wish.kind]
    reading.wishes = [*kinds.values(), *free][:2]
    return reading


def _attach(reading: Reading, pending: Mapping[str, str], parts: set[str]) -> None:
    """Give left-over attributes to the last object, and each part to an object that can have it."""
    owner = next((n for n, w in enumerate(reading.wishes) if parts & set(PARTS_OF.get(w.kind or "", ()))), None)
    if owner is None and (not reading.wishes or parts):
        fitting = [kind for kind in KINDS if parts <= set(PARTS_OF.get(kind, ()))]
        reading.wishes.append(Wish(parts=frozenset(parts if fitting else ())))
        owner = len(reading.wishes) - 1
    elif owner is None:
        owner = len(reading.wishes) - 1
    wish = reading.wishes[owner]
    allowed = parts if wish.kind is None else parts & set(PARTS_OF.get(wish.kind, ()))
    reading.wishes[owner] = Wish(
        kind=wish.kind,
        colour=wish.colour or pending.get("color"),
        pattern=wish.pattern or pending.get("texture"),
        parts=wish.parts if wish.kind is None else frozenset(allowed),
    )


def _draw(reading: Reading, generator: np.random.Generator) -> Scene:
    return draw_scene(generator, background=reading.background, wishes=reading.wishes or None)


def _phrases() -> dict[tuple[str, ...], str]:
    table = {}
    for concept in CONCEPTS:
        for phrase in (concept, concept + "s", *SYNONYMS.get(concept, ())):
            table.setdefault(tuple(phrase.split()), concept)
    return table


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
