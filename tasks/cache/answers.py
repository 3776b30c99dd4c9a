"""Small answers in one SQLite file: one row per answer, keyed by the identity of the model and the hash of the input.

Every row has a checksum. A damaged row is dropped, a damaged file set aside; both with one warning. Safe for several
processes and threads on one machine: the file is in WAL mode, which network file systems do not support. Hosts share
answers by segments (``tasks.cache.segments``), one folder per identity.
"""

from __future__ import annotations

import atexit
import base64
import hashlib
import logging
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from tasks.cache.keys import Entry, Identity, canonical, key_of, told
from tasks.cache.segments import Segments
from tasks.common.files import set_aside
from tasks.common.sqlite import code, connect, write_ahead, writing

Result = TypeVar("Result")
log = logging.getLogger(__name__)

FILE = "answers-1.sqlite"
"""Raised whenever the tables change, so that versions do not read each other's files."""

# Seconds to wait for other processes; they hold the file for milliseconds.
_PATIENCE = 5.0
_AT_ONCE = 500
# Bytes that a row takes besides its value: item (twice, for its index), checksum and SQLite's own, rounded up.
_ROW_BYTES = 110
# Bytes and seconds after which new answers are published, so that a killed host loses few, and segments are not tiny.
_PUBLISHED_BYTES = 2**20
_PUBLISHED_AFTER = 30.0
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_TABLES = """
CREATE TABLE IF NOT EXISTS answerers (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, identity TEXT NOT NULL, used REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS answers (
    answerer INTEGER NOT NULL, item BLOB NOT NULL, value BLOB NOT NULL, checksum BLOB NOT NULL,
    PRIMARY KEY (answerer, item)
) STRICT;
"""
_TIER = "CREATE TABLE IF NOT EXISTS merged (key TEXT, segment TEXT, PRIMARY KEY (key, segment)) STRICT"


class AnswerStore:
    """Answers by (identity of the model that answers, item); an item is the SHA-256 of the input.

    Args:
        folder: Folder of the file, on a local disk; created, with the file, on the first write.
        shared: Where the answers of all hosts are published; None if processes of one host alone use them.
    """

    def __init__(self, folder: Path, shared: Path | None = None) -> None:
        self.folder = folder
        self.shared = shared
        self._segments: dict[str, Segments] = {}
        self._unpublished: dict[str, tuple[Identity, dict[bytes, bytes]]] = {}
        self._waiting = 0  # bytes
        self._since = 0.0
        if shared is not None:
            atexit.register(self._publish_at_exit)
        self.path = folder / FILE
        self._lock = threading.RLock()
        self._connected: sqlite3.Connection | None = None
        self._inode = 0
        self._used: set[str] = set()

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._connected is not None:
                self._connected.close()
            self._connected = None

    def get(self, identity: Identity, items: Sequence[bytes]) -> dict[bytes, bytes]:
        """The stored answers, by item; missing ones are left out."""
        found = self._get(identity, items)
        missing = [item for item in items if item not in found] if self.shared is not None else []
        if missing and self._merge(key_of(identity)):
            found |= self._get(identity, missing)
        return found

    def _get(self, identity: Identity, items: Sequence[bytes]) -> dict[bytes, bytes]:
        if not self.path.exists():
            return {}
        key = key_of(identity)

        def read(database: sqlite3.Connection) -> dict[bytes, bytes]:
            found: dict[bytes, bytes] = {}
            broken: list[bytes] = []
            for start in range(0, len(items), _AT_ONCE):
                part = items[start : start + _AT_ONCE]
                marks = ",".join("?" * len(part))
                rows = database.execute(
                    "SELECT item, value, checksum FROM answers WHERE answerer = "  # noqa: S608
                    f"(SELECT number FROM answerers WHERE key = ?) AND item IN ({marks})",
                    (key, *part),
                )
                for item, value, checksum in rows:
                    if checksum == _checksum(item, value):
                        found[item] = value
                    else:
                        broken.append(item)
            if broken:
                self._drop(database, key, broken)
            if found and key not in self._used:
                self._used.add(key)
                # Not worth waiting for, and a cache of somebody else's cannot be told.
                with _waiting(database, 0.0), suppress(sqlite3.OperationalError):
                    database.execute("UPDATE answerers SET used = ? WHERE key = ?", (time.time(), key))
            return found

        return self._do(read)

    def put(self, identity: Identity, values: Mapping[bytes, bytes]) -> None:
        """Keep answers by item, in place of those that are there."""

        def write(database: sqlite3.Connection) -> None:
            with writing(database):
                _insert(database, identity, values)

        self._do(write)
        if self.shared is None:
            return
        with self._lock:
            if not self._unpublished:
                self._since = time.monotonic()
            self._unpublished.setdefault(key_of(identity), (identity, {}))[1].update(values)
            self._waiting += sum(map(len, values.values()))
            due = self._waiting >= _PUBLISHED_BYTES or time.monotonic() - self._since >= _PUBLISHED_AFTER
        if due:
            self.publish()

    def publish(self) -> None:
        """Let other hosts read all that was kept here; else it happens every 30 seconds, and at the end."""
        with self._lock:
            waiting, self._unpublished, self._waiting = self._unpublished, {}, 0
        for key, (identity, values) in waiting.items():
            answers = {item.hex(): base64.b64encode(value).decode() for item, value in values.items()}
            self._segments_of(key).later({"identity": identity, "answers": answers})
        for segments in list(self._segments.values()):
            segments.publish()

    def _publish_at_exit(self) -> None:
        with suppress(OSError):  # it was told before, or costs other hosts some time
            self.publish()

    def _segments_of(self, key: str) -> Segments:
        assert self.shared is not None  # noqa: S101 - called for a tier only
        with self._lock:
            if key not in self._segments:
                self._segments[key] = found = Segments(self.shared / key)
                rows = self._do(
                    lambda database: database.execute("SELECT segment FROM merged WHERE key = ?", (key,)).fetchall()
                )
                found.known |= {name for (name,) in rows}
            return self._segments[key]

    def _merge(self, key: str) -> bool:
        """Whether there was something to read of other hosts."""
        found = False
        for name, records in self._segments_of(key).unread():
            found = True

            def write(database: sqlite3.Connection, name: str = name, records: Sequence[Any] = records) -> None:
                with writing(database):
                    for record in records:
                        values = {
                            bytes.fromhex(item): base64.b64decode(text) for item, text in record["answers"].items()
                        }
                        _insert(database, record["identity"], values, "IGNORE")
                    database.execute("INSERT OR IGNORE INTO merged VALUES (?, ?)", (key, name))

            self._do(write)
        return found

    def entries(self) -> Iterator[Entry]:
        """One entry per model."""
        for folder in sorted(self.shared.glob("*")) if self.shared else ():
            self._merge(folder.name)
        if not self.path.exists():
            return
        rows = self._do(
            lambda database: database.execute(
                "SELECT key, identity, used, COUNT(item), COALESCE(SUM(LENGTH(value)), 0) "
                "FROM answerers LEFT JOIN answers ON answerer = number GROUP BY number ORDER BY key"
            ).fetchall()
        )
        for key, identity, used, count, size in rows:
            whole = size + count * _ROW_BYTES + len(identity)
            yield Entry(key, told(identity), "answers", count, whole, used)

    def remove(self, keys: Sequence[str]) -> None:
        """Remove all answers of these models and release the disk space; other hosts keep what they have read."""
        if self.shared is not None:
            for key in keys:
                shutil.rmtree(self.shared / key, ignore_errors=True)
        if not self.path.exists():
            return

        def delete(database: sqlite3.Connection) -> None:
            with writing(database):
                for key in keys:
                    database.execute(
                        "DELETE FROM answers WHERE answerer = (SELECT number FROM answerers WHERE key = ?)", (key,)
                    )
                    database.execute("DELETE FROM answerers WHERE key = ?", (key,))
            # Another process may be reading; the space is then reused later.
            with suppress(sqlite3.OperationalError):
                database.execute("VACUUM")
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

        self._do(delete)

    def _drop(self, database: sqlite3.Connection, key: str, items: Sequence[bytes]) -> None:
        with writing(database):
            database.executemany(
                "DELETE FROM answers WHERE answerer = (SELECT number FROM answerers WHERE key = ?) AND item = ?",
                [(key, item) for item in items],
            )
        log.warning("%d cached answers in %s differ from their checksum and are computed again.", len(items), self.path)

    def _do(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run ``work`` on the file; on a new file if this one turns out to be damaged."""
        with self._lock:
            try:
                return work(self._database())
            except sqlite3.DatabaseError as error:
                if code(error) not in _DAMAGED:
                    raise
                self._set_aside(error)
                return work(self._database())

    def _database(self) -> sqlite3.Connection:
        if self._connected is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            database = connect(self.path, _PATIENCE)
            database.text_factory = lambda text: text.decode("utf-8", "replace")
            self._inode = self.path.stat().st_ino
            try:
                write_ahead(database, _PATIENCE)
                # Reading must not need the lock for writing.
                if database.execute("SELECT COUNT(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0] < 2:
                    with writing(database):
                        for statement in _TABLES.split(";"):
                            database.execute(statement)
                if self.shared is not None:
                    database.execute(_TIER)
            except BaseException:
                database.close()
                raise
            self._connected = database
        return self._connected

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        self.close()
        if not self.path.exists() or self.path.stat().st_ino != self._inode:
            return  # another process has already started a new one
        place = set_aside(self.path, self.folder / "corrupt")
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        log.warning("The cached answers are damaged (%s): the file is now %s, and a new one is begun.", error, place)


def _insert(
    database: sqlite3.Connection, identity: Identity, values: Mapping[bytes, bytes], otherwise: str = "REPLACE"
) -> None:
    key = key_of(identity)
    database.execute(
        "INSERT INTO answerers (key, identity, used) VALUES (?, ?, ?) "
        "ON CONFLICT (key) DO UPDATE SET used = excluded.used",
        (key, canonical(identity), time.time()),
    )
    database.executemany(
        f"INSERT OR {otherwise} INTO answers VALUES ((SELECT number FROM answerers WHERE key = ?), ?, ?, ?)",  # noqa: S608
        [(key, item, value, _checksum(item, value)) for item, value in values.items()],
    )


def _checksum(item: bytes, value: bytes) -> bytes:
    return hashlib.sha256(item + value).digest()[:8]


@contextmanager
def _waiting(database: sqlite3.Connection, seconds: float) -> Iterator[None]:
    database.execute(f"PRAGMA busy_timeout = {int(1000 * seconds)}")
    try:
        yield
    finally:
        database.execute(f"PRAGMA busy_timeout = {int(1000 * _PATIENCE)}")
