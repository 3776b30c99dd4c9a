"""Labels made elsewhere: one reader per released format, all behind ``read_labels``. Imports no torch."""

from __future__ import annotations

from benchmark.external.files.gather import check_units, gather
from benchmark.external.files.read import FORMATS, format_names, read_labels
from benchmark.external.files.rows import CLEAN, COLUMNS, FileFacts, LabelFile, Source

__all__ = [
    "CLEAN",
    "COLUMNS",
    "FORMATS",
    "FileFacts",
    "LabelFile",
    "Source",
    "check_units",
    "format_names",
    "gather",
    "read_labels",
]
