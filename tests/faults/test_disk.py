"""A disk that is full, in the middle of a run (F7); places where a run folder may have to lie (F39)."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from small_run import run, tables

from leaderboard.store import atomic
from leaderboard.store.claims import why_no_locks
from leaderboard.store.errors import StoreError
from leaderboard.store.run_folder import OBSERVATION, CellKey, RunFolder

KEY = CellKey("t", "p", "m", "clean", 0, 0)
SEEN = CellKey("t", "p", OBSERVATION, "clean", 0, 0)
LABELS = pd.DataFrame({"unit": [0], "rank": [1], "label": ["x"], "score": [0.5]})
EVIDENCE = pd.DataFrame({"unit": [0], "rank": [1], "image": ["a"], "activation": [1.0]})
THUMBNAILS = pd.DataFrame({"image": ["a"], "webp": [b"x"]})
WRITES = {
    "run.json": lambda folder: folder.create_or_continue({"seed": 0}, {"again": True}),
    "facts": lambda folder: folder.record("units", {"dead": 2}),
    "cell": lambda folder: folder.write_cell(KEY, LABELS),
    "evidence": lambda folder: folder.write_evidence(SEEN, EVIDENCE),
    "thumbnails": lambda folder: folder.write_thumbnails(SEEN, THUMBNAILS),
    "table": lambda folder: folder.write_table("labels", folder.read_labels()),
}
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def content(folder: Path) -> dict[Path, bytes]:
    files = (path for part in ("parts", "run.json", "labels.parquet") for path in sorted(folder.glob(f"{part}/**/*")))
    return {path: path.read_bytes() for path in [*files, *folder.glob("*.*")] if path.is_file()}


def refuse(*_: object, **__: object) -> None:
    raise FULL


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_f07_each_write_says_what_it_needed_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: str
) -> None:
    with RunFolder(tmp_path) as folder:
        folder.create_or_continue({"seed": 0}, {})
        for write in WRITES.values():
            write(folder)
        before = content(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(os, call, refuse)
            with pytest.raises(StoreError, match=r"No space left to write .*: [\d,]+ bytes needed") as caught:
                WRITES[name](folder)
        assert str(tmp_path) in str(caught.value)
        assert content(tmp_path) == before
        WRITES[name](folder)
        assert folder.is_done(KEY)
        assert folder.is_done(SEEN, "evidence")


def test_f07_a_lock_that_cannot_be_made_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    monkeypatch.setattr("leaderboard.store.claims.open", refuse, raising=False)
    with pytest.raises(StoreError, match=r"Cannot write .*claims.*No space left on device"), folder.claim(KEY):
        pass


def test_f07_a_run_on_a_full_disk_keeps_what_is_finished_and_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, str]
) -> None:
    real, written = atomic.write_bytes, []

    def fills_up(path: Path, data: bytes) -> None:
        if "labels" in path.parts and len(written) == 2:
            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", refuse)
                real(path, data)
        written.extend(["a cell"] * ("labels" in path.parts))
        real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "write_bytes", fills_up)
        with pytest.raises(StoreError, match=r"No space left .*the same command continues"):
            run(tmp_path / "run")
    assert len(RunFolder(tmp_path / "run").done_cells()) == 2
    assert not (tmp_path / "run" / "labels.parquet").exists()
    run(tmp_path / "run")
    assert tables(tmp_path / "run") == whole


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 64 kB, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=False).returncode
    ):
        pytest.skip("this user may not mount a file system")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.slow
def test_f07_a_disk_that_is_really_full(small_disk: Path, whole: dict[str, str]) -> None:
    with pytest.raises(StoreError, match=r"No space left on device|No space left to write"):
        run(small_disk / "run")
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    run(small_disk / "run")
    assert tables(small_disk / "run") == whole


def test_f39_a_file_system_without_locks_gets_leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    assert why_no_locks(tmp_path) == "its file system has no file locks (No locks available)"
    key = CellKey("t", "p", "m", "clean", 0, 0)
    with RunFolder(tmp_path / "run") as folder, RunFolder(tmp_path / "run") as other:
        folder.create_or_continue({"seed": 0}, {})
        other.create_or_continue({"seed": 0}, {})
        with folder.claim(key) as mine, other.claim(key) as theirs:
            assert (mine, theirs) == (True, False)
            folder.write_cell(key, LABELS)
        assert other.is_done(key)


@pytest.mark.parametrize("name", ["with spaces and ümläuts 日本", "n" * 255, "-dash", "%s {0} $HOME"])
def test_f39_odd_names_of_folders(tmp_path: Path, name: str) -> None:
    with RunFolder(tmp_path / name) as folder:
        folder.create_or_continue({"seed": 0}, {})
        folder.write_cell(CellKey("t" * 255, "p", "m/é", "clean", 0, 0), LABELS)
        folder.write_table("labels", folder.read_labels())
    assert len(RunFolder(tmp_path / name).read_table("labels")) == 1


@pytest.mark.parametrize("call", ["link", "replace"])
def test_f39_a_folder_that_became_read_only_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with RunFolder(tmp_path) as folder:
        folder.create_or_continue({"seed": 0}, {})
        folder.write_cell(KEY, LABELS)
        part = next((tmp_path / "parts" / "labels").glob("*.parquet"))
        with monkeypatch.context() as patch:
            patch.setattr(os, call, refused)
            with pytest.raises(StoreError, match="Read-only file system"):
                folder.write_cell(replace(KEY, repeat=1), LABELS)
        part.write_bytes(b"damaged")
        monkeypatch.setattr(os, "replace", refused)
        with pytest.raises(StoreError, match=r"corrupt.*Read-only file system"):
            folder.is_done(KEY)
