"""The toolbox of labelling methods: made in one place, so that a run, its studies and its plan use the same."""

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
    """The tools that methods may use besides the observation.

    Args:
        task: Its layer is the one that ``activate`` reads.
        background: Word → share of the clean images whose caption contains it; see ``background_words``.
        target: The network; None for the task's network from the profile.
        asked: Names of the roles that the methods use; others are neither included nor built.
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
        proposer=roles.proposer if "summariser" in asked else None,
        foreground=lambda images: roles.segmenter.foreground(images),
        background=background,
        kept=roles.measured(task.model, task.layer, task.pooling) if "generator" in asked and target is None else None,
    )


def background_words(captioner: Captioner | None, images: Images, count: int) -> dict[str, float]:
    """Word → share of the images whose caption contains it; empty without a captioner.

    Args:
        count: Number of images.
    """
    if captioner is None:
        return {}
    parts = (captioner.caption(images(part)) for part in blocks(count, IMAGES_AT_ONCE))
    return caption_background([caption for part in parts for caption in part])
