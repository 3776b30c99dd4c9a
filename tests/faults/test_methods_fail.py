"""Methods and perturbations that fail or hang lose their own cells, and the tables say so (F35, F37)."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from small_run import CELLS, METHODS, ROOT, options, run
from typer.testing import CliRunner

from baselines.base import Label, UnitLabels
from benchmark import runner
from benchmark.cli import app
from benchmark.core.display import Display
from leaderboard.store.run_folder import RunFolder
from tasks.perturbations import registry

LOAD = registry.Perturbation.load
ASKED = "run --task resnet18_layer4 --suites contrast,fog --images 12 --unit-ids 3,5 --device cpu --faithfulness none"


def test_f35_a_method_that_hangs_loses_its_cells_by_the_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("baselines.trivial.RandomLabel.label", lambda *_: time.sleep(600))
    result = runner.run(options(tmp_path / "run", cell_timeout=0.2, repeats=1), Display("quiet"))
    assert len(result.failed) == 3
    assert all("~random_label~" in cell for cell in result.failed)
    assert all(cell.endswith(": TookTooLong: took longer than 0.2 s") for cell in result.failed)
    assert set(result.summary["method"]) == {"constant_label"}


def test_f35_a_time_limit_that_has_no_effect_is_said_once(tmp_path: Path) -> None:
    said = io.StringIO()
    asked = options(tmp_path / "run", cell_timeout=60.0, repeats=1)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(runner.run, asked, Display("quiet", stream=said)).result().failed == []
    assert said.getvalue().count("--cell-timeout has no effect") == 1
    said.truncate(0)
    runner.run(asked, Display("quiet", stream=said))
    assert "--cell-timeout" not in said.getvalue()


def test_f29_a_lone_surrogate_is_replaced_and_no_run_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label = UnitLabels(0, (Label("dog \ud83d", 0.5),), extra={"trace": {"\ud83d": ["x \ude00"]}})
    monkeypatch.setattr(
        "baselines.trivial.RandomLabel.label", lambda *call: [replace(label, unit=unit) for unit in call[2]]
    )
    for _ in range(2):
        result = run(tmp_path / "run")
        assert result.failed == []
        labels = RunFolder(result.folder).read_table("labels")
        assert set(labels.loc[labels["method"] == "random_label", "label"]) == {"dog \ufffd"}


def test_f29_what_a_plugin_raises_brings_no_control_sequence_to_the_terminal(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]\n"
        "from baselines.trivial import RandomLabel\n"
        "def label(*_): raise ValueError('\\x1b]0;owned\\x07 \\x1b[31mred')\n"
        "RandomLabel.label = label\n"
        "from benchmark import cli\n"
        "sys.argv[1:] = sys.argv[3:]\n"
        "cli.main()\n"
    )
    out = tmp_path / "a\x1b[2J"
    asked = [*ASKED.split(), "--thumbnails=0", "--methods=random_label", "--repeats=1", f"--out={out}"]
    command = [sys.executable, "-c", code, str(ROOT), str(ROOT / "tests" / "faults"), *asked]
    done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 3, done.stderr
    assert b"owned" in done.stderr
    assert b"Traceback" in done.stderr
    assert [line for line in (done.stderr + done.stdout).splitlines() if b"\x1b" in line] == []


def test_f35_what_an_older_version_stored_of_a_detector_is_no_hindrance(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", repeats=1).folder
    for marker in (folder / "parts" / "labels").glob("*random_label*.json"):
        note = json.loads(marker.read_text())
        for facts in note["extra"]["units"].values():
            facts |= {"detector": "x", "dependence": {"parts": 3}}
        marker.write_text(json.dumps(note))
    (folder / "scores.parquet").unlink()
    result = run(tmp_path / "run", repeats=1)
    assert result.scores["detector"].isna().all()


def test_f35_what_cannot_be_stored_loses_its_own_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "baselines.trivial.RandomLabel.label",
        lambda *call: [UnitLabels(unit, (Label("dog", 0.5),), extra={"trace": object()}) for unit in call[2]],
    )
    result = run(tmp_path / "run")
    assert len(result.failed) == CELLS // 2
    assert all("~random_label~" in cell and "not JSON serializable" in cell for cell in result.failed)


def test_f35_a_perturbation_that_fails_loses_its_own_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("somebody's")

    monkeypatch.setattr(registry.Perturbation, "load", lambda entry: fails if entry.name == "fog" else LOAD(entry))
    result = run(tmp_path / "run")
    assert len(result.failed) == len(METHODS)
    assert all("~fog~" in cell and cell.endswith(": ZeroDivisionError: somebody's") for cell in result.failed)
    assert set(RunFolder(result.folder).read_table("labels")["perturbation"]) == {"clean", "contrast"}
    monkeypatch.undo()
    again = run(tmp_path / "run")
    assert again.failed == []
    assert set(RunFolder(result.folder).read_table("labels")["perturbation"]) == {"clean", "contrast", "fog"}


def test_f37_one_failed_cell_is_listed_with_its_exit_code_and_none_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from baselines.trivial import RandomLabel

    real = RandomLabel.label

    def label(self: RandomLabel, observation, units, tools):
        if observation.condition == "fog":
            raise LookupError("lost")
        return real(self, observation, units, tools)

    command = [
        *ASKED.split(),
        "--thumbnails=0",
        "--methods",
        ",".join(METHODS),
        "--out",
        str(tmp_path / "runs" / "run"),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(RandomLabel, "label", label)
        partial = CliRunner().invoke(app, command)
    assert partial.exit_code == 3, partial.output
    assert "1 cells failed; run the same command to try them again:" in partial.stderr
    assert "~random_label~fog~" in partial.stderr
    assert partial.stderr.rstrip().endswith("LookupError: lost")
    assert len(RunFolder(tmp_path / "runs" / "run").done_cells()) == CELLS - 1
    whole = CliRunner().invoke(app, command)
    assert whole.exit_code == 0, whole.output
    assert len(RunFolder(tmp_path / "runs" / "run").done_cells()) == CELLS
