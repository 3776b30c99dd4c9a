"""Several methods on the same units: which differ significantly, and ranks with ties."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from metrics.statistics.families import correct
from metrics.statistics.paired import RESAMPLES, paired_permutation, paired_wilcoxon
from metrics.statistics.result import DIGITS, HypothesisTest, check_finite, check_share

PostHoc = Literal["permutation", "wilcoxon", "nemenyi"]

_FEW_BLOCKS: Final = 10


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Several methods on the same units.

    Attributes:
        omnibus: Friedman's test that all methods are alike; for two methods the single paired test.
        pairs: A test for each pair, in the order of ``itertools.combinations``, first minus second.
        means: Mean over the complete units; NaN without any.
        mean_ranks: Mean rank, 1 = highest value.
        critical_difference: Critical difference of mean ranks (Nemenyi); NaN for another post-hoc test.
        separated: Whether a pair's corrected p is at most alpha.
        ranks: 1 + number of methods that are significantly better, so that ties share a rank.
        groups: Largest runs of methods, best first, without a significant difference; single methods are omitted.
    """

    methods: tuple[str, ...]
    omnibus: HypothesisTest
    pairs: tuple[HypothesisTest, ...]
    means: Float[np.ndarray, " methods"]
    mean_ranks: Float[np.ndarray, " methods"]
    critical_difference: float
    separated: Bool[np.ndarray, "methods methods"]
    ranks: Int[np.ndarray, " methods"]
    groups: tuple[tuple[str, ...], ...]


def compare_methods(
    scores: Float[np.ndarray, "units methods"],
    methods: Sequence[str],
    *,
    posthoc: PostHoc = "permutation",
    alpha: float = 0.05,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare methods: Friedman's test, a test for each pair, and the sets without significant differences.

    ``permutation`` compares means (sign-flip tests with Holm) and fits a table sorted by means; ``wilcoxon`` compares
    differences about 0 (signed-rank tests with Holm) and ``nemenyi`` mean ranks (Demšar, JMLR 7, 2006), both of which
    also separate methods of equal mean and different skew; Nemenyi's verdict on a pair also depends on the other
    methods in the table (Benavoli, Corani & Mangili, JMLR 17, 2016). Each controls the family-wise error rate by
    itself, so that the pairs are tested whatever Friedman's test says.

    Args:
        scores: Higher is better; NaN is missing. Only units with a value for every method are used; the others are
            counted.
        posthoc: The test of each pair; for two methods it is Wilcoxon's or the permutation test in any case.
        alpha: Family-wise error rate.
        resamples: Random sign patterns of a permutation test.

    Raises:
        ValueError: Fewer than two methods, inconsistent shapes or names, an infinite value or an invalid alpha.

    Example:
        >>> scores = np.random.default_rng(0).normal([[0.0, 0.1, 3.0]], size=(20, 3))
        >>> found = compare_methods(scores, ["a", "b", "c"])
        >>> found.ranks.tolist(), found.groups
        ([2, 2, 1], (('b', 'a'),))
    """
    check_share("alpha", alpha)
    scores, names = np.round(np.asarray(scores, dtype=np.float64), DIGITS), tuple(methods)
    if scores.ndim != 2 or scores.shape[1] != len(names) or len(set(names)) != len(names) or len(names) < 2:
        raise ValueError(f"scores must be [units, methods] with two or more named methods, not {list(scores.shape)}")
    check_finite(scores)
    complete = scores[~np.isnan(scores).any(axis=1)]
    left_out = len(scores) - len(complete)
    n, k = complete.shape
    ranks = stats.rankdata(-complete, axis=1).mean(axis=0) if n else np.full(k, np.nan)
    means = complete.mean(axis=0) if n else np.full(k, np.nan)
    nemenyi = posthoc == "nemenyi" and k > 2
    pairs = _nemenyi(complete, ranks, names) if nemenyi else _pairs(complete, names, posthoc, resamples, seed)
    pairs = tuple(_with_left_out(pair, left_out) for pair in pairs)
    separated = np.zeros((k, k), dtype=bool)
    for (i, j), pair in zip(itertools.combinations(range(k), 2), pairs, strict=True):
        separated[i, j] = separated[j, i] = pair.p_corrected <= alpha
    quality = means if posthoc == "permutation" else -ranks
    return Comparison(
        methods=names,
        omnibus=pairs[0] if k == 2 else _with_left_out(_friedman(complete), left_out),
        pairs=pairs,
        means=means,
        mean_ranks=ranks,
        critical_difference=critical_difference(k, n, alpha) if nemenyi and n else math.nan,
        separated=separated,
        ranks=tied_ranks(quality, separated),
        groups=tuple(tuple(names[i] for i in group) for group in tied_groups(quality, separated)),
    )


def critical_difference(methods: int, units: int, alpha: float = 0.05) -> float:
    """Nemenyi's critical difference of mean ranks: q_α √(k (k + 1) / (6 n)).

    q_α is the studentised range with infinite degrees of freedom over √2 (Demšar, 2006, table 5).

    Args:
        methods: Number of methods k, at least 2.
        units: Number of units n, at least 1.
        alpha: Family-wise error rate.

    Example:
        >>> round(critical_difference(4, 14), 2)
        1.25
    """
    q = stats.studentized_range.ppf(1 - alpha, methods, np.inf) / math.sqrt(2)
    return float(q * math.sqrt(methods * (methods + 1) / (6 * units)))


def tied_ranks(
    quality: Float[np.ndarray, " methods"], separated: Bool[np.ndarray, "methods methods"]
) -> Int[np.ndarray, " methods"]:
    """Ranks that the data support: 1 + the number of methods that are significantly better.

    "Not significantly different" is not transitive: with a > b > c and only a and c separated the ranks are 1, 1, 2.

    Args:
        quality: Higher is better.
        separated: Symmetric; whether a pair differs significantly.

    Example:
        >>> apart = np.array([[False, False, True], [False, False, False], [True, False, False]])
        >>> tied_ranks(np.array([3.0, 2.0, 1.0]), apart).tolist()
        [1, 1, 2]
    """
    quality = np.asarray(quality, dtype=np.float64)
    return 1 + (np.asarray(separated, dtype=bool) & (quality[None, :] > quality[:, None])).sum(axis=1)


def tied_groups(
    quality: Float[np.ndarray, " methods"], separated: Bool[np.ndarray, "methods methods"]
) -> tuple[tuple[int, ...], ...]:
    """The bars of a critical-difference diagram: largest runs, best first, without a separated pair.

    Args:
        quality: Higher is better.
        separated: Symmetric; whether a pair differs significantly.

    Returns:
        Indices of the methods; no runs of a single method.

    Example:
        >>> apart = np.array([[False, False, True], [False, False, False], [True, False, False]])
        >>> tied_groups(np.array([3.0, 2.0, 1.0]), apart)
        ((0, 1), (1, 2))
    """
    order = np.argsort(-np.asarray(quality, dtype=np.float64), kind="stable")
    runs, reached = [], 0
    for start in range(len(order)):
        end = start + 1
        while end < len(order) and not separated[order[start:end], order[end]].any():
            end += 1
        if end - start > 1 and end > reached:
            runs.append(tuple(int(method) for method in order[start:end]))
            reached = end
    return tuple(runs)


def _friedman(complete: Float[np.ndarray, "units methods"]) -> HypothesisTest:
    n, k = complete.shape
    differing = int((np.ptp(complete, axis=1) > 0).sum()) if n else 0
    statistic = p_value = effect = math.nan
    reason = "no complete unit" if n == 0 else "fewer than two complete units" if n == 1 else ""
    if n >= 2 and differing == 0:
        statistic, p_value, effect, reason = 0.0, 1.0, 0.0, "no unit differs"
    elif n >= 2:
        found = stats.friedmanchisquare(*complete.T)
        statistic, p_value = float(found.statistic), float(found.pvalue)
        effect = statistic / (n * (k - 1))
        reason = "fewer than ten units: the chi-square approximation is rough" if n < _FEW_BLOCKS else ""
    return HypothesisTest(
        test="Friedman test, chi-square",
        hypothesis=f"the {k} methods of a unit could be swapped",
        n=n,
        differing=differing,
        statistic=statistic,
        p_value=p_value,
        effect=effect,
        effect_name="Kendall's W in [0, 1]",
        reason=reason,
    )


def _pairs(
    complete: Float[np.ndarray, "units methods"], names: tuple[str, ...], posthoc: PostHoc, resamples: int, seed: int
) -> tuple[HypothesisTest, ...]:
    tests = []
    for i, j in itertools.combinations(range(len(names)), 2):
        first, second, pair = complete[:, i], complete[:, j], (names[i], names[j])
        if posthoc == "permutation":
            tests.append(paired_permutation(first, second, names=pair, resamples=resamples, seed=seed))
        else:
            tests.append(paired_wilcoxon(first, second, names=pair))
    return correct(tests, "pairs of methods")


def _nemenyi(
    complete: Float[np.ndarray, "units methods"], ranks: Float[np.ndarray, " methods"], names: tuple[str, ...]
) -> tuple[HypothesisTest, ...]:
    n, k = complete.shape
    tests = []
    for i, j in itertools.combinations(range(k), 2):
        # The paired test gives the number of differing units and the effect; its p is replaced by Nemenyi's.
        paired = paired_wilcoxon(complete[:, i], complete[:, j], names=(names[i], names[j]))
        apart = p_value = math.nan
        if n >= 2:
            apart = float(ranks[j] - ranks[i])
            p_value = float(stats.studentized_range.sf(abs(apart) * math.sqrt(12 * n / (k * (k + 1))), k, np.inf))
        tests.append(
            dataclasses.replace(
                paired,
                test="Nemenyi test",
                hypothesis=f"{names[i]} and {names[j]} have the same mean rank",
                statistic=apart,
                p_value=math.nan,
                p_corrected=p_value,
                correction="" if math.isnan(p_value) else f"studentised range over {k} methods",
                reason="fewer than two complete units" if n < 2 else "",
            )
        )
    return tuple(tests)


def _with_left_out(test: HypothesisTest, left_out: int) -> HypothesisTest:
    because = "without a value for every method" if left_out else ""
    return dataclasses.replace(test, left_out=left_out, left_out_because=because)
