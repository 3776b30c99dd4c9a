"""The clock of a probe: that on the wall, or that of the processor while other processes use the machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch

BUSY: Final = 0.3
"""Processors that others use, from which their share of the time would distort what the wall clock says."""

_LOOK: Final = 0.2
_SPEEDUP: Final = 0.8
"""Exponent of the number of threads: a network on two of them is 1.74 times as fast as on one."""


class ProbeClock:
    """Seconds of this process that are comparable with those of a run on the idle machine.

    Attributes:
        busy: Whether others use the machine, so that times are those of one thread of this process.
        until: Time (``time.monotonic``) at which the probe must end.
    """

    def __init__(self, device: torch.device, until: float) -> None:
        others = _others() if device.type == "cpu" else None
        self.busy = others is not None and others > BUSY
        self.until = until

    def __call__(self) -> float:
        """Seconds from any origin."""
        return time.process_time() if self.busy else time.monotonic()

    def left(self) -> float:
        """Seconds on the wall until the probe must end."""
        return self.until - time.monotonic()

    @contextmanager
    def threads(self) -> Iterator[float]:
        """One thread while the machine is busy, since threads that wait for each other also use the processor.

        Yields:
            How many times as fast networks are in the run.
        """
        before = torch.get_num_threads()
        try:
            if self.busy:
                torch.set_num_threads(1)
            yield before**_SPEEDUP if self.busy else 1.0
        finally:
            torch.set_num_threads(before)


def _others() -> float | None:
    """Processors that other processes keep busy; None where the system does not say."""
    try:
        before, own = _ticks(), time.process_time()
        time.sleep(_LOOK)
        ticks = _ticks() - before
    except (OSError, ValueError):
        return None
    return ticks / os.sysconf("SC_CLK_TCK") / _LOOK - (time.process_time() - own) / _LOOK


def _ticks() -> int:
    """Clock ticks during which some process ran, since the machine was started."""
    user, nice, system, *_ = map(int, Path("/proc/stat").read_text(encoding="ascii").split(maxsplit=8)[1:8])
    return user + nice + system
