"""The miniature's probing set: rendered scenes with exact masks and concept annotation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from tasks.miniature.render import Rendering, render
from tasks.miniature.scene import scene_at
from tasks.miniature.vocabulary import CATEGORIES, COLOURS, CONCEPTS, KINDS, PARTS, PATTERNS, SIZE
from tasks.observation import Segmentation
from tasks.spool import Spool, blocks

ANNOTATION_SIDE = 112
"""Side of the concept annotation: half the image, as in Broden."""

_NUMBER = {name: 1 + index for index, name in enumerate(CONCEPTS)}
_LAYERS = {"object": KINDS, "part": PARTS, "color": tuple(COLOURS), "texture": PATTERNS}
_TABLES = {
    category: np.array([0, *(_NUMBER[name] for name in names)], dtype=np.uint8) for category, names in _LAYERS.items()
}


@dataclass(frozen=True)
class _Drawn:
    """Some scenes as arrays.

    Attributes:
        images: The pictures.
        foreground: Their masks.
        layers: Concept numbers, one layer for each category of ``_LAYERS``.
    """

    images: UInt8[np.ndarray, "k 3 224 224"]
    foreground: Bool[np.ndarray, "k 224 224"]
    layers: UInt8[np.ndarray, "k 4 112 112"]


class MiniatureProbingSet:
    """The first ``count`` scenes of a split, drawn once and kept on disk, see ``tasks.spool``: 250 KB each.

    Attributes:
        name: ``scenes``.
        concepts: The names in ``CONCEPTS``.
        ids: ``SPLIT-NUMBER`` of each scene.
        presence: bool [n, concepts], the order of ``CONCEPTS``: which concepts a scene shows.
        segmentation: Concept annotation in Broden's shape, 112 × 112.
        digest: SHA-256 over the pixels of all images, then over all masks.
    """

    name = "scenes"
    concepts = CONCEPTS

    def __init__(self, split: str, count: int) -> None:
        self._split = split
        self.ids = tuple(f"{split}-{number:06d}" for number in range(count))
        scenes = [scene_at(split, number) for number in range(count)]
        self.presence = np.array([[name in scene.concepts for name in CONCEPTS] for scene in scenes])
        self._backgrounds = [scene.background for scene in scenes]
        self.segmentation = Segmentation(
            labels=("", *CONCEPTS),
            categories={category: tuple(_NUMBER[name] for name in names) for category, names in CATEGORIES.items()},
            pixels=self._annotation,
            size=(ANNOTATION_SIDE, ANNOTATION_SIDE),
        )
        layers = (len(_LAYERS), ANNOTATION_SIDE, ANNOTATION_SIDE)
        self._images = Spool(count, (3, SIZE, SIZE), np.uint8, lambda chosen: self._draw(chosen).images)
        self._masks = Spool(count, (SIZE, SIZE), np.bool_, lambda chosen: self._draw(chosen).foreground)
        self._layers = Spool(count, layers, np.uint8, lambda chosen: self._draw(chosen).layers)
        self.digest = self._fill()

    def __len__(self) -> int:
        return len(self.ids)

    def load(self, indices: Sequence[int]) -> UInt8[Tensor, "k 3 224 224"]:
        """Some of the images."""
        return torch.from_numpy(self._images.read(indices))

    def load_foreground(self, indices: Sequence[int]) -> Bool[Tensor, "k 224 224"]:
        """The foreground of some of the images; exact."""
        return torch.from_numpy(self._masks.read(indices))

    @property
    def images(self) -> UInt8[Tensor, "n 3 224 224"]:
        """All images at once, for small sets: a run takes them in parts, by ``load``."""
        return self.load(range(len(self)))

    @property
    def foreground(self) -> Bool[Tensor, "n 224 224"]:
        """All foreground masks at once, for small sets."""
        return self.load_foreground(range(len(self)))

    def _fill(self) -> str:
        """Draw every scene once; the digest."""
        digest = hashlib.sha256()
        for part in blocks(len(self)):
            drawn = self._draw(part)
            digest.update(drawn.images.data)
            self._images.keep(part.start, drawn.images)
            self._masks.keep(part.start, drawn.foreground)
            self._layers.keep(part.start, drawn.layers)
        for part in blocks(len(self)):
            digest.update(self._masks.read(part).data)
        return digest.hexdigest()

    def _draw(self, chosen: Sequence[int]) -> _Drawn:
        with ThreadPoolExecutor(2) as threads:
            drawn = list(threads.map(lambda number: render(scene_at(self._split, number)), chosen))
        return _Drawn(
            np.ascontiguousarray(np.stack([item.image for item in drawn]).transpose(0, 3, 1, 2)),
            np.stack([item.foreground for item in drawn]),
            np.stack([_layers(item) for item in drawn]),
        )

    def _annotation(self, index: int) -> Mapping[str, Int[np.ndarray, "h w"] | list[int]]:
        layers = self._layers.read([index])[0].astype(np.int64)
        return {**dict(zip(_LAYERS, layers, strict=True)), "scene": [_NUMBER[self._backgrounds[index]]]}


def _layers(drawn: Rendering) -> UInt8[np.ndarray, "4 112 112"]:
    centres = slice(1, None, 2)
    maps = {"object": drawn.kind, "part": drawn.part, "color": drawn.colour, "texture": drawn.pattern}
    return np.stack([_TABLES[category][maps[category][centres, centres]] for category in _LAYERS])
