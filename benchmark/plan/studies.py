"""Work of a run's studies, besides its cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from baselines.base import Method
from baselines.costs import NOTHING, Amount
from benchmark.core.work import Work
from benchmark.plan.count import Counts, RunCount, cost_of, counts_of
from benchmark.plan.rates import Rates
from benchmark.studies.base import Groups, Study, StudyCost, is_stored
from leaderboard.store.run_folder import RunFolder
from tasks.profiles.build import Roles
from tasks.profiles.schema import Profile

TRAINED: Final = 0.75
"""Forward passes per image and training step: the last of four equally costly stages, forward and backward."""


@dataclass(frozen=True)
class StudyCount:
    """Work of one study for one task, or of tasks that share network and images.

    Attributes:
        work: The task, or the first of the tasks.
        counts: Total work; no cells.
        labellings: Method → number of times it labels the units, and the images generated for that.
        trained: Training images, counted in each step.
    """

    name: str
    work: Work
    counts: Counts
    labellings: Mapping[str, tuple[int, Amount]] = field(default_factory=dict)
    trained: int = 0

    def seconds(self, rates: Rates) -> float | None:
        """Estimated duration without statistics; None if a method was not measured."""
        own = rates.seconds
        target, clip = self.counts.target.likely, self.counts.clip.likely
        if target is None or clip is None:
            return None
        seconds = (target + TRAINED * self.trained) * own["target"] + clip * own["clip"]
        seconds += self.work.images * sum(rates.perturbed.values())
        for name, (times, generated) in self.labellings.items():
            if name not in rates.methods:
                return None
            measured = rates.methods[name]
            seconds += times * (measured.cell + len(self.work.units) * measured.unit)
            seconds += (generated.likely or 0.0) * own.get("generated", 0.0)
        return seconds


def with_studies(
    count: RunCount,
    studies: Sequence[Study],
    groups: Groups,
    methods: Mapping[str, Method],
    roles: Roles,
    folder: RunFolder,
) -> RunCount:
    """A run's count with its studies; those already in the folder, which need not exist, add nothing."""
    found = [
        _count(study.name, cost, methods, roles.profile)
        for study in studies
        if not is_stored(folder, study.name)
        for cost in study.costs(groups, roles)
    ]
    return replace(count, studies=tuple(found))


def _count(study: str, cost: StudyCost, methods: Mapping[str, Method], profile: Profile) -> StudyCount:
    work, (times, networks) = cost.work, cost.labellings
    labellings: dict[str, tuple[int, Amount]] = {}
    total = Counts(target=cost.read, clip=cost.embedded)
    summarised = False
    chosen = work.methods if cost.methods is None else cost.methods
    for name in chosen if times else ():
        first, _ = cost_of(methods[name], len(work.units), work.images)
        each = [first] * networks + [first.repeated()] * (times - networks)
        total = sum((counts_of(one, profile) for one in each), total)
        labellings[name] = (times, sum((one.generated for one in each), NOTHING))
        summarised = summarised or first.summarised != NOTHING
    if summarised and profile.may_count_words:
        total += Counts(captioned=cost.captioned)
    return StudyCount(study, work, replace(total, cells=NOTHING), labellings, cost.trained)
