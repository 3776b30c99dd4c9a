"""Between pandas and Arrow: checks tables against their schema when writing, restores types when reading."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from leaderboard.store.columns import Column, Kind, TableSchema
from leaderboard.store.errors import StoreError

MOST_ROWS = 50_000_000
"""A small file may hold one value very many times."""

_ARROW = {"text": pa.string(), "integer": pa.int64(), "number": pa.float64(), "flag": pa.bool_(), "bytes": pa.binary()}


def arrow_schema(schema: TableSchema) -> pa.Schema:
    """The columns of a table as an Arrow schema."""
    return pa.schema([pa.field(c.name, _ARROW[c.kind], nullable=c.optional) for c in schema.columns])


def to_arrow(schema: TableSchema, frame: pd.DataFrame) -> pa.Table:
    """Check a frame against its schema and give it the schema's types, column order and row order.

    Args:
        schema: One of ``TABLES``.
        frame: Exactly the schema's columns, in any order; rows in any order.

    Raises:
        StoreError: A column is missing, unknown, of the wrong kind or out of range; a required value is absent; or two
            rows share a key.
    """
    names = [column.name for column in schema.columns]
    missing, unknown = sorted(set(names) - set(frame.columns)), sorted(set(map(str, frame.columns)) - set(names))
    if missing or unknown:
        parts = [f"missing {', '.join(missing)}"] if missing else []
        parts += [f"unknown {', '.join(unknown)}"] if unknown else []
        raise StoreError(f"Table '{schema.name}' has wrong columns: {'; '.join(parts)}.")
    typed = pd.DataFrame({c.name: _typed(schema.name, c, pd.Series(frame[c.name])) for c in schema.columns})
    if not _increases(typed, schema):
        double = typed.duplicated(list(schema.key))
        if double.any():
            first = typed.loc[double, list(schema.key)].iloc[0].to_dict()
            raise StoreError(f"Table '{schema.name}' contains {int(double.sum())} duplicate rows, first {first}.")
        typed = typed.sort_values(list(schema.key), kind="stable", ignore_index=True)
    return pa.Table.from_pandas(typed, schema=arrow_schema(schema), preserve_index=False).replace_schema_metadata(None)


def to_pandas(schema: TableSchema, table: pa.Table) -> pd.DataFrame:
    """The pandas form of a stored table: optional flags become the nullable ``boolean`` type, absent text ``None``.

    Tables of other versions stay readable: an optional column that they lack is absent in every row, and a column that
    this version does not know is dropped.

    Raises:
        StoreError: A required column is missing.
    """
    table = as_schema(schema, table)
    columns: dict[str, pd.Series] = {}
    for column in schema.columns:
        values = table.column(column.name)
        if column.kind == "text":
            columns[column.name] = pd.Series(_texts(values), dtype=object)
        elif column.kind == "flag":
            columns[column.name] = values.to_pandas().astype("boolean" if column.optional else "bool")
        else:
            columns[column.name] = values.to_pandas()
    return pd.DataFrame(columns)


def _texts(values: pa.ChunkedArray) -> np.ndarray:
    """Each text once in memory, however many rows have it; None where absent."""
    encoded = pa.chunked_array([values.combine_chunks()]).dictionary_encode().combine_chunks()
    unique = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)
    return unique[encoded.indices.fill_null(len(unique) - 1).to_numpy(zero_copy_only=False)]


def _increases(typed: pd.DataFrame, schema: TableSchema) -> bool:
    """Whether each row's key is greater than that of the row before: sorted, and none twice."""
    ahead = np.zeros(max(len(typed) - 1, 0), dtype=np.int64)
    for name in schema.key:
        values = typed[name].to_numpy()
        if schema.column(name).kind == "text":
            codes, unique = pd.factorize(values)
            # An absent text has code -1 and, as in a sorted frame, stands last.
            values = np.append(np.argsort(np.argsort(unique)), len(unique))[codes]
        ahead = np.where(ahead == 0, np.sign(np.diff(values)), ahead)
    return bool((ahead > 0).all())


def checked(schema: TableSchema, frame: pd.DataFrame) -> pd.DataFrame:
    """A frame that was read, once it is known to hold what may be written: kinds, ranges, one row per key.

    Raises:
        StoreError: As ``to_arrow``.
    """
    to_arrow(schema, frame)
    return frame


def as_schema(schema: TableSchema, table: pa.Table) -> pa.Table:
    """A stored table, perhaps of another version, with exactly the schema's columns in its order.

    Raises:
        StoreError: A required column is missing.
    """
    stored = set(table.schema.names)
    missing = [column.name for column in schema.columns if not column.optional and column.name not in stored]
    if missing:
        raise StoreError(f"Stored table '{schema.name}' lacks {', '.join(missing)}, which every row needs.")
    columns = [
        table.column(column.name) if column.name in stored else pa.nulls(len(table), _ARROW[column.kind])
        for column in schema.columns
    ]
    return pa.table(columns, names=[column.name for column in schema.columns])


def empty_frame(schema: TableSchema) -> pd.DataFrame:
    """A table without rows."""
    return to_pandas(schema, arrow_schema(schema).empty_table())


def _typed(table: str, column: Column, values: pd.Series) -> pd.Series:
    where = f"Column '{column.name}' of table '{table}'"
    absent = values.isna()
    if absent.any() and not column.optional:
        raise StoreError(f"{where} has {int(absent.sum())} absent values; every row needs one.")
    try:
        typed = _converted(column.kind, values, absent)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{where} must hold {column.kind} values: {error}.") from error
    if column.kind in ("integer", "number"):
        _check_range(where, column, typed)
    return typed.reset_index(drop=True)


def _converted(kind: Kind, values: pd.Series, absent: pd.Series) -> pd.Series:
    if kind == "text":
        codes, unique = pd.factorize(values.to_numpy(object))  # -1 where absent, which stands last
        kept = np.array([*map(_storable, unique), None], dtype=object)
        return pd.Series(kept[codes], index=values.index, dtype=object)
    if kind == "bytes":
        if not all(isinstance(value, bytes) for value in values[~absent]):
            raise TypeError("some values are not true or false")
        return values.astype(object)
    if kind == "flag":
        return values.astype(object).where(~absent, None).astype("boolean")
    if not pd.api.types.is_numeric_dtype(values):
        if any(isinstance(value, str) for value in values):
            raise TypeError("text instead of a number")
        values = pd.Series(pd.to_numeric(values.astype(object).where(~absent, np.nan)), index=values.index)
    numbers = values.astype("float64")
    if kind == "number":
        return numbers
    if not (numbers == numbers.round()).all():
        raise ValueError("not whole numbers")
    return numbers.astype("int64")


def _storable(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    # A lone surrogate has no UTF-8 form; Parquet could not hold it.
    return value.encode("utf-8", "replace").decode()


def _check_range(where: str, column: Column, values: pd.Series) -> None:
    # Cosines in float32 overshoot 1 by a few ulps.
    slack = 1e-4 if column.kind == "number" else 0.0
    numbers = values.to_numpy(dtype=np.float64)
    if np.isinf(numbers).any():
        raise StoreError(f"{where} contains infinity; store an absent value instead.")
    low, high = column.low, column.high
    bad = numbers[
        (numbers < (-np.inf if low is None else low - slack)) | (numbers > (np.inf if high is None else high + slack))
    ]
    if bad.size:
        raise StoreError(
            f"{where} has {bad[0]:g}, outside {'−∞' if low is None else low}..{'∞' if high is None else high}."
        )


def parquet_bytes(table: pa.Table) -> bytes:
    """The table as Parquet; the same table gives the same bytes."""
    buffer = io.BytesIO()
    # Without page checksums a flipped bit would go unnoticed.
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def read_parquet(data: bytes) -> pa.Table:
    """Read Parquet bytes and verify the page checksums.

    Raises:
        OSError: The bytes are damaged, or hold more than ``MOST_ROWS`` rows.
    """
    rows = pq.ParquetFile(pa.BufferReader(data)).metadata.num_rows
    if rows > MOST_ROWS:
        raise OSError(f"{rows:,} rows are more than any run has")
    return pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
