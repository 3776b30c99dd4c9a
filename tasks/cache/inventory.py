"""Listing and pruning a cache. Imports no torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.cache.keys import Entry
from tasks.cache.store import Cache
from tasks.common.errors import UserError
from tasks.common.files import is_abandoned


@dataclass(frozen=True)
class Pruned:
    """The result of ``prune``.

    Attributes:
        removed: Removed entries, least recently used first.
        leftovers: Number of damaged and unfinished files removed.
        freed: Bytes on disk before minus bytes after.
        left: Bytes on disk after.
    """

    removed: tuple[Entry, ...]
    leftovers: int
    freed: int
    left: int


def entries(cache: Cache) -> list[Entry]:
    """All entries, most recently used first."""
    found = [*(cache.blobs.entries() if cache.blobs else ()), *(cache.small.entries() if cache.small else ())]
    return sorted(found, key=lambda entry: (-entry.used, entry.key))


def entry(cache: Cache, prefix: str) -> Entry:
    """The entry whose key starts with ``prefix``.

    Raises:
        UserError: No key matches, or several do.
    """
    matching = [one for one in entries(cache) if prefix and one.key.startswith(prefix.lower())]
    if not matching:
        raise UserError(f"No key in {cache.folder} begins with {prefix!r}; see: python -m benchmark cache list")
    if len(matching) > 1:
        keys = ", ".join(one.key[:16] for one in matching[:4]) + (", …" if len(matching) > 4 else "")
        raise UserError(f"{len(matching)} keys begin with {prefix!r} ({keys}); give more of it.")
    return matching[0]


def bytes_on_disk(cache: Cache) -> int:
    """Bytes of all files, including damaged files that were set aside."""
    return sum(size for _, size in _files(cache))


def prune(cache: Cache, most: int) -> Pruned:
    """Remove damaged and unfinished files, then the least recently used entries until the rest fits.

    The answers of one model are one entry. A run that is using the cache is not disturbed: it recomputes what is
    missing.

    Args:
        most: Bytes to keep at most; 0 empties the cache.
    """
    before = bytes_on_disk(cache)
    leftovers = _remove_leftovers(cache)
    over = bytes_on_disk(cache) - most
    removed: list[Entry] = []
    for one in reversed(entries(cache)):
        if over <= 0:
            break
        removed.append(one)
        over -= one.size
    for one in removed:
        if one.kind == "blob" and cache.blobs:
            cache.blobs.remove(one.key)
    answerers = [one.key for one in removed if one.kind == "answers"]
    if answerers and cache.small:
        cache.small.remove(answerers)
    after = bytes_on_disk(cache)
    return Pruned(tuple(removed), leftovers, before - after, after)


def _remove_leftovers(cache: Cache) -> int:
    """Files set aside as damaged, temporary files of killed writers, and blobs that never got their hash."""
    count = 0
    for path, _ in list(_files(cache)):
        if path.parent.name == "corrupt" or is_abandoned(path):
            path.unlink(missing_ok=True)
            count += 1
    return count


def _files(cache: Cache) -> Iterator[tuple[Path, int]]:
    for path in sorted(cache.folder.rglob("*")) if cache.folder else ():
        with contextlib.suppress(FileNotFoundError):
            # SQLite's shared memory exists only while a process has the file open.
            if path.is_file() and not path.name.endswith("-shm"):
                yield path, path.stat().st_size
