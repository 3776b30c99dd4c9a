"""What the analyses of a run ask besides its cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from baselines.base import Method
from baselines.costs import NOTHING, Amount, Cost, Number
from benchmark.plan.count import Counts, RunCount, cost_of, counts_of
from benchmark.plan.rates import Rates
from benchmark.run.work import Work, all_conditions
from benchmark.studies.tuning.measure import SHARES, held_out
from benchmark.studies.tuning.networks import Plan, why_not
from leaderboard.store.run_folder import RunFolder
from tasks.profiles.build import Roles

TRAINED: Final = 0.75
"""Passes that one image of a training step takes: the last of four stages as costly as each other, there and back."""


@dataclass(frozen=True)
class AnalysisCount:
    """What one analysis asks of one task, or of tasks that share network and images.

    Attributes:
        name: Of the analysis.
        work: The task, or the first of them.
        counts: What is asked in all; no cells.
        labellings: Method → how often it labels the units, and the images that are generated for that.
        trained: Images that networks are trained with, again in each step.
    """

    name: str
    work: Work
    counts: Counts
    labellings: Mapping[str, tuple[int, Amount]] = field(default_factory=dict)
    trained: int = 0


def with_analyses(
    count: RunCount,
    names: Sequence[str],
    groups: Sequence[Sequence[Work]],
    methods: Mapping[str, Method],
    roles: Roles,
    folder: RunFolder,
) -> RunCount:
    """A run's count with its analyses; those that the folder holds ask nothing.

    Args:
        count: Of the cells.
        names: The analyses.
        groups: The tasks, those together that share a pass over the images.
        methods: By name.
        roles: The profile's models and data.
        folder: The run's; it need not exist.
    """
    found: list[AnalysisCount] = []
    left = [name for name in names if not _stored(folder, name)]
    if "sensitivity" in left:
        found += [_sensitivity(group) for group in groups]
    if "robustness" in left:
        found += [_robustness(group) for group in groups]
    if "tuning" in left:
        found += [_tuning(work, methods, roles) for group in groups for work in group]
    return replace(count, analyses=tuple(found))


def analysis_seconds(count: AnalysisCount, rates: Rates) -> Number:
    """Seconds of an analysis; None if a method was not measured. Its statistics are left out."""
    own = rates.seconds
    target, clip = count.counts.target.likely, count.counts.clip.likely
    if target is None or clip is None:
        return None
    seconds = (target + TRAINED * count.trained) * own["target"] + clip * own["clip"]
    if count.name in ("sensitivity", "robustness"):
        seconds += count.work.images * sum(rates.perturbed.values())
    for name, (times, generated) in count.labellings.items():
        if name not in rates.methods:
            return None
        measured = rates.methods[name]
        seconds += times * (measured.cell + len(count.work.units) * measured.unit)
        seconds += (generated.likely or 0.0) * own.get("generated", 0.0)
    return seconds


def _stored(folder: RunFolder, name: str) -> bool:
    if not (folder.path / "run.json").exists():
        return False
    held = folder.info()["facts"].get(name, {}).get("key")
    return bool(held) and (folder.path / f"{name}.parquet").exists()


def _sensitivity(group: Sequence[Work]) -> AnalysisCount:
    return AnalysisCount("sensitivity", group[0], Counts(target=_seen(group)))


def _robustness(group: Sequence[Work]) -> AnalysisCount:
    return AnalysisCount("robustness", group[0], Counts(target=_seen(group), clip=_seen(group)))


def _seen(group: Sequence[Work]) -> Amount:
    """Each image once under every condition; what the cache holds of that is not known beforehand."""
    return Amount.of(len(all_conditions(group)) * group[0].images)


def _tuning(work: Work, methods: Mapping[str, Method], roles: Roles) -> AnalysisCount:
    plan = Plan()
    conditions = 1 + len(held_out(work, plan))
    networks = 0 if why_not(work, roles) else len(plan.suites()) + 2
    labellings: dict[str, tuple[int, Amount]] = {}
    read = Amount.of((2 + networks) * conditions * work.images)
    total = Counts(target=read, clip=read)
    words = False
    for name in work.methods:
        first, _ = cost_of(methods[name], len(work.units), work.images)
        # All shares are of one network; a tuned network has images of its own.
        each = [first, *[first.repeated()] * (len(SHARES) * conditions - 1)]
        each += [first, *[first.repeated()] * (conditions - 1)] * networks
        total = sum((counts_of(cost, roles.profile) for cost in each), total)
        labellings[name] = (len(each), sum((cost.generated for cost in each), NOTHING))
        words = words or _summarises(first)
    if words and isinstance(roles.profile.summariser, str):
        # An image is shown as it is or perturbed, at whatever share and to whatever network.
        total += Counts(captioned=Amount((len(SHARES) + networks) * work.images, 2 * work.images))
    trained = 0
    if networks:
        scenes = (plan.train + plan.validation) * (1 + 2)
        scenes += plan.test * (conditions + len(plan.conditions))
        total += Counts(target=Amount.of(scenes))
        trained = (len(plan.suites()) + 1) * plan.recipe.steps * plan.recipe.batch
    return AnalysisCount("tuning", work, replace(total, cells=NOTHING), labellings, trained)


def _summarises(cost: Cost) -> bool:
    return cost.summarised != NOTHING
