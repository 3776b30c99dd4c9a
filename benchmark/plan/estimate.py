"""From counts and measured rates to time and space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from baselines.costs import Amount, Number
from benchmark.core.label_images import IMAGES_PER_LABEL
from benchmark.core.work import Work
from benchmark.plan.count import MethodCount, RunCount, TaskCount
from benchmark.plan.rates import Rates
from tasks.observe import CLEAN, Condition

Stages: TypeAlias = dict[str, Number]
"""Stage → seconds; None where unknown."""


def stage_seconds(count: RunCount, rates: Mapping[str, Rates], start: float, thumbnails: int) -> Stages:
    """Time of each stage for the work left of a run.

    Args:
        rates: Task → the measured rates.
        start: Seconds for imports and for loading models.
        thumbnails: Number of thumbnails kept per unit.
    """
    stages: Stages = {"start": start, "images and masks": _images(count, rates)}
    for work, passes in count.passes:
        own = rates[work.task.name].seconds
        read = len(passes) * work.images
        # Several tasks that share neither network nor images have separate passes.
        _add(stages, "perturbations", _perturbing(work, passes, rates[work.task.name]))
        _add(stages, "target network", read * own["target"])
        _add(stages, "CLIP", read * own["clip"])
    captions = count.shared.captioned.likely
    each = [rate.seconds["captions"] for rate in rates.values() if "captions" in rate.seconds]
    stages["captions of all images"] = 0.0 if not captions else captions * each[0] if each else None
    for task in count.tasks:
        rate = rates[task.work.task.name]
        _add(stages, "evidence", len(task.passes) * _evidence(task.work, rate, thumbnails))
        for name, method in task.methods.items():
            _add(stages, name, _cells(name, method, task.work, rate))
    stages["faithfulness"] = _faithfulness(count, rates)
    stages["tables"] = sum(_tables(task, rates[task.work.task.name]) for task in count.tasks)
    for study in count.studies:
        _add(stages, study.name, study.seconds(rates[study.work.task.name]))
    return stages


def basis(rates: Mapping[str, Rates]) -> dict[str, str]:
    """Stage → on how much its rate rests, of the first task that has it."""
    named = {"target": "target network", "clip": "CLIP", "captions": "captions of all images"}
    named |= {"images": "images and masks"}
    found: dict[str, str] = {"start": "once"}
    for rate in rates.values():
        found = {named.get(stage, stage): said for stage, said in rate.basis.items() if stage != "loading"} | found
    return found


def disk_bytes(count: RunCount, rates: Mapping[str, Rates], thumbnails: int) -> Number:
    """Bytes that the work left adds to the run folder; None if a method was not measured."""
    total = 0.0
    for task in count.tasks:
        rate = rates[task.work.task.name]
        small = _shown(task.work, thumbnails) * rate.thumbnail_bytes
        # Once in the parts, once in the merged tables.
        total += 2 * len(task.passes) * (small + len(task.work.units) * rate.evidence_bytes)
        for name, method in task.methods.items():
            if not method.open:
                continue
            if name not in rate.methods:
                return None
            measured = rate.methods[name]
            total += method.open * (measured.cell_bytes + len(task.work.units) * measured.unit_bytes)
    return total


def total(stages: Mapping[str, Number]) -> Number:
    """The sum; None if a part is unknown."""
    known = [seconds for seconds in stages.values() if seconds is not None]
    return sum(known) if len(known) == len(stages) else None


def _add(stages: Stages, stage: str, seconds: Number) -> None:
    before = stages.get(stage, 0.0)
    stages[stage] = None if before is None or seconds is None else before + seconds


def _images(count: RunCount, rates: Mapping[str, Rates]) -> float:
    sources = {(task.work.task.probing_set, task.work.images): task.work.task.name for task in count.tasks}
    return sum(
        images * (rates[name].seconds["images"] + rates[name].seconds.get("masks", 0.0))
        for (_, images), name in sources.items()
    )


def _perturbing(work: Work, passes: tuple[Condition, ...], rates: Rates) -> Number:
    each = [rates.perturbed.get(condition.name) for condition in passes if condition != CLEAN]
    known = [seconds for seconds in each if seconds is not None]
    return work.images * sum(known) if len(known) == len(each) else None


def _evidence(work: Work, rates: Rates, thumbnails: int) -> float:
    return len(work.units) * rates.seconds["evidence"] + _shown(work, thumbnails) * rates.seconds["thumbnails"]


def _shown(work: Work, thumbnails: int) -> int:
    return min(work.images, thumbnails * len(work.units))


def _cells(name: str, method: MethodCount, work: Work, rates: Rates) -> Number:
    if not method.open:
        return 0.0
    if name not in rates.methods:
        return None
    measured = rates.methods[name]
    drawn = sum((cost.generated for cost in method.each), Amount.of(0)).likely
    if drawn is None:
        # Without a stated cost its images cannot be distinguished from the rest.
        drawn = 0.0
    drawing = sum(rates.seconds.get(stage, 0.0) for stage in ("generated", "target", "clip"))
    cells = measured.once + method.open * (measured.cell + len(work.units) * measured.unit)
    return cells + drawn * drawing


def _faithfulness(count: RunCount, rates: Mapping[str, Rates]) -> Number:
    texts = count.texts.likely
    if not texts:
        return 0.0 if texts == 0 else None
    first: TaskCount = count.tasks[0]
    own = rates[first.work.task.name].seconds
    drawn = count.faithfulness.generated.likely
    if drawn and "generated" not in own:
        return None
    read = (count.faithfulness.target.likely or 0.0) * own["target"]
    looked = (count.faithfulness.clip.likely or 0.0) * own["clip"]
    # Labels repeat, and each text is drawn once; every unit is compared with its own.
    compared = (count.texts.most or 0.0) * own["faithfulness"]
    return read + looked + compared + (texts * IMAGES_PER_LABEL * own["generated"] if drawn else 0.0)


def _tables(task: TaskCount, rates: Rates) -> float:
    """A summary for each method and condition, and one comparison of the methods."""
    rows, units, own = len(task.methods) * len(task.work.conditions), len(task.work.units), rates.seconds
    return rows * (own["tables"] + units * own["tables_unit"]) + own["compared"] + units * own["compared_unit"]
