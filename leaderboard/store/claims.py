"""Claims on a run folder: which process does what when several work in it.

On a local disk a claim is a ``flock`` lock on a file in ``claims/``. The system drops it when its process dies, however
it dies, so that no claim is ever stale. The content of the file (host, process, since when) is for people: it tells
whom a waiting process waits for.

On a network file system locks may hold within a host only (Lustre with ``localflock``, BeeGFS by default, many FUSE
systems), and nobody can tell from one host. There a claim is a lease: a file that its holder refreshes, and that
another process takes over once it has seen it unchanged for 30 seconds by its own clock; clocks need not agree.

Both only save work: that results are stored once rests on ``leaderboard.store.parts``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import filelock

from leaderboard.store.errors import StoreError
from leaderboard.store.session import now

_LOOK_AGAIN = 0.5
"""Seconds between two checks of other processes' progress."""

LEASE = 30.0
"""Seconds until a lease that nobody refreshes is taken over."""

_LOCAL = {"apfs", "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fuseblk", "hfs", "jfs", "ntfs3"} | {
    *("overlay", "ramfs", "reiserfs", "tmpfs", "ufs", "vfat", "xfs", "zfs")
}
"""File systems of one machine."""


@dataclass(frozen=True)
class Owner:
    """The process that does a piece of work.

    Attributes:
        since: Start time, UTC, ISO 8601; empty where it is not known.
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


def why_no_locks(folder: Path) -> str:
    """Why file locks in a folder do not keep processes apart, in a few words; empty if they do.

    Args:
        folder: One that exists and can be written.
    """
    if not is_local(folder):
        kind = file_system(folder)
        return f"it is on a network file system ({kind}), where locks may hold within one host only"
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".locks-") as held, open(held.name, "rb") as other:
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return ""
        except OSError as error:
            return f"its file system has no file locks ({error.strerror})"
    return "two locks on one file do not exclude each other there"


def is_local(folder: Path) -> bool:
    """Whether a folder, there or not, lies on a file system of one machine, as far as the system says."""
    kind = file_system(folder)
    return not kind or kind in _LOCAL


def file_system(folder: Path) -> str:
    """The type of the file system that a folder lies on, e.g. ``ext4``; empty where the system does not say."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    place = folder.resolve()
    deepest, found = 0, ""
    for line in lines:
        _, mounted, kind, *_ = line.split(" ")
        at = Path(mounted.encode().decode("unicode_escape"))  # blanks in names are written in octal
        # Of two on the same folder the later one counts.
        if place.is_relative_to(at) and len(at.parts) >= deepest:
            deepest, found = len(at.parts), kind
    return found


class Claims(ABC):
    """The claims of one run folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "claims"

    @abstractmethod
    def take(self, name: str, wait: bool) -> contextlib.AbstractContextManager[bool]:
        """Try to hold the claim ``name`` while the block runs.

        Args:
            wait: Wait for the current owner instead of giving up.

        Yields:
            True if this process holds it now; False if another process does.

        Raises:
            StoreError: The file cannot be written or locked.
        """

    @abstractmethod
    def alone(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Hold a file of the run folder itself while the block runs; waits for its holder."""

    @abstractmethod
    def is_free(self, name: str) -> bool:
        """Whether nobody owns it at this moment.

        Raises:
            StoreError: Something else lies in its place.
        """

    @abstractmethod
    def owner(self, name: str) -> Owner | None:
        """The last process to take it; ``None`` if it was released, or was taken a moment ago."""

    @abstractmethod
    def clear(self, active: IO[bytes]) -> None:
        """Remove what released claims leave, if no other process writes in the run folder.

        Args:
            active: An open file that all writers keep open.
        """

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
                since = min((owner.since for owner in owners if owner.since), default="")
                say(
                    f"waiting for {len(names)} cells of other processes{f' since {since}' if since else ''}: "
                    f"{', '.join(sorted(who))}; Ctrl-C stops waiting, and the same command continues"
                )
            time.sleep(_LOOK_AGAIN)


class Locks(Claims):
    """Claims by ``flock``, for a file system whose locks hold."""

    @contextlib.contextmanager
    def take(self, name: str, wait: bool) -> Iterator[bool]:
        """See ``Claims``."""
        with open_lock(self.folder / name) as file:
            owned = lock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if owned:
                _note(file, Owner(socket.gethostname(), os.getpid(), now()))
            try:
                yield owned
            finally:
                if owned:
                    _note(file, None)

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """See ``Claims``."""
        with open_lock(self.root / name) as file:
            lock(file, fcntl.LOCK_EX)
            yield

    def is_free(self, name: str) -> bool:
        """See ``Claims``."""
        path = self.folder / name
        try:
            with open(path, "rb") as file:
                return lock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return True
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}; remove it.") from error

    def owner(self, name: str) -> Owner | None:
        """See ``Claims``."""
        try:
            return Owner(**json.loads((self.folder / name).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def clear(self, active: IO[bytes]) -> None:
        """See ``Claims``."""
        if lock(active, fcntl.LOCK_EX | fcntl.LOCK_NB):
            # Not what another process is trying its locks on at this moment.
            for path in self.folder.glob("[!.]*"):
                with contextlib.suppress(OSError):  # a folder in its place is told when it is in the way
                    path.unlink(missing_ok=True)
        lock(active, fcntl.LOCK_SH)


class Leases(Claims):
    """Claims by leases, for a file system whose locks do not hold, or not between hosts.

    Args:
        seconds: How long a lease must be seen unchanged before another process takes it over; the same everywhere.
    """

    def __init__(self, root: Path, seconds: float = LEASE) -> None:
        super().__init__(root)
        self.seconds = seconds
        # Each remembers since when it has seen its file unchanged.
        self._leases: dict[Path, filelock.SoftFileLease] = {}

    @contextlib.contextmanager
    def take(self, name: str, wait: bool) -> Iterator[bool]:
        """See ``Claims``."""
        lease = self._lease(self.folder / name)
        owned = self._acquire(lease, wait)
        try:
            yield owned
        finally:
            if owned:
                lease.release()

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """See ``Claims``."""
        lease = self._lease(self.root / name)
        self._acquire(lease, wait=True)
        try:
            yield
        finally:
            lease.release()

    def is_free(self, name: str) -> bool:
        """See ``Claims``."""
        with self.take(name, wait=False) as owned:
            return owned

    def owner(self, name: str) -> Owner | None:
        """See ``Claims``."""
        with contextlib.suppress(OSError):
            held = self._lease(self.folder / name).owner
            return None if held is None else Owner(held.hostname, held.pid, "")
        return None

    def clear(self, active: IO[bytes]) -> None:
        """A released lease leaves nothing."""

    def _lease(self, path: Path) -> filelock.SoftFileLease:
        if path not in self._leases:
            self._leases[path] = filelock.SoftFileLease(
                path, lease_duration=self.seconds, poll_interval=_LOOK_AGAIN, thread_local=False
            )
        return self._leases[path]

    def _acquire(self, lease: filelock.SoftFileLease, wait: bool) -> bool:
        try:
            Path(lease.lock_file).parent.mkdir(parents=True, exist_ok=True)
            lease.acquire(blocking=wait)
        except filelock.Timeout:
            return False
        except OSError as error:
            raise StoreError(f"Cannot write {lease.lock_file}: {error.strerror}; choose another --out.") from error
        return True


def claims_of(root: Path) -> Claims:
    """The kind of claims that holds where the run folder lies.

    Args:
        root: The run folder, which exists.

    Raises:
        StoreError: It cannot be written.
    """
    folder = root / "claims"
    try:
        folder.mkdir(exist_ok=True)
        return Leases(root) if why_no_locks(folder) else Locks(root)
    except OSError as error:
        raise StoreError(f"Cannot write {folder}: {error.strerror}; choose another --out.") from error


def _note(file: IO[bytes], owner: Owner | None) -> None:
    # Nothing depends on the note, so a full disk is no reason to stop here.
    with contextlib.suppress(OSError):
        file.truncate(0)
        if owner is not None:
            file.write(json.dumps(asdict(owner)).encode())
