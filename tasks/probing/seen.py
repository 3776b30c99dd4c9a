"""What images were found to be, kept in the cache: opening a set again decodes only the files that have changed.

A file counts as unchanged while its path, size, time of change and time of its entry's change (which also copying with
the old time, or other rights, sets anew) are the same. Of everything else that decides what is seen (how images are
read and cropped, the decoders, this project's code) the key holds the values or a hash.
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
# What was seen is kept after so many images, so that a kill loses little.
_AT_ONCE = 256


@dataclass(frozen=True)
class Seen:
    """What one usable image was found to be.

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
        sentence: For the user.
        lasting: Whether its files decide so, and not a machine that could not read them this time.
    """

    sentence: str
    lasting: bool = True


@dataclass(frozen=True)
class Origin:
    """What decides how one image is seen, beside the set's settings.

    Attributes:
        files: The image's file and those of its annotation.
        facts: What else, as JSON, e.g. its row of an index.
    """

    files: Sequence[Path]
    facts: Any = None


class Memory:
    """What the images of a set were found to be when it was opened before.

    Args:
        cache: Where it is kept; None keeps nothing.
        settings: How this set reads images, as JSON.
        origin: ``origin(identifier)`` gives what the image is read from.
    """

    def __init__(self, cache: Cache | None, settings: Mapping[str, Any], origin: Callable[[str], Origin]) -> None:
        self._cache = cache or Cache(None)
        self._settings = dict(settings)
        self._origin = origin

    def look(self, names: Sequence[str], examine: Callable[[str], Seen | Refused]) -> dict[str, Seen | Refused]:
        """What these images are: as remembered, where their files have not changed since, else as examined now.

        Args:
            names: Identifiers.
            examine: Looks at the image of one identifier; called in threads.
        """
        if not self._cache.keeps:
            return _examined(names, examine)
        identity = {"what": "image facts", "settings": self._settings, **_decoding()}
        # Before the files are read: what is written meanwhile has another stamp, and is looked at again next time.
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
    """An image that was refused by an error, whose causes tell whether it would be again."""
    cause: BaseException | None = error
    while cause is not None:
        # Pillow's own errors about files are OSErrors too, but without a number of the system.
        if isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno is not None):
            return Refused(str(error), lasting=False)
        cause = cause.__cause__ or cause.__context__
    return Refused(str(error))


@cache
def source_sha256(*files: str) -> str:
    """SHA-256 over files of this project's code, so that a correction counts at once, in a working copy too.

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
    """What changes with the files; None where one is not there."""
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
