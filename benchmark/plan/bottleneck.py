"""The plan of a run that trains concept bottlenecks: images, passes and training steps, and their time by a probe."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch

from baselines.costs import NOTHING, Amount
from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from benchmark.core.prepare import needed_parts, needs_masks
from benchmark.core.work import plan_work
from benchmark.plan.count import Counts, amount_facts
from benchmark.plan.estimate import Stages, total
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


def make_bottleneck_plan(
    options: RunOptions, profile: Profile, tasks: Sequence[Task], display: Display, roles: CountedRoles, started: float
) -> dict[str, Any]:
    """The cost of such a run, in the keys of ``benchmark.plan.make.make_plan``.

    Here a task's ``methods`` are ``training`` and ``tests``, whose cells are pieces that an interrupted run keeps; the
    first has ``training_steps`` of the projection.

    Args:
        display: For the messages of a run while it prepares.
        roles: The profile's models and data; what is missing on this machine is not loaded.
        started: ``time.monotonic()`` at the start of the command.

    Raises:
        UserError: The run would be refused for the same reason.
    """
    check_options(options)
    folder = RunFolder(options.folder())
    missing = [part.role for part in absent(needed_parts(options, profile, tasks, {}, needs_masks(options, tasks)))]
    notes: list[str] = []
    stages: Stages = {}
    if missing:
        notes.append(
            f"{len(missing)} parts of the profile are not on this machine ({', '.join(missing)}), so nothing was "
            f"measured: python -m benchmark doctor --profile {options.profile}"
        )
        counted = [_stated(task, profile, options) for task in tasks]
    else:
        planned = plan_bottlenecks(options, profile, tasks, roles)
        masks = masks_of(options, tasks, planned)
        finished = (folder.path / "run.json").exists() and is_finished(folder)
        counted = [_counted(one, folder, finished, options.seed) for one in planned]
        if not finished:
            display.message("a short probe of each stage")
            stages = {"start": time.monotonic() - started}
            for one, facts in zip(planned, counted, strict=True):
                for stage, seconds in _Probe(one, roles, options, masks).stages(facts).items():
                    stages[stage] = (stages.get(stage) or 0.0) + (seconds or 0.0)
            notes.append(
                f"The time assumes {STEPS.expected:,.0f} steps of the projection and as many evaluations of the final "
                f"layers as the miniature needs; at most {STEPS.most:,.0f} steps are taken."
            )
    return _facts(options, profile, roles, folder, counted, stages, notes, started)


def _stated(task: Task, profile: Profile, options: RunOptions) -> dict[str, Any]:
    """What the task's file states, without its images."""
    section = bottleneck_of(task)
    work = plan_work(task, profile, options, task.units.total or 1)
    images = {f"{IMAGES}training": section.training_images}
    tests = {f"{IMAGES}{c.name}-s{c.severity}": work.images for c in work.conditions}
    if section.held_out:
        tests["anomalies"] = max(2, work.images // 2)
    return _task(task.name, work.images, len(work.conditions), images | tests, lambda name: False)


def _counted(one: Planned, folder: RunFolder, finished: bool, seed: int) -> dict[str, Any]:
    work = one.work
    pieces = Pieces(folder.path, work.task.name)
    images = images_of_pieces(one.split, work.conditions, seed)
    return _task(work.task.name, work.images, len(images) - 1, images, lambda name: finished or pieces.is_done(name))


def _task(
    name: str, tested: int, conditions: int, images: Mapping[str, int], done: Callable[[str], bool]
) -> dict[str, Any]:
    """The facts of a task; see ``benchmark.plan.make``."""
    training, *tests = images
    first = [training, "projection", *HEADS]
    left = [piece for piece in images if not done(piece)]
    learnt = Amount.of(images[training] if training in left else 0)
    seen = Amount.of(sum(images[piece] for piece in tests if piece in left))
    steps = NOTHING if done("projection") else STEPS
    counts = {"training": Counts(target=learnt, clip=learnt), "tests": Counts(target=seen)}
    cells = {"training": first, "tests": tests}
    methods = {
        method: {"cells": len(own), "done": sum(map(done, own)), "stated": True}
        | {key: value for key, value in counts[method].facts().items() if key != "cells"}
        for method, own in cells.items()
    }
    methods["training"]["training_steps"] = amount_facts(steps)
    return {
        "name": name,
        "images": tested,
        "units": 0,
        "conditions": conditions,
        "passes": len(left),
        "methods": methods,
        "counts": (counts["training"] + counts["tests"]).facts(),
        "_counts": counts["training"] + counts["tests"],
        "_left": [piece for piece in (*first, *tests) if not done(piece)],
    }


class _Probe:
    """Measures the stages of one task with a few images and synthetic features."""

    def __init__(
        self, one: Planned, roles: CountedRoles, options: RunOptions, masks: str, clock: Clock = time.monotonic
    ) -> None:
        self._one, self._roles, self._options, self._masks, self._clock = one, roles, options, masks, clock

    def stages(self, facts: dict[str, Any]) -> Stages:
        """Stage → seconds of what is left; records in the facts how much is stored meanwhile."""
        left = set(facts["_left"])
        split, work = self._one.split, self._one.work
        count = min(_BATCH, len(split.training.ids))
        images, _ = split.training.load(range(count))
        few, tests = images[:_FEW], [piece for piece in left if piece.startswith(IMAGES)]
        learnt = len(split.training.ids) if f"{IMAGES}training" in left else 0
        seen = sum(int(facts["methods"][name]["target"]["most"]) for name in facts["methods"])
        target = self._roles.target(work.task.model)
        reading: dict[str, Pooling] = {work.task.layer: work.task.pooling}
        features = target.read(images, reading)[work.task.layer].pooled.shape[1]
        facts["_bytes"] = 4 * features * (seen + len(self._one.concepts))
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

    def _training(self, draws: np.random.Generator, features: int, left: set[str]) -> Stages:
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


def _bytes(tasks: Sequence[Mapping[str, Any]]) -> float | None:
    """Peak size of the run folder, with the features of all images; None if the network was not available."""
    return float(sum(task["_bytes"] for task in tasks)) if all("_bytes" in task for task in tasks) else None


def _fitted(x: np.ndarray, p: np.ndarray, steps: int, device: torch.device) -> None:
    fit_projection(x, p, x[:64], p[:64], seed=0, steps=steps, device=device)


def _facts(
    options: RunOptions,
    profile: Profile,
    roles: CountedRoles,
    folder: RunFolder,
    tasks: Sequence[Mapping[str, Any]],
    stages: Stages,
    notes: Sequence[str],
    started: float,
) -> dict[str, Any]:
    shown = [{key: value for key, value in task.items() if not key.startswith("_")} for task in tasks]
    every = [method for task in shown for method in task["methods"].values()]
    cells = {key: sum(method[name] for method in every) for key, name in (("all", "cells"), ("done", "done"))}
    nothing = cells["all"] == cells["done"]
    seconds = total(stages) if stages else 0.0 if nothing else None
    return {
        "folder": str(folder.path),
        "profile": profile.name,
        "device": str(roles.device),
        "tasks": shown,
        "shared": Counts().facts(),
        "faithfulness": Counts().facts() | {"labels": amount_facts(NOTHING)},
        "total": sum((task["_counts"] for task in tasks), Counts()).facts(),
        "cells": cells,
        "seconds": {"total": seconds, "stages": stages, "probe": time.monotonic() - started},
        "bytes": {"folder": 0.0 if nothing else _bytes(tasks), "cache": None},
        "money": {"usd": amount_facts(NOTHING), "model": None, "price": None, "cap": None, "spent": 0.0},
        "budget": {"usd": options.budget_usd, "seconds": options.budget_seconds},
        "notes": list(notes),
    }
