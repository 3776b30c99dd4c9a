"""The contexts in which a unit's images are observed again: perturbed versions of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Bool, UInt8
from torch import Tensor

from tasks.common.errors import UserError
from tasks.common.seeding import integer_seed
from tasks.observation import Observation, Toolbox
from tasks.perturbations import perturb
from tasks.perturbations.registry import perturbation
from tasks.perturbations.settings import needs_foreground

Foreground = Callable[[UInt8[Tensor, "k 3 h w"]], Bool[Tensor, "k h w"]]


@dataclass(frozen=True)
class Context:
    """One view of the images: as given, or perturbed.

    Attributes:
        name: A perturbation, or ``as_given``.
        severity: 1 to 5; 0 for ``as_given``.
    """

    name: str
    severity: int

    def __str__(self) -> str:
        return self.name if self.severity == 0 else f"{self.name}:{self.severity}"


SEEN = Context("as_given", 0)
"""The images as the method receives them; under a perturbed condition these are already perturbed."""


def parse_contexts(listed: str | None) -> tuple[Context, ...]:
    """Parse contexts such as ``foreground_blur:3``; the images as given always come first.

    Args:
        listed: Comma-separated; empty or None for no further contexts.

    Raises:
        UserError: Unknown perturbation, severity not from 1 to 5, or a duplicate context.
    """
    found = [SEEN]
    for text in filter(None, (part.strip() for part in (listed or "").split(","))):
        name, _, severity = text.partition(":")
        if text in ("clean", "as_given"):
            continue
        if severity not in ("1", "2", "3", "4", "5"):
            raise UserError(f"The context {text!r} needs a severity from 1 to 5, as in gaussian_blur:3.")
        found.append(Context(perturbation(name).name, int(severity)))
    if len(set(found)) < len(found):
        raise UserError(f"A context is named twice in {', '.join(map(str, found))}; name each once.")
    return tuple(found)


def context_seeds(seed: int, context: Context, ids: Sequence[str]) -> list[int]:
    """One seed per image, for random contexts, derived from the run's seed, the context and the image."""
    return [integer_seed(seed, "clear", str(context), name) for name in ids]


def apply_context(
    images: UInt8[Tensor, "k 3 h w"], context: Context, seeds: Sequence[int], foreground: Foreground | None
) -> UInt8[Tensor, "k 3 h w"]:
    """Render images in a context.

    The foreground is detected in the images themselves, perturbed or not: the method knows no more than the images it
    is given. An image without detected foreground, or without background, is left unchanged.

    Args:
        seeds: One per image, for random contexts.
        foreground: Detects the foreground; needed by contexts that change one part of the image.

    Raises:
        UserError: The context needs the foreground and no segmenter is available.
    """
    if context == SEEN or len(images) == 0:
        return images
    masks = None
    if needs_foreground(context.name):
        if foreground is None:
            raise UserError(f"The context {context} needs a segmenter, which the toolbox does not have.")
        masks = foreground(images)
    return perturb(images, context.name, context.severity, seeds, masks)


class Viewer:
    """Shows an observation's images in contexts; activations, maps and embeddings remain those of the images as given.

    Several contexts change the foreground or the background of the same images: their foreground is detected only once.

    Args:
        observation: The images as given.
        tools: Provides the seed and the segmenter.
    """

    def __init__(self, observation: Observation, tools: Toolbox) -> None:
        self.observation = observation
        self._tools = tools
        self._found: dict[tuple[int, ...], Bool[Tensor, "k h w"]] = {}

    def __call__(self, context: Context) -> Observation:
        """The same observation with its images in a context, computed on demand."""
        if context == SEEN:
            return self.observation

        def images(indices: Sequence[int]) -> UInt8[Tensor, "k 3 h w"]:
            seeds = context_seeds(self._tools.seed, context, [self.observation.image_ids[index] for index in indices])
            find = None if self._tools.foreground is None else lambda shown: self._foreground(tuple(indices), shown)
            return apply_context(self.observation.images(indices).cpu(), context, seeds, find)

        return replace(self.observation, condition=f"{self.observation.condition}+{context}", images=images)

    def _foreground(self, indices: tuple[int, ...], shown: UInt8[Tensor, "k 3 h w"]) -> Bool[Tensor, "k h w"]:
        # On all images of a batch, not one by one: a network's last bits may depend on the rest of the batch.
        if indices not in self._found and self._tools.foreground is not None:
            self._found[indices] = self._tools.foreground(shown).cpu()
        return self._found[indices]
