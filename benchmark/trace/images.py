"""The images of a trace, reproduced from the run's images, its seeds and the generator, without its network."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Bool, UInt8
from torch import Tensor

from baselines.contexts import Context, Foreground, apply_context, context_seeds
from baselines.dnd.crops import crop_image
from baselines.drawing import reduce_images
from benchmark.trace.record import RunIdentity, Synthesis
from tasks.common.images import to_array
from tasks.observe import CLEAN, Condition, image_seeds
from tasks.perturbations.settings import needs_foreground
from tasks.roles import ImageGenerator, Segmenter


class ProbingImages(Protocol):
    """The required interface of a probing set."""

    @property
    def ids(self) -> tuple[str, ...]:
        """One identifier per image."""
        ...

    def load(self, indices: Sequence[int]) -> UInt8[Tensor, "k 3 h w"]:
        """Some of the images."""
        ...

    def load_foreground(self, indices: Sequence[int]) -> Bool[Tensor, "k h w"] | None:
        """Their masks; None if there are none."""
        ...


class PicturedTrace(Protocol):
    """The required interface of a trace."""

    @property
    def crop_px(self) -> int:
        """Edge of the resized image that boxes refer to."""
        ...

    @property
    def synthesis(self) -> Synthesis:
        """How synthetic images were made."""
        ...

    def images(self) -> tuple[int, ...]:
        """The probing images in the trace, without duplicates."""
        ...


@dataclass(frozen=True)
class _Kept:
    """Some images of a set, renumbered."""

    whole: ProbingImages
    places: tuple[int, ...]
    ids: tuple[str, ...]

    def load(self, indices: Sequence[int]) -> UInt8[Tensor, "k 3 h w"]:
        return self.whole.load([self.places[index] for index in indices])

    def load_foreground(self, indices: Sequence[int]) -> Bool[Tensor, "k h w"] | None:
        return self.whole.load_foreground([self.places[index] for index in indices])


def without(probing: ProbingImages, left_out: Collection[str]) -> ProbingImages:
    """The images used under a condition, numbered as the method saw them."""
    if not left_out:
        return probing
    kept = tuple(index for index, name in enumerate(probing.ids) if name not in left_out)
    return _Kept(probing, kept, tuple(probing.ids[index] for index in kept))


class Redrawn:
    """The images of a trace, reproduced.

    Args:
        condition: Condition of the probing images.
        identity: Gives the run's seed and perturbation settings.
        probing: The run's probing set.
        generator: Generates the synthetic images.
        segmenter: Source of foreground masks; None for the probing set's own.
    """

    def __init__(
        self,
        trace: PicturedTrace,
        condition: Condition,
        identity: RunIdentity,
        probing: ProbingImages,
        generator: ImageGenerator,
        segmenter: Segmenter | None = None,
    ) -> None:
        self.ids: Sequence[str] = probing.ids
        self._trace = trace
        self._generator = generator
        self._drawn: dict[tuple[str, int], UInt8[Tensor, "count 3 h w"]] = {}
        self._seed = identity.seed
        self._shown = list(trace.images())
        self._pixels = _perturbed(probing, self._shown, condition, identity, segmenter)
        self._originals = dict(zip(self._shown, to_array(self._pixels), strict=True))

    def original(self, image: int) -> UInt8[np.ndarray, "h w 3"]:
        """A probing image under the trace's condition."""
        return self._originals[image]

    def cut(self, image: int, box: tuple[int, int, int, int]) -> UInt8[np.ndarray, "size size 3"]:
        """A crop of the probing image."""
        return self.cut_from(self._originals[image], box)

    def cut_from(
        self, pixels: UInt8[np.ndarray, "h w 3"], box: tuple[int, int, int, int]
    ) -> UInt8[np.ndarray, "size size 3"]:
        """A crop of any image."""
        return crop_image(pixels, box, self._trace.crop_px)

    def in_context(self, context: Context, foreground: Foreground | None) -> dict[int, UInt8[np.ndarray, "h w 3"]]:
        """The probing images in a context of ``clear``, by index."""
        seeds = context_seeds(self._seed, context, [self.ids[image] for image in self._shown])
        seen = apply_context(self._pixels, context, seeds, foreground)
        return dict(zip(self._shown, to_array(seen), strict=True))

    def synthetic(self, concept: str, seed: int, reduced: bool = True) -> UInt8[np.ndarray, "count h w 3"]:
        """The synthetic images of a concept: reduced, as the unit saw them, or full size, as the captioner did."""
        how = self._trace.synthesis
        if (concept, seed) not in self._drawn:
            self._drawn[concept, seed] = self._generator.generate(concept, how.count, seed, how.template).cpu()
        drawn = self._drawn[concept, seed]
        return to_array(reduce_images(drawn, how.synth_px) if reduced and how.synth_px is not None else drawn)


def _perturbed(
    probing: ProbingImages,
    indices: Sequence[int],
    condition: Condition,
    identity: RunIdentity,
    segmenter: Segmenter | None,
) -> UInt8[Tensor, "n 3 h w"]:
    images = probing.load(indices)
    if condition == CLEAN or not indices:
        return images
    seeds = image_seeds(identity.seed, [probing.ids[i] for i in indices], condition)
    masks = None
    if needs_foreground(condition.name):
        masks = probing.load_foreground(indices) if segmenter is None else segmenter.foreground(images)
    return identity.perturbing().apply(images, condition.name, condition.severity, seeds, masks)
