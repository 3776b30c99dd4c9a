"""Stores every reply in an SQLite file: equal requests are answered from it, and all requests and costs are counted."""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tasks.cache.store import Cache
from tasks.common.errors import UserError
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

    Raises:
        UserError: The file is not such a store, or was written by a newer version.
    """

    def __init__(self, path: Path | str = ":memory:") -> None:
        self.path = path
        self._lock = threading.RLock()
        try:
            if path != ":memory:":
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            # Autocommit: transactions are opened explicitly, and immediately when writing.
            self._db = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
            self._write_ahead()
            self._db.execute("PRAGMA synchronous=NORMAL")
            with self._writing():
                self._migrate()
        except (sqlite3.Error, OSError) as error:
            raise UserError(
                f"{path} cannot be used to keep replies ({error}); move it away or choose another."
            ) from None

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def get(self, key: str) -> Reply | None:
        """The reply to a request, if there is one."""
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
        with self._writing():
            kept = self.get(key)
            if kept is None:
                self._db.execute(
                    "INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?, datetime('now'))",
                    (key, model, request, _written(reply)),
                )
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
            if cap is not None and spent + (most_usd or 0.0) > cap:
                return None, spent
            cursor = self._db.execute(
                "INSERT INTO requests (model, most_usd, created) VALUES (?, ?, datetime('now'))", (model, most_usd)
            )
            return cursor.lastrowid, spent

    def settle(self, booking: int, prompt_tokens: int | None, completion_tokens: int | None, usd: float | None) -> None:
        """Record the actual tokens and cost of a booked request."""
        with self._writing():
            self._db.execute(
                "UPDATE requests SET prompt_tokens = ?, completion_tokens = ?, usd = ? WHERE number = ?",
                (prompt_tokens, completion_tokens, usd, booking),
            )

    def usage(self) -> Usage:
        """Everything counted so far."""
        with self._lock, self._explained():
            requests, read, written, usd, priced = self._db.execute(
                "SELECT COUNT(*), COALESCE(SUM(prompt_tokens), 0), COALESCE(SUM(completion_tokens), 0), "
                "COALESCE(SUM(COALESCE(usd, most_usd)), 0), COUNT(COALESCE(usd, most_usd)) FROM requests"
            ).fetchone()
        return Usage(requests, read, written, usd if priced == requests else None)

    def _write_ahead(self) -> None:
        """Switch to WAL mode; SQLite does not wait on its own if several processes do so at once."""
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)

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
        with self._lock, self._explained():
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # On a full disk SQLite may have rolled back by itself.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
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
        model: The model to ask.
        store: Where replies are kept.
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

        def ask() -> Reply:
            return self.model.chat(messages, temperature=temperature, max_tokens=max_tokens, seed=seed)

        with self._lock:
            joined = self._in_flight.get(key)
            mine = self._in_flight.setdefault(key, Future())
        if joined is not None:
            reply = joined.result()
            self._count(cached=1)
            return reply
        try:
            mine.set_result(self._answer(key, request, ask))
        except BaseException as error:
            mine.set_exception(error)
        with self._lock:
            del self._in_flight[key]
        return mine.result()

    def _answer(self, key: str, request: str, model: Callable[[], Reply]) -> Reply:
        kept = self.store.get(key)
        if kept is not None:
            self._count(cached=1)
            return kept
        fresh: list[bytes] = []

        def ask(_: list[int]) -> list[bytes]:
            self._count(asked=1)
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
        if fresh:
            return reply
        self._count(cached=1)
        return self.store.put(key, self.identity, request, reply)

    def _count(self, asked: int = 0, cached: int = 0) -> None:
        with self._lock:
            self.asked += asked
            self.cached += cached


def _written(reply: Reply) -> str:
    return json.dumps(asdict(reply))


def _read(text: bytes) -> Reply:
    return Reply(**json.loads(text))
