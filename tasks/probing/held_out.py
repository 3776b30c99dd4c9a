"""One folder of photographs for two disjoint uses: a quarter of the files is held out by their content.

The SHA-256 of a file's bytes decides, so a file is on the same side under any name and in any folder, and two equal
files are never on different sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from tasks.common.files import file_sha256
from tasks.probing.base import in_threads

SHARE: Final = 0.25
"""Share of the files that is held out."""


def hashes_of(files: Sequence[tuple[str, Path]]) -> list[str]:
    """SHA-256 of each file, in order; empty for unreadable files, which their reader reports later.

    Args:
        files: (identifier, path), from ``find_images``.
    """
    return list(in_threads(_sha256, [path for _, path in files]))


def is_held_out(sha256: str) -> bool:
    """Whether a file with that hash is held out; an unreadable one is not."""
    return bool(sha256) and int(sha256[:8], 16) < SHARE * 2**32


def _sha256(path: Path) -> str:
    try:
        status = path.stat()
        # Regular files only: reading a pipe would block forever.
        return _unchanged(path, status.st_size, status.st_mtime_ns) if path.is_file() else ""
    except OSError:
        return ""


@lru_cache(maxsize=200_000)
def _unchanged(path: Path, size: int, changed: int) -> str:
    """The hash of a file, computed once per process while size and modification time are unchanged."""
    del size, changed
    return file_sha256(path)


def kept(files: Sequence[tuple[str, Path]]) -> list[tuple[str, Path]]:
    """The files that are not held out."""
    return [file for file, sha256 in zip(files, hashes_of(files), strict=True) if not is_held_out(sha256)]
