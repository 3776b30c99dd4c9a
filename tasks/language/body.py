"""A response body bounded in bytes and in time. Imported only where ``httpx2`` is installed."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2

from tasks.language.retry import Clock

MOST_BYTES = 4_000_000
"""More than any label needs."""


class BoundedBody(httpx2.SyncByteStream):
    """Passes a body on until it is too long or too slow.

    Args:
        seconds: Time limit for the whole body; None sets no limit.
    """

    def __init__(self, stream: httpx2.SyncByteStream, seconds: float | None, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._end = None if seconds is None else clock.now() + seconds

    def __iter__(self) -> Iterator[bytes]:
        """The parts of the body.

        Raises:
            httpx2.ReadTimeout: The whole body takes too long.
            httpx2.ReadError: The body is too large.
        """
        total = 0
        for part in self._stream:
            total += len(part)
            if total > MOST_BYTES:
                raise httpx2.ReadError(f"the body is larger than {MOST_BYTES} bytes")
            if self._end is not None and self._clock.now() > self._end:
                raise httpx2.ReadTimeout("the body took too long")
            yield part

    def close(self) -> None:
        """Close the connection's stream."""
        self._stream.close()
