"""Captions of a scene, in several wordings and at several levels of detail, each exactly true."""

from __future__ import annotations

import numpy as np

from tasks.miniature.scene import Scene, Thing

_PLACES = {
    "cloudy sky": "in a cloudy sky",
    "grassy lawn": "on a grassy lawn",
    "sandy beach": "on a sandy beach",
    "brick wall": "on a brick wall",
    "rippling water": "on rippling water",
    "wooden planks": "on wooden planks",
    "starry night": "in a starry night",
}


def with_article(words: str) -> str:
    """Put "a" or "an" before words."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def full_caption(scene: Scene, mirrored: bool = False) -> str:
    """A full description, from left to right, e.g. ``a red striped fish and a solid blue car on a sandy beach``."""
    things = sorted(scene.things, key=lambda thing: thing.x, reverse=mirrored)
    return f"{' and '.join(with_article(describe(thing)) for thing in things)} {_PLACES[scene.background]}"


def describe(thing: Thing) -> str:
    """Colour, pattern and kind of one object."""
    if thing.pattern == "solid":
        return f"solid {thing.colour} {thing.kind}"
    return f"{thing.colour} {thing.pattern} {thing.kind}"


def draw_caption(scene: Scene, generator: np.random.Generator) -> tuple[str, frozenset[str]]:
    """Draw a caption that describes some of the scene.

    Returns:
        The caption, and the concepts that it claims of *one* object (or of the background): if they do not all hold
        together for a scene, the caption is false of it.
    """
    thing = scene.things[int(generator.integers(len(scene.things)))]
    choice = generator.random()
    if choice < 0.22 and len(scene.things) == 1:
        claims = {thing.kind, thing.colour, thing.pattern, scene.background}
        return full_caption(scene), frozenset(claims)
    if choice < 0.34:
        return _background_only(scene, generator), frozenset({scene.background})
    chosen = [
        (name, keep)
        for name, keep in (
            (thing.pattern, generator.random() < 0.5),
            (thing.colour, generator.random() < 0.5),
            (thing.kind, generator.random() < 0.55),
        )
        if keep
    ] or [((thing.colour, thing.pattern, thing.kind)[int(generator.integers(3))], True)]
    claims = {name for name, _ in chosen}
    words = [name for name in (thing.colour, thing.pattern) if name in claims]
    if thing.pattern == "solid":
        words.reverse()
    noun = thing.kind if thing.kind in claims else ("thing" if generator.random() < 0.5 else "")
    text = " ".join([*words, *([noun] if noun else [])])
    if thing.kind in claims and thing.parts and generator.random() < 0.3:
        part = thing.parts[int(generator.integers(len(thing.parts)))]
        claims.add(part)
        text = f"{text} with {with_article(part)}"
    elif thing.parts and generator.random() < 0.12:
        part = thing.parts[int(generator.integers(len(thing.parts)))]
        claims, text = {part}, part
    if generator.random() < 0.5:
        text = with_article(text)
    if generator.random() < 0.25:
        claims.add(scene.background)
        text = f"{text} {_PLACES[scene.background]}"
    return text, frozenset(claims)


def holds(claims: frozenset[str], scene: Scene) -> bool:
    """Whether a caption's claims hold for a scene: the background's, and all others together for one object."""
    rest = claims - {scene.background}
    return not rest or any(rest <= {thing.kind, thing.colour, thing.pattern, *thing.parts} for thing in scene.things)


def _background_only(scene: Scene, generator: np.random.Generator) -> str:
    wordings = (scene.background, with_article(scene.background), f"something {_PLACES[scene.background]}")
    return wordings[int(generator.integers(len(wordings)))]
