"""The dispatcher under virtual time: how long a run takes with many workers, without doing any of its work."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from benchmark.execution.dispatch import Action, Dispatcher, Give, Replace
from benchmark.execution.items import Item


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
    dispatcher = Dispatcher(work.items)
    speed = {str(number): speed for number, speed in enumerate(cluster.speeds)}
    parked: set[Item] = set()
    drawn: set[tuple[int, str]] = set()
    events: list[tuple[float, int, str, Item | None]] = []
    ends: dict[str, float] = {}
    order = 0

    def at(time: float, worker: str, item: Item | None) -> None:
        nonlocal order
        order += 1
        heapq.heappush(events, (time, order, worker, item))

    def do(actions: Sequence[Action], now: float) -> None:
        for action in actions:
            if isinstance(action, Give):
                item = action.item
                seconds = work.seconds(item, item in parked) * cluster.noise(item) / speed[action.worker]
                at(max(now, min(now + seconds, ends[action.worker])), action.worker, item)
            elif isinstance(action, Replace):
                # The replacement takes the lost worker's place, and its name.
                at(now + cluster.restart + cluster.start, action.worker, None)

    for worker in speed:
        at(cluster.start, worker, None)
    now = 0.0
    while not dispatcher.finished:
        now, _, worker, item = heapq.heappop(events)
        if item is None:
            ends[worker] = now + cluster.lifetime()
            do(dispatcher.ready(worker), now)
        elif now >= ends[worker]:
            do(dispatcher.lose(worker), now)
        elif item.kind == "block" and (left := [d for d in work.draws(item) if (item.group, d) not in drawn]):
            parked.add(item)
            do(dispatcher.park(worker, item, left), now)
        else:
            drawn.update((item.group, draw) for draw in item.draws)
            do(dispatcher.finish(worker, item), now)
    if dispatcher.failed:
        raise RuntimeError(next(iter(dispatcher.failed.values())))
    return now
