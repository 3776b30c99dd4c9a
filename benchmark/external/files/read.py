"""One entry point for all formats: the header determines the format of a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from benchmark.external.files import formats, network_dissection
from benchmark.external.files.csv_table import Table, read_table
from benchmark.external.files.own import own
from benchmark.external.files.rows import FileFacts, Found, LabelFile, framed, source_of
from tasks.common.errors import UserError, unknown_name

AUTO: Final = "auto"
OWN: Final = "own"


@dataclass(frozen=True)
class Format:
    """A format of label files.

    Attributes:
        name: Its name on the command line; also the method's, if the file does not name one.
        columns: The sets of columns, one of which must be in its header.
        first_unit: Its index of the first unit.
    """

    name: str
    columns: tuple[tuple[str, ...], ...]
    read: Callable[[Table], Found]
    first_unit: int = 0

    def fits(self, header: tuple[str, ...]) -> bool:
        """Whether a header is of this format."""
        return any(set(columns) <= set(header) for columns in self.columns)


FORMATS: Final[dict[str, Format]] = {
    entry.name: entry
    for entry in (
        # In this order: a later format's columns may be part of an earlier one's.
        Format(
            "network_dissection",
            (("unit", "category", "label", "score"),),
            network_dissection.network_dissection,
            network_dissection.FIRST_UNIT,
        ),
        Format("dnd", (("Neuron ID", "Label 1"), ("Neuron ID", "label")), formats.describe_and_dissect),
        Format("clip_dissect", (("layer", "unit", "description", "similarity"),), formats.clip_dissect),
        Format(
            "linear_explanations",
            (("unit", "weight0", "concept0"), ("unit", "description", "sim correlation")),
            formats.linear_explanations,
        ),
        Format("milan", (("layer", "unit", "description"),), formats.milan),
        Format("cosy", (("neuron", "concept", "auc"),), formats.cosy),
        Format("invert", (("neuron", "concept", "metric"),), formats.invert),
        Format("falcon", (("group", "concept_set_noun_phrases"),), formats.falcon),
        Format(OWN, (("unit", "label"),), own),
    )
}
"""Name → format."""


def format_names() -> tuple[str, ...]:
    """``auto`` and the names of all formats."""
    return (AUTO, *FORMATS)


def read_labels(path: Path, format: str = AUTO, task: str | None = None) -> LabelFile:
    """Read labels that were made elsewhere.

    Args:
        path: A CSV or Parquet file.
        format: Name of its format; ``auto`` detects it from the header.
        task: For files in CLEAR's own format with a column ``task``: the task to read.

    Raises:
        UserError: The file cannot be read, is in no known format, contains no label, or contradicts itself.
    """
    if format not in format_names():
        raise unknown_name("format", format, format_names())
    table = read_table(path)
    small = replace(table, header=tuple(name.lower() for name in table.header))
    if FORMATS[OWN].fits(small.header) and not any(entry.fits(table.header) for entry in FORMATS.values()):
        table = small
    entry = _format_of(table, format)
    if table.ragged:
        raise UserError(table.ragged)
    found = own(table, task) if entry.name == OWN else entry.read(table)
    source = source_of(path)
    frame, doubled = framed(path, found.rows, _method(entry.name, source.variant, path))
    if not frame["label"].notna().to_numpy().any():
        raise UserError(f"{path} contains no label.")
    skipped = found.skipped + Counter({"said before, with the same label": doubled} if doubled else {})
    facts = FileFacts(
        path=path,
        format=entry.name,
        sha256=table.sha256,
        encoding=table.encoding,
        rows=len(table.rows),
        first_unit=entry.first_unit,
        source=source,
        skipped=dict(skipped),
        notes=tuple(found.notes),
    )
    return LabelFile(frame, facts)


def _format_of(table: Table, name: str) -> Format:
    if name == AUTO:
        entry = next((entry for entry in FORMATS.values() if entry.fits(table.header)), None)
        if entry is not None:
            return entry
        known = "; ".join(f"{entry.name} ({_columns(entry)})" for entry in FORMATS.values())
        header = ", ".join(table.header)
        raise UserError(f"{table.path} has the columns {header[:200]}, which is none of the known formats: {known}.")
    entry = FORMATS[name]
    if not entry.fits(table.header):
        header = ", ".join(table.header)
        raise UserError(f"{table.path} is not in the format {name}: it has {header[:200]}, not {_columns(entry)}.")
    return entry


def _columns(entry: Format) -> str:
    return " or ".join(" + ".join(columns) for columns in entry.columns)


def _method(format: str, variant: str | None, path: Path) -> str:
    """The format's name; with MILAN's variant if the file's name gives it, and for CLEAR's own, the file's name."""
    if format == "milan" and variant:
        return f"milan_{variant}"
    return path.stem if format == OWN else format
