from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from leaderboard.store import atomic
from leaderboard.store.errors import StoreError


def test_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "deep" / "x.json"
    atomic.write_bytes(path, b"old")
    atomic.write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk_keeps_the_old_file_and_names_path_and_size(tmp_path, monkeypatch, call):
    path = tmp_path / "x.bin"
    atomic.write_bytes(path, b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(StoreError, match=rf"No space left to write {path}: 1,234 bytes needed"):
        atomic.write_bytes(path, b"x" * 1234)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_interrupt_while_writing_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "x.bin"
    atomic.write_bytes(path, b"old")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        atomic.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_where_a_folder_should_be_is_one_sentence(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(StoreError, match=r"Cannot write .*Not a directory|Cannot write .*File exists"):
        atomic.write_bytes(tmp_path / "taken" / "x", b"")


@pytest.mark.parametrize("place", [".", "..", "/", "folder", ""])
def test_a_folder_where_a_file_should_be_is_one_sentence(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match=r"Cannot write .*: Is a directory"):
        atomic.write_bytes(Path(place), b"")
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]


def test_json_refuses_nan_and_sorts_keys(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        atomic.write_json(tmp_path / "x.json", {"a": float("nan")})
    atomic.write_json(tmp_path / "x.json", {"b": 1, "a": 2})
    assert (tmp_path / "x.json").read_text() == '{\n  "a": 2,\n  "b": 1\n}\n'


def test_leftovers_are_removed_and_nothing_else(tmp_path):
    (tmp_path / "parts").mkdir()
    ours = f"{atomic.TEMPORARY_PREFIX}{atomic.machine()}"
    left = tmp_path / "parts" / f"{ours}-{dead_process()}-ab"
    # In mid-write, of another host, of an earlier version, and no temporary file at all.
    kept = [f"{ours}-{os.getpid()}-ab", f"{atomic.TEMPORARY_PREFIX}0123abcd-1-ab", ".writing-1-ab", "x.parquet"]
    for path in (left, *(tmp_path / "parts" / name for name in kept)):
        path.write_text("x")
    assert atomic.remove_leftovers(tmp_path) == [left]
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == sorted(kept)


def test_the_first_of_two_writers_counts(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    assert atomic.create_json(path, 1)
    assert not atomic.create_json(path, 2)

    def no_links(*_):
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    assert not atomic.create_json(path, 3)
    assert path.read_text() == "1\n"
    assert atomic.create_json(tmp_path / "y.json", 4)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["x.json", "y.json"]


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    return ended.pid
