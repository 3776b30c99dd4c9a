"""Exchange of the probing set: which images the others are, and how far labels move."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from baselines.base import Label, UnitLabels
from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from benchmark.core.prepare import OWN_IMAGES, with_images
from benchmark.core.work import Work
from benchmark.studies.base import StudyInput, do_study, load_studies
from benchmark.studies.exchange.measure import Exchange, other_images
from leaderboard.board.facts import RunFacts
from leaderboard.store.run_folder import RunFolder
from leaderboard.view.exchange import exchange_contents
from report.markdown import markdown_tables
from tasks.catalogue import load_task
from tasks.common.errors import UserError
from tasks.observation import Observation
from tasks.observe import CLEAN, probe_of
from tasks.perturbations.settings import Settings
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile

IMAGES = 12
UNITS = (0, 3, 7, 9)


class First:
    """Names a unit by the first image that it sees, or by the unit alone."""

    version = "1"

    def __init__(self, images: bool, annotation: bool = False) -> None:
        self.images = images
        self.needs = frozenset({"presence"} if annotation else ())

    def label(self, observation: Observation, units: Any, tools: Any) -> list[UnitLabels]:
        shown = f"image {observation.image_ids[0]}" if self.images else ""
        return [UnitLabels(unit, (Label(f"{shown} unit {unit}", 1.0),), ()) for unit in units]


@pytest.fixture(scope="module")
def roles() -> Roles:
    return Roles(load_profile("miniature"), torch.device("cpu"))


def work(images: int = IMAGES) -> Work:
    return Work(load_task("resnet18_layer4"), "miniature", (), (CLEAN,), 2, images, UNITS)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for number in range(5):
        Image.fromarray(random.integers(0, 256, (64, 72, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def measured(path: Path, roles: Roles, study: Exchange, **methods: First) -> pd.DataFrame:
    mine = work()
    probing = roles.probing_set(mine.task.probing_set, IMAGES, roles.view(mine.task.model))
    probes: Any = {mine.task.name: (probe_of(probing, masked=False), probing)}
    given = StudyInput([[mine]], methods, {mine.task.name: ("red",)}, roles, probes, 0, Settings(), Display("quiet"))  # type: ignore[arg-type]
    with RunFolder(path) as folder:
        folder.create_or_continue({"test": path.name}, {})
        return do_study(study, folder, given)["exchange"]


def test_the_others_are_as_many_and_none_of_the_run(roles: Roles) -> None:
    own = roles.probing_set("scenes", IMAGES, roles.view("resnet18"))
    others = other_images(work(), roles, None, 0)
    assert len(others.ids) == IMAGES
    assert not {*own.ids} & {*others.ids}
    assert others.ids == tuple(f"probe-{number:06d}" for number in range(IMAGES, 2 * IMAGES))
    assert others.segmentation is not None


def test_what_a_folder_has_left_gives_the_others(photographs: Path) -> None:
    roles = Roles(with_images(load_profile("miniature"), photographs), torch.device("cpu"))
    for images, left in ((2, 2), (3, 2)):
        mine = work(images)
        mine = replace(mine, task=mine.task.model_copy(update={"probing_set": OWN_IMAGES}))
        own = roles.probing_set(OWN_IMAGES, images, roles.view("resnet18"))
        others = other_images(mine, roles, None, 0)
        assert len(others.ids) == left
        assert not {*own.ids} & {*others.ids}
    mine = replace(mine, images=4)
    with pytest.raises(UserError, match="its probing set has no more: use fewer with --images"):
        other_images(mine, roles, None, 0)


def test_a_folder_gives_the_others(roles: Roles, photographs: Path) -> None:
    assert len(other_images(work(), roles, photographs, 0).ids) == 5
    chosen = [other_images(work(images=3), roles, photographs, seed).ids for seed in range(8)]
    assert all(len(ids) == 3 for ids in chosen)
    assert len(set(chosen)) > 1
    assert other_images(work(images=3), roles, photographs, 5).ids == chosen[5]


def test_too_few_images_are_refused(roles: Roles, photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes((photographs / "0.png").read_bytes())
    with pytest.raises(UserError, match="contains 1 images that can be used, but 2 are needed"):
        Exchange(folder=tmp_path).check([[work()]], roles)
    with pytest.raises(UserError, match="gone"):
        Exchange(folder=tmp_path / "gone").check([[work()]], roles)


def test_labels_that_depend_on_the_images_move(tmp_path: Path, roles: Roles, photographs: Path) -> None:
    methods = {"by_image": First(True), "by_unit": First(False), "annotated": First(False, annotation=True)}
    whole = measured(tmp_path / "scenes", roles, Exchange(), **methods)
    assert len(whole) == 3 * len(UNITS)
    own = whole.set_index(["method", "unit"])
    assert own.loc["by_unit", "same"].all()
    assert own.loc["by_unit", "similarity"].to_numpy() == pytest.approx(1, abs=1e-5)
    assert not own.loc["by_image", "same"].any()
    assert own.loc["by_image", "same_again"].all()
    assert own.loc["by_image", "noise_floor"].to_numpy() == pytest.approx(1, abs=1e-5)
    assert own.loc[("by_image", 3), "own_label"] == "image probe-000000 unit 3"
    assert own.loc[("by_image", 3), "other_label"] == f"image probe-{IMAGES:06d} unit 3"
    # Photographs without annotation cannot be labelled by a method that reads it.
    assert set(measured(tmp_path / "folder", roles, Exchange(folder=photographs), **methods)["method"]) == {
        "by_image",
        "by_unit",
    }


def test_the_table_compares_with_the_floor() -> None:
    rows = [
        (0, 0.5, 1.0, False, True, True, False),
        (1, 0.7, 0.9, True, True, True, True),
        (2, 0.9, 0.8, True, False, None, None),
    ]
    names = ["unit", "similarity", "noise_floor", "same", "same_again", "right", "other_right"]
    table = pd.DataFrame(rows, columns=names).assign(task="t", profile="p", method="m", chance=0.2)
    table[["right", "other_right"]] = table[["right", "other_right"]].astype("boolean")
    (found,) = exchange_contents(table, RunFacts())
    (row,) = found.rows
    expected = [0.7, 0.9, -0.2, 0.2, 2 / 3, 2 / 3, 1, 0.5, -0.5]
    assert [cell.value for cell in row.cells] == pytest.approx(expected)
    assert "Labels found with other images" in markdown_tables([found])


def test_the_folder_is_an_option_of_the_study(photographs: Path) -> None:
    options = RunOptions(tasks=("resnet50_fc",), analyses=("sensitivity", "exchange"), exchange=photographs)
    assert [getattr(study, "folder", None) for study in load_studies(options)] == [None, photographs]
    assert options.identity() == RunOptions(tasks=("resnet50_fc",)).identity()
    with pytest.raises(ValidationError, match="--exchange needs --analysis exchange"):
        RunOptions(tasks=("resnet50_fc",), exchange=photographs)
