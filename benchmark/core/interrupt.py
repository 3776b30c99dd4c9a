"""Stopping promptly: at Ctrl-C, at SIGTERM, and when one piece of work takes too long.

A signal raises ``KeyboardInterrupt`` in the main thread, so that everything is closed properly. Python does that only
between two bytecode instructions: a long call into a library, or threads that are joined first, can take minutes.
Signals are therefore also received by a thread that ends the process after ``GRACE`` seconds. Nothing is lost by it,
because files are written atomically.
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
"""Seconds allowed for an orderly stop."""

_TWICE = 0.5
"""A second signal within this many seconds is a duplicate of the first: ``timeout`` sends it to a process and to its
group."""

_CODES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}


class Terminated(KeyboardInterrupt):
    """SIGTERM, e.g. from a batch system that reclaims its machine."""


class TookTooLong(BaseException):
    """A piece of work was interrupted by ``time_limit``.

    Not an ``Exception``, so that a method that catches those, e.g. to retry a request, does not catch it.
    """


@contextlib.contextmanager
def stopping_on_signals(last_words: str) -> Iterator[None]:
    """While the block runs, Ctrl-C and SIGTERM end it, and at most ``GRACE`` seconds later the process.

    A second Ctrl-C ends the process at once. Handlers are left unchanged outside the main thread, and where SIGINT is
    ignored, as it is in a shell's background jobs.

    Args:
        last_words: Written to standard error if the process ends before the block.

    Raises:
        KeyboardInterrupt: Inside the block; ``Terminated`` after SIGTERM.
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
    except KeyboardInterrupt as error:
        # A library that a signal interrupts (Ray) may raise its own instead of ours.
        if signalled[:1] == [signal.SIGTERM] and not isinstance(error, Terminated):
            raise Terminated from error
        raise
    finally:
        # After a signal the thread keeps watching: what is still running may delay the exit.
        if not signalled:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(write)


def _watch(read: int, last_words: str) -> None:
    """End the process ``GRACE`` seconds after the first signal, or at the second; return when the pipe is closed."""
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
    """Whether ``time_limit`` has an effect here: alarms reach only the main thread."""
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Interrupt the block after so many seconds, between two bytecode instructions; ``None`` for no limit.

    A call into a library is interrupted when it returns; no effect if ``can_limit_time`` is false.

    Args:
        seconds: More than 0.

    Raises:
        TookTooLong: Inside the block.
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
        finally:  # the alarm may arrive at this very moment
            signal.signal(signal.SIGALRM, before)
        if other:
            # Someone else's alarm, which had to wait.
            signal.setitimer(signal.ITIMER_REAL, max(other - (time.monotonic() - started), 1e-3), interval)
