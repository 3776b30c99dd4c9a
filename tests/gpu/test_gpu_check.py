"""The GPU check: on a CPU it goes through everything in its dry form; on CUDA its half precision keeps labels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import gpu_check
import pytest
import torch

SCRIPT = Path(gpu_check.__file__).with_name("check.sh")
MEASURED = [
    *("decode", "perturb", "forward", "CLIP", "caption", "draw", "bare loop", "pass", "pass, share of the bare loop"),
    *(f"float16 labels, {method}" for method in ("clip_dissect", "network_dissection", "dnd")),
    *("out of memory, equal activations", "tests marked gpu"),
]


@pytest.mark.slow
def test_a_dry_run_measures_everything_and_judges_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable}
    command = [SCRIPT, "--dry", "--out", tmp_path / "out"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "out" / "check.json").read_text("utf-8"))
    rows = {row["name"]: row for row in written["rows"]}
    assert list(rows) == MEASURED
    assert all(row["met"] is None for row in rows.values())
    assert rows["out of memory, equal activations"]["value"] == 1
    assert rows["out of memory, equal activations"]["note"] == "16 images at once became 4"
    assert rows["float16 labels, clip_dissect"]["value"] > 0.9
    assert done.stdout == (tmp_path / "out" / "check.md").read_text("utf-8")
    assert [line.split(" | ")[0].strip("| ") for line in done.stdout.splitlines()[5:]] == MEASURED


def test_without_a_gpu_it_says_what_to_do(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main(["--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == "PyTorch finds no CUDA device here: --dry goes through the check on the CPU.\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("value", "code"), [(0.89, 1), (0.91, 0)])
def test_a_missed_bar_is_the_exit_code_unless_dry(tmp_path: Path, monkeypatch, capsys, value: float, code: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    monkeypatch.setattr(gpu_check, "measured", lambda check: check.add("pass", value, "", bar=0.9))
    assert gpu_check.main(["--out", str(tmp_path)]) == code
    assert f"| pass | {value:.3f} | ≥ 0.9 | {'**no**' if code else 'yes'} |" in capsys.readouterr().out
    assert gpu_check.main(["--out", str(tmp_path), "--dry"]) == 0
    assert "no bar is judged" in capsys.readouterr().out


def test_a_part_that_fails_is_missed_and_loses_no_other(tmp_path: Path, monkeypatch, capsys) -> None:
    def broken(check: gpu_check.Check) -> None:
        raise RuntimeError("no | kernel\nimage")

    monkeypatch.setattr(gpu_check, "PARTS", (broken, lambda check: check.add("last", 1.0, "")))
    assert gpu_check.main(["--out", str(tmp_path), "--dry"]) == 1
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "| broken | 0.000 |  | **no** |  | failed: RuntimeError: no / kernel image |",
        "| last | 1.000 |  |  |  |  |",
    ]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_labels_in_half_precision_are_those_in_float32() -> None:
    shares = gpu_check.half_precision(torch.device("cuda"), gpu_check.Sizes(half_images=200, half_units=64, half_dnd=8))
    assert min(shares.values()) >= gpu_check.SAME_LABELS, shares
