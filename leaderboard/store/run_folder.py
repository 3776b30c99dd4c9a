"""A run folder: the results of one run, written cell by cell, so that the same command continues where it stopped.

Layout::

    run.json                identity, its hash, versions, machine, one entry a session
    parts/                  what each finished cell found (``leaderboard.store.parts``)
    labels.parquet, evidence.parquet, thumbnails.parquet, scores.parquet, summary.parquet, comparisons.parquet
                            the merged tables (``leaderboard.store.schema``)
    once/                       what all processes need and one makes: clean activations, masks, words of captions
    replies.sqlite, replies/    what a language model answered, where one was asked (``tasks.language.replies``)
    driver.lease/               which process drives the run, where one does (``leaderboard.store.lease``)
    claims/, .start, .active    which process does what; see ``leaderboard.store.claims``
    corrupt/                parts whose hash no longer fits, set aside and done again

A killed run leaves nothing to clear by hand: its locks are dropped by the system, and its leases run out.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Any, get_args

import pandas as pd
import pyarrow as pa

from leaderboard.store import atomic
from leaderboard.store.claims import Claims, claims_of, lock, open_lock
from leaderboard.store.columns import TableSchema
from leaderboard.store.errors import StoreError
from leaderboard.store.frames import checked, empty_frame, parquet_bytes, read_parquet, to_arrow, to_pandas
from leaderboard.store.identity import as_json, canonical_json, differences, identity_hash, safe_name
from leaderboard.store.migrations import MIGRATIONS, migrated
from leaderboard.store.parts import OBSERVATION, CellKey, Marker, PartKind, Parts
from leaderboard.store.schema import LATER_TABLES, SCHEMA_VERSION, TABLES
from leaderboard.store.session import now, session
from leaderboard.store.shape import RUN, misfit

__all__ = ["OBSERVATION", "CellKey", "Marker", "RunFolder"]

_OWN = frozenset(
    ["parts", "claims", "corrupt", "driver.lease", "replies", ".start", ".active", "progress.jsonl"]
    # SQLite keeps two more files beside an open database.
    + [f"replies.sqlite{end}" for end in ("", "-wal", "-shm")]
)
"""What an interrupted start may leave in a folder that has no run.json yet."""

_log = logging.getLogger(__name__)


class RunFolder:
    """One run folder. Reading needs only the path; writing starts with ``create_or_continue``.

    Safe for several processes, also of several hosts: a cell's result is stored once, and ``claim`` gives each cell to
    one of them.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._parts: dict[PartKind, Parts] = {kind: Parts(self.path, kind) for kind in get_args(PartKind)}
        self._active: IO[bytes] | None = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop writing: another process may then clean up the folder."""
        if self._active is not None:
            self._active.close()
            self._active = None

    # ---- the run ----

    def create_or_continue(self, identity: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
        """Create the folder, or open it again if it holds the same run; removes leftovers of killed writers.

        Args:
            identity: Everything that changes the result, JSON-able. The folder never accepts a different identity
                afterwards.
            facts: Further facts about this session, not part of the identity: host, device, batch size.

        Returns:
            True if the folder existed and is continued.

        Raises:
            StoreError: The folder contains a different run (the message lists what differs), was written by a newer
                version, is not a run folder, or cannot be written.
        """
        plain = json.loads(canonical_json(as_json(identity)))
        self._make_folder()
        with self._claims.alone(".start"):
            exists = (self.path / "run.json").exists()
            run = self._same_run(plain) if exists else _new_run(plain)
            if self._active is None:
                self._enter()
            run["sessions"].append(session(facts))
            atomic.write_json(self.path / "run.json", run)
        return exists

    def join(self, claims: Claims) -> None:
        """Open for writing the folder of a run that another process has begun, and that hands out its work.

        Args:
            claims: How this process and its like claim what they need in common.

        Raises:
            StoreError: The folder cannot be written.
        """
        self.__dict__["_claims"] = claims
        self._active = open_lock(self.path / ".active")
        lock(self._active, fcntl.LOCK_SH)

    def info(self) -> dict[str, Any]:
        """The content of ``run.json``.

        Returns:
            ``schema_version``, ``created`` (UTC), ``identity``, ``identity_hash``, ``sessions`` (see
            ``leaderboard.store.session``) and ``facts`` (see ``record``).

        Raises:
            StoreError: It is missing, unreadable, has another identity than the one it was written with, or has a newer
                version's schema.
        """
        path = self.path / "run.json"
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
            version = int(run["schema_version"])
        except FileNotFoundError:
            raise StoreError(f"{self.path} is not a run folder: it contains no run.json.") from None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(f"{path} cannot be read ({error}); restore it or choose another --out.") from error
        lacking = [name for name in RUN if name not in run or run[name] == []]
        wrong = lacking[0] if lacking else misfit(run, RUN)
        if wrong is not None:
            raise StoreError(f"{path} is damaged ('{wrong}' is not as written); restore it or choose another --out.")
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} was written with schema {version}, newer than this version supports "
                f"({SCHEMA_VERSION}): update clear-benchmark, or choose another --out."
            )
        if version < min(MIGRATIONS):
            raise StoreError(f"{self.path} has schema {version}, which is no longer supported; choose another --out.")
        if run["identity_hash"] != identity_hash(as_json(run["identity"])):
            raise StoreError(f"{path} was edited (its identity is not the one of its hash); restore it or run again.")
        return migrated(run, version)

    def record(self, name: str, facts: Mapping[str, Any]) -> None:
        """Add facts to ``run.json`` under ``facts[name]``; merged key by key with earlier facts of that name."""
        with self._claims.alone(".start"):
            run = self.info()
            run["facts"][name] = {**run["facts"].get(name, {}), **as_json(facts)}
            atomic.write_json(self.path / "run.json", run)

    # ---- cells ----

    @contextlib.contextmanager
    def claim(self, key: CellKey | str, wait: bool = False) -> Iterator[bool]:
        """Try to claim a piece of work while the block runs; check ``is_done`` again inside.

        Args:
            key: The cell, or any name of the work.
            wait: Wait for the current owner instead of giving up.

        Yields:
            True if this process holds it now; False if another process does.
        """
        with self._claims.take(_claim_name(key), wait) as owned:
            yield owned

    def is_free(self, key: CellKey | str) -> bool:
        """Whether no process holds the work at this moment."""
        return self._claims.is_free(_claim_name(key))

    def wait_for_others(self, keys: Sequence[CellKey], say: Callable[[str], None]) -> None:
        """Wait while other processes compute these cells, until all are done or an unfinished one has no owner.

        Args:
            say: Called with whom it waits for, each time this changes.
        """
        self._claims.wait(lambda: [_claim_name(key) for key in keys if self.marker(key) is None], say)

    def write_cell(self, key: CellKey, labels: pd.DataFrame, extra: Mapping[str, Any] | None = None) -> None:
        """Write the labels of a finished cell: part first, marker last.

        Args:
            labels: Columns ``unit``, ``rank``, ``label``, ``score``; the key's columns are filled in.
            extra: JSON-able facts kept in the marker.

        Raises:
            StoreError: The frame breaks the schema or contradicts the key, or the disk is full.
        """
        self._parts["labels"].write(key, labels, extra or {})

    def differ(self, key: CellKey, digest: str, note: Mapping[str, Any]) -> None:
        """Keep a note of other labels for a cell, or for some of its units, than those that count; see ``differing``.

        Args:
            digest: Hash of the other labels.
            note: What is known of them, as JSON.

        Raises:
            StoreError: The disk is full, or the folder cannot be written.
        """
        self._parts["labels"].differ(key, digest, note)

    def write_evidence(self, key: CellKey, evidence: pd.DataFrame, extra: Mapping[str, Any] | None = None) -> None:
        """Write the top images of one condition.

        Args:
            key: The condition, with ``OBSERVATION`` as its method.
            evidence: Columns ``unit``, ``rank``, ``image``, ``activation``; the key's columns are filled in.
            extra: JSON-able facts kept in the marker.

        Raises:
            StoreError: As ``write_cell``.
        """
        self._parts["evidence"].write(key, evidence, extra or {})

    def write_thumbnails(self, key: CellKey, thumbnails: pd.DataFrame) -> None:
        """Write thumbnails of the top images of one condition.

        Args:
            key: The condition, with ``OBSERVATION`` as its method.
            thumbnails: Columns ``image`` and ``webp``; the key's columns are filled in.

        Raises:
            StoreError: As ``write_cell``.
        """
        self._parts["thumbnails"].write(key, thumbnails, {})

    def is_done(self, key: CellKey, kind: PartKind = "labels") -> bool:
        """Whether the part is complete and intact; while writing, a damaged part is moved away to be computed again."""
        parts = self._parts[kind]
        done = parts.is_done(key)
        if not done and self._active is not None and parts.marker(key) is not None:
            parts.set_aside(key)
        return done

    def marker(self, key: CellKey, kind: PartKind = "labels") -> Marker | None:
        """The part's marker; ``None`` if the part is not finished."""
        return self._parts[kind].marker(key)

    def differing(self) -> list[str]:
        """Names of the cells that two processes computed with different results; the first of each counts."""
        return sorted({name for parts in self._parts.values() for name in parts.differing()})

    def digest(self, key: CellKey, kind: PartKind = "labels") -> str | None:
        """SHA-256 of the part's bytes, as its marker states it; ``None`` if the part is not finished."""
        return self._parts[kind].digest(key)

    def done_cells(self, kind: PartKind = "labels") -> list[CellKey]:
        """The keys of all finished parts, sorted."""
        return self._parts[kind].keys()

    def read_cell(self, key: CellKey, kind: PartKind = "labels") -> pd.DataFrame:
        """The rows of one finished part.

        Raises:
            StoreError: The part is not finished, or damaged.
        """
        return self._parts[kind].read(key)

    def read_labels(self) -> pd.DataFrame:
        """The labels of all finished cells, in the columns and row order of ``schema.LABELS``."""
        return self._parts["labels"].merged()

    def read_evidence(self) -> pd.DataFrame:
        """The top images of all finished conditions, in the columns and row order of ``schema.EVIDENCE``."""
        return self._parts["evidence"].merged()

    def read_thumbnails(self) -> pd.DataFrame:
        """The thumbnails of all conditions that have any, in the columns and row order of ``schema.THUMBNAILS``."""
        return self._parts["thumbnails"].merged()

    # ---- merged tables ----

    def write_table(self, name: str, frame: pd.DataFrame) -> Path:
        """Write one of ``schema.TABLES``, checked against its schema; the same rows give the same bytes.

        Raises:
            StoreError: No such table, a frame that breaks its schema, or no space.
        """
        schema = _schema(name)
        path = self.path / f"{name}.parquet"
        atomic.write_bytes(path, parquet_bytes(to_arrow(schema, frame)))
        return path

    def read_table(self, name: str) -> pd.DataFrame:
        """Read a merged table.

        Tables that older runs did not have yet are returned empty, and those that a packed copy leaves out.

        Raises:
            StoreError: No such table, not written yet, damaged, or changed since the run finished.
        """
        schema = _schema(name)
        path = self.path / f"{name}.parquet"
        try:
            data = path.read_bytes()
            if self._active is None and self._finished(path) not in (None, hashlib.sha256(data).hexdigest()):
                raise StoreError("it is not the one that the run finished with")
            return checked(schema, to_pandas(schema, read_parquet(data)))
        except FileNotFoundError:
            info = self.info()
            if name in LATER_TABLES and not self._finished(path):
                return empty_frame(schema)
            if is_bottleneck(info):
                raise StoreError(
                    f"{self.path} trained a concept bottleneck and labelled no units, so it has no table {name}."
                ) from None
            raise StoreError(f"{self.path} contains no {name}.parquet: run its command again to finish it.") from None
        except (OSError, pa.ArrowException, StoreError) as error:
            raise StoreError(
                f"{path} is damaged ({str(error).rstrip('.')}); run the same command again to compute it again."
            ) from error

    def finish(self, facts: Mapping[str, Any], files: Mapping[str, str]) -> None:
        """Say that the run is complete with these files; they are then believed with this identity alone.

        Args:
            facts: Further facts to record beside them.
            files: Path of each file within the folder → its SHA-256.
        """
        self.record("finished", {**finished(self.info(), files), **facts})

    def check_tables(self) -> None:
        """Check that labels, evidence and thumbnails are those of the parts, and the labels in scores those of labels.

        A packed copy has no parts: only its hashes are checked, by ``read_table``.

        Raises:
            StoreError: A table has a row that no part has.
        """
        for kind, parts in self._parts.items():
            if not parts.keys():
                continue
            _check_rows(self.path / f"{kind}.parquet", self.read_table(kind), parts.merged())
        if self._parts["labels"].keys():
            place = ["task", "profile", "method", "perturbation", "severity", "repeat", "unit", "label"]
            labels, scores = self.read_table("labels"), self.read_table("scores")
            said = scores.loc[scores["label"].notna().to_numpy(), place]
            _check_rows(self.path / "scores.parquet", said, labels.loc[labels["rank"].to_numpy() == 1, place])

    # ---- inside ----

    @cached_property
    def _claims(self) -> Claims:
        return claims_of(self.path)

    def _finished(self, table: Path) -> str | None:
        """SHA-256 of a table that the finished run wrote; empty for one that it did not; None where it said nothing."""
        info = self.info()
        noted = info["facts"].get("finished", {})
        files = noted.get("files", {})
        if "seal" not in noted:
            # A packed copy of an older version, which has no parts, kept the hashes of the tables that it was made of.
            return files.get(table.name) if (self.path / "parts").is_dir() else None
        if noted["seal"] != finished(info, files)["seal"]:
            raise StoreError("the list of the tables in run.json is not the one that the run finished with")
        return files.get(table.name, "")

    def _make_folder(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            names = {path.name for path in self.path.iterdir()}
        except OSError as error:
            raise StoreError(
                f"Cannot use {self.path} as a run folder: {error.strerror}; choose another --out."
            ) from error
        strangers = sorted(n for n in names - _OWN if not n.startswith(atomic.TEMPORARY_PREFIX))
        if "run.json" not in names and strangers:
            raise StoreError(f"{self.path} is not a run folder and not empty ({strangers[0]}); choose another --out.")

    def _same_run(self, identity: dict[str, Any]) -> dict[str, Any]:
        run = self.info()
        if run["identity_hash"] != identity_hash(identity):
            changed = "; ".join(differences(run["identity"], identity))
            raise StoreError(
                f"{self.path} contains a run with different settings ({changed}). Use those settings to continue it, "
                "or choose another --out for the new ones."
            )
        return run

    def _enter(self) -> None:
        for path in atomic.remove_leftovers(self.path):
            _log.info("removed %s, left by an interrupted run", path)
        active = open_lock(self.path / ".active")
        self._claims.clear(active)
        self._active = active


def finished(info: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    """What ``run.json`` says of a finished run: its files, and a hash over them and the run's identity.

    Args:
        info: Content of ``run.json``.
        files: Path of each file within the folder → its SHA-256.
    """
    return {"files": dict(files), "seal": identity_hash([info["identity_hash"], dict(files)])}


def table_hashes(folder: Path) -> dict[str, str]:
    """File name of each table in a folder → its SHA-256."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.parquet"))}


def is_bottleneck(info: Mapping[str, Any]) -> bool:
    """Whether a run trained concept bottlenecks and labelled no units.

    Args:
        info: Content of ``run.json``.
    """
    return "bottleneck" in info["identity"].get("content", {})


def _claim_name(key: CellKey | str) -> str:
    return key.name if isinstance(key, CellKey) else safe_name(key)


def _new_run(identity: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "created": now(),
        "identity": identity,
        "identity_hash": identity_hash(identity),
        "sessions": [],
        "facts": {},
    }


def _check_rows(path: Path, table: pd.DataFrame, source: pd.DataFrame) -> None:
    found = table.merge(source, how="left", indicator=True)["_merge"].to_numpy()
    if (found != "both").any():
        raise StoreError(f"{path} has rows that the run's parts do not have; run the same command again to make it.")


def _schema(name: str) -> TableSchema:
    if name not in TABLES:
        raise StoreError(f"Unknown table '{name}'. Available: {', '.join(sorted(TABLES))}.")
    return TABLES[name]
