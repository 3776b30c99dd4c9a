"""Describe-and-Dissect's state of one unit before concepts are tested, and the roles that the method needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from baselines.dnd.describe import DescribedImage, Place
from tasks.common.errors import UserError
from tasks.observation import Observation, Toolbox
from tasks.roles import Captioner, ImageTextEncoder, PictureDescriber, Summariser

USUAL = ("captioner", "summariser", "generator", "clip")
"""The roles of the method as published."""

Role = TypeVar("Role")


@dataclass(frozen=True)
class Study:
    """Images, captions and candidate concepts of one unit before scoring.

    Attributes:
        top: Top images, most activating first.
        pictures: Described images and crops, most activating first.
        embeddings: Unit-norm CLIP embeddings of the described images.
        captions: One per described image; "" if a vision-language model saw the images themselves.
        simplified: The captions, shortened.
        replies: One reply per summary; "" if it was empty.
        candidates: The distinct concepts in those replies, in order.
        look_alikes: The images shown as contrast, one per described image; empty if there are none, None if the
            describer was not to be shown any.
    """

    unit: int
    top: tuple[int, ...]
    pictures: tuple[DescribedImage, ...]
    embeddings: Float[np.ndarray, "pictures d"]
    captions: tuple[str, ...]
    simplified: tuple[str, ...]
    replies: tuple[str, ...]
    candidates: tuple[str, ...]
    look_alikes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Roles:
    """The roles that the method needs, all present, and base rates if the summariser uses them."""

    tools: Toolbox
    background: Mapping[str, float] | None

    @classmethod
    def of(cls, tools: Toolbox, method: str, needs: Collection[str] = USUAL) -> Roles:
        """Take the roles from a toolbox.

        Args:
            method: The method's name, for the message.
            needs: Names of the needed roles.

        Raises:
            UserError: The profile lacks a role.
        """
        missing = " and a ".join(role for role in needs if getattr(tools, role) is None)
        if missing:
            raise UserError(
                f"Method {method!r} needs a {missing}, which this profile does not have; "
                "choose a profile that has it, or leave the method out."
            )
        summariser = tools.summariser if "summariser" in needs else None
        counts = summariser is not None and summariser.uses_background and tools.background is not None
        return cls(tools, tools.background() if counts and tools.background else None)

    @property
    def clip(self) -> ImageTextEncoder:
        """The image-text encoder."""
        return _present(self.tools.clip, "clip")

    @property
    def captioner(self) -> Captioner:
        """The captioner."""
        return _present(self.tools.captioner, "captioner")

    @property
    def summariser(self) -> Summariser:
        """The summariser."""
        return _present(self.tools.summariser, "summariser")

    @property
    def describer(self) -> PictureDescriber:
        """The vision-language model."""
        return _present(self.tools.describer, "describer")


def _present(role: Role | None, name: str) -> Role:
    if role is None:
        raise ValueError(f"The toolbox has no {name}.")
    return role


def address(observation: Observation, unit: int) -> tuple[str | int, ...]:
    """The seed address of a random draw for one unit."""
    return (observation.layer, unit, observation.condition, observation.severity, observation.repeat)


def embedding(
    picture: DescribedImage, observation: Observation, cut: Mapping[Place, Tensor]
) -> Float[np.ndarray, " d"]:
    """The CLIP embedding of a described image; those of originals are in the observation.

    Args:
        observation: Provides the originals' embeddings.
        cut: Crop → its embedding.
    """
    index, box = picture.place
    vector = observation.clip_embeddings[index] if box is None else cut[picture.place]
    return vector.float().cpu().numpy()
