"""The common result of all format readers: one row per label, and facts about the file."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import pandas as pd

from tasks.common.errors import UserError

CLEAN: Final = "clean"
COLUMNS: Final = ("method", "layer", "condition", "severity", "repeat", "unit", "rank", "label", "score")
"""Columns of ``LabelFile.frame``."""
_TEXTS: Final = ("method", "layer", "condition", "label")

_LAYER: Final = re.compile(r"[_-](conv1|layer\d|avgpool|fc)$")
_WHOLE: Final = re.compile(r"\s*(-?\d{1,12})(?:\.0*)?\s*")
_TAG: Final = re.compile(r"(?:^|[_-])(m_[a-z0-9]+)(?=[_-])")
_NETWORK: Final = re.compile(
    r"(?<![a-z0-9])((?:resnet|vgg|vit|densenet|alexnet|rn)[a-z0-9]*?(?:_[bls]_\d+|_bn)?)"
    r"[_-]+(imagenet|places365|places|cifar100|cifar10)"
)


class Source(NamedTuple):
    """What a file's name says about its labels; None where it says nothing.

    Attributes:
        variant: Which MILAN model wrote them, e.g. ``m_base``.
        network: The network that they label, e.g. ``resnet18``.
        trained_on: What that network was trained on, e.g. ``places365``.
        layer: The layer, e.g. ``layer4``.
    """

    variant: str | None
    network: str | None
    trained_on: str | None
    layer: str | None


@dataclass(frozen=True)
class FileFacts:
    """Facts about a file of labels.

    Attributes:
        rows: Rows of data in it, header and blank lines not counted.
        first_unit: Number of the first unit in the file's own counting; ``LabelFile.frame`` counts from 0.
        source: From its name.
        skipped: Reason → number of skipped rows.
        notes: Sentences a reader of the scores should know.
    """

    path: Path
    format: str
    sha256: str
    encoding: str
    rows: int
    first_unit: int
    source: Source
    skipped: Mapping[str, int]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class LabelFile:
    """The labels of one file.

    Attributes:
        frame: One row per label, in ``COLUMNS``. ``layer`` is None if the file does not name one; ``condition`` is
            ``clean`` unless the file says otherwise; units and repeats count from 0, ranks from 1. ``label`` is None
            where the file has the unit but no label for it: missing, not zero. ``score`` is NaN if there is none.
    """

    frame: pd.DataFrame
    facts: FileFacts


class Row(NamedTuple):
    """One label as read from a file; see ``LabelFile.frame``."""

    unit: int
    label: str
    line: int
    rank: int = 1
    score: float = math.nan
    layer: str | None = None
    method: str | None = None
    condition: str = CLEAN
    severity: int = 0
    repeat: int = 0


@dataclass
class Found:
    """Rows and remarks collected by a reader.

    Attributes:
        rows: The labels, blank ones included; blank runners-up are skipped.
        skipped: Reason → number of skipped rows.
        notes: Sentences about the file.
    """

    rows: list[Row] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def source_of(path: Path) -> Source:
    """What a released file's name says.

    Nothing else distinguishes ``m_base_resnet18_places365.csv`` (MILAN's base model on a ResNet-18 trained on
    Places365) from labels of an ImageNet ResNet-18: header, layers and numbers of units are the same.
    """
    name = path.stem.lower()
    tag, network, layer = _TAG.search(name), _NETWORK.search(name), _LAYER.search(name)
    return Source(
        variant=tag.group(1) if tag else None,
        network=network.group(1) if network else None,
        trained_on=network.group(2) if network else None,
        layer=layer.group(1) if layer else None,
    )


def whole(text: str, what: str, where: str) -> int:
    """A whole number, also written as ``3.0``.

    Raises:
        UserError: The text is something else.
    """
    match = _WHOLE.fullmatch(text)
    if match is None:
        raise UserError(f"{where}: {what} {text[:60]!r} is not a whole number.")
    return int(match.group(1))


def unit_number(text: str, first: int, where: str) -> int:
    """A unit's index from 0.

    Args:
        first: The format's index of the first unit.
        where: For messages.

    Raises:
        UserError: It is not a whole number, or below ``first``.
    """
    number = whole(text, "the unit", where)
    if number < first:
        raise UserError(f"{where}: unit {number} does not exist, as this format counts units from {first}.")
    return number - first


def number(text: str) -> float:
    """A score; NaN if it is blank, not a number or not finite."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def framed(path: Path, rows: Iterable[Row], method: str) -> tuple[pd.DataFrame, int]:
    """Rows as a frame in ``COLUMNS``, and the number of duplicate rows.

    Args:
        path: For messages.
        rows: Rows of a reader.
        method: Name of the method for rows without one.

    Raises:
        UserError: One unit has two different labels of the same rank.
    """
    first: dict[tuple[object, ...], Row] = {}
    doubled = 0
    for row in rows:
        key = (row.method, row.layer, row.condition, row.severity, row.repeat, row.unit, row.rank)
        known = first.setdefault(key, row)
        if known is row:
            continue
        if known.label.strip() != row.label.strip():
            raise UserError(
                f"{path}, lines {known.line} and {row.line}: two labels of rank {row.rank} for one unit, "
                f"{_brief(known.label)} and {_brief(row.label)}; keep one."
            )
        doubled += 1
    records = [_record(row, method) for row in first.values()]
    # Texts as objects, because pandas' own text type turns None into NaN.
    columns = {
        name: pd.Series([record[name] for record in records], dtype=object if name in _TEXTS else None)
        for name in COLUMNS
    }
    return pd.DataFrame(columns), doubled


def _record(row: Row, method: str) -> dict[str, object]:
    return row._asdict() | {"method": row.method or method, "label": row.label.strip() or None}


def _brief(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")


def ranked(
    unit: int, labels: Sequence[str], line: int, scores: Sequence[float] = (), layer: str | None = None
) -> list[Row]:
    """One row for the label and one for each runner-up that is not blank.

    Args:
        unit: Index from 0.
        labels: Best first.
        scores: Scores of the labels, if any.
        layer: Name of the layer, if the file says it.
    """
    return [
        Row(unit, label, line, rank, scores[rank - 1] if rank <= len(scores) else math.nan, layer)
        for rank, label in enumerate(labels, start=1)
        if rank == 1 or label.strip()
    ]
