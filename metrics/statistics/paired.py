"""Two methods or two conditions on the same units: which test, and what it assumes.

``paired_wilcoxon`` tests whether the differences are symmetric about 0. That holds if the two values of a unit are
exchangeable; two values that are computed in different ways (a mean of many and a single one, a constant and a random
label) may have equal means and yet an asymmetric difference, which Wilcoxon's test then rejects. To compare means use
``paired_permutation``; to compare conditions with clean repeats use ``metrics.statistics.floor.noise_floor_test``.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from jaxtyping import Float
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_effectsize

from metrics.statistics.resampling import permutation_within_units
from metrics.statistics.result import DIGITS, FEW, HypothesisTest, paired_values

RESAMPLES: Final = 9_999
"""Random permutations if there are too many to enumerate."""

_EXACT_WILCOXON: Final = 50
_ALL_PATTERNS: Final = 13
_EXACT_MCNEMAR: Final = 25
_MISSING: Final = "without a value in one of the two"
_RANK_BISERIAL: Final = "matched-pairs rank-biserial correlation in [-1, 1]"
_NAMES: Final = ("first", "second")


def rank_biserial(differences: Float[np.ndarray, " pairs"]) -> float:
    """Matched-pairs rank-biserial correlation (W₊ − W₋) / (W₊ + W₋) (Kerby, 2014).

    Args:
        differences: One per pair; NaN and 0 are not ranked.

    Returns:
        In [-1, 1]; positive if the first is larger; 0 if no pair differs; NaN without pairs.

    Example:
        >>> rank_biserial(np.array([3.0, 2.0, -1.0]))
        0.6666666666666666
    """
    differences = np.round(np.asarray(differences, dtype=np.float64), DIGITS)
    differences = differences[~np.isnan(differences)]
    if len(differences) == 0:
        return float("nan")
    ranks = stats.rankdata(np.abs(differences[differences != 0]))
    signs = np.sign(differences[differences != 0])
    return float((signs * ranks).sum() / ranks.sum()) if len(ranks) else 0.0


def paired_wilcoxon(
    first: Float[np.ndarray, " units"], second: Float[np.ndarray, " units"], *, names: tuple[str, str] = _NAMES
) -> HypothesisTest:
    """Wilcoxon's signed-rank test on the same units.

    Equal pairs are not ranked (Wilcoxon's own rule); tied differences share their mean rank. p is exact for up
    to 50 differing pairs without ties and up to 13 with ties, else the tie-corrected normal approximation (SciPy).

    Args:
        first: One value per unit; NaN is missing and excludes the unit.
        second: The other value of the same units.
        names: Names of the two, for the hypothesis.

    Returns:
        ``statistic`` is the smaller of the two rank sums; p is 1 if no pair differs and NaN without pairs.

    Raises:
        ValueError: The shapes differ or a value is infinite.

    Example:
        >>> test = paired_wilcoxon(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), np.zeros(6))
        >>> test.statistic, test.p_value, test.effect
        (0.0, 0.03125, 1.0)
    """
    one, other, left_out = paired_values(first, second)
    differences = np.round(one - other, DIGITS)
    moved = differences[differences != 0]
    statistic, p_value, test = float("nan"), float("nan"), "Wilcoxon signed-rank test"
    if len(moved):
        statistic, p_value, how = _signed_ranks(moved)
        test += how
    elif len(differences):
        statistic, p_value = 0.0, 1.0
    return HypothesisTest(
        test=test,
        hypothesis=f"the differences {names[0]} − {names[1]} of a unit are symmetric about 0",
        n=len(differences),
        left_out=left_out,
        left_out_because=_MISSING if left_out else "",
        differing=len(moved),
        statistic=statistic,
        p_value=p_value,
        effect=rank_biserial(differences),
        effect_name=_RANK_BISERIAL,
        difference=float(differences.mean()) if len(differences) else float("nan"),
        reason=_reason(len(differences), len(moved)),
    )


def paired_permutation(
    first: Float[np.ndarray, " units"],
    second: Float[np.ndarray, " units"],
    *,
    names: tuple[str, str] = _NAMES,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> HypothesisTest:
    """Sign-flip permutation test of the mean difference (Fisher, 1935; Pitman, 1937).

    Exact if the two values of a unit are exchangeable. For other differences of mean 0 it is approximate: 4 to 7 %
    false positives at 24 to 48 units with moderate skew, where Wilcoxon's test, which is not about means, may reject
    far more often. All 2ⁿ sign patterns for up to 13 differing pairs, else a random sample that includes the observed
    one.

    Args:
        first: One value per unit; NaN is missing and excludes the unit.
        second: The other value of the same units.
        names: Names of the two, for the hypothesis.
        resamples: Random sign patterns, if all are too many.
        seed: Seed of a generator used here only.

    Returns:
        ``statistic`` is the mean difference; p is 1 if no pair differs and NaN without pairs.

    Raises:
        ValueError: The shapes differ or a value is infinite.

    Example:
        >>> paired_permutation(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), np.zeros(6)).p_value
        0.03125
    """
    one, other, left_out = paired_values(first, second)
    differences = np.round(one - other, DIGITS)
    moved = differences[differences != 0]
    p_value, test = float("nan"), "sign-flip permutation test of the mean"
    if len(moved) > 1:
        n = len(moved)
        # Of a difference and its negative, the last one as it is: 1 keeps the sign.
        _, p_value = permutation_within_units(
            lambda kept: (2.0 * kept[..., 0] - 1.0) @ moved / n, n, columns=2, kept=1, resamples=resamples, seed=seed
        )
        test += ", exact" if 2 ** len(moved) <= resamples else f", {resamples} random permutations"
    elif len(differences):
        # A single difference is as far from 0 with either sign.
        p_value = 1.0
    mean = float(differences.mean()) if len(differences) else float("nan")
    return HypothesisTest(
        test=test,
        hypothesis=f"{names[0]} and {names[1]} of a unit could be swapped: their mean difference is 0",
        n=len(differences),
        left_out=left_out,
        left_out_because=_MISSING if left_out else "",
        differing=len(moved),
        statistic=mean,
        p_value=p_value,
        effect=rank_biserial(differences),
        effect_name=_RANK_BISERIAL,
        difference=mean,
        reason=_reason(len(differences), len(moved)),
    )


def mcnemar_test(
    first: Float[np.ndarray, " units"], second: Float[np.ndarray, " units"], *, names: tuple[str, str] = _NAMES
) -> HypothesisTest:
    """McNemar's test of two shares on the same units, such as right and wrong labels under two conditions.

    Only the units with different verdicts count. Exact (binomial) for fewer than 25 of them, which is conservative (at
    10 such units 2 % instead of 5 %); else the chi-square test without continuity correction, after Fagerland, Lydersen
    & Laake (BMC Medical Research Methodology 13, 2013).

    Args:
        first: 1 or True, 0 or False, or NaN (missing) per unit.
        second: The same units' verdicts under another condition or method.
        names: Names of the two, for the hypothesis.

    Returns:
        ``statistic`` is the smaller of the two counts (exact) or chi-square, and ``effect`` Cohen's h of the two
        shares; p is 1 if no verdict differs and NaN without pairs.

    Raises:
        ValueError: The shapes differ or a value is none of 0, 1, NaN.

    Example:
        >>> test = mcnemar_test(np.array([1, 1, 1, 1, 1, 1, 0]), np.array([0, 0, 0, 0, 0, 0, 0]))
        >>> test.differing, test.p_value
        (6, 0.03125)
    """
    one, other, left_out = paired_values(first, second)
    if not bool(np.isin(one, (0, 1)).all() and np.isin(other, (0, 1)).all()):
        raise ValueError("a verdict must be 1, 0 or NaN (missing)")
    n = len(one)
    lost, gained = int((one > other).sum()), int((one < other).sum())
    differing = lost + gained
    exact = differing < _EXACT_MCNEMAR
    statistic = p_value = effect = difference = float("nan")
    if n:
        statistic, p_value = 0.0, 1.0
        effect = cohens_h(float(one.mean()), float(other.mean()))
        difference = (lost - gained) / n
    if differing:
        found: Any = mcnemar(np.array([[0, lost], [gained, 0]]), exact=exact, correction=False)
        statistic, p_value = float(found.statistic), float(found.pvalue)
    return HypothesisTest(
        test=f"McNemar test, {'exact' if exact else 'chi-square'}",
        hypothesis=f"{names[0]} and {names[1]} have the same share",
        n=n,
        left_out=left_out,
        left_out_because=_MISSING if left_out else "",
        differing=differing,
        statistic=statistic,
        p_value=min(p_value, 1.0),
        effect=effect,
        effect_name="Cohen's h in [-π, π]",
        difference=difference,
        reason=_reason(n, differing),
    )


def cohens_h(first: float, second: float) -> float:
    """Effect size of two shares: 2 arcsin √first − 2 arcsin √second (Cohen, 1988, chapter 6).

    Args:
        first: In [0, 1].
        second: In [0, 1].

    Returns:
        In [-π, π]; by convention 0.2 is small, 0.5 medium, 0.8 large.

    Example:
        >>> round(cohens_h(1.0, 0.0), 4)
        3.1416
    """
    return float(proportion_effectsize(first, second))


def _signed_ranks(moved: Float[np.ndarray, " pairs"]) -> tuple[float, float, str]:
    ranks = np.sign(moved) * stats.rankdata(np.abs(moved))
    statistic = float(min(ranks[ranks > 0].sum(), abs(ranks[ranks < 0].sum())))
    tied = len(np.unique(np.abs(moved))) < len(moved)
    if tied and len(moved) <= _ALL_PATTERNS:
        # As scipy.stats.wilcoxon handles ties, which re-ranks for each pattern and takes half a second.
        every = stats.permutation_test((ranks,), np.sum, permutation_type="samples", n_resamples=2**_ALL_PATTERNS)
        return statistic, float(every.pvalue), ", exact"
    exact = len(moved) <= _EXACT_WILCOXON and not tied
    found: Any = stats.wilcoxon(moved, method="exact" if exact else "asymptotic")
    return statistic, float(found.pvalue), ", exact" if exact else ", normal approximation"


def _reason(n: int, differing: int) -> str:
    if n == 0:
        return "no pair"
    if differing == 0:
        return "no pair differs"
    return FEW if differing < 6 else ""
