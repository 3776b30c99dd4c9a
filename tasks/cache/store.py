"""The cache's public interface: blobs and small answers by identity, computed on a miss.

The cache never costs a result: damaged content is recomputed, and if nothing can be written (full disk, folder owned by
another user), it warns once and the work continues without it.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.cache.answers import AnswerStore
from tasks.cache.blobs import BlobStore
from tasks.cache.keys import Identity, canonical

if TYPE_CHECKING:
    from torch import Tensor

Result = TypeVar("Result")
log = logging.getLogger(__name__)

VARIABLE = "CLEAR_CACHE"
NONE = "none"
_ONLY = b"\0" * 32
# Missing answers are stored in chunks of this size, so that a killed run loses little.
_AT_ONCE = 512


class Cache:
    """Blobs and small answers under one folder, or a cache that stores nothing.

    Args:
        folder: Created on the first write; None stores nothing.

    Attributes:
        blobs: See ``tasks.cache.blobs``; None if nothing is stored.
        small: See ``tasks.cache.answers``; None if nothing is stored.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.blobs = BlobStore(folder) if folder else None
        self.small = AnswerStore(folder) if folder else None
        self._warned = False

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
        found = self._tried(lambda: blobs.get(identity), None)
        if found is not None:
            return found
        made = {name: tensor.detach().cpu().contiguous() for name, tensor in make().items()}
        self._tried(lambda: blobs.put(identity, made), None)
        return made

    def answers(
        self, identity: Identity, items: Sequence[bytes], make: Callable[[list[int]], Sequence[bytes]]
    ) -> list[bytes]:
        """Small answers, read or computed; duplicate items are computed once.

        Args:
            identity: Who answers; ``what`` is the kind of answer.
            items: SHA-256 of each input.
            make: ``make(indices)`` returns the answers to the items at these indices.

        Returns:
            One answer per item, in their order.
        """
        found = self.find(identity, items)
        missing = list({item: place for place, item in reversed(list(enumerate(items))) if item not in found}.values())
        missing.sort()
        for start in range(0, len(missing), _AT_ONCE):
            places = missing[start : start + _AT_ONCE]
            made = {items[place]: value for place, value in zip(places, make(places), strict=True)}
            self.keep(identity, made)
            found.update(made)
        return [found[item] for item in items]

    def answer(self, identity: Identity, make: Callable[[], Any]) -> Any:
        """One small JSON value, e.g. a count or a digest, read or computed.

        Raises:
            ValueError: ``make`` returns NaN or infinity.
            TypeError: ``make`` returns something that is not JSON-serialisable.
        """
        return json.loads(self.answers(identity, [_ONLY], lambda _: [canonical(make()).encode()])[0])

    def find(self, identity: Identity, items: Sequence[bytes]) -> dict[bytes, bytes]:
        """The stored answers, by item; damaged ones count as missing."""
        small = self.small
        return {} if small is None else self._tried(lambda: small.get(identity, items), {})

    def keep(self, identity: Identity, values: Mapping[bytes, bytes]) -> None:
        """Store answers by item; existing ones are not overwritten."""
        small = self.small
        if small is not None and values:
            self._tried(lambda: small.put(identity, values), None)

    def _tried(self, work: Callable[[], Result], otherwise: Result) -> Result:
        try:
            return work()
        except (OSError, sqlite3.Error) as error:
            if not self._warned:
                self._warned = True
                log.warning(
                    "The cache %s cannot be used (%s); what it lacks is computed and not kept. "
                    "Choose another folder by %s, or none.",
                    self.folder,
                    error,
                    VARIABLE,
                )
            return otherwise


def open_cache(place: str | Path | None = None) -> Cache:
    """The cache in a folder; ``none`` stores nothing, None means ``default_folder``. Nothing is created yet."""
    chosen = place if place is not None else os.environ.get(VARIABLE) or default_folder()
    return Cache(None if str(chosen) == NONE else Path(chosen).expanduser())


def default_folder() -> Path:
    """``clear-benchmark`` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME")
    # The XDG specification says to ignore relative paths.
    home = Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache"
    return home / "clear-benchmark"
