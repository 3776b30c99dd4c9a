"""Broden (Bau et al., CVPR 2017, arXiv 1704.05796): images with per-pixel and image-level concept annotation.

``index.csv`` defines which files are images; the folder is never walked, because label maps are in the same place as
the photographs. A cell lists, separated by ``;``, label maps (PNG, label = R + 256·G) and image-level labels. Label
maps of one cell, such as the parts of parts, are separate layers: a pixel may have a label in each.

Foreground: a pixel whose object is not one of ``BACKGROUND``, or that has a part and no object of ``BACKGROUND``. So a
window annotated as a part of a wall is background, and one annotated as an object is foreground. Masks have the
annotation's resolution (half the image's), each value repeated. An image without annotated objects and parts (textures,
most photographs of materials) has an empty mask; conditions that need a foreground exclude it.

Presence is what is annotated: a concept also counts as absent from images in which its category was not annotated.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Int, UInt8

from tasks.cache import Cache
from tasks.cache.keys import canonical, text_sha256
from tasks.common.errors import UserError
from tasks.common.image_files import load_image
from tasks.observation import Segmentation
from tasks.probing.base import Facts, StoredSet
from tasks.probing.broden_labels import Vocabulary, read_vocabulary
from tasks.probing.folder import ALL, Choice
from tasks.probing.scan import Content, scan
from tasks.probing.schema import BRODEN_CATEGORIES, BrodenCategory, BrodenSize, broden_help
from tasks.probing.seen import Memory, Origin

BACKGROUND = frozenset(
    "beach bush ceiling cloud dirt_track earth field floor forest grass ground hill ice lake land mountain path "
    "pavement river road rock runway sand sea sidewalk sky snow soil track tree wall water".replace("_", " ").split()
)
"""Objects that surround others and have no shape of their own; buildings are foreground."""

Layers = Mapping[str, Int[np.ndarray, "h w"] | list[int]]


@dataclass(frozen=True)
class _Row:
    """One image of the index.

    Attributes:
        image: Path below ``images``; also the identifier.
        size: (h, w) of its label maps.
        maps: (Category, file below ``images``) of each label map.
        numbers: Category → image-level labels.
    """

    image: str
    size: tuple[int, int]
    maps: tuple[tuple[str, str], ...]
    numbers: Mapping[str, list[int]]


class _Reader:
    """Reads images and annotation of one folder."""

    def __init__(self, folder: Path, side: int, rows: Mapping[str, _Row], vocabulary: Vocabulary | None) -> None:
        self._images = folder / "images"
        self._side = side
        self._rows = rows
        self._vocabulary = vocabulary
        names = vocabulary.labels if vocabulary else ()
        self._is_background = np.array([name in BACKGROUND for name in names], np.bool_)

    def settings(self) -> dict[str, Any]:
        """Everything that affects how images are read, as JSON."""
        known = text_sha256(canonical(sorted(self._vocabulary.known))).hex() if self._vocabulary else None
        return {"reader": "broden", "side": self._side, "known_labels": known}

    def origin(self, name: str) -> Origin:
        """Everything that affects how one image is read: its files, and its row of the index."""
        row = self._rows[name]
        files = [self._images / file for file in (row.image, *(file for _, file in row.maps))]
        return Origin(files, [row.size, row.maps, dict(row.numbers)])

    def image(self, name: str) -> UInt8[np.ndarray, "h w 3"]:
        image = load_image(self._images / name)
        if image.shape[:2] != (self._side, self._side):
            raise UserError(
                f"{self._images / name} has {image.shape[1]} × {image.shape[0]} px, not {self._side} per side; set "
                "'size' to the one of the archive."
            )
        return image

    def layers(self, name: str) -> Layers:
        """Layer → label map or image-level labels; a category's further maps are ``CATEGORY 2`` and so on."""
        row = self._rows[name]
        found: dict[str, Int[np.ndarray, "h w"] | list[int]] = dict(row.numbers)
        for category, file in row.maps:
            layer, further = category, 1
            while layer in found:
                further += 1
                layer = f"{category} {further}"
            found[layer] = self._map(file, row.size)
        return found

    def content(self, name: str) -> Content:
        image = self.image(name)
        if self._vocabulary is None:
            return Content(image)
        layers = self.layers(name)
        arrays = tuple(np.asarray(layers[layer], np.int64) for layer in sorted(layers))
        shown = frozenset(int(number) for array in arrays for number in np.unique(array)) - {0}
        unknown = sorted(number for number in shown if number not in self._vocabulary.known)
        if unknown:
            raise UserError(f"The annotation of {self._images / name} has the label {unknown[0]}, which has no name.")
        # Names of layers are part of the content: the same map as objects and as parts is not the same annotation.
        keys = np.frombuffer("\n".join(sorted(layers)).encode(), np.uint8)
        return Content(image, (keys, *arrays), shown)

    def mask(self, name: str) -> Bool[np.ndarray, "h w"]:
        height, width = self._rows[name].size
        thing = np.zeros((height, width), np.bool_)
        surrounding, part = thing.copy(), thing.copy()
        for category, file in self._rows[name].maps:
            if category == "object":
                labels = self._map(file, (height, width))
                behind = self._is_background[labels]
                thing |= (labels > 0) & ~behind
                surrounding |= behind
            elif category == "part":
                part |= self._map(file, (height, width)) > 0
        small = thing | (part & ~surrounding)
        places = np.arange(self._side)
        return small[places[:, None] * height // self._side, places[None, :] * width // self._side]

    def _map(self, file: str, size: tuple[int, int]) -> Int[np.ndarray, "h w"]:
        codes = load_image(self._images / file).astype(np.int64)
        if codes.shape[:2] != size:
            raise UserError(
                f"The label map {self._images / file} has {codes.shape[1]} × {codes.shape[0]} px, but the index says "
                f"{size[1]} × {size[0]}."
            )
        return codes[..., 0] + 256 * codes[..., 1]


def open_broden(
    folder: Path,
    licence: str,
    choice: Choice = ALL,
    *,
    size: BrodenSize = 224,
    split: Literal["train", "val"] | None = None,
    categories: Sequence[BrodenCategory] = BRODEN_CATEGORIES,
    annotation: bool = True,
    cache: Cache | None = None,
) -> StoredSet:
    """Open Broden, or a folder in its format.

    Args:
        size: Pixels per side.
        split: Only images of this split; None takes all.
        categories: The categories to read.
        annotation: False reads the images alone, even if the label maps have been deleted.
        cache: Stores the results of scanning the images; None stores nothing.

    Returns:
        A set with segmentation, foreground and presence, unless ``annotation`` is False; no foreground if
        ``categories`` has neither objects nor parts. Label names are words: "red-c" is "red color", "street-s" is
        "street".

    Raises:
        UserError: The folder is missing, not in Broden's format or without its label maps, or too many images are
            unusable.
    """
    if not (folder / "index.csv").is_file():
        raise UserError(f"There is no Broden in {folder} (no index.csv). {broden_help(size)}")
    rows = _read_index(folder / "index.csv", split, categories if annotation else ())
    vocabulary = read_vocabulary(folder, categories) if annotation else None
    if vocabulary is not None:
        _check_maps(folder, rows, size)
    reader = _Reader(folder, size, rows, vocabulary)
    scanned = scan(
        sorted(rows),
        reader.content,
        where=str(folder),
        count=choice.count,
        seed=choice.seed,
        max_skipped=choice.max_skipped,
        memory=Memory(cache, reader.settings(), reader.origin),
        vocabulary=(vocabulary.labels, tuple(vocabulary.categories.items())) if vocabulary else (),
    )
    facts = Facts(len(rows), scanned.skipped, scanned.duplicates, 0, licence)
    labels = vocabulary.labels[1:] if vocabulary else ()
    presence = np.zeros((len(scanned.ids), len(labels)), np.bool_)
    for index, shown in enumerate(scanned.concepts):
        presence[index, [number - 1 for number in shown]] = True

    masked = "object" in categories or "part" in categories
    segmentation = None
    if vocabulary is not None:
        segmentation = Segmentation(
            labels=vocabulary.labels,
            categories=vocabulary.categories,
            pixels=lambda index: reader.layers(scanned.ids[index]),
            size=rows[scanned.ids[0]].size,
        )
    return StoredSet(
        name="broden",
        ids=scanned.ids,
        digest=scanned.digest,
        size=scanned.size,
        facts=facts,
        read=lambda index: reader.image(scanned.ids[index]),
        concepts=labels,
        presence=presence,
        segmentation=segmentation,
        mask=(lambda index: reader.mask(scanned.ids[index])) if vocabulary and masked else None,
    )


def _read_index(path: Path, split: str | None, wanted: Sequence[str]) -> dict[str, _Row]:
    """Image → row, of the requested split, with the requested categories."""
    rows: dict[str, _Row] = {}
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            table = csv.DictReader(stream)
            absent = {"image", "split", "sh", "sw", *wanted} - set(table.fieldnames or ())
            if absent:
                raise UserError(
                    f"{path} has no column {sorted(absent)[0]!r}; remove it from 'categories' or restore it."
                )
            for cells in table:
                if split is not None and cells["split"] != split:
                    continue
                row = _row(cells, wanted)
                if row.image in rows:
                    raise UserError(f"{path} lists {row.image!r} twice.")
                rows[row.image] = row
    except (OSError, csv.Error, ValueError, TypeError) as error:
        raise UserError(f"{path} is not an index in Broden's format ({error}); unpack the archive again.") from None
    if not rows:
        raise UserError(f"{path} lists no images" + (f" of the split {split!r}." if split else "."))
    sizes = {row.size for row in rows.values()}
    if len(sizes) > 1:
        raise UserError(f"{path} lists label maps of several sizes ({sorted(sizes)}), which cannot be compared.")
    return rows


def _row(cells: Mapping[str, str], wanted: Sequence[str]) -> _Row:
    maps: list[tuple[str, str]] = []
    numbers: dict[str, list[int]] = {}
    for category in wanted:
        for entry in filter(None, (cells[category] or "").split(";")):
            if entry.isdigit():
                numbers.setdefault(category, []).append(int(entry))
            else:
                maps.append((category, _inside(entry)))
    return _Row(_inside(cells["image"]), (int(cells["sh"]), int(cells["sw"])), tuple(maps), numbers)


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name!r} does not lie below 'images'")
    return name


def _check_maps(folder: Path, rows: Mapping[str, _Row], size: int) -> None:
    """Report missing label maps at once, before every image is examined."""
    first = next((row for row in rows.values() if row.maps), None)
    if first is not None and not any((folder / "images" / file).exists() for _, file in first.maps):
        raise UserError(
            f"The label maps of {folder} are not there ({first.maps[0][1]}); the scripts of Describe-and-Dissect "
            f"and CLIP-Dissect that fetch Broden delete them. {broden_help(size)} To use the "
            "images alone, set 'annotation: false'."
        )
