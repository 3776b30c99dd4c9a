"""When a request is retried and how long to wait: bounded in attempts and time, never faster than the server asks."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TypeVar

from tasks.common.seeding import generator
from tasks.language.chat import UnavailableError

LONGEST_WAIT = 60.0
"""Maximum seconds of one wait, whatever the server asks for."""
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Clock:
    """The clock; replaced in tests.

    Attributes:
        now: Monotonic time in seconds.
        date: Seconds since 1970.
    """

    now: Callable[[], float] = time.monotonic
    date: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


class TransientError(Exception):
    """A failure that may pass.

    Args:
        reason: What happened, as the end of "the server …".
        wait: Seconds that the server asks to wait, if given.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait = wait


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long one request is tried.

    Attributes:
        attempts: Maximum number of tries.
        total_seconds: Maximum seconds from the first try to the start of the last.
    """

    attempts: int
    total_seconds: float
    clock: Clock = field(default_factory=Clock)

    def run(self, attempt: Callable[[float], Answer], where: str) -> Answer:
        """Try until it succeeds.

        Between tries it waits as long as the server asked, or twice as long as the time before, starting at half a
        second to a second; both at most ``LONGEST_WAIT``. The jitter differs between processes, so that they do not
        retry in step.

        Args:
            attempt: One try, given the seconds that are left; raises ``TransientError`` to be retried.
            where: The server, for the message.

        Raises:
            UnavailableError: All attempts or all time are used up.
        """
        from tenacity import RetryCallState, Retrying, retry_if_exception_type

        jitter = generator(os.getpid(), "language model retry", where)
        deadline = self.clock.now() + self.total_seconds

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            if isinstance(error, TransientError) and error.wait is not None:
                return min(error.wait, LONGEST_WAIT)
            return min(2.0 ** (state.attempt_number - 1), LONGEST_WAIT) * float(jitter.uniform(0.5, 1))

        def stop(state: RetryCallState) -> bool:
            return state.attempt_number >= self.attempts or self.clock.now() + state.upcoming_sleep >= deadline

        tries = 0

        def counted() -> Answer:
            nonlocal tries
            tries += 1
            return attempt(max(deadline - self.clock.now(), 0.001))

        retrying = Retrying(
            sleep=self.clock.sleep,
            stop=stop,
            wait=wait,
            retry=retry_if_exception_type(TransientError),
            reraise=True,
        )
        try:
            return retrying(counted)
        except TransientError as error:
            raise UnavailableError(
                f"The language model server at {where} {error.reason} ({tries} tries); check that it runs and that "
                "base_url is right, then run the same command again: it continues."
            ) from None


def within(seconds: float, work: Callable[[], Answer]) -> Answer:
    """What a piece of work gives, if it ends in time; else its thread is left alone, and ends with what it waits for.

    A server that sends its headers letter by letter meets no limit on the wait for the next one.

    Raises:
        TimeoutError: It does not end in time.
    """
    result: Future[Answer] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    thread = threading.Thread(target=run, name="language model request", daemon=True)
    thread.start()
    thread.join(seconds)
    return result.result(timeout=0)


class RateLimit:
    """Spaces requests evenly over all threads of this process; needs no thread of its own.

    Args:
        per_second: Maximum requests per second; None sets no limit.
    """

    def __init__(self, per_second: float | None, clock: Clock) -> None:
        self._gap = 1 / per_second if per_second else 0.0
        self._clock = clock
        self._next = -math.inf
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when the next request may start."""
        with self._lock:
            now = self._clock.now()
            start = max(now, self._next)
            self._next = start + self._gap
        if start > now:
            self._clock.sleep(start - now)


def retry_after(headers: Mapping[str, str], date: float) -> float | None:
    """Seconds that a server asks to wait: ``retry-after-ms``, or ``retry-after`` as seconds or as an HTTP date.

    Args:
        headers: Response headers, case-insensitive.
        date: The current time, in seconds since 1970.

    Returns:
        None if the server gives nothing readable, or a time that has passed.
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            wait = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if wait > 0:
            return wait
    try:
        wait = parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - date
    except (ValueError, TypeError, OverflowError):
        return None
    return wait if wait > 0 else None
