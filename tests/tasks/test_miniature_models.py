"""The checkpoints in the repository are the ones their cards and the profile speak of, and reach their bars."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tasks.common.errors import UserError
from tasks.miniature.training import evaluate
from tasks.miniature.training.cards import CHECKPOINTS, FILES
from tasks.models.weights import file_sha256
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile

LIMIT = 80_000_000


@pytest.fixture(scope="module")
def roles() -> Roles:
    return Roles(load_profile("miniature"), torch.device("cpu"))


@pytest.fixture(scope="module")
def scenes() -> evaluate.TestScenes:
    return evaluate.test_scenes(160)


@pytest.mark.parametrize("name", FILES)
def test_card_profile_and_file_agree(name: str) -> None:
    card = json.loads((CHECKPOINTS / f"{name}.card.json").read_text())
    assert card["sha256"] == file_sha256(CHECKPOINTS / FILES[name])
    profile = load_profile("miniature").model_dump_json()
    assert card["sha256"] in profile
    assert card["quality"], "measure it: python -m tasks.miniature evaluate --write"
    assert all(figure["bar"] is None or figure["value"] >= figure["bar"] for figure in card["quality"])


def test_checkpoints_stay_small() -> None:
    assert sum(path.stat().st_size for path in CHECKPOINTS.rglob("*") if path.is_file()) < LIMIT


def bars(figures: list[evaluate.Quality], slack: float) -> None:
    """A small sample may miss a bar by chance; ``slack`` is about three standard errors."""
    for figure in figures:
        if figure.bar is not None:
            assert figure.value >= figure.bar - slack, figure


@pytest.mark.parametrize("name", ["resnet50", "resnet18"])
def test_targets_recognise_concepts(roles: Roles, scenes: evaluate.TestScenes, name: str) -> None:
    bars(evaluate.evaluate_target(roles, name, scenes), 0.03)


def test_clip_reads_single_objects(roles: Roles, scenes: evaluate.TestScenes) -> None:
    bars(evaluate.evaluate_clip(roles, scenes.where(lambda scene: len(scene.things) == 1)), 0.1)


def test_captioner_names_everything(roles: Roles, scenes: evaluate.TestScenes) -> None:
    bars(evaluate.evaluate_captioner(roles, scenes.where(lambda scene: len(scene.things) == 1)), 0.1)


def test_segmenter_finds_the_foreground(roles: Roles, scenes: evaluate.TestScenes) -> None:
    bars(evaluate.evaluate_segmenter(roles, scenes), 0.02)


def test_summariser_and_generator(roles: Roles) -> None:
    bars(evaluate.evaluate_summariser(roles, cases=60), 0.1)
    bars(evaluate.evaluate_generator(roles, cases=12), 0.12)


def test_every_model_with_a_card_is_measured(roles: Roles, monkeypatch: pytest.MonkeyPatch) -> None:
    for slow in ("evaluate_summariser", "evaluate_generator"):
        monkeypatch.setattr(evaluate, slow, lambda *_: [])
    figures = evaluate.evaluate(roles, count=40)
    assert {figure.role for figure in figures} == set(FILES)
    assert all(np.isfinite(figure.value) for figure in figures)


@pytest.mark.slow
def test_every_bar_holds_on_two_thousand_scenes(roles: Roles) -> None:
    bars(evaluate.evaluate(roles), 0.0)


def test_a_changed_checkpoint_is_refused(tmp_path, roles: Roles) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes((CHECKPOINTS / FILES["segmenter"]).read_bytes()[:-1] + b"\x00")
    entry = roles.profile.segmenter
    assert entry is not None
    profile = roles.profile.model_copy(update={"segmenter": entry.model_copy(update={"weights": path})})
    with pytest.raises(UserError, match="SHA-256"):
        Roles(profile, torch.device("cpu")).segmenter  # noqa: B018  (the property does the work)
