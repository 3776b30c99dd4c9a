"""Broden's label tables: the concept of each number, and its primary category."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.common.errors import UserError

_COUNTED = re.compile(r"(\w+)\((\d+)\)")
# Numbers are written as R + 256·G in label maps.
_MAX_NUMBER = 65_535


@dataclass(frozen=True)
class Vocabulary:
    """Broden's concepts.

    Attributes:
        labels: Names as words; the index is the number, 0 is "", and so is an unused number.
        categories: Category → numbers of the concepts whose primary category it is.
        known: All numbers with a primary category.
    """

    labels: tuple[str, ...]
    categories: Mapping[str, tuple[int, ...]]
    known: frozenset[int]


def read_vocabulary(folder: Path, categories: Sequence[str]) -> Vocabulary:
    """Read ``label.csv``, ``category.csv`` and, if present, ``c_CATEGORY.csv``.

    A label's primary category is the one of ``categories`` that it covers most of, according to ``c_*.csv``. Without
    that file the numbers of images in ``label.csv`` are used. The first category wins a tie.

    Raises:
        UserError: A table is missing or broken, or a category does not exist.
    """
    existing = [row["name"] for row in _read(folder / "category.csv", ("name",))]
    unknown = next((category for category in categories if category not in existing), None)
    if unknown is not None:
        raise UserError(f"{folder} has no category {unknown!r} (its categories: {', '.join(existing)}).")
    path = folder / "label.csv"
    rows = {_whole(row["number"], path): row for row in _read(path, ("number", "name", "category"))}
    rows.pop(0, None)
    if not rows or not 0 < min(rows) <= max(rows) <= _MAX_NUMBER:
        raise UserError(f"{path} must number its labels from 1 to at most {_MAX_NUMBER}.")
    weights: dict[int, dict[str, float]] = {number: {} for number in rows}
    for category in categories:
        for number, weight in _weights(folder, category, rows).items():
            if number in weights:
                weights[number][category] = weight
    primary = {number: max(found, key=found.__getitem__) for number, found in weights.items() if found}
    names = [""] * (max(rows) + 1)
    for number, row in rows.items():
        names[number] = readable(row["name"])
    return Vocabulary(
        labels=tuple(names),
        categories={
            category: tuple(number for number in sorted(primary) if primary[number] == category)
            for category in categories
        },
        known=frozenset(primary),
    )


def readable(name: str) -> str:
    """A label's name as words: "red-c" → "red color", "church-outdoor-s" → "church, outdoor", "door_frame" → spaces."""
    if name.endswith("-c"):
        name = f"{name[:-2]} color"
    elif name.endswith("-s"):
        name = name[:-2].replace("-", ", ")
    return name.replace("_", " ")


def _weights(folder: Path, category: str, rows: Mapping[int, Mapping[str, str]]) -> dict[int, float]:
    """Number → the label's coverage of the set in this category."""
    path = folder / f"c_{category}.csv"
    if not path.exists():
        counts = {number: dict(_COUNTED.findall(row["category"])) for number, row in rows.items()}
        return {number: float(found[category]) for number, found in counts.items() if category in found}
    found = {}
    for row in _read(path, ("number", "coverage")):
        try:
            found[_whole(row["number"], path)] = float(row["coverage"] or 0)
        except ValueError:
            raise UserError(f"{path}: the coverage {row['coverage']!r} is not a number.") from None
    return found


def _whole(text: str, path: Path) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError(f"{path}: the label number {text!r} is not an integer.") from None


def _read(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream, restval=""))
    except FileNotFoundError:
        raise UserError(f"There is no {path}, which a folder in Broden's format has.") from None
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a table ({error}); unpack the archive again.") from None
    absent = [column for column in columns if not rows or column not in rows[0]]
    if absent:
        raise UserError(f"{path} has no column {absent[0]!r} or no rows; unpack the archive again.")
    return rows
