"""Which code a run's tables follow from: a change of it makes them anew, and no other change does."""

from __future__ import annotations

import shutil
from pathlib import Path

import grimp
import pytest
from small_runs import write_run

from benchmark.core.tables_cache import _CODE, _ROOT, is_finished, note_finished, source_hash
from leaderboard.store.atomic import TEMPORARY_PREFIX
from leaderboard.store.run_folder import RunFolder

PACKAGES = ("baselines", "benchmark", "leaderboard", "metrics", "report", "tasks")
BESIDE = ("benchmark.plan", "report.doctor", "report.plan")
"""What a run imports to count and to print."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("code")
    for package in PACKAGES:
        for file in (_ROOT / package).rglob("*.py"):
            target = root / file.relative_to(_ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    return root


@pytest.mark.parametrize(
    ("path", "again"),
    [
        ("benchmark/trace/page.py", False),
        ("benchmark/commands/listing.py", False),
        ("leaderboard/pages/charts.py", False),
        ("report/figures/style.py", False),
        ("report/document/abstract.py", False),
        ("benchmark/core/scoring.py", True),
        ("benchmark/studies/tuning/measure.py", True),
        ("leaderboard/board/summary.py", True),
        ("metrics/stability.py", True),
        ("report/latex.py", True),
        ("tasks/perturbations/noise.py", True),
    ],
)
def test_only_code_behind_the_tables_makes_them_again(copy: Path, path: str, again: bool) -> None:
    file = copy / path
    text = file.read_bytes()
    file.write_bytes(text + b"# corrected\n")
    try:
        assert (source_hash.__wrapped__(copy) != source_hash()) == again
    finally:
        file.write_bytes(text)
    assert source_hash.__wrapped__(copy) == source_hash()


def test_half_written_files_of_another_process_are_none_of_the_tables(tmp_path: Path) -> None:
    folder = RunFolder(write_run(tmp_path / "toy"))
    (folder.path / "tables").mkdir(exist_ok=True)
    half = folder.path / "tables" / f"{TEMPORARY_PREFIX}0-1-ab"
    half.symlink_to("gone")  # as for one that was renamed after the folder was listed
    note_finished(folder, "key")
    half.unlink()
    assert is_finished(folder, "key")


@pytest.mark.parametrize("path", _CODE)
def test_a_listed_path_that_has_moved_is_no_silent_loss(copy: Path, path: str) -> None:
    (copy / path).rename(copy / "elsewhere")
    try:
        with pytest.raises(FileNotFoundError, match=Path(path).name):
            source_hash.__wrapped__(copy)
    finally:
        (copy / "elsewhere").rename(copy / path)


def test_nothing_that_a_run_imports_is_forgotten() -> None:
    imported = grimp.build_graph(*PACKAGES, cache_dir=None).find_upstream_modules("benchmark.runner")
    listed = tuple(path.removesuffix(".py").replace("/", ".") for path in _CODE)
    left = {name for name in imported if not f"{name}.".startswith(tuple(f"{one}." for one in (*listed, *BESIDE)))}
    assert left == set()
