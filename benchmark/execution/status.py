"""What the driver of a cluster knows of its workers, in ``cluster/cluster.json`` of the run folder.

For people, and for ``python -m benchmark cluster RUN``; nothing is decided by it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from benchmark.core.items import Item
from leaderboard.store import atomic

_SECONDS = 2.0
"""Minimum time between two versions of the file."""

State = Literal["starting", "idle", "working", "lost", "refused", "stopped"]


@dataclass
class Worker:
    """One worker.

    Attributes:
        item: What it does, or did when it was lost.
        since: When it began to do that or was found lost, seconds since 1970 by the driver's clock.
        done: Kind of item → their number and the seconds that they took.
        why: Why it was refused or given up.
        again: Of a lost worker's item: when it was begun again.
    """

    host: str = ""
    pid: int = 0
    device: str = ""
    state: State = "starting"
    item: str = ""
    since: float = 0.0
    done: dict[str, tuple[int, float]] = field(default_factory=dict)
    why: str = ""
    again: float | None = None


class Status:
    """The state of all workers, written to a file at most every two seconds.

    Args:
        folder: Where the file lies.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "cluster.json"
        self.workers: dict[str, Worker] = {}
        self.begun = 0
        self._started, self._written = time.time(), 0.0
        self._lost: dict[Item, Worker] = {}

    def add(self, worker: str) -> None:
        """A worker is started."""
        self.workers[worker] = Worker(since=time.time())

    def meet(self, worker: str, host: str, pid: int, device: str) -> None:
        """A worker has said what it is."""
        one = self.workers[worker]
        one.host, one.pid, one.device = host, pid, device

    def title(self, worker: str) -> str:
        """A worker for people."""
        host = self.workers[worker].host
        return f"{worker} on {host}" if host else worker

    def set(self, worker: str, state: State, item: str = "", why: str = "") -> None:
        """A worker's state has changed."""
        one = self.workers[worker]
        one.state, one.item, one.since, one.why = state, item, time.time(), why

    def give(self, worker: str, item: Item) -> None:
        """A worker begins an item."""
        self.begun += 1
        self.set(worker, "working", title(item))
        before = self._lost.pop(replace(item, epoch=0), None)
        if before is not None:
            before.again = time.time()

    def lose(self, worker: str, item: Item | None, why: str) -> None:
        """A worker is lost, and what it did."""
        self.set(worker, "lost", title(item) if item else "", why)
        if item is not None:
            self._lost[replace(item, epoch=0)] = self.workers[worker]

    def finish(self, worker: str, item: Item, seconds: float) -> None:
        """A worker has done an item."""
        count, before = self.workers[worker].done.get(item.kind, (0, 0.0))
        self.workers[worker].done[item.kind] = count + 1, round(before + seconds, 3)
        self.set(worker, "idle")

    def write(self, left: Mapping[str, int], ended: bool = False) -> None:
        """Write the file if it is time, or if the work has ended.

        Args:
            left: Items that are left, by kind.
        """
        if not ended and time.time() - self._written < _SECONDS:
            return
        self._written = time.time()
        facts = {
            "started": self._started,
            "updated": self._written,
            "ended": ended,
            "begun": self.begun,
            "left": dict(left),
            "workers": {name: asdict(worker) for name, worker in self.workers.items()},
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_json(self.path, facts)


def title(item: Item) -> str:
    """An item in a few words."""
    if item.kind == "draw":
        return f"draw: {len(item.draws)} concepts"
    condition = f"{item.condition} {item.severity}" if item.severity else item.condition
    if item.cell is None:
        return f"pass: {condition}"
    units = f", {len(item.units)} units from {item.units[0]}" if item.units else ""
    return f"block: {item.cell.task}, {item.cell.method}, {condition}, repeat {item.cell.repeat}{units}"
