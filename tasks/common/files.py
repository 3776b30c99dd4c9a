"""Cache files: written atomically, checked by hash, set aside when damaged.

A file is written under a temporary name in the target folder, flushed, then renamed. Folders are not flushed: damage by
a power cut is found by the hash, or the file is missing and made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

TEMPORARY_PREFIX = ".writing-"
ABANDONED_AFTER = 3600.0
"""Age in seconds after which a temporary file is assumed to belong to a killed writer."""


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Atomically replace ``path`` by what ``write`` writes to the path it is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{os.urandom(4).hex()}")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


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
