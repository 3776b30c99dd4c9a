"""The roles that a profile fills: small interfaces, so that a method never knows which model implements one.

Images are always uint8 tensors of shape [n, 3, h, w] in [0, 255], in the view of the network under study; each role
scales and normalises them on its own, and never crops, or it would see less than the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, UInt8
from torch import Tensor


@runtime_checkable
class ImageTextEncoder(Protocol):
    """A CLIP-like model; all embeddings have unit L2 norm."""

    def encode_images(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Embed images."""
        ...

    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Embed strings without a template; text beyond the token limit is truncated."""
        ...

    def over_limit(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
        """Which texts ``encode_text`` truncates."""
        ...


@runtime_checkable
class SentenceEncoder(Protocol):
    """A sentence encoder; embeddings have unit L2 norm."""

    def encode(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """Embed sentences; text beyond the token limit is truncated."""
        ...

    def over_limit(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
        """Which texts ``encode`` truncates."""
        ...


@runtime_checkable
class Captioner(Protocol):
    """Writes one caption per image."""

    def caption(self, images: UInt8[Tensor, "n 3 h w"]) -> list[str]:
        """Caption images deterministically."""
        ...


@runtime_checkable
class Summariser(Protocol):
    """Turns captions into a concept of one to five words (a language model, or word counts)."""

    uses_background: bool
    """Whether ``summarise`` uses ``background``: the share of all probing images whose caption contains a word."""
    cleans_replies: bool
    """Whether ``summarise`` returns a finished concept; otherwise a method cuts its reply at colons and commas."""

    def simplify(self, caption: str, seed: int) -> str:
        """Shorten one caption, dropping unnecessary detail."""
        ...

    def summarise(self, captions: Sequence[str], seed: int, background: Mapping[str, float] | None = None) -> str:
        """Name what most captions have in common; depends on the seed. An empty string means no name."""
        ...


@runtime_checkable
class PictureDescriber(Protocol):
    """A vision-language model that sees several images at once and names what they have in common.

    One that also looks at ``contrast`` says so by ``uses_contrast = True``; without that attribute it is shown none.
    """

    def describe(
        self,
        pictures: Sequence[UInt8[Tensor, "3 h w"]],
        seed: int,
        contrast: Sequence[UInt8[Tensor, "3 h w"]] = (),
    ) -> str:
        """A concept of one to five words, or an empty string; depends on the seed.

        Args:
            pictures: They share the concept.
            contrast: Similar images that do not show it.
        """
        ...


@runtime_checkable
class Proposer(Protocol):
    """Proposes the next concept of a closed loop that looks for what activates a unit."""

    def propose(self, history: Sequence[tuple[str, float]], seed: int) -> str:
        """A concept of one to five words, or an empty string; depends on the seed.

        Args:
            history: Concepts that were tried, and how strongly images of each activate the unit; higher is better.
                Empty at the start.
        """
        ...


@runtime_checkable
class ImageGenerator(Protocol):
    """Generates images of a concept."""

    def generate(
        self, concept: str, count: int, seed: int, template: str = "{concept}", first: int = 0
    ) -> UInt8[Tensor, "count 3 h w"]:
        """Generate images ``first`` to ``first + count - 1`` of a concept.

        Args:
            seed: Image i depends on (concept, template, seed, i) alone: the first two images of ten are the same as two
                images of two, so that more can be drawn later.
            template: The prompt around the concept, for generators that read prompts.
            first: Number of the first image, from 0.
        """
        ...


class MeasurementStore(Protocol):
    """Keeps what was measured of generated images for other runs, as bytes by the SHA-256 of what was asked."""

    def find(self, items: Sequence[bytes]) -> dict[bytes, bytes]:
        """What is stored, by item; what is missing is left out."""
        ...

    def keep(self, values: Mapping[bytes, bytes]) -> None:
        """Store by item."""
        ...

    def noted(self, concept: str) -> object:
        """Told each concept whose images need not be drawn."""
        ...


@runtime_checkable
class Segmenter(Protocol):
    """Detects the foreground."""

    def foreground(self, images: UInt8[Tensor, "n 3 h w"]) -> Bool[Tensor, "n h w"]:
        """True where a pixel belongs to the foreground."""
        ...
