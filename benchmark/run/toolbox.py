"""The toolbox that methods label with: made in one place, so that a run, its analyses and its plan give the same."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

from jaxtyping import Float, UInt8
from torch import Tensor

from tasks.activations.spool import blocks
from tasks.models.counting_summariser import caption_background
from tasks.models.target import TargetModel
from tasks.observation import Toolbox
from tasks.observe import IMAGES_AT_ONCE, Images
from tasks.profiles.build import Roles
from tasks.roles import Captioner
from tasks.schema import Task


def make_toolbox(
    roles: Roles,
    task: Task,
    concepts: tuple[str, ...],
    seed: int,
    background: Callable[[], Mapping[str, float]],
    *,
    asked: Container[str],
    target: TargetModel | None = None,
) -> Toolbox:
    """What methods may use besides the observation.

    Args:
        roles: The profile's models and data.
        task: Its layer is the one that ``activate`` reads.
        concepts: The task's concept set.
        seed: The run's seed.
        background: Word → share of the clean images whose caption holds it; see ``background_words``.
        target: The network; None for the task's as the profile has it.
        asked: Names of the roles that the methods ask; others are left out and not built.
    """
    network = roles.target(task.model) if target is None else target

    def activate(images: UInt8[Tensor, "k 3 h w"]) -> Float[Tensor, "k units"]:
        return network.read(images, {task.layer: task.pooling})[task.layer].pooled

    def role(name: str) -> Any:
        return getattr(roles, name) if name in asked else None

    return Toolbox(
        seed=seed,
        activate=activate,
        concepts=concepts,
        clip=roles.clip,
        captioner=role("captioner"),
        summariser=role("summariser"),
        generator=roles.generator_for(roles.view(task.model)) if "generator" in asked else None,
        describer=role("describer"),
        foreground=lambda images: roles.segmenter.foreground(images),
        background=background,
    )


def background_words(captioner: Captioner | None, images: Images, count: int) -> dict[str, float]:
    """Word → share of the images whose caption holds it; empty without a captioner.

    Args:
        captioner: The profile's captioner.
        images: The clean images.
        count: How many there are.
    """
    if captioner is None:
        return {}
    parts = (captioner.caption(images(part)) for part in blocks(count, IMAGES_AT_ONCE))
    return caption_background([caption for part in parts for caption in part])
