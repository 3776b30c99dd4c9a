"""Sets of labels from resampled probing sets: how often each label comes up, and which few reach a nominal level.

After the bootstrap explanation of Yan et al. (arXiv 2512.18092), whose construction of the set is not public: this is
CLEAR's own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Frequency:
    """A label and how many of the draws gave it.

    Attributes:
        text: As it was written first.
    """

    text: str
    count: int


def frequencies(labels: Sequence[str | None]) -> list[Frequency]:
    """The distinct labels of a unit over draws, most frequent first; of equal counts, the one seen first.

    Args:
        labels: One per draw; None where the unit got no label. Texts that differ in case alone are one label.
    """
    counts: dict[str, int] = {}
    written: dict[str, str] = {}
    for label in labels:
        if label is not None:
            key = label.casefold()
            counts[key] = counts.get(key, 0) + 1
            written.setdefault(key, label)
    order = sorted(counts, key=lambda key: -counts[key])
    return [Frequency(written[key], counts[key]) for key in order]


def smallest_set(found: Sequence[Frequency], draws: int, level: float) -> int:
    """How many of the most frequent labels reach the level: their shares of the draws sum to at least ``level``.

    Args:
        found: From ``frequencies``.
        draws: Number of draws, those without a label included.
        level: Nominal level in (0, 1].

    Returns:
        A number of labels from the first on; all of them if too many draws gave none.

    Raises:
        ValueError: The level is outside (0, 1].

    Example:
        >>> smallest_set([Frequency("dog", 8), Frequency("cat", 1), Frequency("fox", 1)], 10, 0.9)
        2
    """
    wanted, reached = _share_of(level) * draws, 0
    for number, one in enumerate(found, start=1):
        reached += one.count
        if reached >= wanted:
            return number
    return len(found)


@dataclass(frozen=True)
class Coverage:
    """How often further draws give a label of a unit's set.

    Attributes:
        size: Number of labels of the set.
        found: Share of the further draws whose label is in the set, in [0, 1].
        randomised: The same, expected, if the last label of the set belongs to it only with the probability that makes
            the shares sum to the level exactly. Whole labels overshoot a level; this does not.
    """

    size: int
    found: float
    randomised: float


def coverage(found: Sequence[Frequency], draws: int, level: float, further: Sequence[str | None]) -> Coverage:
    """The coverage of the smallest set that reaches the level.

    Args:
        found: From ``frequencies`` of the draws that make the set.
        draws: Their number.
        level: Nominal level in (0, 1].
        further: Labels of further draws, at least one; a draw without a label is not covered.

    Raises:
        ValueError: The level is outside (0, 1].
    """
    size = smallest_set(found, draws, level)
    if not size:
        return Coverage(0, 0.0, 0.0)
    folded = [None if label is None else label.casefold() for label in further]

    def covered(labels: Collection[Frequency]) -> float:
        keys = {one.text.casefold() for one in labels}
        return sum(label in keys for label in folded) / len(folded)

    whole, without = covered(found[:size]), covered(found[: size - 1])
    lacking = _share_of(level) * draws - sum(one.count for one in found[: size - 1])
    last = min(1.0, float(lacking / found[size - 1].count))
    return Coverage(size, whole, without + last * (whole - without))


def _share_of(level: float) -> Fraction:
    """The level as it is written: 0.9 of ten draws are nine, not a little more."""
    if not 0 < level <= 1:
        raise ValueError(f"a level lies above 0 and is at most 1, not {level}")
    return Fraction(str(float(level)))
