"""All items of a run in this process; others that run the same command share the work by claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from benchmark.core.budget import TimeBudget
from benchmark.core.display import Display, Stage
from benchmark.core.items import Item
from benchmark.core.sweep import Sweep
from benchmark.execution.session import Session
from leaderboard.store.run_folder import CellKey
from tasks.observe import Condition


def do_all(session: Session, display: Display, budget: TimeBudget) -> list[str]:
    """Compute all cells, and wait for those of other processes; what such a process leaves undone is computed here.

    Args:
        budget: The session's time budget.

    Returns:
        The failed cells, each with its reason.

    Raises:
        BudgetReached: The time does not suffice for the next piece of work.
    """
    folder, here = session.folder, _Here(session, budget)
    while True:
        for sweep in session.sweeps:
            here.sweep(sweep, display)
        left = [key for key in session.job.cells if key not in here.failed and not folder.is_done(key)]
        if not left:
            # What failed here may have succeeded elsewhere meanwhile.
            return [f"{key.name}: {reason}" for key, reason in here.failed.items() if not folder.is_done(key)]
        folder.wait_for_others(left, display.message)


class _Here:
    def __init__(self, session: Session, budget: TimeBudget) -> None:
        self.session, self.folder, self.budget = session, session.folder, budget
        self.failed: dict[CellKey, str] = {}

    def sweep(self, sweep: Sweep, display: Display) -> None:
        """Compute all cells that are not done, have not failed, and are not claimed by another process."""
        items = sweep.items(self.failed)
        if not items:
            return
        passes = [item for item in items if item.kind == "pass"]
        blocks = {own: [one for one in items if one.cell and _same(one, own)] for own in passes}
        cells = Counter(item.cell.method for item in items if item.cell)
        begun: list[Item] = []
        parts = {"pass": len(passes), "evidence": len(passes), **cells}
        with display.stage(sweep.title, cells.total(), "cells", parts) as stage:
            for own in passes:
                with self.folder.claim(f"{sweep.title} {_condition(own)}") as mine:
                    if mine:
                        self._do(sweep, own, blocks[own], stage)
                    else:
                        begun.append(own)
            # Another process has these images in memory, so they come last.
            for own in begun:
                self._do(sweep, own, blocks[own], stage)

    def _do(self, sweep: Sweep, own: Item, blocks: Sequence[Item], stage: Stage) -> None:
        """Compute what is left of one condition, if anything."""
        condition = _condition(own)
        if not sweep.items(self.failed, condition):
            _skip(blocks, stage)
            return
        stage.note(str(condition))
        self.budget.check(f"the pass over the images, {condition}", stage.pace.expected("pass"))
        outcome = self.session.do(own, stage.part)
        if outcome.failures:
            self.failed |= outcome.failures
            _skip(blocks, stage)
            return
        for block in blocks:
            self._label(block, stage)
        sweep.release()

    def _label(self, block: Item, stage: Stage) -> None:
        key = block.cell
        assert key is not None  # noqa: S101 - a block has one
        self.budget.check(f"{key.method}, {stage.noted}", stage.pace.expected(key.method))
        with self.folder.claim(key) as mine:
            if not mine or self.folder.is_done(key):
                stage.skip(key.method, 1)  # another process does it, or did
                return
            self.failed |= self.session.do(block, stage.part).failures


def _skip(blocks: Sequence[Item], stage: Stage) -> None:
    for kind in ("pass", "evidence"):
        stage.skip(kind)
    for block in blocks:
        stage.skip(block.cell.method if block.cell else "", 1)


def _condition(item: Item) -> Condition:
    return Condition(item.condition, item.severity)


def _same(block: Item, own: Item) -> bool:
    return (block.condition, block.severity) == (own.condition, own.severity)
