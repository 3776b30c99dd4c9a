"""The interface of a probing set, and the implementation that reads its images from disk on demand."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from tasks.activations.spool import Spool
from tasks.observation import Segmentation
from tasks.view import VERSION as VIEW_VERSION
from tasks.view import View

Item = TypeVar("Item")
Result = TypeVar("Result")

_THREADS = min(4, os.cpu_count() or 1)


class ProbingSet(Protocol):
    """The images of a run, in the network's view, and what is known about them.

    Nothing depends on how a machine lists or sorts its files.
    """

    @property
    def name(self) -> str:
        """The kind of set."""
        ...

    @property
    def ids(self) -> tuple[str, ...]:
        """One identifier per image, sorted by code point."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of the content, in the order of ``ids``; part of a run's identity."""
        ...

    def load(self, indices: Sequence[int]) -> UInt8[Tensor, "k 3 h w"]:
        """Some of the images."""
        ...

    def load_foreground(self, indices: Sequence[int]) -> Bool[Tensor, "k h w"] | None:
        """The foreground masks of some of the images; None if the set has no masks."""
        ...

    def only(self, kept: Sequence[int]) -> ProbingSet:
        """Some of its images, by their numbers, ascending."""
        ...

    @property
    def images(self) -> UInt8[Tensor, "n 3 h w"]:
        """All images at once, for small sets: a run reads them in parts, with ``load``."""
        ...

    @property
    def foreground(self) -> Bool[Tensor, "n h w"] | None:
        """All foreground masks at once, for small sets; None if the set has none."""
        ...

    @property
    def concepts(self) -> tuple[str, ...]:
        """Names of the columns of ``presence``."""
        ...

    @property
    def presence(self) -> Bool[np.ndarray, "n concepts"]:
        """Which concepts an image shows; no columns if no concept is known."""
        ...

    @property
    def segmentation(self) -> Segmentation | None:
        """Concept annotation, if there is one."""
        ...

    @property
    def facts(self) -> Facts:
        """What was skipped, duplicated or ignored, and the licence."""
        ...


@dataclass(frozen=True)
class Facts:
    """What a reader should know about how a set was formed.

    Attributes:
        available: Number of images to choose from.
        skipped: (identifier, sentence) of the images that were examined and refused.
        duplicates: Groups of identifiers whose images are equal in every pixel; all of them are in the set.
        ignored: Number of entries of the folder that were not examined: hidden, not an image, a link to a parent
            folder.
    """

    available: int
    skipped: tuple[tuple[str, str], ...]
    duplicates: tuple[tuple[str, ...], ...]
    ignored: int
    licence: str


@dataclass(frozen=True, eq=False)
class StoredSet:
    """A probing set whose images stay on disk until they are needed.

    Attributes:
        name: The kind of set.
        ids: One identifier per image, sorted by code point.
        digest: SHA-256 over identifiers, pixels and annotation, see ``tasks.probing.scan``, and over the view.
        size: (h, w) of every image; None if they have several sizes, so that only a view can be loaded.
        facts: What was skipped, duplicated or ignored, and the licence.
        read: ``read(index)`` returns one image.
        concepts: Names of the columns of ``presence``.
        presence: Which concepts an image shows.
        class_names: Names of all classes of the set, if it has classes.
        classes: Index into ``class_names`` of each image.
        segmentation: Concept annotation in Broden's shape.
        mask: ``mask(index)`` returns one image's foreground mask.
    """

    name: str
    ids: tuple[str, ...]
    digest: str
    size: tuple[int, int] | None
    facts: Facts
    read: Callable[[int], UInt8[np.ndarray, "h w 3"]]
    concepts: tuple[str, ...]
    presence: Bool[np.ndarray, "n concepts"]
    class_names: tuple[str, ...] | None = None
    classes: Int[np.ndarray, " n"] | None = None
    segmentation: Segmentation | None = None
    mask: Callable[[int], Bool[np.ndarray, "h w"]] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def seen_by(self, view: View) -> StoredSet:
        """The same set in a network's view: images, masks and annotation.

        Presence remains that of the whole image, even if the view crops a concept at the border away.
        """
        mask, whole = self.mask, self.segmentation

        def pixels(index: int) -> Mapping[str, Int[np.ndarray, "h w"] | list[int]]:
            shown = whole.pixels(index) if whole else {}
            return {name: labels if isinstance(labels, list) else view.labels(labels) for name, labels in shown.items()}

        return replace(
            self,
            digest=hashlib.sha256(f"{self.digest} seen by {VIEW_VERSION} {view!r}".encode()).hexdigest(),
            size=(view.side, view.side),
            read=lambda index: view.picture(self.read(index)),
            mask=mask and (lambda index: view.mask(mask(index))),
            segmentation=whole and replace(whole, pixels=pixels, size=view.annotated(*whole.size)),
        )

    def only(self, kept: Sequence[int]) -> StoredSet:
        """Some of its images.

        Args:
            kept: Their numbers, ascending.
        """
        mask, whole, classes = self.mask, self.segmentation, self.classes
        return replace(
            self,
            ids=tuple(self.ids[index] for index in kept),
            digest=hashlib.sha256(f"{self.digest} only {[*kept]}".encode()).hexdigest(),
            read=lambda index: self.read(kept[index]),
            presence=self.presence[[*kept]],
            classes=None if classes is None else classes[[*kept]],
            segmentation=whole and replace(whole, pixels=lambda index: whole.pixels(kept[index])),
            mask=mask and (lambda index: mask(kept[index])),
        )

    def load(self, indices: Sequence[int]) -> UInt8[Tensor, "k 3 h w"]:
        """Some of the images. Each is decoded once and kept on disk: 150 KB each at 224 px.

        Raises:
            UserError: A file has become unreadable since the set was opened.
            ValueError: The images have several sizes.
        """
        return torch.from_numpy(self._pixels.read(indices))

    def load_foreground(self, indices: Sequence[int]) -> Bool[Tensor, "k h w"] | None:
        """The foreground masks of some of the images, cached like them; None if the set has no masks."""
        return None if self._masks is None else torch.from_numpy(self._masks.read(indices))

    @property
    def images(self) -> UInt8[Tensor, "n 3 h w"]:
        """All images at once, for small sets: a run reads them in parts, with ``load``."""
        return self.load(range(len(self)))

    @property
    def foreground(self) -> Bool[Tensor, "n h w"] | None:
        """All foreground masks at once, for small sets; None if the set has none."""
        return self.load_foreground(range(len(self)))

    @cached_property
    def _shape(self) -> tuple[int, int]:
        if self.size is None:
            raise ValueError(f"the images of {self.name} have several sizes; load them as a network sees them")
        return self.size

    @cached_property
    def _pixels(self) -> Spool:
        def decoded(indices: Sequence[int]) -> UInt8[np.ndarray, "k 3 h w"]:
            images = np.empty((len(indices), 3, *self._shape), np.uint8)
            for place, image in enumerate(in_threads(self.read, indices)):
                images[place] = image.transpose(2, 0, 1)
            return images

        return Spool(len(self), (3, *self._shape), np.uint8, decoded)

    @cached_property
    def _masks(self) -> Spool | None:
        mask = self.mask
        if mask is None:
            return None

        def masks(indices: Sequence[int]) -> Bool[np.ndarray, "k h w"]:
            found = np.empty((len(indices), *self._shape), np.bool_)
            for place, one in enumerate(in_threads(mask, indices)):
                found[place] = one
            return found

        return Spool(len(self), self._shape, np.bool_, masks)


def in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """``function`` of each item, in order; decoding releases the GIL, so threads help."""
    with ThreadPoolExecutor(_THREADS) as threads:
        yield from threads.map(function, items)
