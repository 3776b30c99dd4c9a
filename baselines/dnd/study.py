"""What Describe-and-Dissect knows of one unit before it tests concepts, and the roles that it asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from baselines.dnd.describe import DescribedImage, Place
from tasks.errors import UserError
from tasks.observation import Observation, Toolbox
from tasks.roles import Captioner, ImageTextEncoder, Summariser


@dataclass(frozen=True)
class Study:
    """What was seen and said of one unit before its concepts are tested.

    Attributes:
        unit: The unit.
        top: Its top images, strongest first.
        pictures: The described pictures, strongest first.
        embeddings: Unit-norm CLIP embeddings of the described pictures.
        captions: One caption a picture.
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
    """The roles that the method asks, all present, and the summariser's base rates where it wants them."""

    captioner: Captioner
    summariser: Summariser
    clip: ImageTextEncoder
    background: Mapping[str, float] | None

    @classmethod
    def of(cls, tools: Toolbox, method: str) -> Roles:
        """Take the roles out of a toolbox.

        Args:
            tools: The toolbox.
            method: Who asks, for the message.

        Raises:
            UserError: The profile lacks a role.
        """
        captioner, summariser, clip = tools.captioner, tools.summariser, tools.clip
        if captioner is None or summariser is None or clip is None or tools.generator is None:
            wanted = ("captioner", "summariser", "generator", "clip")
            missing = " and a ".join(role for role in wanted if getattr(tools, role) is None)
            raise UserError(
                f"Method {method!r} needs a {missing}, which this profile does not have; "
                "choose a profile that has it, or leave the method out."
            )
        counts = summariser.uses_background and tools.background is not None
        return cls(captioner, summariser, clip, tools.background() if counts and tools.background else None)


def address(observation: Observation, unit: int) -> tuple[str | int, ...]:
    """Where a random draw for one unit belongs."""
    return (observation.layer, unit, observation.condition, observation.severity, observation.repeat)


def embedding(
    picture: DescribedImage, observation: Observation, cut: Mapping[Place, Tensor]
) -> Float[np.ndarray, " d"]:
    """The CLIP embedding of a described picture: originals have theirs in the observation.

    Args:
        picture: The picture.
        observation: Holds the originals' embeddings.
        cut: Crop → its embedding.
    """
    index, box = picture.place
    vector = observation.clip_embeddings[index] if box is None else cut[picture.place]
    return vector.float().cpu().numpy()
