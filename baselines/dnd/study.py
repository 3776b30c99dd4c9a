"""What Describe-and-Dissect knows of one unit before it tests concepts, and the roles that it asks."""

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
    """What was seen and said of one unit before its concepts are tested.

    Attributes:
        top: Its top images, strongest first.
        pictures: The described pictures, strongest first.
        embeddings: Unit-norm CLIP embeddings of the described pictures.
        captions: One caption a picture; "" where a vision-language model saw the pictures themselves.
        simplified: The captions, shortened.
        replies: What the summaries said, one a summary; "" where one said nothing.
        candidates: The distinct concepts in those replies, in order.
    """

    unit: int
    top: tuple[int, ...]
    pictures: tuple[DescribedImage, ...]
    embeddings: Float[np.ndarray, "pictures d"]
    captions: tuple[str, ...]
    simplified: tuple[str, ...]
    replies: tuple[str, ...]
    candidates: tuple[str, ...]


@dataclass(frozen=True)
class Roles:
    """The roles that the method asks; all that it needs are there, and base rates where the summariser wants them."""

    tools: Toolbox
    background: Mapping[str, float] | None

    @classmethod
    def of(cls, tools: Toolbox, method: str, needs: Collection[str] = USUAL) -> Roles:
        """Take the roles out of a toolbox.

        Args:
            method: Who asks, for the message.
            needs: Names of the roles that it asks.

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
    """Where a random draw for one unit belongs."""
    return (observation.layer, unit, observation.condition, observation.severity, observation.repeat)


def embedding(
    picture: DescribedImage, observation: Observation, cut: Mapping[Place, Tensor]
) -> Float[np.ndarray, " d"]:
    """The CLIP embedding of a described picture: originals have theirs in the observation.

    Args:
        observation: Holds the originals' embeddings.
        cut: Crop → its embedding.
    """
    index, box = picture.place
    vector = observation.clip_embeddings[index] if box is None else cut[picture.place]
    return vector.float().cpu().numpy()
