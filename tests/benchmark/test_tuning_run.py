"""The analysis from a task to its table, on a small network with few images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch

from baselines import registry
from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from benchmark.core.work import Work
from benchmark.plan.make import make_plan
from benchmark.runner import run
from benchmark.studies.base import StudyInput, do_study
from benchmark.studies.labelling import Subject, possible
from benchmark.studies.tuning import measure as analysis
from benchmark.studies.tuning.measure import Tuning
from benchmark.studies.tuning.networks import CONTROL, UNTUNED, Plan, why_not
from leaderboard.board.summary import summarise
from leaderboard.store.analysis_schema import TUNING
from leaderboard.store.frames import to_arrow, to_pandas
from leaderboard.store.run_folder import RunFolder
from leaderboard.store.schema import SCORES
from tasks.catalogue import load_task
from tasks.common.errors import UserError
from tasks.observe import CLEAN, Condition, probe_of
from tasks.perturbations.settings import Settings
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile
from tasks.tuning import Recipe

IMAGES = 16
FOG = Condition("fog", 3)
PLAN = Plan(
    corruptions=("brightness",), train=12, validation=6, test=8, recipe=Recipe(steps=2, batch=4, every=1, patience=2)
)
CONCEPTS = ("red", "blue", "circle", "star", "green lawn", "brick wall")


@pytest.fixture(scope="module")
def roles() -> Roles:
    return Roles(load_profile("miniature"), torch.device("cpu"))


def work(task: str = "resnet18_layer4", *, conditions: tuple[Condition, ...] = (FOG,), first: int = 0) -> Work:
    units = tuple(range(first, first + 5))
    return Work(load_task(task), "miniature", ("clip_dissect",), (CLEAN, *conditions), 1, IMAGES, units)


def measured(path: Path, roles: Roles, mine: Work, *methods: str, seed: int = 0) -> pd.DataFrame:
    probing = roles.probing_set(mine.task.probing_set, IMAGES, roles.view(mine.task.model))
    options = {"clip_dissect": {"top_k": 8}}
    loaded = {name: registry.load(name, **options.get(name, {})) for name in methods or ("clip_dissect",)}
    with RunFolder(path) as folder:
        folder.create_or_continue({"test": path.name}, {})
        probes = {mine.task.name: (probe_of(probing, masked=True), probing)}
        concepts = {mine.task.name: CONCEPTS}
        quiet = Display("quiet")
        given = StudyInput([[mine]], loaded, concepts, roles, probes, seed, Settings(), quiet)
        return do_study(Tuning(plan=PLAN), folder, given)["tuning"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, roles: Roles) -> pd.DataFrame:
    return measured(tmp_path_factory.mktemp("tuning") / "run", roles, work())


def value(table: pd.DataFrame, *key: str, column: str = "value") -> float:
    names = ["study", "arm", "subject", "measure", "conditions"]
    return float(table.set_index(names).loc[key, column])


def test_the_table_is_whole(found: pd.DataFrame) -> None:
    assert list(found.columns) == [column.name for column in TUNING.columns]
    by_study = found.groupby("study")["arm"].agg(set).to_dict()
    assert by_study == {
        "probing set": {"0", "0.25", "0.5", "0.75", "1"},
        "network": {UNTUNED, CONTROL, "background blur", "corruptions", "both"},
    }
    network = found[found["subject"] == "network"]
    assert set(network["conditions"]) == {"clean", "brightness 3", "background_blur 3", "fog 3", "tuned on", "held out"}
    labels = found[(found["subject"] == "clip_dissect") & (found["measure"] == "stability")]
    assert set(labels["conditions"]) == {"fog 3", "held out"}


def test_share_zero_is_the_untuned_network(found: pd.DataFrame) -> None:
    """Both label the same units on the same images, on two ways."""
    for measure, group in (("stability", "held out"), ("accuracy", "clean"), ("accuracy", "held out")):
        pair = [
            value(found, *arm, "clip_dissect", measure, group) for arm in (("probing set", "0"), ("network", UNTUNED))
        ]
        assert pair[0] == pytest.approx(pair[1], nan_ok=True)


def test_the_untuned_network_keeps_its_own_labels(found: pd.DataFrame) -> None:
    kept = found[found["measure"] == "kept"].set_index("arm")
    assert set(kept.index) == {UNTUNED, CONTROL, "background blur", "corruptions", "both"}
    assert set(kept["subject"]) == {"clip_dissect"}
    assert set(kept["conditions"]) == {"clean"}
    assert kept.loc[UNTUNED, "value"] == pytest.approx(1)
    assert (kept["value"] <= 1 + 1e-9).all()
    assert kept["p_value"].isna().all()


def test_the_untuned_network_errs_as_itself(found: pd.DataFrame) -> None:
    own = found[(found["measure"] == "error_ratio") & (found["arm"] == UNTUNED)]
    assert own["value"].to_numpy() == pytest.approx(1)
    assert own["difference"].isna().all()
    assert value(found, "network", UNTUNED, "network", "auroc", "clean") > 0.9


def test_differences_are_from_the_untuned_network_and_only_means_are_tested(found: pd.DataFrame) -> None:
    key = ("network", "both", "network", "error", "tuned on")
    before = value(found, "network", UNTUNED, *key[2:])
    assert value(found, *key, column="difference") == pytest.approx(value(found, *key) - before)
    tested = found[found["p_value"].notna()]
    assert set(tested["conditions"]) <= {"clean", "tuned on", "held out"}
    assert (tested["p_corrected"] >= tested["p_value"]).all()
    ratio = value(found, "network", "both", "network", "error_ratio", "fog 3")
    errors = [value(found, "network", arm, "network", "error", "fog 3") for arm in ("both", UNTUNED)]
    assert ratio == pytest.approx(errors[0] / errors[1])


def test_the_same_run_reads_its_table_and_another_seed_does_not(
    tmp_path: Path, roles: Roles, found: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def instead(*given: object) -> pd.DataFrame:
        asked.append(given)
        return found.copy()

    monkeypatch.setattr(analysis, "_measured", instead)
    for _ in range(2):
        pd.testing.assert_frame_equal(measured(tmp_path / "run", roles, work()), found)
    assert len(asked) == 1
    (tmp_path / "run" / "tuning.parquet").write_bytes(b"broken")
    measured(tmp_path / "run", roles, work())
    measured(tmp_path / "run", roles, work(), seed=1)
    assert len(asked) == 3


def test_conditions_that_something_is_tuned_on_are_not_held_out(tmp_path: Path, roles: Roles) -> None:
    mine = work(conditions=(Condition("brightness", 5), Condition("background_blur", 3)))
    with pytest.raises(UserError, match="choose --suites beyond brightness, background_blur"):
        measured(tmp_path / "run", roles, mine)


def test_images_without_masks_are_refused(roles: Roles) -> None:
    probing = roles.probing_set("scenes", IMAGES, roles.view("resnet18"))
    subject = analysis.Subject(
        work(), {}, CONCEPTS, roles, probe_of(probing, masked=False), probing.concepts, probing.presence, 0
    )
    with pytest.raises(UserError, match="try --masks segmenter"):
        analysis._measured(subject, PLAN, Settings(), Display("quiet"))


def test_what_cannot_be_tuned_says_why(roles: Roles) -> None:
    assert not why_not(work(), roles)
    assert not why_not(work("resnet50_fc"), roles)
    assert "before the tuned stage" in why_not(work("resnet50_layer3"), roles)
    assert "planted" in why_not(work("resnet50_planted"), roles)
    assert "torchvision ResNet" in why_not(
        Work(load_task("vit_tiny_block").model_copy(update={"layer": "fc"}), "miniature", (), (CLEAN,), 1, 2, (0,)),
        roles,
    )


def test_a_layer_without_maps_leaves_out_the_methods_that_need_them(
    tmp_path: Path, roles: Roles, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a layer before the tuned stage has no second study."""
    task = load_task("resnet50_layer3").model_copy(update={"name": "pooled", "layer": "avgpool"})
    vector = load_task("resnet50_fc").model_copy(update={"name": "vector", "layer": "fc"})
    fog = (CLEAN, FOG)
    mine = Work(task, "miniature", (), fog, 1, IMAGES, (0, 1, 2))
    table = measured(tmp_path / "one", roles, mine)
    assert set(table["study"]) == {"probing set"}
    scenes = roles.probing_set("scenes", IMAGES, roles.view("resnet50"))
    subject = analysis.Subject(
        Work(vector, "miniature", (), fog, 1, IMAGES, (0,)),
        {"network_dissection": registry.load("network_dissection")}, (), roles,
        probe_of(scenes, masked=True), (), np.zeros((IMAGES, 0), bool), 0,
    )  # fmt: skip
    left = possible(subject, Display("quiet"))
    assert not left.methods


def test_methods_may_ask_where_the_foreground_is(roles: Roles) -> None:
    """``clear`` sees images with their background blurred, in an analysis as in a run."""
    mine = work()
    probing = roles.probing_set(mine.task.probing_set, IMAGES, roles.view(mine.task.model))
    probe = probe_of(probing, masked=True)
    subject = Subject(mine, {}, CONCEPTS, roles, probe, probing.concepts, probing.presence, 0)
    clean = subject.observe(subject.plain, probe, CLEAN, probe.load)
    tools = subject.tools(subject.plain, lambda: clean)
    assert tools.foreground is not None
    found = tools.foreground(probe.load([0, 1]))
    assert torch.equal(found, roles.segmenter.foreground(probe.load([0, 1])))


def test_a_missing_label_is_wrong_as_on_the_board(roles: Roles) -> None:
    """A dead unit is left out instead, and so is one of unknown truth."""
    mine = work()
    subject = Subject(mine, {}, CONCEPTS, roles, cast(Any, None), (), np.zeros((IMAGES, 0), bool), 0)
    truth = {unit: {"concept": "red"} for unit in mine.units[:4]}
    found = subject.right(["red", None, "blue", None, "red"], truth, np.array([False, False, False, True, False]))
    np.testing.assert_array_equal(found, [1, 0, 0, np.nan, np.nan])
    optional = dict.fromkeys((column.name for column in SCORES.columns if column.optional), None)
    scores = pd.DataFrame(
        {
            **optional,
            **{"task": "t", "profile": "p", "method": "m", "perturbation": "fog", "severity": 3, "repeat": 0},
            "unit": mine.units,
            "dead": [False, False, False, True, False],
            "missing": [False, True, False, True, False],
            "truth": ["red"] * 4 + [None],
            "right": pd.array([True, None, False, None, None], "boolean"),
        }
    )
    board = summarise(to_pandas(SCORES, to_arrow(SCORES, scores)), 0)
    assert set(board["accuracy"].dropna()) == {np.nanmean(found)}


def test_what_captions_say_anyway_is_that_of_the_images_at_hand(roles: Roles) -> None:
    mine = work()
    probing = roles.probing_set(mine.task.probing_set, IMAGES, roles.view(mine.task.model))
    probe = probe_of(probing, masked=True)
    subject = Subject(mine, {}, CONCEPTS, roles, probe, probing.concepts, probing.presence, 0)
    clean = subject.observe(subject.plain, probe, CLEAN, probe.load)
    same = subject.observe(subject.plain, probe, CLEAN, lambda indices: probe.load([0] * len(indices)))
    shown = [clean]
    tools = subject.tools(subject.plain, lambda: shown[-1])
    assert tools.background is not None
    first = dict(tools.background())
    shown.append(same)
    alike = tools.background()
    assert set(alike.values()) == {1.0}
    shown.append(clean)
    assert tools.background() == first
    assert first != alike


def test_a_run_without_anything_held_out_is_refused_before_its_cells(tmp_path: Path) -> None:
    options = RunOptions(
        tasks=("resnet18_layer4",), methods=("constant_label",), suites=("brightness",), units=2, images=IMAGES,
        analyses=("tuning",), out=tmp_path / "run", device="cpu",
    )  # fmt: skip
    for ask in (run, make_plan):
        with pytest.raises(UserError, match="choose --suites beyond gaussian_noise"):
            ask(options, Display("quiet"))
    assert not (tmp_path / "run").exists()
