"""What is damaged or deleted in a run folder is made again, or told (F3); so are images that are left out (F13)."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_run import options, run

from benchmark import runner
from benchmark.core.display import Display
from leaderboard.store.errors import StoreError
from leaderboard.store.run_folder import RunFolder

SHOWN = {"thumbnails": 2, "repeats": 1, "suites": ("contrast",)}


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"PAR1"), Path.unlink])
@pytest.mark.parametrize("finished", [True, False])
def test_f03_lost_thumbnails_are_made_again(tmp_path: Path, damage, finished: bool) -> None:
    folder = run(tmp_path / "run", **SHOWN).folder
    before = RunFolder(folder).read_table("thumbnails")
    damage(next((folder / "parts" / "thumbnails").glob("*clean*.parquet")))
    if not finished:
        (folder / "scores.parquet").unlink()
    run(folder, **SHOWN)
    assert RunFolder(folder).read_table("thumbnails").equals(before)
    assert len(RunFolder(folder).done_cells("thumbnails")) == 2


def test_f03_damaged_thumbnails_that_nobody_wants_are_no_hindrance(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", **SHOWN).folder
    next((folder / "parts" / "thumbnails").glob("*clean*.parquet")).write_bytes(b"PAR1")
    run(folder, **{**SHOWN, "thumbnails": 0})
    assert set(RunFolder(folder).read_table("thumbnails")["perturbation"]) == {"contrast"}


def test_f03_a_lost_table_is_told_and_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    asked = {**SHOWN, "thumbnails": 0, "faithfulness": "clean"}
    folder = run(tmp_path / "run", **asked).folder
    before = RunFolder(folder).read_table("faithfulness")
    assert len(before)
    (folder / "faithfulness.parquet").unlink()
    with pytest.raises(StoreError, match=r"contains no faithfulness\.parquet"):
        RunFolder(folder).read_table("faithfulness")
    run(folder, **asked)
    assert RunFolder(folder).read_table("faithfulness").equals(before)
    (folder / "faithfulness.parquet").unlink()
    run(folder, **{**asked, "faithfulness": "none"})
    assert "faithfulness.parquet was there and is gone" in caplog.text


def test_f13_images_that_are_left_out_are_counted_and_named(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    random = np.random.default_rng(0)
    for number in range(14):
        Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(tmp_path / "photos" / f"{number:02}.png")
    (tmp_path / "photos" / "page.jpg").write_text("<html>")
    (tmp_path / "photos" / "raw.HEIC").write_bytes(b"x")
    said = io.StringIO()
    asked = options(tmp_path / "run", repeats=1, suites=("contrast",), images=None, image_folder=tmp_path / "photos")
    folder = runner.run(asked, Display("quiet", stream=said)).folder
    (facts,) = RunFolder(folder).info()["facts"]["images"].values()
    assert facts["available"] == 15
    assert facts["ignored"] == 1
    assert set(facts["skipped"]) == {"page.jpg"}
    assert str(tmp_path) not in facts["skipped"]["page.jpg"]
    assert "Left out: 1 of 15 images" in said.getvalue()
    assert "1 files that are no images" in said.getvalue()
