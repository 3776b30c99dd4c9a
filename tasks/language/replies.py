"""Stores every reply in an SQLite file: equal requests are answered from it, and all requests and costs are counted.

In a run folder that several hosts use, each host has such a file on a local disk, its tier. A reply is published as a
segment (``tasks.cache.segments``) before it is used, and read by the others before they ask. The price cap is kept by
``reserved/N.json``, each created only if there is none: N − 1 holds what all hosts together may have spent, and a host
that needs more adds it in N, a thousandth of the cap at a time. So hosts that pay at the same time, or one after the
other, cannot exceed it; what a host has reserved and not spent when it ends is lost for the others.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sqlite3
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tasks.cache.segments import Segments
from tasks.cache.store import Cache
from tasks.common.errors import UserError
from tasks.common.files import create_whole
from tasks.common.sqlite import connect, write_ahead, writing
from tasks.language.chat import ChatModel, Message, NoAnswerError, Reply

log = logging.getLogger(__name__)

SCHEMA = 1
# Seconds to wait for other processes; they hold the file for milliseconds.
_PATIENCE = 60.0
_TABLES = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, request TEXT NOT NULL, reply TEXT NOT NULL, created TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS requests (
    number INTEGER PRIMARY KEY, model TEXT NOT NULL, most_usd REAL, usd REAL,
    prompt_tokens INTEGER, completion_tokens INTEGER, created TEXT NOT NULL
) STRICT;
"""
_TIER = """
CREATE TABLE IF NOT EXISTS merged (segment TEXT PRIMARY KEY) STRICT;
CREATE TABLE IF NOT EXISTS others (
    origin TEXT NOT NULL, number INTEGER NOT NULL, most_usd REAL, usd REAL,
    prompt_tokens INTEGER, completion_tokens INTEGER, PRIMARY KEY (origin, number)
) STRICT;
CREATE TABLE IF NOT EXISTS tier (origin TEXT NOT NULL, reserved REAL NOT NULL) STRICT;
"""
_AMOUNTS = "most_usd, usd, prompt_tokens, completion_tokens"
_PARTS_OF_CAP = 1000


@dataclass(frozen=True)
class Usage:
    """Totals of a store, over all sessions and processes.

    Attributes:
        requests: Requests made, failed ones included.
        prompt_tokens: Tokens read, summed over the requests whose replies count them.
        completion_tokens: Tokens written, likewise.
        usd: Cost of the requests, those without a reply at their highest cost; None if any price is unknown.
    """

    requests: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None


class ReplyStore:
    """Replies and requests in one SQLite file, safe for several processes and threads on one machine.

    The file is in WAL mode, which network file systems do not support: keep it on a local disk.

    Args:
        path: The file; its folder is created. ``":memory:"`` keeps everything in this process.
        local: Where several hosts use the file's folder: another on a local disk for the file of this host. Segments
            are then in a folder beside ``path``, named like it; what an earlier version left in ``path`` is read.

    Raises:
        UserError: The file is not such a store, or was written by a newer version.
    """

    def __init__(self, path: Path | str = ":memory:", local: Path | None = None) -> None:
        self.path = path if local is None else local / Path(path).name
        self._lock = threading.RLock()
        self._segments = None if local is None else Segments(Path(path).with_suffix(""))
        try:
            if self.path != ":memory:":
                Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            self._db = connect(self.path, _PATIENCE)
            write_ahead(self._db, _PATIENCE)
            with self._writing():
                self._migrate()
            if self._segments is not None:
                self._join(self._segments, Path(path))
        except (sqlite3.Error, OSError) as error:
            raise UserError(
                f"{path} cannot be used to keep replies ({error}); move it away or choose another."
            ) from None

    def close(self) -> None:
        """Close the file."""
        if self._segments is not None:
            with self._explained():
                self._segments.publish()
        self._db.close()

    def get(self, key: str) -> Reply | None:
        """The reply to a request, if there is one."""
        found = self._get(key)
        return self._get(key) if found is None and self._merge() else found

    def _get(self, key: str) -> Reply | None:
        with self._lock, self._explained():
            # As bytes, so that a row that is no UTF-8 is this row's fault alone.
            row = self._db.execute("SELECT CAST(reply AS BLOB) FROM replies WHERE key = ?", (key,)).fetchone()
        try:
            return _read(row[0]) if row else None
        except (ValueError, TypeError, AttributeError, RecursionError):
            log.warning("A reply kept in %s cannot be read; it is asked for again.", self.path)
            return None

    def put(self, key: str, model: str, request: str, reply: Reply) -> Reply:
        """Store a reply and return the one that counts: the first, if another process was faster."""
        self._merge()
        row = (key, model, request, _written(reply))
        with self._writing():
            kept = self._get(key)
            if kept is None:
                self._db.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?, datetime('now'))", row)
        if kept is None and self._segments is not None:
            with self._explained():
                self._segments.publish({"reply": row})
        return kept or reply

    def book(self, model: str, most_usd: float | None, cap: float | None) -> tuple[int | None, float]:
        """Record a request that is about to be made.

        Args:
            most_usd: The request's maximum cost, if the price is known.
            cap: Maximum USD of all requests together.

        Returns:
            The booking's number, or None if the cap forbids the request; and the USD booked before it.
        """
        with self._writing():
            spent = self._db.execute("SELECT COALESCE(SUM(COALESCE(usd, most_usd)), 0) FROM requests").fetchone()[0]
            if self._segments is not None:
                fits, spent = self._reserve(self._segments.folder / "reserved", spent, most_usd or 0.0, cap)
            else:
                fits = cap is None or spent + (most_usd or 0.0) <= cap
            if not fits:
                return None, spent
            booking = self._db.execute(
                "INSERT INTO requests (model, most_usd, created) VALUES (?, ?, datetime('now'))", (model, most_usd)
            ).lastrowid
        self._tell(booking)
        return booking, spent

    def settle(self, booking: int, prompt_tokens: int | None, completion_tokens: int | None, usd: float | None) -> None:
        """Record the actual tokens and cost of a booked request."""
        with self._writing():
            self._db.execute(
                "UPDATE requests SET prompt_tokens = ?, completion_tokens = ?, usd = ? WHERE number = ?",
                (prompt_tokens, completion_tokens, usd, booking),
            )
        self._tell(booking)

    def usage(self) -> Usage:
        """Everything counted so far."""
        self._merge()
        of_others = "" if self._segments is None else f"UNION ALL SELECT {_AMOUNTS} FROM others"  # noqa: S608
        with self._lock, self._explained():
            requests, read, written, usd, priced = self._db.execute(
                "SELECT COUNT(*), COALESCE(SUM(prompt_tokens), 0), COALESCE(SUM(completion_tokens), 0), "  # noqa: S608
                "COALESCE(SUM(COALESCE(usd, most_usd)), 0), COUNT(COALESCE(usd, most_usd)) "
                f"FROM (SELECT {_AMOUNTS} FROM requests {of_others})"
            ).fetchone()
        return Usage(requests, read, written, usd if priced == requests else None)

    def _join(self, segments: Segments, earlier: Path) -> None:
        """Make the file this host's tier, and read what an earlier version left."""
        with self._writing():
            for statement in _TIER.split(";"):
                self._db.execute(statement)
            if not self._db.execute("SELECT COUNT(*) FROM tier").fetchone()[0]:
                self._db.execute("INSERT INTO tier VALUES (?, 0)", (os.urandom(8).hex(),))
            segments.known |= {name for (name,) in self._db.execute("SELECT segment FROM merged")}
        if earlier.exists() and earlier.name not in segments.known:
            with tempfile.TemporaryDirectory() as folder:
                # A copy: SQLite cannot open the file where it is.
                for path in earlier.parent.glob(f"{earlier.name}*"):
                    if not path.name.endswith("-shm"):
                        shutil.copy(path, folder)
                with closing(sqlite3.connect(Path(folder) / earlier.name)) as old:
                    old.text_factory = lambda text: text.decode("utf-8", "replace")
                    replies = old.execute("SELECT key, model, request, reply FROM replies").fetchall()
                    requests = old.execute(f"SELECT number, {_AMOUNTS} FROM requests").fetchall()  # noqa: S608
            told = [{"request": [earlier.name, *row]} for row in requests]
            self._keep(earlier.name, [*({"reply": row} for row in replies), *told])

    def _merge(self) -> bool:
        """Whether there was something to read of other hosts."""
        if self._segments is None:
            return False
        found = False
        with self._lock, self._explained():
            for name, records in self._segments.unread():
                fitting = [record for record in records if _fits(record)]
                if len(fitting) < len(records):
                    log.warning("%s of %s cannot be read in part; what it held is asked for again.", name, self.path)
                self._keep(name, fitting)
                found = True
        return found

    def _keep(self, segment: str, records: Sequence[Mapping[str, Any]]) -> None:
        with self._writing():
            own = self._db.execute("SELECT origin FROM tier").fetchone()[0]
            for record in records:
                if "reply" in record:
                    self._db.execute(
                        "INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, datetime('now'))", record["reply"]
                    )
                elif record["request"][0] != own:
                    self._db.execute(
                        "INSERT INTO others VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                        "usd = COALESCE(excluded.usd, usd), "
                        "prompt_tokens = COALESCE(excluded.prompt_tokens, prompt_tokens), "
                        "completion_tokens = COALESCE(excluded.completion_tokens, completion_tokens)",
                        record["request"],
                    )
            self._db.execute("INSERT OR IGNORE INTO merged VALUES (?)", (segment,))

    def _tell(self, booking: int | None) -> None:
        """Let other hosts count a request; published with the next reply."""
        if self._segments is None:
            return
        with self._lock, self._explained():
            row = self._db.execute(
                f"SELECT origin, number, {_AMOUNTS} FROM tier, requests WHERE number = ?",  # noqa: S608
                (booking,),
            ).fetchone()
        self._segments.later({"request": row})

    def _reserve(self, folder: Path, spent: float, most: float, cap: float | None) -> tuple[bool, float]:
        """Whether this host may spend that much more, and what all hosts have reserved; see the module."""
        reserved = self._db.execute("SELECT reserved FROM tier").fetchone()[0]
        number = max((int(path.stem) for path in folder.glob("*.json") if path.stem.isdecimal()), default=0)
        while True:
            if number:
                total = _reserved(folder / f"{number}.json")
            else:  # what an earlier version left
                total = self._db.execute("SELECT COALESCE(SUM(COALESCE(usd, most_usd)), 0) FROM others").fetchone()[0]
            need = spent + most - reserved
            if need <= 0 and (cap is None or total <= cap):
                return True, total - reserved + spent
            more = max(need, (cap or 0.0) / _PARTS_OF_CAP)
            if cap is not None:
                more = min(more, cap - total)
            if more < need:
                return False, total - reserved + spent
            number += 1
            if create_whole(folder / f"{number}.json", json.dumps({"usd": total + more}).encode()):
                self._db.execute("UPDATE tier SET reserved = reserved + ?", (more,))
                return True, total - reserved + spent

    def _migrate(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA:
            raise UserError(
                f"{self.path} was written by a newer version (schema {version}, this one reads {SCHEMA}); update "
                "clear-benchmark, or choose another file."
            )
        if version == 0:
            for statement in _TABLES.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {SCHEMA}")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock, self._explained(), writing(self._db):
            yield

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.OperationalError, OSError) as error:
            raise UserError(
                f"{self.path} cannot be written ({error}), so what the language model answers could not be kept: make "
                "room, then run the same command again."
            ) from error
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"{self.path} is damaged ({error}): move it away, then run the same command again; the replies in it "
                "are asked for, and paid, again."
            ) from error


class CachedChat:
    """A chat model that is asked each request once; refusals and errors are not stored.

    Threads that ask the same at the same time get the reply, or the error, of one request.

    The key of a reply is the model's identity, the messages, temperature, token limit and seed. A different seed is a
    different sample, so a method's noise floor is cached too. Within a run the key ignores where the model is served.

    Args:
        shared: Where other runs find them, too; None shares none.
        served: What may tell models of one name apart between runs (server, libraries), JSON-able.

    Attributes:
        asked: Requests that the model was asked.
        cached: Requests that were answered from what is kept.
        unusable: Why requests got no usable answer → how many.
    """

    def __init__(
        self,
        model: ChatModel,
        store: ReplyStore,
        shared: Cache | None = None,
        served: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.model = model
        self.store = store
        self.shared = shared or Cache(None)
        self.served = served
        self.asked = 0
        self.cached = 0
        self.unusable: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._in_flight: dict[str, Future[Reply]] = {}

    @property
    def identity(self) -> str:
        """The identity of the wrapped model."""
        return self.model.identity

    def chat(self, messages: Sequence[Message], *, temperature: float, max_tokens: int, seed: int) -> Reply:
        """Answer from the store, or ask the model; ``asked`` and ``cached`` count each."""
        request = json.dumps(
            {
                "model": self.identity,
                "messages": [message.facts() for message in messages],
                "temperature": float(temperature),
                "max_tokens": max_tokens,
                "seed": seed,
            },
            sort_keys=True,
        )
        key = hashlib.sha256(request.encode()).hexdigest()
        kept = self.store.get(key)
        if kept is not None:
            return self._counted(kept)

        def ask() -> Reply:
            return self.model.chat(messages, temperature=temperature, max_tokens=max_tokens, seed=seed)

        mine: Future[Reply] = Future()
        with self._lock:
            first = self._in_flight.setdefault(key, mine)
        if first is not mine:
            return self._counted(first.result())
        try:
            mine.set_result(self._answer(key, request, ask))
        except BaseException as error:
            mine.set_exception(error)
        with self._lock:
            del self._in_flight[key]
        return mine.result()

    def _answer(self, key: str, request: str, model: Callable[[], Reply]) -> Reply:
        kept = self.store.get(key)  # another thread may just have ended
        if kept is not None:
            return self._counted(kept)
        fresh: list[bytes] = []

        def ask(_: list[int]) -> list[bytes]:
            with self._lock:
                self.asked += 1
            try:
                reply = model()
            except NoAnswerError as error:
                with self._lock:
                    self.unusable[str(error)] += 1
                raise
            fresh.append(_written(self.store.put(key, self.identity, request, reply)).encode())
            return fresh

        answerer = {"what": "language-model replies", "schema": SCHEMA, "model": self.identity, **self.served}
        reply = self.shared.answers(answerer, [bytes.fromhex(key)], ask, lambda found: _read(found[0]))
        return reply if fresh else self._counted(self.store.put(key, self.identity, request, reply))

    def _counted(self, kept: Reply) -> Reply:
        with self._lock:
            self.cached += 1
        return kept


def _fits(record: Any) -> bool:
    match record:
        case {"reply": [str(), str(), str(), str()]}:
            return True
        case {"request": [str(), int(), *amounts]}:
            return len(amounts) == 4 and all(isinstance(one, int | float | None) for one in amounts)
    return False


def _reserved(path: Path) -> float:
    try:
        return float(json.loads(path.read_bytes())["usd"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UserError(
            f"{path} is damaged, so it is not known how much of the price cap is left: restore it, or choose another "
            "--out."
        ) from None


def _written(reply: Reply) -> str:
    return json.dumps(asdict(reply))


def _read(text: bytes) -> Reply:
    return Reply(**json.loads(text))
