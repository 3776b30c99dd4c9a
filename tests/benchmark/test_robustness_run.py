"""Which images stay right: the miniature against a plain computation, classes of photographs, and what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from benchmark.core.passes import Passes
from benchmark.core.work import Work
from benchmark.plan.tally import CountedRoles
from benchmark.runner import run
from benchmark.studies.base import StudyInput, do_study
from benchmark.studies.robustness.measure import STUDY, choices_of
from leaderboard.board.facts import RunFacts
from leaderboard.store.run_folder import RunFolder
from leaderboard.view.robustness import robustness_contents
from report.markdown import markdown_tables
from tasks.cache import open_cache
from tasks.catalogue import load_task
from tasks.common.errors import UserError
from tasks.miniature.probing import MiniatureProbingSet
from tasks.miniature.scene import scene_at
from tasks.miniature.vocabulary import CONCEPTS, KINDS
from tasks.observe import CLEAN, Condition, perturbed, probe_of
from tasks.perturbations.settings import Settings
from tasks.probing.imagenet_classes import imagenet_names, imagenet_numbers
from tasks.profiles.schema import load_profile

QUIET = Display("quiet")
FOG, BLUR = Condition("fog", 3), Condition("background_blur", 5)
IMAGES = 24


def work(task: str, *conditions: Condition) -> Work:
    return Work(load_task(task), "miniature", (), (CLEAN, *conditions), 1, IMAGES, (0,))


@pytest.fixture(scope="module")
def roles(tmp_path_factory: pytest.TempPathFactory) -> CountedRoles:
    cache = open_cache(str(tmp_path_factory.mktemp("cache")))
    return CountedRoles(load_profile("miniature"), torch.device("cpu"), cache=cache)


@pytest.fixture(scope="module")
def probing() -> MiniatureProbingSet:
    return MiniatureProbingSet("probe", IMAGES)


def measured(path: Path, roles: CountedRoles, probing: MiniatureProbingSet, *works: Work) -> pd.DataFrame:
    probe = probe_of(probing, masked=True)
    with RunFolder(path) as folder:
        folder.create_or_continue({"test": path.name}, {})
        probes: Any = {one.task.name: (probe, probing) for one in works}
        given = StudyInput([works], {}, {}, roles, probes, 0, Settings(), QUIET)
        return do_study(STUDY, folder, given)["robustness"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, roles: CountedRoles, probing: MiniatureProbingSet) -> pd.DataFrame:
    works = (work("resnet18_layer4", FOG, BLUR), work("resnet18_layer4", FOG))
    renamed = works[1].task.model_copy(update={"name": "other"})
    other = Work(renamed, "miniature", (), works[1].conditions, 1, IMAGES, (0,))
    return measured(tmp_path_factory.mktemp("robust") / "run", roles, probing, works[0], other)


@pytest.mark.parametrize("condition", [CLEAN, FOG, BLUR])
def test_the_kind_with_the_highest_output_or_the_nearest_name_is_one_that_the_scene_shows(
    found: pd.DataFrame, roles: CountedRoles, probing: MiniatureProbingSet, condition: Condition
) -> None:
    probe = probe_of(probing, masked=True)
    images = perturbed(probe, condition, 0, Settings(), torch.device("cpu"))(range(len(probe.ids)))
    target = roles.target("resnet18")
    with torch.inference_mode():
        logits = target.network(target.preprocessing(images))[:, [CONCEPTS.index(kind) for kind in KINDS]]
    texts = roles.clip.encode_text([f"a {kind}" for kind in KINDS])
    near = roles.clip.encode_images(images) @ texts.T
    shown = [{thing.kind for thing in scene_at("probe", int(name.split("-")[1])).things} for name in probe.ids]
    for role, scores in (("network", logits), ("clip", near)):
        expected = [KINDS[best] in kinds for best, kinds in zip(scores.argmax(1).tolist(), shown, strict=True)]
        place = found["task"].eq("resnet18_layer4") & found["role"].eq(role) & found["perturbation"].eq(condition.name)
        own = found.loc[place].set_index("image")["right"]
        assert own.reindex(list(probe.ids)).tolist() == expected
        assert len(own) == len(probe.ids)
    if condition == CLEAN:
        assert np.mean(expected) > 0.9


def test_each_task_has_its_own_conditions(found: pd.DataFrame) -> None:
    assert set(found.loc[found["task"] == "other", "perturbation"]) == {"clean", "fog"}
    fog = found.loc[found["perturbation"] == "fog"]
    both = [fog.loc[fog["task"] == task] for task in ("other", "resnet18_layer4")]
    assert both[0]["right"].tolist() == both[1]["right"].tolist()


def test_tables_say_what_is_kept(found: pd.DataFrame) -> None:
    first, second = robustness_contents(found, RunFacts())
    assert (first.task, second.task) == ("other", "resnet18_layer4")
    rows = {row.name: row.cells for row in second.rows}
    assert set(rows) == {"fog 3", "background_blur 5", "mean", "clean"}
    own = found.loc[(found["task"] == "resnet18_layer4") & (found["role"] == "network")]
    right = own.groupby("perturbation")["right"].mean()
    assert rows["fog 3"][0].value == pytest.approx(right["fog"])
    assert rows["fog 3"][1].value == pytest.approx(right["fog"] / right["clean"])
    assert rows["clean"][0].value == pytest.approx(right["clean"])
    assert "| fog 3 |" in markdown_tables([second])


def test_what_the_cache_holds_of_a_layer_is_not_read_or_perturbed_again(
    tmp_path: Path, roles: CountedRoles, probing: MiniatureProbingSet
) -> None:
    task = work("resnet50_fc", FOG)
    probe = probe_of(probing, masked=False)
    passes = Passes(roles, "resnet50", probe, probing.digest, Settings(), 0)
    for condition in task.conditions:
        images = perturbed(probe, condition, 0, Settings(), roles.device)
        passes.observe(probe, condition, images, {"fc": "mean"}, {"fc": (0,)})
    choices_of(task, probing, roles)
    roles.tally.clear()
    found = measured(tmp_path / "run", roles, probing, task)
    assert len(found) == 2 * 2 * IMAGES
    assert not roles.tally


def test_a_finished_run_is_read_and_a_lost_table_made_again(
    tmp_path: Path, roles: CountedRoles, probing: MiniatureProbingSet
) -> None:
    first = measured(tmp_path / "run", roles, probing, work("resnet18_layer4", FOG))
    table = tmp_path / "run" / "robustness.parquet"
    written = table.stat().st_mtime_ns
    assert measured(tmp_path / "run", roles, probing, work("resnet18_layer4", FOG)).equals(first)
    assert table.stat().st_mtime_ns == written
    before = table.read_bytes()
    table.write_bytes(before[: len(before) // 2])
    assert measured(tmp_path / "run", roles, probing, work("resnet18_layer4", FOG)).equals(first)
    assert table.read_bytes() == before


def test_a_run_writes_and_returns_the_tables(tmp_path: Path) -> None:
    options = RunOptions(
        tasks=("resnet18_layer4",), methods=("random_label",), suites=("fog",), units=4, images=12, repeats=1,
        faithfulness="none", thumbnails=0, analyses=("robustness",), out=tmp_path / "run", device="cpu", cache="none",
    )  # fmt: skip
    result = run(options, QUIET)
    (table,) = result.studies["robustness"]
    assert [row.name for row in table.rows] == ["fog 3", "mean", "clean"]
    assert len(RunFolder(result.folder).read_table("robustness")) == 2 * 2 * 12
    assert "Accuracy kept" in (result.folder / "tables" / "robustness.md").read_text()
    assert "fog 3" in (result.folder / "tables" / "robustness.tex").read_text()
    assert run(options, QUIET).studies == result.studies


def test_a_run_on_images_of_unknown_class_stops_before_it_begins(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        Image.new("RGB", (64, 64), (80 * number, 20, 200)).save(images / f"{number}.png")
    options = RunOptions(
        tasks=("resnet18_layer4",), methods=("random_label",), suites=("fog",), units=4, image_folder=images,
        analyses=("robustness",), out=tmp_path / "run", device="cpu", cache="none",
    )  # fmt: skip
    with pytest.raises(UserError, match="needs images whose class is known"):
        run(options, QUIET)
    assert not (tmp_path / "run" / "run.json").exists()


# ---- classes ----


class Names:
    """Roles of a network with as many outputs as asked for."""

    def __init__(self, outputs: int) -> None:
        self.outputs = outputs

    def output_layer(self, name: str) -> str:
        return "fc"

    def unit_count(self, name: str, layer: str) -> int:
        return self.outputs

    def class_names(self, outputs: int | None = None) -> tuple[str, ...] | None:
        return imagenet_names() if outputs == 1000 else None


def classes(*names: str, own: tuple[int, ...] = (1, 0, 1)) -> Any:
    return SimpleNamespace(classes=np.array(own), class_names=names, concepts=names)


def test_classes_of_imagenet_are_found_by_name_or_identifier() -> None:
    found = choices_of(work("resnet50_fc"), classes("n01440764", "school_bus"), Names(1000))
    bus = imagenet_names().index("school bus")
    assert [np.flatnonzero(row).tolist() for row in found.right] == [[bus], [0], [bus]]
    assert found.names[0] == "tench"
    assert found.names[638:640] == ("maillot", "maillot, tank suit")
    assert found.outputs.tolist() == list(range(1000))


def test_every_name_of_a_class_is_its_own_unless_two_classes_share_it() -> None:
    numbers = imagenet_numbers()
    assert numbers["tench"] == numbers["tinca tinca"] == numbers["n01440764"] == 0
    assert numbers["crane, bird"] == 134
    assert numbers["crane, machine"] == 517
    assert "crane" not in numbers
    assert "bird" not in numbers
    assert len(set(numbers.values())) == 1000


def test_a_set_with_as_many_classes_as_outputs_is_taken_in_its_order() -> None:
    found = choices_of(work("resnet50_fc"), classes("aeroplane", "bicycle"), Names(2))
    assert found.names == ("aeroplane", "bicycle")
    assert found.right.tolist() == [[False, True], [True, False], [False, True]]


@pytest.mark.parametrize(
    ("probing", "outputs", "told"),
    [
        (classes("aeroplane", "bicycle"), 7, "the 7 outputs of resnet50 are not the 2 classes"),
        (classes("tench", "gizmo"), 1000, "1000 outputs of resnet50 are not the 2 classes"),
        (SimpleNamespace(concepts=()), 1000, "needs images whose class is known"),
        (SimpleNamespace(concepts=CONCEPTS, presence=np.ones((3, 46), bool)), 12, "needs images whose class is known"),
    ],
)
def test_without_a_known_class_there_is_one_sentence(probing: Any, outputs: int, told: str) -> None:
    roles: Any = Names(outputs)
    with pytest.raises(UserError, match=told):
        choices_of(work("resnet50_fc"), probing, roles)
