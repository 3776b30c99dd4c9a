"""Who is to blame where that is known, and two of the four corners against a run's own cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch

from baselines import registry
from baselines.base import Label, UnitLabels
from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from benchmark.core.passes import Passes
from benchmark.core.work import Work
from benchmark.runner import run
from benchmark.studies.attribution.measure import STUDY, _defined, crossed
from benchmark.studies.base import StudyInput, do_study
from leaderboard.board.facts import RunFacts
from leaderboard.store.analysis_schema import ATTRIBUTION
from leaderboard.store.run_folder import RunFolder
from leaderboard.view.attribution import Blame, blames
from tasks.activations.maps import MemoryMaps
from tasks.cache import open_cache
from tasks.catalogue import load_task
from tasks.common.errors import UserError
from tasks.miniature.probing import MiniatureProbingSet
from tasks.miniature.scene import scene_at
from tasks.miniature.training.planted_truth import occurrence
from tasks.miniature.vocabulary import CONCEPTS
from tasks.observation import ConceptPresence, Observation
from tasks.observe import CLEAN, Condition, probe_of
from tasks.perturbations.settings import Settings
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile

NOISE, SWAP = Condition("gaussian_noise", 5), Condition("mixed_rand", 3)
IMAGES = 48
UNITS = tuple(range(len(CONCEPTS)))


class Blind:
    """Names a unit by its strongest image, whatever that shows."""

    name, version, needs = "blind", "1", frozenset({"concepts"})

    def label(self, observation: Observation, units: Sequence[int], tools: Any) -> list[UnitLabels]:
        best = observation.activations.argmax(dim=0).tolist()
        return [UnitLabels(unit, (Label(tools.concepts[best[unit] % len(tools.concepts)], 1.0),)) for unit in units]


class Broken(Blind):
    """Has no name for anything that is not clean."""

    name: ClassVar[str] = "broken"

    def label(self, observation: Observation, units: Sequence[int], tools: Any) -> list[UnitLabels]:
        if observation.images([0]).float().std() > 60:
            raise RuntimeError("too noisy")
        return super().label(observation, units, tools)


@pytest.fixture(scope="module")
def roles(tmp_path_factory: pytest.TempPathFactory) -> Roles:
    cache = open_cache(str(tmp_path_factory.mktemp("cache")))
    return Roles(load_profile("miniature"), torch.device("cpu"), cache=cache)


def work(*conditions: Condition, task: str = "resnet18_layer4", units: tuple[int, ...] = UNITS) -> Work:
    return Work(load_task(task), "miniature", (), (CLEAN, *conditions), 1, IMAGES, units)


def measured(path: Path, roles: Roles, mine: Work, *methods: Any) -> pd.DataFrame:
    probing = roles.probing_set(mine.task.probing_set, IMAGES, roles.view(mine.task.model))
    loaded = {one.name: one for one in methods}
    with RunFolder(path) as folder:
        folder.create_or_continue({"test": path.name}, {})
        probes: Any = {mine.task.name: (probe_of(probing, masked=True), probing)}
        concepts = {mine.task.name: CONCEPTS}
        given = StudyInput([[mine]], loaded, concepts, roles, probes, 0, Settings(), Display("quiet"))
        return do_study(STUDY, folder, given)["attribution"]


def found_in(table: pd.DataFrame) -> dict[tuple[str, str], Blame]:
    return {(blame.method, blame.measure): blame for blame in blames(table, RunFacts())}


def reading_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unit c of every network is high where the scene shows concept c, whatever the pixels are."""
    shown, of_tasks = MiniatureProbingSet("probe", IMAGES).presence, Passes.of_tasks
    each = np.random.default_rng(0).uniform(0, 0.1, shown.shape)
    activations = torch.from_numpy((shown + each).astype(np.float32))
    maps = MemoryMaps(activations[:, :, None, None].expand(-1, -1, 4, 4).contiguous())

    def instead(self: Passes, works: Sequence[Work], condition: Condition) -> dict[str, Observation]:
        seen = of_tasks(self, works, condition)
        return {layer: replace(one, activations=activations, maps=maps) for layer, one in seen.items()}

    monkeypatch.setattr(Passes, "of_tasks", instead)


# ---- whose fault it is known to be ----


def test_a_network_that_reads_the_scenes_truth_is_not_to_blame(
    tmp_path: Path, roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading_the_truth(monkeypatch)
    names = {"clip_dissect": {"top_k": 8}, "semantic_lens": {}, "network_dissection": {}}
    methods = [registry.load(name, **options) for name, options in names.items()]
    table = measured(tmp_path / "run", roles, work(NOISE), *methods)
    assert table["truth"].equals(table["truth_now"])
    known = table.loc[table["truth"].notna()]
    assert known["unit"].nunique() >= 5
    assert [CONCEPTS[unit] for unit in known["unit"]] == known["truth"].tolist()
    for (method, measure), blame in found_in(table).items():
        (one,) = blame.each
        assert one.network[:3] == one.interaction[:3] == (0, 0, 0)
        assert one.pictures == one.loss
        if method == "network_dissection":
            assert one.loss[:3] == (0, 0, 0)
        elif measure == "stability":
            assert one.share[:3] == (0, 0, 0)
            assert one.difference.high < 0


def test_a_describer_that_is_blind_to_the_pixels_leaves_nothing_to_the_pictures(tmp_path: Path, roles: Roles) -> None:
    table = measured(tmp_path / "run", roles, work(NOISE), Blind(), registry.load("network_dissection"))
    for (method, measure), blame in found_in(table).items():
        (one,) = blame.each
        assert one.pictures.estimate == one.interaction.estimate == 0
        assert one.network == one.loss
        if (method, measure) == ("blind", "stability"):
            assert one.share[:3] == (1, 1, 1)
            assert one.difference.low > 0


def test_random_draws_are_no_part_of_a_loss(tmp_path: Path, roles: Roles) -> None:
    table = measured(tmp_path / "run", roles, work(NOISE), registry.load("random_label"))
    assert table.groupby("unit")["label"].nunique().eq(1).all()


# ---- the four corners ----


def test_the_corners_sum_up_and_two_of_them_are_the_runs_own_cells(tmp_path: Path) -> None:
    options = RunOptions(
        tasks=("resnet18_layer4",), methods=("clip_dissect", "network_dissection"), suites=("gaussian_noise",),
        units=12, images=IMAGES, repeats=1, faithfulness="none", thumbnails=0, analyses=("attribution",),
        method_options={"clip_dissect": {"top_k": 8}}, out=tmp_path / "run", device="cpu", cache="none",
    )  # fmt: skip
    result = run(options, Display("quiet"))
    table = RunFolder(result.folder).read_table("attribution")
    assert list(table.columns) == [column.name for column in ATTRIBUTION.columns]
    key = ["method", "perturbation", "severity", "unit"]
    own = table.loc[table["perturbed"].isin(["nothing", "both"])].set_index(key).sort_index()
    cells = result.scores.set_index(key).sort_index()
    assert own["label"].equals(cells["label"])
    assert own["right"].equals(cells["right"])
    np.testing.assert_allclose(own["stability"], cells["stability"])
    found = found_in(table)
    assert set(found) == {(m, v) for m in ("clip_dissect", "network_dissection") for v in ("accuracy", "stability")}
    for (method, measure), blame in found.items():
        for (name, _), one in zip(blame.conditions, blame.each, strict=True):
            here = result.scores.loc[result.scores["method"].eq(method) & result.scores["perturbation"].eq(name)]
            moved = {
                "accuracy": here["right_clean"].astype(float).mean() - here["right"].astype(float).mean(),
                "stability": 1 - here["stability"].mean(),
            }
            assert one.loss.estimate == pytest.approx(moved[measure])
            assert one.network.estimate + one.pictures.estimate == pytest.approx(one.loss.estimate)
    titles = [table.kind for table in result.studies["attribution"]]
    assert titles[0] == "attribution"
    assert set(titles[1:]) == {"attribution_clip_dissect", "attribution_network_dissection", "attribution_truth"}
    assert run(options, Display("quiet")).studies == result.studies


def test_annotation_goes_with_the_pictures_and_maps_with_the_activations(roles: Roles) -> None:
    probing = roles.probing_set("scenes", IMAGES, roles.view("resnet18"))
    passes = Passes(roles, "resnet18", probe_of(probing, masked=True), probing.digest, Settings(), 0)
    clean, now = (passes.of_tasks([work(SWAP)], one)["layer4"] for one in (CLEAN, SWAP))
    assert clean.segmentation is not now.segmentation
    parts = {"network": ("activations", "maps"), "pictures": ("images", "clip_embeddings", "segmentation", "presence")}
    for perturbed, found in crossed(clean, now).items():
        assert (found.condition, found.severity) == ("clean", 0)
        for factor, names in parts.items():
            source = now if perturbed in (factor, "both") else clean
            assert all(getattr(found, name) is getattr(source, name) for name in names)


# ---- what units do when perturbed ----


def test_planted_units_are_judged_by_their_definition_on_the_scene(roles: Roles) -> None:
    probing = roles.probing_set("scenes", IMAGES, roles.view("resnet50_planted"))
    planted = roles.planted("resnet50_planted")
    truth = {unit: {"concept": one.text, "op": one.op, "concepts": one.concepts} for unit, one in planted.items()}
    presence = ConceptPresence(probing.concepts, probing.presence)
    shown: Any = Observation("layer4", "spatial", "clean", 0, 0, probing.ids, torch.zeros(IMAGES, 1), None,
                             torch.zeros(IMAGES, 1), probing.load, probing.segmentation, presence)  # fmt: skip
    defined = _defined(truth, shown)
    scenes = [scene_at("probe", number) for number in range(IMAGES)]
    assert set(defined) == set(planted)
    for unit, one in planted.items():
        np.testing.assert_array_equal(defined[unit], occurrence(scenes, one.op, one.concepts))


def test_a_unit_that_no_longer_tells_its_concept_does_nothing_known(
    tmp_path: Path, roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Classes: those whose activations are reversed under the perturbation."""
    reading_the_truth(monkeypatch)
    kept, of_tasks = [unit for unit in UNITS if unit % 2], Passes.of_tasks

    def instead(self: Passes, works: Sequence[Work], condition: Condition) -> dict[str, Observation]:
        seen = of_tasks(self, works, condition)
        if condition == CLEAN:
            return seen
        signs = torch.tensor([1.0 if unit in kept else -1.0 for unit in UNITS])
        return {layer: replace(one, activations=one.activations * signs) for layer, one in seen.items()}

    monkeypatch.setattr(Passes, "of_tasks", instead)
    table = measured(tmp_path / "run", roles, work(NOISE, task="resnet50_fc"), Blind())
    rows = table.loc[table["perturbed"].eq("both")].set_index("unit")
    assert rows["truth"].notna().all()
    assert set(rows.index[rows["truth_now"].notna()]) == set(kept)
    assert rows.loc[kept, "truth"].equals(rows.loc[kept, "truth_now"])
    assert rows["right_now"].notna().equals(rows["truth_now"].notna())


# ---- what is refused ----


def test_a_task_without_a_perturbed_condition_is_refused(roles: Roles) -> None:
    with pytest.raises(UserError, match="resnet18_layer4 has no perturbed ones: choose --suites"):
        STUDY.check([[work()]], roles)


def test_a_method_that_fails_is_left_out_and_named(
    tmp_path: Path, roles: Roles, capsys: pytest.CaptureFixture[str]
) -> None:
    table = measured(tmp_path / "run", roles, work(NOISE), Broken(), Blind())
    assert set(table["method"]) == {"blind"}
    assert "attribution leaves out broken: RuntimeError: too noisy" in capsys.readouterr().err


def test_the_plan_counts_three_labellings_per_condition(roles: Roles) -> None:
    first, second = STUDY.costs([[work(NOISE, SWAP), work(NOISE)]], roles)
    assert (first.labellings, second.labellings) == ((7, 1), (4, 1))
    assert (first.read.expected, second.read.expected) == (3 * IMAGES, 0)
