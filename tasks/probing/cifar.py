"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009), from the binary version or from a folder of exported images.

The Python version is a set of pickles, and unpickling a file runs whatever code it contains, so it is not read. The
binary version has the same images: a record is one label byte (CIFAR-100: two, coarse and fine) and 3 × 32 × 32 bytes,
channel by channel, row by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from tasks.cache import Cache
from tasks.common.errors import UserError
from tasks.probing.base import Facts, StoredSet
from tasks.probing.folder import ALL, Choice, one_hot, open_folder
from tasks.probing.scan import Content, scan
from tasks.probing.schema import CIFAR, CifarVariant
from tasks.probing.seen import Memory, Origin

SIDE = 32
_PIXELS = 3 * SIDE * SIDE
_PICKLES = ("data_batch_1", "test_batch", "train", "test")


@dataclass(frozen=True, eq=False)
class _Record:
    path: Path
    file: np.ndarray
    row: int

    def image(self) -> UInt8[np.ndarray, "32 32 3"]:
        return np.array(self.file[self.row, -_PIXELS:]).reshape(3, SIDE, SIDE).transpose(1, 2, 0)

    def label(self) -> int:
        return int(self.file[self.row, -_PIXELS - 1])


def open_cifar(
    path: Path,
    licence: str,
    choice: Choice = ALL,
    *,
    variant: CifarVariant = "cifar10",
    split: Literal["train", "test"] = "test",
    cache: Cache | None = None,
) -> StoredSet:
    """Open CIFAR's images at their own size, 32 × 32.

    Args:
        path: The folder with the ``.bin`` files, its parent, or a folder of exported images: class folders, or
            ``train`` and ``test`` with class folders in them.
        variant: ``cifar10`` or ``cifar100`` (its 100 fine classes).
        split: Which files to read.
        cache: Stores the results of scanning the images; None stores nothing.

    Raises:
        UserError: The folder is missing or broken, or contains the pickled version.
    """
    kind = CIFAR[variant]
    if not path.is_dir():
        raise UserError(f"There is no folder {path}. {kind.help}")
    folder = path / kind.folder if (path / kind.folder).is_dir() else path
    files = [folder / name for name in (kind.train if split == "train" else kind.test)]
    if not any(file.exists() for file in files):
        return _exported(path, licence, variant, split, choice, cache)
    names = _class_names(folder / kind.names, kind.classes)
    records: dict[str, _Record] = {}
    for file in files:
        rows = _rows(file, kind.labels + _PIXELS)
        if int(rows[:, kind.labels - 1].max()) >= kind.classes:
            raise UserError(f"{file} holds a label beyond {kind.classes - 1}, so it is not {variant}. {kind.help}")
        first = len(records)
        records.update((f"{split}-{first + row:05d}", _Record(file, rows, row)) for row in range(len(rows)))
    scanned = scan(
        sorted(records),
        lambda name: Content(records[name].image()),
        where=str(folder),
        count=choice.count,
        seed=choice.seed,
        max_skipped=choice.max_skipped,
        memory=Memory(cache, {"reader": variant}, lambda name: Origin([records[name].path], records[name].row)),
    )
    classes = np.array([records[name].label() for name in scanned.ids])
    return StoredSet(
        name=variant,
        ids=scanned.ids,
        digest=scanned.digest,
        size=scanned.size,
        facts=Facts(len(records), (), scanned.duplicates, 0, licence),
        read=lambda index: records[scanned.ids[index]].image(),
        concepts=names,
        presence=one_hot(classes, len(classes), names),
        class_names=names,
        classes=classes,
    )


def _exported(
    path: Path, licence: str, variant: CifarVariant, split: str, choice: Choice, cache: Cache | None
) -> StoredSet:
    kind = CIFAR[variant]
    for folder in (path, path / kind.pickled):
        if any((folder / name).is_file() for name in _PICKLES):
            raise UserError(
                f"{folder} holds the Python version of {variant}: pickles, which can run code when they are read, so "
                f"CLEAR does not read them. {kind.help}"
            )
    return open_folder(path / split if (path / split).is_dir() else path, licence, choice, cache)


def _class_names(path: Path, count: int) -> tuple[str, ...]:
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The class names {path} cannot be read ({error}); unpack the archive again.") from None
    if len(names) != count:
        raise UserError(f"{path} holds {len(names)} class names, not {count}; unpack the archive again.")
    return tuple(name.replace("_", " ") for name in names)


def _rows(path: Path, width: int) -> UInt8[np.ndarray, "rows width"]:
    """A file's records, memory-mapped."""
    size = path.stat().st_size if path.is_file() else 0
    if size == 0 or size % width:
        raise UserError(
            f"{path} has {size:,} bytes, no whole number of records of {width} bytes; unpack the archive again."
        )
    return np.memmap(path, np.uint8, mode="r").reshape(-1, width)
