"""One process's part of a run: it does items, one at a time, whoever hands them out."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np

from baselines.base import UnitLabels
from benchmark.core.interrupt import TookTooLong
from benchmark.core.items import Item
from benchmark.core.once import RunSegmenter
from benchmark.core.sweep import Sweep
from benchmark.core.work import Work
from benchmark.execution.prepare import Job
from leaderboard.store.errors import StoreError
from leaderboard.store.run_folder import CellKey, RunFolder
from tasks.common.errors import UserError
from tasks.observe import Probe, probe_of
from tasks.probing.base import ProbingSet

log = logging.getLogger(__name__)

_FATAL: Final = (UserError, StoreError, KeyboardInterrupt, MemoryError)
"""They end the run instead of one cell."""

Part = Callable[[str, int], AbstractContextManager[None]]
"""``part(kind, cells)`` measures a piece of work; see ``benchmark.core.display.Stage.part``."""


@dataclass(frozen=True)
class Outcome:
    """What became of an item.

    Attributes:
        done: Keys of what is in the run folder now.
        seconds: Time spent.
        failures: Cell → the reason why it failed.
        labels: Of a block that is only a part of its cell; see ``Session.assemble``.
        parked: Names of the concepts that the block lacks; it is done again once they are drawn.
    """

    done: tuple[CellKey, ...] = ()
    seconds: float = 0.0
    failures: Mapping[CellKey, str] = field(default_factory=dict)
    labels: tuple[UnitLabels, ...] = ()
    parked: tuple[str, ...] = ()


class Drawings(Protocol):
    """The drawings that the processes of a run share, where they are items of their own."""

    def lacking(self, task: str, asked: Any) -> Sequence[str]:
        """Names of what a method's steps ask and nobody has drawn yet."""
        ...

    def answer(self, task: str, asked: Any) -> Any:
        """The answer to what a method's steps ask; all of it is drawn."""
        ...

    def draw(self, names: Sequence[str], sweeps: Sequence[Sweep]) -> None:
        """Draw, measure and share.

        Args:
            sweeps: All of the run: they have the tools.
        """
        ...


class _Lacking(Exception):
    """A block cannot go on yet."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(", ".join(names))
        self.names = tuple(names)


class Session:
    """The models, images and sweeps of one process.

    Args:
        job: The run.
        folder: Its folder, open for writing.
        drawings: Where drawings are items of their own; None draws at once whatever a method asks.

    Attributes:
        probes: Task name → the images of the run, and the set that they come from.
        sweeps: One per group of tasks that share network and images.

    Raises:
        UserError: Too few images have a foreground and a background.
    """

    def __init__(self, job: Job[Any], folder: RunFolder, drawings: Drawings | None = None) -> None:
        self.job, self.folder, self._drawings = job, folder, drawings
        self.probes = {work.task.name: self._probe(work) for work in job.prepared.works}
        self.sweeps = [
            Sweep(
                number,
                folder,
                tuple(group),
                job.prepared.methods,
                job.concepts,
                job.roles,
                *self.probes[group[0].task.name],
                job.options.seed,
                job.options.perturbing(),
                job.options.thumbnails,
                job.options.cell_timeout,
            )
            for number, group in enumerate(job.groups)
        ]

    def do(self, item: Item, part: Part = lambda kind, cells: contextlib.nullcontext()) -> Outcome:
        """Do an item; failures of a method or a perturbation are part of the outcome.

        Args:
            item: A pass, a block, or a draw where drawings are shared.
            part: Measures its parts.

        Raises:
            UserError: Anything that the user can correct.
            StoreError: The run folder cannot be used.
        """
        if item.kind == "draw":
            return self._draw(item)
        return self._pass(item, part) if item.kind == "pass" else self._block(item, part)

    def assemble(self, block: Item, outcomes: Sequence[Outcome]) -> Outcome:
        """Store a cell.

        Args:
            block: One of its blocks.
            outcomes: Those of all of its blocks, in any order.
        """
        assert block.cell is not None  # noqa: S101 - a block has one
        labels = [one for outcome in outcomes for one in outcome.labels]
        return self._store(self.sweeps[block.group], block.cell, labels, sum(outcome.seconds for outcome in outcomes))

    def _pass(self, item: Item, part: Part) -> Outcome:
        sweep, started = self.sweeps[item.group], time.monotonic()
        try:
            with part("pass", 0):
                sweep.observe(item)
        except _FATAL:
            raise
        # A failure of one perturbation, perhaps a plugin's, must not lose the other conditions.
        except Exception as error:
            log.warning("condition %s %d failed", item.condition, item.severity, exc_info=True)
            reason = f"{type(error).__name__}: {error}"
            return Outcome(seconds=time.monotonic() - started, failures=dict.fromkeys(sweep.cells(item), reason))
        with part("evidence", 0):
            done = tuple(sweep.store_evidence(item))
        return Outcome(done, time.monotonic() - started)

    def _block(self, item: Item, part: Part) -> Outcome:
        assert item.cell is not None  # noqa: S101 - a block has one
        sweep, started = self.sweeps[item.group], time.monotonic()
        with part(item.cell.method, 1):
            try:
                labels = sweep.label(item, self._drive if self._drawings else None)
            except _FATAL:
                raise
            except _Lacking as lacking:
                return Outcome(seconds=time.monotonic() - started, parked=lacking.names)
            # One method's failure must not lose the others' cells; it is listed at the end.
            except (Exception, TookTooLong) as error:
                return _failure(item.cell, error, time.monotonic() - started)
            seconds = time.monotonic() - started
            if item.units:
                return Outcome(seconds=seconds, labels=tuple(labels))
            return self._store(sweep, item.cell, labels, seconds)

    def _drive(self, task: str, steps: Generator[Any, Any, list[UnitLabels]]) -> list[UnitLabels]:
        assert self._drawings is not None  # noqa: S101 - called only with shared drawings
        try:
            asked = next(steps)
            while not (names := self._drawings.lacking(task, asked)):
                asked = steps.send(self._drawings.answer(task, asked))
        except StopIteration as end:
            return end.value
        raise _Lacking(names)

    def _draw(self, item: Item) -> Outcome:
        assert self._drawings is not None  # noqa: S101 - nobody asks for draws otherwise
        started = time.monotonic()
        self._drawings.draw(item.draws, self.sweeps)
        return Outcome(seconds=time.monotonic() - started)

    def _store(self, sweep: Sweep, cell: CellKey, labels: Sequence[UnitLabels], seconds: float) -> Outcome:
        try:
            sweep.write_cell(cell, labels, seconds)
        except _FATAL:
            raise
        # What cannot be stored is this cell's fault; a disk that is full is not.
        except Exception as error:
            return _failure(cell, error, seconds)
        return Outcome((cell,), seconds)

    def _probe(self, work: Work) -> tuple[Probe, ProbingSet]:
        """The images of a task: if masks are needed, those that have a foreground and a background.

        All conditions use the same images, because clean labels found with other images would differ for that reason
        alone.
        """
        roles, masks = self.job.roles, self.job.masks
        probing = roles.probing_set(work.task.probing_set, work.images, roles.view(work.task.model))
        segmenter = RunSegmenter(lambda: roles.segmenter, self.folder) if masks == "segmenter" else None
        probe = probe_of(probing, masked=masks is not None, segmenter=segmenter)
        if probe.divided is None or probe.divided.all():
            return probe, probing
        kept = np.flatnonzero(probe.divided).tolist()
        if len(kept) < 2:
            raise UserError(
                f"Of the {len(probe.ids)} images of {work.task.name}, {len(kept)} have a foreground and a background, "
                "which conditions of this run perturb separately: try --masks segmenter, or leave out these "
                "perturbations."
            )
        return probe.only(kept), probing.only(kept)


def _failure(cell: CellKey, error: BaseException, seconds: float) -> Outcome:
    log.warning("cell %s failed", cell.name, exc_info=error)
    return Outcome(seconds=seconds, failures={cell: f"{type(error).__name__}: {error}"})
