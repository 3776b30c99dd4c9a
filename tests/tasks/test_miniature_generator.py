"""The renderer as image generator: it shows what the words ask for, and counts texts that it cannot read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tasks.miniature import generator as module
from tasks.miniature.generator import Reading, RenderingGenerator, read_concept
from tasks.miniature.render import render
from tasks.miniature.scene import Wish
from tasks.miniature.vocabulary import (
    BACKGROUNDS,
    COLOURS,
    CONCEPTS,
    KINDS,
    PARTS,
    PARTS_OF,
    PATTERNS,
    SYNONYMS,
)
from tasks.roles import ImageGenerator


class Scenes:
    """Stands for the renderer: collects the scene graphs that a generator draws, and paints them as one flat colour."""

    def __init__(self, monkeypatch):
        self.scenes = []
        monkeypatch.setattr(module, "render", self)

    def __call__(self, scene):
        self.scenes.append(scene)
        return Flat()


class Flat:
    image = np.zeros((224, 224, 3), np.uint8)


@pytest.fixture
def scenes_of(monkeypatch):
    scenes = Scenes(monkeypatch)

    def of(concept, count=6, seed=0):
        scenes.scenes = []
        RenderingGenerator().generate(concept, count, seed)
        return scenes.scenes

    return of


def shows(scene, wish):
    return any(
        wish.kind in (None, thing.kind)
        and wish.colour in (None, thing.colour)
        and wish.pattern in (None, thing.pattern)
        and wish.parts <= set(thing.parts)
        for thing in scene.things
    )


def draw(text, count=3, seed=0):
    reading = read_concept(text)
    return [module._draw(reading, np.random.default_rng([seed, number])) for number in range(count)]


objects = st.builds(
    lambda kind, colour, pattern, part: (kind, colour, pattern, part),
    st.sampled_from(KINDS),
    st.none() | st.sampled_from(list(COLOURS)),
    st.none() | st.sampled_from(PATTERNS),
    st.integers(-1, 2),
)


@given(
    st.lists(objects, min_size=1, max_size=2, unique_by=lambda item: item[0]), st.none() | st.sampled_from(BACKGROUNDS)
)
@settings(max_examples=120, deadline=None)
def test_every_described_object_is_drawn(described, background):
    words, wishes = [], []
    for kind, colour, pattern, part in described:
        parts = PARTS_OF.get(kind, ())
        chosen = parts[part] if 0 <= part < len(parts) else None
        # With two objects a part could as well belong to the other one.
        assume(chosen is None or sum(chosen in PARTS_OF.get(other[0], ()) for other in described) == 1)
        words.append(" ".join(word for word in (colour, pattern, kind, chosen and f"with {chosen}") if word))
        wishes.append(Wish(kind, colour, pattern, frozenset([chosen] if chosen else [])))
    text = " and ".join(words) + (f" on {background}" if background else "")
    reading = read_concept(text)
    assert reading.known
    assert reading.wishes == wishes
    for scene in draw(text):
        assert len(scene.things) == len(described)
        assert all(shows(scene, wish) for wish in wishes)
        assert background in (None, scene.background)


@given(
    st.sets(st.sampled_from(list(COLOURS)), max_size=1),
    st.sets(st.sampled_from(PATTERNS), max_size=1),
    st.sets(st.sampled_from(KINDS), max_size=1),
    st.sets(st.sampled_from(PARTS), max_size=1),
    st.sets(st.sampled_from(BACKGROUNDS), max_size=1),
    st.randoms(use_true_random=False),
)
@settings(max_examples=150, deadline=None)
def test_one_word_of_each_sort_in_any_order_is_always_shown(colours, patterns, kinds, parts, backgrounds, random):
    words = [*colours, *patterns, *kinds, *parts, *backgrounds]
    random.shuffle(words)
    for scene in draw(" ".join(words)):
        assert set(words) <= scene.concepts, words


@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=2), st.sampled_from(["", "red", "striped"]))
@settings(max_examples=80, deadline=None)
def test_two_parts_are_shown_even_if_no_kind_has_both(parts, more):
    text = " ".join([*parts, more])
    for scene in draw(text):
        assert set(text.split()) <= scene.concepts, text


@given(st.text(max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_text_can_be_read_and_drawn(text):
    reading = read_concept(text)
    assert len(reading.wishes) <= 2
    assert reading.known or reading == Reading()
    assert draw(text, 1)


@given(st.lists(st.sampled_from(CONCEPTS), min_size=1, max_size=7))
@settings(max_examples=150, deadline=None)
def test_any_words_of_the_world_can_be_drawn(words):
    text = " ".join(words)
    wishes = read_concept(text).wishes
    for scene in draw(text, 2):
        assert all(shows(scene, wish) for wish in wishes)
        named = [word for word in words if word in BACKGROUNDS]
        assert not named or scene.background == named[-1]


@pytest.mark.parametrize(
    ("text", "background", "wishes"),
    [
        ("fish", None, [Wish("fish")]),
        ("a red striped fish on a sandy beach", "sandy beach", [Wish("fish", "red", "striped")]),
        ("solid blue car and a green tree", None, [Wish("car", "blue", "solid"), Wish("tree", "green")]),
        ("fish, red", None, [Wish("fish", "red")]),
        ("red fish, blue", None, [Wish("fish", "red"), Wish(colour="blue")]),
        ("red and blue", None, [Wish(colour="red"), Wish(colour="blue")]),
        (
            "fish and a boat with a sail and an eye",
            None,
            [Wish("fish", parts=frozenset({"eye"})), Wish("boat", parts=frozenset({"sail"}))],
        ),
        ("wheels", None, [Wish(parts=frozenset({"wheel"}))]),
        ("roof wheel", None, [Wish(parts=frozenset({"roof"})), Wish(parts=frozenset({"wheel"}))]),
        ("red wheel", None, [Wish(colour="red", parts=frozenset({"wheel"}))]),
        ("red fish, striped fish", None, [Wish("fish", "red", "striped")]),
        ("red fish, blue fish", None, [Wish("fish", "red"), Wish(colour="blue")]),
        ("fish house car", None, [Wish("fish"), Wish("house")]),
        ("red blue fish boat", None, [Wish("fish", "blue"), Wish("boat")]),
        ("night sky", "starry night", []),
        ("Polka-Dots", None, [Wish(pattern="dotted")]),
        ("two leaves and houses", None, [Wish("leaf"), Wish("house")]),
        ("ships and fishes", None, [Wish("boat"), Wish("fish")]),
        ("the woods", None, []),
    ],
)
def test_readings(text, background, wishes):
    reading = read_concept(text)
    assert (reading.background, reading.wishes) == (background, wishes)


@pytest.mark.parametrize("concept", SYNONYMS)
def test_synonyms_are_drawn_as_their_concept(concept):
    for synonym in SYNONYMS[concept]:
        for scene in draw(synonym):
            assert concept in scene.concepts, synonym


def test_what_the_words_leave_open_is_drawn_at_random(scenes_of):
    scenes = scenes_of("red fish", 60)
    assert all(len(scene.things) == 1 for scene in scenes)
    assert {scene.background for scene in scenes} == set(BACKGROUNDS)
    assert {scene.things[0].pattern for scene in scenes} == set(PATTERNS)
    assert len(scenes) == len({(scene.things[0].x, scene.things[0].y) for scene in scenes})


def test_unknown_texts_are_counted_once_and_drawn_as_random_scenes(scenes_of):
    scenes = scenes_of("quantum xylophone", 40)
    assert len({scene.background for scene in scenes}) >= 5
    assert len({thing.kind for scene in scenes for thing in scene.things}) >= 8
    generator = RenderingGenerator()
    for text in ("zebra", "zebra", "", "red zebra", "quantum xylophone", "sandy beach"):
        generator.generate(text, 1, 0)
    assert generator.unknown == 3


def test_the_same_address_gives_the_same_pixels_and_another_seed_others():
    generator = RenderingGenerator()
    first = generator.generate("red fish", 3, 5)
    assert first.shape == (3, 3, 224, 224)
    assert first.dtype == torch.uint8
    assert first.is_contiguous()
    assert torch.equal(first, RenderingGenerator().generate("red fish", 3, 5, template="a photo of {concept}"))
    assert torch.equal(first[:2], generator.generate("red fish", 2, 5))
    assert torch.equal(first[1:], generator.generate("red fish", 2, 5, first=1))
    changed = (first != generator.generate("red fish", 3, 6)).flatten(1).float().mean(1)
    assert changed.min() > 0.3
    assert not torch.equal(first, generator.generate("fish red", 3, 5))


def test_the_images_are_the_renderings_of_the_scenes(monkeypatch):
    scenes = Scenes(monkeypatch)
    RenderingGenerator().generate("a dotted house", 2, 1)
    monkeypatch.undo()
    images = RenderingGenerator().generate("a dotted house", 2, 1)
    # Two threads may begin in either order.
    drawn = {render(scene).image.tobytes() for scene in scenes.scenes}
    assert drawn == {image.permute(1, 2, 0).contiguous().numpy().tobytes() for image in images}


def test_no_images_are_an_empty_tensor():
    assert RenderingGenerator().generate("fish", 0, 0).shape == (0, 3, 224, 224)


def test_it_fills_the_role():
    assert isinstance(RenderingGenerator(), ImageGenerator)
