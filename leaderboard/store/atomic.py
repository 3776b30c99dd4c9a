"""Atomic file writes.

The data is written under a temporary name in its own folder, flushed to disk, then renamed over the old one. A reader
sees the old file or the new one, never a partial one. The price: temporarily twice the space, one flush per file, and a
rename that must stay inside one file system (it does, as the temporary file is in the same folder). A killed writer
leaves its temporary file behind; whoever next opens the run folder alone removes it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from pathlib import Path
from typing import Any

from leaderboard.store.errors import StoreError

TEMPORARY_PREFIX = ".writing-"
_OURS = re.compile(re.escape(TEMPORARY_PREFIX) + r"[0-9]+-[0-9a-f]+")


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace the content of ``path`` by ``data``, atomically.

    Args:
        durable: Whether the data must survive a loss of power. To wait for the disk twice per file takes longer than to
            make the thousands of pages of a whole layer, and they can be made again.

    Raises:
        StoreError: The disk is full or the folder cannot be written; the previous content of ``path`` is kept.
    """
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{os.urandom(4).hex()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        raise _explained(error, path, len(data)) from error


def write_json(path: Path, value: Any) -> None:
    """Replace ``path`` by JSON with sorted keys; see ``write_bytes``."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def remove(path: Path) -> None:
    """Remove a file if it exists.

    Raises:
        StoreError: The folder cannot be written.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _explained(error, path, 0) from error


def move(path: Path, to: Path) -> None:
    """Move a file if it exists, within its file system; creates the folder of ``to``.

    Raises:
        StoreError: One of the folders cannot be written.
    """
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.replace(path, to)
    except OSError as error:
        raise _explained(error, to, 0) from error


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove temporary files that killed writers left anywhere under ``folder``; call only while nobody else writes.

    Returns:
        Paths of the removed files.
    """
    removed = []
    for path in sorted(folder.rglob(f"{TEMPORARY_PREFIX}*")):
        if not _OURS.fullmatch(path.name):
            continue  # a file of the user's
        with contextlib.suppress(OSError):
            path.unlink()
            removed.append(path)
    return removed


def _sync_folder(folder: Path) -> None:
    # The rename itself is durable only once the folder is; some network file systems refuse this.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _explained(error: OSError, path: Path, size: int) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            f"No space left to write {path}: {size:,} bytes needed. Free some space or choose another --out; "
            "finished work is kept, and the same command continues."
        )
    reason = error.strerror or str(error)
    return StoreError(f"Cannot write {path}: {reason}. Check the folder's permissions or choose another --out.")
