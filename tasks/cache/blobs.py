"""Large answers: one safetensors file per key, ``blobs/ab/abcd….safetensors``, with its SHA-256 in a file next to it.

The hash is written last and marks the blob as complete: a blob without it does not count. Every read checks the hash.
Several processes may write the same key at once: the last rename wins, with the same content.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.cache.keys import Entry, Identity, canonical, key_of, told
from tasks.common.files import file_sha256, set_aside, write_whole

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

# safetensors allows headers up to this size.
_LONGEST_HEADER = 100_000_000


class BlobStore:
    """Tensors by identity.

    Args:
        folder: Cache folder; created on the first write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, identity: Identity) -> dict[str, Tensor] | None:
        """The tensors of an identity, memory-mapped; None if they are not stored.

        A file that differs from its hash is moved to ``corrupt/`` with a warning and counts as not stored.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path, mark = self.paths(key_of(identity))
        try:
            whole = file_sha256(path) == mark.read_text(encoding="ascii", errors="replace").strip()
            tensors = load_file(path) if whole else None
        except FileNotFoundError:
            return None
        except SafetensorError:
            tensors = None
        if tensors is None:
            self._set_aside(path, mark)
            return None
        with contextlib.suppress(OSError):  # last use; the cache may be read-only (owned by another user)
            os.utime(path)
        return tensors

    def put(self, identity: Identity, tensors: Mapping[str, Tensor]) -> None:
        """Store tensors; the identity is written into the file's header."""
        from safetensors.torch import save_file

        stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        path, mark = self.paths(key_of(identity))
        write_whole(path, lambda place: save_file(stored, place, metadata={"identity": canonical(identity)}))
        digest = file_sha256(path)
        write_whole(mark, lambda place: place.write_text(f"{digest}\n", encoding="ascii"))

    def entries(self) -> Iterator[Entry]:
        """All finished blobs; reads headers only."""
        for mark in sorted((self.folder / "blobs").glob("??/*.sha256")):
            path = mark.with_suffix(".safetensors")
            with contextlib.suppress(FileNotFoundError):  # pruned by another process
                header = _header(path)
                metadata = header.pop("__metadata__", {})
                identity = told(metadata.get("identity") if isinstance(metadata, dict) else None)
                status = path.stat()
                size = status.st_size + mark.stat().st_size
                yield Entry(path.stem, identity, "blob", len(header), size, status.st_mtime)

    def remove(self, key: str) -> None:
        """Remove a blob: its marker first, so that a half-removed blob does not count."""
        path, mark = self.paths(key)
        mark.unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    def paths(self, key: str) -> tuple[Path, Path]:
        """The blob's file, and the file with its hash."""
        path = self.folder / "blobs" / key[:2] / f"{key}.safetensors"
        return path, path.with_suffix(".sha256")

    def _set_aside(self, path: Path, mark: Path) -> None:
        mark.unlink(missing_ok=True)
        place = set_aside(path, self.folder / "corrupt")
        if place is not None:
            log.warning("A cached file differs from its hash; it is now %s, and what it held is computed again.", place)


def _header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file, read without torch; empty if the file is damaged."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return told(file.read(length)) if length <= _LONGEST_HEADER else {}
