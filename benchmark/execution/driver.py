"""Items handed out to workers, whatever engine starts and reaches them: a driver, the only one of its run.

Who does what is decided by ``benchmark.execution.dispatch``, what is done by the run folder, and who still lives by the
workers' own signs of life: an engine tells of a frozen machine late, and of one that lost the run folder never.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final, Protocol

from benchmark.core.budget import BudgetReached, TimeBudget
from benchmark.core.display import Display
from benchmark.core.faithfulness import wanted_images
from benchmark.core.items import Item
from benchmark.core.options import RunOptions
from benchmark.execution.dispatch import CONCEPTS, Action, Dispatcher, Give, Replace
from benchmark.execution.session import Session
from benchmark.execution.shared import PATIENCE, Beats, Blocks, StoredDrawings, shared_folder
from benchmark.execution.status import Status
from benchmark.execution.worker import answering, environment, message
from leaderboard.store.lease import DriverLease
from leaderboard.store.run_folder import CellKey
from tasks.activations.spool import blocks
from tasks.cache.keys import canonical
from tasks.common.errors import UserError
from tasks.common.offline import opens_no_socket
from tasks.language.config import OpenAISource

_LAST_WORDS: Final = 3.0
"""Seconds that items in flight get when the run is interrupted."""

_HOPELESS: Final = 3
"""So many workers may be lost in a row before one of them is ready."""


class Engine(Protocol):
    """Starts processes of ``benchmark.execution.worker.Worker``, and carries texts to and from them.

    Attributes:
        places: Number of workers to start.
    """

    places: int

    def serve(self, answer: Callable[[str], str]) -> None:
        """Carry messages of workers that start later to this process, in as many threads as it likes.

        Args:
            answer: Answers a message.
        """
        ...

    def start(self, worker: str, *given: Any) -> None:
        """Start a worker, whenever there is room for it.

        Args:
            worker: Its name.
            given: What ``Worker`` is given after its name.
        """
        ...

    def call(self, worker: str, what: str, given: str) -> None:
        """Call a method of a worker, which has no other call to answer."""
        ...

    def answers(self, seconds: float) -> list[tuple[str, str]]:
        """Wait for answers: worker, and what it returned, or nothing if its process is gone."""
        ...

    def end(self, worker: str) -> None:
        """Kill a worker; none of its answers is returned later."""
        ...

    def lost_machines(self) -> Collection[str]:
        """The machines that are gone."""
        ...


def do_all(
    session: Session,
    display: Display,
    budget: TimeBudget,
    engine: Callable[[RunOptions, Display], AbstractContextManager[Engine]],
) -> list[str]:
    """Compute all cells by workers, and draw what faithfulness needs; see ``benchmark.execution.local.do_all``.

    Raises:
        BudgetReached: The time does not suffice for the next piece of work; what was begun is finished before.
        UserError: No worker can be used, or anything that the user can correct.
        StoreError: Another process drives the run.
    """
    with DriverLease(session.folder.path).held(display.message) as lease:
        driver = _Driver(session, display, budget, lease)
        if not driver.dispatcher.finished or driver.label_images():
            with engine(session.job.options, display) as workers:
                driver.run(workers)
    undone, failures = [key for key in session.job.cells if not session.folder.is_done(key)], driver.failures()
    elsewhere = "another process, which is not a worker of this run, has begun it"
    return [f"{key.name}: {failures.get(key, elsewhere)}" for key in undone]


class _Driver:
    """Hands out the items of a run; knows each worker by its name."""

    def __init__(self, session: Session, display: Display, budget: TimeBudget, lease: DriverLease) -> None:
        self.session, self.folder, self.display = session, session.folder, display
        self.budget, self.lease = budget, lease
        self.options, shared = session.job.options, shared_folder(session.folder)
        self.blocks, self.drawings = Blocks(session.folder), StoredDrawings(session.folder)
        self.beats, self.status = Beats(shared), Status(shared)
        self.calls: dict[str, tuple[str, Item | None]] = {}
        self.machines: dict[str, str] = {}
        self.live: set[str] = set()
        self.failed: dict[CellKey, str] = {}
        self.parts: dict[CellKey, list[Item]] = {}
        self.device, self.refused, self.hopeless = "", "", 0
        self.reached: BudgetReached | None = None
        drawing = self.options.faithfulness != "none" and session.job.profile.generator is not None
        self.dispatcher = Dispatcher(list(self._items()), last=not drawing)
        for key in list(self.parts):
            self._assemble(key)

    def run(self, engine: Engine) -> None:
        """Do all items."""
        self.engine = engine
        kinds = {
            "pass": self.dispatcher.left["pass"],
            **Counter(key.method for key, parts in self.parts.items() for _ in parts),
        }
        title = " + ".join(sweep.title for sweep in self.session.sweeps)
        profile = self.session.job.profile
        if any(isinstance(one, OpenAISource) for one in (profile.summariser, profile.describer)):
            engine.serve(partial(answering, self.session.job.roles.broker()))
        try:
            with self.display.stage(title, len(self.parts), "cells", kinds) as self.stage:
                for _ in range(engine.places):
                    self._start()
                self._loop()
            if draws := self.label_images():
                labels = sum(len(item.draws) for item in draws)
                with self.display.stage("images of labels", labels, "labels", {"draw": len(draws)}) as self.stage:
                    self._do(self.dispatcher.add(draws))
                    self._loop()
        except KeyboardInterrupt:
            self._wait_for_items()
            raise
        finally:
            for worker in list(self.live):
                self._end(worker)
            self.status.write(self.dispatcher.left, ended=True)

    def label_images(self) -> list[Item]:
        """What is left to draw for faithfulness, which then only reads it; what fails is drawn by this process."""
        job, options = self.session.job, self.options
        asked = wanted_images(self.folder, job.prepared.works, job.roles, options.seed, options.faithfulness)
        names = [canonical(one.facts()) for one in asked]
        left = [name for name in names if not self.drawings.has([name])]
        return [Item("draw", 0, draws=tuple(left[part.start : part.stop])) for part in blocks(len(left), CONCEPTS)]

    def failures(self) -> dict[CellKey, str]:
        """Cell → the reason why it failed."""
        found = dict(self.failed)
        for item, reason in self.dispatcher.failed.items():
            if item.kind != "draw":  # its blocks have failed with it
                cells = [item.cell] if item.cell else self.session.sweeps[item.group].cells(item)
                found |= dict.fromkeys(cells, reason)
        return found

    def _items(self) -> Iterator[Item]:
        """What is left; blocks that an earlier session has done are not."""
        for sweep in self.session.sweeps:
            for item in sweep.items():
                if item.cell is None:
                    yield item
                    continue
                split = getattr(self.session.job.prepared.methods[item.cell.method], "split", "never")
                self.parts[item.cell] = item.blocks(sweep.work(item.cell).units, split)
                yield from (block for block in self.parts[item.cell] if not self._is_stored(block))

    def _loop(self) -> None:
        self.stage.workers = self.engine.places
        every = self.options.lost_after / (PATIENCE + 1)
        due = time.monotonic() + every
        while not self.dispatcher.finished:
            self.lease.check()
            self._check_budget()
            if self.reached and not self._in_flight():
                raise self.reached
            if not self.live:
                raise UserError(f"No worker is left. {self.refused}".rstrip())
            for worker, answer in self.engine.answers(min(every, 1.0)):
                self._answered(worker, answer)
            if time.monotonic() >= due:
                due = time.monotonic() + every
                self._look()
            self.status.write(self.dispatcher.left)

    def _look(self) -> None:
        """Give up workers of whom nothing is seen any more."""
        gone = self.engine.lost_machines()
        for worker in [worker for worker, machine in self.machines.items() if machine in gone]:
            self._lose(worker, "its machine is gone")
        for worker in self.beats.silent(self.machines):
            self._lose(worker, f"it gave no sign of life for {self.options.lost_after:g} s")

    def _in_flight(self) -> bool:
        return any(item for _, item in self.calls.values())

    def _wait_for_items(self) -> None:
        """A last chance for what is nearly done; what is not is done again by the next session."""
        until = time.monotonic() + _LAST_WORDS
        while self._in_flight() and (left := until - time.monotonic()) > 0:
            for worker, _ in self.engine.answers(left):
                self.calls.pop(worker, None)

    def _check_budget(self) -> None:
        if self.reached is None:
            known = [self.stage.pace.expected(kind) or 0.0 for kind in self.stage.pace.seconds()]
            try:
                self.budget.check("the next item of a worker", max(known, default=None))
            except BudgetReached as reached:
                self.reached = reached
                self._do(self.dispatcher.drain())

    def _start(self) -> None:
        worker = f"worker{len(self.status.workers) + 1}"
        self.status.add(worker)
        self.live.add(worker)
        self.engine.start(worker, str(self.folder.path.resolve()), os.getcwd(), type(self.session.job.roles))
        given = self.options.model_dump(include={"device", "lost_after"})
        self._call(worker, "about", {**given, "offline": opens_no_socket()})

    def _call(self, worker: str, what: str, given: Mapping[str, Any], item: Item | None = None) -> None:
        self.calls[worker] = what, item
        self.engine.call(worker, what, message(given))

    def _answered(self, worker: str, answer: str) -> None:
        if worker not in self.live:
            return
        if not answer:
            self._lose(worker, "its process is gone")
            return
        what, item = self.calls.pop(worker)
        facts = json.loads(answer)
        if item is not None:
            self._done(worker, item, facts)
        elif "wrong" in facts or "failed" in facts:
            self._refuse(worker, facts.get("wrong", facts.get("failed")))
        elif what == "about":
            self._meet(worker, facts)
        else:
            self.hopeless = 0
            self.status.set(worker, "idle")
            self._do(self.dispatcher.ready(worker))

    def _meet(self, worker: str, about: Mapping[str, Any]) -> None:
        self.status.meet(worker, about["host"], about["pid"], about["device"])
        here = environment()
        other = next((name for name, value in here.items() if about["environment"].get(name) != value), None)
        self.device = self.device or about["device"]
        if other is not None:
            theirs = about["environment"].get(other, "absent")
            self._refuse(worker, f"its {other} is {theirs}, and here it is {here[other]}; use the same on all machines")
        elif about["device"] != self.device and not self.options.mixed_devices:
            others = f"its device is {about['device']}, and that of the first worker is {self.device}"
            self._refuse(worker, f"{others}, which may differ in the last digits; --mixed-devices accepts it")
        else:
            self.machines[worker] = about["machine"]
            self._call(worker, "prepare", self.options.model_dump(mode="json", exclude_defaults=True))

    def _done(self, worker: str, item: Item, answer: Mapping[str, Any]) -> None:
        if "wrong" in answer:
            raise UserError(answer["wrong"])
        getattr(self.session.job.roles, "tally", Counter()).update(answer.get("tally", {}))
        if "failed" in answer:
            self.status.set(worker, "idle")
            self._do(self.dispatcher.fail(worker, item, answer["failed"]))
        elif answer["parked"]:
            self.status.set(worker, "idle")
            self._do(self.dispatcher.park(worker, item, answer["parked"]))
        elif not self._is_stored(item):
            self._lose(worker, "what it has done is not in the run folder, which all machines must share", item)
        else:
            self.status.finish(worker, item, answer["seconds"])
            if item.cell:
                self._assemble(item.cell)
            drawn = len(item.draws) if self.stage.unit == "labels" else 0
            units = int(self.folder.is_done(item.cell)) if item.cell else drawn
            self.stage.count(item.cell.method if item.cell else item.kind, answer["seconds"], units)
            self._do(self.dispatcher.finish(worker, item))

    def _is_stored(self, item: Item) -> bool:
        """Whether the run folder holds what the item makes; another host's file may take a moment to be seen."""
        if item.kind == "draw":
            return self.drawings.has(item.draws)
        if item.cell is None:
            return self.session.sweeps[item.group].is_observed(item)
        return self.folder.is_done(item.cell) or (bool(item.units) and self.blocks.has(item))

    def _assemble(self, key: CellKey) -> None:
        """Store a cell whose blocks are all there."""
        parts = self.parts[key]
        if parts[0].units and all(map(self.blocks.has, parts)):
            self.failed |= self.session.assemble(parts[0], [self.blocks.read(part) for part in parts]).failures
            self.blocks.remove(parts)

    def _lose(self, worker: str, why: str, item: Item | None = None) -> None:
        self.hopeless += self.status.workers[worker].state == "starting"
        self.status.lose(worker, item or self.calls.get(worker, ("", None))[1], why)
        self.display.warning(f"{self.status.title(worker)} is lost: {why}.")
        self._end(worker)
        self._do(self.dispatcher.lose(worker))

    def _refuse(self, worker: str, why: str) -> None:
        self.refused = f"{self.status.title(worker)} is refused: {why.removesuffix('.')}."
        self.display.warning(self.refused)
        self.status.set(worker, "refused", why=why)
        self._end(worker)

    def _end(self, worker: str) -> None:
        self.engine.end(worker)
        self.live.discard(worker)
        self.machines.pop(worker, None)
        self.calls.pop(worker, None)

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Give):
                self.status.give(action.worker, action.item)
                self._call(action.worker, "do", action.item.facts(), action.item)
            elif isinstance(action, Replace):
                if self.hopeless < _HOPELESS:
                    self._start()
            elif action.worker in self.live:
                self.status.set(action.worker, "stopped")
                self._end(action.worker)
