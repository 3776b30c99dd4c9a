"""Files of a run folder that are damaged or deleted are made again, or told (F3)."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_run import run

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
    with pytest.raises(StoreError, match=r"holds no faithfulness\.parquet"):
        RunFolder(folder).read_table("faithfulness")
    run(folder, **asked)
    assert RunFolder(folder).read_table("faithfulness").equals(before)
    (folder / "faithfulness.parquet").unlink()
    run(folder, **{**asked, "faithfulness": "none"})
    assert "faithfulness.parquet was there and is gone" in caplog.text
