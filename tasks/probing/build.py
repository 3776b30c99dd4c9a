"""Builds a probing set from a profile's source."""

from __future__ import annotations

from tasks.cache import Cache
from tasks.common.errors import UserError
from tasks.probing.base import StoredSet
from tasks.probing.broden import open_broden
from tasks.probing.cifar import open_cifar
from tasks.probing.folder import Choice, open_folder
from tasks.probing.imagenet import open_imagenet
from tasks.probing.schema import (
    FOLDER_HELP,
    BrodenSource,
    CifarSource,
    FolderSource,
    ImagenetSource,
    Part,
    Source,
    UnionSource,
)
from tasks.probing.union import shares, union


def build(source: Source, count: int | None = None, seed: int = 0, cache: Cache | None = None) -> StoredSet:
    """Open a probing set.

    Args:
        source: With absolute paths.
        count: Number of images; None takes all.
        seed: Seed of the choice if there are more images.
        cache: Stores the results of scanning the images, so that only changed files are decoded when the set is opened
            again; None stores nothing.

    Raises:
        UserError: Something is missing or broken; the message says what and what to do.
    """
    if isinstance(source, UnionSource):
        return _build_union(source, count, seed, cache)
    choice = Choice(count, seed, float(source.max_skipped))
    match source:
        case FolderSource():
            if not source.path.is_dir():
                raise UserError(f"There is no folder {source.path} of images: make it, or {FOLDER_HELP}")
            return open_folder(source.path, source.licence, choice, cache, hold_out=source.hold_out)
        case ImagenetSource():
            return open_imagenet(source.path, source.licence, choice, ground_truth=source.ground_truth, cache=cache)
        case BrodenSource():
            return open_broden(
                source.path,
                source.licence,
                choice,
                size=source.size,
                split=source.split,
                categories=source.categories,
                annotation=source.annotation,
                cache=cache,
            )
        case CifarSource():
            return open_cifar(
                source.path, source.licence, choice, variant=source.variant, split=source.split, cache=cache
            )


def _build_union(source: UnionSource, count: int | None, seed: int, cache: Cache | None) -> StoredSet:
    if count is None:
        return union({name: build(part, None, seed, cache) for name, part in source.parts.items()})
    given = shares({name: _available(part, seed, cache) for name, part in source.parts.items()}, count)
    return union({name: build(part, given[name], seed, cache) for name, part in source.parts.items() if given[name]})


def _available(part: Part, seed: int, cache: Cache | None) -> int:
    """The number of images of a part, determined by opening it with a single one."""
    try:
        return build(part, 1, seed, cache).facts.available
    except UserError:  # that image may be broken, or the whole part
        return build(part, None, seed, cache).facts.available
