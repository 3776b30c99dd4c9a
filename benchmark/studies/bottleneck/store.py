"""Finished pieces of a bottleneck's run, so that the same command continues where it stopped.

A piece is a file of arrays (safetensors) under ``parts/bottleneck/TASK/`` of the run folder, with a JSON marker beside
it that is written last and contains the SHA-256. A piece that does not match its marker is moved away and computed
again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from leaderboard.store import atomic
from leaderboard.store.identity import as_json, safe_name

IMAGES: Final = "images-"
"""Prefix of pieces with data of many images; they are removed when the run is finished."""

_log = logging.getLogger(__name__)


class Piece(NamedTuple):
    """A finished piece.

    Attributes:
        arrays: Name → array.
        facts: Further facts, as JSON.
    """

    arrays: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]


class Pieces:
    """The pieces of one task in a run folder.

    Args:
        before: Called with the name of each piece before it is computed; may raise to stop there.
    """

    def __init__(self, root: Path, task: str, before: Callable[[str], None] = lambda name: None) -> None:
        self._root, self._before = root, before
        self._folder = root / "parts" / "bottleneck" / safe_name(task)

    def once(self, name: str, make: Callable[[], Piece], restored: Callable[[], None] = lambda: None) -> Piece:
        """A piece: read if it exists, else computed and written.

        Args:
            restored: Called if the piece existed.

        Returns:
            The same arrays, bit for bit, whether it existed or not.

        Raises:
            StoreError: The piece cannot be written.
        """
        found = self._read(name)
        if found is not None:
            restored()
            return found
        self._before(name)
        made = make()
        # What is read back later must not differ from it, not even in memory layout.
        arrays = {key: np.ascontiguousarray(value) for key, value in made.arrays.items()}
        data, (file, marker) = save(arrays), self._paths(name)
        atomic.remove(marker)
        atomic.write_bytes(file, data)
        facts = as_json(made.facts)
        atomic.write_json(marker, {"sha256": hashlib.sha256(data).hexdigest(), "facts": facts})
        return Piece(arrays, json.loads(json.dumps(facts)))

    def is_done(self, name: str) -> bool:
        """Whether a piece exists and is intact."""
        file, marker = self._paths(name)
        try:
            return json.loads(marker.read_bytes())["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def forget_images(self) -> None:
        """Remove the pieces that are needed only to continue a run.

        Raises:
            StoreError: The folder cannot be written.
        """
        # Markers first: without one a piece counts as missing, wherever this stops.
        for suffix in ("json", "safetensors"):
            for path in sorted(self._folder.glob(f"{IMAGES}*.{suffix}")):
                atomic.remove(path)

    def _paths(self, name: str) -> tuple[Path, Path]:
        return self._folder / f"{safe_name(name)}.safetensors", self._folder / f"{safe_name(name)}.json"

    def _read(self, name: str) -> Piece | None:
        file, marker = self._paths(name)
        try:
            note = json.loads(marker.read_bytes())
            data = file.read_bytes()
            if hashlib.sha256(data).hexdigest() == note["sha256"]:
                # Copies, with the same memory layout as newly computed arrays.
                return Piece({key: value.copy() for key, value in load(data).items()}, note["facts"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            _log.warning("%s cannot be read: %s", marker, error)
        for path in (marker, file):
            atomic.move(path, self._root / "corrupt" / f"bottleneck-{path.name}")
        _log.warning("%s does not match its hash; moved away, it is computed again", file)
        return None
