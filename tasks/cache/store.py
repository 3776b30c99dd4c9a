"""The cache's public interface: blobs and small answers by identity, computed on a miss.

A cache must never cost a result: what is damaged is computed again, and whatever reading or writing raises (a full
disk, a folder of somebody else's, a file that another process keeps locked) is one warning, after which the work goes
on without it.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.cache.answers import AnswerStore
from tasks.cache.blobs import BlobStore
from tasks.cache.keys import Identity, canonical, key_of

if TYPE_CHECKING:
    from torch import Tensor

Result = TypeVar("Result")
log = logging.getLogger(__name__)

VARIABLE = "CLEAR_CACHE"
NONE = "none"
_ONLY = b"\0" * 32
# Missing answers are stored in chunks of this size, so that a killed run loses little.
_AT_ONCE = 512
# Seconds after a failure in which the same is not tried again: each try may wait for a lock.
_REST = 60.0


class Cache:
    """Blobs and small answers under one folder, or a cache that stores nothing.

    Args:
        folder: Created on the first write; None stores nothing.
        local: Where several hosts use the folder: another on a local disk for the SQLite file of this one.

    Attributes:
        blobs: See ``tasks.cache.blobs``; None if nothing is stored.
        small: See ``tasks.cache.answers``; None if nothing is stored.
    """

    def __init__(self, folder: Path | None, local: Path | None = None) -> None:
        self.folder = folder
        self.blobs = BlobStore(folder) if folder else None
        self.small = AnswerStore(local or folder, folder / "answers" if local else None) if folder else None
        self._warned = False
        self._resting: dict[str, float] = {}

    @property
    def keeps(self) -> bool:
        """Whether anything is stored."""
        return self.folder is not None

    def blob(self, identity: Identity, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """CPU tensors by identity, read or computed. Tensors read are memory-mapped: copy before writing to them.

        Args:
            identity: See ``tasks.cache.keys``; ``what`` is the kind of blob.
            make: Called on a miss.

        Raises:
            ValueError: The identity lacks ``what``, or is not JSON-serialisable.
        """
        blobs = self.blobs
        if blobs is None:
            return dict(make())
        key_of(identity)  # a wrong identity is a fault of ours, not of the cache
        found = self._tried("read blobs", lambda: blobs.get(identity), None)
        if found is not None:
            return found
        made = {name: tensor.detach().cpu().contiguous() for name, tensor in make().items()}
        self._tried("write blobs", lambda: blobs.put(identity, made), None)
        return made

    def answers(
        self,
        identity: Identity,
        items: Sequence[bytes],
        make: Callable[[list[int]], Sequence[bytes]],
        read: Callable[[list[bytes]], Result],
    ) -> Result:
        """Small answers, read or made; what is asked twice is made once.

        Args:
            identity: Who answers; ``what`` is the kind of answer.
            items: SHA-256 of what is asked, one a question.
            make: ``make(indices)`` gives the answers to the questions at these places.
            read: Turns the answers, one per item in their order, into what is wanted; where it fails on answers that
                were kept, all are made again.
        """
        kept = self.find(identity, items)
        while True:
            found = kept | self._made(identity, items, make, kept)
            try:
                return read([found[item] for item in items])
            except Exception as error:
                if not kept:
                    raise
                self._warn(error)
                kept = {}

    def _made(
        self,
        identity: Identity,
        items: Sequence[bytes],
        make: Callable[[list[int]], Sequence[bytes]],
        kept: Mapping[bytes, bytes],
    ) -> dict[bytes, bytes]:
        """The answers that are not kept yet, made and kept."""
        missing = list({item: place for place, item in reversed(list(enumerate(items))) if item not in kept}.values())
        missing.sort()
        found: dict[bytes, bytes] = {}
        for start in range(0, len(missing), _AT_ONCE):
            places = missing[start : start + _AT_ONCE]
            made = {items[place]: value for place, value in zip(places, make(places), strict=True)}
            self.keep(identity, made)
            found.update(made)
        return found

    def answer(self, identity: Identity, make: Callable[[], Any]) -> Any:
        """One small JSON value, e.g. a count or a digest, read or computed.

        Raises:
            ValueError: ``make`` returns NaN or infinity.
            TypeError: ``make`` returns something that is not JSON-serialisable.
        """
        return self.answers(identity, [_ONLY], lambda _: [canonical(make()).encode()], lambda one: json.loads(one[0]))

    def find(self, identity: Identity, items: Sequence[bytes]) -> dict[bytes, bytes]:
        """The stored answers, by item; damaged ones count as missing."""
        small = self.small
        key_of(identity)
        return {} if small is None else self._tried("read answers", lambda: small.get(identity, items), {})

    def keep(self, identity: Identity, values: Mapping[bytes, bytes]) -> None:
        """Keep small answers by item, in place of those that are there."""
        small = self.small
        if small is not None and values:
            self._tried("write answers", lambda: small.put(identity, values), None)

    def publish(self) -> None:
        """Let other hosts find at once what this process has kept; for an engine, after each item."""
        if self.small is not None:
            self._tried("write answers", self.small.publish, None)

    def _tried(self, what: str, work: Callable[[], Result], otherwise: Result) -> Result:
        if time.monotonic() < self._resting.get(what, 0.0):
            return otherwise
        try:
            return work()
        except Exception as error:
            self._warn(error)
            self._resting[what] = time.monotonic() + _REST
            return otherwise

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "The cache %s cannot be used as it is (%s); what it lacks is computed. Choose another folder by %s, or "
                "none.",
                self.folder,
                error,
                VARIABLE,
            )


def open_cache(place: str | Path | None = None, tier: Callable[[Path], Path | None] = lambda _: None) -> Cache:
    """The cache in a folder; ``none`` stores nothing, None or no name is ``default_folder``. Nothing is created yet.

    Args:
        tier: Returns the folder on a local disk for one that several hosts use; None for one of this host alone.
    """
    chosen = place or os.environ.get(VARIABLE) or default_folder()
    if str(chosen) == NONE:
        return Cache(None)
    folder = Path(chosen).expanduser()
    return Cache(folder, tier(folder))


def default_folder() -> Path:
    """``clear-benchmark`` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME")
    # The XDG specification says to ignore relative paths.
    home = Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache"
    return home / "clear-benchmark"
