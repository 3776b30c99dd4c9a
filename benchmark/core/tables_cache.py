"""Whether a run's tables are what this code would compute from the same cells; then they are kept."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import get_args

from benchmark.core.options import RunOptions
from leaderboard.store.identity import identity_hash
from leaderboard.store.parts import PartKind
from leaderboard.store.run_folder import RunFolder
from tasks.common.files import file_sha256
from tasks.common.image_files import find_images
from tasks.probing.held_out import hashes_of

log = logging.getLogger(__name__)

_ROOT = Path(__file__).parents[2]
_CODE = (
    "baselines",
    "benchmark/execution",
    "benchmark/core",
    "benchmark/runner.py",
    "benchmark/studies",
    "leaderboard/board",
    "leaderboard/store",
    "leaderboard/view",
    "metrics",
    "report/latex.py",
    "report/markdown.py",
    "report/tables.py",
    "tasks",
)
"""Packages and modules that determine or write a run's tables: a change elsewhere recomputes no table."""
_MEASURING = ("numpy", "pandas", "scipy", "statsmodels", "torch", "transformers", "open_clip_torch")


def tables_key(folder: RunFolder, options: RunOptions) -> str:
    """Hash of what a run's tables depend on: its identity, its cells, this code and these libraries."""
    markers = {
        f"{kind}/{key.name}": folder.digest(key, kind) for kind in get_args(PartKind) for key in folder.done_cells(kind)
    }
    # Without other images or networks the key is what it was before a run could have any.
    others: list[object] = [] if options.exchange is None else [hashes_of(find_images(options.exchange)[0])]
    if options.against is not None:
        files = (Path(part).expanduser() for part in (options.against, options.against.rpartition("=")[2]))
        others.append([options.against, *(file_sha256(file) for file in files if file.is_file())])
    if options.attack_masks:
        others.append("attack_masks")
    asked = [options.faithfulness, sorted(options.analyses), *others]
    return identity_hash([folder.info()["identity_hash"], markers, *asked, source_hash(), _versions()])


def is_finished(folder: RunFolder, key: str) -> bool:
    """Whether the tables of that key exist, with unchanged bytes."""
    noted = folder.info()["facts"].get("finished", {})
    return noted.get("key") == key and noted.get("files") == dict(_files(folder.path))


def note_finished(folder: RunFolder, key: str) -> None:
    """Say that the tables of that key are complete; written last. Those that are gone, and not made again, are told."""
    files = dict(_files(folder.path))
    for lost in sorted(set(folder.info()["facts"].get("finished", {}).get("files", {})) - set(files)):
        log.warning("%s was there and is gone; ask for it again to have it made.", folder.path / lost)
    folder.finish({"key": key}, files)


def _files(path: Path) -> Iterator[tuple[str, str]]:
    # Hidden ones are not the run's: what another process is writing is gone a moment later.
    for file in sorted([*path.glob("[!.]*.parquet"), *(path / "tables").glob("[!.]*")]):
        yield file.relative_to(path).as_posix(), hashlib.sha256(file.read_bytes()).hexdigest()


@cache
def source_hash(root: Path = _ROOT) -> str:
    """SHA-256 over the code behind the tables, so that a fix recomputes the tables, in a working copy too.

    Args:
        root: Folder of the packages.

    Raises:
        FileNotFoundError: A path of ``_CODE`` has moved; its changes would go unnoticed.
    """
    digest = hashlib.sha256()
    for path in _CODE:
        place = root / path
        files = [place] if place.suffix else sorted(place.rglob("*.py"))
        if not files:
            raise FileNotFoundError(f"{place} contains no code; correct the list in {__name__}")
        for file in files:
            digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in _MEASURING:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
