"""What a pass over the images found is kept for other runs, and can never stand for another condition's."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from benchmark import runner
from benchmark.run import passes
from benchmark.run.display import Display
from benchmark.run.options import RunOptions
from leaderboard.store.run_folder import RunFolder

TABLES = ("labels", "evidence", "scores")


def run(out: Path, cache: Path | str, **changes: object) -> runner.RunResult:
    values: dict[str, object] = {
        "tasks": ("resnet18_layer4",),
        "methods": ("clip_dissect", "network_dissection"),
        "suites": ("background_blur",),
        "images": 100,
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
    real, late = passes.observe, passes.late_maps

    def observe(target, layers, probe, condition, *rest, **named):
        seen.append(condition.name)
        return real(target, layers, probe, condition, *rest, **named)

    def late_maps(*given):
        seen.append("late maps")
        return late(*given)

    monkeypatch.setattr(passes, "observe", observe)
    monkeypatch.setattr(passes, "late_maps", late_maps)
    return seen


def tables(result: runner.RunResult) -> dict[str, pd.DataFrame]:
    return {name: RunFolder(result.folder).read_table(name) for name in TABLES}


def test_another_run_reads_what_the_first_found(tmp_path: Path, passed: list[str]) -> None:
    plain = tables(run(tmp_path / "plain", "none"))
    first = tables(run(tmp_path / "first", tmp_path / "cache"))
    assert passed == ["clean", "background_blur"] * 2
    passed.clear()
    second = tables(run(tmp_path / "second", tmp_path / "cache"))
    assert passed == []
    for name in TABLES:
        pd.testing.assert_frame_equal(first[name], plain[name])
        pd.testing.assert_frame_equal(second[name], plain[name])


def test_other_units_need_their_maps_and_nothing_else(tmp_path: Path, passed: list[str]) -> None:
    run(tmp_path / "first", tmp_path / "cache")
    plain = tables(run(tmp_path / "plain", "none", unit_ids=(2, 9)))
    passed.clear()
    again = tables(run(tmp_path / "second", tmp_path / "cache", unit_ids=(2, 9)))
    assert passed == ["late maps"] * 2
    for name in TABLES:
        pd.testing.assert_frame_equal(again[name], plain[name])


def test_another_seed_or_severity_shares_only_the_clean_pass(tmp_path: Path, passed: list[str]) -> None:
    """Faults F1 and F2: perturbed images have keys of their own."""
    changes = {"methods": ("random_label",), "suites": ("gaussian_noise",)}
    run(tmp_path / "first", tmp_path / "cache", **changes)
    passed.clear()
    run(tmp_path / "seed", tmp_path / "cache", seed=1, **changes)
    assert passed == ["gaussian_noise"]
    run(tmp_path / "severity", tmp_path / "cache", severities=(5,), **changes)
    assert passed == ["gaussian_noise"] * 2
    run(tmp_path / "images", tmp_path / "cache", **(changes | {"images": 99}))
    assert passed[2:] == ["clean", "gaussian_noise"]


def test_a_flipped_bit_is_found_and_the_pass_made_again(tmp_path: Path, passed: list[str]) -> None:
    """Fault F3."""
    first = tables(run(tmp_path / "first", tmp_path / "cache"))
    passed.clear()
    for blob in (tmp_path / "cache" / "blobs").rglob("*.safetensors"):
        data = bytearray(blob.read_bytes())
        data[-3] ^= 1
        blob.write_bytes(data)
    again = tables(run(tmp_path / "second", tmp_path / "cache"))
    assert passed == ["clean", "background_blur"]
    assert len(list((tmp_path / "cache" / "corrupt").iterdir())) >= 2
    for name in TABLES:
        pd.testing.assert_frame_equal(again[name], first[name])
