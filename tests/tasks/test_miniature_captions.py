"""Captions: what they claim is true of their scene, stands in the text, and is false of scenes that lack it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tasks.miniature.captions import describe, draw_caption, full_caption, holds, with_article
from tasks.miniature.scene import scene_at
from tasks.miniature.vocabulary import BACKGROUNDS, CATEGORY_OF, COLOURS, CONCEPTS, KINDS, PATTERNS


def some_scenes(count=120, split="train"):
    return [scene_at(split, number) for number in range(count)]


def drawn_captions(scene, count=12, seed=0):
    generator = np.random.default_rng(seed)
    return [draw_caption(scene, generator) for _ in range(count)]


def names_in(text):
    """The concepts whose words stand in a text."""
    return {name for name in CONCEPTS if re.search(rf"\b{name}\b", text)}


def test_every_caption_holds_for_its_own_scene():
    for number, scene in enumerate(some_scenes()):
        for text, claims in drawn_captions(scene, seed=number):
            assert holds(claims, scene), text
            assert claims <= scene.concepts


def test_claims_are_exactly_the_concepts_that_the_text_names():
    for number, scene in enumerate(some_scenes()):
        for text, claims in drawn_captions(scene, seed=number):
            assert claims
            assert names_in(text) == claims, text


def test_a_claim_that_the_scene_lacks_makes_the_caption_false():
    scenes = some_scenes(40)
    for number, scene in enumerate(scenes):
        for text, claims in drawn_captions(scene, 4, number):
            for other in scenes:
                truth = any(
                    claims <= {other.background, thing.kind, thing.colour, thing.pattern, *thing.parts}
                    for thing in other.things
                )
                assert holds(claims, other) == truth, text
                if not claims <= other.concepts:
                    assert not holds(claims, other)


def test_claims_must_hold_for_one_object_together():
    scene = next(s for s in some_scenes() if len(s.things) == 2 and s.things[0].colour != s.things[1].colour)
    one, two = scene.things
    assert holds(frozenset({one.kind, one.colour, scene.background}), scene)
    assert not holds(frozenset({one.kind, two.colour}), scene)
    assert holds(frozenset({scene.background}), scene)
    assert not holds(frozenset({next(name for name in BACKGROUNDS if name != scene.background)}), scene)


def test_all_sorts_of_captions_are_drawn():
    claimed, sizes = Counter(), Counter()
    for number, scene in enumerate(some_scenes(300)):
        for _, claims in drawn_captions(scene, 4, number):
            claimed.update(claims)
            sizes[len(claims)] += 1
    assert set(claimed) == set(CONCEPTS)
    assert {1, 2, 3, 4} <= set(sizes)
    assert Counter(CATEGORY_OF[name] for name in claimed.elements()).keys() == {
        "object",
        "part",
        "color",
        "texture",
        "scene",
    }


def test_drawing_is_repeatable():
    scene = scene_at("train", 5)
    assert drawn_captions(scene, seed=3) == drawn_captions(scene, seed=3)
    assert drawn_captions(scene, seed=3) != drawn_captions(scene, seed=4)


def test_the_full_caption_names_every_object_from_left_to_right():
    for scene in some_scenes(80):
        text = full_caption(scene)
        assert names_in(text) == {scene.background} | {
            name for thing in scene.things for name in (thing.kind, thing.colour, thing.pattern)
        }
        places = [text.index(describe(thing)) for thing in sorted(scene.things, key=lambda thing: thing.x)]
        assert places == sorted(places)
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|  ", text)


def test_wordings_of_full_captions():
    scene = scene_at("train", 0)
    thing = replace(scene.things[0], kind="umbrella", colour="orange", pattern="solid", x=10)
    other = replace(thing, kind="fish", colour="red", pattern="striped", x=200)
    shown = replace(scene, background="sandy beach", things=(other, thing))
    assert full_caption(shown) == "a solid orange umbrella and a red striped fish on a sandy beach"
    alone = replace(scene, background="cloudy sky", things=(replace(thing, pattern="dotted"),))
    assert full_caption(alone) == "an orange dotted umbrella in a cloudy sky"


def test_full_captions_of_different_attributes_differ():
    base = scene_at("train", 0)
    thing = base.things[0]
    texts = {
        full_caption(replace(base, background=background, things=(replace(thing, kind=k, colour=c, pattern=p),)))
        for background in BACKGROUNDS
        for k in KINDS
        for c in COLOURS
        for p in PATTERNS
    }
    assert len(texts) == len(BACKGROUNDS) * len(KINDS) * len(COLOURS) * len(PATTERNS)


@pytest.mark.parametrize(
    ("words", "expected"), [("eye", "an eye"), ("red fish", "a red fish"), ("umbrella", "an umbrella")]
)
def test_articles(words, expected):
    assert with_article(words) == expected
