"""Networks with the last stage fine-tuned on perturbed images, and how well they recognise concepts.

All ways to tune start from the same network and use equally many images per step; they differ in their images: clean
ones only (the control, with as many steps as the longest of the others), or half clean and half perturbed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from benchmark.core.display import Stage
from benchmark.core.work import Work
from benchmark.studies.tuning.images import Suite, with_suite
from metrics.oracle import auroc_matrix
from tasks.common.errors import UserError
from tasks.miniature.probing import MiniatureProbingSet
from tasks.models.target import TargetModel
from tasks.observe import CLEAN, Condition, Masks, Probe, perturbed
from tasks.perturbations.settings import Settings
from tasks.profiles.build import Roles
from tasks.tuning import TUNED, Examples, Recipe, Tuned, check_tunable, frozen_features, logits_of, tune

UNTUNED: Final = "untuned"
CONTROL: Final = "clean images"


@dataclass(frozen=True)
class Plan:
    """Data for tuning networks.

    Attributes:
        corruptions: Corruptions of whole images; each image gets one of them.
        masked: Perturbation of a part of the image.
        severity: Severity of all of them.
        train: Scenes of the train split.
        validation: Scenes of the test split for early stopping.
        test: Scenes of the test split for testing a network.
        recipe: Number of steps and learning rate.
    """

    corruptions: tuple[str, ...] = ("gaussian_noise", "defocus_blur", "brightness", "jpeg_compression")
    masked: str = "background_blur"
    severity: int = 3
    train: int = 800
    validation: int = 160
    test: int = 240
    recipe: Recipe = field(default_factory=Recipe)

    @property
    def names(self) -> tuple[str, ...]:
        """All perturbations that images are perturbed with on purpose."""
        return (*self.corruptions, self.masked)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The perturbations of ``names`` as conditions."""
        return tuple(Condition(name, self.severity) for name in self.names)

    def suites(self) -> dict[str, tuple[Suite, ...]]:
        """Way to tune → the suites of its perturbed images, in equal shares; the control has none."""
        corruptions, masked = Suite(self.corruptions, self.severity), Suite((self.masked,), self.severity)
        names = "background blur" if self.masked == "background_blur" else self.masked
        return {names: (masked,), "corruptions": (corruptions,), "both": (masked, corruptions)}


def why_not(work: Work, roles: Roles) -> str:
    """Why the network of a task cannot be tuned, as a sentence; empty if it can."""
    task = work.task
    if roles.profile.vocabulary is None:
        return f"the profile {roles.profile.name} has no labelled images to tune {task.model} on."
    if task.truth == "planted":
        return f"the planted units of {task.model} would no longer be what was planted."
    if task.layer.split(".")[0] not in TUNED:
        return f"{task.layer} of {task.model} lies before the tuned stage, so its units would stay as they are."
    try:
        check_tunable(roles.target(task.model), task.model)
    except UserError as error:
        return str(error)
    return ""


def tuned_networks(target: TargetModel, plan: Plan, seed: int, settings: Settings, stage: Stage) -> dict[str, Tuned]:
    """The network tuned in each way, the control first.

    Args:
        target: The network; it is not changed.
    """
    train = _Scenes("train", slice(0, plan.train), target, seed, settings)
    validation = _Scenes("test", slice(0, plan.validation), target, seed, settings)
    found: dict[str, Tuned] = {}
    for name, suites in plan.suites().items():
        stage.note(name)
        pools = [scenes.mixture(suites) for scenes in (train, validation)]
        found[name] = tune(target, pools[0], pools[1], seed, plan.recipe)
        stage.advance()
    stage.note(CONTROL)
    longest = max(tuned.step for tuned in found.values())
    control = tune(target, train.mixture(()), validation.mixture(()), seed, plan.recipe, steps=longest)
    stage.advance()
    return {CONTROL: control, **found}


@dataclass(frozen=True)
class Performance:
    """How well one network recognises concepts under one condition.

    Attributes:
        errors: Share of the concepts of each image that are classified wrongly at a threshold of one half.
        auroc: AUROC per concept; NaN for one that all or no test scenes show.
    """

    errors: Float[np.ndarray, " images"]
    auroc: Float[np.ndarray, " concepts"]


def performances(
    networks: Mapping[str, TargetModel],
    plain: TargetModel,
    plan: Plan,
    conditions: Sequence[Condition],
    seed: int,
    settings: Settings,
) -> Iterator[tuple[Condition, dict[str, Performance]]]:
    """Per condition, how well networks with the same frozen stages recognise the concepts of test scenes.

    Args:
        networks: Name → network.
        plain: The network that they come from.
        plan: Defines the test scenes.
        conditions: May include ``clean``.
    """
    scenes = _Scenes("test", slice(plan.validation, plan.validation + plan.test), plain, seed, settings)
    presence = scenes.presence
    for condition in conditions:
        features = scenes.under(condition)
        found = {}
        for name, network in networks.items():
            logits = logits_of(network, features).double().numpy()
            errors = ((logits > 0) != presence.numpy()).mean(axis=1)
            found[name] = Performance(errors, np.diagonal(auroc_matrix(logits, presence.numpy())).copy())
        yield condition, found


class _Scenes:
    """Some scenes of a split, as features of the last frozen stage; each variant is computed once."""

    def __init__(self, split: str, part: slice, target: TargetModel, seed: int, settings: Settings) -> None:
        scenes = MiniatureProbingSet(split, part.stop).seen_by(target.preprocessing.view)
        rows, masks = range(part.start, part.stop), cast(Masks, scenes.load_foreground)
        self._probe = Probe(
            ids=tuple(f"tuning-{name}" for name in scenes.ids[part]),
            load=lambda indices: scenes.load([rows[index] for index in indices]),
            masks=lambda indices: masks([rows[index] for index in indices]),
        )
        self.presence: Bool[Tensor, "n concepts"] = torch.from_numpy(scenes.presence[part])
        self._target = target
        self._seed = seed
        self._settings = settings
        self._known: dict[Suite | None, Tensor] = {}

    def under(self, condition: Condition) -> Float[Tensor, "n c h w"]:
        """All scenes under a condition."""
        if condition == CLEAN:
            return self._features(None)
        images = perturbed(self._probe, condition, self._seed, self._settings, self._target.device)
        return frozen_features(self._target, images, len(self._probe.ids))

    def mixture(self, suites: Sequence[Suite]) -> Examples:
        """All scenes clean, and as many perturbed: the first part of them with the first suite, and so on."""
        found = Examples(self._features(None), self.presence)
        count = len(self._probe.ids)
        for number, suite in enumerate(suites):
            part = slice(number * count // len(suites), (number + 1) * count // len(suites))
            found = found.joined(Examples(self._features(suite)[part], self.presence[part]))
        return found

    def _features(self, suite: Suite | None) -> Tensor:
        if suite not in self._known:
            probe, device = self._probe, self._target.device
            images = probe.load
            if suite is not None:
                images = with_suite(probe, images, suite, self._seed, self._settings, device)
            self._known[suite] = frozen_features(self._target, images, len(probe.ids))
        return self._known[suite]
