"""Several stored sets as one, e.g. ImageNet's validation images and Broden, which Describe-and-Dissect probes together.

What is not known of all images is not known of the union, so that nothing counts as absent where it was not annotated:

* Presence has columns only if all parts have the same concepts.
* There are foreground masks only if all parts have them; otherwise a segmenter can compute all of them.
* Annotation stays with its part, and the other images have none. Network Dissection then computes a unit's threshold on
  all images, as for any probing set, but counts regions of annotated images alone: an image without annotation adds
  neither to a concept's pixels nor to what the unit covers beyond them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from tasks.common.errors import UserError
from tasks.observation import Segmentation
from tasks.probing.base import Facts, StoredSet

Value = TypeVar("Value")


def shares(available: Mapping[str, int], count: int) -> dict[str, int]:
    """The number of images from each part: in proportion to its size, and never fewer when more are requested.

    Webster's method, so that a smaller choice is a subset of a larger one.

    Args:
        available: Part → number of images to choose from.
        count: Total number requested.

    Raises:
        UserError: There are too few.
    """
    if not 1 <= count <= sum(available.values()):
        raise UserError(
            f"The parts {', '.join(available)} hold {sum(available.values())} images together, but {count} are "
            "requested."
        )
    seats = [(size / (2 * place + 1), name) for name, size in available.items() for place in range(size)]
    # Ties go to the first part by name.
    seats.sort(key=lambda seat: (-seat[0], seat[1]))
    given = [name for _, name in seats[:count]]
    return {name: given.count(name) for name in available}


def union(parts: Mapping[str, StoredSet]) -> StoredSet:
    """Stored sets as one; an image's identifier is ``PART/`` and its own.

    Duplicates are found within parts, not across them.

    Args:
        parts: Name → set; empty ones must be left out.

    Raises:
        UserError: Two parts are annotated in different ways.
    """
    names = sorted(parts)
    sets = [parts[name] for name in names]
    # In the order of the whole identifiers, which is not always that of the parts.
    places = sorted(
        (f"{name}/{own}", number, index)
        for number, (name, one) in enumerate(zip(names, sets, strict=True))
        for index, own in enumerate(one.ids)
    )
    where = [(number, index) for _, number, index in places]
    concepts = _same([one.concepts for one in sets]) or ()
    rows = [sets[number].presence[index] if concepts else () for number, index in where]
    masks = [one.mask for one in sets if one.mask is not None]
    said = "\n".join(["union", *(f"{name} {one.digest}" for name, one in zip(names, sets, strict=True))])
    return StoredSet(
        name="union",
        ids=tuple(identifier for identifier, _, _ in places),
        digest=hashlib.sha256(said.encode()).hexdigest(),
        size=_same([one.size for one in sets]),
        facts=_facts(names, sets),
        read=lambda place: sets[where[place][0]].read(where[place][1]),
        concepts=concepts,
        presence=np.array(rows, np.bool_).reshape(len(where), len(concepts)),
        segmentation=_segmentation(names, sets, where),
        mask=(lambda place: masks[where[place][0]](where[place][1])) if len(masks) == len(sets) else None,
    )


def _segmentation(names: list[str], sets: list[StoredSet], where: list[tuple[int, int]]) -> Segmentation | None:
    annotated = {name: one.segmentation for name, one in zip(names, sets, strict=True) if one.segmentation is not None}
    if not annotated:
        return None
    first = next(iter(annotated.values()))
    for name, other in annotated.items():
        if (other.labels, dict(other.categories), other.size) != (first.labels, dict(first.categories), first.size):
            raise UserError(
                f"The parts {next(iter(annotated))} and {name} of a union are annotated with different labels or in "
                "different sizes, which cannot be counted together: set 'annotation: false' for one of them."
            )
    own = [one.segmentation for one in sets]

    def pixels(place: int) -> Mapping[str, np.ndarray | list[int]]:
        number, index = where[place]
        part = own[number]
        return {} if part is None else part.pixels(index)

    return Segmentation(first.labels, first.categories, pixels, first.size)


def _facts(names: list[str], sets: list[StoredSet]) -> Facts:
    pairs = list(zip(names, (one.facts for one in sets), strict=True))
    return Facts(
        available=sum(facts.available for _, facts in pairs),
        skipped=tuple((f"{name}/{own}", why) for name, facts in pairs for own, why in facts.skipped),
        duplicates=tuple(
            tuple(f"{name}/{own}" for own in group) for name, facts in pairs for group in facts.duplicates
        ),
        ignored=sum(facts.ignored for _, facts in pairs),
        licence="; ".join(f"{name}: {facts.licence}" for name, facts in pairs),
    )


def _same(values: list[Value]) -> Value | None:
    """The value that all have in common, or None."""
    return values[0] if all(value == values[0] for value in values) else None
