"""Suites are data, and perturbations of the user's own take part in everything."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
import torch

from tasks.catalogue import load_task
from tasks.common.errors import UserError
from tasks.perturbations import PERTURBATIONS, Perturbation, perturb, register
from tasks.perturbations import registry as registry_module
from tasks.perturbations.suites import load_suite, perturbations_of, suite_names


def darker(images, share, context):
    return (images.float() * (1 - share)).to(torch.uint8)


def entry(name: str = "darker", transform=darker, **changes) -> Perturbation:
    return Perturbation(name, "digital", "Darker (share taken away)", (0.1, 0.2, 0.3, 0.4, 0.5), transform, **changes)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "_registered", {})
    register(entry())


def test_suites_hold_the_published_lists() -> None:
    assert suite_names() == (
        "background_swap",
        "corrupted_explanations",
        "foreground_background",
        "imagenet_c",
        "imagenet_c_bar",
        "imagenet_c_extra",
        "seed_study",
    )
    assert " ".join(load_suite("imagenet_c").perturbations) == (
        "gaussian_noise shot_noise impulse_noise defocus_blur glass_blur motion_blur zoom_blur snow frost fog "
        "brightness contrast elastic_transform pixelate jpeg_compression"
    )
    assert set(load_suite("imagenet_c_extra").perturbations) == {
        "speckle_noise",
        "gaussian_blur",
        "spatter",
        "saturate",
    }
    assert set(perturbations_of(map(load_suite, suite_names()))) == set(PERTURBATIONS)
    assert all(len(each.parameters) == 5 and each.source for each in PERTURBATIONS.values())
    assert PERTURBATIONS["gaussian_blur"].parameters == (1, 2, 3, 4, 6)


def test_elastic_transform_has_two_definitions() -> None:
    published = PERTURBATIONS["elastic_transform"]
    assert published.form("published") is published.form("repaired") is published
    assert published.form("package") is published.form("reference") is published.package
    assert published.facts() == {"version": "2", "parameters": published.parameters}
    assert published.form("package").facts() == {"version": "1", "parameters": (12.5, 16.25, 21.25, 25, 30)}
    assert all(PERTURBATIONS[name].package is None for name in PERTURBATIONS if name != "elastic_transform")


def test_a_perturbation_is_a_suite_of_its_own() -> None:
    assert load_suite("fog").conditions(None, (3, 5)) == [("fog", 3), ("fog", 5)]


def test_severities_of_the_command_go_before_those_of_the_suite_and_those_before_the_tasks(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nperturbations: {fog: [1, 2], snow: }\nseverities: [4]\n")
    suite = load_suite(str(file))
    assert suite.conditions(None, (3,)) == [("fog", 1), ("fog", 2), ("snow", 4)]
    assert suite.conditions((5,), (3,)) == [("fog", 5), ("snow", 5)]


def test_a_task_finds_a_suite_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\nperturbations: [fog]\n")
    text = (Path(registry_module.__file__).parents[1] / "definitions" / "resnet18_layer4.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("suites:", "name:"))]
    task = tmp_path / "own.yaml"
    task.write_text("\n".join([*lines, "name: own", "suites: [mine.yaml, imagenet_c_extra]"]))
    suites = [load_suite(name) for name in load_task(str(task)).suites]
    assert [suite.name for suite in suites] == ["mine", "imagenet_c_extra"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name: mine\nperturbations: [fogg]\n", "Did you mean fog"),
        ("name: mine\nperturbations: [fog]\nseverities: [6]\n", "severities"),
        ("name: mine\nperturbations: []\n", "perturbations"),
        ("name: mine\nperturbation: [fog]\n", "perturbation"),
        ("name: Mine!\nperturbations: [fog]\n", "name"),
    ],
)
def test_mistakes_in_a_suite_file_get_one_clear_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=sentence) as error:
        load_suite(str(file))
    assert "mine.yaml" in str(error.value)


def test_an_unknown_suite_names_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean imagenet_c"):
        load_suite("imagenet-c")
    with pytest.raises(UserError, match="There is no file"):
        load_suite("nowhere/mine.yaml")


def test_an_own_perturbation_works_like_the_others(registered: None) -> None:
    images = torch.full((2, 3, 40, 40), 100, dtype=torch.uint8)
    assert perturb(images, "darker", 5, [0, 1]).unique().tolist() == [50]
    assert perturb(images, "darker", 0, [0, 1]).unique().tolist() == [100]
    assert load_suite("darker").conditions(None, (2,)) == [("darker", 2)]
    assert "darker" in list(PERTURBATIONS)


def test_names_cannot_be_taken_twice(registered: None) -> None:
    for name in ("darker", "fog"):
        with pytest.raises(UserError, match="exists already"):
            register(entry(name))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (entry("Darker!"), "not a valid name for a perturbation"),
        (Perturbation("mine", "digital", "", (1, 2), darker), "has 2 parameters"),  # type: ignore[arg-type]
        (Perturbation("mine", "digitl", "", (1, 2, 3, 4, 5), darker), "unknown family 'digitl'"),  # type: ignore[arg-type]
        (darker, "is not a tasks.perturbations.Perturbation"),
    ],
)
def test_an_unfit_entry_is_refused(wrong, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        register(wrong)


@pytest.mark.parametrize(
    "transform", [lambda images, share, context: images.float(), lambda *_: None, lambda images, *_: images[:, :1]]
)
def test_what_an_own_perturbation_returns_is_checked(transform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "_registered", {})
    register(entry(transform=transform))
    with pytest.raises(UserError, match="The perturbation darker must return uint8"):
        perturb(torch.zeros((1, 3, 40, 40), dtype=torch.uint8), "darker", 1, [0])


def test_plugins_are_found_and_a_broken_one_is_a_warning_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    group = registry_module.ENTRY_POINT_GROUP
    points = [
        importlib.metadata.EntryPoint("darker", f"{__name__}:DARKER", group),
        importlib.metadata.EntryPoint("broken", "no_such_module_at_all:X", group),
        importlib.metadata.EntryPoint("taken", f"{__name__}:TAKEN", group),
    ]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
    registry_module._plugins.cache_clear()
    try:
        with pytest.warns(UserWarning, match="is left out") as warned:
            assert PERTURBATIONS["darker"] is DARKER
        said = " ".join(str(each.message) for each in warned)
        assert "'broken'" in said
        assert "'taken'" in said
        assert PERTURBATIONS["fog"].family == "weather"
        assert list(PERTURBATIONS)[-1] == "darker"
    finally:
        registry_module._plugins.cache_clear()


DARKER = entry()
TAKEN = entry("fog")
