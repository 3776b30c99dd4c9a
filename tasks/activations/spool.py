"""Arrays that would outgrow memory: rows of one shape, computed once and then read from an anonymous temporary file.

The files are in the system's folder for temporary files (``TMPDIR``) and are gone when the process ends, however it
ends. Data read from them are in the page cache, not the process: memory does not grow with the number of rows.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tasks.common.errors import UserError

ROWS_AT_ONCE = 64
"""Rows per block when iterating over all of them: 10 MB of images at 224 px."""


def blocks(count: int, size: int = ROWS_AT_ONCE) -> Iterator[range]:
    """The numbers 0 to ``count`` - 1 in runs of at most ``size``."""
    return (range(start, min(start + size, count)) for start in range(0, count, size))


class RowFile:
    """Rows of one shape and dtype in an anonymous (unlinked) temporary file; rows never written are undefined.

    Args:
        shape: Shape of a row.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self._bytes = int(np.prod(shape)) * self._dtype.itemsize
        self._file = tempfile.TemporaryFile(prefix="clear-")  # noqa: SIM115 - it lives as long as the rows
        weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()

    def write(self, start: int, rows: np.ndarray[Any, Any]) -> None:
        """Write rows from number ``start`` on.

        Raises:
            UserError: The disk is full.
        """
        try:
            with self._lock:
                self._file.seek(start * self._bytes)
                self._file.write(np.ascontiguousarray(rows, self._dtype).data)
                self._file.flush()
        except OSError as error:
            raise UserError(
                f"{tempfile.gettempdir()} cannot hold what a run sets aside ({error.strerror or error}): make room "
                "there, or set TMPDIR to a folder with more."
            ) from error

    def read(self, indices: Sequence[int]) -> np.ndarray[Any, Any]:
        """Written rows, in the given order, as a new array."""
        rows = np.empty((len(indices), *self._shape), self._dtype)
        with self._lock:
            for place, run in _runs(indices):
                self._file.seek(run.start * self._bytes)
                self._file.readinto(rows[place : place + len(run)].data)
        return rows


class Spool:
    """Rows that are computed on first access, and kept in a file if the disk has room for all of them.

    Args:
        shape: Shape of a row.
        make: ``make(indices)`` computes rows, identical at any time and in any combination; without room on the disk it
            is called each time.
    """

    def __init__(
        self,
        count: int,
        shape: tuple[int, ...],
        dtype: DTypeLike,
        make: Callable[[Sequence[int]], np.ndarray[Any, Any]],
    ) -> None:
        self._make = make
        self._none = np.empty((0, *shape), dtype)
        self._kept = np.zeros(count, np.bool_)
        needed = count * int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._file = None
        with contextlib.suppress(OSError):  # no folder for temporary files can be written
            if 2 * needed <= shutil.disk_usage(tempfile.gettempdir()).free:
                self._file = RowFile(shape, dtype)

    def keep(self, start: int, rows: np.ndarray[Any, Any]) -> None:
        """Store rows from index ``start`` on that were computed along with something else."""
        if self._file is not None:
            self._file.write(start, rows)
            self._kept[start : start + len(rows)] = True

    def read(self, indices: Sequence[int]) -> np.ndarray[Any, Any]:
        """Rows in the given order, as a new array.

        Raises:
            IndexError: An index out of range.
        """
        wrong = next((index for index in indices if not 0 <= index < len(self._kept)), None)
        if wrong is not None:
            raise IndexError(f"there is no row {wrong} among {len(self._kept)}")
        if not len(indices):
            return self._none.copy()
        if self._file is None:
            return self._make(indices)
        missing = [index for index in dict.fromkeys(indices) if not self._kept[index]]
        if missing:
            made = self._make(missing)
            for place, run in _runs(missing):
                self.keep(run.start, made[place : place + len(run)])
            if len(missing) == len(indices):
                return made
        return self._file.read(indices)


def _runs(indices: Sequence[int]) -> Iterator[tuple[int, range]]:
    """Groups consecutive indices: (position of the first, indices)."""
    first = 0
    for place in range(1, len(indices) + 1):
        if place == len(indices) or indices[place] != indices[place - 1] + 1:
            yield first, range(indices[first], indices[place - 1] + 1)
            first = place
