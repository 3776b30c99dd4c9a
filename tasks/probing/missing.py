"""Missing files of a probing set, found before anything is loaded; for the preflight and ``doctor``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.probing.schema import (
    CIFAR,
    FOLDER_HELP,
    IMAGENET_BYTES,
    IMAGENET_HELP,
    BrodenSource,
    CifarSource,
    FolderSource,
    ImagenetSource,
    Part,
    Source,
    UnionSource,
    broden_help,
)

BRODEN_TABLES = ("index.csv", "label.csv", "category.csv")


@dataclass(frozen=True)
class Missing:
    """A missing file or folder.

    Attributes:
        size: Bytes to download; None if unknown.
        how: How to get it, in sentences.
    """

    path: Path
    size: int | None
    how: str


def missing(source: Source) -> list[Missing]:
    """The files that a source names and that do not exist; empty if it can be opened, as far as names can tell.

    Args:
        source: With absolute paths, or paths relative to the working directory.
    """
    parts = source.parts.values() if isinstance(source, UnionSource) else [source]
    return [absent for part in parts for absent in _missing(part)]


def _missing(source: Part) -> Iterator[Missing]:
    match source:
        case FolderSource():
            if not source.path.is_dir():
                yield Missing(source.path, None, f"Put images into {source.path}, or {FOLDER_HELP}")
        case ImagenetSource():
            if not source.path.is_dir():
                yield Missing(source.path, IMAGENET_BYTES, IMAGENET_HELP)
            if source.ground_truth is not None and not source.ground_truth.is_file():
                yield Missing(source.ground_truth, None, "Take it from ILSVRC 2012's development kit.")
        case BrodenSource():
            tables = BRODEN_TABLES if source.annotation else BRODEN_TABLES[:1]
            absent = [name for name in (*tables, "images") if not (source.path / name).exists()]
            if absent:
                path = source.path if len(absent) == len(tables) + 1 else source.path / absent[0]
                yield Missing(path, None, broden_help(source.size))
        case CifarSource():
            if not source.path.is_dir():
                kind = CIFAR[source.variant]
                yield Missing(source.path, kind.size, kind.help)
