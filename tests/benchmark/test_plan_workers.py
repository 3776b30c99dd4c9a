"""``plan --workers``: the plan's time, shared by equal workers."""

from __future__ import annotations

from typing import Any

import pytest

from baselines.costs import Amount
from benchmark.core.work import Work
from benchmark.plan.count import Counts, MethodCount, RunCount, TaskCount
from benchmark.plan.workers import plan_workers
from tasks.catalogue import load_task
from tasks.observe import CLEAN, Condition

TASK = load_task("resnet50_layer4")
CONDITIONS = (CLEAN, *(Condition("gaussian_blur", severity) for severity in range(1, 6)))
STAGES: dict[str, float | None] = {
    "start": 5.0,
    "images and masks": 2.0,
    "perturbations": 10.0,
    "target network": 20.0,
    "CLIP": 20.0,
    "evidence": 10.0,
    "dnd": 6000.0,
    "clip_dissect": 120.0,
    "tables": 30.0,
}


class Whole:
    """A method that looks at all units at once."""


class Split:
    """A method that labels unit by unit."""

    split = "units"


def planned(workers: int, stages: dict[str, float | None] = STAGES, done=lambda key, kind: False) -> dict[str, Any]:
    work = Work(TASK, "miniature", ("dnd", "clip_dissect"), CONDITIONS, 2, 500, tuple(range(512)))
    drawn = Counts(generated=Amount.of(10_000))
    methods = {"dnd": MethodCount(7, 7, (), drawn, ""), "clip_dissect": MethodCount(7, 7, (), Counts(), "")}
    task = TaskCount(work, CONDITIONS, methods)
    count = RunCount((task,), ((work, CONDITIONS),), Counts(), Counts(), Amount.of(0))
    loaded: dict[str, Any] = {"dnd": Split(), "clip_dissect": Whole()}
    return plan_workers(count, [[work]], loaded, stages, {TASK.name: 0.5}, done, workers)


def test_one_worker_takes_the_time_of_the_plan():
    alone = sum(seconds or 0.0 for seconds in STAGES.values())
    for way in ("cells", "blocks"):
        assert planned(1)[way]["seconds"] == pytest.approx(alone)
        assert planned(1)[way]["efficiency"] == pytest.approx(1)


def test_whole_cells_leave_most_of_many_workers_idle_and_blocks_do_not():
    found = planned(16)
    longest = 6000 / 7
    assert found["cells"]["seconds"] >= 5 + 2 + 30 + longest
    assert found["cells"]["efficiency"] < 0.5
    assert found["blocks"]["efficiency"] > 0.75
    assert found == planned(16)


def test_more_workers_are_never_slower_and_never_better_than_their_number():
    before = planned(1)
    for workers in (2, 4, 8, 64):
        found = planned(workers)
        for way in ("cells", "blocks"):
            assert found[way]["seconds"] <= before[way]["seconds"] + 1e-9
            assert found[way]["efficiency"] <= 1 + 1e-9
        before = found


def test_what_is_done_is_not_planned_again():
    left = planned(8, done=lambda key, kind: key.method == "dnd")
    assert left["blocks"]["seconds"] < 100


def test_a_stage_of_unknown_time_leaves_the_time_unknown():
    assert planned(8, {**STAGES, "dnd": None})["blocks"] == {"seconds": None, "efficiency": None}
