"""Rows on disk: made once, read in any order, gone with their owner, and made anew where the disk has no room."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.activations.spool import RowFile, Spool, blocks
from tasks.common.errors import UserError

COUNT = 9
ROWS = np.random.default_rng(0).integers(0, 2**16, (COUNT, 2, 3)).astype(np.uint16)


def spool(asked=None):
    def make(indices):
        if asked is not None:
            asked.extend(indices)
        return ROWS[list(indices)]

    return Spool(COUNT, (2, 3), np.uint16, make)


@given(st.lists(st.lists(st.integers(0, COUNT - 1), max_size=12), max_size=5))
def test_rows_come_as_asked_and_are_made_once(requests):
    asked = []
    kept = spool(asked)
    for indices in requests:
        rows = kept.read(indices)
        assert rows.dtype == np.uint16
        assert np.array_equal(rows, ROWS[indices])
        rows[:] = 0
    assert sorted(asked) == sorted(set().union(*requests))


def test_rows_that_came_with_something_else_are_not_made():
    asked = []
    kept = spool(asked)
    kept.keep(2, ROWS[2:6])
    assert np.array_equal(kept.read(range(2, 6)), ROWS[2:6])
    assert not asked
    assert np.array_equal(kept.read([1, 5, 3]), ROWS[[1, 5, 3]])
    assert asked == [1]


@pytest.mark.parametrize("index", [-1, COUNT])
def test_a_row_that_is_not_there(index):
    with pytest.raises(IndexError, match=f"no row {index}"):
        spool().read([0, index])


def test_without_room_rows_are_made_anew(monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=2 * ROWS.nbytes - 1))
    asked = []
    kept = spool(asked)
    kept.keep(0, ROWS)
    for _ in range(2):
        assert np.array_equal(kept.read([4, 4]), ROWS[[4, 4]])
    assert asked == [4] * 4
    assert kept.read([]).shape == (0, 2, 3)


def test_without_any_folder_for_temporary_files_rows_are_made_each_time(monkeypatch):
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: (_ for _ in ()).throw(OSError(28, "No space left")))
    spool = Spool(len(ROWS), ROWS.shape[1:], ROWS.dtype, lambda indices: ROWS[list(indices)])
    for _ in range(2):
        assert (spool.read([0, 2]) == ROWS[[0, 2]]).all()
    monkeypatch.setattr("tempfile.gettempdir", lambda: (_ for _ in ()).throw(FileNotFoundError(2, "none is usable")))
    assert (Spool(len(ROWS), ROWS.shape[1:], ROWS.dtype, lambda i: ROWS[list(i)]).read([1]) == ROWS[[1]]).all()


def test_a_full_disk_is_explained(monkeypatch):
    class Full:
        def seek(self, place):
            pass

        def write(self, data):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    monkeypatch.setattr("tempfile.TemporaryFile", lambda prefix: Full())
    with pytest.raises(UserError, match=r"No space left on device.*TMPDIR"):
        RowFile((2, 3), np.uint16).write(0, ROWS)


def test_threads_may_read_at_once():
    kept = spool()
    with ThreadPoolExecutor(8) as threads:
        for index, row in enumerate(threads.map(lambda number: kept.read([number % COUNT])[0], range(200))):
            assert np.array_equal(row, ROWS[index % COUNT])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_file_is_left(tmp_path, monkeypatch):
    def held():
        return [path for path in map(target, os.listdir("/proc/self/fd")) if str(tmp_path) in path]

    def target(number):
        try:
            return os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            return ""

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kept = spool()
    kept.read(range(COUNT))
    assert not os.listdir(tmp_path)
    assert len(held()) == 1
    del kept
    gc.collect()
    assert not held()


def test_blocks_cover_all_numbers_in_order():
    assert list(blocks(7, 3)) == [range(0, 3), range(3, 6), range(6, 7)]
    assert list(blocks(0)) == []
