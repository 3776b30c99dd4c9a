"""What the plan says of analyses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from baselines.costs import NOTHING, UNKNOWN, Amount, Cost
from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from benchmark.core.work import Work
from benchmark.plan.count import RunCount, count_run
from benchmark.plan.estimate import stage_seconds
from benchmark.plan.make import make_plan
from benchmark.plan.rates import MethodTime, Rates
from benchmark.plan.studies import TRAINED, with_studies
from benchmark.studies.base import load_study
from benchmark.studies.tuning.measure import SHARES
from benchmark.studies.tuning.networks import Plan
from leaderboard.store.analysis_schema import DETECTORS, SENSITIVITY
from leaderboard.store.frames import empty_frame
from leaderboard.store.run_folder import RunFolder
from tasks.catalogue import load_task
from tasks.observe import CLEAN, Condition
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile

FOG, JPEG = Condition("fog", 3), Condition("jpeg_compression", 3)
COST = Cost(captioned=Amount.of(30), generated=Amount(200, 50), summarised=Amount.of(6), shared=0.8)


class Costly:
    def cost(self, units: int, images: int) -> Cost:
        assert (units, images) == (3, 50)
        return COST


class Silent:
    """States nothing."""


METHODS = {"costly": Costly(), "silent": Silent()}


@pytest.fixture(scope="module")
def roles() -> Roles:
    return Roles(load_profile("miniature"), torch.device("cpu"))


def work(*methods: str, task: str = "resnet18_layer4") -> Work:
    return Work(load_task(task), "miniature", methods, (CLEAN, FOG, JPEG), 2, 50, (1, 2, 3))


def counted(roles: Roles, path: Path, *works: Work, names: tuple[str, ...]) -> RunCount:
    count = count_run([works], METHODS, roles.profile, "none")
    return with_studies(count, [load_study(name) for name in names], [works], METHODS, roles, RunFolder(path))


def test_sensitivity_looks_once_at_the_images_of_every_condition(roles, tmp_path):
    group = (work("costly"), work("costly", task="resnet18_layer4"))
    count = counted(roles, tmp_path, *group, names=("sensitivity",))
    (found,) = count.studies
    assert found.counts.target == Amount.of(3 * 50)
    assert found.counts.clip == found.counts.generated == NOTHING
    assert count.total.target.expected == count_run([group], METHODS, roles.profile, "none").total.target.expected + 150


def test_robustness_shows_the_images_of_every_condition_to_the_network_and_to_clip(roles, tmp_path):
    count = counted(roles, tmp_path, work("costly"), names=("robustness",))
    (found,) = count.studies
    assert found.counts.target == found.counts.clip == Amount.of(3 * 50)
    rates = Rates({"target": 0.1, "clip": 0.02}, {"fog": 0.2, "jpeg_compression": 0.1})
    assert found.seconds(rates) == pytest.approx(150 * 0.12 + 50 * 0.3)


def test_tuning_labels_at_every_share_and_with_every_network(roles, tmp_path):
    (found,) = counted(roles, tmp_path, work("costly"), names=("tuning",)).studies
    # JPEG is one of the perturbations that images are perturbed with on purpose: clean and fog are left.
    networks = 5
    times, generated = found.labellings["costly"]
    assert times == (len(SHARES) + networks) * 2
    assert generated.most == times * 200
    # The shares are of one network; each of the others has images of its own.
    assert generated.expected == pytest.approx((1 + networks) * 50 + (len(SHARES) * 2 - 1 + networks) * 10)
    plan = Plan()
    scenes = (plan.train + plan.validation) * 3 + plan.test * (2 + 5)
    assert found.counts.target.most == times * 200 + (2 + networks) * 2 * 50 + scenes
    assert found.counts.captioned == Amount(times * 30 + (len(SHARES) + networks) * 50, times * 30 + 100)
    assert found.counts.cells == NOTHING


def test_a_network_that_is_not_tuned_costs_nothing(roles, tmp_path):
    (found,) = counted(roles, tmp_path, work("costly", task="resnet50_planted"), names=("tuning",)).studies
    assert found.labellings["costly"][0] == len(SHARES) * 2
    assert found.trained == 0


def test_unstated_costs_stay_unknown(roles, tmp_path):
    (found,) = counted(roles, tmp_path, work("silent"), names=("tuning",)).studies
    assert found.counts.generated == UNKNOWN
    assert found.seconds(Rates({"target": 1.0, "clip": 1.0})) is None


def test_what_the_folder_holds_is_not_counted(roles, tmp_path):
    with RunFolder(tmp_path / "run") as folder:
        folder.create_or_continue({"test": 1}, {})
        folder.record("sensitivity", {"key": "some"})
        assert len(counted(roles, folder.path, work("costly"), names=("sensitivity",)).studies) == 1
        folder.write_table("sensitivity", empty_frame(SENSITIVITY))
        folder.write_table("detectors", empty_frame(DETECTORS))
    assert counted(roles, tmp_path / "run", work("costly"), names=("sensitivity",)).studies == ()


def test_time_adds_passes_labellings_and_training(roles, tmp_path):
    count = counted(roles, tmp_path, work("costly"), names=("sensitivity", "tuning"))
    own = {"target": 0.1, "clip": 0.02, "generated": 0.03, "captions": 0.0, "images": 0.0}
    own |= dict.fromkeys(("evidence", "thumbnails", "tables", "tables_unit", "compared", "compared_unit"), 0.0)
    rates = Rates(own, {"fog": 0.2, "jpeg_compression": 0.1}, {"costly": MethodTime(9, 1, 2, 0, 0)})
    stages = stage_seconds(count, {"resnet18_layer4": rates}, 0.0, thumbnails=0)
    assert stages["sensitivity"] == pytest.approx(150 * 0.1 + 50 * 0.3)
    _, tuning = count.studies
    times, generated = tuning.labellings["costly"]
    passes = tuning.counts.target.expected + TRAINED * 4 * 200 * 32
    expected = (
        passes * 0.1 + tuning.counts.clip.expected * 0.02 + times * (1 + 3 * 2) + generated.expected * 0.03 + 50 * 0.3
    )
    assert stages["tuning"] == pytest.approx(expected)


def test_the_terminal_names_them(roles, tmp_path):
    from report.plan import terminal_plan

    unknown = {"expected": 0, "most": 0}
    names = ("target", "clip", "captioned", "generated", "language_calls", "prompt_tokens", "completion_tokens")
    nothing = dict.fromkeys(names, unknown)
    facts = {
        "tasks": [],
        "shared": nothing,
        "faithfulness": nothing | {"labels": unknown},
        "analyses": [{"name": "sensitivity", "task": "a", **nothing, "target": {"expected": 1234, "most": 1234}}],
        "total": nothing | {"target": {"expected": 1234, "most": 1234}},
        "cells": {"all": 0, "done": 0},
        "seconds": {"stages": {}, "total": 1.0, "probe": 1.0},
        "bytes": {"folder": 1, "cache": 1},
        "money": {"model": None},
        "budget": {"usd": None, "seconds": None},
        "folder": "x",
        "notes": [],
    }
    table = terminal_plan(facts)[0]
    cells = [list(map(str, column.cells)) for column in table.columns]
    assert cells[0] == ["sensitivity", "total"]
    assert "1,234" in cells[-1]


def test_a_method_that_looks_at_parts_of_images_is_measured(tmp_path):
    least = {"control": 2, "shortlist": 2, "images_per_concept": 1, "top_images": 2, "probes": "foreground_blur:3"}
    options = RunOptions(
        tasks=("resnet18_layer4",), methods=("clear",), method_options={"clear": least}, suites=("fog",),
        units=3, images=20, faithfulness="none", analyses=("sensitivity",), out=tmp_path / "run", device="cpu",
    )  # fmt: skip
    facts = make_plan(options, Display("quiet"))
    assert facts["notes"] == []
    assert facts["seconds"]["stages"]["clear"] > 0
    assert facts["seconds"]["total"] > facts["seconds"]["stages"]["sensitivity"] > 0
    assert [one["name"] for one in facts["analyses"]] == ["sensitivity"]
