"""The work of a run for one task: units, images, conditions and cells."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from benchmark.core.options import RunOptions
from benchmark.core.preflight import check_units
from leaderboard.store.run_folder import OBSERVATION, CellKey
from tasks.common.errors import UserError
from tasks.common.seeding import generator
from tasks.observe import CLEAN, Condition
from tasks.perturbations.suites import load_suite
from tasks.profiles.schema import Profile
from tasks.schema import Task


@dataclass(frozen=True)
class Work:
    """One task of a run, with the command line's choices applied.

    Attributes:
        conditions: ``clean`` first.
        repeats: Number of clean repeats.
        images: Number of probing images.
        units: The units to label, sorted.
    """

    task: Task
    profile: str
    methods: tuple[str, ...]
    conditions: tuple[Condition, ...]
    repeats: int
    images: int
    units: tuple[int, ...]

    def observation_key(self, condition: Condition) -> CellKey:
        """The key of what belongs to a condition, independent of the method."""
        return CellKey(self.task.name, self.profile, OBSERVATION, condition.name, condition.severity, 0)

    def cells(self, condition: Condition) -> list[CellKey]:
        """The cells of a condition; only ``clean`` is repeated."""
        repeats = self.repeats if condition == CLEAN else 1
        return [
            CellKey(self.task.name, self.profile, method, condition.name, condition.severity, repeat)
            for method in self.methods
            for repeat in range(repeats)
        ]


def plan_work(task: Task, profile: Profile, options: RunOptions, unit_count: int, shown: Collection[int] = ()) -> Work:
    """Apply the command line's choices to a task.

    Args:
        unit_count: Number of units of the layer.
        shown: The units that are sampled first.

    Raises:
        UserError: Units that the layer does not have.
    """
    conditions = [CLEAN]
    for suite in options.suites or task.suites:
        pairs = load_suite(suite).conditions(options.severities, task.severities)
        conditions += [Condition(name, severity) for name, severity in pairs]
    return Work(
        task=task,
        profile=profile.name,
        methods=options.method_names(),
        conditions=tuple(dict.fromkeys(conditions)),
        repeats=options.repeats,
        images=options.images or task.images,
        units=choose_units(task, options, unit_count, shown),
    )


def choose_units(task: Task, options: RunOptions, unit_count: int, shown: Collection[int] = ()) -> tuple[int, ...]:
    """The units to label: the requested ones, or a sample drawn with the run's seed and the task's name.

    ``shown`` units are used up before any others.

    Raises:
        UserError: Units that the layer does not have.
    """
    if task.units.total is not None and task.units.total != unit_count:
        raise UserError(
            f"The task {task.name} states that {task.layer} has {task.units.total} units, "
            f"but the profile's model has {unit_count}: correct units.total, or choose another profile."
        )
    check_units(task, options, unit_count, f"{task.layer} of {task.model}")
    if options.unit_ids:
        return tuple(sorted(set(options.unit_ids)))
    first = task.units.first
    count = options.units or task.units.label
    if count == "all" or count == unit_count - first:
        return tuple(range(first, unit_count))
    drawn = [first + int(unit) for unit in generator(options.seed, "units", task.name).permutation(unit_count - first)]
    drawn.sort(key=lambda unit: unit not in shown)
    return tuple(sorted(drawn[:count]))


def all_conditions(works: Sequence[Work]) -> tuple[Condition, ...]:
    """The conditions of several tasks, each once, ``clean`` first."""
    return tuple(dict.fromkeys(condition for work in works for condition in work.conditions))


def pass_groups(works: Sequence[Work]) -> list[list[Work]]:
    """Tasks that share network and images run in one pass; one layer pooled in two ways needs two passes."""
    groups: list[list[Work]] = []
    for work in works:
        source = (work.task.model, work.task.probing_set, work.images)
        for group in groups:
            first = group[0]
            layers = {other.task.layer: other.task.pooling for other in group}
            alike = source == (first.task.model, first.task.probing_set, first.images)
            if alike and layers.get(work.task.layer, work.task.pooling) == work.task.pooling:
                group.append(work)
                break
        else:
            groups.append([work])
    return groups
