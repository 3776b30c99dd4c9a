"""Generated images as a network sees them."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import UInt8
from torch import Tensor

from tasks.roles import ImageGenerator
from tasks.view import View


@dataclass(frozen=True)
class SeenGenerator:
    """What another generator draws, prepared once for the network that looks at it.

    Attributes:
        generator: Draws images of any size.
    """

    generator: ImageGenerator
    view: View

    def generate(
        self, concept: str, count: int, seed: int, template: str = "{concept}"
    ) -> UInt8[Tensor, "count 3 side side"]:
        """Draw images; see ``tasks.roles.ImageGenerator``."""
        return self.view(self.generator.generate(concept, count, seed, template).cpu())
