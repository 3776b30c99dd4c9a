"""The dispatcher under virtual time: how long a run takes with many workers, without doing any of its work."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from benchmark.core.items import Item
from benchmark.execution.dispatch import Action, Dispatcher, Give, Replace


class Workload(Protocol):
    """What the items of a run need."""

    @property
    def items(self) -> Sequence[Item]:
        """The passes and blocks."""
        ...

    def draws(self, block: Item) -> Collection[str]:
        """Names of the concepts that a block needs drawn."""
        ...

    def seconds(self, item: Item, again: bool) -> float:
        """Duration on a worker of speed 1; ``again`` if the item is a block that was parked before."""
        ...


def never() -> float:
    """Seconds until a worker is lost, where none is."""
    return float("inf")


@dataclass
class Cluster:
    """Workers, all of them alike except for their speed.

    Attributes:
        speeds: One per worker, relative to the workload's seconds.
        start: Seconds until a new worker asks for work.
        lifetime: Draws the seconds until a worker is lost; one that is idle then is noticed when it gets an item.
        restart: Seconds from the loss of a worker until its replacement begins to start.
        noise: Draws a factor of the duration of an item.
    """

    speeds: Sequence[float]
    start: float = 0.0
    lifetime: Callable[[], float] = never
    restart: float = 0.0
    noise: Callable[[Item], float] = field(default=lambda item: 1.0)


def makespan(work: Workload, cluster: Cluster) -> float:
    """Seconds from the start until the last item is done.

    Raises:
        RuntimeError: An item failed, because too many workers were lost with it.
    """
    return _Simulation(work, cluster).run()


class _Simulation:
    """Workers have numbers as names; a replacement takes the place, the speed and the name of the lost one."""

    def __init__(self, work: Workload, cluster: Cluster) -> None:
        self.work, self.cluster = work, cluster
        self.dispatcher = Dispatcher(work.items)
        self.now = 0.0
        self.order = 0  # events of one moment happen in the order in which they were made
        self.events: list[tuple[float, int, int, Item | None]] = []
        self.ends = [0.0] * len(cluster.speeds)
        self.parked: set[Item] = set()
        self.drawn: set[tuple[int, str]] = set()

    def run(self) -> float:
        for worker in range(len(self.ends)):
            self._at(self.cluster.start, worker, None)
        while not self.dispatcher.finished:
            self.now, _, worker, item = heapq.heappop(self.events)
            self._do(self._reported(worker, item))
        for reason in self.dispatcher.failed.values():
            raise RuntimeError(reason)
        return self.now

    def _reported(self, number: int, item: Item | None) -> list[Action]:
        worker = str(number)
        if item is None:
            self.ends[number] = self.now + self.cluster.lifetime()
            return self.dispatcher.ready(worker)
        if self.now >= self.ends[number]:
            return self.dispatcher.lose(worker)
        if item.kind == "block":
            lacking = [draw for draw in self.work.draws(item) if (item.group, draw) not in self.drawn]
            if lacking:
                self.parked.add(item)
                return self.dispatcher.park(worker, item, lacking)
        self.drawn.update((item.group, draw) for draw in item.draws)
        return self.dispatcher.finish(worker, item)

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            worker = int(action.worker)
            if isinstance(action, Give):
                item = action.item
                seconds = self.work.seconds(item, item in self.parked) * self.cluster.noise(item)
                end = self.now + seconds / self.cluster.speeds[worker]
                self._at(max(self.now, min(end, self.ends[worker])), worker, item)
            elif isinstance(action, Replace):
                self._at(self.now + self.cluster.restart + self.cluster.start, worker, None)

    def _at(self, time: float, worker: int, item: Item | None) -> None:
        self.order += 1
        heapq.heappush(self.events, (time, self.order, worker, item))
