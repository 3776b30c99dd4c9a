"""Definitions of column and table, and the columns that several tables share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "integer", "number", "flag", "bytes"]


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: Name in Parquet and pandas.
        kind: ``text``, ``integer``, ``number`` (float64), ``flag`` (true or false) or ``bytes``.
        meaning: Meaning of the values; for optional columns also when they are absent.
        higher_is_better: Read by tables, plots and pages for their arrows; ``None`` if neither direction is better.
        title: Short heading for tables.
    """

    name: str
    kind: Kind
    meaning: str
    optional: bool = False
    low: float | None = None
    high: float | None = None
    higher_is_better: bool | None = None
    title: str = ""


@dataclass(frozen=True)
class TableSchema:
    """A table: its columns in order, and the columns that together identify a row."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    def column(self, name: str) -> Column:
        """Look up a column by name."""
        return next(column for column in self.columns if column.name == name)


TASK = Column("task", "text", "Name of the task.")
PROFILE = Column("profile", "text", "Name of the profile: which checkpoints and data the names refer to.")
METHOD = Column("method", "text", "Registered name of the labelling method.")
PERTURBATION = Column("perturbation", "text", "`clean` or the perturbation's name.")
SEVERITY = Column("severity", "integer", "0 for clean, else 1 (weak) to 5 (strong).", low=0, high=5)
REPEAT = Column("repeat", "integer", "Index of the repeat; repeats differ only in their seed.", low=0)
UNIT = Column("unit", "integer", "Index of the unit in its layer.", low=0)
PLACE = (TASK, PROFILE, METHOD, PERTURBATION, SEVERITY, REPEAT, UNIT)


def share(name: str, title: str, meaning: str) -> Column:
    """An optional share in [0, 1]; higher is better."""
    return Column(name, "number", meaning, True, 0.0, 1.0, True, title)
