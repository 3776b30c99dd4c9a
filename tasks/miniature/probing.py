"""The miniature's probing set: rendered scenes with exact masks and concept annotation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from tasks.activations.spool import Spool, blocks
from tasks.cache import Cache
from tasks.common.images import to_array
from tasks.miniature.render import Rendering, render
from tasks.miniature.scene import Scene, scene_at
from tasks.miniature.vocabulary import CATEGORIES, COLOURS, CONCEPTS, KINDS, PARTS, PATTERNS, SIZE, SPLITS
from tasks.observation import Segmentation
from tasks.probing.base import Facts, StoredSet
from tasks.probing.seen import source_sha256
from tasks.view import View

ANNOTATION_SIDE = 112
"""Side of the concept annotation: half the image, as in Broden."""

_CODE = tuple(
    f"miniature/{name}.py" for name in ("scene", "render", "shapes", "surfaces", "backgrounds", "vocabulary", "probing")
)
_NUMBER = {name: 1 + index for index, name in enumerate(CONCEPTS)}
_LAYERS = {"object": KINDS, "part": PARTS, "color": tuple(COLOURS), "texture": PATTERNS}
_TABLES = {
    category: np.array([0, *(_NUMBER[name] for name in names)], dtype=np.uint8) for category, names in _LAYERS.items()
}


@dataclass(frozen=True)
class _Drawn:
    """Some scenes as arrays.

    Attributes:
        layers: Concept numbers, one layer for each category of ``_LAYERS``.
    """

    images: UInt8[np.ndarray, "k 3 224 224"]
    foreground: Bool[np.ndarray, "k 224 224"]
    layers: UInt8[np.ndarray, "k 4 112 112"]


class MiniatureProbingSet:
    """The first ``count`` scenes of a split, rendered on first access and kept on disk (250 KB each).

    Args:
        split: Which scenes, see ``SPLITS``; with ``scene`` any name that says which.
        cache: Stores the digest, which needs all of them rendered, for other runs; None stores nothing.
        scene: Returns scene ``number``; None for those of the split.

    Attributes:
        name: ``scenes``.
        concepts: The names in ``CONCEPTS``.
        ids: ``SPLIT-NUMBER`` of each scene.
        presence: bool [n, concepts], the order of ``CONCEPTS``: which concepts a scene shows.
        segmentation: Concept annotation in Broden's shape, 112 × 112.
    """

    name = "scenes"
    concepts = CONCEPTS

    def __init__(
        self, split: str, count: int, cache: Cache | None = None, scene: Callable[[int], Scene] | None = None
    ) -> None:
        self._split = split
        self._cache = cache or Cache(None)
        self._scene = scene or partial(scene_at, split)
        self.ids = tuple(f"{split}-{number:06d}" for number in range(count))
        scenes = [self._scene(number) for number in range(count)]
        self.presence = np.array([[name in scene.concepts for name in CONCEPTS] for scene in scenes])
        self._backgrounds = [scene.background for scene in scenes]
        self.segmentation = Segmentation(
            labels=("", *CONCEPTS),
            categories={category: tuple(_NUMBER[name] for name in names) for category, names in CATEGORIES.items()},
            pixels=self._annotation,
            size=(ANNOTATION_SIDE, ANNOTATION_SIDE),
        )
        layers = (len(_LAYERS), ANNOTATION_SIDE, ANNOTATION_SIDE)
        self._images = Spool(count, (3, SIZE, SIZE), np.uint8, lambda chosen: self._drawn(chosen).images)
        self._masks = Spool(count, (SIZE, SIZE), np.bool_, lambda chosen: self._drawn(chosen).foreground)
        self._layers = Spool(count, layers, np.uint8, lambda chosen: self._drawn(chosen).layers)

    def __len__(self) -> int:
        return len(self.ids)

    def seen_by(self, view: View) -> StoredSet:
        """The scenes as a network sees them; see ``StoredSet.seen_by``."""
        return self._stored.seen_by(view)

    @property
    def _stored(self) -> StoredSet:
        return StoredSet(
            name=self.name,
            ids=self.ids,
            digest=self.digest,
            size=(SIZE, SIZE),
            facts=Facts(available=SPLITS["probe"], skipped=(), duplicates=(), ignored=0, licence="MIT"),
            read=lambda index: to_array(self.load([index]))[0],
            concepts=self.concepts,
            presence=self.presence,
            segmentation=self.segmentation,
            mask=lambda index: self.load_foreground([index])[0].numpy(),
        )

    def only(self, kept: Sequence[int]) -> StoredSet:
        """Some of the scenes; see ``StoredSet.only``."""
        return self._stored.only(kept)

    def load(self, indices: Sequence[int]) -> UInt8[Tensor, "k 3 224 224"]:
        """Some of the images."""
        return torch.from_numpy(self._images.read(indices))

    def load_foreground(self, indices: Sequence[int]) -> Bool[Tensor, "k 224 224"]:
        """The exact foreground masks of some of the images."""
        return torch.from_numpy(self._masks.read(indices))

    @property
    def images(self) -> UInt8[Tensor, "n 3 224 224"]:
        """All images at once, for small sets: a run reads them in parts, with ``load``."""
        return self.load(range(len(self)))

    @property
    def foreground(self) -> Bool[Tensor, "n 224 224"]:
        """All foreground masks at once, for small sets."""
        return self.load_foreground(range(len(self)))

    @property
    def digest(self) -> str:
        """SHA-256 over the pixels of all images, then over all masks; if cached, nothing is rendered."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        identity = {
            "what": "digest of miniature scenes",
            "split": self._split,
            "count": len(self),
            "code": source_sha256(*_CODE),
            "packages": {"numpy": np.__version__, "opencv": cv2.__version__},
        }
        return self._cache.answer(identity, self._pixels_sha256)

    def _pixels_sha256(self) -> str:
        digest = hashlib.sha256()
        for part in blocks(len(self)):
            digest.update(self._images.read(part).data)
        for part in blocks(len(self)):
            digest.update(self._masks.read(part).data)
        return digest.hexdigest()

    def _drawn(self, chosen: Sequence[int]) -> _Drawn:
        """Render scenes, and store all of their arrays, whichever was requested."""
        drawn = self._draw(chosen)
        for place, number in enumerate(chosen):
            one = slice(place, place + 1)
            self._images.keep(number, drawn.images[one])
            self._masks.keep(number, drawn.foreground[one])
            self._layers.keep(number, drawn.layers[one])
        return drawn

    def _draw(self, chosen: Sequence[int]) -> _Drawn:
        with ThreadPoolExecutor(2) as threads:
            drawn = list(threads.map(lambda number: render(self._scene(number)), chosen))
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
