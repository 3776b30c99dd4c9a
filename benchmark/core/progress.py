"""Measured duration of the kinds of work of a run, and the estimated remaining time.

A cell of one method may cost a hundred times that of another, so time is measured per kind of work (a method, the pass
over the images, ...), never a mean over all of them.
"""

from __future__ import annotations

from collections.abc import Mapping


class Pace:
    """Estimates the duration of one piece of each kind of work.

    Args:
        planned: Kind of work → number of pieces to do.
    """

    def __init__(self, planned: Mapping[str, int]) -> None:
        self._left = dict(planned)
        self._times: dict[str, list[float]] = {}

    def add(self, kind: str, seconds: float) -> None:
        """Record that a piece took so many seconds."""
        self._times.setdefault(kind, []).append(seconds)
        self.drop(kind)

    def drop(self, kind: str) -> None:
        """Record that a piece need not be done: another process did it."""
        self._left[kind] = max(0, self._left.get(kind, 0) - 1)

    def expected(self, kind: str) -> float | None:
        """Expected seconds of one more piece; None before the first one is done.

        The first piece of a kind loads models and fills caches, so it counts only while it is the only one.
        """
        times = self._times.get(kind)
        if not times:
            return None
        later = times[1:] or times
        return sum(later) / len(later)

    def remaining(self) -> float | None:
        """Expected seconds for all that is left; None while a kind with work left was never measured."""
        total = 0.0
        for kind, left in self._left.items():
            each = self.expected(kind) if left else 0.0
            if each is None:
                return None
            total += left * each
        return total

    def seconds(self) -> dict[str, float]:
        """Kind → seconds spent on it so far."""
        return {kind: sum(times) for kind, times in self._times.items()}


def duration(seconds: float) -> str:
    """A readable duration: ``4.2 s``, ``3 min 05 s``, ``2 h 07 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def rate(each: float, unit: str) -> str:
    """A readable rate: ``2.0 cells/s``, ``10.0 s each``.

    Args:
        each: Units per second, more than 0.
        unit: Name of the unit.
    """
    return f"{each:.1f} {unit}/s" if each >= 1 else f"{duration(1 / each)} each"
