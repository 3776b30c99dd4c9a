"""One folder of photographs for two uses that must not meet: a quarter of the files is held out by their content.

The SHA-256 of a file's bytes decides, so a file falls on the same side under any name and in any folder, and two equal
files never fall on different sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from tasks.common.files import file_sha256
from tasks.probing.base import in_threads

SHARE: Final = 0.25
"""Of the files, those held out."""


def hashes_of(files: Sequence[tuple[str, Path]]) -> list[str]:
    """SHA-256 of each file, in their order; empty for what cannot be read, which its reader says later.

    Args:
        files: (identifier, path), as ``find_images`` gives them.
    """
    return list(in_threads(_sha256, [path for _, path in files]))


def is_held_out(sha256: str) -> bool:
    """Whether a file of that hash is held out; one that cannot be read is not."""
    return bool(sha256) and int(sha256[:8], 16) < SHARE * 2**32


def _sha256(path: Path) -> str:
    try:
        status = path.stat()
        # Only files: a pipe would wait for ever.
        return _unchanged(path, status.st_size, status.st_mtime_ns) if path.is_file() else ""
    except OSError:
        return ""


@lru_cache(maxsize=200_000)
def _unchanged(path: Path, size: int, changed: int) -> str:
    """The hash of a file, taken once in a process while size and time of change stay."""
    del size, changed
    return file_sha256(path)


def kept(files: Sequence[tuple[str, Path]]) -> list[tuple[str, Path]]:
    """The files that are not held out."""
    return [file for file, sha256 in zip(files, hashes_of(files), strict=True) if not is_held_out(sha256)]
