"""Which images a network and the profile's image-text encoder still classify correctly under each condition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from baselines.costs import Amount
from benchmark.core.display import Display
from benchmark.core.passes import Passes
from benchmark.core.work import Work, all_conditions
from benchmark.studies.base import Groups, StudyCost, StudyInput
from tasks.common.errors import UserError
from tasks.miniature.vocabulary import KINDS
from tasks.observation import Observation
from tasks.observe import perturbed
from tasks.probing.base import ProbingSet
from tasks.probing.imagenet_classes import IMAGENET_CLASSES, imagenet_numbers
from tasks.profiles.build import Roles

PROMPT: Final = "a {name}"
"""Prompt of the image-text encoder for each choice."""

_VERSION: Final = 1


@dataclass(frozen=True)
class Choices:
    """Possible classes of an image: classes, or kinds of objects of which a scene may show several.

    Attributes:
        names: One per choice, for the prompts.
        layer: Name of the layer of the network's own output.
        outputs: The network's output for each choice.
        right: Mask of the correct choices per image; a row without any is an image of unknown class.
    """

    names: tuple[str, ...]
    layer: str
    outputs: Int[np.ndarray, " choices"]
    right: Bool[np.ndarray, "images choices"]


def choices_of(work: Work, probing: ProbingSet, roles: Roles) -> Choices:
    """The choices for the images of a task.

    The classes of a set count as those of the network if both have equally many, in the same order, or if the network
    has 1,000 outputs and the set uses ImageNet's class names. In the miniature the kind of object with the highest
    output must be one that the scene shows.

    Raises:
        UserError: The classes of the images are unknown, or are not those of the network.
    """
    layer = roles.output_layer(work.task.model)
    count = roles.unit_count(work.task.model, layer)
    names = roles.class_names(count)
    classes, own = getattr(probing, "classes", None), getattr(probing, "class_names", None)
    if classes is not None and own is not None:
        places = _places(own, count)
        if places is None:
            raise UserError(
                "The study robustness needs a network that knows the classes of its images, but the "
                f"{count} outputs of {work.task.model} are not the {len(own)} classes of {work.task.probing_set}, such "
                f"as {own[0]!r}: choose another network or other images, or omit the study."
            )
        right = np.zeros((len(classes), count), np.bool_)
        right[np.arange(len(classes)), places[classes]] = True
        return Choices(_first_names(names or own), layer, np.arange(count), right)
    if names is not None and set(KINDS) <= set(names) & set(probing.concepts):
        shown = [probing.concepts.index(kind) for kind in KINDS]
        return Choices(KINDS, layer, np.array([names.index(kind) for kind in KINDS]), probing.presence[:, shown])
    raise UserError(
        f"The study robustness needs images whose class is known, and those of {work.task.probing_set} in the "
        f"profile {work.profile} have none that {work.task.model} could name: sort them into one folder per class, or "
        "omit the study."
    )


@dataclass(frozen=True)
class Robustness:
    """Classifies the images under each condition; see ``benchmark.studies.base.Study``."""

    name: str = "robustness"
    masked: bool = False

    def check(self, groups: Groups, roles: Roles) -> None:
        """Refuse images without a known class; see ``choices_of``."""
        for work in (work for group in groups for work in group):
            choices_of(work, roles.probing_set(work.task.probing_set, work.images, roles.view(work.task.model)), roles)

    def costs(self, groups: Groups, roles: Roles) -> Iterator[StudyCost]:
        """Each image once per condition; the cached part is not known beforehand."""
        for group in groups:
            seen = Amount.of(len(all_conditions(group)) * group[0].images)
            yield StudyCost(group[0], read=seen, embedded=seen)

    def facts(self, given: StudyInput) -> dict[str, Any]:
        """The prompt and the choices."""
        tasks = {}
        for group in given.groups:
            choices = _choices(group, given)
            for work in group:
                tasks[work.task.name] = {
                    "choices": len(choices.names), "layer": choices.layer, "images": work.images,
                }  # fmt: skip
        return {"version": _VERSION, "seed": given.seed, "prompt": PROMPT, "tasks": tasks}

    def measure(self, given: StudyInput) -> dict[str, list[pd.DataFrame]]:
        """The table ``robustness``."""
        found = []
        for group in given.groups:
            probe, probing = given.probes[group[0].task.name]
            passes = Passes(given.roles, group[0].task.model, probe, probing.digest, given.settings, given.seed)
            found.append(_measured(group, _choices(group, given), passes, given.display))
        return {"robustness": found}


STUDY: Final = Robustness()


def _choices(group: Sequence[Work], given: StudyInput) -> Choices:
    return choices_of(group[0], given.probes[group[0].task.name][1], given.roles)


def _measured(group: Sequence[Work], choices: Choices, passes: Passes, display: Display) -> pd.DataFrame:
    probe, roles = passes.probe, passes.roles
    texts = roles.clip.encode_text([PROMPT.format(name=name) for name in choices.names])
    # Two classes with the same name, such as ImageNet's cranes, are the same answer in words.
    _, alike = np.unique(choices.names, return_inverse=True)
    parts = []
    conditions = all_conditions(group)
    with display.stage("robustness", len(conditions), "conditions") as stage:
        for condition in conditions:
            stage.note(str(condition))
            images = perturbed(probe, condition, passes.seed, passes.settings, roles.device)
            seen = passes.observe(probe, condition, images, {choices.layer: "mean"}, {choices.layer: ()})[choices.layer]
            said = _said(seen, choices, texts.numpy())
            for work in group:
                if condition in work.conditions:
                    verdicts = {
                        "network": _verdicts(said["network"], choices.right, np.arange(len(choices.names))),
                        "clip": _verdicts(said["clip"], choices.right, alike),
                    }
                    place = {"task": work.task.name, "profile": work.profile}
                    place |= {"perturbation": condition.name, "severity": condition.severity}
                    known = choices.right.any(axis=1)
                    for role, right in verdicts.items():
                        own = pd.DataFrame({"image": probe.ids, "right": right}).loc[known]
                        parts.append(own.assign(**place, role=role))
            stage.advance(1)
    return pd.concat(parts, ignore_index=True)


def _said(
    seen: Observation, choices: Choices, texts: Float[np.ndarray, "choices d"]
) -> dict[str, Int[np.ndarray, " images"]]:
    """Role → its choice for each image."""
    outputs = seen.activations.numpy()[:, choices.outputs]
    return {"network": outputs.argmax(axis=1), "clip": (seen.clip_embeddings.numpy() @ texts.T).argmax(axis=1)}


def _verdicts(
    said: Int[np.ndarray, " images"], right: Bool[np.ndarray, "images choices"], alike: Int[np.ndarray, " choices"]
) -> Bool[np.ndarray, " images"]:
    return (right & (alike[None] == alike[said][:, None])).any(axis=1)


def _places(own: Sequence[str], outputs: int) -> Int[np.ndarray, " classes"] | None:
    """The output for each class of a set; None if one is unknown."""
    if len(own) == outputs:
        return np.arange(outputs)
    numbers = imagenet_numbers() if outputs == IMAGENET_CLASSES else {}
    found = [numbers.get(name.replace("_", " ").lower()) for name in own]
    known = [number for number in found if number is not None]
    return np.array(known) if len(known) == len(own) else None


def _first_names(names: Sequence[str]) -> tuple[str, ...]:
    """The first of a class's comma-separated names; all of them if two classes share it."""
    first = [name.split(",")[0].strip() for name in names]
    return tuple(one if first.count(one) == 1 else whole for one, whole in zip(first, names, strict=True))
