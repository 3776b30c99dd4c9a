"""Intervals against SciPy, statsmodels and their definitions, and all that is degenerate."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from metrics.statistics import bootstrap_interval, expanded_confidence, paired_interval, wilson_interval

NAN = float("nan")


def values(n=40, seed=0):
    return np.random.default_rng(seed).gamma(1.0, size=n)


@pytest.mark.parametrize("statistic", [np.mean, np.median])
def test_the_interval_is_scipys_bca_at_the_wider_level(statistic):
    data = values()
    ours = bootstrap_interval(data, statistic=statistic, resamples=2_000, confidence=0.9, seed=3)
    theirs = stats.bootstrap(
        (data,),
        statistic,
        confidence_level=expanded_confidence(0.9, 40),
        n_resamples=2_000,
        method="BCa",
        rng=np.random.default_rng(3),
    ).confidence_interval
    assert (ours.low, ours.high) == (theirs.low, theirs.high)
    assert ours.estimate == pytest.approx(statistic(data))
    assert (ours.n, ours.reason, ours.left_out) == (40, "", 0)


@pytest.mark.parametrize("n", [5, 24, 1_000])
def test_the_wider_level_gives_normal_quantiles_the_width_of_the_t_interval(n):
    level = expanded_confidence(0.95, n)
    bootstrap_width = stats.norm.ppf((1 + level) / 2) * math.sqrt((n - 1) / n)
    assert bootstrap_width == pytest.approx(stats.t.ppf(0.975, n - 1))


def test_the_paired_interval_of_means_is_that_of_the_differences():
    first, second = values(), values(seed=1)
    paired = paired_interval(first, second, resamples=1_000)
    alone = bootstrap_interval(first - second, resamples=1_000)
    assert paired.estimate == pytest.approx(alone.estimate)
    assert (paired.low, paired.high) == pytest.approx((alone.low, alone.high))
    back = paired_interval(second, first, resamples=1_000)
    assert (back.low, back.high) == pytest.approx((-paired.high, -paired.low), abs=0.03)


def test_the_paired_interval_of_any_statistic_is_scipys():
    first, second = values(), values(seed=1)
    ours = paired_interval(first, second, statistic=np.median, resamples=1_000, seed=2)
    theirs = stats.bootstrap(
        (first, second),
        lambda a, b, axis: np.median(a, axis=axis) - np.median(b, axis=axis),
        paired=True,
        confidence_level=expanded_confidence(0.95, 40),
        n_resamples=1_000,
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert (ours.low, ours.high) == (theirs.low, theirs.high)


@pytest.mark.parametrize(("n", "batch"), [(3, 400_000), (700, 1_000)])
def test_shared_draws_change_no_bit_of_an_interval(n, batch):
    for data in (values(n), np.round(values(n, 1), 1), np.r_[values(n - 1, 2), 40.0]):
        ours = bootstrap_interval(data, resamples=3_000)
        theirs = stats.bootstrap(
            (data,),
            np.mean,
            confidence_level=expanded_confidence(0.95, n),
            n_resamples=3_000,
            batch=batch,
            rng=np.random.default_rng(0),
        ).confidence_interval
        assert (ours.low, ours.high) == (theirs.low, theirs.high)


def test_units_without_a_pair_are_counted_and_left_out():
    first, second = values(), values(seed=1)
    plain = paired_interval(first, second, resamples=500)
    padded = paired_interval(np.r_[first, NAN, 1.0], np.r_[second, 1.0, NAN], resamples=500)
    assert padded[:5] == plain[:5]
    assert padded.left_out == 2


@pytest.mark.parametrize(
    ("n", "reason"), [(0, "no value"), (1, "fewer than three values"), (2, "fewer than three values")]
)
def test_too_few_pairs_have_no_interval_and_a_reason(n, reason):
    interval = paired_interval(np.ones(n), np.zeros(n))
    assert math.isnan(interval.low)
    assert (interval.n, interval.reason) == (n, reason)


def test_units_that_differ_alike_have_a_point():
    interval = paired_interval(values() + 0.1, values(), resamples=200)
    assert interval.low == interval.estimate == interval.high == pytest.approx(0.1)
    assert interval.reason == "all resamples are equal"


def test_the_interval_leaves_global_randomness_alone_and_repeats():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first = bootstrap_interval(values(), resamples=500)
    assert bootstrap_interval(values(), resamples=500) == first
    assert bootstrap_interval(values(), resamples=500, seed=1) != first
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


def test_missing_values_are_left_out():
    data = np.r_[values(), NAN, NAN]
    with_missing, without = bootstrap_interval(data, resamples=500), bootstrap_interval(values(), resamples=500)
    assert with_missing[:5] == without[:5]
    assert with_missing.left_out == 2


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
    assert interval[3:5] == (n, reason)


def test_equal_values_have_a_point_and_a_reason():
    assert bootstrap_interval(np.full(9, 0.1)) == (0.1, 0.1, 0.1, 9, "all values are equal", 0)


@pytest.mark.parametrize("data", [[0.0, 0.0, 1.0], [0.0] * 23 + [1.0], [1.0] * 47 + [1.0 - 1e-9]])
def test_nearly_equal_values_warn_of_nothing(data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        interval = bootstrap_interval(np.array(data), resamples=300)
    assert interval.low <= interval.estimate <= interval.high


def test_where_bca_is_undefined_the_percentile_interval_says_so():
    # All resamples, one, are on one side of the mean: there is no finite bias.
    interval = bootstrap_interval(values(), resamples=1)
    drawn = np.random.default_rng(0).integers(0, 40, 40)
    assert interval.low == interval.high == values()[drawn].mean()
    assert interval.reason == "bias correction undefined: percentile interval"


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="finite"):
        bootstrap_interval(np.array([1.0, np.inf, 2.0]))
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_interval(values(), confidence=95)
    with pytest.raises(ValueError, match="of the same shape"):
        paired_interval(np.ones(3), np.ones(4))


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
