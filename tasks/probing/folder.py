"""A folder of images of any size, flat or with one subfolder per class.

``tasks.common.image_files`` says how each kind of file is handled; refused files are skipped and listed.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from tasks.cache import Cache
from tasks.common.errors import UserError
from tasks.common.image_files import find_images, load_image
from tasks.probing.base import Facts, StoredSet
from tasks.probing.held_out import kept
from tasks.probing.imagenet_classes import imagenet_classes
from tasks.probing.scan import Content, scan
from tasks.probing.seen import Memory, Origin

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """Which images of a set, and when to give up.

    Attributes:
        count: Number of images; None takes all.
        seed: Seed of the choice if there are more.
        max_skipped: Largest share of the examined images that may be unusable.
    """

    count: int | None = None
    seed: int = 0
    max_skipped: float = 0.1


ALL = Choice()
_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})


@dataclass(frozen=True)
class Found:
    """Images found on disk.

    Attributes:
        files: Identifier → file.
        ignored: Number of entries of the folder that were not examined.
        classes: Identifier → index of its class.
    """

    files: Mapping[str, Path]
    ignored: int
    class_names: tuple[str, ...] | None = None
    classes: Mapping[str, int] | None = None


def open_folder(
    path: Path, licence: str, choice: Choice = ALL, cache: Cache | None = None, *, hold_out: bool = False
) -> StoredSet:
    """Open a folder of images; links are followed.

    An identifier is the path below the folder, with ``/``. If all images are in two or more first-level folders, those
    are the classes; folders for the parts of a set (``train``, ``val``, ``test``) are not counted as a level. If every
    file, or the folder it is in, is named by one of ImageNet's WordNet identifiers (``n01440764_tench.JPEG``), the
    classes are ImageNet's 1,000.

    Args:
        cache: Stores the results of scanning the images; None stores nothing.
        hold_out: Whether a quarter of the files is held out, see ``tasks.probing.held_out``.

    Raises:
        UserError: The folder is missing or without images; too many are unusable, or too few usable.
    """
    files, ignored = find_images(path)
    if hold_out:
        files = kept(files)
    names = [name for name, _ in files]
    synsets = imagenet_classes(names)
    if synsets is not None:
        found = Found(dict(files), ignored, *synsets)
        return open_found("folder", str(path), found, licence, choice, cache)
    below = _below_splits(names)
    tops = sorted({name.partition("/")[0] for name in below})
    if len(tops) < 2 or not all("/" in name for name in below):
        beside = [name for name in names if "/" not in name]
        if 0 < len(beside) < len(names) / 2:
            said = "%d images of %s lie beside its folders (%s), so that these are not taken for classes."
            log.warning(said, len(beside), path, beside[0])
        return open_found("folder", str(path), Found(dict(files), ignored), licence, choice, cache)
    classes = {name: tops.index(path.partition("/")[0]) for name, path in zip(names, below, strict=True)}
    found = Found(dict(files), ignored, _without_numbers(tops), classes)
    return open_found("folder", str(path), found, licence, choice, cache)


def _below_splits(names: Sequence[str]) -> Sequence[str]:
    """Paths below ``train/``, ``val/`` and the like, if all images are in such folders."""
    parts = [name.partition("/") for name in names]
    return [rest for _, _, rest in parts] if all(rest and top.lower() in _SPLITS for top, _, rest in parts) else names


def _without_numbers(names: Sequence[str]) -> tuple[str, ...]:
    """Class names without the numbers that all of them begin with (``001.Cloudy_sky``), which no label would hold."""
    bare = [re.sub(r"^\d+[\W_]+", "", name) for name in names]
    numbered = all(left and left != name for left, name in zip(bare, names, strict=True))
    return tuple(bare if numbered and len(set(bare)) == len(names) else names)


def open_found(name: str, where: str, found: Found, licence: str, choice: Choice, cache: Cache | None) -> StoredSet:
    """A probing set of the given files.

    Args:
        name: The kind of set.
        where: Its name in messages.
        cache: Stores the results of scanning the images; None stores nothing.

    Raises:
        UserError: Too many files are unusable, or too few usable.
    """

    def read(image: str) -> UInt8[np.ndarray, "h w 3"]:
        path = found.files[image]
        try:
            os.fsencode(path.name).decode()
        except UnicodeDecodeError:
            raise UserError(f"{path.name!a} has a name that is not UTF-8.") from None
        return load_image(path)

    scanned = scan(
        sorted(found.files),
        lambda image: Content(read(image)),
        where=where,
        count=choice.count,
        seed=choice.seed,
        max_skipped=choice.max_skipped,
        memory=Memory(
            cache,
            {"reader": "image file"},
            lambda image: Origin([found.files[image]]),
        ),
    )
    classes = None if found.classes is None else np.array([found.classes[image] for image in scanned.ids])
    return StoredSet(
        name=name,
        ids=scanned.ids,
        digest=scanned.digest,
        size=scanned.size,
        facts=Facts(len(found.files), scanned.skipped, scanned.duplicates, found.ignored, licence),
        read=lambda index: read(scanned.ids[index]),
        concepts=found.class_names or (),
        presence=one_hot(classes, len(scanned.ids), found.class_names),
        class_names=found.class_names,
        classes=classes,
    )


def one_hot(
    classes: Sequence[int] | np.ndarray | None, count: int, names: Sequence[str] | None
) -> Bool[np.ndarray, "n classes"]:
    """Presence from classes: an image shows its class and, as far as is known, no other; without classes no columns."""
    presence = np.zeros((count, len(names or ())), np.bool_)
    if classes is not None:
        presence[np.arange(count), classes] = True
    return presence
