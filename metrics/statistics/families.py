"""Families of tests: Holm's correction."""

from __future__ import annotations

import dataclasses
import gc
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from statsmodels.stats.multitest import multipletests

from metrics.statistics.result import HypothesisTest


class Corrected(NamedTuple):
    """A family of tests after Holm's correction.

    Attributes:
        p_values: Adjusted, in the order given; NaN for a missing test.
        rejected: Adjusted p at most alpha; False for a missing test.
    """

    p_values: Float[np.ndarray, " tests"]
    rejected: Bool[np.ndarray, " tests"]
    tests: int


def holm(p_values: Float[np.ndarray, " tests"], alpha: float = 0.05) -> Corrected:
    """Holm's step-down correction: p_(i) → max over j ≤ i of min(1, (m − j + 1) p_(j)).

    Args:
        p_values: In [0, 1]; NaN is a missing test, which does not count in the family.
        alpha: Family-wise error rate.

    Raises:
        ValueError: A p-value outside [0, 1].

    Example:
        >>> holm(np.array([0.01, 0.04, np.nan])).p_values.tolist()
        [0.02, 0.04, nan]
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    present = ~np.isnan(p_values)
    if bool(((p_values[present] < 0) | (p_values[present] > 1)).any()):
        raise ValueError("p-values must lie in [0, 1]")
    adjusted, rejected = np.full(p_values.shape, np.nan), np.zeros(p_values.shape, dtype=bool)
    if present.any():
        with _little_garbage():
            rejected[present], adjusted[present] = multipletests(p_values[present], alpha=alpha, method="holm")[:2]
    return Corrected(adjusted, rejected, int(present.sum()))


def correct(tests: Sequence[HypothesisTest], family: str) -> tuple[HypothesisTest, ...]:
    """The tests of one family with Holm-corrected p-values and a note of the family.

    Args:
        tests: In any order; one without a p-value does not count.
        family: What the tests have in common, such as "pairs of methods".

    Example:
        >>> from metrics.statistics.paired import paired_wilcoxon
        >>> tests = correct([paired_wilcoxon(np.arange(1.0, 8.0), np.zeros(7))] * 2, "examples")
        >>> tests[0].p_value, tests[0].p_corrected, tests[0].correction
        (0.015625, 0.03125, 'Holm over 2 examples')
    """
    corrected = holm(np.array([test.p_value for test in tests], dtype=np.float64))
    note = f"Holm over {corrected.tests} {family}"
    return tuple(
        dataclasses.replace(test, p_corrected=float(p), correction="" if math.isnan(p) else note)
        for test, p in zip(tests, corrected.p_values, strict=True)
    )


@contextmanager
def _little_garbage() -> Iterator[None]:
    """Keep statsmodels, which collects garbage at each correction, from traversing everything that torch has loaded."""
    mine = gc.get_freeze_count() == 0
    if mine:
        gc.freeze()
    try:
        yield
    finally:
        if mine:
            gc.unfreeze()
