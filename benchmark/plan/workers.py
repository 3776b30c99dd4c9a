"""``plan --workers N``: how long the work takes N equal workers, by the dispatcher itself under virtual time.

Preparing, faithfulness, studies and tables are counted as done by one of them, before and after the cells, although
workers of a cluster also draw the images of faithfulness.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from baselines.base import Method
from benchmark.core.items import Item
from benchmark.core.work import Work
from benchmark.execution.simulate import Cluster, makespan
from benchmark.plan.count import Done, RunCount, TaskCount
from benchmark.plan.estimate import Stages, total
from benchmark.plan.rates import Rates
from leaderboard.store.parts import CellKey
from tasks.observe import Condition

IMAGES_PER_CONCEPT: Final = 10
"""Drawn images are handed out by concepts; methods state images only."""

_PASS: Final = ("perturbations", "target network", "CLIP", "evidence")
"""Stages that belong to the pass over the images of a condition."""


@dataclass(frozen=True)
class PlannedWork:
    """See ``benchmark.execution.simulate.Workload``.

    Attributes:
        cost: Pass or block → its seconds, drawing excluded.
        asked: Block → names of the concepts that it needs drawn.
        concept: Concept → seconds to draw and measure it.
    """

    cost: Mapping[Item, float]
    asked: Mapping[Item, Sequence[str]]
    concept: Mapping[str, float]

    @property
    def items(self) -> list[Item]:
        """See ``Workload``."""
        return list(self.cost)

    def draws(self, block: Item) -> Collection[str]:
        """See ``Workload``."""
        return self.asked.get(block, ())

    def seconds(self, item: Item, again: bool) -> float:
        """See ``Workload``; a block is done once its concepts are there."""
        if item.kind == "draw":
            return sum(self.concept[draw] for draw in item.draws)
        return 0.0 if again else self.cost[item]


def plan_workers(
    count: RunCount,
    groups: Sequence[Sequence[Work]],
    methods: Mapping[str, Method],
    stages: Stages,
    drawing: Mapping[str, float],
    done: Done,
    workers: int,
) -> dict[str, Any]:
    """Time and efficiency with N workers, equal to this machine.

    Args:
        stages: Seconds of each stage for one worker.
        drawing: Task → seconds per drawn image, its measurement included.
        done: Tells which parts the run folder contains.

    Returns:
        ``count``; ``cells``, where each takes whole cells, as N processes of one command do; ``blocks``, where they
        share cells by blocks of units and by concepts. Both with ``seconds`` and ``efficiency``: the seconds of one
        worker over N times those of all; null where a stage's time is unknown.
    """
    alone = total(stages)
    shared = {*_PASS, *(name for task in count.tasks for name in task.methods)}
    rest = sum(seconds or 0.0 for stage, seconds in stages.items() if stage not in {"start", *shared})
    found: dict[str, Any] = {"count": workers}
    for name, split in (("cells", False), ("blocks", True)):
        seconds = efficiency = None
        if alone is not None:
            work = _planned(count, groups, methods, stages, drawing, done, split)
            seconds = rest + makespan(work, Cluster([1.0] * workers, start=stages["start"] or 0.0))
            efficiency = alone / (workers * seconds)
        found[name] = {"seconds": seconds, "efficiency": efficiency}
    return found


def drawing_seconds(rates: Rates) -> float:
    """Seconds per drawn image, with its pass through target and CLIP."""
    return sum(rates.seconds.get(stage, 0.0) for stage in ("generated", "target", "clip"))


def _planned(
    count: RunCount,
    groups: Sequence[Sequence[Work]],
    methods: Mapping[str, Method],
    stages: Stages,
    drawing: Mapping[str, float],
    done: Done,
    split: bool,
) -> PlannedWork:
    cost: dict[Item, float] = {}
    asked: dict[Item, list[str]] = {}
    concept: dict[str, float] = {}
    tasks = {task.work.task.name: task for task in count.tasks}
    read = sum(work.images * len(passes) for work, passes in count.passes)
    reading = sum(stages.get(stage) or 0.0 for stage in _PASS) / max(read, 1)
    for number, (group, (first, passes)) in enumerate(zip(groups, count.passes, strict=True)):
        for condition in passes:
            own = Item("pass", number, condition.name, condition.severity)
            cost[own] = reading * first.images
            for cell, task in ((key, tasks[work.task.name]) for work in group for key in _cells(work, condition)):
                if done(cell, "labels"):
                    continue
                name, units = cell.method, task.work.units
                seconds, drawn = _cell(name, task, count.tasks, stages, drawing)
                kind = getattr(methods[name], "split", "never") if split else "never"
                blocks = replace(own, kind="block", cell=cell).blocks(units, kind)
                for block in blocks:
                    share = len(block.units or units) / len(units)
                    cost[block] = share * seconds
                    if not split:
                        cost[block] += drawn * drawing[cell.task]
                        continue
                    concepts = math.ceil(share * drawn / IMAGES_PER_CONCEPT)
                    asked[block] = [f"{cell.name} {block.units[:1]} {place}" for place in range(concepts)]
                    concept |= dict.fromkeys(asked[block], share * drawn * drawing[cell.task] / max(concepts, 1))
    return PlannedWork(cost, asked, concept)


def _cells(work: Work, condition: Condition) -> list[CellKey]:
    return work.cells(condition) if condition in work.conditions else []


def _cell(
    name: str, task: TaskCount, tasks: Sequence[TaskCount], stages: Stages, drawing: Mapping[str, float]
) -> tuple[float, float]:
    """Seconds of an open cell of a method without its drawing, and the images drawn for it."""
    weights = {one.work.task.name: one.methods[name].open * len(one.work.units) for one in tasks if name in one.methods}
    own = task.work.task.name
    images = {
        one.work.task.name: one.methods[name].counts.generated.likely or 0.0 for one in tasks if name in one.methods
    }
    spent = (stages.get(name) or 0.0) - sum(images[each] * drawing[each] for each in images)
    opened = task.methods[name].open
    return max(spent, 0.0) * weights[own] / max(sum(weights.values()), 1) / max(opened, 1), images[own] / max(opened, 1)
