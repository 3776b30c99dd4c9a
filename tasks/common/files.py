"""Files: those of the cache are written whole or not at all and checked by their hash, those of users bounded.

A file is written under a temporary name in the target folder, flushed, then renamed. Folders are not flushed: damage by
a power cut is found by the hash, or the file is missing and made again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tasks.common.errors import UserError

TEMPORARY_PREFIX = ".writing-"
ABANDONED_AFTER = 3600.0
"""Age in seconds after which a temporary file is assumed to belong to a killed writer."""


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Atomically replace ``path`` by what ``write`` writes to the path it is given."""
    with _written(path, write) as temporary:
        os.replace(temporary, path)


def create_whole(path: Path, data: bytes) -> bool:
    """Atomically write a file that does not exist yet, also between hosts; False if it exists.

    Raises:
        OSError: The folder cannot be written, or its file system has no hard links.
    """
    with _written(path, lambda place: place.write_bytes(data)) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    return True


@contextlib.contextmanager
def _written(path: Path, write: Callable[[Path], object]) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{os.urandom(4).hex()}")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def read_bounded(path: Path, most: int) -> bytes:
    """The content of a user's file; what is no file (a pipe, a device) would never end, or never begin.

    Raises:
        UserError: It is no ordinary file, or larger than ``most`` bytes.
        OSError: It is not there, or cannot be read.
    """
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path} is no ordinary file; copy its content into one.")
    if status.st_size > most:
        raise UserError(f"{path} is larger than {most / 1e6:g} MB, which nothing of its kind needs.")
    return path.read_bytes()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def set_aside(path: Path, folder: Path) -> Path | None:
    """Move a damaged file to ``folder`` under a unique name.

    Returns:
        The new path; None if another process was faster.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.urandom(2).hex()}-{path.name}"
    try:
        os.replace(path, place)
    except FileNotFoundError:
        return None
    return place


def is_abandoned(path: Path) -> bool:
    """Whether this is a half-written file, or a blob without its hash, that no process is writing any more."""
    half = path.name.startswith(TEMPORARY_PREFIX)
    unmarked = path.suffix == ".safetensors" and not path.with_suffix(".sha256").exists()
    try:
        return (half or unmarked) and time.time() - path.stat().st_mtime > ABANDONED_AFTER
    except FileNotFoundError:
        return False
