"""The random numbers of bootstrap samples and permutations; those of one size and seed are drawn once and shared.

A summary has hundreds of intervals and tests over the same units with the same seed. Their draws are the same numbers,
and drawing them takes several times as long as computing the statistics. They are kept as small integers: a bootstrap
of 2,048 units takes 20 MB, a permutation of them 10 MB.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Final

import numpy as np
from jaxtyping import Float, Integer

AT_ONCE: Final = 2**16
"""Numbers to compute with at once: as many as a processor keeps close, however many units there are."""

_KEPT: Final = 4


@functools.lru_cache(maxsize=_KEPT)
def bootstrap_draws(n: int, resamples: int, seed: int) -> Integer[np.ndarray, "resamples n"]:
    """The unit at each place of each bootstrap sample, as ``scipy.stats.bootstrap`` draws them; read-only.

    Args:
        n: Number of units.
        seed: Seed of a generator used here only.
    """
    random, draws = np.random.default_rng(seed), np.empty((resamples, n), dtype=np.min_scalar_type(n - 1))
    for part in in_parts(resamples, n):
        draws[part] = random.integers(0, n, draws[part].shape)
    draws.flags.writeable = False
    return draws


def permutation_within_units(
    statistic: Callable[[Integer[np.ndarray, "draws n kept"]], Float[np.ndarray, " draws"]],
    n: int,
    columns: int,
    kept: int,
    *,
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    """Statistic and two-sided p of a permutation test within units, as ``scipy.stats.permutation_test`` computes them.

    All permutations are tried if they are few. SciPy moves the values of every unit by itself, which takes minutes for
    thousands of units; here the statistic gets all units at once.

    Args:
        statistic: Of which of its values each unit has in its last columns.
        n: Number of units.
        columns: Values per unit.
        kept: How many of the last columns the statistic must know.
        resamples: Random permutations, if all are too many.
        seed: Seed of a generator used here only.

    Example:
        >>> permutation_within_units(lambda kept: (2.0 * kept[..., 0] - 1) @ [1, 2, 3], 3, 2, 1, resamples=99, seed=0)
        (6.0, 0.25)
    """
    # The logarithm first: the number of all permutations of a layer has tens of thousands of digits.
    exact = n * math.lgamma(columns + 1) < math.log(resamples) + 1 and math.factorial(columns) ** n <= resamples
    draws = _all(n, columns, kept) if exact else _permutations(n, columns, kept, resamples, seed)
    observed = float(statistic(np.broadcast_to(np.arange(columns - kept, columns), (1, n, kept)))[0])
    null = np.concatenate([statistic(draws[part]) for part in in_parts(len(draws), n * kept)])
    # Numbers that differ by rounding errors only count as equal.
    slack, added = abs(observed) * 100 * np.finfo(np.float64).eps, 0 if exact else 1
    tails = (np.count_nonzero(null <= observed + slack), np.count_nonzero(null >= observed - slack))
    return observed, min(1.0, float(2 * (min(tails) + added) / (len(draws) + added)))


def _all(n: int, columns: int, kept: int) -> Integer[np.ndarray, "draws n kept"]:
    orders = itertools.product(itertools.permutations(range(columns)), repeat=n)
    return np.array([[order[columns - kept :] for order in each] for each in orders])


@functools.lru_cache(maxsize=_KEPT)
def _permutations(
    n: int, columns: int, kept: int, resamples: int, seed: int
) -> Integer[np.ndarray, "resamples n kept"]:
    random, kind = np.random.default_rng(seed), np.min_scalar_type(columns - 1)
    draws = np.empty((resamples, n, kept), dtype=kind)
    for part in in_parts(resamples, n * columns):
        if columns == 2:
            # What NumPy does for two values: a bit tells whether the last one stays. In one call, ten times as fast.
            draws[part] = random.integers(0, 2**32, (*draws[part].shape[:2], 1), dtype=np.uint32) & 1
            continue
        every = np.broadcast_to(np.arange(columns, dtype=kind), (*draws[part].shape[:2], columns))
        draws[part] = random.permuted(every, axis=-1)[..., columns - kept :]
    draws.flags.writeable = False
    return draws


def in_parts(rows: int, width: int) -> list[slice]:
    """All rows in parts of at most ``AT_ONCE`` numbers, at least one row each."""
    step = max(1, AT_ONCE // max(width, 1))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]
