"""The plan of a run that trains concept bottlenecks: images, passes and training steps, and their time by a probe."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from baselines.costs import NOTHING, Amount
from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from benchmark.core.prepare import needed_parts, needs_masks
from benchmark.core.work import Work, plan_work
from benchmark.plan.count import Counts, MethodCount, TaskCount
from benchmark.plan.estimate import Stages
from benchmark.plan.tally import CountedRoles
from benchmark.studies.bottleneck.lfcbm.projection import fit_projection
from benchmark.studies.bottleneck.measure import images_of_pieces
from benchmark.studies.bottleneck.model import DENSE, SPARSE
from benchmark.studies.bottleneck.rows import Seen, head_rows
from benchmark.studies.bottleneck.run import (
    Planned,
    bottleneck_of,
    check_options,
    is_finished,
    masks_of,
    plan_bottlenecks,
)
from benchmark.studies.bottleneck.store import IMAGES, Pieces
from leaderboard.store.run_folder import RunFolder
from metrics.bottleneck import usual
from tasks.common.seeding import generator, integer_seed
from tasks.observe import CLEAN, Condition
from tasks.perturbations.settings import needs_foreground
from tasks.profiles.resolve import absent
from tasks.profiles.schema import Profile
from tasks.schema import Pooling, Task

HEADS: Final = ("head-backbone_dense", "head-backbone_sparse", "head-concepts_dense", "head-concepts_sparse")
STEPS: Final = Amount(1_000, 300)
"""Steps of the projection: it ends at the first check without improvement; 300 on the miniature, with 4,000 images."""

_ROUNDS: Final = {"dense": 70, "sparse": 550}
"""Evaluations of a head's loss: 62 to 67 and 433 to 505 on the miniature."""
_WORKING: Final = 200
"""Number of inputs of a sparse head that are solved for at a time."""
_FEW: Final = 8
_BATCH: Final = 64
"""Maximum number of images opened and passed through the networks by the probe; ``_FEW`` for slower stages."""
_ROWS: Final = 2_000
"""Maximum number of images for probing the training."""

Clock = Callable[[], float]


@dataclass(frozen=True)
class CountedPieces:
    """The work that is left of one task.

    Attributes:
        count: Its ``methods`` are ``training`` and ``tests``, whose cells are pieces that an interrupted run keeps.
        images: Images of each piece that holds some.
        left: The pieces that are not there.
        steps: Steps of the projection.
    """

    count: TaskCount
    images: Mapping[str, int]
    left: frozenset[str]
    steps: Amount

    def facts(self) -> dict[str, Any]:
        """What differs from the facts of a task that labels units; see ``benchmark.plan.make``."""
        return {"units": 0, "conditions": len(self.images) - 1, "passes": len(self.left & {*self.images})}


@dataclass(frozen=True)
class BottleneckPlan:
    """What is left of a run, and its time; ``stages`` and ``bytes`` are empty where nothing was measured.

    Attributes:
        missing: Parts of the profile that are not on this machine; then nothing was measured.
        bytes: Peak size of the run folder, with the features of all images.
    """

    tasks: Sequence[CountedPieces]
    missing: Sequence[str]
    stages: Stages
    bytes: float | None


def plan_bottlenecks_of(
    options: RunOptions, profile: Profile, tasks: Sequence[Task], display: Display, roles: CountedRoles, started: float
) -> BottleneckPlan:
    """Count and measure such a run; see ``benchmark.plan.make.make_plan``.

    Raises:
        UserError: The run would be refused for the same reason.
    """
    check_options(options)
    missing = [part.role for part in absent(needed_parts(options, profile, tasks, {}, needs_masks(options, tasks)))]
    if missing:
        return BottleneckPlan([_stated(task, profile, options) for task in tasks], missing, {}, None)
    folder = RunFolder(options.folder())
    planned = plan_bottlenecks(options, profile, tasks, roles)
    masks = masks_of(options, tasks, planned)
    finished = (folder.path / "run.json").exists() and is_finished(folder)
    counted = [_counted(one, folder, finished, options.seed) for one in planned]
    if finished:
        return BottleneckPlan(counted, (), {}, 0.0)
    display.message("a short probe of each stage")
    stages: Stages = {"start": time.monotonic() - started}
    size = 0.0
    for one, pieces in zip(planned, counted, strict=True):
        probe = _Probe(one, roles, options, masks)
        for stage, seconds in probe.stages(pieces).items():
            stages[stage] = (stages.get(stage) or 0.0) + (seconds or 0.0)
        size += probe.bytes
    return BottleneckPlan(counted, (), stages, size)


def _stated(task: Task, profile: Profile, options: RunOptions) -> CountedPieces:
    """What the task's file states, without its images."""
    section = bottleneck_of(task)
    work = plan_work(task, profile, options, task.units.total or 1)
    images = {f"{IMAGES}training": section.training_images}
    images |= {f"{IMAGES}{c.name}-s{c.severity}": work.images for c in work.conditions}
    if section.held_out:
        images["anomalies"] = max(2, work.images // 2)
    return _task(work, images, lambda name: False)


def _counted(one: Planned, folder: RunFolder, finished: bool, seed: int) -> CountedPieces:
    pieces = Pieces(folder.path, one.work.task.name)
    images = images_of_pieces(one.split, one.work.conditions, seed)
    return _task(one.work, images, lambda name: finished or pieces.is_done(name))


def _task(work: Work, images: Mapping[str, int], done: Callable[[str], bool]) -> CountedPieces:
    training, *tests = images
    cells = {"training": [training, "projection", *HEADS], "tests": tests}
    left = frozenset(piece for own in cells.values() for piece in own if not done(piece))
    learnt = Amount.of(images[training] if training in left else 0)
    seen = Amount.of(sum(images[piece] for piece in tests if piece in left))
    counts = {"training": Counts(target=learnt, clip=learnt), "tests": Counts(target=seen)}
    methods = {
        name: MethodCount(len(own), len(left.intersection(own)), (), counts[name], "") for name, own in cells.items()
    }
    return CountedPieces(TaskCount(work, (), methods), images, left, STEPS if "projection" in left else NOTHING)


class _Probe:
    """Measures the stages of one task with a few images and synthetic features."""

    def __init__(
        self, one: Planned, roles: CountedRoles, options: RunOptions, masks: str, clock: Clock = time.monotonic
    ) -> None:
        self._one, self._roles, self._options, self._masks, self._clock = one, roles, options, masks, clock
        self.bytes = 0.0

    def stages(self, pieces: CountedPieces) -> Stages:
        """Stage → seconds of what is left; ``bytes`` then says how much is stored meanwhile."""
        left = pieces.left
        split, work = self._one.split, self._one.work
        count = min(_BATCH, len(split.training.ids))
        images, _ = split.training.load(range(count))
        few, tests = images[:_FEW], [piece for piece in left if piece.startswith(IMAGES)]
        learnt = len(split.training.ids) if f"{IMAGES}training" in left else 0
        seen = int(pieces.count.counts.target.most or 0)
        target = self._roles.target(work.task.model)
        reading: dict[str, Pooling] = {work.task.layer: work.task.pooling}
        features = target.read(images, reading)[work.task.layer].pooled.shape[1]
        self.bytes = 4.0 * features * (seen + len(self._one.concepts))
        found: Stages = {
            "images": (seen + len(split.test.ids)) * self._each(lambda: split.training.load(range(count)), count),
            "target network": seen * self._each(lambda: target.read(images, reading), count),
        }
        if learnt:
            self._roles.clip.encode_images(images[:1])
            found["CLIP"] = learnt * self._each(lambda: self._roles.clip.encode_images(images), count)
        if self._masks == "segmenter" and tests:
            self._roles.segmenter.foreground(few[:1])
            masks = self._each(lambda: self._roles.segmenter.foreground(few), len(few))
            found["masks"] = len(split.test.ids) * masks
        found["perturbations"] = sum(
            len(split.test.ids) * self._perturbing(few, condition)
            for condition in work.conditions
            if condition != CLEAN and f"{IMAGES}{condition.name}-s{condition.severity}" in left
        )
        draws = generator(self._options.seed, "plan", "bottleneck")
        return found | self._training(draws, features, left) | {"tables": self._tables(draws, features)}

    def _each(self, work: Callable[[], Any], count: int) -> float:
        """Seconds per item of ``count``."""
        started = self._clock()
        work()
        return (self._clock() - started) / count

    def _perturbing(self, images: torch.Tensor, condition: Condition) -> float:
        masks = None
        if needs_foreground(condition.name):
            masks = torch.zeros(images.shape[0], *images.shape[2:], dtype=torch.bool, device=self._roles.device)
            masks[:, ::2] = True
        seeds = [integer_seed(self._options.seed, "plan", condition.name, place) for place in range(len(images))]
        settings, shown = self._options.perturbing(), images.to(self._roles.device)
        settings.apply(shown[:1], condition.name, condition.severity, seeds[:1], None if masks is None else masks[:1])
        return self._each(
            lambda: settings.apply(shown, condition.name, condition.severity, seeds, masks).cpu(), len(images)
        )

    def _training(self, draws: np.random.Generator, features: int, left: frozenset[str]) -> Stages:
        images = len(self._one.split.training.ids)
        rows, concepts = min(_ROWS, images), len(self._one.concepts)
        scale = min(images, 50_000) / rows
        found: Stages = {}
        if "projection" in left:
            x, p = (draws.normal(size=(rows, width)).astype(np.float32) for width in (features, concepts))
            # The first and the last step are checked too.
            once, more = (
                self._each(lambda steps=steps: _fitted(x, p, steps, self._roles.device), 1) for steps in (1, 4)
            )
            found["projection"] = (STEPS.expected or 0.0) * max(more - once, 0.0) / 3 * scale
        classes = len(self._one.split.labels)
        for head in HEADS:
            if head not in left:
                continue
            inputs = features if "backbone" in head else concepts
            kind = head.rpartition("_")[2]
            width = min(inputs, _WORKING) if kind == "sparse" else inputs
            own, weights = draws.normal(size=(rows, width)), draws.normal(size=(classes, width))
            each = self._each(lambda own=own, weights=weights: (own @ weights.T).T @ own, 1)
            found["final layers"] = (found.get("final layers") or 0.0) + _ROUNDS[kind] * each * images / rows
        return found

    def _tables(self, draws: np.random.Generator, features: int) -> float:
        """Accuracy of each head with its tests, and distances to the training images."""
        split, work = self._one.split, self._one.work
        count = len(split.test.ids)
        truth = draws.integers(2, size=count)
        nothing = np.zeros((count, 1))
        names = (DENSE, "backbone_sparse", "concepts_dense", SPARSE)

        def shown() -> Seen:
            return Seen(np.arange(count), nothing, nothing, {name: draws.integers(2, size=count) for name in names})

        seen = {CLEAN: shown(), Condition("made_up", 1): shown()}
        heads = self._each(lambda: head_rows(seen, truth, 0), len(seen))
        conditions = images_of_pieces(split, work.conditions, self._options.seed)
        rows = min(_ROWS, len(split.training.ids))
        known = usual(draws.normal(size=(rows, features)))
        few = draws.normal(size=(_FEW, features))
        distance = self._each(lambda: known.nearest(few), _FEW) * len(split.training.ids) / rows
        changed = sum(needs_foreground(condition.name) for condition in work.conditions) + 3
        return (len(conditions) - 1) * heads + 2 * changed * count * distance


def _fitted(x: np.ndarray, p: np.ndarray, steps: int, device: torch.device) -> None:
    fit_projection(x, p, x[:64], p[:64], seed=0, steps=steps, device=device)
