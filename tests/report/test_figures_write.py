from __future__ import annotations

import hashlib
import importlib
import io
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib
import pytest
from figure_boards import board, standings, write_run
from PIL import Image

from leaderboard.board.build import Board
from leaderboard.store import escape
from report.figures import severity_curves, write_figures
from report.figures.write import FIGURES

PROGRAM = """
import sys
from pathlib import Path
import report.tables
assert "matplotlib" not in sys.modules
from leaderboard.board.build import build_board
from leaderboard.board.merge import merge_runs
from report.figures import write_figures
write_figures(build_board(merge_runs(sys.argv[1])), Path(sys.argv[2]))
assert "matplotlib.pyplot" not in sys.modules
"""


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_every_figure_of_a_group_is_written_and_listed(tmp_path):
    written = write_figures(board(), tmp_path)
    assert sorted(written) == sorted(tmp_path.iterdir())
    manifest = json.loads((tmp_path / "figures.json").read_text())
    assert manifest["schema_version"] == 1
    slug = standings().group.slug
    names = [entry["figure"] for entry in manifest["figures"]]
    assert names == [
        "stability_curves",
        "accuracy_curves",
        "heat_map",
        "critical_difference_stability",
        "critical_difference_accuracy",
        "critical_difference_accuracy_clean",
        "right_and_stable",
        "gallery",
    ]
    for entry in manifest["figures"]:
        assert entry["files"] == {form: f"{entry['figure']}-{slug}.{form}" for form in ("pdf", "png")}
        assert entry["group"] == slug
        assert "toy" in entry["caption"]
        assert len(entry["alternative"]) > 40
        with Image.open(tmp_path / entry["files"]["png"]) as image:
            assert image.width == 6.5 * 200
            assert not image.text  # no software, no date
        pdf = (tmp_path / entry["files"]["pdf"]).read_bytes()
        assert b"CreationDate" not in pdf
        assert pdf.count(b"/FontFile2") == 1  # TrueType, one subset
        assert b"/Type3" not in pdf
        assert re.findall(rb"/MediaBox \[ 0 0 (\S+)", pdf) == [b"468"]


def test_a_second_time_gives_the_same_bytes(tmp_path):
    write_figures(board("one severity"), tmp_path / "a")
    with matplotlib.rc_context({"font.size": 30, "text.usetex": True, "savefig.bbox": "tight"}):
        write_figures(board("one severity"), tmp_path / "b")
    assert len(hashes(tmp_path / "a")) == 9
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")


@pytest.mark.slow
def test_another_process_with_other_hashes_gives_the_same_bytes(tmp_path):
    write_run(tmp_path / "runs" / "toy")
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "SOURCE_DATE_EPOCH": f"{seed}00000000"}
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / "runs"), str(tmp_path / seed)]
        subprocess.run(command, check=True, env=environment, cwd=Path(__file__).parents[2])
    assert hashes(tmp_path / "1") == hashes(tmp_path / "2")


@pytest.mark.parametrize("kind", ["hostile", "one severity", "incomplete"])
def test_nothing_warns_whatever_the_runs_say(kind, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_figures(board(kind), tmp_path)
    for path in tmp_path.glob("*.png"):
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image.load()
    assert all(re.fullmatch(r"[\w.-]+", path.name) for path in tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["toy", "incomplete"])
@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_captions_hold_nothing_that_latex_cannot_set(draw, kind):
    drawing = draw(standings(kind))
    if drawing:
        assert "U+" not in escape.latex(drawing.caption)


def test_no_group_no_figures(tmp_path):
    written = write_figures(Board(board().runs, ()), tmp_path / "out")
    assert [path.name for path in written] == ["figures.json"]


def test_a_notebook_shows_a_drawing():
    assert severity_curves(standings())._repr_png_().startswith(b"\x89PNG")


def test_without_matplotlib_one_sentence_names_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("report.figures")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'clear-benchmark\[report\]'") as caught:
        importlib.import_module("report.figures")
    assert caught.value.name == "matplotlib"
