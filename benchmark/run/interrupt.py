"""Stopping in time: at Ctrl-C, at SIGTERM, and when one piece of work takes too long.

A signal raises ``KeyboardInterrupt`` in the main thread, so that everything is closed in order. Python does that only
between two of its own steps: a long call into a library, or threads that are joined first, can take minutes. Signals
are therefore also seen by a thread that ends the process after ``GRACE`` seconds. Nothing is lost by it, because files
are written whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes after Ctrl-C and after SIGTERM."""

GRACE = 8.0
"""Seconds for stopping in order."""

_TWICE = 0.5
"""A second signal within so many seconds is the first one again: ``timeout`` sends it to a process and to its group."""

_CODES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}


class Terminated(KeyboardInterrupt):
    """SIGTERM, e.g. from a batch system that wants its machine back."""


class TookTooLong(BaseException):
    """A piece of work was stopped by ``time_limit``.

    No ``Exception``, so that a method that catches those, say to ask a server again, does not catch it.
    """


@contextlib.contextmanager
def stopping_on_signals(last_words: str) -> Iterator[None]:
    """While the block runs, Ctrl-C and SIGTERM end it, and at the latest ``GRACE`` seconds later the process.

    A second Ctrl-C ends the process at once. Handlers are left as they are outside of the main thread, and where
    SIGINT is ignored, as it is in a shell's background jobs.

    Args:
        last_words: Written to standard error where the process is ended before the block is.

    Raises:
        KeyboardInterrupt: In the block; ``Terminated`` after SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    threading.Thread(target=_watch, args=(read, last_words), name="signals", daemon=True).start()
    signalled: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        signalled.append(number)
        if len(signalled) == 1:
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in _CODES}
    for number in _CODES:
        if before[number] != signal.SIG_IGN:
            signal.signal(number, stop)
    wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield
    finally:
        # After a signal the thread goes on watching: what is still running may hold up the exit.
        if not signalled:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(write)


def _watch(read: int, last_words: str) -> None:
    """End the process some time after the first signal, or at the second; end quietly when the pipe is closed."""
    code, first = 0, 0.0
    while True:
        left = None if not code else max(0.0, first + GRACE - time.monotonic())
        if not select.select([read], [], [], left)[0]:
            _end(code, last_words)
        numbers = os.read(read, 64)
        if not numbers:
            os.close(read)
            return
        for number in numbers:
            if number in _CODES and not code:
                code, first = _CODES[signal.Signals(number)], time.monotonic()
            elif number in _CODES and time.monotonic() - first > _TWICE:
                _end(code, last_words)


def _end(code: int, last_words: str) -> NoReturn:
    text = "".join(char if char.isprintable() else "?" for char in last_words)
    # A progress bar hides the cursor.
    shown = "\x1b[?25h" if sys.stderr.isatty() else ""
    with contextlib.suppress(OSError):
        os.write(2, f"{shown}{text}\n".encode(errors="replace"))
    os._exit(code)


def can_limit_time() -> bool:
    """Whether ``time_limit`` has an effect here: alarms reach the main thread only."""
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Stop the block once it has taken so long, between two of Python's steps; ``None`` for no limit.

    A call into a library is stopped when it returns, and nothing is where ``can_limit_time`` is false.

    Args:
        seconds: More than 0.

    Raises:
        TookTooLong: In the block.
    """
    if seconds is None or not can_limit_time():
        yield
        return

    def stop(*_: object) -> NoReturn:
        raise TookTooLong(f"took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    started = time.monotonic()
    other, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
        finally:  # the alarm may have come at this very moment
            signal.signal(signal.SIGALRM, before)
        if other:
            # Somebody else's alarm, which had to wait.
            signal.setitimer(signal.ITIMER_REAL, max(other - (time.monotonic() - started), 1e-3), interval)
