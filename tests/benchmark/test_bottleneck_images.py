"""Labelled images: the miniature's scenes of one object, and a set on disk with classes."""

from __future__ import annotations

import pytest
import torch
from small_cifar import write_cifar
from torch.nn.functional import avg_pool2d, max_pool2d

from benchmark.studies.bottleneck.images import single_objects, split_of
from tasks.common.errors import UserError
from tasks.miniature.scene import scene_at
from tasks.miniature.vocabulary import BACKGROUNDS
from tasks.probing.schema import CifarSource
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile
from tasks.schema import Bottleneck
from tasks.view import View

WHOLE = View(224)

SECTION = Bottleneck(
    training_set="scenes_train",
    training_images=40,
    groups={"shape": ("circle", "star"), "vehicle": ("car", "boat")},
    held_out=("fish",),
    held_out_contexts=("starry night",),
)


@pytest.fixture(scope="module")
def roles() -> Roles:
    return Roles(load_profile("miniature"), torch.device("cpu"))


def test_scenes_have_one_object_of_a_kind_on_a_background_that_was_asked_for():
    found = single_objects("train", 12, ("tree", "cup"), ("brick wall", "sandy beach"), WHOLE)
    assert set(found.classes) == {"tree", "cup"}
    assert set(found.contexts) <= {"brick wall", "sandy beach"}
    numbers = [int(name.split("-")[1]) for name in found.ids]
    scenes = [scene_at("train", number) for number in range(numbers[-1] + 1)]
    expected = [
        number
        for number, scene in enumerate(scenes)
        if len(scene.things) == 1 and scene.things[0].kind in ("tree", "cup") and scene.background in found.contexts
    ]
    assert numbers == expected


def test_a_moved_object_is_the_same_object_elsewhere():
    found = single_objects("test", 3, ("tree",), ("brick wall",), WHOLE)
    assert found.moved is not None
    elsewhere = found.moved(["sandy beach"] * 3)
    (here, mask), (there, same) = found.load([1]), elsewhere.load([1])
    assert elsewhere.contexts == ("sandy beach",) * 3
    assert elsewhere.ids == found.ids
    assert elsewhere.digest != found.digest
    assert mask is not None
    assert same is not None
    assert torch.equal(mask, same)
    # The grain is another, as in another photograph; means over 5 by 5 pixels leave little of it.
    inside = max_pool2d((~mask).float()[None], 9, 1, 4)[0, 0] == 0
    means = torch.stack([avg_pool2d(image.float(), 5, 1, 2)[0][:, inside].flatten() for image in (here, there)])
    assert torch.corrcoef(means)[0, 1] > 0.95
    assert (means[0] - means[1]).abs().mean() < 12
    assert (here[0][:, ~mask[0]] != there[0][:, ~mask[0]]).float().mean() > 0.5


def test_training_and_test_never_show_what_is_held_out(roles):
    split = split_of(roles, WHOLE, SECTION, "scenes", 10, seed=0)
    assert split.labels == ("shape", "vehicle")
    for part in (split.training, split.test):
        assert set(part.classes) <= {"circle", "star", "car", "boat"}
        assert "starry night" not in part.contexts
    assert split.anomalies is not None
    assert set(split.anomalies.classes) == {"fish"}
    assert len(split.anomalies.ids) == 5
    assert not set(split.training.ids) & set(split.test.ids)
    names = [split.labels[number] for number in split.numbers(split.test)]
    assert names == [split.label_of[name] for name in split.test.classes]


def test_class_and_context_can_be_decided_together(roles):
    section = SECTION.model_copy(update={"labels": "class_and_context", "groups": {}})
    split = split_of(roles, WHOLE, section, "scenes", 10, seed=0)
    assert len(split.labels) == 11 * len({*split.training.contexts, *split.test.contexts})
    first = split.labels[split.numbers(split.test)[0]]
    assert first == f"{split.test.classes[0]} on {split.test.contexts[0]}"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"held_out": ("fihs",)}, "fish"),
        ({"groups": {"a": ("tree", "caar")}}, "car"),
        ({"groups": {"a": ("tree",)}}, "two classes"),
        ({"held_out_contexts": ("brick wal",)}, "brick wall"),
        ({"held_out_contexts": BACKGROUNDS}, "all backgrounds"),
    ],
)
def test_mistakes_in_the_section_are_told(roles, change, words):
    with pytest.raises(UserError, match=words):
        split_of(roles, WHOLE, SECTION.model_copy(update=change), "scenes", 10, seed=0)


# ---- a set on disk ----


@pytest.fixture(scope="module")
def cifar_roles(tmp_path_factory: pytest.TempPathFactory) -> Roles:
    folder = write_cifar(tmp_path_factory.mktemp("cifar") / "cifar-10-batches-bin")
    sets = {
        f"cifar10_{split}": CifarSource(loader="cifar", path=folder, licence="none", split=split)
        for split in ("train", "test")
    }
    profile = load_profile("miniature")
    profile = profile.model_copy(update={"probing_sets": {**profile.probing_sets, **sets}})
    return Roles(profile, torch.device("cpu"))


def test_cifar_is_taken_with_its_classes(cifar_roles):
    section = Bottleneck(
        training_set="cifar10_train",
        training_images=30,
        groups={"wings": ("airplane", "bird"), "wheels": ("automobile",)},
    )
    split = split_of(cifar_roles, View(32), section, "cifar10_test", 8, seed=0)
    assert len(split.training.ids) == 30
    assert set(split.training.classes) == {"airplane", "automobile", "bird"}
    images, masks = split.test.load([0, 3])
    assert images.shape == (2, 3, 32, 32)
    assert masks is None
    assert split.test.moved is None
    colours = images.float().mean((2, 3)).argmax(1).tolist()
    assert [("airplane", "automobile", "bird")[colour] for colour in colours] == [split.test.classes[i] for i in (0, 3)]
    again = split_of(cifar_roles, View(32), section, "cifar10_test", 8, seed=0)
    assert again.identity() == split.identity()
    assert split_of(cifar_roles, View(32), section, "cifar10_test", 8, seed=1).test.ids != split.test.ids


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"training_images": 61}, "has 60 images"),
        ({"held_out_contexts": ("sky",)}, "backgrounds"),
        ({"labels": "class_and_context"}, "backgrounds"),
        ({"groups": {"a": ("airplane",), "b": ("plane",)}}, "airplane"),
    ],
)
def test_what_a_set_cannot_do_is_told(cifar_roles, change, words):
    section = Bottleneck(
        training_set="cifar10_train",
        training_images=30,
        groups={"wings": ("airplane", "bird"), "wheels": ("automobile",)},
    )
    with pytest.raises(UserError, match=words):
        split_of(cifar_roles, View(32), section.model_copy(update=change), "cifar10_test", 8, seed=0)
