"""Choosing the images of a set and examining each once: is it usable, what is its content, does it have a duplicate.

The choice is seeded by the seed and the image's identifier, so it depends on nothing else; a smaller choice is a subset
of a larger one. Every chosen image is decoded once and dropped again: only then is it known which files are broken, and
the digest is of the decoded pixels, whatever the file format and decoder. Results are cached until a file changes, see
``tasks.probing.seen``.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import UInt8

from tasks.common.errors import UserError
from tasks.common.seeding import integer_seed
from tasks.probing.seen import Memory, Refused, Seen, refused

_SHOWN = 3


@dataclass(frozen=True, eq=False)
class Content:
    """The content of one image of a set.

    Attributes:
        annotation: Further content in the digest, e.g. label maps.
        concepts: Numbers of the concepts that it shows.
    """

    image: UInt8[np.ndarray, "h w 3"]
    annotation: tuple[np.ndarray, ...] = ()
    concepts: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Scan:
    """The chosen images, sorted by identifier.

    Attributes:
        size: (h, w) of all of them; None if they have several sizes.
        digest: SHA-256 over identifiers, pixels and annotation.
        concepts: Numbers of the concepts that each shows.
        skipped: (identifier, sentence) of the refused images.
        duplicates: Groups of identifiers whose images are equal in every pixel.
    """

    ids: tuple[str, ...]
    size: tuple[int, int] | None
    digest: str
    concepts: tuple[frozenset[int], ...]
    skipped: tuple[tuple[str, str], ...]
    duplicates: tuple[tuple[str, ...], ...]


def choice(ids: Sequence[str], seed: int) -> list[str]:
    """The identifiers in a random order that depends only on the seed and each identifier."""
    return sorted(ids, key=lambda name: (integer_seed(seed, "probing", name), name))


def scan(
    ids: Sequence[str],
    examine: Callable[[str], Content],
    *,
    where: str,
    count: int | None,
    seed: int,
    max_skipped: float,
    memory: Memory,
    vocabulary: Hashable = (),
) -> Scan:
    """Examine images until there are ``count`` usable ones.

    Args:
        ids: All identifiers, without duplicates.
        examine: Returns an image's content; raises ``UserError`` to refuse it.
        where: Name of the set in messages, e.g. its folder.
        count: Number of images; None takes all.
        seed: Seed of the choice; only used if fewer than all are taken.
        max_skipped: Largest share of the examined images that may be refused.
        memory: Cached results of earlier scans.
        vocabulary: Also in the digest: the meaning of numbers in the annotation, by its ``repr``.

    Raises:
        UserError: Too many images are refused, or too few are usable.
    """
    if count is not None and count < 1:
        raise UserError(f"{count} images were requested from {where}; request at least 1.")
    wanted = len(ids) if count is None else count
    if wanted > len(ids) or not ids:
        raise UserError(f"{where} holds {len(ids)} images, but {max(wanted, 1)} are requested.")

    kept: dict[str, Seen] = {}
    skipped: list[tuple[str, str]] = []
    rest = iter(ids if wanted == len(ids) else choice(ids, seed))
    while batch := list(islice(rest, wanted - len(kept))):
        looked_at = memory.look(batch, lambda name: _look(name, examine))
        for name in batch:
            seen = looked_at[name]
            if isinstance(seen, Refused):
                skipped.append((name, seen.sentence))
            else:
                kept[name] = seen
        _check_share(where, len(kept), skipped, max_skipped)
    if count is not None and len(kept) < count:
        raise UserError(f"{where} holds {len(kept)} usable images, but {count} are requested; {_reasons(skipped)}.")
    names = sorted(kept)
    sizes = {kept[name].size for name in names}
    whole = hashlib.sha256(repr(vocabulary).encode())
    for name in names:
        # Hashes have one length, and a name's length is included: no two lists of images give the same bytes.
        encoded = name.encode()
        whole.update(len(encoded).to_bytes(8, "big") + encoded + kept[name].content)
    return Scan(
        ids=tuple(names),
        size=sizes.pop() if len(sizes) == 1 else None,
        digest=whole.hexdigest(),
        concepts=tuple(kept[name].concepts for name in names),
        skipped=tuple(sorted(skipped)),
        duplicates=_duplicates({name: kept[name].pixels for name in names}),
    )


def _look(name: str, examine: Callable[[str], Content]) -> Seen | Refused:
    try:
        return _seen(examine(name))
    except UserError as error:
        return refused(error)


def _seen(content: Content) -> Seen:
    pixels = hashlib.sha256(repr(content.image.shape).encode() + content.image.tobytes())
    whole = pixels.copy()
    for layer in content.annotation:
        whole.update(repr(layer.shape).encode())
        whole.update(layer.astype("<i8").tobytes())
    height, width = content.image.shape[:2]
    return Seen((height, width), pixels.digest(), whole.digest(), content.concepts)


def _check_share(where: str, kept: int, skipped: Sequence[tuple[str, str]], largest: float) -> None:
    looked_at = kept + len(skipped)
    if kept and len(skipped) <= largest * looked_at:
        return
    raise UserError(
        f"{len(skipped)} of {looked_at} images looked at in {where} cannot be used, more than the {largest:.0%} that "
        f"may be skipped; {_reasons(skipped)}."
    )


def _reasons(skipped: Sequence[tuple[str, str]]) -> str:
    if not skipped:
        return "none was skipped"
    shown = " ".join(sentence for _, sentence in skipped[:_SHOWN]).rstrip(".")
    return f"the first: {shown}" if len(skipped) <= _SHOWN else f"the first {_SHOWN} of {len(skipped)}: {shown}"


def _duplicates(hashes: Mapping[str, bytes]) -> tuple[tuple[str, ...], ...]:
    groups: defaultdict[bytes, list[str]] = defaultdict(list)
    for name, value in hashes.items():
        groups[value].append(name)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)
