"""Activations of one layer under one condition: the input of every labelling method."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from tasks.activations.maps import ChosenMaps, Maps
from tasks.roles import (
    Captioner,
    ImageGenerator,
    ImageTextEncoder,
    MeasurementStore,
    PictureDescriber,
    Proposer,
    Summariser,
)

LayerKind = Literal["spatial", "vector", "tokens"]

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Segmentation:
    """Concept annotation of a probing set, in Broden's shape.

    Attributes:
        labels: Concept names; the index is the concept's number. Number 0 is reserved for "nothing" and named "".
        categories: Category name → numbers of the concepts whose primary category it is.
        pixels: ``pixels(i)`` returns image i's annotation: category name → either an int array [h, w] of concept
            numbers (0 = nothing) or a list of image-level concept numbers, which count as every pixel of the image.
        size: (h, w) of the pixel annotations, e.g. (112, 112) for 224-px images.
    """

    labels: tuple[str, ...]
    categories: Mapping[str, tuple[int, ...]]
    pixels: Callable[[int], Mapping[str, Int[np.ndarray, "h w"] | list[int]]]
    size: tuple[int, int]


@dataclass(frozen=True)
class ConceptPresence:
    """Which annotated concepts the images of a probing set show, or the class of each.

    It is that of the unperturbed images under every condition but the background swap (``tasks.donors``).

    Attributes:
        concepts: Names of the columns of ``shown``; at least one.
        shown: bool [images, concepts].
    """

    concepts: tuple[str, ...]
    shown: Bool[np.ndarray, "images concepts"]

    def of(self, images: Sequence[int]) -> ConceptPresence:
        """The same of some of the images."""
        return ConceptPresence(self.concepts, self.shown[[*images]])


@dataclass(frozen=True)
class Observation:
    """Activations of one layer under one condition, over a probing set.

    Attributes:
        layer: Dotted name of the layer.
        kind: ``spatial`` (4-D output), ``tokens`` (3-D) or ``vector`` (2-D, e.g. a fully connected layer).
        condition: ``clean`` or a perturbation's name.
        severity: 0 for clean, else 1..5.
        repeat: Number of the repeat; repeats differ only in their seed.
        image_ids: One identifier per image, in probing order.
        activations: Pooled activations, float32, of the *complete* layer; of the latents of a dictionary
            ``tasks.activations.sparse.SparseColumns``, which answer like a tensor.
        maps: Un-pooled maps (float16 or float32) of the units to label, read in parts; absent for vector layers.
        clip_embeddings: Unit-norm CLIP image embeddings of the same (perturbed) images.
        images: ``images(indices)`` returns the same (perturbed) images as uint8 [k, 3, h, w]; request few at a time.
        segmentation: Concept annotation of the probing set, if it has one.
        presence: Which concepts the images show, if that is known.
    """

    layer: str
    kind: LayerKind
    condition: str
    severity: int
    repeat: int
    image_ids: tuple[str, ...]
    activations: Float[Tensor, "images units"]
    maps: Maps | None
    clip_embeddings: Float[Tensor, "images d"]
    images: Callable[[Sequence[int]], UInt8[Tensor, "k 3 h w"]]
    segmentation: Segmentation | None = None
    presence: ConceptPresence | None = None

    def of(self, images: Sequence[int]) -> Observation:
        """The same over some of the images, any of them repeatedly.

        Args:
            images: Their indices, in their new order.
        """
        rows, whole = [int(image) for image in images], self.segmentation
        return replace(
            self,
            image_ids=tuple(self.image_ids[row] for row in rows),
            activations=self.activations[rows],
            maps=self.maps and ChosenMaps(self.maps, rows),
            clip_embeddings=self.clip_embeddings[rows],
            images=lambda indices: self.images([rows[index] for index in indices]),
            segmentation=whole and replace(whole, pixels=lambda index: whole.pixels(rows[index])),
            presence=self.presence and self.presence.of(rows),
        )


@dataclass(frozen=True)
class Toolbox:
    """What a method may use besides the observation. Roles that the profile lacks are None.

    Attributes:
        seed: The run seed; draw through ``tasks.common.seeding`` with a full address.
        activate: ``activate(images)`` returns the pooled activations of the complete layer for any uint8 images
            [k, 3, h, w] → float32 [k, units].
        concepts: The concept set, in file order, already cleaned.
        foreground: Detects the foreground of any images, perturbed ones too; its model is loaded on the first call.
        background: Word → share of the clean probing images whose caption contains it (for counting summarisers).
        kept: Keeps what is measured of generated images for other runs; None keeps nothing.
    """

    seed: int
    activate: Callable[[UInt8[Tensor, "k 3 h w"]], Float[Tensor, "k units"]]
    concepts: tuple[str, ...] = ()
    clip: ImageTextEncoder | None = None
    captioner: Captioner | None = None
    summariser: Summariser | None = None
    generator: ImageGenerator | None = None
    describer: PictureDescriber | None = None
    proposer: Proposer | None = None
    foreground: Callable[[UInt8[Tensor, "k 3 h w"]], Bool[Tensor, "k h w"]] | None = None
    background: Callable[[], Mapping[str, float]] | None = None
    kept: MeasurementStore | None = None
    _memory: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def remembered(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """A value that a method caches with these tools, computed on first use.

        It lives as long as the toolbox, and other toolboxes never see it, not even copies made by
        ``dataclasses.replace``: what was measured with one network must not be reused for another.

        Args:
            key: Unique among all methods, e.g. the class of the cached value.
        """
        if key not in self._memory:
            self._memory[key] = make()
        return self._memory[key]
