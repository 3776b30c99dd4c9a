"""The images of a trace, reproduced from the run's images, its seeds and the generator, without its network."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from baselines.contexts import Context, Foreground, apply_context, context_seeds
from baselines.dnd.crops import crop_image
from baselines.drawing import reduce_images
from benchmark.trace.record import RunIdentity, Synthesis
from tasks.common.images import to_array
from tasks.donors import Donors
from tasks.observe import CLEAN, Condition, image_seeds, probe_of
from tasks.perturbations.settings import needs_background, needs_foreground
from tasks.probing.base import ProbingSet
from tasks.roles import ImageGenerator, Segmenter


class PicturedTrace(Protocol):
    """The required interface of a trace."""

    @property
    def synthesis(self) -> Synthesis:
        """How synthetic images were made."""
        ...

    def images(self) -> tuple[int, ...]:
        """The probing images in the trace, without duplicates."""
        ...


def without(probing: ProbingSet, left_out: Collection[str]) -> ProbingSet:
    """The images used under a condition, numbered as the method saw them."""
    if not left_out:
        return probing
    return probing.only([index for index, name in enumerate(probing.ids) if name not in left_out])


class Redrawn:
    """The images of a trace, reproduced.

    Args:
        condition: Condition of the probing images.
        identity: Gives the run's seed and perturbation settings.
        segmenter: Source of foreground masks; None for the probing set's own.
    """

    def __init__(
        self,
        trace: PicturedTrace,
        condition: Condition,
        identity: RunIdentity,
        probing: ProbingSet,
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

    def cut(self, image: int, box: tuple[int, int, int, int], crop_px: int) -> UInt8[np.ndarray, "size size 3"]:
        """A crop of the probing image."""
        return crop_image(self._originals[image], box, crop_px)

    def in_context(self, context: Context, foreground: Foreground | None) -> dict[int, UInt8[np.ndarray, "h w 3"]]:
        """The probing images in a probe of ``clear``, by index."""
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
    probing: ProbingSet,
    indices: Sequence[int],
    condition: Condition,
    identity: RunIdentity,
    segmenter: Segmenter | None,
) -> UInt8[Tensor, "n 3 h w"]:
    images = probing.load(indices)
    if condition == CLEAN or not indices:
        return images
    seeds = image_seeds(identity.seed, [probing.ids[i] for i in indices], condition)
    masks = behind = None
    if needs_foreground(condition.name):
        masks = probing.load_foreground(indices) if segmenter is None else segmenter.foreground(images)
    if needs_background(condition.name):
        probe = probe_of(probing, masked=True, segmenter=segmenter)
        behind = Donors(probe, condition.name, identity.seed).backgrounds(indices)
    return identity.perturbing().apply(images, condition.name, condition.severity, seeds, masks, behind)
