"""Values of a cache that somebody changed together with their checksums."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from tasks.cache.answers import FILE, _checksum


def poison_answers(folder: Path, value: bytes, item: bytes | None = None) -> None:
    """Give all answers, or one, a value whose checksum fits."""
    with closing(sqlite3.connect(folder / FILE)) as database, database:
        items = [row[0] for row in database.execute("SELECT item FROM answers")] if item is None else [item]
        rows = [(value, _checksum(one, value), one) for one in items]
        database.executemany("UPDATE answers SET value = ?, checksum = ? WHERE item = ?", rows)
