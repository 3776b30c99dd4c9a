"""What hosts share instead of an SQLite file, which only processes of one host can: immutable files of JSON Lines.

A segment ``HASH.jsonl`` is named by the SHA-256 of its content and written whole, so that two writers cannot disagree
about one. Each host reads those of the others into a local SQLite file, its tier. A damaged segment is skipped.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tasks.common.files import write_whole

log = logging.getLogger(__name__)

_SETTLED = 2.0
"""Seconds after which a file system gives a changed folder another time of change."""


class Segments:
    """The segments in one folder; safe for several threads, processes and hosts.

    Args:
        folder: Created on the first write.

    Attributes:
        known: Names of the segments that were published, read or found damaged here.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: set[str] = set()
        self._pending: list[Any] = []
        self._adding, self._writing = threading.Lock(), threading.Lock()
        self._changed, self._seen, self._listed = -1, 0.0, 0.0

    def later(self, *records: Any) -> None:
        """Add JSON-serialisable records to the next segment."""
        with self._adding:
            self._pending += records

    def publish(self, *records: Any) -> None:
        """Write the records, and those added before; they are on the disk when this returns.

        What several threads publish while one writes becomes one segment.

        Raises:
            OSError: The folder cannot be written; the records are tried again next time.
        """
        self.later(*records)
        with self._writing:
            with self._adding:
                records, self._pending = tuple(self._pending), []
            if not records:
                return  # another thread wrote them
            data = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records).encode()
            path = self.folder / f"{hashlib.sha256(data).hexdigest()[:32]}.jsonl"
            try:
                write_whole(path, lambda place: place.write_bytes(data))
            except BaseException:
                with self._adding:
                    self._pending[:0] = records
                raise
            self.known.add(path.name)

    def unread(self) -> Iterator[tuple[str, Sequence[Any]]]:
        """Name and records of each segment that is not known yet; damaged ones are left out, with a warning."""
        if not self._may_have_more():
            return
        for path in sorted(self.folder.glob("*.jsonl")):
            if path.name in self.known:
                continue
            self.known.add(path.name)
            try:
                data = path.read_bytes()
                whole = hashlib.sha256(data).hexdigest().startswith(path.stem) and len(path.stem) == 32
                records = [json.loads(line) for line in data.splitlines()] if whole else None
            except (OSError, ValueError, RecursionError):
                records = None
            if records is None:
                log.warning("%s is damaged; what it held is computed, or asked, again where it is needed.", path)
            else:
                yield path.name, records

    def _may_have_more(self) -> bool:
        """Whether the folder may have changed since it was listed: to ask for that is cheaper than to list it."""
        try:
            changed = self.folder.stat().st_mtime_ns
        except OSError:
            return False
        now = time.monotonic()
        if changed != self._changed:
            self._changed, self._seen = changed, now
        elif self._listed > self._seen + _SETTLED:
            return False
        self._listed = now
        return True
