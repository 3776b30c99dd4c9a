"""Locks of a run folder: which process does what when several work in it.

A claim is a ``flock`` lock on a file in ``claims/``. The system drops it when its process dies, however it dies, and a
network file system drops those of a dead machine once its lease has run out (90 s by default with NFS 4). So no claim
is ever stale, independent of any clock. The content of the file (host, process, since when) is for people: it tells
whom a waiting process waits for.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from leaderboard.store.errors import StoreError
from leaderboard.store.session import now

_LOOK_AGAIN = 0.5
"""Seconds between two checks of other processes' progress."""


@dataclass(frozen=True)
class Owner:
    """The process that does a piece of work.

    Attributes:
        host: Name of the machine.
        pid: Process id on that machine.
        since: Start time, UTC, ISO 8601.
    """

    host: str
    pid: int
    since: str


def open_lock(path: Path) -> IO[bytes]:
    """Open a file to lock it; it is created if missing.

    Raises:
        StoreError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # For reading too: NFS allows shared locks only on files open for reading.
        return open(path, "a+b", buffering=0)
    except OSError as error:
        raise StoreError(f"Cannot write {path}: {error.strerror}; choose another --out.") from error


def lock(file: IO[bytes], how: int) -> bool:
    """Lock an open file until it is closed.

    Args:
        how: ``fcntl.LOCK_EX`` or ``fcntl.LOCK_SH``, with ``fcntl.LOCK_NB`` to not wait for the holder.

    Returns:
        False if another process holds it.

    Raises:
        StoreError: The file system does not support locks.
    """
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StoreError(
            f"{file.name} cannot be locked ({error.strerror}): its file system has no file locks, which keep two "
            "processes from doing the same work; choose another --out, e.g. on a local disk."
        ) from error
    return True


class Claims:
    """The claims of one run folder.

    Args:
        root: The run folder.
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / "claims"

    @contextlib.contextmanager
    def take(self, name: str, wait: bool) -> Iterator[bool]:
        """Try to hold the claim ``name`` while the block runs.

        Args:
            name: A file name.
            wait: Wait for the current owner instead of giving up.

        Yields:
            True if this process holds it now; False if another process does.

        Raises:
            StoreError: The file cannot be written or locked.
        """
        with open_lock(self.folder / name) as file:
            owned = lock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if owned:
                _note(file, Owner(socket.gethostname(), os.getpid(), now()))
            try:
                yield owned
            finally:
                if owned:
                    _note(file, None)

    def is_free(self, name: str) -> bool:
        """Whether nobody owns it at this moment.

        Raises:
            StoreError: Something else lies in its place.
        """
        path = self.folder / name
        try:
            with open(path, "rb") as file:
                return lock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return True
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}; remove it.") from error

    def owner(self, name: str) -> Owner | None:
        """The last process to take it; ``None`` if it was released, or was taken a moment ago."""
        try:
            return Owner(**json.loads((self.folder / name).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def wait(self, left: Callable[[], Sequence[str]], say: Callable[[str], None]) -> None:
        """Wait for other processes' work until all is done or an unfinished piece has no owner.

        Args:
            left: Returns the names of unfinished work.
            say: Called with whom it waits for, again when another process joins them.
        """
        said: set[str] = set()
        while (names := left()) and not any(self.is_free(name) for name in names):
            owners = [owner for name in names if (owner := self.owner(name)) is not None]
            who = {f"process {owner.pid} on {owner.host}" for owner in owners}
            if who - said:
                said |= who
                say(
                    f"waiting for {len(names)} cells of other processes since {min(owner.since for owner in owners)}: "
                    f"{', '.join(sorted(who))}; Ctrl-C stops waiting, and the same command continues"
                )
            time.sleep(_LOOK_AGAIN)

    def clear(self) -> None:
        """Remove the files of all claims; only while no one holds or takes one."""
        for path in self.folder.glob("*"):
            with contextlib.suppress(OSError):  # a folder in its place is told when it is in the way
                path.unlink(missing_ok=True)


def _note(file: IO[bytes], owner: Owner | None) -> None:
    # Nothing depends on the note, so a full disk is no reason to stop here.
    with contextlib.suppress(OSError):
        file.truncate(0)
        if owner is not None:
            file.write(json.dumps(asdict(owner)).encode())
