"""Tests of two methods or conditions, against SciPy, R, statsmodels and counting by hand."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from scipy import stats

from metrics.statistics import (
    cohens_h,
    mcnemar_test,
    noise_floor_test,
    paired_permutation,
    paired_wilcoxon,
    rank_biserial,
)

NAN = float("nan")
TWO = pytest.mark.parametrize("function", [paired_wilcoxon, paired_permutation])


def values(n=40, seed=0):
    return np.random.default_rng(seed).gamma(1.0, size=n)


@pytest.mark.parametrize("n", [8, 30, 80])
def test_wilcoxon_is_scipys(n):
    first, second = values(n), values(n, seed=1)
    test = paired_wilcoxon(first, second)
    theirs = stats.wilcoxon(np.round(first - second, 12))
    assert (test.statistic, test.p_value) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-12)
    assert (test.n, test.differing, test.left_out, test.reason) == (n, n, 0, "")
    assert test.test.endswith("exact" if n <= 50 else "normal approximation")


@pytest.mark.parametrize(("n", "how"), [(7, "exact"), (9, "exact"), (20, "normal approximation")])
def test_wilcoxon_with_ties_is_scipys(n, how):
    differences = np.random.default_rng(n).integers(-3, 3, n) + 0.5
    assert len(np.unique(np.abs(differences))) < n
    test = paired_wilcoxon(differences, np.zeros(n))
    theirs = stats.wilcoxon(differences)
    assert (test.statistic, test.p_value) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-12)
    assert test.test.endswith(how)


def test_wilcoxon_is_rs():
    # R 4, example(wilcox.test), Hamilton depression scale factor (Hollander & Wolfe, 1973, table 3.1): one-sided
    # p = 0.01953, which is exact, V = 40 of 45.
    first = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
    second = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])
    test = paired_wilcoxon(first, second, names=("before", "after"))
    assert test.p_value == pytest.approx(2 * 0.01953, abs=1e-5)
    assert test.statistic == 45 - 40
    assert test.effect == pytest.approx((40 - 5) / 45)
    assert test.hypothesis == "the differences before − after of a unit are symmetric about 0"


def test_rank_biserial_by_walsh_averages():
    differences = values() - values(seed=1)
    signs = [np.sign(a + b) for i, a in enumerate(differences) for b in differences[: i + 1]]
    assert rank_biserial(differences) == pytest.approx(np.mean(signs))
    assert rank_biserial(np.array([2.0, 1.0, 0.0, NAN])) == 1.0
    assert rank_biserial(np.zeros(3)) == 0.0
    assert math.isnan(rank_biserial(np.array([NAN])))


@pytest.mark.parametrize("n", [4, 9])
def test_permutation_by_counting_all_signs(n):
    differences = np.round(values(n) - values(n, seed=1) + 0.4, 12)
    sums = np.array([np.dot(signs, differences) for signs in itertools.product((-1, 1), repeat=n)])
    expected = (np.abs(sums) >= abs(differences.sum()) - 1e-9).mean()
    test = paired_permutation(differences, np.zeros(n))
    assert test.p_value == pytest.approx(expected)
    assert test.statistic == test.difference == pytest.approx(differences.mean())
    assert test.test.endswith("exact")


def test_permutation_of_many_pairs_is_near_the_t_test_and_repeats():
    first, second = values(60), values(60, seed=1) + 0.3
    test = paired_permutation(first, second)
    assert test.p_value == pytest.approx(stats.ttest_rel(first, second).pvalue, abs=0.02)
    assert paired_permutation(first, second) == test
    assert "9999 random permutations" in test.test


def sampled_by_scipy(columns, statistic, **options):
    found = stats.permutation_test(
        columns, statistic, permutation_type="samples", n_resamples=999, rng=np.random.default_rng(5), **options
    )
    return found.pvalue


@pytest.mark.parametrize("n", [2, 9, 14, 60])
def test_random_and_all_sign_patterns_are_those_of_scipy(n):
    for differences in (values(n) - 1.2, np.round(values(n, seed=1) - 1, 1)):
        differences = differences[differences != 0]
        ours = paired_permutation(differences, np.zeros(len(differences)), resamples=999, seed=5)
        assert ours.p_value == sampled_by_scipy((differences,), np.mean)


@pytest.mark.parametrize(("n", "repeats"), [(3, 1), (30, 1), (30, 3)])
def test_the_permutations_of_the_floor_test_are_those_of_scipy(n, repeats):
    data = values(n * (3 + repeats)).reshape(n, -1)
    data[0, :2], data[1, -1] = NAN, NAN
    data[2] = 0.5

    def statistic(*columns, axis):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the mean of nothing, and nothing by nothing
            d = np.nanmean(np.stack(columns[:3]), axis=0) - np.nanmean(np.stack(columns[3:]), axis=0)
            return np.round(np.nansum(d, axis=axis) / np.sqrt(np.nansum(d * d, axis=axis)), 9)

    kept = ~np.isnan(data[:, 3:]).all(axis=1)
    ours = noise_floor_test(data[:, :3], data[:, 3:], resamples=999, seed=5)
    assert ours.p_value == sampled_by_scipy(tuple(data[kept].T), statistic, axis=-1, vectorized=True)


@TWO
def test_swapping_the_methods_turns_the_effect(function):
    there, back = function(values(), values(seed=1)), function(values(seed=1), values())
    assert there.p_value == pytest.approx(back.p_value, abs=0.02)
    assert there.effect == -back.effect
    assert there.difference == pytest.approx(-back.difference)
    assert function(values() + 1, values()).effect == 1.0


@TWO
def test_equal_and_missing_pairs_do_not_enter(function):
    first, second = values(12), values(12, seed=1)
    plain = function(first, second)
    padded = function(np.r_[first, 0.5, NAN, 1.0], np.r_[second, 0.5, 1.0, NAN])
    assert (padded.n, padded.differing, padded.left_out) == (13, 12, 2)
    assert padded.left_out_because == "without a value in one of the two"
    assert (padded.p_value, padded.effect) == pytest.approx((plain.p_value, plain.effect))
    assert padded.difference == pytest.approx(plain.difference * 12 / 13)


@TWO
def test_rounding_errors_are_no_differences(function):
    assert function(np.array([0.1 + 0.2] * 7), np.array([0.3] * 7)).reason == "no pair differs"


@TWO
def test_the_edge(function):
    same = function(values(), values())
    assert (same.n, same.differing, same.p_value, same.effect, same.reason) == (40, 0, 1.0, 0.0, "no pair differs")
    nothing = function(np.array([NAN]), np.array([1.0]))
    assert (nothing.reason, nothing.n, nothing.left_out) == ("no pair", 0, 1)
    assert math.isnan(nothing.p_value)
    for n in range(1, 6):
        few = function(np.arange(1.0, n + 1), np.zeros(n))
        assert few.p_value == pytest.approx(2 / 2**n)
        assert few.reason.startswith("fewer than six")
    with pytest.raises(ValueError, match="of the same shape"):
        function(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="finite"):
        function(np.array([np.inf]), np.ones(1))


def verdicts(kept, lost, gained, wrong):
    first = np.repeat([1.0, 1.0, 0.0, 0.0], (kept, lost, gained, wrong))
    second = np.repeat([1.0, 0.0, 1.0, 0.0], (kept, lost, gained, wrong))
    return first, second


@pytest.mark.parametrize(("lost", "gained"), [(8, 1), (12, 12), (0, 7), (1, 0), (20, 4)])
def test_mcnemar_with_few_changes_is_the_binomial_test(lost, gained):
    test = mcnemar_test(*verdicts(5, lost, gained, 3))
    assert test.p_value == pytest.approx(stats.binomtest(lost, lost + gained).pvalue)
    assert test.test == "McNemar test, exact"
    assert (test.n, test.differing, test.statistic) == (8 + lost + gained, lost + gained, min(lost, gained))


def test_mcnemar_is_agrestis():
    # Agresti, Categorical Data Analysis (2002), section 10.1.1: approval ratings, z = -4.17, 944 and 880 of 1600.
    test = mcnemar_test(*verdicts(794, 150, 86, 570))
    assert math.sqrt(test.statistic) == pytest.approx(4.17, abs=0.005)
    assert test.p_value == pytest.approx(2 * stats.norm.sf(math.sqrt(test.statistic)))
    assert test.difference == pytest.approx((944 - 880) / 1600)
    assert test.effect == pytest.approx(2 * (math.asin(math.sqrt(944 / 1600)) - math.asin(math.sqrt(880 / 1600))))


def test_mcnemar_at_the_edge():
    same = mcnemar_test(*verdicts(4, 0, 0, 2))
    assert (same.p_value, same.effect, same.reason) == (1.0, 0.0, "no pair differs")
    nothing = mcnemar_test(np.array([NAN]), np.array([1.0]))
    assert (nothing.n, nothing.left_out, nothing.reason) == (0, 1, "no pair")
    assert math.isnan(nothing.p_value)
    assert mcnemar_test(*verdicts(0, 5, 0, 0)).reason.startswith("fewer than six")
    assert mcnemar_test(np.array([True, False]), np.array([False, False])).differing == 1
    with pytest.raises(ValueError, match="verdict"):
        mcnemar_test(np.array([0.5]), np.array([1.0]))


def test_cohens_h_of_known_shares():
    # Cohen (1988), table 6.2.2: φ(0.50) = 1.571, φ(0.25) = 1.047.
    assert cohens_h(0.5, 0.25) == pytest.approx(1.571 - 1.047, abs=1e-3)
    assert cohens_h(0.0, 1.0) == pytest.approx(-math.pi)


def test_the_floor_test_of_one_condition_is_the_sign_flip_test():
    first, second = values(9), values(9, seed=1)
    ours = noise_floor_test(first[:, None], second[:, None])
    flip = paired_permutation(first, second)
    assert ours.p_value == pytest.approx(flip.p_value)
    assert ours.difference == pytest.approx(flip.difference)
    assert ours.effect == pytest.approx(np.sign(first - second).mean())


def test_the_floor_test_by_counting_all_permutations():
    data = np.array([[0.1, 0.5, 0.9], [0.3, 0.3, 0.8], [0.2, 0.1, 1.0]])
    test = noise_floor_test(data[:, :2], data[:, 2:])

    def statistic(repeats):
        d = np.array([(row.sum() - row[r]) / 2 - row[r] for row, r in zip(data, repeats, strict=True)])
        return d.sum() / np.sqrt((d * d).sum())

    null = np.array([statistic(repeats) for repeats in itertools.product(range(3), repeat=3)])
    observed = statistic((2, 2, 2))
    expected = 2 * min((null <= observed + 1e-9).mean(), (null >= observed - 1e-9).mean())
    assert test.statistic == pytest.approx(observed)
    assert test.p_value == pytest.approx(min(1.0, expected))
    assert test.effect == -1.0


def test_the_floor_test_sees_a_method_that_never_changes_by_itself():
    moved = np.ones((24, 6))
    moved[:5, 0] = 0.4
    test = noise_floor_test(moved, np.ones((24, 1)))
    assert test.p_value > 0.2, "five of 144 labels moved: a repeat might be among the moved ones"
    moved[:, :4] = 0.4
    test = noise_floor_test(moved, np.ones((24, 1)))
    assert test.p_value < 0.001
    assert test.effect == pytest.approx(-4 / 6)


def test_the_floor_test_leaves_out_units_without_either_side():
    conditions, repeats = values(60).reshape(20, 3), values(20, seed=1)[:, None]
    plain = noise_floor_test(conditions, repeats)
    padded = noise_floor_test(
        np.vstack([conditions, np.full(3, NAN), np.ones(3)]), np.vstack([repeats, [[1.0]], [[NAN]]])
    )
    assert (padded.n, padded.left_out) == (20, 2)
    assert "without a similarity" in padded.left_out_because
    assert (padded.p_value, padded.difference) == (plain.p_value, plain.difference)
    conditions[3, 1] = NAN
    some = noise_floor_test(conditions, repeats)
    assert some.n == 20
    assert some.difference == pytest.approx((np.nanmean(conditions, axis=1) - repeats[:, 0]).mean())


def test_the_floor_test_at_the_edge():
    same = noise_floor_test(np.ones((5, 3)), np.ones((5, 1)))
    assert (same.p_value, same.effect, same.difference, same.reason) == (1.0, 0.0, 0.0, "no unit differs")
    for n, reason in ((0, "no unit has both a condition and a clean repeat"), (1, "fewer than two units")):
        few = noise_floor_test(np.zeros((n, 3)), np.ones((n, 1)))
        assert math.isnan(few.p_value)
        assert (few.n, few.reason) == (n, reason)
    assert noise_floor_test(np.zeros((2, 1)), np.ones((2, 1))).p_value == pytest.approx(0.5)
    assert noise_floor_test(np.zeros((2, 1)), np.ones((2, 1))).reason.startswith("fewer than six")
    no_repeats = noise_floor_test(np.zeros((4, 2)), np.zeros((4, 0)))
    assert (no_repeats.n, no_repeats.left_out) == (0, 4)
    with pytest.raises(ValueError, match="same units"):
        noise_floor_test(np.zeros((2, 1)), np.zeros((3, 1)))
    with pytest.raises(ValueError, match="finite"):
        noise_floor_test(np.full((2, 1), np.inf), np.zeros((2, 1)))
