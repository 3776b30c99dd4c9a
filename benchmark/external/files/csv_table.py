"""The bytes of a CSV or Parquet file as rows of text, whatever program wrote it; cells are not interpreted."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.common.errors import UserError
from tasks.common.files import read_bounded
from tasks.common.text import valid

_PARQUET = b"PAR1"
_LIMIT = 500_000_000
_CONTROLS = re.compile("[\x80-\x9f]")
_MOST_ROWS = 5_000_000
_OTHERS = {
    b"\x1f\x8b": "compressed; unpack it first",
    b"PK\x03\x04": "a ZIP archive or a spreadsheet; save it as CSV",
    b"version https://git-lfs": "the pointer of Git LFS in place of the file; fetch the file by git lfs pull",
    b"ARROW1": "an Arrow (Feather) file; save it as Parquet or CSV",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
}


@dataclass(frozen=True)
class Table:
    """A file's rows as text.

    Attributes:
        header: Column names, stripped.
        rows: One text per column, verbatim; "" for an empty cell.
        lines: Line of the file on which each row ends, for messages; the row's number in a Parquet file.
        encoding: ``UTF-8``, ``Latin-1``, ``Windows-1252`` or ``Parquet``.
        ragged: A sentence on the first row with more cells than the header; empty if there is none. A reader refuses
            such a file, but only after the header is recognised as one of a label file.
    """

    path: Path
    sha256: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    lines: Sequence[int]
    encoding: str
    ragged: str = ""

    def column(self, name: str) -> list[str]:
        """All cells of a column."""
        place = self.header.index(name)
        return [row[place] for row in self.rows]


def read_table(path: Path) -> Table:
    """Read a CSV or Parquet file.

    CSV may have a byte-order mark, any line ends, line breaks inside quoted cells, no final line end, a spreadsheet's
    first line "sep=,", and be UTF-8, Windows-1252 or Latin-1 (the fallback, as any byte is valid Latin-1).

    Raises:
        UserError: The file cannot be read, is empty or separated by something else than commas, has a duplicate column,
            an unclosed quote, or a column of lists.
    """
    try:
        data = read_bounded(path, _LIMIT)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from None
    digest = hashlib.sha256(data).hexdigest()
    if data.startswith(_PARQUET):
        return _from_parquet(path, data, digest)
    told = next((told for start, told in _OTHERS.items() if data.startswith(start)), None)
    if told is not None:
        raise UserError(f"{path} is {told}.")
    try:
        # A cut letter outside the BMP (a lone surrogate) must not make the whole file Latin-1.
        text, encoding = valid(data.decode("utf-8-sig", "surrogatepass")), "UTF-8"
    except UnicodeDecodeError:
        text, encoding = data.decode("latin-1"), "Latin-1"
        # Codes 128 to 159 are letters and quotation marks there, and control characters in Latin-1.
        if _CONTROLS.search(text):
            with contextlib.suppress(UnicodeDecodeError):
                text, encoding = data.decode("cp1252"), "Windows-1252"
    text = text.removeprefix("sep=,").lstrip("\r\n")
    header, cells, lines = _parsed(path, text)
    rows = [_fitted(row, len(header)) for row in cells]
    return Table(path, digest, header, rows, lines, encoding, _ragged(path, cells, lines, len(header)))


def _parsed(path: Path, text: str) -> tuple[tuple[str, ...], list[list[str]], list[int]]:
    # Without strict an unclosed quote would silently swallow the rest of the file.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    header: tuple[str, ...] | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = _header(path, cells)
                continue
            rows.append(cells)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}; write it as CSV with closed quotes.") from None
    if header is None:
        raise UserError(f"{path} is empty.")
    return header, rows, lines


def _header(path: Path, cells: Sequence[str]) -> tuple[str, ...]:
    names = tuple(cell.strip() for cell in cells)
    apart = next((mark for mark in (";", "\t") if len(names) == 1 and mark in names[0]), None)
    if apart is not None:
        raise UserError(f"{path} separates its columns by {apart!r}; save it with commas.")
    double = next((name for name in names if name and names.count(name) > 1), None)
    if double is not None:
        raise UserError(f"{path} has two columns named {double!r}; remove one.")
    return names


def _fitted(cells: Sequence[str], width: int) -> tuple[str, ...]:
    """Exactly ``width`` cells; empty cells at the end, as written by spreadsheets, may be surplus or missing."""
    return (*cells[:width], *[""] * (width - len(cells)))


def _ragged(path: Path, rows: Sequence[Sequence[str]], lines: Sequence[int], width: int) -> str:
    for cells, line in zip(rows, lines, strict=True):
        if any(cell.strip() for cell in cells[width:]):
            return f"{path}, line {line}: {len(cells)} cells under {width} columns; quote labels that contain commas."
    return ""


def _from_parquet(path: Path, data: bytes, digest: str) -> Table:
    try:
        rows = pq.ParquetFile(io.BytesIO(data)).metadata.num_rows
        if rows > _MOST_ROWS:  # a small file may hold one value very many times
            raise UserError(
                f"{path} has {rows:,} rows, more than the {_MOST_ROWS:,} that are read; leave out what is not needed."
            )
        frame = pd.read_parquet(io.BytesIO(data))
        nested = [field.name for field in pq.read_schema(io.BytesIO(data)) if pa.types.is_nested(field.type)]
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} is a damaged Parquet file ({str(error).splitlines()[0]}); restore it.") from None
    if nested:
        raise UserError(f"{path} has lists or records in its column {nested[0]!r}; write one text per row.")
    if any(frame.index.names):
        frame = frame.reset_index()
    header = _header(path, [str(name) for name in frame.columns])
    columns = [[_text(value) for value in frame.iloc[:, place]] for place in range(len(header))]
    rows = list(zip(*columns, strict=True))
    return Table(path, digest, header, rows, range(1, len(rows) + 1), "Parquet")


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None or value is pd.NA or value != value else str(value)  # NaN differs from itself
