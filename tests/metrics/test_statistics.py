from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from metrics.statistics import bootstrap_interval, holm, paired_wilcoxon, wilson_interval

NAN = float("nan")


def values(n=40, seed=0):
    return np.random.default_rng(seed).gamma(1.0, size=n)


def test_the_interval_is_scipys_bca():
    data = values()
    ours = bootstrap_interval(data, resamples=2_000, confidence=0.9, seed=3)
    theirs = stats.bootstrap(
        (data,), np.mean, confidence_level=0.9, n_resamples=2_000, method="BCa", rng=np.random.default_rng(3)
    ).confidence_interval
    assert (ours.low, ours.high) == (theirs.low, theirs.high)
    assert ours.estimate == pytest.approx(data.mean())
    assert (ours.n, ours.reason) == (40, "")


def test_the_interval_leaves_global_randomness_alone_and_repeats():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first = bootstrap_interval(values(), resamples=500)
    assert bootstrap_interval(values(), resamples=500) == first
    assert bootstrap_interval(values(), resamples=500, seed=1) != first
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


def test_missing_values_are_left_out():
    data = np.r_[values(), NAN, NAN]
    assert bootstrap_interval(data, resamples=500) == bootstrap_interval(values(), resamples=500)


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    covered = 0
    for seed in range(60):
        sample = np.random.default_rng(seed).normal(2.0, size=50)
        interval = bootstrap_interval(sample, resamples=400, confidence=0.8, seed=seed)
        covered += interval.low <= 2.0 <= interval.high
    assert stats.binomtest(covered, 60, 0.8).pvalue > 0.01


@pytest.mark.parametrize(
    ("data", "n", "estimate", "reason"),
    [
        ([], 0, NAN, "no value"),
        ([NAN, NAN], 0, NAN, "no value"),
        ([0.4], 1, 0.4, "fewer than three values"),
        ([0.4, 0.8], 2, 0.6, "fewer than three values"),
        ([0.4, 0.4], 2, 0.4, "fewer than three values"),
        ([0.4, NAN, 0.8], 2, 0.6, "fewer than three values"),
    ],
)
def test_too_few_values_have_no_interval_and_a_reason(data, n, estimate, reason):
    interval = bootstrap_interval(np.array(data))
    np.testing.assert_allclose(interval.estimate, estimate)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert interval[3:] == (n, reason)


def test_equal_values_have_a_point_and_a_reason():
    assert bootstrap_interval(np.full(9, 0.1)) == (0.1, 0.1, 0.1, 9, "all values are equal")


def test_where_bca_is_undefined_the_percentile_interval_says_so(monkeypatch):
    real = stats.bootstrap

    def without_bca(*args, **options):
        result = real(*args, **options)
        if options["method"] == "BCa":
            result.confidence_interval = type(result.confidence_interval)(NAN, NAN)
        return result

    monkeypatch.setattr(stats, "bootstrap", without_bca)
    interval = bootstrap_interval(values(), resamples=500)
    assert interval.low < values().mean() < interval.high
    assert interval.reason == "bias correction undefined: percentile interval"


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="finite"):
        bootstrap_interval(np.array([1.0, np.inf, 2.0]))
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_interval(values(), confidence=95)


@pytest.mark.parametrize("n", [8, 30, 80])
def test_wilcoxon_is_scipys(n):
    first, second = values(n), values(n, seed=1)
    test = paired_wilcoxon(first, second)
    theirs = stats.wilcoxon(np.round(first - second, 12))
    assert (test.statistic, test.p_value) == (theirs.statistic, theirs.pvalue)
    assert (test.n, test.differing, test.reason) == (n, n, "")
    signs = [np.sign(a + b) for i, a in enumerate(first - second) for b in (first - second)[: i + 1]]
    assert test.effect == pytest.approx(np.mean(signs))


def test_swapping_the_methods_turns_the_effect():
    there, back = paired_wilcoxon(values(), values(seed=1)), paired_wilcoxon(values(seed=1), values())
    assert there.p_value == back.p_value
    assert there.effect == -back.effect
    assert paired_wilcoxon(values() + 1, values()).effect == 1.0


def test_equal_and_missing_pairs_do_not_enter():
    first, second = values(12), values(12, seed=1)
    plain = paired_wilcoxon(first, second)
    padded = paired_wilcoxon(np.r_[first, 0.5, NAN, 1.0], np.r_[second, 0.5, 1.0, NAN])
    assert (padded.n, padded.differing) == (13, 12)
    assert padded[2:] == plain[2:]


def test_rounding_errors_are_no_differences():
    assert paired_wilcoxon(np.array([0.1 + 0.2] * 7), np.array([0.3] * 7)).reason == "no pair differs"


def test_wilcoxon_at_the_edge():
    assert paired_wilcoxon(values(), values()) == (40, 0, 0.0, 1.0, 0.0, "no pair differs")
    nothing = paired_wilcoxon(np.array([NAN]), np.array([1.0]))
    assert nothing.reason == "no pair"
    assert nothing.n == 0
    assert math.isnan(nothing.p_value)
    few = paired_wilcoxon(np.arange(1.0, 6.0), np.zeros(5))
    assert few.p_value == pytest.approx(2 / 2**5)
    assert few.reason.startswith("fewer than six")
    with pytest.raises(ValueError, match="alike"):
        paired_wilcoxon(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="finite"):
        paired_wilcoxon(np.array([np.inf]), np.ones(1))


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


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (7, 32), (1, 1)])
def test_wilson_by_its_definition(successes, n):
    interval = wilson_interval(successes, n)
    z, share = stats.norm.ppf(0.975), successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    np.testing.assert_allclose(interval[:3], [share, centre - half, centre + half], atol=1e-12)
    wide = wilson_interval(successes, n, confidence=0.99)
    np.testing.assert_allclose(wide[1:3], proportion_confint(successes, n, alpha=0.01, method="wilson"), atol=1e-12)


def test_wilson_at_the_edge():
    nothing = wilson_interval(0, 0)
    assert np.isnan(nothing[:3]).all()
    assert nothing.reason == "no value"
    with pytest.raises(ValueError, match="between 0 and n"):
        wilson_interval(4, 3)
    with pytest.raises(ValueError, match="confidence"):
        wilson_interval(1, 3, confidence=1.0)
