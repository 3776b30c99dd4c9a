"""SQLite files that several processes write at the same time."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

_HELD: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def connect(path: Path | str, patience: float) -> sqlite3.Connection:
    """Open a file for the threads of this process; transactions are opened explicitly, and immediately when writing.

    Args:
        patience: Seconds to wait for other processes, which hold the file for milliseconds.
    """
    return sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)


def write_ahead(database: sqlite3.Connection, patience: float) -> None:
    """Switch to WAL mode; SQLite does not wait on its own if several processes do so at once."""
    end = time.monotonic() + patience
    while True:
        try:
            with closing(database.execute("PRAGMA journal_mode=WAL")) as cursor:
                cursor.fetchall()
            break
        except sqlite3.OperationalError as error:
            if code(error) not in _HELD or time.monotonic() > end:
                raise
            time.sleep(0.01)
    database.execute("PRAGMA synchronous=NORMAL")


@contextmanager
def writing(database: sqlite3.Connection) -> Iterator[None]:
    """One transaction, undone if the block raises."""
    try:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # some errors have already ended the transaction, such as a full disk
            database.execute("ROLLBACK")
        raise


def code(error: sqlite3.Error) -> int:
    """SQLite's plain code; errors of the extended kind carry it in their last byte."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
