"""Which worker does which item next: a state machine without an engine, a clock or input and output.

The caller reports events and carries out the returned actions; the same events give the same actions. One queue for
identical workers, and whoever is free gets the next item: draws before blocks before passes, so that what was begun is
finished first and little is open at a time. Of the blocks, a worker gets those whose images it has in memory first, but
nobody waits for that. What a lost worker held comes before everything.

A concept that several blocks want is drawn once: a block that lacks concepts is *parked* until they are there, and then
handed out again. Results are deterministic and stored, so an item that two workers did (one of them was thought to be
lost) does no harm; the caller reports as done only what the store holds.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from benchmark.core.items import Item

LOSSES: Final = 3
"""An item is handed out again after this many lost workers; the next loss makes it a poison item, which fails alone."""

CONCEPTS: Final = 4
"""Most concepts per draw."""


@dataclass(frozen=True)
class Give:
    """Hand the item to the worker."""

    worker: str
    item: Item


@dataclass(frozen=True)
class Replace:
    """The worker is lost: start another one."""

    worker: str


@dataclass(frozen=True)
class Stop:
    """The worker is no longer needed."""

    worker: str


@dataclass
class _Parked:
    block: Item
    lacking: int


Action: TypeAlias = Give | Replace | Stop

_Source: TypeAlias = tuple[int, str, int]
"""Group, condition and severity: the images of one pass."""


class Dispatcher:
    """The state of the items and workers of one run.

    Args:
        items: See ``add``.
        last: Whether there are no others; else idle workers wait for them.
        losses: See ``LOSSES``.
        concepts: See ``CONCEPTS``.

    Attributes:
        done: Finished items, draws included, with epoch 0.
        failed: Item with epoch 0 → why it failed: an exception, which is not tried again; too many lost workers; or
            what it needs failed.
    """

    def __init__(
        self, items: Sequence[Item], *, last: bool = True, losses: int = LOSSES, concepts: int = CONCEPTS
    ) -> None:
        self._losses, self._concepts = losses, concepts
        self.done: set[Item] = set()
        self.failed: dict[Item, str] = {}
        self._passes: deque[Item] = deque()
        self._blocks: OrderedDict[_Source, deque[Item]] = OrderedDict()
        self._draws: deque[Item] = deque()  # others are made of the wanted concepts when handed out
        self._again: deque[Item] = deque()
        self._wanted: dict[tuple[int, str], list[_Parked]] = {}
        self._queued: deque[tuple[int, str]] = deque()
        self._drawn: set[tuple[int, str]] = set()
        self._undrawable: dict[tuple[int, str], str] = {}
        self._after: dict[_Source, list[Item]] = {}
        self._lost: dict[Item, int] = {}
        self._held: dict[str, Item] = {}
        self._images: dict[str, _Source] = {}
        self._idle: deque[str] = deque()
        self._gone: set[str] = set()
        self._draining = self._last = False
        self._open: dict[Item, None] = {}
        self.add(items, last)

    @property
    def left(self) -> Counter[str]:
        """Kind → number of items that are neither done nor failed; of draws, the number of concepts."""
        left = Counter(draw=len(self._wanted))
        for item in self._open:
            left[item.kind] += len(item.draws) or 1
        return +left

    @property
    def finished(self) -> bool:
        """Whether every item is done or has failed."""
        return not self._open

    # ---- events ----

    def add(self, items: Sequence[Item], last: bool = True) -> list[Action]:
        """More items, in the order in which they are preferred.

        Args:
            items: Blocks wait for the pass of their group and condition, if it is among them. Draws need none of the
                others, and none needs them.
            last: Whether these are the last; else idle workers wait for more.
        """
        self._last = last
        self._open |= dict.fromkeys(items)
        awaited = {_source(item) for item in self._open if item.kind == "pass"}
        for item in items:
            if item.kind == "block" and _source(item) in awaited:
                self._after.setdefault(_source(item), []).append(item)
            else:
                self._put(item)
        return self._actions()

    def ready(self, worker: str) -> list[Action]:
        """A new worker asks for work."""
        self._gone.discard(worker)
        if worker not in self._held and worker not in self._idle:
            self._idle.append(worker)
        return self._actions()

    def finish(self, worker: str, item: Item) -> list[Action]:
        """The item is done; believed of a lost worker too, because the store holds the result."""
        self._free(worker, item)
        self._settle(replace(item, epoch=0))
        return self._actions()

    def park(self, worker: str, item: Item, draws: Collection[str]) -> list[Action]:
        """The block lacks the images of these concepts, and is handed out again once they are drawn."""
        block = replace(item, epoch=0)
        if not self._free(worker, item) or block in self.done or block in self.failed:
            return self._actions()
        lacking = [(item.group, draw) for draw in dict.fromkeys(draws) if (item.group, draw) not in self._drawn]
        for key in lacking:
            if key in self._undrawable:
                self._fail(block, self._undrawable[key])
                return self._actions()
        waiting = _Parked(block, len(lacking))
        for key in lacking:
            if key not in self._wanted:
                self._wanted[key] = []
                self._queued.append(key)
            self._wanted[key].append(waiting)
        if not lacking:
            self._put(block, first=True)
        return self._actions()

    def fail(self, worker: str, item: Item, reason: str) -> list[Action]:
        """The item raised an exception; it would raise it again, so it is not tried again."""
        if self._free(worker, item):
            self._fail(replace(item, epoch=0), reason)
        return self._actions()

    def lose(self, worker: str) -> list[Action]:
        """The worker is gone or frozen; its item is handed out again."""
        if worker in self._gone:
            return []
        self._gone.add(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        self._images.pop(worker, None)
        held = self._held.pop(worker, None)
        if held is not None:
            item = replace(held, epoch=0)
            self._lost[item] = self._lost.get(item, 0) + 1
            if item in self.done or item in self.failed:
                pass
            elif self._lost[item] > self._losses:
                self._fail(item, f"{self._lost[item]} workers were lost with it")
            else:
                self._again.append(item)
        return [*([] if self._over else [Replace(worker)]), *self._actions()]

    def drain(self) -> list[Action]:
        """Nothing more is handed out; workers stop when they have finished what they hold."""
        self._draining = True
        return self._actions()

    # ---- inside ----

    @property
    def _over(self) -> bool:
        return self._draining or (self._last and self.finished)

    def _free(self, worker: str, item: Item) -> bool:
        """Take the item from the worker, which is idle then; False if it was thought to be lost with it."""
        if self._held.get(worker) != item:
            return False
        del self._held[worker]
        self._idle.append(worker)
        return True

    def _settle(self, item: Item) -> None:
        """What waits for a finished item can go on."""
        if item in self.done or item in self.failed:
            return
        self.done.add(item)
        self._open.pop(item, None)
        if item.kind == "pass":
            for block in self._after.pop(_source(item), ()):
                self._put(block)
        for key in ((item.group, draw) for draw in item.draws):
            self._drawn.add(key)
            for waiting in self._wanted.pop(key, ()):
                waiting.lacking -= 1
                if not waiting.lacking:
                    self._put(waiting.block, first=True)

    def _fail(self, item: Item, reason: str) -> None:
        """The item fails, and what needs it."""
        if item in self.done or item in self.failed:
            return
        self.failed[item] = reason
        self._open.pop(item, None)
        if item.kind == "pass":
            for block in self._after.pop(_source(item), ()):
                self._fail(block, reason)
        for key in ((item.group, draw) for draw in item.draws):
            self._undrawable[key] = reason
            for waiting in self._wanted.pop(key, ()):
                self._fail(waiting.block, reason)

    def _put(self, item: Item, first: bool = False) -> None:
        """Make an item available, before all others of its kind or after them."""
        if item.kind == "block":
            queue = self._blocks.setdefault(_source(item), deque())
            if first:
                self._blocks.move_to_end(_source(item), last=False)
        else:
            queue = self._passes if item.kind == "pass" else self._draws
        (queue.appendleft if first else queue.append)(item)

    def _actions(self) -> list[Action]:
        """Work for the idle workers, or their end."""
        actions: list[Action] = []
        while self._idle:
            if self._over:
                actions.append(Stop(self._idle.popleft()))
                continue
            again = self._from(self._again)
            draw = None if again else self._from(self._draws) or self._draw()
            # Who has the images of blocks in memory labels them, and leaves drawing to others.
            suited = (one for one in self._idle if (self._images.get(one) in self._blocks) is (draw is None))
            worker = next(suited, self._idle[0])
            item = again or draw or self._block(worker) or self._from(self._passes)
            if item is None:
                break
            self._idle.remove(worker)
            given = replace(item, epoch=self._lost.get(item, 0))
            self._held[worker] = given
            if item.kind != "draw":
                self._images[worker] = _source(item)
            actions.append(Give(worker, given))
        return actions

    def _block(self, worker: str) -> Item | None:
        """The next block, of those whose images the worker has in memory if there are any."""
        while self._blocks:
            own = self._images.get(worker)
            source = own if own in self._blocks else next(iter(self._blocks))
            item = self._from(self._blocks[source])
            if not self._blocks[source]:
                del self._blocks[source]
            if item is not None:
                return item
        return None

    def _from(self, queue: deque[Item]) -> Item | None:
        while queue:
            item = queue.popleft()
            # A worker that was thought to be lost may have finished it meanwhile.
            if item not in self.done and item not in self.failed:
                return item
        return None

    def _draw(self) -> Item | None:
        """The next concepts of one group; fewer where there are fewer than the idle workers could draw."""
        queued = self._queued
        if not queued:
            return None
        size = max(1, min(self._concepts, len(queued) // len(self._idle)))
        group, draws = queued[0][0], []
        while queued and len(draws) < size and queued[0][0] == group:
            draws.append(queued.popleft()[1])
        return Item("draw", group, draws=tuple(draws))


def _source(item: Item) -> _Source:
    return item.group, item.condition, item.severity
