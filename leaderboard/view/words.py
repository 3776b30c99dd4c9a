"""Numbers and lists as every table, page, figure and sentence writes them; plain text, not escaped."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from leaderboard.board.build import Value

ABSENT: Final = "–"
"""Stands where there is no value."""

MINUS: Final = "\u2212"

_NEGATIVE: Final = re.compile(r"(?<![\w.)}])-(?=\d)")
_SMALL: Final = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
)  # fmt: skip


def printed(value: float | None, digits: int = 2) -> str:
    """A number as every place prints it.

    Example:
        >>> printed(-0.001), printed(12, 0), printed(math.nan)
        ('0.00', '12', '–')
    """
    if value is None or math.isnan(value):
        return ABSENT
    # Adding zero turns a rounded -0.0 into 0.0.
    return f"{round(value, digits) + 0.0:.{digits}f}"


def brackets(low: float | None, high: float | None, digits: int = 2) -> str:
    """An interval, e.g. ``[0.80, 0.88]``; empty where an end is absent."""
    ends = [printed(end, digits) for end in (low, high)]
    return "" if ABSENT in ends else f"[{', '.join(ends)}]"


def with_interval(value: Value) -> str:
    """A mean with its interval, e.g. ``0.84 [0.80, 0.88]``."""
    return f"{printed(value.mean)} {brackets(value.low, value.high)}".strip()


def percent(value: float | None) -> str:
    """A share in whole per cent."""
    return ABSENT if value is None or math.isnan(value) else f"{100 * value:.0f} %"


def p_value(value: Any) -> str:
    """A p value.

    Example:
        >>> p_value(0.0004), p_value(0.25)
        ('< 0.001', '0.250')
    """
    if value is None or math.isnan(value):
        return ABSENT
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def p_equals(value: float) -> str:
    """The same in a sentence, e.g. ``p < 0.001`` and ``p = 0.250``."""
    shown = p_value(value)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def with_minus(text: str) -> str:
    """The text with a true minus sign where a hyphen stands before a number."""
    return _NEGATIVE.sub(MINUS, text)


def listed(items: Iterable[str], last: str = "and") -> str:
    """Items with commas.

    Example:
        >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"], "or")
        ('a', 'a and b', 'a, b or c')
    """
    found = list(items)
    return f" {last} ".join([*([", ".join(found[:-1])] if found[1:] else []), *found[-1:]])


def count(many: int, one: str, more: str = "") -> str:
    """How many of what, e.g. ``1 unit`` and ``1,024 units``."""
    return f"{many:,} {one if many == 1 else more or one + 's'}"


def count_in_words(many: int, one: str, more: str = "") -> str:
    """The same, up to twelve as a word.

    Example:
        >>> count_in_words(1, "task"), count_in_words(3, "study", "studies"), count_in_words(2048, "unit")
        ('one task', 'three studies', '2,048 units')
    """
    return f"{in_words(many)} {one if many == 1 else more or one + 's'}"


def in_words(many: int) -> str:
    """A count; up to twelve as a word."""
    return _SMALL[many] if many < len(_SMALL) else f"{many:,}"


def count_range(numbers: Sequence[int], noun: str) -> str:
    """How many there are of each method.

    Example:
        >>> count_range([12, 12], "units"), count_range([11, 12], "units")
        ('n = 12 units', 'n = 11 to 12 units')
    """
    few, many = min(numbers), max(numbers)
    return f"n = {many} {noun}" if few == many else f"n = {few} to {many} {noun}"


def severities_in_words(severities: Sequence[int]) -> str:
    """``severity 3`` or ``severities 1, 3 and 5``."""
    return f"severit{'y' if len(severities) == 1 else 'ies'} {listed(map(str, severities))}"


def spaced(name: str) -> str:
    """A registered name as words."""
    return name.replace("_", " ")


def condition_name(name: str, severity: int) -> str:
    """A perturbation with its severity, if it has one: ``gaussian_blur 3``."""
    return f"{name} {severity}" if severity else name
