"""Which process drives a run: one at a time, also of several hosts, and without locks or equal clocks.

``driver.lease/N.json`` holds host, process, epoch N and a beat that its owner counts up. Each is created only if there
is none, so that of two processes that begin epoch N one fails. The highest epoch counts. It ends when it is released,
when its process is gone from this machine, or when another process has seen it unchanged for a minute by its own clock.

A driver that was frozen for longer learns of the next epoch when it beats again. What it stored meanwhile needs no
epoch: parts and markers are created only if absent (``leaderboard.store.parts``).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from leaderboard.store import atomic
from leaderboard.store.errors import StoreError

TAKEN_OVER = 60.0
"""Seconds that a lease must be seen unchanged before another process takes it over."""
_LOOK_AGAIN = 1.0


class DriverLease:
    """The right to drive one run.

    Args:
        root: The run folder, which exists.
        seconds: See ``TAKEN_OVER``; the owner beats six times in this time.
        clock: Monotonic, in seconds.

    Attributes:
        epoch: Number of drivers of the run so far, this one included; 0 before ``take``.
    """

    def __init__(
        self,
        root: Path,
        seconds: float = TAKEN_OVER,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.folder = root / "driver.lease"
        self.seconds = seconds
        self.epoch = 0
        self._clock, self._sleep = clock, sleep
        self._beats = 0
        self._lost = ""

    def take(self, say: Callable[[str], object] = str) -> None:
        """Become the driver; waits while it is not clear whether the last one is alive.

        Args:
            say: Called with whom it waits for.

        Raises:
            StoreError: Another process drives the run, or the folder cannot be written.
        """
        seen, since = None, self._clock()
        while True:
            last = self._last()
            if last != seen:
                if seen is not None and not last.get("released"):
                    raise StoreError(_refusal(self.folder.parent, last))
                seen, since = last, self._clock()
                if not _is_over(last):
                    say(f"waiting up to {self.seconds:.0f} s to see whether {_who(last)} still drives this run")
            if _is_over(last) or self._clock() - since >= self.seconds:
                epoch = last["epoch"] + 1
                if atomic.create_json(self.folder / f"{epoch}.json", self._note(epoch)):
                    self.epoch = epoch
                    return
                seen = {}  # another process was faster
                continue
            self._sleep(min(_LOOK_AGAIN, self.seconds / 6))

    def beat(self) -> None:
        """Show that this process is alive.

        Raises:
            StoreError: Another process has taken over.
        """
        self.check()
        last = self._last()
        if last["epoch"] != self.epoch:
            self._lost = _refusal(self.folder.parent, last)
            self.check()
        self._beats += 1
        atomic.write_json(self.folder / f"{self.epoch}.json", self._note(self.epoch))

    def check(self) -> None:
        """Stop a driver whose run was taken over, as far as it knows.

        Raises:
            StoreError: It was.
        """
        if self._lost:
            raise StoreError(self._lost)

    @contextlib.contextmanager
    def held(self, say: Callable[[str], object] = str) -> Iterator[DriverLease]:
        """Drive the run while the block runs; a thread beats, and ``check`` says whether it may go on.

        Args:
            say: See ``take``.

        Raises:
            StoreError: Another process drives the run.
        """
        self.take(say)
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self.seconds / 6):
                # A full disk passes, or the lease is lost; ``check`` tells which.
                with contextlib.suppress(StoreError):
                    self.beat()

        thread = threading.Thread(target=beat, name="driver lease", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            over.set()
            thread.join()
            with contextlib.suppress(StoreError):
                if not self._lost:
                    atomic.write_json(self.folder / f"{self.epoch}.json", {**self._note(self.epoch), "released": True})

    def _note(self, epoch: int) -> dict[str, Any]:
        return {
            "host": socket.gethostname(),
            "machine": atomic.machine(),
            "pid": os.getpid(),
            "epoch": epoch,
            "beat": self._beats,
        }

    def _last(self) -> dict[str, Any]:
        """The note of the highest epoch; epoch 0 if nobody has driven the run yet."""
        epochs = [int(path.stem) for path in self.folder.glob("*.json") if path.stem.isdecimal()]
        epoch = max(epochs, default=0)
        try:
            note = json.loads((self.folder / f"{epoch}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            note = None
        # A damaged note is one of an unknown process: it counts until it is seen unchanged for long enough.
        return {**note, "epoch": epoch} if isinstance(note, dict) else {"epoch": epoch}


def _is_over(last: dict[str, Any]) -> bool:
    if last["epoch"] == 0 or last.get("released") is True:
        return True
    pid = last.get("pid")
    return last.get("machine") == atomic.machine() and isinstance(pid, int) and not atomic.is_alive(pid)


def _who(last: dict[str, Any]) -> str:
    return f"process {last.get('pid', '?')} on {last.get('host', 'another host')}"


def _refusal(root: Path, last: dict[str, Any]) -> str:
    return (
        f"{root} is driven by {_who(last)} (epoch {last['epoch']}): wait until it has ended, or stop it, then run "
        "the same command again; it continues."
    )
