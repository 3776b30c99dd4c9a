"""What every test hands back, and how input is checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float

DIGITS: Final = 12
"""Differences are rounded to so many decimals, so that rounding errors neither make nor break ties."""

FEW: Final = "fewer than six units differ: p cannot fall below 0.05"


@dataclass(frozen=True, kw_only=True)
class HypothesisTest:
    """A test with all that a reader needs to judge it; what does not exist is NaN and ``reason`` says why.

    Attributes:
        test: Name of the test and how p was found.
        hypothesis: The null hypothesis, in words.
        n: Units (pairs, blocks) that entered.
        left_out: Units that did not.
        left_out_because: Why; empty if none was left out.
        differing: Units whose values differ, on which the test rests.
        statistic: As the function says.
        p_value: Two-sided, before any correction.
        effect: Effect size; NaN where there is none.
        effect_name: Which effect size, with its range.
        difference: Mean difference (or difference of shares), first minus second; NaN for more than two groups.
        reason: Why p is missing or means little; empty otherwise.
        p_corrected: p after the correction; NaN before it.
        correction: Which correction, over how many tests; empty before it.
    """

    test: str
    hypothesis: str
    n: int
    left_out: int = 0
    left_out_because: str = ""
    differing: int = 0
    statistic: float = math.nan
    p_value: float = math.nan
    effect: float = math.nan
    effect_name: str = ""
    difference: float = math.nan
    reason: str = ""
    p_corrected: float = math.nan
    correction: str = ""


def paired_values(
    first: Float[np.ndarray, " units"], second: Float[np.ndarray, " units"]
) -> tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"], int]:
    """The pairs that have both values, and how many units have not.

    Raises:
        ValueError: If the shapes differ or a value is infinite.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"both must be [units] alike, not {list(first.shape)} and {list(second.shape)}")
    check_finite(first, second)
    present = ~np.isnan(first) & ~np.isnan(second)
    return first[present], second[present], int((~present).sum())


def check_finite(*arrays: Float[np.ndarray, " ..."]) -> None:
    """Refuse infinite values; NaN is a missing value.

    Raises:
        ValueError: For an infinite value.
    """
    if any(bool(np.isinf(array).any()) for array in arrays):
        raise ValueError("values must be finite or NaN (missing)")


def check_share(name: str, value: float) -> None:
    """Refuse what is not strictly between 0 and 1.

    Raises:
        ValueError: Naming the argument.
    """
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie between 0 and 1, not {value}")
