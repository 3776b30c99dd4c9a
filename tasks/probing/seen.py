"""Cached results of examining images: opening a set again decodes only the files that have changed.

A file counts as unchanged while its path, size, modification time and status change time (which is also reset by
copying with the old modification time, or by other permissions) are the same. The key contains the values or a hash of
everything else that affects the result (how images are read and cropped, the decoders, this project's code).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import PIL
from PIL import ImageFile, features

from tasks.cache import Cache
from tasks.cache.keys import canonical, text_sha256
from tasks.probing.base import in_threads

_CODE = ("common/image_files.py", "probing/broden.py", "probing/folder.py", "probing/scan.py", "probing/seen.py")
_DECODERS = ("jpg", "libjpeg_turbo", "jpg_2000", "libtiff", "webp", "zlib", "zlib_ng")
# Results are stored in chunks of this many images, so that a killed run loses little.
_AT_ONCE = 256


@dataclass(frozen=True)
class Seen:
    """The result of examining one usable image.

    Attributes:
        size: (h, w).
        pixels: SHA-256 of its pixels.
        content: SHA-256 of its pixels and annotation.
        concepts: Numbers of the concepts that it shows.
    """

    size: tuple[int, int]
    pixels: bytes
    content: bytes
    concepts: frozenset[int]


@dataclass(frozen=True)
class Refused:
    """Why an image cannot be used.

    Attributes:
        lasting: Whether the files themselves are the reason, and not a temporary read error.
    """

    sentence: str
    lasting: bool = True


@dataclass(frozen=True)
class Origin:
    """Everything that affects how one image is read, besides the set's settings.

    Attributes:
        files: The image's file and those of its annotation.
        facts: Anything else, as JSON, e.g. its row of an index.
    """

    files: Sequence[Path]
    facts: Any = None


class Memory:
    """Cached results of examining the images of a set.

    Args:
        cache: None stores nothing.
        settings: How this set reads images, as JSON.
        origin: ``origin(identifier)`` returns what the image is read from.
    """

    def __init__(self, cache: Cache | None, settings: Mapping[str, Any], origin: Callable[[str], Origin]) -> None:
        self._cache = cache or Cache(None)
        self._settings = dict(settings)
        self._origin = origin

    def look(self, names: Sequence[str], examine: Callable[[str], Seen | Refused]) -> dict[str, Seen | Refused]:
        """The results for these images: cached if their files have not changed, else examined now.

        Args:
            examine: Examines the image of one identifier; called in threads.
        """
        if not self._cache.keeps:
            return _examined(names, examine)
        identity = {"what": "image facts", "settings": self._settings, **_decoding()}
        # Before the files are read: a file written meanwhile has another stamp, and is examined again next time.
        stamps = {name: stamp for name in names if (stamp := _stamp(self._origin(name))) is not None}
        known = self._cache.find(identity, list(stamps.values()))
        told = {name: _told(known[stamp]) for name, stamp in stamps.items() if stamp in known}
        found = {name: one for name, one in told.items() if one is not None}
        missing = [name for name in names if name not in found]
        for start in range(0, len(missing), _AT_ONCE):
            part = missing[start : start + _AT_ONCE]
            new = _examined(part, examine)
            self._cache.keep(identity, {stamps[n]: _text(one) for n, one in new.items() if n in stamps and _lasts(one)})
            found.update(new)
        return found


def refused(error: Exception) -> Refused:
    """An image refused by an error, whose causes show whether it would be refused again."""
    cause: BaseException | None = error
    while cause is not None:
        # Pillow's own errors about files are OSErrors too, but without an errno.
        if isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno is not None):
            return Refused(str(error), lasting=False)
        cause = cause.__cause__ or cause.__context__
    return Refused(str(error))


@cache
def source_sha256(*files: str) -> str:
    """SHA-256 over files of this project's code, so that a fix takes effect at once, also in a working copy.

    Args:
        files: Their paths below ``tasks``.
    """
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.encode() + b"\0" + hashlib.sha256((root / file).read_bytes()).digest())
    return digest.hexdigest()


def _examined(names: Sequence[str], examine: Callable[[str], Seen | Refused]) -> dict[str, Seen | Refused]:
    return dict(zip(names, in_threads(examine, names), strict=True))


def _decoding() -> dict[str, Any]:
    return {
        "code": source_sha256(*_CODE),
        "pillow": PIL.__version__,
        "decoders": {name: features.version(name) for name in _DECODERS},
        "truncated": ImageFile.LOAD_TRUNCATED_IMAGES,
    }


def _stamp(origin: Origin) -> bytes | None:
    """A value that changes with the files; None if one is missing."""
    try:
        files = [(os.path.abspath(file), os.stat(file)) for file in origin.files]
    except (OSError, ValueError):
        return None
    told = [[path, status.st_size, status.st_mtime_ns, status.st_ctime_ns] for path, status in files]
    return text_sha256(canonical([told, origin.facts]))


def _lasts(one: Seen | Refused) -> bool:
    return isinstance(one, Seen) or one.lasting


def _text(one: Seen | Refused) -> bytes:
    if isinstance(one, Refused):
        return canonical(one.sentence).encode()
    return canonical([one.size, one.pixels.hex(), one.content.hex(), sorted(one.concepts)]).encode()


def _told(text: bytes) -> Seen | Refused | None:
    """What was remembered; None where it cannot be read, so that the image is looked at again."""
    try:
        value = json.loads(text)
        if isinstance(value, str):
            return Refused(value)
        (height, width), pixels, content, concepts = value
        return Seen((height, width), bytes.fromhex(pixels), bytes.fromhex(content), frozenset(concepts))
    except (ValueError, TypeError, RecursionError):
        return None
