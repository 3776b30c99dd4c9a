"""What a table says, whatever prints it: cells, rows, sections, and the table with its caption and notes."""

from __future__ import annotations

import math
from dataclasses import dataclass

ABSENT = "–"
"""Stands where there is no value."""


@dataclass(frozen=True)
class Cell:
    """One value of a table; NaN where there is none.

    Attributes:
        value: A mean or share over units, or a count.
        low: Lower end of the 95 % interval.
        high: Upper end.
        before: In accuracy tables the share that is right on clean images.
        tested: The movement was tested against the method's own noise.
        marked: It differs (corrected p below 0.05).
        best: The best method of the row.
        tied: Not the best, and not told apart from it.
        digits: Decimals that are printed; 0 for counts.
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    before: float = math.nan
    tested: bool = False
    marked: bool = False
    best: bool = False
    tied: bool = False
    digits: int = 2

    @property
    def has_interval(self) -> bool:
        """Whether both ends are known."""
        return not (math.isnan(self.value) or math.isnan(self.low) or math.isnan(self.high))


@dataclass(frozen=True)
class Row:
    """A name and one cell a method."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Section:
    """Rows between two rules, with a title of their own or none."""

    rows: tuple[Row, ...]
    title: str = ""


@dataclass(frozen=True)
class Table:
    """A table with methods as columns.

    Attributes:
        kind: Which table: the stem of its file name and of its label.
        task: Name of the task.
        profile: Name of the profile.
        title: What is shown, e.g. ``Stability``.
        subject: How the title goes on, e.g. ``of unit labels``.
        higher_is_better: Direction of the values; None where rows differ.
        corner: Heading of the row names.
        methods: Names of the columns.
        sections: The rows.
        notes: Sentences: what the number is, over how many units, with which interval and test.
        emphasis: Sentences on bold and tie marks, for places that show them.
        label: What LaTeX refers to it by; empty for one made of kind, task and profile.
    """

    kind: str
    task: str
    profile: str
    title: str
    subject: str
    higher_is_better: bool | None
    corner: str
    methods: tuple[str, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...]
    emphasis: tuple[str, ...] = ()
    label: str = ""

    @property
    def arrow(self) -> str:
        """The direction as an arrow after a space; empty without one."""
        return {True: " ↑", False: " ↓", None: ""}[self.higher_is_better]

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of all sections."""
        return tuple(row for section in self.sections for row in section.rows)


def printed(value: float, digits: int = 2) -> str:
    """The number as every table prints it.

    Example:
        >>> printed(-0.001), printed(12, 0), printed(math.nan)
        ('0.00', '12', '–')
    """
    # Adding zero turns a rounded -0.0 into 0.0.
    return ABSENT if math.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}"


def count_of(numbers: list[int], noun: str) -> str:
    """How many, in words that fit several methods.

    Example:
        >>> count_of([12, 12], "units"), count_of([11, 12], "units")
        ('n = 12 units', 'n = 11 to 12 units')
    """
    few, many = min(numbers), max(numbers)
    return f"n = {many} {noun}" if few == many else f"n = {few} to {many} {noun}"
