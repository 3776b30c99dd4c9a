"""What a table says, whatever renders it: cells, rows, sections, and the table with its title and notes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from leaderboard.view.words import brackets, printed
from metrics.statistics import Interval

_FIGURES: Final = re.compile(r"[-–<≤\d][^a-z]*")


@dataclass(frozen=True)
class Cell:
    """One value of a table, or a few words; nothing if there are neither.

    Attributes:
        value: A mean or share over units, or a count; NaN where there is none.
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
        marked: Significant (corrected p below 0.05) by the test that the notes name, or what else they say of ``*``.
        tied: Not the best, and not significantly different from it.
        digits: Decimals that are printed; 0 for counts.
        text: Words in place of a number, not escaped.
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    marked: bool = False
    best: bool = False
    tied: bool = False
    digits: int = 2
    text: str = ""

    @property
    def has_interval(self) -> bool:
        """Whether both ends are known."""
        return bool(self.interval)

    @property
    def shown(self) -> str:
        """The number or the words, without interval and marks."""
        return self.text or printed(self.value, self.digits)

    @property
    def interval(self) -> str:
        """The interval in brackets; empty without one."""
        return "" if math.isnan(self.value) else brackets(self.low, self.high, self.digits)

    @property
    def marks(self) -> str:
        """What stands behind the number: ``*`` for significant, ``†`` for tied with the best."""
        return ("*" if self.marked else "") + ("†" if self.tied else "")


def cell_of(found: Interval) -> Cell:
    """An estimate with its interval."""
    return Cell(found.estimate, found.low, found.high)


def number_cell(value: Any, low: Any = None, high: Any = None) -> Cell:
    """A number with its interval, as a table's row has them; each may be absent."""
    estimate, least, most = (math.nan if pd.isna(number) else float(number) for number in (value, low, high))
    return Cell(estimate, least, most)


def count_cell(number: int) -> Cell:
    """A count."""
    return Cell(number, digits=0)


def text_cell(text: str) -> Cell:
    """Words; a dash for none."""
    return Cell(text=text)


@dataclass(frozen=True)
class Row:
    """A name and one cell per column."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Section:
    """Rows between two rules, with a title of their own or none."""

    rows: tuple[Row, ...]
    title: str = ""


@dataclass(frozen=True)
class Table:
    """A table; its columns are methods, if nothing else is said.

    Attributes:
        kind: Which table: the stem of its file name and of its label.
        task: What it is about; empty for a table of several tasks.
        title: What is shown, e.g. ``Stability``.
        subject: How the title goes on, e.g. ``of unit labels``.
        higher_is_better: Direction of the values; None where rows differ.
        corner: Heading of the row names.
        notes: Sentences: what the number is, over how many units, with which interval and test.
        label: What LaTeX refers to it by; empty for one made of kind, task and profile.
    """

    kind: str
    task: str
    profile: str
    title: str
    subject: str
    higher_is_better: bool | None
    corner: str
    columns: tuple[str, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...]
    label: str = ""

    @property
    def caption(self) -> str:
        """Title, direction and subject, e.g. ``Stability ↑ of unit labels``; plain text."""
        arrow = {True: " ↑", False: " ↓", None: ""}[self.higher_is_better]
        return f"{self.title}{arrow} {self.subject}".rstrip()

    @property
    def heading(self) -> str:
        """The caption with task and profile, for places that show several tasks."""
        return f"{self.caption}: {self.task}, profile {self.profile}" if self.task else self.caption

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of all sections."""
        return tuple(row for section in self.sections for row in section.rows)

    @property
    def wordy(self) -> bool:
        """Whether a cell holds words, so that lines may have to be broken."""
        return any(cell.text for row in self.rows for cell in row.cells)

    def is_words(self, column: int) -> bool:
        """Whether a column holds words, which are set to the left, and not figures alone."""
        texts = (row.cells[column].text for row in self.rows)
        return any(text and not _FIGURES.fullmatch(text) for text in texts)


def text_section(rows: Iterable[Sequence[str]], title: str = "") -> Section:
    """Rows of words, each with its name first."""
    return Section(tuple(Row(name, tuple(map(text_cell, words))) for name, *words in rows), title)


def text_table(
    kind: str, title: str, heads: Sequence[str], sections: Iterable[Section], notes: Sequence[str] = ()
) -> Table:
    """A table of words that belongs to no single task.

    Args:
        heads: The corner, then the columns.
    """
    return Table(kind, "", "", title, "", None, heads[0], tuple(heads[1:]), tuple(sections), tuple(notes))
