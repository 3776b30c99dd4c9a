"""Generated images in a network's view."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import UInt8
from torch import Tensor

from tasks.roles import ImageGenerator
from tasks.view import View


@dataclass(frozen=True)
class SeenGenerator:
    """Images of another generator, preprocessed once for the target network.

    Attributes:
        generator: Generates images of any size.
    """

    generator: ImageGenerator
    view: View

    def generate(
        self, concept: str, count: int, seed: int, template: str = "{concept}", first: int = 0
    ) -> UInt8[Tensor, "count 3 side side"]:
        """Generate images; see ``tasks.roles.ImageGenerator``."""
        return self.view(self.generator.generate(concept, count, seed, template, first).cpu())
