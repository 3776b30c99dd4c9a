"""Holm, Friedman, Nemenyi and ranks with ties, against their definitions, R and published critical values."""

from __future__ import annotations

import gc
import itertools
import math

import numpy as np
import pytest
from scipy import stats

from metrics.statistics import (
    compare_methods,
    correct,
    critical_difference,
    holm,
    paired_permutation,
    paired_wilcoxon,
    tied_groups,
    tied_ranks,
)

NAN = float("nan")

NAMES = ("a", "b", "c", "d")
# Bounded and rounded, so that there are ties.
SCORES = np.random.default_rng(5).beta(5, 2, size=(14, 4)).round(1)

# R 4, example(friedman.test), Hollander & Wolfe (1973), p. 140ff: times to round first base, 22 players.
ROUNDING = np.array(
    [
        [5.40, 5.50, 5.55], [5.85, 5.70, 5.75], [5.20, 5.60, 5.50], [5.55, 5.50, 5.40], [5.90, 5.85, 5.70],
        [5.45, 5.55, 5.60], [5.40, 5.40, 5.35], [5.45, 5.50, 5.35], [5.25, 5.15, 5.00], [5.85, 5.80, 5.70],
        [5.25, 5.20, 5.10], [5.65, 5.55, 5.45], [5.60, 5.35, 5.45], [5.05, 5.00, 4.95], [5.50, 5.50, 5.40],
        [5.45, 5.55, 5.50], [5.55, 5.55, 5.35], [5.45, 5.50, 5.55], [5.50, 5.45, 5.25], [5.65, 5.60, 5.40],
        [5.70, 5.65, 5.55], [6.30, 6.30, 6.25],
    ]
)  # fmt: skip


def test_holm_by_its_definition():
    p = np.random.default_rng(0).random(9) ** 3
    order = np.argsort(p)
    expected, largest = np.empty(9), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (9 - rank) * p[index]))
        expected[index] = largest
    corrected = holm(p)
    np.testing.assert_allclose(corrected.p_values, expected)
    np.testing.assert_array_equal(corrected.rejected, expected <= 0.05)
    assert corrected.tests == 9


def test_a_missing_test_does_not_count_in_the_family():
    corrected = holm(np.array([0.01, NAN, 0.03]))
    np.testing.assert_allclose(corrected.p_values, [0.02, NAN, 0.03])
    assert corrected.rejected.tolist() == [True, False, True]
    assert corrected.tests == 2
    assert holm(np.array([])).tests == 0
    assert np.isnan(holm(np.array([NAN])).p_values).all()
    with pytest.raises(ValueError, match="p-values"):
        holm(np.array([1.2]))


def test_holm_walks_through_new_garbage_only_and_leaves_a_callers_freeze_alone(monkeypatch):
    frozen = []
    monkeypatch.setattr(gc, "collect", lambda *_: frozen.append(gc.get_freeze_count()) or 0)
    gc.unfreeze()
    holm(np.array([0.01, 0.02]))
    assert min(frozen) > 10_000
    assert gc.get_freeze_count() == 0
    gc.freeze()
    try:
        holm(np.array([0.01, 0.02]))
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()


def test_corrected_tests_say_over_which_family():
    tests = [paired_wilcoxon(np.arange(1.0, n + 1), np.zeros(n)) for n in (8, 0, 6)]
    first, missing, last = correct(tests, "conditions")
    assert (first.p_corrected, last.p_corrected) == pytest.approx((2 * 2 / 2**8, 2 / 2**6))
    assert first.correction == last.correction == "Holm over 2 conditions"
    assert math.isnan(missing.p_corrected)
    assert missing.correction == ""
    assert correct([], "nothing") == ()


def test_friedman_is_rs():
    found = compare_methods(-ROUNDING, ["out", "narrow", "wide"])
    # R: Friedman chi-squared = 11.143, df = 2, p-value = 0.003805
    assert found.omnibus.statistic == pytest.approx(11.143, abs=5e-4)
    assert found.omnibus.p_value == pytest.approx(0.003805, abs=5e-7)
    assert found.omnibus.effect == pytest.approx(11.143 / (22 * 2), abs=1e-4)
    assert found.mean_ranks.argmin() == 2


@pytest.mark.parametrize("data", [-ROUNDING, SCORES, SCORES * [1, 1, 0.2, 0.1]])
def test_nemenyi_separates_mean_ranks_beyond_the_critical_difference(data):
    n, k = data.shape
    found = compare_methods(data, NAMES[:k], posthoc="nemenyi")
    assert found.critical_difference == pytest.approx(critical_difference(k, n))
    apart = np.abs(found.mean_ranks[:, None] - found.mean_ranks)
    np.testing.assert_array_equal(found.separated, apart >= found.critical_difference)
    ranks = np.array([[1 + (row > x).sum() + ((row == x).sum() - 1) / 2 for x in row] for row in data])
    np.testing.assert_allclose(found.mean_ranks, ranks.mean(axis=0))
    for (i, j), pair in zip(itertools.combinations(range(k), 2), found.pairs, strict=True):
        assert pair.statistic == pytest.approx(ranks[:, j].mean() - ranks[:, i].mean())
        assert pair.correction == f"studentised range over {k} methods"
        assert math.isnan(pair.p_value)


def test_critical_values_are_demsars():
    # Demšar (JMLR 7, 2006), section 3.2.2: 1.25 for 4 classifiers on 14 data sets.
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    # Demšar (2006), table 5 (a), q at 0.05 for 2 to 10 methods.
    published = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
    ours = [critical_difference(k, 1) / math.sqrt(k * (k + 1) / 6) for k in range(2, 11)]
    np.testing.assert_allclose(ours, published, atol=1.1e-3)


@pytest.mark.parametrize(("posthoc", "function"), [("permutation", paired_permutation), ("wilcoxon", paired_wilcoxon)])
def test_pairs_are_paired_tests_with_holm(posthoc, function):
    found = compare_methods(SCORES, NAMES, posthoc=posthoc)
    columns = list(itertools.combinations(range(4), 2))
    p = np.array([function(SCORES[:, i], SCORES[:, j]).p_value for i, j in columns])
    assert [pair.p_value for pair in found.pairs] == pytest.approx(p)
    assert [pair.p_corrected for pair in found.pairs] == pytest.approx(holm(p).p_values)
    assert "a and b" in found.pairs[0].hypothesis or "a − b" in found.pairs[0].hypothesis
    assert found.pairs[0].correction == "Holm over 6 pairs of methods"
    assert math.isnan(found.critical_difference)


@pytest.mark.parametrize("posthoc", ["permutation", "wilcoxon", "nemenyi"])
def test_two_methods_have_the_paired_test(posthoc):
    found = compare_methods(SCORES[:, :2], NAMES[:2], posthoc=posthoc)
    function = paired_permutation if posthoc == "permutation" else paired_wilcoxon
    assert found.omnibus == found.pairs[0]
    assert found.omnibus.p_value == function(SCORES[:, 0], SCORES[:, 1]).p_value
    assert found.omnibus.p_corrected == found.omnibus.p_value


@pytest.mark.parametrize("posthoc", ["permutation", "wilcoxon", "nemenyi"])
def test_only_complete_units_enter_and_the_rest_is_counted(posthoc):
    holes = np.vstack([SCORES, [[0.1, NAN, 0.2, 0.3], [NAN, NAN, NAN, NAN]]])
    plain, found = (compare_methods(data, NAMES, posthoc=posthoc) for data in (SCORES, holes))
    assert [test.p_corrected for test in found.pairs] == [test.p_corrected for test in plain.pairs]
    assert found.omnibus.p_value == plain.omnibus.p_value
    assert all((test.n, test.left_out) == (14, 2) for test in (found.omnibus, *found.pairs))
    assert found.omnibus.left_out_because == "without a value for every method"


@pytest.mark.parametrize("posthoc", ["permutation", "wilcoxon", "nemenyi"])
def test_far_methods_are_separated_and_near_ones_tied(posthoc):
    noise = np.random.default_rng(1).beta(5, 2, size=(40, 4))
    scores = noise * [0.2, 1.0, 1.0, 0.2]
    found = compare_methods(scores, "abcd", posthoc=posthoc)
    assert found.ranks.tolist() == [3, 1, 1, 3]
    assert [set(group) for group in found.groups] == [{"b", "c"}, {"a", "d"}]
    order = [3, 1, 0, 2]
    again = compare_methods(scores[:, order], ["abcd"[i] for i in order], posthoc=posthoc)
    assert again.ranks.tolist() == found.ranks[order].tolist()


@pytest.mark.parametrize("posthoc", ["permutation", "wilcoxon", "nemenyi"])
@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_few_units_have_a_result_with_a_reason(posthoc, n):
    found = compare_methods(SCORES[:n], NAMES, posthoc=posthoc)
    assert found.omnibus.reason
    assert found.ranks.tolist() == [1, 1, 1, 1]
    assert found.omnibus.n == n
    assert math.isnan(found.omnibus.p_value) == (n < 2)
    alike = compare_methods(np.ones((n, 3)), "abc", posthoc=posthoc)
    assert alike.ranks.tolist() == [1, 1, 1]
    if n >= 2:
        assert (alike.omnibus.p_value, alike.omnibus.reason) == (1.0, "no unit differs")


def test_bad_input_is_refused():
    for names in ("abc", "abca", ""):
        with pytest.raises(ValueError, match="methods"):
            compare_methods(SCORES, names)
    with pytest.raises(ValueError, match="methods"):
        compare_methods(SCORES[:, :1], ["a"])
    with pytest.raises(ValueError, match="alpha"):
        compare_methods(SCORES, NAMES, alpha=5)
    with pytest.raises(ValueError, match="finite"):
        compare_methods(np.full((3, 2), np.inf), "ab")


def test_groups_never_hold_a_separated_pair_and_ranks_are_bounded():
    rng = np.random.default_rng(0)
    for _ in range(50):
        k = int(rng.integers(2, 8))
        quality = rng.random(k)
        upper = np.triu(rng.random((k, k)) < 0.4, 1)
        separated = upper | upper.T
        groups = tied_groups(quality, separated)
        for group in groups:
            assert not separated[np.ix_(group, group)].any()
            assert (np.diff(quality[list(group)]) <= 0).all()
        assert not any(set(a) < set(b) for a, b in itertools.permutations(groups, 2))
        ranks, strict = tied_ranks(quality, separated), stats.rankdata(-quality)
        assert (ranks >= 1).all()
        assert (ranks <= strict).all()
        assert (tied_ranks(quality, ~np.eye(k, dtype=bool)) == strict).all()
