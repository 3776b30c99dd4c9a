"""The result type of every test, and how input is checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float

DIGITS: Final = 12
"""Differences are rounded to this many decimals, so that rounding errors neither make nor break ties."""

FEW: Final = "fewer than six units differ: p cannot fall below 0.05"


@dataclass(frozen=True, kw_only=True)
class HypothesisTest:
    """A test with everything needed to judge it; undefined values are NaN and ``reason`` says why.

    Attributes:
        test: Name of the test and how p was computed.
        hypothesis: The null hypothesis, in words.
        n: Number of units (pairs, blocks) used.
        left_out: Number of units excluded.
        left_out_because: Why; empty if none was excluded.
        differing: Units whose values differ, on which the test is based.
        statistic: As documented by the function.
        p_value: Two-sided, before any correction.
        effect: Effect size; NaN if undefined.
        effect_name: Which effect size, with its range.
        difference: Mean difference (or difference of shares), first minus second; NaN for more than two groups.
        reason: Why p is missing or hard to interpret; empty otherwise.
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
    """The complete pairs, and the number of incomplete units.

    Raises:
        ValueError: The shapes differ or a value is infinite.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"both must be [units] of the same shape, not {list(first.shape)} and {list(second.shape)}")
    check_finite(first, second)
    present = ~np.isnan(first) & ~np.isnan(second)
    return first[present], second[present], int((~present).sum())


def check_finite(*arrays: Float[np.ndarray, " ..."]) -> None:
    """Reject infinite values; NaN is a missing value.

    Raises:
        ValueError: A value is infinite.
    """
    if any(bool(np.isinf(array).any()) for array in arrays):
        raise ValueError("values must be finite or NaN (missing)")


def check_share(name: str, value: float) -> None:
    """Reject values that are not strictly between 0 and 1.

    Raises:
        ValueError: Names the argument.
    """
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie between 0 and 1, not {value}")
