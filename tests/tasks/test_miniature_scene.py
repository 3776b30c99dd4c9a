"""Scene graphs: frozen, independent of order and process, with the combinations held out that must be."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from tasks.miniature.render import outline
from tasks.miniature.scene import Scene, Wish, draw_scene, scene_at
from tasks.miniature.vocabulary import (
    BACKGROUNDS,
    CATEGORIES,
    CATEGORY_OF,
    COLOURS,
    CONCEPTS,
    HELD_OUT,
    KINDS,
    OPTIONAL_PARTS,
    PARTS,
    PARTS_OF,
    PATTERNS,
    SIZE,
    SPLITS,
    SYNONYMS,
)

FROZEN = {
    ("train", 0): "5005faf9c376df804c029570e99340948520dadd753860baf38b789521d5d759",
    ("train", 3007): "205a6dddca830715f6a83bd4aabba3cecd4ab8553c593a86e7b6e20d4bb07ab1",
    ("probe", 0): "4ffc29aca3c7e1c3214a3cce6781be2b80d811def5512cc3c615991c1f980393",
    ("probe", 3000): "35d3a62388e3342cff48e5ea31ee5d3a9662ac3f2a78a091156d28c9309f7f0e",
    ("test", 0): "10d7d7a1fd820e4985a2b542a01d15a4fc7f5ba2d892a37c797602d3fcc6cd06",
    ("test", 3028): "760d3bfe003ecd713774b8983fbcd1655ea203067e5a127efde1504fd166112e",
}


def digest(scene: Scene) -> str:
    rounded = json.loads(json.dumps(asdict(scene)), parse_float=lambda text: round(float(text), 9))
    return hashlib.sha256(json.dumps(rounded, sort_keys=True).encode()).hexdigest()


def unseen(scene):
    return {pair for thing in scene.things for pair in ((thing.colour, thing.kind), (thing.pattern, thing.kind))} & set(
        HELD_OUT
    )


@pytest.mark.parametrize(("place", "expected"), FROZEN.items())
def test_scenes_are_frozen(place, expected):
    """A change here makes every checkpoint and every result of the miniature another one."""
    assert digest(scene_at(*place)) == expected


def test_a_scene_does_not_depend_on_order_or_process():
    numbers = [3, 40, 7, 0]
    here = {number: digest(scene_at("probe", number)) for number in numbers}
    assert here == {number: digest(scene_at("probe", number)) for number in reversed(numbers)}
    code = (
        "import hashlib, json; from dataclasses import asdict; from tasks.miniature.scene import scene_at\n"
        f"print(json.dumps([asdict(scene_at('probe', n)) for n in {numbers}]))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert json.loads(said) == json.loads(json.dumps([asdict(scene_at("probe", number)) for number in numbers]))


def test_scenes_and_splits_differ():
    scenes = [digest(scene_at(split, number)) for split in SPLITS for number in range(40)]
    assert len(set(scenes)) == len(scenes)


def test_held_out_combinations_occur_only_outside_training():
    assert not any(unseen(scene_at("train", number)) for number in range(3000))
    for split in ("probe", "test"):
        found = Counter(pair for number in range(1500) for pair in unseen(scene_at(split, number)))
        assert set(found) == set(HELD_OUT)
        assert min(found.values()) >= 5


def test_every_concept_is_shown_often_enough():
    shown = Counter(name for number in range(500) for name in scene_at("probe", number).concepts)
    assert set(shown) == set(CONCEPTS)
    assert min(shown.values()) >= 10
    assert max(shown.values()) <= 400


def test_objects_differ_in_kind_stay_in_the_frame_and_apart():
    doubles = 0
    for number in range(400):
        scene = scene_at("test", number)
        assert 1 <= len(scene.things) <= 2
        assert len({thing.kind for thing in scene.things}) == len(scene.things)
        boxes = []
        for thing in scene.things:
            corners = np.concatenate([polygon for polygon, _ in outline(thing)])
            assert corners.min() > -1
            assert corners.max() < SIZE + 1
            boxes.append((corners.min(0), corners.max(0)))
        if len(boxes) == 2:
            doubles += 1
            (low, high), (other_low, other_high) = boxes
            assert max((other_low - high).max(), (low - other_high).max()) > 3
    assert 140 < doubles < 260


def test_parts_belong_to_the_kind_and_only_optional_ones_are_missing():
    missing = Counter()
    for number in range(400):
        for thing in scene_at("probe", number).things:
            assert set(thing.parts) <= set(PARTS_OF.get(thing.kind, ()))
            gone = set(PARTS_OF.get(thing.kind, ())) - set(thing.parts)
            assert gone <= OPTIONAL_PARTS
            missing.update(gone)
    assert set(missing) == OPTIONAL_PARTS


def test_concepts_are_all_that_the_things_and_the_background_are():
    for number in range(60):
        scene = scene_at("probe", number)
        expected = {scene.background}
        for thing in scene.things:
            expected.update([thing.kind, thing.colour, thing.pattern], thing.parts)
        assert scene.concepts == expected


def test_attributes_are_drawn_evenly():
    things = [thing for number in range(1500) for thing in scene_at("test", number).things]
    for values, names in (
        ([thing.kind for thing in things], KINDS),
        ([thing.colour for thing in things], COLOURS),
        ([thing.pattern for thing in things], PATTERNS),
    ):
        counts = Counter(values)
        share = len(things) / len(names)
        assert all(abs(counts[name] - share) < 5 * share**0.5 for name in names)


@pytest.mark.parametrize("seed", range(5))
def test_wishes_come_true_and_change_nothing_else(seed):
    wishes = [Wish("fish", "blue", parts=frozenset({"fin"})), Wish(pattern="dotted", parts=frozenset({"sail"}))]
    scene = draw_scene(np.random.default_rng(seed), background="brick wall", wishes=wishes)
    fish, boat = scene.things
    assert (scene.background, fish.kind, fish.colour, boat.kind, boat.pattern) == (
        "brick wall",
        "fish",
        "blue",
        "boat",
        "dotted",
    )
    assert "fin" in fish.parts
    assert "sail" in boat.parts
    plain = draw_scene(np.random.default_rng(seed), background="brick wall", wishes=[Wish("fish", "blue"), *wishes[1:]])
    assert set(plain.things[0].parts) | {"fin"} == set(fish.parts)
    assert plain.things[1] == boat


@pytest.mark.parametrize(
    ("wishes", "held_out", "said"),
    [
        ([], True, "at least one"),
        ([Wish("fish"), Wish("fish")], True, "no kind twice"),
        ([Wish("circle", parts=frozenset({"wheel"}))], True, "circle has no wheel"),
        ([Wish(parts=frozenset({"wheel", "roof"}))], True, "roof, wheel"),
        ([Wish("house", "purple")], False, "held out"),
        ([Wish("star", pattern="striped")], False, "held out"),
    ],
)
def test_wishes_that_cannot_be_met(wishes, held_out, said):
    with pytest.raises(ValueError, match=said):
        draw_scene(np.random.default_rng(0), wishes=wishes, held_out=held_out)


@pytest.mark.parametrize("number", [-1, 10_000_000])
def test_a_number_outside_the_split(number):
    with pytest.raises(ValueError, match="scenes 0 to 9999999"):
        scene_at("probe", number)
    with pytest.raises(KeyError):
        scene_at("validation", 0)


def test_the_vocabulary_is_consistent():
    assert len(set(CONCEPTS)) == len(CONCEPTS) == 46
    assert (*KINDS, *PARTS, *COLOURS, *PATTERNS, *BACKGROUNDS) == CONCEPTS
    assert {
        category: names for category, names in CATEGORIES.items() for name in names if CATEGORY_OF[name] != category
    } == {}
    assert {part for parts in PARTS_OF.values() for part in parts} == set(PARTS)
    assert set(PARTS) >= OPTIONAL_PARTS
    names = [*CONCEPTS, *(word for words in SYNONYMS.values() for word in words)]
    assert len(set(names)) == len(names), "a synonym names two concepts"
    assert set(SYNONYMS) <= set(CONCEPTS)
    # A colour's word in a background's name would make the truth of a colour ambiguous.
    assert not {word for name in BACKGROUNDS for word in name.split()} & set(COLOURS)
    listed = (Path(__file__).parents[2] / "tasks/miniature/concepts.txt").read_text().split("\n")
    assert set(CONCEPTS) <= set(listed)
