"""ImageNet's validation images (ILSVRC 2012), from the user's folder; their terms forbid redistribution.

Both usual layouts are read: 1,000 class folders named by WordNet identifier
(``n01440764/ILSVRC2012_val_00000293.JPEG``), and all images in one folder with a file of their classes. An image has
the same identifier in both: its file name without suffix, so that both layouts give the same set.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tasks.cache import Cache
from tasks.common.errors import UserError
from tasks.common.image_files import find_images
from tasks.probing.base import StoredSet
from tasks.probing.folder import ALL, Choice, Found, open_found
from tasks.probing.imagenet_classes import known_classes
from tasks.probing.schema import IMAGENET_HELP

_SYNSET = re.compile(r"n\d{8}")
_OFFICIAL = re.compile(r"ILSVRC2012_val_(\d{8})")


def open_imagenet(
    path: Path,
    licence: str,
    choice: Choice = ALL,
    *,
    ground_truth: Path | None = None,
    cache: Cache | None = None,
) -> StoredSet:
    """Open ImageNet's validation images, or a subset of them.

    Args:
        path: The folder with the class folders or the images.
        ground_truth: For images in one folder: the official ``ILSVRC2012_validation_ground_truth.txt`` with
            ``meta.mat`` next to it, ``LOC_val_solution.csv``, or lines "image class", where the class is a WordNet
            identifier or a number from 0 in their alphabetical order. Without it no classes are known.
        cache: Stores the results of scanning the images; None stores nothing.

    Raises:
        UserError: The folder is missing or has another layout, an image's class is not known, or too many images are
            unusable.
    """
    if not path.is_dir():
        raise UserError(f"There is no folder {path} with ImageNet's validation images. {IMAGENET_HELP}")
    entries = [entry.name for entry in path.iterdir()]
    foldered = any(_SYNSET.fullmatch(name) for name in entries)
    if not foldered and not any(_OFFICIAL.match(name) for name in entries):
        raise UserError(
            f"{path} holds neither class folders named like n01440764 nor files named like "
            f"ILSVRC2012_val_00000001.JPEG. {IMAGENET_HELP}"
        )
    files, ignored = find_images(path)
    named: dict[str, Path] = {}
    for _, file in files:
        if named.setdefault(file.stem, file) != file:
            raise UserError(f"{path} holds two images called {file.stem!r}: {named[file.stem]} and {file}.")
    names, numbers = known_classes()
    if foldered:
        synsets = {stem: file.relative_to(path).parts[0] for stem, file in named.items()}
        classes = {stem: _number(synset, numbers, str(named[stem])) for stem, synset in synsets.items()}
        found = Found(named, ignored, names, classes)
    elif ground_truth is None:
        found = Found(named, ignored)
    else:
        truth = _read_truth(ground_truth, numbers)
        unknown = next((stem for stem in sorted(named) if stem not in truth), None)
        if unknown is not None:
            raise UserError(f"{ground_truth} names no class for {unknown}.")
        found = Found(named, ignored, names, {stem: truth[stem] for stem in named})
    return open_found("imagenet", str(path), found, licence, choice, cache)


def _number(synset: str, numbers: dict[str, int], where: str) -> int:
    if synset not in numbers:
        raise UserError(f"{where}: {synset!r} is none of ImageNet's 1,000 validation classes.")
    return numbers[synset]


def _read_truth(path: Path, numbers: dict[str, int]) -> dict[str, int]:
    """Image → class number."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"There is no file {path} with the classes of ImageNet's validation images.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text ({error}).") from None
    rows = [re.split(r"[,\s]+", line.strip()) for line in lines if line.strip()]
    if rows and all(len(row) == 1 and row[0].isdigit() for row in rows):
        order = _official_order(path.parent / "meta.mat", numbers)
        wrong = next((row[0] for row in rows if int(row[0]) not in order), None)
        if wrong is not None:
            raise UserError(f"{path} names the class {wrong}, which meta.mat does not have.")
        return {f"ILSVRC2012_val_{line:08d}": order[int(row[0])] for line, row in enumerate(rows, start=1)}
    truth = {}
    for row in rows:
        if row[0] == "ImageId":
            continue
        if len(row) < 2:
            raise UserError(f"{path}: the line {row[0]!r} names an image without a class.")
        number = int(row[1]) if row[1].isdigit() else _number(row[1], numbers, str(path))
        if number >= len(numbers):
            raise UserError(f"{path}: {row[0]} has the class {number}; they are numbered from 0 to {len(numbers) - 1}.")
        truth[row[0].removesuffix(".JPEG")] = number
    return truth


def _official_order(path: Path, numbers: dict[str, int]) -> dict[int, int]:
    """The development kit's class number (from 1, in its own order) → place in alphabetical order."""
    from scipy.io import loadmat

    if not path.is_file():
        raise UserError(
            f"There is no {path}: the official ground truth numbers classes in an order that only the development "
            "kit's meta.mat tells; put it there."
        )
    try:
        synsets: Any = loadmat(path, squeeze_me=True)["synsets"]
        pairs = zip(synsets["ILSVRC2012_ID"], synsets["WNID"], synsets["num_children"], strict=True)
        return {int(code): numbers[str(synset)] for code, synset, children in pairs if int(children) == 0}
    except (KeyError, ValueError, TypeError, NotImplementedError, OSError) as error:
        raise UserError(f"{path} is not the meta.mat of ILSVRC 2012's development kit ({error}).") from None
