"""The photographs that a retrieval generator may return: never one that is also probed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tasks.common.errors import UserError
from tasks.common.image_files import find_images
from tasks.probing.held_out import hashes_of, is_held_out
from tasks.probing.schema import FolderSource, ImagenetSource, UnionSource
from tasks.profiles.schema import Profile
from tasks.profiles.sources import RetrievalSource


def pool_of(profile: Profile, source: RetrievalSource) -> list[tuple[str, Path]]:
    """The pool: files of the folder except those that a probing folder also contains, byte for byte.

    Of more than ``source.most`` those with the smallest hashes are taken, which is a pseudo-random choice that depends
    on the files alone.

    Args:
        profile: Its existing probing folders with the loaders ``folder`` and ``imagenet`` are checked.

    Returns:
        (SHA-256, path), sorted by hash, without duplicates.

    Raises:
        UserError: The folder is missing, or nothing of it is left.
    """
    if not source.path.is_dir():
        raise UserError(
            f"There is no folder {source.path} of photographs for the generator: give one with --images FOLDER, or put "
            "photographs there."
        )
    files, _ = find_images(source.path)
    own = {sha256: path for sha256, (_, path) in zip(hashes_of(files), files, strict=True) if sha256}
    if source.held_out:
        own = {sha256: path for sha256, path in own.items() if is_held_out(sha256)}
    for probed in _probed(profile, source.held_out):
        for sha256 in probed & own.keys():
            del own[sha256]
    if not own:
        raise UserError(
            f"Of the {len(files)} photographs in {source.path} none is left for the generator: a quarter is held out "
            "by content, and none that is probed counts; give a folder of more."
        )
    return sorted(own.items())[: source.most]


def _probed(profile: Profile, held_out: bool) -> Iterator[set[str]]:
    """The hashes of the files of each probing folder that may overlap with the pool."""
    for source in profile.probing_sets.values():
        for part in source.parts.values() if isinstance(source, UnionSource) else (source,):
            if not isinstance(part, FolderSource | ImagenetSource) or not part.path.is_dir():
                continue
            holds_out = isinstance(part, FolderSource) and part.hold_out
            if holds_out and held_out:
                continue  # equal files are on one side, so these cannot overlap
            with suppress(UserError):  # a folder without images
                hashes = hashes_of(find_images(part.path)[0])
                yield {sha256 for sha256 in hashes if not (holds_out and is_held_out(sha256))}
