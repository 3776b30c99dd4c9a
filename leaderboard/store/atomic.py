"""Atomic file writes.

The data is written under a temporary name in its own folder, flushed to disk, then renamed over the old one, or, where
the first writer counts (``create_bytes``), linked to a name that must not exist yet. A reader sees the old file or the
new one, never a partial one. The price: temporarily twice the space, one flush per file, and a rename that must stay
inside one file system (it does, as the temporary file is in the same folder).

A killed writer leaves its temporary file behind. Its name says which process of which machine wrote it, so that only
files of dead processes of this machine are removed: nobody can tell whether a process of another host still runs, and
locks do not say it on every file system.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from leaderboard.store.errors import StoreError

TEMPORARY_PREFIX = ".writing-"
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""What file systems without hard links answer."""

_OURS = re.compile(re.escape(TEMPORARY_PREFIX) + r"(?P<machine>[0-9a-f]{8})-(?P<pid>[0-9]+)-[0-9a-f]+")


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace the content of ``path`` by ``data``, atomically.

    Args:
        durable: Whether the data must survive a loss of power. To wait for the disk twice per file takes longer than to
            make the thousands of pages of a whole layer, and they can be made again.

    Raises:
        StoreError: The disk is full or the folder cannot be written; the previous content of ``path`` is kept.
    """
    with _written(path, data, durable) as temporary:
        os.replace(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """Replace ``path`` by JSON with sorted keys; see ``write_bytes``."""
    write_bytes(path, _json_bytes(value))


def create_bytes(path: Path, data: bytes) -> bool:
    """Write data to a path that does not exist yet, atomically, also between hosts.

    Returns:
        False if it exists; it is left as it is.

    Raises:
        StoreError: As ``write_bytes``.
    """
    with _written(path, data, durable=True) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # The moment between the two calls is the price.
            if path.exists():
                return False
            os.replace(temporary, path)
    return True


def create_json(path: Path, value: Any) -> bool:
    """Write JSON with sorted keys to a path that does not exist yet; see ``create_bytes``."""
    return create_bytes(path, _json_bytes(value))


@contextlib.contextmanager
def _written(path: Path, data: bytes, durable: bool) -> Iterator[Path]:
    """A temporary file beside ``path`` that holds the data, until the block has given it its name."""
    temporary = path.parent / f"{TEMPORARY_PREFIX}{machine()}-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            yield temporary
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        raise _explained(error, path, len(data)) from error


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False) + "\n").encode()


@cache
def machine() -> str:
    """Eight hexadecimal digits for where a process id means something: a host, or a container on it."""
    try:
        numbers = str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:  # not Linux
        numbers = ""
    return hashlib.sha256(f"{platform.node()} {numbers}".encode()).hexdigest()[:8]


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
    """Remove temporary files that killed processes of this machine left anywhere under ``folder``.

    Returns:
        Paths of the removed files.
    """
    removed = []
    for path in sorted(folder.rglob(f"{TEMPORARY_PREFIX}*")):
        name = _OURS.fullmatch(path.name)
        if name is None or name["machine"] != machine() or is_alive(int(name["pid"])):
            continue  # of the user, of another host, or in mid-write
        with contextlib.suppress(OSError):
            path.unlink()
            removed.append(path)
    return removed


def is_alive(pid: int) -> bool:
    """Whether a process of this machine has that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OverflowError:  # no process can have it
        return False
    except OSError:
        return True
    return True


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
