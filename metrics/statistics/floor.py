"""Does a perturbation change labels more than the method's own noise does?

Wilcoxon's test of a unit's mean over many conditions against its noise floor answers a different question. Under the
null hypothesis a unit's similarity under a condition and that of a clean repeat are drawn from one skewed distribution;
the mean of 18 draws minus a single draw has mean 0 but is skewed the other way, so that its median is not 0. With
random labels the test then calls 21 % (24 units) or 41 % (48 units) of the runs significant at the 5 % level although
nothing changes; flipping the signs of these differences gives 13 % and 10 %. ``noise_floor_test`` keeps 5 % for any
number of units, conditions and repeats, as it permutes the exchangeable values: the single values of a unit.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Integer

from metrics.statistics.resampling import permutation_within_units
from metrics.statistics.result import DIGITS, FEW, HypothesisTest, check_finite

_RESAMPLES: Final = 4_999


def noise_floor_test(
    conditions: Float[np.ndarray, "units conditions"],
    repeats: Float[np.ndarray, "units repeats"],
    *,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> HypothesisTest:
    """Permutation test, within units, of similarity under conditions against similarity of clean repeats.

    Null hypothesis: a perturbed label of a unit is drawn like a clean repeat. Then, given the clean label of repeat 0,
    all the unit's similarities are exchangeable, and permuting them within each unit gives the exact distribution of
    any statistic, however skewed, bounded or tied the values are. With one condition and one repeat it is the sign-flip
    test. A missing similarity is permuted like a value: under the null a perturbation loses no labels either.

    The statistic is Σ d / √(Σ d²) over units, d(u) = mean of the unit's conditions − mean of its repeats: a monotone
    transform of the paired t statistic, robust to unequal spreads (Janssen, 1997; Konietschke & Pauly, 2014).

    Args:
        conditions: Similarity to the clean label, one column per condition; NaN is missing.
        repeats: Similarity of the label of clean repeat 1, 2, … to the clean label; NaN is missing.
        resamples: Random permutations, if all are too many.
        seed: Seed of a generator used here only.

    Returns:
        ``difference`` is mean(d), negative if perturbed labels are further away than repeats, and ``effect`` the mean
        over units of P(condition > repeat) − P(condition < repeat), which is 0 under the null. Units without any
        condition or any repeat are excluded. p is 1 if no unit differs and NaN for fewer than two units.

    Raises:
        ValueError: The units differ or a value is infinite.

    Example:
        >>> test = noise_floor_test(np.full((6, 1), 0.5), np.ones((6, 1)))
        >>> test.difference, test.effect, test.p_value
        (-0.5, -1.0, 0.03125)
    """
    conditions, repeats = np.asarray(conditions, dtype=np.float64), np.asarray(repeats, dtype=np.float64)
    if conditions.ndim != 2 or repeats.ndim != 2 or len(conditions) != len(repeats):
        raise ValueError(
            "both must be two-dimensional with the same units, "
            f"not [units, conditions] = {list(conditions.shape)} and [units, repeats] = {list(repeats.shape)}"
        )
    check_finite(conditions, repeats)
    kept = ~np.isnan(conditions).all(axis=1) & ~np.isnan(repeats).all(axis=1)
    left_out = int((~kept).sum())
    conditions, repeats = np.round(conditions[kept], DIGITS), np.round(repeats[kept], DIGITS)
    differences = _mean(conditions, axis=1) - _mean(repeats, axis=1)
    differing = int(_differs(conditions, repeats).sum())
    n, width = conditions.shape
    statistic = p_value = float("nan")
    how = ""
    if n >= 2 and differing == 0:
        statistic, p_value = 0.0, 1.0
    elif n >= 2:
        statistic, p_value = _permuted(conditions, repeats, resamples, seed)
        how = f", at most {resamples} permutations"
    return HypothesisTest(
        test=f"permutation test within units of {width} condition(s) against {repeats.shape[1]} clean repeat(s){how}",
        hypothesis="a unit's label under the conditions is drawn as in a clean repeat",
        n=n,
        left_out=left_out,
        left_out_because="without a similarity under any condition or of any clean repeat" if left_out else "",
        differing=differing,
        statistic=statistic,
        p_value=p_value,
        effect=_dominance(conditions, repeats),
        effect_name="rank-biserial correlation within units, mean over units, in [-1, 1]",
        difference=float(differences.mean()) if n else float("nan"),
        reason=_reason(n, differing, width + repeats.shape[1]),
    )


def _permuted(
    conditions: Float[np.ndarray, "units conditions"],
    repeats: Float[np.ndarray, "units repeats"],
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    values, (n, kept) = np.hstack((conditions, repeats)), repeats.shape
    columns, present = values.shape[1], ~np.isnan(values)
    known, start = np.where(present, values, 0.0), columns * np.arange(n)
    sums, counts = known.sum(axis=1), present.sum(axis=1)

    def differences(total: np.ndarray, count: np.ndarray, every: np.ndarray, number: np.ndarray) -> np.ndarray:
        """d, from sum and count of the values that stand for repeats, and of all."""
        others = number - count
        d = np.round((every - total) / np.maximum(others, 1) - total / np.maximum(count, 1), DIGITS)
        # A permutation that leaves a unit without a repeat excludes it, as in the observed data.
        return np.where((count > 0) & (others > 0), d, 0.0)

    # With one repeat a unit has as many d as it has values.
    each = differences(known, present.astype(int), sums[:, None], counts[:, None])

    def statistic(picked: Integer[np.ndarray, "draws units repeats"]) -> Float[np.ndarray, " draws"]:
        if kept == 1:
            d = each.take(picked[..., 0] + start)
        else:
            places = picked + start[:, None]
            d = differences(known.take(places).sum(axis=2), present.take(places).sum(axis=2), sums, counts)
        spread = np.sqrt(np.square(d).sum(axis=1))
        return np.round(d.sum(axis=1) / np.where(spread > 0, spread, 1.0), DIGITS)

    return permutation_within_units(statistic, n, columns, kept, resamples=resamples, seed=seed)


def _mean(values: Float[np.ndarray, " ..."], *, axis: int) -> Float[np.ndarray, " ..."]:
    """Mean of the values that are not NaN; NaN, without a warning, if there are none."""
    present = ~np.isnan(values)
    count = present.sum(axis=axis)
    total = np.where(present, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _differs(
    conditions: Float[np.ndarray, "units conditions"], repeats: Float[np.ndarray, "units repeats"]
) -> Bool[np.ndarray, " units"]:
    every = np.concatenate((conditions, repeats), axis=1)
    return np.nanmax(every, axis=1) > np.nanmin(every, axis=1) if len(every) else np.zeros(0, dtype=bool)


def _dominance(conditions: Float[np.ndarray, "units conditions"], repeats: Float[np.ndarray, "units repeats"]) -> float:
    if len(conditions) == 0:
        return float("nan")
    within = _mean(np.sign(conditions[:, :, None] - repeats[:, None, :]), axis=2)
    return float(_mean(_mean(within, axis=1), axis=0))


def _reason(n: int, differing: int, columns: int) -> str:
    if n == 0:
        return "no unit has both a condition and a clean repeat"
    if n == 1:
        return "fewer than two units"
    if differing == 0:
        return "no unit differs"
    return FEW if differing < 6 and columns == 2 else ""
