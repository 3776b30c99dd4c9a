"""Where a host keeps its SQLite files: SQLite's WAL mode works on a local disk, for processes of one host.

In a folder on a local disk they lie in it. In one that hosts share (on a network file system, or where ``CLEAR_LOCAL``
says so) each host has its own on a local disk, and they read from each other by ``tasks.cache.segments``.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from leaderboard.store import atomic
from leaderboard.store.claims import is_local
from tasks import cache
from tasks.common.errors import UserError

VARIABLE = "CLEAR_LOCAL"


def local_tier(folder: Path) -> Path | None:
    """The folder on a local disk for a folder that several hosts use; None if that one is on a local disk itself.

    Raises:
        UserError: It cannot be created, or belongs to another user.
    """
    chosen = os.environ.get(VARIABLE)
    if not chosen and is_local(folder):
        return None
    # With the machine's name, because the temporary folder, too, may be one that hosts share.
    base = Path(chosen or tempfile.gettempdir()) / f"clear-{os.getuid()}-{atomic.machine()}"
    try:
        base.mkdir(parents=True, exist_ok=True, mode=0o700)
        if base.stat().st_uid != os.getuid():
            raise PermissionError(None, "it belongs to another user")
    except OSError as error:
        raise UserError(
            f"{base} cannot be used for what {folder} shares with other hosts ({error.strerror}): set {VARIABLE} to a "
            "folder of your own on a local disk."
        ) from error
    return base / hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]


def open_cache(place: str | None = None) -> cache.Cache:
    """``tasks.cache.open_cache``, with a tier where hosts share the folder."""
    return cache.open_cache(place, local_tier)
