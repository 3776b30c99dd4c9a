"""The parts of a run folder: the results of one cell, as Parquet with a marker beside it that is written last.

``parts/labels/NAME~HASH.parquet`` holds the labels of one finished cell, ``parts/evidence/NAME~HASH.parquet`` the top
images of one condition and ``parts/thumbnails/NAME~HASH.parquet`` their images; ``NAME.json`` is the marker. A part
counts as done if its marker exists and its bytes have the marker's SHA-256; a damaged part is moved to ``corrupt/`` and
computed again.

Which process does a cell rests on claims, and on some file systems two hosts may both hold one. What is stored does not
rest on them: the name of a part holds the hash of its bytes, and its marker is created only if there is none. A second
process that finds the same writes nothing new; one that finds something else leaves its part and a note
``NAME~HASH.differs.json`` beside the first, which stays the one that counts.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa

from leaderboard.store import atomic
from leaderboard.store.errors import StoreError
from leaderboard.store.frames import as_schema, empty_frame, parquet_bytes, read_parquet, to_arrow, to_pandas
from leaderboard.store.identity import as_json, identity_hash, safe_name
from leaderboard.store.schema import TABLES
from leaderboard.store.session import now

OBSERVATION = "observation"
"""Used as the method of keys for what belongs to a condition, independent of the labelling method."""

PartKind = Literal["labels", "evidence", "thumbnails"]

_DIFFERS = ".differs.json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, order=True)
class CellKey:
    """Key of a cell.

    Attributes:
        method: Method name, or ``OBSERVATION``.
        condition: ``clean`` or the perturbation's name.
        severity: 0 for clean, else 1..5.
        repeat: Index from 0.
    """

    task: str
    profile: str
    method: str
    condition: str
    severity: int
    repeat: int

    @property
    def name(self) -> str:
        """A file name for the cell: readable, safe everywhere, and unique per key."""
        parts = (self.task, self.profile, self.method, self.condition, f"s{self.severity}", f"r{self.repeat}")
        digest = identity_hash(asdict(self))[:12]
        return "~".join(safe_name(part, 32) for part in parts) + f"~{digest}"

    def columns(self, kind: PartKind) -> dict[str, str | int]:
        """The values of the key columns of a part."""
        values: dict[str, str | int] = {"task": self.task, "profile": self.profile}
        if kind == "labels":
            values["method"] = self.method
        return values | {"perturbation": self.condition, "severity": self.severity, "repeat": self.repeat}


@dataclass(frozen=True)
class Marker:
    """Marks a part as complete.

    Attributes:
        finished: Time of writing, UTC, ISO 8601.
        extra: JSON-able facts that the writer added, e.g. seconds spent, dead units, traces.
    """

    key: CellKey
    sha256: str
    bytes: int
    rows: int
    finished: str
    extra: dict[str, Any]


class Parts:
    """The parts of one kind in one run folder.

    Args:
        kind: ``labels``, ``evidence`` or ``thumbnails``.
    """

    def __init__(self, root: Path, kind: PartKind) -> None:
        self.root = root
        self.kind: PartKind = kind
        self.schema = TABLES[kind]
        self._seen: dict[Path, tuple[tuple[int, int, int], Marker | None]] = {}

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self.root / "parts" / self.kind

    def write(self, key: CellKey, frame: pd.DataFrame, extra: Mapping[str, Any]) -> None:
        """Write a part: data first, marker last; a kill in between leaves a part that is not done.

        A part that is done stays as it is, see the module.

        Raises:
            StoreError: The frame breaks the schema or contradicts the key, or the disk is full.
        """
        table = to_arrow(self.schema, _with_key(self.kind, key, frame))
        data = parquet_bytes(table)
        digest = hashlib.sha256(data).hexdigest()
        note = {
            "key": asdict(key),
            "sha256": digest,
            "bytes": len(data),
            "rows": table.num_rows,
            "finished": now(),
            "extra": as_json(extra),
        }
        marker = self._marker_path(key)
        atomic.write_bytes(self._part_path(key, digest), data)
        if atomic.create_json(marker, note):
            return
        done = self.digest(key)
        if done is None:  # a file that is no marker stands in its place
            atomic.move(marker, self.root / "corrupt" / f"{self.kind}-{marker.name}")
            atomic.create_json(marker, note)
        elif done != digest:
            self.differ(key, digest, note)

    def differ(self, key: CellKey, digest: str, note: Mapping[str, Any]) -> None:
        """Keep a note of another result for a cell than the one that counts.

        Args:
            digest: Hash of the other result.
            note: What is known of it, as JSON.
        """
        atomic.write_json(self.folder / f"{key.name}~{digest[:12]}{_DIFFERS}", note)
        _log.warning("%s was computed twice, with different results; the first is kept", self._marker_path(key))

    def differing(self) -> list[str]:
        """Names of the cells that two processes computed with different results, sorted."""
        return sorted({path.name.rpartition("~")[0] for path in self.folder.glob(f"*{_DIFFERS}")})

    def marker(self, key: CellKey) -> Marker | None:
        """The part's marker; ``None`` where there is none that can be read, or that of another part."""
        marker = _read_marker(self._marker_path(key))
        return marker if marker is not None and marker.key == key else None

    def digest(self, key: CellKey) -> str | None:
        """SHA-256 that the part's bytes must have; ``None`` if it is not finished."""
        marker = self._brief(self._marker_path(key))
        return marker.sha256 if marker is not None and marker.key == key else None

    def is_done(self, key: CellKey) -> bool:
        """Whether the part is complete and intact."""
        return self._data(key) is not None

    def set_aside(self, key: CellKey) -> None:
        """Move a damaged part to ``corrupt/``.

        Raises:
            StoreError: The run folder cannot be written.
        """
        folder = self.root / "corrupt"
        part, marker = self._path(key), self._marker_path(key)
        # The marker goes first: without it the part counts as not done, wherever this stops.
        for path in (marker, part):
            atomic.move(path, folder / f"{self.kind}-{path.name}")
        _log.warning("%s does not match its hash; moved to %s, the cell is computed again", part, folder)

    def keys(self) -> list[CellKey]:
        """The keys of all parts with a marker, sorted."""
        paths = self.folder.glob("*.json")
        found = ((path.stem, self._brief(path)) for path in paths)
        return sorted(marker.key for name, marker in found if marker is not None and marker.key.name == name)

    def read(self, key: CellKey) -> pd.DataFrame:
        """The rows of one part.

        Raises:
            StoreError: The part is not finished, or damaged.
        """
        return to_pandas(self.schema, self._table(key))

    def merged(self) -> pd.DataFrame:
        """The rows of all finished parts, in the schema's row order.

        Raises:
            StoreError: A part is damaged.
        """
        keys = self.keys()
        if not keys:
            return empty_frame(self.schema)
        # Only tables with the same columns can be concatenated, and the parts may come from different versions.
        # The keys are sorted as the rows of the table are, and each part's rows were sorted when it was written.
        return to_pandas(self.schema, pa.concat_tables([as_schema(self.schema, self._table(key)) for key in keys]))

    def _table(self, key: CellKey) -> pa.Table:
        data = self._data(key)
        if data is None:
            state = "not finished" if self.digest(key) is None else "damaged"
            raise StoreError(f"{self._path(key)} is {state}; run the same command again to make it.")
        return read_parquet(data)

    def _data(self, key: CellKey) -> bytes | None:
        digest = self.digest(key)
        if digest is None:
            return None
        try:
            data = self._path(key).read_bytes()
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == digest else None

    def _marker_path(self, key: CellKey) -> Path:
        return self.folder / f"{key.name}.json"

    def _part_path(self, key: CellKey, digest: str) -> Path:
        return self.folder / f"{key.name}~{digest[:12]}.parquet"

    def _path(self, key: CellKey) -> Path:
        """Where the part of the marker lies; runs of earlier versions have no hash in its name."""
        digest = self.digest(key)
        part = self._part_path(key, digest) if digest else None
        return part if part is not None and part.exists() else self.folder / f"{key.name}.parquet"

    def _brief(self, path: Path) -> Marker | None:
        """A marker without ``extra``, which may be megabytes of JSON: a file is parsed again only if it is another."""
        try:
            found = path.stat()
        except OSError:
            return None
        file = (found.st_ino, found.st_size, found.st_mtime_ns)
        if self._seen.get(path, (None,))[0] != file:
            marker = _read_marker(path)
            self._seen[path] = (file, marker and replace(marker, extra={}))
        return self._seen[path][1]


def _read_marker(path: Path) -> Marker | None:
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        marker = Marker(**{**note, "key": CellKey(**note["key"])})
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    key = marker.key
    texts = (key.task, key.profile, key.method, key.condition, marker.sha256, marker.finished)
    numbers = (key.severity, key.repeat, marker.bytes, marker.rows)
    fits = all(isinstance(text, str) for text in texts) and all(type(number) is int for number in numbers)
    return marker if fits and isinstance(marker.extra, dict) else None


def _with_key(kind: PartKind, key: CellKey, frame: pd.DataFrame) -> pd.DataFrame:
    filled = frame.copy()
    for name, value in key.columns(kind).items():
        if name in filled.columns and any(found != value for found in filled[name].unique()):
            raise StoreError(f"Column '{name}' of a part must be {value!r}, as its key says.")
        filled[name] = value
    return filled
