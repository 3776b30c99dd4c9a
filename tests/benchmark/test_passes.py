"""What a pass over the images found is kept for other runs, and can never stand for another condition's."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from baselines import registry
from baselines.evidence import top_images
from benchmark import runner
from benchmark.core import passes
from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from leaderboard.store.run_folder import RunFolder
from tasks.cache import open_cache
from tasks.observation import Observation
from tasks.observe import CLEAN, probe_of
from tasks.perturbations.settings import Settings
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile

TABLES = ("labels", "evidence", "scores")


def run(out: Path, cache: Path | str, **changes: object) -> runner.RunResult:
    values: dict[str, object] = {
        "tasks": ("resnet18_layer4",),
        "methods": ("clip_dissect", "network_dissection"),
        "method_options": {"clip_dissect": {"top_k": 10}} if "methods" not in changes else {},
        "suites": ("background_blur",),
        "images": 24,
        "unit_ids": (1, 4, 9),
        "out": out,
        "device": "cpu",
        "faithfulness": "none",
        "cache": str(cache),
    }
    return runner.run(RunOptions.model_validate(values | changes), Display("quiet"))


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The conditions whose images went through the network."""
    seen: list[str] = []
    real, late, top = passes.observe, passes.late_maps, passes.late_top_maps

    def observe(target, layers, probe, condition, *rest, **named):
        seen.append(condition.name)
        return real(target, layers, probe, condition, *rest, **named)

    def late_maps(*given):
        seen.append("late maps")
        return late(*given)

    def late_top_maps(*given):
        seen.append("late top maps")
        return top(*given)

    monkeypatch.setattr(passes, "observe", observe)
    monkeypatch.setattr(passes, "late_top_maps", late_top_maps)
    monkeypatch.setattr(passes, "late_maps", late_maps)
    return seen


def tables(result: runner.RunResult) -> dict[str, pd.DataFrame]:
    return {name: RunFolder(result.folder).read_table(name) for name in TABLES}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, pd.DataFrame]]:
    """A cache that a run has filled, and that run's tables."""
    folder = tmp_path_factory.mktemp("filled")
    return folder / "cache", tables(run(folder / "first", folder / "cache"))


@pytest.fixture
def cache(filled: tuple[Path, dict[str, pd.DataFrame]], tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(filled[0], tmp_path / "cache"))


@pytest.fixture
def first(filled: tuple[Path, dict[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    return filled[1]


def test_another_run_reads_what_the_first_found(
    tmp_path: Path, cache: Path, first: dict[str, pd.DataFrame], passed: list[str]
) -> None:
    plain = tables(run(tmp_path / "plain", "none"))
    assert passed == ["clean", "background_blur"]
    passed.clear()
    second = tables(run(tmp_path / "second", cache))
    assert passed == []
    for name in TABLES:
        pd.testing.assert_frame_equal(first[name], plain[name])
        pd.testing.assert_frame_equal(second[name], plain[name])


def test_other_units_need_their_maps_and_nothing_else(tmp_path: Path, cache: Path, passed: list[str]) -> None:
    plain = tables(run(tmp_path / "plain", "none", unit_ids=(2, 9)))
    passed.clear()
    again = tables(run(tmp_path / "second", cache, unit_ids=(2, 9)))
    assert passed == ["late maps"] * 2
    for name in TABLES:
        pd.testing.assert_frame_equal(again[name], plain[name])


def test_maps_of_the_top_images_alone_change_nothing(tmp_path: Path, passed: list[str]) -> None:
    profile, cpu = load_profile("miniature"), torch.device("cpu")
    probing = Roles(profile, cpu).probing_set("scenes", 16, Roles(profile, cpu).view("resnet18"))
    probe = probe_of(probing, masked=False)

    def look(mapped: int | None, cache: str, units: list[int]) -> Observation:
        roles = Roles(profile, cpu, cache=open_cache(cache))
        pass_ = passes.Passes(roles, "resnet18", probe, probing.digest, Settings(), 0, mapped)
        return pass_.observe(probe, CLEAN, probe.load, {"layer4": "mean"}, {"layer4": units})["layer4"]

    cache, units = str(tmp_path / "cache"), [1, 4, 9]
    whole = look(None, "none", units)
    # Just made, without a cache and with one; then of other units; then from the cache.
    seen = [look(3, "none", units), look(3, cache, [1, 2]), look(3, cache, units), look(3, cache, units)]
    assert whole.maps is not None
    for unit in units:
        best = top_images(whole.activations[:, unit], 4)
        for observation in seen if unit == 1 else (seen[0], *seen[2:]):
            assert observation.maps is not None
            assert torch.equal(observation.maps.read(best[:3], [unit]), whole.maps.read(best[:3], [unit]))
    assert passed == ["clean"] * 3 + ["late top maps"]
    for observation in seen[2:]:
        assert observation.maps is not None
        assert torch.equal(observation.maps.read(best, [unit]), whole.maps.read(best, [unit]))
    assert passed[4:] == ["late maps"] * 2


def test_methods_say_whose_maps_they_read() -> None:
    dissection, constant = registry.load("network_dissection"), registry.load("constant_label")
    assert passes.mapped_images([constant]) == 0
    assert passes.mapped_images([constant, registry.load("dnd"), registry.load("clear", top_images=12)]) == 12
    assert passes.mapped_images([registry.load("dnd"), dissection]) is None
    stated = SimpleNamespace(needs={"maps"}, top_images=3)
    assert passes.mapped_images([stated, constant]) == 3


def test_another_seed_or_severity_shares_only_the_clean_pass(tmp_path: Path, passed: list[str]) -> None:
    """Faults F1 and F2: perturbed images have keys of their own."""
    changes = {"methods": ("random_label",), "suites": ("gaussian_noise",), "images": 8}
    run(tmp_path / "first", tmp_path / "cache", **changes)
    passed.clear()
    run(tmp_path / "seed", tmp_path / "cache", seed=1, **changes)
    assert passed == ["gaussian_noise"]
    run(tmp_path / "severity", tmp_path / "cache", severities=(5,), **changes)
    assert passed == ["gaussian_noise"] * 2
    run(tmp_path / "images", tmp_path / "cache", **(changes | {"images": 7}))
    assert passed[2:] == ["clean", "gaussian_noise"]


def test_a_flipped_bit_is_found_and_the_pass_made_again(
    tmp_path: Path, cache: Path, first: dict[str, pd.DataFrame], passed: list[str]
) -> None:
    """Fault F3."""
    for blob in (cache / "blobs").rglob("*.safetensors"):
        data = bytearray(blob.read_bytes())
        data[-3] ^= 1
        blob.write_bytes(data)
    again = tables(run(tmp_path / "second", cache))
    assert passed == ["clean", "background_blur"]
    assert len(list((cache / "corrupt").iterdir())) >= 2
    for name in TABLES:
        pd.testing.assert_frame_equal(again[name], first[name])
