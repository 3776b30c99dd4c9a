"""Two networks: units matched by number, activation and label, and how far labels move between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from scipy.stats import pearsonr

from baselines.base import Label, UnitLabels
from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from benchmark.core.prepare import apply_overrides
from benchmark.core.tables_cache import tables_key
from benchmark.core.work import Work
from benchmark.studies.base import StudyInput, do_study
from benchmark.studies.networks.measure import ACTIVATION, INDEX, LABEL, Networks
from leaderboard.board.facts import RunFacts
from leaderboard.store.run_folder import RunFolder
from leaderboard.view.networks import networks_contents
from metrics.matching import best_among_own, best_match, correlations
from report.markdown import markdown_tables
from tasks.catalogue import load_task
from tasks.common.errors import UserError
from tasks.miniature.vocabulary import CONCEPTS
from tasks.observation import Observation
from tasks.observe import CLEAN, probe_of
from tasks.perturbations.settings import Settings
from tasks.profiles.build import Roles
from tasks.profiles.own import other_name, with_other_networks
from tasks.profiles.schema import load_profile

IMAGES = 24
UNITS = (0, 3, 7, 9, 200, 511)
CPU = torch.device("cpu")


class TopImage:
    """Names a unit by the image that activates it most."""

    version, needs = "1", frozenset()

    def label(self, observation: Observation, units: Any, tools: Any) -> list[UnitLabels]:
        top = observation.activations.argmax(dim=0)
        return [UnitLabels(unit, (Label(CONCEPTS[int(top[unit])], 1.0),), ()) for unit in units]


@pytest.fixture(scope="module")
def permuted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Weights of the miniature's ResNet-18 with the channels of ``layer4`` in another order: (file, order)."""
    state = dict(Roles(load_profile("miniature"), CPU).target("resnet18").network.state_dict())
    order = torch.randperm(512, generator=torch.Generator().manual_seed(0))
    outputs = ("layer4.0.conv2", "layer4.0.bn2", "layer4.0.downsample.", "layer4.1.conv2", "layer4.1.bn2")
    for name, tensor in state.items():
        if name.startswith(outputs) and tensor.ndim:
            state[name] = tensor[order].contiguous()
        if name in ("layer4.1.conv1.weight", "fc.weight"):
            state[name] = tensor[:, order].contiguous()
    path = tmp_path_factory.mktemp("weights") / "permuted.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path, order.numpy()


def work() -> Work:
    return Work(load_task("resnet18_layer4"), "miniature", (), (CLEAN,), 2, IMAGES, UNITS)


def measured(path: Path, against: str) -> pd.DataFrame:
    mine = work()
    roles = Roles(with_other_networks(load_profile("miniature"), {"resnet18"}, against), CPU)
    study = Networks()
    study.check([[mine]], roles)
    probing = roles.probing_set(mine.task.probing_set, IMAGES, roles.view(mine.task.model))
    probes: Any = {mine.task.name: (probe_of(probing, masked=False), probing)}
    methods: Any = {"top": TopImage()}
    given = StudyInput([[mine]], methods, {mine.task.name: ("red",)}, roles, probes, 0, Settings(), Display("quiet"))
    with RunFolder(path) as folder:
        folder.create_or_continue({"test": path.name}, {})
        return do_study(study, folder, given)["networks"]


def by(table: pd.DataFrame, matching: str) -> pd.DataFrame:
    return table.loc[table["matching"] == matching].sort_values("unit")


def test_a_network_compared_with_itself_does_not_drift(tmp_path: Path) -> None:
    table = measured(tmp_path / "run", "resnet18")
    for matching in (INDEX, ACTIVATION):
        rows = by(table, matching)
        assert rows["unit"].tolist() == rows["other_unit"].tolist() == [*UNITS]
        assert rows["own_label"].tolist() == rows["other_label"].tolist()
        np.testing.assert_allclose(rows["correlation"], 1, atol=1e-6)
    assert (table["similarity"] - table["noise_floor"]).abs().max() < 1e-6
    assert table["same"].all()
    (shown,) = networks_contents(table, RunFacts())
    assert [section.title for section in shown.sections] == [INDEX, ACTIVATION, LABEL]
    difference = shown.columns.index("difference")
    assert all(abs(row.cells[difference].value) < 1e-6 for row in shown.rows)
    assert "6 of 6 match the unit of the same number" in shown.notes[0]
    assert "by activation" in markdown_tables([shown])


def test_permuted_channels_are_found_again(tmp_path: Path, permuted: tuple[Path, np.ndarray]) -> None:
    path, order = permuted
    table = measured(tmp_path / "run", str(path))
    matched = by(table, ACTIVATION)
    assert order[matched["other_unit"].to_numpy()].tolist() == [*UNITS]
    np.testing.assert_allclose(matched["correlation"], 1, atol=1e-5)
    assert matched["own_label"].tolist() == matched["other_label"].tolist()
    same_number = by(table, INDEX)
    assert same_number["other_unit"].tolist() == [*UNITS]
    assert same_number["same"].sum() < len(UNITS)
    assert (by(table, LABEL)["similarity"] > 0.999).all()
    assert by(table, LABEL)["chance"].mean() < 0.9


def test_correlations_are_scipys_and_constant_units_have_none() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(20, 3)), random.normal(size=(20, 4))
    second[:, 2] = 0.1
    found = correlations(first, second)
    assert (found[:, 2] == 0).all()
    for unit in range(3):
        for other in (0, 1, 3):
            assert found[unit, other] == pytest.approx(pearsonr(first[:, unit], second[:, other]).statistic)


def test_the_assignment_is_the_best_and_never_gives_a_unit_twice() -> None:
    scores = np.array([[0.9, 0.8, 0.0], [0.9, 0.1, 0.0]])
    assert best_match(scores, np.arange(2)).tolist() == [1, 0]
    assert best_match(np.zeros((2, 3)), np.array([2, 0])).tolist() == [2, 0]
    assert sorted(best_match(np.full((3, 2), np.nan), np.arange(3)).tolist()) == [-1, 0, 1]
    own = np.array([[1.0, 0.2, 0.7], [0.2, 1.0, 0.4], [0.7, 0.4, 1.0]])
    # Of the two ways to give none itself, both sum to the same three pairs.
    assert sorted(best_among_own(own).tolist()) == [0.2, 0.4, 0.7]
    assert np.isnan(best_among_own(np.ones((1, 1)))).all()


def test_the_second_network_is_named_in_three_ways(permuted: tuple[Path, np.ndarray]) -> None:
    profile, name = load_profile("miniature"), other_name("resnet18")
    path, _ = permuted
    found = with_other_networks(profile, {"resnet18"}, str(path)).targets[name]
    assert (found.architecture, found.weights) == ("resnet18", path.resolve())
    assert found.sha256 != profile.target("resnet18").sha256
    assert with_other_networks(profile, {"resnet18"}, "resnet50").targets[name] == profile.target("resnet50")
    own = with_other_networks(profile, {"resnet18"}, f"torchvision:resnet18={path}").targets[name]
    assert (own.architecture, own.weights) == ("resnet18", path.resolve())
    assert set(profile.targets) == {*with_other_networks(profile, {"resnet18"}, "resnet50").targets} - {name}
    with pytest.raises(
        UserError, match=r"--against 'gone\.pt' is no file of weights, no model of the profile miniature"
    ):
        with_other_networks(profile, {"resnet18"}, "gone.pt")


def test_tables_of_another_second_network_are_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    keys = []
    with RunFolder(tmp_path / "run") as folder:
        folder.create_or_continue({"test": "run"}, {})
        for against, content in ((None, b""), (str(file), b"one"), (str(file), b"two"), ("resnet50", b"two")):
            file.write_bytes(content)
            analyses = ("networks",) if against else ()
            keys.append(tables_key(folder, RunOptions(tasks=("resnet18_layer4",), analyses=analyses, against=against)))
        assert tables_key(folder, RunOptions(tasks=("resnet18_layer4",))) == keys[0]
    assert len(set(keys)) == 4


def test_the_option_belongs_to_the_study_and_leaves_the_run_what_it_is() -> None:
    asked = RunOptions(tasks=("resnet18_layer4",), analyses=("networks",), against="resnet50")
    plain = RunOptions(tasks=("resnet18_layer4",))
    assert asked.identity() == plain.identity()
    profile, (task,) = apply_overrides(asked, [load_task("resnet18_layer4")])
    assert profile.target(other_name(task.model)) == profile.target("resnet50")
    assert profile.identity(["resnet18"]) == load_profile("miniature").identity(["resnet18"])
    with pytest.raises(ValidationError, match="--against needs --analysis networks"):
        RunOptions(tasks=("resnet18_layer4",), against="resnet50")
    with pytest.raises(UserError, match="name it with --against"):
        Networks().check([[work()]], Roles(load_profile("miniature"), CPU))
