"""The work of a run, counted from its options and its folder; nothing is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

from baselines.base import Method
from baselines.concepts import load_concepts
from baselines.costs import NOTHING, UNSTATED, Amount, Cost
from benchmark.core.label_images import IMAGES_PER_LABEL
from benchmark.core.work import Work, all_conditions
from benchmark.plan.language import language_counts
from leaderboard.store.parts import CellKey, PartKind
from tasks.common.errors import UserError
from tasks.observe import CLEAN, Condition
from tasks.profiles.schema import Profile

if TYPE_CHECKING:
    from benchmark.plan.studies import StudyCount

Done = Callable[[CellKey, PartKind], bool]
"""Whether a part of the run folder already exists."""

FRESH: Final = 0.64
"""Chance that a further label is not yet among a few others. With it, so many of N concepts are expected in n labels:
N (1 - exp(-FRESH n / N)). Four methods on ResNet-50's layer4, 276 concepts: 71 of 128 labels (78 in the committed
results), 276 of 8,192 (277 in a run of all units)."""

WORDED: Final = 0.9
WORDED_GROWTH: Final = 0.75
"""A method that summarises captions words its labels itself: ``WORDED`` times this power of the units are expected that
no other method has. Describe-and-Dissect on the same layer: 12, 58 and 274 of 32, 256 and 2,048 (11, 66, 300 in the
runs that it was fitted to).
"""

MEASURED_UNITS: Final = 48
DRAWN: Final = 0.8
"""Methods state what they draw as if it grew with the units. Above ``MEASURED_UNITS`` it grows with this power of them,
because concepts recur: 2,560 images for 32 units of ResNet-50's layer4 and 13,900 for 256, under 18 perturbations."""


@dataclass(frozen=True)
class Counts:
    """Amounts of work.

    Attributes:
        target: Images that the target network reads.
        clip: Images that CLIP embeds.
        language_calls: Answers of a language model.
        prompt_tokens: Tokens of its prompts.
        completion_tokens: Tokens of its answers.
    """

    cells: Amount = NOTHING
    target: Amount = NOTHING
    clip: Amount = NOTHING
    captioned: Amount = NOTHING
    generated: Amount = NOTHING
    language_calls: Amount = NOTHING
    prompt_tokens: Amount = NOTHING
    completion_tokens: Amount = NOTHING

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(Counts)))

    def facts(self) -> dict[str, Any]:
        """As JSON: name → ``expected`` and ``most``; null where unknown."""
        return {field.name: amount_facts(getattr(self, field.name)) for field in fields(self)}


def amount_facts(amount: Amount, digits: int = 0) -> dict[str, float | None]:
    """An amount as JSON."""
    values = {"expected": amount.expected, "most": amount.most}
    return {name: value if value is None else round(value, digits or None) for name, value in values.items()}


@dataclass(frozen=True)
class MethodCount:
    """The cells of a method for one task.

    Attributes:
        cells: All of them.
        open: Cells that are not done.
        each: Cost of each open cell; the first of a repeat has nothing to share.
        counts: What all open cells need, besides the passes over the probing images.
        unstated: Why the cost of a cell is unknown, as a predicate; empty if the method states it.
    """

    cells: int
    open: int
    each: tuple[Cost, ...]
    counts: Counts
    unstated: str

    @property
    def stated(self) -> bool:
        """Whether the method states its cost."""
        return not self.unstated


@dataclass(frozen=True)
class TaskCount:
    """One task.

    Attributes:
        passes: Conditions that need a pass over its images.
    """

    work: Work
    passes: tuple[Condition, ...]
    methods: Mapping[str, MethodCount]

    @property
    def counts(self) -> Counts:
        """Its cost by itself; tasks that share network and images cost less together."""
        read = Amount.of(len(self.passes) * self.work.images)
        return sum((method.counts for method in self.methods.values()), Counts(target=read, clip=read))


@dataclass(frozen=True)
class RunCount:
    """A whole run.

    Attributes:
        tasks: In the order of the run.
        passes: For each group of tasks that share network and images, the conditions that need a pass.
        shared: Work that is done once for all tasks: passes over the images, captions of all images.
        faithfulness: Measurement of the labels' faithfulness after the cells.
        texts: Labels that are measured there.
        studies: Studies that are left, see ``benchmark.plan.studies``.
    """

    tasks: tuple[TaskCount, ...]
    passes: tuple[tuple[Work, tuple[Condition, ...]], ...]
    shared: Counts
    faithfulness: Counts
    texts: Amount
    studies: tuple[StudyCount, ...] = ()

    @property
    def total(self) -> Counts:
        """All work that is left."""
        counts = [method.counts for task in self.tasks for method in task.methods.values()]
        return sum([*counts, *(one.counts for one in self.studies)], self.shared + self.faithfulness)

    @property
    def cells(self) -> tuple[int, int]:
        """All cells, and the cells that are not done."""
        methods = [method for task in self.tasks for method in task.methods.values()]
        return sum(method.cells for method in methods), sum(method.open for method in methods)


def count_run(
    groups: Sequence[Sequence[Work]],
    methods: Mapping[str, Method],
    profile: Profile,
    scope: str,
    done: Done = lambda key, kind: False,
) -> RunCount:
    """Count the work that is left of a run.

    Args:
        groups: The tasks, grouped by shared passes over the images.
        methods: By name; see ``baselines.costs`` for how they state their costs.
        scope: Labels whose faithfulness is measured.
        done: Tells which parts the run folder contains.
    """
    tasks: list[TaskCount] = []
    passes: list[tuple[Work, tuple[Condition, ...]]] = []
    shared = Counts()
    for group in groups:
        counted = [_task(work, methods, profile, done) for work in group]
        tasks += counted
        images, reads = group[0].images, _passes(group, done)
        passes.append((group[0], reads))
        read = Amount.of(len(reads) * images)
        # Summarisers that count words need the captions of all images, once.
        words = profile.may_count_words and any(_summarises(task) for task in counted)
        shared += Counts(target=read, clip=read, captioned=Amount.of(images) if words else NOTHING)
    nothing_left = not any(method.open for task in tasks for method in task.methods.values())
    if scope == "none" or nothing_left:
        return RunCount(tuple(tasks), tuple(passes), shared, Counts(), NOTHING)
    works = [work for group in groups for work in group]
    labels = sum(_labels(work, scope) for work in works)
    texts = Amount(labels, _different(works, methods, profile) if scope == "clean" else None)
    return RunCount(tuple(tasks), tuple(passes), shared, _faithfulness(works, texts, profile), texts)


def cost_of(method: Method, units: int, images: int) -> tuple[Cost, str]:
    """The cost that a method states, and an empty text; or ``UNSTATED``, and the reason as a predicate."""
    hook = getattr(method, "cost", None)
    if not callable(hook):
        return UNSTATED, "does not state its cost"
    try:
        stated = hook(units, images)
    except Exception as error:  # a plugin's bug must not keep a run from being planned
        why = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
        return UNSTATED, f"failed when asked for its cost ({why})"
    if isinstance(stated, Cost):
        return stated, ""
    return UNSTATED, f"states its cost as {type(stated).__name__}, not as baselines.costs.Cost"


def _task(work: Work, methods: Mapping[str, Method], profile: Profile, done: Done) -> TaskCount:
    own = {name: _method(name, work, methods[name], profile, done) for name in work.methods}
    return TaskCount(work, _passes([work], done), own)


def _method(name: str, work: Work, method: Method, profile: Profile, done: Done) -> MethodCount:
    keys = [key for condition in work.conditions for key in work.cells(condition) if key.method == name]
    left = [key for key in keys if not done(key, "labels")]
    first, unstated = cost_of(method, len(work.units), work.images)
    if len(work.units) > MEASURED_UNITS:
        first = _recurring(first, cost_of(method, MEASURED_UNITS, work.images)[0], len(work.units))
    begun: set[int] = set()
    each = []
    for key in left:
        each.append(first.repeated() if key.repeat in begun else first)
        begun.add(key.repeat)
    counts = sum((counts_of(cost, profile) for cost in each), Counts())
    return MethodCount(len(keys), len(left), tuple(each), counts, unstated)


def _recurring(cost: Cost, few: Cost, units: int) -> Cost:
    """The cost of many units, whose concepts recur, from that of ``MEASURED_UNITS``."""
    likely, known = cost.generated.expected, few.generated.expected
    if likely is None or known is None:
        return cost
    drawn = min(likely, known * (units / MEASURED_UNITS) ** DRAWN)
    return replace(cost, generated=Amount(cost.generated.most, drawn))


def _different(works: Sequence[Work], methods: Mapping[str, Method], profile: Profile) -> float | None:
    """How many different texts clean labels are expected to be; None if the concepts are not on this machine."""
    try:
        concepts = {one for work in works for one in load_concepts(profile.concept_set(work.task.concept_set))}
    except UserError:
        return None
    named, worded = 0, 0.0
    for work in works:
        units = len(work.units)
        for name in work.methods:
            cost, unstated = cost_of(methods[name], units, work.images)
            if unstated or cost.summarised == cost.described == NOTHING:
                named += units
            else:
                worded += min(units, WORDED * units**WORDED_GROWTH)
    return len(concepts) * -math.expm1(-FRESH * named / len(concepts)) + worded


def counts_of(cost: Cost, profile: Profile) -> Counts:
    """The use of a profile's models by a cell of that cost."""
    calls, read, written = language_counts(cost, profile)
    return Counts(
        cells=Amount.of(1),
        target=cost.activated + cost.generated,
        clip=cost.embedded + cost.generated,
        captioned=cost.captioned,
        generated=cost.generated,
        language_calls=calls,
        prompt_tokens=read,
        completion_tokens=written,
    )


def _passes(group: Sequence[Work], done: Done) -> tuple[Condition, ...]:
    """The conditions that need a pass over the images, in the sweep's order."""
    unseen, opened = set(), set()
    for work in group:
        for condition in work.conditions:
            if not done(work.observation_key(condition), "evidence"):
                unseen.add(condition)
            if not all(done(key, "labels") for key in work.cells(condition)):
                opened.add(condition)
    # Changes under a condition are measured against the clean images, which then need a pass in any case.
    wanted = unseen | opened | ({CLEAN} if unseen else set())
    return tuple(condition for condition in all_conditions(group) if condition in wanted)


def _summarises(task: TaskCount) -> bool:
    costs = [cost for method in task.methods.values() if method.stated for cost in method.each]
    return any(cost.summarised != NOTHING for cost in costs)


def _labels(work: Work, scope: str) -> int:
    cells = sum(len(work.cells(condition)) for condition in work.conditions) if scope == "all" else len(work.methods)
    return cells * len(work.units)


def _faithfulness(works: Sequence[Work], texts: Amount, profile: Profile) -> Counts:
    drawn = NOTHING if profile.generator is None else texts * IMAGES_PER_LABEL
    read = _distinct((work.task.model, work.task.pooling, work.task.probing_set, work.images) for work in works)
    looked = _distinct((work.task.probing_set, work.images) for work in works)
    return Counts(target=drawn + Amount.of(read), clip=Amount.of(looked), generated=drawn)


def _distinct(sources: Iterable[tuple[str | int, ...]]) -> int:
    """Images of all distinct sources; the number of images comes last in each."""
    return sum(int(source[-1]) for source in dict.fromkeys(sources))
