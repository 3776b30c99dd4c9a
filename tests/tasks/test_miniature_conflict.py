"""Cue conflict: which kind has which colour, pattern or background, and that nothing else differs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tasks.miniature.conflict import ARRANGEMENTS, CUES, Cue, conflict_scene, conflict_set, swapped_values, tied_values
from tasks.miniature.probing import MiniatureProbingSet
from tasks.miniature.scene import Scene, scene_at
from tasks.miniature.vocabulary import CONCEPTS, HELD_OUT

KINDS_OF = {"colour": 10, "pattern": 4, "background": 7}


def value(scene: Scene, cue: Cue) -> str:
    (thing,) = scene.things
    return scene.background if cue == "background" else getattr(thing, cue)


def without(scene: Scene, cue: Cue) -> Scene:
    (thing,) = scene.things
    if cue == "background":
        return replace(scene, background="")
    return replace(scene, things=(replace(thing, **{cue: ""}),))


@pytest.mark.parametrize("cue", CUES)
@pytest.mark.parametrize("seed", [0, 1, 2, 7])
def test_every_kind_has_a_value_of_its_own_and_then_that_of_another(cue: Cue, seed: int) -> None:
    tied, swapped = tied_values(cue), swapped_values(cue, seed)
    assert len(tied) == KINDS_OF[cue]
    for pairs in (tied, swapped):
        assert len(set(pairs.values())) == len(pairs)
        assert not {(own, kind) for kind, own in pairs.items()} & set(HELD_OUT)
    assert tied.keys() == swapped.keys()
    assert set(tied.values()) == set(swapped.values())
    assert all(swapped[kind] != own for kind, own in tied.items())


@pytest.mark.parametrize("cue", CUES)
def test_scenes_show_what_the_arrangement_says_and_differ_in_nothing_else(cue: Cue) -> None:
    pairs = {"tied": tied_values(cue), "swapped": swapped_values(cue, 3)}
    for number in range(3 * KINDS_OF[cue]):
        scenes = {arrangement: conflict_scene(cue, arrangement, number, 3) for arrangement in ARRANGEMENTS}
        kinds = {scene.things[0].kind for scene in scenes.values()}
        assert kinds == {[*pairs["tied"]][number % KINDS_OF[cue]]}
        for arrangement, own in pairs.items():
            assert value(scenes[arrangement], cue) == own[kinds.copy().pop()]
        assert len({without(scene, cue) for scene in scenes.values()}) == 1


def test_crossed_values_are_independent_of_the_kind() -> None:
    scenes = [conflict_scene("pattern", "crossed", number, 0) for number in range(1600)]
    counts = np.zeros((4, 4))
    kinds, values = [*tied_values("pattern")], [*tied_values("pattern").values()]
    for scene in scenes:
        counts[kinds.index(scene.things[0].kind), values.index(value(scene, "pattern"))] += 1
    assert (counts.sum(axis=1) == 400).all()
    # Pearson's statistic of 16 cells given the rows: 12 degrees of freedom, 99.9 % below 33.
    assert ((counts - 100) ** 2 / 100).sum() < 33


def test_annotation_and_pixels_come_from_the_scenes() -> None:
    tied, swapped = (conflict_set("colour", arrangement, 25, 0) for arrangement in ("tied", "swapped"))
    assert len(tied) == 30
    assert len({*tied.ids, *swapped.ids}) == 60
    for number in range(30):
        shown = {name for name, there in zip(CONCEPTS, swapped.presence[number], strict=True) if there}
        assert shown == conflict_scene("colour", "swapped", number, 0).concepts
    changed = (tied.load([4])[0] != swapped.load([4])[0]).any(dim=0)
    assert changed.any()
    # A colour is that of the object, grey parts and background stay; its edge is smoothed.
    assert changed[~tied.load_foreground([4])[0]].float().mean() < 0.02
    assert tied.load_foreground([4]).equal(swapped.load_foreground([4]))


def test_the_scenes_of_a_split_are_what_they_were() -> None:
    plain, given = (
        MiniatureProbingSet("probe", 3),
        MiniatureProbingSet("probe", 3, scene=lambda n: scene_at("probe", n)),
    )
    assert plain.digest == given.digest
