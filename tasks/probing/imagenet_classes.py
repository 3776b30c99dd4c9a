"""ImageNet's 1,000 classes: their names in WordNet, and the class given by a file's name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Final

IMAGENET_CLASSES: Final = 1000

_NAMED_BY_SYNSET: Final = re.compile(r"(?:.*/)?(n\d{8})(?![0-9A-Za-z])[^/]*(?:/[^/]*)?")
# Two classes have the same name in WordNet; the published class lists distinguish them like this.
_CRANES: Final = {134: "crane, bird", 517: "crane, machine"}


@cache
def imagenet_names() -> tuple[str, ...]:
    """The WordNet names of each class, comma-separated; two are "crane"."""
    from timm.data.imagenet_info import ImageNetInfo  # imports that take seconds and only this set needs

    info = ImageNetInfo("imagenet-1k")
    return tuple(info.index_to_description(number) for number in range(IMAGENET_CLASSES))


@cache
def known_classes() -> tuple[tuple[str, ...], dict[str, int]]:
    """The class names, made unique, and WordNet identifier → number."""
    from timm.data.imagenet_info import ImageNetInfo

    names = tuple(_CRANES.get(number, name) for number, name in enumerate(imagenet_names()))
    return names, {synset: number for number, synset in enumerate(ImageNetInfo("imagenet-1k").label_names())}


def imagenet_numbers() -> dict[str, int]:
    """Every possible name of an ImageNet class, in lower case → its number.

    These are its WordNet identifier, all its names joined by commas, and each name that no other class has.
    """
    names, numbers = known_classes()
    owners: dict[str, set[int]] = {}
    for number, name in enumerate(imagenet_names()):
        for part in name.lower().split(","):
            owners.setdefault(part.strip(), set()).add(number)
    own = {part: next(iter(found)) for part, found in owners.items() if len(found) == 1}
    return own | {name.lower(): number for number, name in enumerate(names)} | numbers


def imagenet_classes(files: Sequence[str]) -> tuple[tuple[str, ...], dict[str, int]] | None:
    """The classes of photographs whose files, or the folders they are in, start with a WordNet identifier.

    Args:
        files: Identifiers: paths below the folder.

    Returns:
        Names of all classes, and identifier → its class; None unless every file name gives one of the 1,000.
    """
    matches = [_NAMED_BY_SYNSET.fullmatch(name) for name in files]
    synsets = {name: match[1] for name, match in zip(files, matches, strict=True) if match is not None}
    if not files or len(synsets) < len(files):
        return None
    names, numbers = known_classes()
    if any(synset not in numbers for synset in synsets.values()):
        return None
    return names, {name: numbers[synset] for name, synset in synsets.items()}
