"""The plan of a concept bottleneck: what it counts is what the run does, and what is done is not counted again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from benchmark.plan.make import make_plan
from benchmark.plan.tally import CountedRoles
from benchmark.studies.bottleneck.run import run_bottlenecks
from benchmark.studies.bottleneck.store import Piece, Pieces
from report.plan import terminal_plan
from tasks.catalogue import load_task
from tasks.common.errors import UserError
from tasks.profiles.schema import load_profile
from tasks.schema import Task, Units


@pytest.fixture
def small(monkeypatch) -> Task:
    task = load_task("miniature_lfcbm")
    assert task.bottleneck is not None
    section = task.bottleneck.model_copy(update={"training_images": 60, "held_out_contexts": ("starry night",)})
    update = {"model": "resnet18", "units": Units(), "images": 10, "suites": ("fog",), "bottleneck": section}
    changed = task.model_copy(update=update)
    monkeypatch.setattr("benchmark.core.preflight.load_task", lambda name: changed)
    return changed


def amount(count: int) -> dict[str, int]:
    return {"expected": count, "most": count}


def test_it_counts_what_the_run_then_does(small, tmp_path):
    options = RunOptions(tasks=(small.name,), out=tmp_path / "run", cache="none")
    facts = make_plan(options, Display("quiet"))
    training, tests = (facts["tasks"][0]["methods"][name] for name in ("training", "tests"))
    # Clean, fog, other and unseen backgrounds, and half as many anomalies.
    assert training["target"] == training["clip"] == amount(60)
    assert tests["target"] == amount(4 * 10 + 5)
    assert training["training_steps"] == {"expected": 300, "most": 1000}
    assert facts["cells"] == {"all": 6 + 5, "done": 0}
    stages = facts["seconds"]["stages"]
    assert {"images", "target network", "CLIP", "perturbations", "projection", "final layers", "tables"} <= set(stages)
    assert 0 < facts["seconds"]["total"] == pytest.approx(sum(stages.values()))
    assert facts["bytes"]["folder"] > 105 * 512 * 4
    assert not (tmp_path / "run").exists()
    assert len(terminal_plan(facts)) > 2

    roles = CountedRoles(load_profile("miniature"), torch.device("cpu"), 64)
    run_bottlenecks(options, roles.profile, [small], roles, Display("quiet"))
    # One more: a grey image tells how many units the layer has.
    assert roles.tally["target"] == facts["total"]["target"]["most"] + 1
    assert roles.tally["clip"] == facts["total"]["clip"]["most"]
    again = make_plan(options, Display("quiet"))
    assert again["cells"] == {"all": 11, "done": 11}
    assert again["total"]["target"] == amount(0)
    assert again["seconds"]["total"] == 0.0


def test_pieces_that_are_there_are_not_counted_again(small, tmp_path):
    pieces = Pieces(tmp_path / "run", small.name)
    for name in ("images-training", "images-fog-s3"):
        pieces.once(name, lambda: Piece({"features": np.zeros((2, 3))}, {}))
    facts = make_plan(RunOptions(tasks=(small.name,), out=tmp_path / "run"), Display("quiet"))
    assert facts["cells"] == {"all": 11, "done": 2}
    assert facts["total"]["target"] == amount(3 * 10 + 5)
    assert facts["total"]["clip"] == amount(0)


def test_options_that_make_no_sense_get_one_sentence(small, tmp_path):
    for given, name in (
        ({"methods": ("dnd",)}, "methods"),
        ({"units": 3}, "units"),
        ({"analyses": ("sensitivity",)}, "analysis"),
        ({"method_options": {"dnd": {"mode": "code"}}}, "set"),
    ):
        with pytest.raises(UserError, match=rf"labels no units: omit --{name}\."):
            make_plan(RunOptions(tasks=(small.name,), out=tmp_path / "run", **given), Display("quiet"))


def test_of_published_files_that_are_missing_it_counts_and_names_them(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    options = RunOptions(tasks=("resnet50_cifar10_lfcbm",), profile="paper", out=tmp_path / "run")
    facts = make_plan(options, Display("quiet"))
    assert facts["total"]["target"] == amount(50_000 + 20 * 10_000)
    assert facts["seconds"]["total"] is None
    for part in ("target clip_rn50", "probing set cifar10_train", "probing set cifar10_test", "concept set cifar10"):
        assert part in facts["notes"][0]
    assert facts["money"]["usd"] == amount(0)
