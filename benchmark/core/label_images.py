"""Images generated of labels, and the activations of the labelled units on them: the costly part of faithfulness.

It depends on the label alone, not on who was given it, so that each label is drawn once, by any process of a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from benchmark.core.work import Work
from tasks.activations.capture import Pooling
from tasks.common.seeding import integer_seed
from tasks.profiles.build import Roles

IMAGES_PER_LABEL: Final = 10
"""CoSy generates 50. Ten take a fifth of the time and lose little: the mean AUC of 48 units with different labels has a
standard error of about 0.013."""

PROMPT: Final = "realistic photo of a close up of {concept}"
"""The template of CoSy's released settings, for generators with text prompts."""

READ_AT_ONCE: Final = 128
"""Images per reading of a network."""


@dataclass(frozen=True)
class LabelImages:
    """What is drawn of a label, and for whom; with the run it determines the activations.

    Attributes:
        count: Number of images.
        tasks: The tasks with a unit that was given this label, sorted.
    """

    label: str
    count: int
    tasks: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """As JSON: the identity of the activations within a run."""
        return {"what": "images of a label", "prompt": PROMPT, **asdict(self), "tasks": list(self.tasks)}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> LabelImages | None:
        """From ``facts``; None if these are those of something else."""
        if facts["what"] != "images of a label":
            return None
        return cls(facts["label"], facts["count"], tuple(facts["tasks"]))


def draw(
    asked: Sequence[LabelImages], works: Sequence[Work], roles: Roles, seed: int
) -> dict[LabelImages, dict[str, Float[np.ndarray, "count units"]]]:
    """Generate the images of some labels, and read them.

    Args:
        works: All tasks of the run.
        roles: Provide the generator and the networks.
        seed: The run's own.

    Returns:
        For each label: task name → activations of its units, in the order of ``Work.units``.
    """
    assert roles.generator is not None  # noqa: S101 - nobody asks otherwise
    images = {}
    for one in asked:
        images[one] = roles.generator.generate(
            one.label, one.count, integer_seed(seed, "faithfulness", one.label), PROMPT
        )
    found: dict[LabelImages, dict[str, np.ndarray]] = {one: {} for one in asked}
    alike: dict[tuple[str, Pooling], list[Work]] = {}
    for work in works:
        alike.setdefault((work.task.model, work.task.pooling), []).append(work)
    for (model, _), group in alike.items():
        names = {work.task.name for work in group}
        own, view = [one for one in asked if names & {*one.tasks}], roles.view(model)
        if not own:
            continue
        wanted = [work for work in group if any(work.task.name in one.tasks for one in own)]
        # The images of one label would leave much of a batch of whole sixteens empty.
        seen = torch.cat([view(images[one].cpu()) for one in own])
        read = activations(roles, wanted, seen.split(READ_AT_ONCE), {work.task.name: work.units for work in wanted})
        ends = np.cumsum([one.count for one in own])[:-1]
        for task, values in read.items():
            for one, part in zip(own, np.split(values, ends), strict=True):
                if task in one.tasks:
                    found[one][task] = part
    return found


def activations(
    roles: Roles, works: Sequence[Work], images: Iterable[UInt8[Tensor, "k 3 h w"]], units: Mapping[str, Sequence[int]]
) -> dict[str, Float[np.ndarray, "n units"]]:
    """Task name → pooled activations of its selected units; the tasks share network and pooling."""
    if not works:
        return {}
    target = roles.target(works[0].task.model)
    layers: dict[str, Pooling] = {work.task.layer: work.task.pooling for work in works}
    parts: dict[str, list[np.ndarray]] = {work.task.name: [] for work in works}
    for part in images:
        reading = target.read(part, layers)
        for work in works:
            parts[work.task.name].append(reading[work.task.layer].pooled[:, list(units[work.task.name])].numpy())
    return {task: np.concatenate(found) for task, found in parts.items()}
